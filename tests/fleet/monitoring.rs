//! Dashboard and alerts speak of metrics that are really served.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::ProcessFleet;
use serde_json::json;

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
    let flock = json!({
        "name": "lambs", "count": 1, "user_spec": {"username_prefix": "bot-mobu-lambs"}, "scopes": [],
        "business": {"type": "EmptyLoop"},
    });
    fleet.put_flock(&flock).await?;
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
