//! A fleet of one answers as mobu does: `contracts/rest-api.md` 4 and 5.

use super::*;

const FACTS: &str = r#"{
    "config": {
        "business": {
            "options": {
                "idle_time": 90.0
            },
            "type": "EmptyLoop"
        },
        "count": 2,
        "name": "facts",
        "scopes": [
            "exec:notebook"
        ],
        "user_spec": {
            "uid_start": 1000,
            "username_prefix": "bot-mobu-facts"
        }
    },
    "monkeys": [
        {
            "business": {
                "failure_count": 0,
                "name": "EmptyLoop",
                "refreshing": false,
                "success_count": 1
            },
            "name": "bot-mobu-facts1",
            "state": "RUNNING",
            "user": {
                "gidnumber": 1000,
                "groups": [],
                "scopes": [
                    "exec:notebook"
                ],
                "token": "gt-abc.***",
                "uidnumber": 1000,
                "username": "bot-mobu-facts1"
            }
        },
        {
            "business": {
                "failure_count": 0,
                "name": "EmptyLoop",
                "refreshing": false,
                "success_count": 1
            },
            "name": "bot-mobu-facts2",
            "state": "RUNNING",
            "user": {
                "gidnumber": 1001,
                "groups": [],
                "scopes": [
                    "exec:notebook"
                ],
                "token": "gt-abc.***",
                "uidnumber": 1001,
                "username": "bot-mobu-facts2"
            }
        }
    ],
    "name": "facts"
}"#;

#[tokio::test(start_paused = true)]
async fn the_life_of_a_flock_is_told_to_the_byte() {
    let stage = Stage::of(1).await;
    stage.get("/mobu/flocks").await.expect(200, "[]");
    let answer = stage.put(&facts()).await.expect(201, FACTS);
    assert_eq!(answer.header("location"), "http://example.com/mobu/flocks/facts");
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(
        (answer.header("x-fleet-revision"), answer.header("x-fleet-missing")),
        ("1", "")
    );
    stage.get("/mobu/flocks/facts").await.expect(200, FACTS);
    stage.get("/mobu/flocks").await.expect(200, r#"["facts"]"#);
    let names = "[\n    \"bot-mobu-facts1\",\n    \"bot-mobu-facts2\"\n]";
    stage.get("/mobu/flocks/facts/monkeys").await.expect(200, names);
    let monkey = stage.get("/mobu/flocks/facts/monkeys/bot-mobu-facts1").await;
    assert!(
        monkey
            .text
            .starts_with("{\n    \"business\": {\n        \"failure_count\": 0,"),
        "{}",
        monkey.text
    );
    assert!(!monkey.text.contains("replica"));
    let summary = r#"{
    "business": "EmptyLoop",
    "failure_count": 0,
    "monkey_count": 2,
    "name": "facts",
    "start_time": "2026-11-22T19:29:28.251978Z",
    "success_count": 2
}"#;
    stage.until("the report", |status| status.converged).await;
    stage.get("/mobu/flocks/facts/summary").await.expect(200, summary);
    let refreshed = stage
        .call("POST", "/mobu/flocks/facts/refresh", "")
        .await
        .expect(202, "null");
    assert_eq!(
        (refreshed.header("content-type"), refreshed.header("x-fleet-revision")),
        ("application/json", "2")
    );
    assert!(
        stage
            .get("/mobu/flocks/facts")
            .await
            .text
            .contains("\"refreshing\": true")
    );
    let deleted = stage.call("DELETE", "/mobu/flocks/facts", "").await.expect(204, "");
    assert_eq!(
        (deleted.header("content-type"), deleted.header("content-length")),
        ("application/json", "")
    );
    stage
        .get("/mobu/summary")
        .await
        .expect(200, "{\n    \"ci_manager\": null,\n    \"flocks\": []\n}");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_scheme_of_the_location_is_the_clients() {
    let stage = Stage::of(1).await;
    let headers = [
        ("x-auth-request-user", "rra"),
        ("content-type", "application/json"),
        ("x-forwarded-for", "1.2.3.4, 10.0.0.1"),
        ("x-forwarded-proto", "https"),
    ];
    let answer = stage.send("PUT", "/mobu/flocks", &headers, facts().to_string()).await;
    assert_eq!(answer.header("location"), "https://example.com/mobu/flocks/facts");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn summaries_are_sorted_and_name_the_type() {
    let stage = Stage::of(1).await;
    stage.put(&notebooks("b", "main")).await;
    stage
        .put(&json!({
            "name": "a", "count": 1, "scopes": [], "user_spec": {"username_prefix": "bot-mobu-lfs"},
            "business": {"type": "Muster"},
        }))
        .await;
    stage.until("the report", |status| status.converged).await;
    let summary = stage.get("/mobu/summary").await.json();
    let flocks = summary["flocks"].as_array().unwrap();
    assert_eq!(
        (&flocks[0]["name"], &flocks[0]["business"]),
        (&json!("a"), &json!("Muster"))
    );
    assert_eq!(flocks[1]["business"], "NotebookRunnerList");
    let monkeys = stage.get("/mobu/flocks/a").await.json();
    assert_eq!(monkeys["monkeys"][0]["business"]["name"], "MusterRunner");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_flock_that_cannot_start_is_a_500_and_stays_registered() {
    let stage = Stage::of(1).await;
    stage.mood(0, |mood| mood.fails = Some("Gafaelfawr said no".to_owned()));
    let answer = stage.put(&facts()).await.expect(500, "Internal Server Error");
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    stage.get("/mobu/flocks").await.expect(200, r#"["facts"]"#);
    let summary = stage.get("/mobu/flocks/facts/summary").await;
    assert_eq!(summary.json()["start_time"], Value::Null);
    let replica = stage.get("/mobu/replicas/0").await.json();
    assert_eq!(replica["error"], "flock `facts`: Gafaelfawr said no");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_gone_is_unknown_and_not_empty() {
    let stage = Stage::of(1).await;
    stage.put(&facts()).await;
    stage.mood(0, |mood| (mood.reports, mood.answers) = (false, false));
    stage.until("silence", |status| !status.converged).await;
    let flock = stage.get("/mobu/flocks/facts").await.json();
    assert_eq!((&flock["monkeys"], &flock["missing"]), (&json!([]), &json!(["0"])));
    assert_eq!(stage.get("/mobu/fleet").await.json()["monkeys"], Value::Null);
    assert_eq!(
        stage.get("/mobu/flocks/facts/summary").await.json()["missing"],
        json!(["0"])
    );
    assert_eq!(
        stage.get("/mobu/flocks/facts/monkeys").await.header("x-fleet-missing"),
        "0"
    );
    let answer = stage.get("/mobu/flocks/facts/monkeys/bot-mobu-facts1").await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "2"));
    assert_eq!(answer.json()["detail"][0]["type"], "replicas_missing");
    stage.finish().await;
}
