//! A fleet of several replicas: mobu's shapes, and what they gain.

use super::*;

#[tokio::test(start_paused = true)]
async fn every_monkey_is_shown_with_its_replica_and_every_replica_with_its_age() {
    let stage = Stage::of(3).await;
    let answer = stage.put(&lambs("lambs", 2)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let flock = answer.json();
    let monkeys = flock["monkeys"].as_array().unwrap();
    let names = monkeys
        .iter()
        .map(|monkey| (monkey["name"].as_str().unwrap(), monkey["replica"].as_str().unwrap()));
    let names: Vec<_> = names.collect();
    assert_eq!(
        names,
        [
            ("bot-mobu-lamb-instance-0-1", "0"),
            ("bot-mobu-lamb-instance-0-2", "0"),
            ("bot-mobu-lamb-instance-1-1", "1"),
            ("bot-mobu-lamb-instance-1-2", "1"),
            ("bot-mobu-lamb-instance-2-1", "2"),
            ("bot-mobu-lamb-instance-2-2", "2"),
        ]
    );
    let replica = flock["replicas"][1].as_object().unwrap();
    let keys: Vec<_> = replica.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        ["applied_revision", "error", "instance_id", "report_age", "state"]
    );
    assert_eq!(
        (&replica["state"], &replica["applied_revision"]),
        (&json!("ready"), &json!(1))
    );
    assert!(replica["report_age"].as_f64().unwrap() < 1.0);
    assert!(flock.get("missing").is_none());
    stage.until("the reports", |status| status.converged).await;
    let summary = stage.get("/mobu/summary").await.json();
    let summary = &summary["flocks"][0];
    assert_eq!(
        (&summary["monkey_count"], &summary["success_count"]),
        (&json!(6), &json!(6))
    );
    assert_eq!(summary["replicas"].as_array().unwrap().len(), 3);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn numbers_come_in_the_order_of_their_values() {
    let stage = Stage::of(11).await;
    stage.put(&lambs("lambs", 1)).await;
    let flock = stage.get("/mobu/flocks/lambs").await.json();
    let order = |list: &str, key: &str| -> Vec<u32> {
        let list = flock[list].as_array().unwrap();
        list.iter()
            .map(|one| one[key].as_str().unwrap().parse().unwrap())
            .collect()
    };
    assert_eq!(order("monkeys", "replica"), (0..11).collect::<Vec<_>>());
    assert_eq!(order("replicas", "instance_id"), (0..11).collect::<Vec<_>>());
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn users_that_would_be_the_same_everywhere_are_refused_before_anything_changes() {
    let stage = Stage::of(3).await;
    let mut flock = lambs("lambs", 1);
    flock["user_spec"]["uid_start"] = json!(1000);
    let answer = stage.put(&flock).await;
    assert_eq!(answer.status, 422);
    assert_eq!(
        answer.json()["detail"][0]["loc"],
        json!(["body", "user_spec", "uid_start"])
    );
    stage.get("/mobu/flocks").await.expect(200, "[]");
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_cannot_start_a_flock_shows_why() {
    let stage = Stage::of(3).await;
    stage.mood(1, |mood| mood.fails = Some("no tokens".to_owned()));
    let answer = stage.put(&lambs("lambs", 1)).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.json()["replicas"][1]["error"], "no tokens");
    let revision = stage.get("/mobu/revisions/1").await.json();
    assert_eq!(
        revision["replicas"]["1"],
        json!({"outcome": "failed", "error": "no tokens"})
    );
    assert_eq!(revision["replicas"]["0"], json!({"outcome": "applied"}));
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_shown_by_cause_and_a_slow_generator_by_name() {
    let stage = Stage::of(3).await;
    stage.mood(0, |mood| mood.struggles = Some(played::failures()));
    stage.mood(1, |mood| mood.struggles = Some(played::failures()));
    stage.put(&lambs("lambs", 1)).await;
    stage
        .until("the reports", |status| {
            let overloaded = |replica: &crate::fleet::replicas::Replica| replica.report.process.overloaded;
            status
                .replicas
                .heard()
                .values()
                .filter(|replica| overloaded(replica))
                .count()
                == 2
        })
        .await;
    let cause = json!({
        "kind": "status", "phase": "request", "url": "http://x.test/a", "status": 503, "count": 6,
        "last_at": "2026-11-22T19:29:28.251978Z", "example": "it said no",
    });
    let wanted = json!({"causes": [cause], "others": 2});
    assert_eq!(stage.get("/mobu/flocks/lambs/summary").await.json()["failures"], wanted);
    let flock = stage.get("/mobu/flocks/lambs").await.json();
    assert_eq!(flock["failures"], wanted);
    assert_eq!(flock["replicas"][1]["overloaded"], true);
    assert_eq!(flock["replicas"][1]["ended_count"], 1);
    for absent in ["overloaded", "ended_count"] {
        assert!(flock["replicas"][2].get(absent).is_none(), "{absent}");
    }
    assert_eq!(stage.get("/mobu/fleet").await.json()["overloaded"], json!(["0", "1"]));
    let replica = stage.get("/mobu/replicas/0").await.json();
    assert_eq!(replica["flocks"]["lambs"]["failures"]["others"], 1);
    assert_eq!(
        (
            &replica["process"]["overloaded"],
            &replica["process"]["lateness"]["p99_ms"]
        ),
        (&json!(true), &json!(300.0))
    );
    let page = stage.send("GET", "/metrics", &[], "").await;
    for line in [
        "fleet_replica_overloaded{replica=\"1\"} 1",
        "fleet_replica_overloaded{replica=\"2\"} 0",
        "fleet_replica_lateness_seconds{replica=\"1\"} 0.3",
    ] {
        assert!(page.text.lines().any(|one| one == line), "{line} in {}", page.text);
    }
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_fleet_of_one_answers_without_its_failures_as_mobu_does() {
    let stage = Stage::of(1).await;
    stage.mood(0, |mood| mood.struggles = Some(played::failures()));
    stage.put(&lambs("lambs", 1)).await;
    let summary = stage.get("/mobu/flocks/lambs/summary").await.json();
    let keys: Vec<_> = summary.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "business",
            "failure_count",
            "monkey_count",
            "name",
            "start_time",
            "success_count"
        ]
    );
    assert!(stage.get("/mobu/flocks/lambs").await.json().get("failures").is_none());
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_partial_answer_names_who_is_missing_from_it() {
    let stage = Stage::of(3).await;
    stage.put(&lambs("lambs", 1)).await;
    stage.mood(2, |mood| mood.answers = false);
    let flock = stage.get("/mobu/flocks/lambs").await.json();
    assert_eq!(
        (flock["monkeys"].as_array().unwrap().len(), &flock["missing"]),
        (2, &json!(["2"]))
    );
    stage.mood(0, |mood| (mood.answers, mood.reports) = (false, false));
    stage.until("silence", |status| !status.converged).await;
    let flock = stage.get("/mobu/flocks/lambs").await.json();
    assert_eq!(
        (flock["monkeys"].as_array().unwrap().len(), &flock["missing"]),
        (1, &json!(["0", "2"]))
    );
    assert_eq!(flock["replicas"][0]["state"], "silent");
    let summary = stage.get("/mobu/flocks/lambs/summary").await.json();
    assert_eq!(
        (&summary["monkey_count"], &summary["missing"]),
        (&json!(2), &json!(["0"]))
    );
    let names = stage.get("/mobu/flocks/lambs/monkeys").await;
    assert_eq!(
        (names.header("x-fleet-missing"), names.json().as_array().unwrap().len()),
        ("0,2", 1)
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn the_fleet_is_shown_with_its_ages_and_without_what_is_unknown() {
    let mut stage = Stage::of(2).await;
    stage.put(&lambs("lambs", 2)).await;
    stage.add("7", 2);
    stage
        .until("a surplus replica", |status| status.states.len() == 3)
        .await;
    let fleet = stage.get("/mobu/fleet").await;
    insta::assert_snapshot!(fleet.text, @r#"{"fleet":"test","epoch":1,"revision":1,"converged":true,"coordinator":{"session":"coordinator-session","active":true,"stage":"leading","version":"0.1.0"},"standbys":[],"replica_count":2,"replicas":{"ready":2,"behind":0,"silent":0,"missing":0,"surplus":1},"flocks":1,"monkeys":6,"link":{"state":"open","detail":null}}"#);
    let mut replica = stage.get("/mobu/replicas/0").await.json();
    assert!(replica["report_age"].as_f64().unwrap() <= 1.0);
    replica["report_age"] = json!(0.25);
    insta::assert_snapshot!(replica, @r#"{"instance_id":"0","state":"ready","session":"session-0","version":"0.1.0","phase":"running","applied_revision":1,"report_age":0.25,"started_at":"2026-11-22T19:29:28.251978Z","flocks":{"lambs":{"business":"EmptyLoop","phase":"running","generation":1,"refresh_generation":1,"monkeys":{"RUNNING":2},"monkey_count":2,"success_count":2,"failure_count":0,"start_time":"2026-11-22T19:29:28.251978Z","error":null}},"process":{"cpu_seconds":1.5,"cpu":0.25,"rss_bytes":1024,"lag_ms":0.5},"error":null}"#);
    assert_eq!(stage.get("/mobu/replicas").await.json().as_array().unwrap().len(), 3);
    stage.get("/mobu/replicas/9").await.expect(
        404,
        r#"{"detail":[{"msg":"Replica 9 not found","type":"replica_not_found","loc":["path","instance_id"]}]}"#,
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_never_heard_of_is_unknown_in_everything() {
    let mut stage = Stage::without_replicas(config(2));
    stage.add("0", 2);
    stage.until("a leader", Status::is_leading).await;
    stage.get("/mobu/replicas/1").await.expect(200, r#"{"instance_id":"1","state":"missing","session":null,"version":null,"phase":null,"applied_revision":null,"report_age":null,"started_at":null,"flocks":null,"process":null,"error":null}"#);
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn revisions_come_newest_first_and_one_by_one() {
    let stage = Stage::of(2).await;
    stage.put(&lambs("a", 1)).await;
    stage.call("POST", "/mobu/flocks/a/refresh", "").await;
    let revisions = stage.get("/mobu/revisions").await.json();
    let revisions = revisions.as_array().unwrap();
    assert_eq!(
        (&revisions[0]["revision"], &revisions[1]["revision"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(revisions[1]["change"], json!({"kind": "start", "flock": "a"}));
    let keys: Vec<_> = revisions[0].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["revision", "epoch", "at", "change", "source", "by", "replicas"]);
    assert_eq!(
        (&revisions[0]["source"], &revisions[0]["by"]),
        (&json!("http"), &json!("rra"))
    );
    assert_eq!(stage.get("/mobu/revisions/2").await.json(), revisions[0]);
    stage.get("/mobu/revisions/9").await.expect(
        404,
        r#"{"detail":[{"msg":"Revision 9 not found","type":"revision_not_found","loc":["path","revision"]}]}"#,
    );
    assert_eq!(
        stage.get("/mobu/revisions/x").await.json()["detail"][0]["type"],
        "int_parsing"
    );
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn figures_are_by_flock_and_replica_and_never_by_monkey() {
    let stage = Stage::of(2).await;
    stage.put(&lambs("lambs", 2)).await;
    stage.until("the reports", |status| status.converged).await;
    let page = stage.send("GET", "/metrics", &[], "").await;
    for line in [
        "fleet_epoch 1",
        "fleet_revision 1",
        "fleet_converged 1",
        "fleet_replicas{state=\"ready\"} 2",
        "fleet_replica_cpu_seconds_total{replica=\"1\"} 1.5",
        "fleet_flock_monkeys{flock=\"lambs\",business=\"EmptyLoop\",state=\"running\"} 4",
        "fleet_flock_iterations_total{flock=\"lambs\",business=\"EmptyLoop\",outcome=\"success\"} 4",
        "http_requests_total{route=\"/flocks\",method=\"PUT\",status=\"201\"} 1",
    ] {
        assert!(page.text.lines().any(|one| one == line), "{line} in {}", page.text);
    }
    assert!(!page.text.contains("bot-mobu"));
    assert_eq!(page.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    stage.finish().await;
}
