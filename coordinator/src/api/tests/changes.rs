//! Changes: what is answered when replicas lag, repeat, or nobody leads.

use mobu_fleet::link::Address;
use mobu_fleet::link::memory::{AppendFault, Faults};

use super::*;

/// A broker that is away.
struct Unreachable;

impl Faults for Unreachable {
    fn soft(&self, _: &str, _: &Address) -> Vec<Duration> {
        Vec::new()
    }

    fn append(&self, _: &str) -> AppendFault {
        AppendFault::Lost
    }

    fn read(&self, _: &str) -> Duration {
        Duration::ZERO
    }

    fn reachable(&self, _: &str) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_a_replica_does_not_apply_in_time_is_incomplete() {
    let stage = Stage::of(2).await;
    stage.mood(1, |mood| mood.acts = false);
    let answer = stage.put(&lambs("lambs", 1)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-fleet-missing")), (202, "1"));
    let body = answer.json();
    assert_eq!(
        (&body["status"], &body["revision"], &body["missing"]),
        (&json!("incomplete"), &json!(1), &json!(["1"]))
    );
    assert_eq!(body["flock"]["monkeys"].as_array().unwrap().len(), 1);
    assert_eq!(answer.header("location"), "");
    let answer = stage
        .call("POST", "/mobu/flocks/lambs/refresh", "")
        .await
        .expect(202, "null");
    assert_eq!(answer.header("x-fleet-missing"), "1");
    let answer = stage.call("DELETE", "/mobu/flocks/lambs", "").await;
    let answer = answer.expect(202, r#"{"status":"incomplete","revision":3,"missing":["1"]}"#);
    assert_eq!(answer.header("x-fleet-revision"), "3");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_replica_is_not_waited_for_and_is_named() {
    let stage = Stage::of(2).await;
    stage.mood(1, |mood| (mood.reports, mood.answers) = (false, false));
    stage.until("silence", |status| !status.converged).await;
    let answer = stage.put(&lambs("lambs", 1)).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-fleet-missing")), (201, "1"));
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn everything_stops_in_one_revision() {
    let stage = Stage::of(2).await;
    stage
        .call("POST", "/mobu/stop", "")
        .await
        .expect(200, r#"{"revision":0,"stopped":[]}"#);
    for name in ["b", "a"] {
        stage.put(&lambs(name, 1)).await;
    }
    let answer = stage
        .call("POST", "/mobu/stop", "")
        .await
        .expect(200, r#"{"revision":3,"stopped":["a","b"]}"#);
    assert_eq!(answer.header("x-fleet-revision"), "3");
    stage.get("/mobu/flocks").await.expect(200, "[]");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_repository_is_refreshed_in_one_revision() {
    let stage = Stage::of(2).await;
    for (name, reference) in [("a", "main"), ("b", "main"), ("c", "other")] {
        stage.put(&notebooks(name, reference)).await;
    }
    let body =
        |reference: &str| json!({"repo_url": "https://github.com/org1/repo1.git", "repo_ref": reference}).to_string();
    let answer = stage.call("POST", "/mobu/refresh", &body("main")).await;
    answer.expect(200, r#"{"revision":4,"refreshed":["a","b"]}"#);
    let answer = stage.call("POST", "/mobu/refresh", &body("nowhere")).await;
    answer.expect(200, r#"{"revision":4,"refreshed":[]}"#);
    let answer = stage.call("POST", "/mobu/refresh", "{}").await;
    let detail = answer.json()["detail"].clone();
    assert_eq!(
        (&detail[0]["loc"], &detail[1]["loc"]),
        (&json!(["body", "repo_url"]), &json!(["body", "repo_ref"]))
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn no_answer_repeats_what_opens_a_repository() {
    let stage = Stage::of(1).await;
    let url = "https://me:pass-word@git.test/a.git?key=pass-word";
    let mut flock = notebooks("a", "main");
    flock["business"]["options"]["repo_url"] = json!(url);
    let started = stage.put(&flock).await;
    let refresh = json!({"repo_url": url, "repo_ref": "main"}).to_string();
    let refreshed = stage.call("POST", "/mobu/refresh", &refresh).await;
    refreshed.expect(200, r#"{"revision":2,"refreshed":["a"]}"#);
    let shown = stage.get("/mobu/flocks/a").await;
    assert_eq!(
        shown.json()["config"]["business"]["options"]["repo_url"],
        "https://***@git.test/a.git?key=***"
    );
    let past = stage.get("/mobu/revisions/2").await;
    assert_eq!(past.json()["change"]["repo_url"], "https://***@git.test/a.git?key=***");
    for answer in [
        started,
        shown,
        past,
        stage.get("/mobu/revisions").await,
        stage.get("/mobu/summary").await,
    ] {
        assert!(!answer.text.contains("pass-word"), "{}", answer.text);
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_run_where_and_changes_nothing() {
    let stage = Stage::of(3).await;
    let path = "/mobu/flocks?dry_run=true";
    let answer = stage.call("PUT", path, &lambs("lambs", 1_000_000).to_string()).await;
    insta::assert_snapshot!(answer.text, @r#"{"revision":1,"change":{"kind":"start","flock":"lambs"},"replicas":{"0":{"monkeys":1000000,"first":"bot-mobu-lamb-instance-0-0000001","last":"bot-mobu-lamb-instance-0-1000000"},"1":{"monkeys":1000000,"first":"bot-mobu-lamb-instance-1-0000001","last":"bot-mobu-lamb-instance-1-1000000"},"2":{"monkeys":1000000,"first":"bot-mobu-lamb-instance-2-0000001","last":"bot-mobu-lamb-instance-2-1000000"}}}"#);
    let mut shared = lambs("lambs", 2);
    shared["spread"] = json!("across_replicas");
    let answer = stage.call("PUT", path, &shared.to_string()).await;
    assert_eq!(
        answer.json()["replicas"]["1"],
        json!({"monkeys": 1, "first": "bot-mobu-lamb2", "last": "bot-mobu-lamb2"})
    );
    assert_eq!(
        answer.json()["replicas"]["2"],
        json!({"monkeys": 0, "first": null, "last": null})
    );
    let wrong = stage.call("PUT", path, r#"{"name":"x"}"#).await;
    assert_eq!(wrong.status, 422);
    stage.get("/mobu/flocks").await.expect(200, "[]");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_call_of_one_key_changes_nothing_and_another_call_does() {
    let stage = Stage::of(1).await;
    let headers = [
        ("x-auth-request-user", "rra"),
        ("content-type", "application/json"),
        ("idempotency-key", "k1"),
    ];
    for _ in 0..2 {
        let answer = stage
            .send("PUT", "/mobu/flocks", &headers, lambs("a", 1).to_string())
            .await;
        assert_eq!((answer.status.as_u16(), answer.header("x-fleet-revision")), (201, "1"));
    }
    let answer = stage
        .send("PUT", "/mobu/flocks", &headers, lambs("b", 1).to_string())
        .await;
    assert_eq!((answer.status.as_u16(), answer.header("x-fleet-revision")), (201, "2"));
    let bad = [headers[0], ("idempotency-key", "two words")];
    let answer = stage.send("POST", "/mobu/stop", &bad, "").await;
    assert_eq!(answer.json()["detail"][0]["loc"], json!(["header", "idempotency-key"]));
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_lead_says_so_and_when_to_try_again() {
    let stage = Stage::on(Hub::with_faults(Arc::new(Unreachable)), config(2));
    for (method, path, kind) in [
        ("PUT", "/mobu/flocks", "coordinator_not_active"),
        ("POST", "/mobu/stop", "coordinator_not_active"),
        ("DELETE", "/mobu/flocks/a", "coordinator_not_active"),
        ("GET", "/mobu/flocks", "state_unknown"),
        ("GET", "/mobu/summary", "state_unknown"),
        ("GET", "/mobu/flocks/a", "state_unknown"),
    ] {
        let body = if method == "PUT" {
            lambs("a", 1).to_string()
        } else {
            String::new()
        };
        let answer = stage.call(method, path, &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("retry-after")),
            (503, "2"),
            "{method} {path}"
        );
        assert_eq!(answer.json()["detail"][0]["type"], kind, "{method} {path}");
    }
    assert_eq!(stage.get("/mobu/fleet").await.json()["revision"], Value::Null);
    let fleet = stage.get("/mobu/fleet").await.json();
    assert_eq!(
        (&fleet["link"]["state"], &fleet["coordinator"]["stage"]),
        (&json!("closed"), &json!("offline"))
    );
    let ready = stage.send("GET", "/readyz", &[], "").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["status"]),
        (503, &json!("unavailable"))
    );
    assert_eq!(ready.json()["reason"], fleet["link"]["detail"]);
    assert_eq!(stage.send("GET", "/healthz", &[], "").await.status, 200);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn reads_go_on_while_the_broker_is_away() {
    let stage = Stage::of(1).await;
    stage.put(&facts()).await;
    stage.hub.cut(|name| name.starts_with("coordinator"));
    stage
        .until("the end of the session", |status| status.stage != "leading")
        .await;
    stage.get("/mobu/flocks").await.expect(200, r#"["facts"]"#);
    assert_eq!(stage.call("POST", "/mobu/stop", "").await.status, 503);
    stage.until("the next session", Status::is_leading).await;
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_would_grow_too_large_is_refused() {
    let stage = Stage::with(ApiConfig {
        body_limit: 8 * 1024 * 1024,
        ..config(1)
    })
    .await;
    let mut flock = lambs("large", 1);
    flock["scopes"] = json!(vec!["x".repeat(1024); 4200]);
    let answer = stage.put(&flock).await;
    assert_eq!(answer.status, 413, "{}", &answer.text[..200.min(answer.text.len())]);
    stage.get("/mobu/flocks").await.expect(200, "[]");
    stage.finish().await;
}
