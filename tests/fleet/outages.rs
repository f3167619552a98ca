//! What callers and monkeys see while the broker is away.

use anyhow::{Result, ensure};
use fleet_tests::broker::{Broker, unique_fleet};
use fleet_tests::fleet::{ProcessFleet, flock};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::counts;

fn empty(name: &str) -> Value {
    flock(name, 2, &json!({"type": "EmptyLoop", "options": {"idle_time": 0.1}}))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_is_away_changes_are_refused_with_the_reason_and_reads_say_how_old_they_are() -> Result<()> {
    let broker = Broker::start().await?;
    let fleet = ProcessFleet::start(&broker.url(), unique_fleet(), 2, "tokens: local\n").await?;
    fleet.put_flock(&empty("lambs")).await?;
    let before = fleet.get("/flocks/lambs").await?;
    let names = fleet.monkeys("lambs").await?;
    // What a broker that loses power has not written yet is gone, which is another row of the table.
    broker.sync().await?;
    broker.kill().await?;
    fleet
        .wait_for("/fleet", "the loss to be noticed", |fleet| {
            fleet["link"]["state"] != "open"
        })
        .await?;

    let refused = fleet.call(Method::PUT, "/flocks").json(&empty("goats")).send().await?;
    let (status, retry) = (refused.status(), refused.headers().contains_key("retry-after"));
    let reason = refused.text().await?;
    // At first that the session has ended, then that none can be made.
    let tells = |reason: &str| reason.contains("connection") || reason.contains("broker");
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && retry && tells(&reason),
        "{status}, Retry-After: {retry}: {reason}"
    );
    let is_old = |replica: &Value| {
        let age = replica["report_age"].as_f64();
        replica["state"] == "silent" && age.is_some_and(|age| age > 3.0)
    };
    for id in 0..2 {
        let replica = fleet
            .wait_for(&format!("/replicas/{id}"), "an age that grows", is_old)
            .await?;
        ensure!(replica["flocks"]["lambs"]["phase"] == "running", "{replica}");
    }
    ensure!(fleet.get("/flocks").await? == json!(["lambs"]));

    broker.restart().await?;
    fleet.wait_led().await?;
    let after = fleet.get("/flocks/lambs").await?;
    ensure!(
        after["start_time"] == before["start_time"],
        "the flock was started again: {before} {after}"
    );
    ensure!(fleet.monkeys("lambs").await? == names, "{after}");
    // Four monkeys for three seconds at ten a second; far less is enough to tell.
    ensure!(
        counts(&after).0 > counts(&before).0 + 20,
        "the monkeys stood still: {before} {after}"
    );
    fleet.put_flock(&empty("goats")).await?;
    fleet.finish().await
}
