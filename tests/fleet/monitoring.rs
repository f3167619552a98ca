//! Dashboard and alerts speak of metrics that are really served, and events reach those who subscribe.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::{ProcessFleet, flock};
use mobu_fleet::domain::events::{Act, Event};
use mobu_fleet::domain::messages::Wire as _;
use serde_json::json;

use crate::support;

const DASHBOARD: &str = include_str!("../../deploy/helm/mobu-fleet/dashboards/mobu-fleet.json");
const ALERTS: &str = include_str!("../../deploy/helm/mobu-fleet/templates/monitoring.yaml");

/// What begins so is ours; the broker's own metrics are its own.
const PREFIXES: [&str; 4] = ["fleet_", "mobu_", "http_request", "process_"];

/// Names of metrics in a text; `by`, labels and functions have no such prefix.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| PREFIXES.iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

/// Names of all series that a page of metrics has a type for, as queries call them.
fn served(page: &str) -> Vec<String> {
    let types = page
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = types.map(|(name, kind)| {
        let parts: &[&str] = if kind == "histogram" {
            &["_bucket", "_count", "_sum"]
        } else {
            &[""]
        };
        parts.iter().map(|part| format!("{name}{part}")).collect::<Vec<_>>()
    });
    names.flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alerts_ask_for_metrics_that_there_are() -> Result<()> {
    let mut fleet = ProcessFleet::start(shared_broker(), unique_fleet(), 1, "tokens: local\n").await?;
    fleet
        .put_flock(&flock("lambs", 1, &json!({"type": "EmptyLoop"})))
        .await?;
    let worker = fleet.workers.get_mut(&0).context("replica 0 runs")?.http().await?;
    let mut names = Vec::new();
    for base in [fleet.base().to_owned(), format!("http://{worker}")] {
        let page = reqwest::get(format!("{base}/metrics")).await?.text().await?;
        names.extend(served(&page));
    }
    let asked = &metrics(ALERTS) | &metrics(DASHBOARD);
    ensure!(asked.len() > 15, "only {asked:?} is asked for");
    let unknown: Vec<_> = asked
        .iter()
        .filter(|name| !names.iter().any(|served| served == *name))
        .collect();
    ensure!(unknown.is_empty(), "nobody serves {unknown:?}; there are {names:?}");
    fleet.finish().await
}

/// Events of a replica that were published, and those that nobody subscribed to.
async fn events(worker: SocketAddr) -> Result<(u64, u64)> {
    let page = reqwest::get(format!("http://{worker}/metrics")).await?.text().await?;
    let count = |name: &str| -> Result<u64> {
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.with_context(|| format!("no {name} in {page}"))?.parse()?)
    };
    Ok((
        count("mobu_worker_events_published_total")?,
        count("mobu_worker_events_unheard_total")?,
    ))
}

/// Waits until many more events were withheld than sent since the call.
async fn is_quiet(worker: SocketAddr) -> Result<()> {
    let (begun, mut before) = (Instant::now(), events(worker).await?);
    loop {
        ensure!(
            begun.elapsed() < Duration::from_secs(60),
            "events are published although nobody subscribes"
        );
        let now = events(worker).await?;
        if now.1 - before.1 > 5 * (now.0 - before.0).max(10) {
            return Ok(());
        }
        if now.0 - before.0 > 10 {
            before = now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_while_somebody_subscribes_and_not_otherwise() -> Result<()> {
    let mut fleet = ProcessFleet::start(shared_broker(), unique_fleet(), 1, "tokens: local\n").await?;
    let busy = |name: &str| flock(name, 5, &json!({"type": "EmptyLoop", "options": {"idle_time": 0.05}}));
    for name in ["lambs", "goats", "cows", "hens"] {
        fleet.put_flock(&busy(name)).await?;
    }
    let worker = fleet.workers.get_mut(&0).context("replica 0 runs")?.http().await?;
    is_quiet(worker).await?;

    // Some of those that are unheard are bound, some are not. One event in a second, as before, would take a minute and a half.
    let listener = support::session(&fleet.name).await;
    let mut lambs = listener.events("lambs.#").await?;
    let mut hens = listener.events("hens.#").await?;
    for (name, inbox) in [("lambs", &mut lambs), ("hens", &mut hens)] {
        let hundred = async {
            for _ in 0..100 {
                let message = support::next(inbox).await;
                let event = Event::decode(&message.kind, &message.payload)?;
                ensure!(
                    event.flock.as_ref().is_some_and(|flock| flock.as_str() == name),
                    "{event:?}"
                );
                ensure!(event.act == Act::EmptyLoop { success: true }, "{event:?}");
            }
            Ok(())
        };
        support::within("a hundred events", hundred).await?;
    }
    listener.close().await;
    is_quiet(worker).await?;

    // Those of a new flock come while the others are withheld.
    let listener = support::session(&fleet.name).await;
    let mut inbox = listener.events("sheep.#").await?;
    fleet.put_flock(&busy("sheep")).await?;
    let first = support::next(&mut inbox).await;
    let first = Event::decode(&first.kind, &first.payload)?;
    let monkeys = fleet.get("/flocks/sheep/monkeys").await?;
    ensure!(
        monkeys.to_string().contains(first.username.as_str()),
        "{first:?} is of none of {monkeys}"
    );
    fleet.finish().await
}
