//! A fleet on a cluster of three brokers, of which one after the other dies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fleet_tests::broker::{Broker, Settings, unique_fleet};
use fleet_tests::fleet::ProcessFleet;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::lively;

/// A node that comes back copies what it missed, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// Starts a flock as a script would: refused with 503 for the moment in which nobody leads, it asks again.
async fn put_until_accepted(fleet: &ProcessFleet, flock: &Value) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = fleet.call(Method::PUT, "/flocks").json(flock).send().await?;
        match answer.status().as_u16() {
            201 | 202 => return Ok(()),
            503 if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(200)).await,
            other => bail!("{other}: {}\n{}", answer.text().await?, fleet.logs()),
        }
    }
}

/// Waits until each of the durable queues that a fleet without runs has a member on every node.
async fn wait_complete(node: &Broker, fleet: &str, column: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let listed = node
            .control(&["list_queues", "name", column, "--formatter", "json"])
            .await;
        let last = listed.unwrap_or_else(|error| error.to_string());
        let queues: Vec<Value> = serde_json::from_str(&last).unwrap_or_default();
        let complete = ["state", "requests", "dead"].iter().all(|queue| {
            let of_ours = |one: &&Value| one["name"] == format!("{fleet}.{queue}");
            let members = queues.iter().find(of_ours).and_then(|one| one[column].as_array());
            members.is_some_and(|members| members.len() == 3)
        });
        if complete {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not every queue has three members: {last}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_goes_on_whichever_of_three_brokers_dies() -> Result<()> {
    let settings = Settings {
        nodes: 3,
        ..Settings::default()
    };
    let nodes = Broker::start_all(settings).await?;
    let urls: Vec<_> = nodes.iter().map(Broker::url).collect();
    let mut fleet = ProcessFleet::prepare(&urls.join(","), unique_fleet(), 2, "tokens: local\n")?;
    fleet.start_coordinator(0).await?;
    for id in 0..2 {
        fleet.start_worker(id)?;
    }
    fleet.wait_converged().await?;
    fleet.put_flock(&lively("lambs")).await?;
    wait_complete(&nodes[0], fleet.name.as_str(), "members").await?;
    let lives = |replicas: &Value| {
        let replicas = replicas.as_array()?.iter();
        Some(
            replicas
                .map(|one| (one["session"].clone(), one["flocks"]["lambs"]["start_time"].clone()))
                .collect::<Vec<_>>(),
        )
    };
    let before = lives(&fleet.get("/replicas").await?).context("a list of replicas")?;

    for (index, node) in nodes.iter().enumerate() {
        node.kill().await?;
        put_until_accepted(&fleet, &lively(&format!("after{index}"))).await?;
        fleet.wait_converged().await?;
        node.restart().await?;
        wait_complete(node, fleet.name.as_str(), "online").await?;
    }

    let mut flocks = fleet.get("/flocks").await?;
    flocks
        .as_array_mut()
        .context("a list of flocks")?
        .sort_by_key(Value::to_string);
    assert_eq!(flocks, json!(["after0", "after1", "after2", "lambs"]));
    let after = lives(&fleet.get("/replicas").await?);
    assert_eq!(
        after.as_ref(),
        Some(&before),
        "no replica was restarted, no monkey stopped"
    );
    fleet.finish().await
}
