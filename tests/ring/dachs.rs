//! The TAP and SIA businesses against a real `DaCHS`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fleet_tests::platform::Platform;
use fleet_tests::service::{Facts, Kind, Service, shared};
use serde_json::{Value, json};

use crate::support::{Ring, until_none};

/// Runs for minutes, if nobody ends it: every triple of stars.
const ENDLESS: &str =
    "SELECT COUNT(*) AS n FROM ring.stars AS a, ring.stars AS b, ring.stars AS c WHERE a.mag * b.mag > c.mag * 1000";

/// How long it may take until monkeys succeed again.
const AGAIN: Duration = Duration::from_secs(400);

/// A fleet whose dataset `ring` is `DaCHS`, and `dp02`, too.
async fn ring(facts: &Facts) -> Result<Ring> {
    ring_with(facts, "").await
}

/// The same with more of its configuration, as YAML.
async fn ring_with(facts: &Facts, options: &str) -> Result<Ring> {
    let services = json!({"tap": {"url": facts.get("tap")}, "sia": {"url": facts.get("sia")}});
    let datasets = json!({"ring": {"services": services}, "dp02": {"services": services}});
    Ring::start(Platform::start(&json!({"datasets": datasets})).await?, options).await
}

fn queries(sync: bool) -> Value {
    json!({
        "dataset": "ring", "sync": sync, "queries": [
            "SELECT TOP 5 * FROM ring.stars",
            "SELECT COUNT(*) AS n, AVG(mag) AS brightness FROM ring.stars WHERE mag < 20",
            "SELECT star, name FROM ring.stars WHERE 1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 60, -36, 0.5))",
            "SELECT TOP 3 obs_id, s_region FROM ivoa.ObsCore WHERE obs_collection = 'ring'",
            "SELECT star FROM ring.stars WHERE star < 0",
        ],
    })
}

/// Makes a query set called `stars` for the table of the ring.
fn write_query_set(folder: &Path) -> Result<()> {
    let set = folder.join("tap/stars");
    std::fs::create_dir_all(&set)?;
    let begin = "SELECT '{{query_id}}' AS query_id, star, name FROM ring.stars WHERE";
    for (template, condition) in [
        (
            "cone",
            "1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', {{ra}}, {{dec}}, {{radius}}))",
        ),
        ("objects", "star IN ({{objects}}) OR star = {{object}}"),
        (
            "polygon",
            "1 = CONTAINS(POINT('ICRS', ra, dec), POLYGON('ICRS', {{polygon}}))",
        ),
        ("scan", "mag BETWEEN {{min_mag}} AND {{max_mag}}"),
    ] {
        std::fs::write(
            set.join(template).with_extension("sql"),
            format!("{begin} {condition}\n"),
        )?;
    }
    std::fs::write(
        set.join("parameters.json"),
        r#"{"min_ra": 58, "max_ra": 62, "min_dec": -38, "max_dec": -34}"#,
    )?;
    std::fs::write(set.join("objects.json"), "[1, 2, 3, 5, 8]")?;
    Ok(())
}

/// Waits until the service has no job left. It finishes a deletion when it can, also after nobody waits for that any more, and
/// answers with an error if a job goes while it lists them.
async fn until_no_jobs(facts: &Facts) -> Result<()> {
    until_none("job", "DaCHS", AGAIN, || jobs(facts)).await
}

/// How many jobs the service has.
async fn jobs(facts: &Facts) -> Result<usize> {
    let list = reqwest::get(format!("{}/async", facts.get("tap"))).await?;
    let list = list.error_for_status()?.text().await?;
    Ok(list.matches("<uws:jobref").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_of_both_forms_succeed_and_leave_no_job() -> Result<()> {
    let (facts, _service) = shared(Kind::Dachs).await?;
    let ring = ring(&facts).await?;
    ring.put("sync", 3, "TAPQueryRunner", &queries(true)).await?;
    // DaCHS runs each job in a process of its own, which takes it seconds to start.
    ring.put("async", 2, "TAPQueryRunner", &queries(false)).await?;
    ring.succeed("sync", 4).await?;
    ring.succeed("async", 1).await?;
    let log = ring.log("async", 1).await?;
    ensure!(
        log.contains("Running (async): SELECT") && log.contains("Query finished after"),
        "{log}"
    );
    // In the middle of whatever they do.
    ring.stop("sync").await?;
    ring.stop("async").await?;
    until_no_jobs(&facts).await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn query_sets_of_ones_own_are_filled_in_and_answered() -> Result<()> {
    let (facts, _service) = shared(Kind::Dachs).await?;
    let folder = tempfile::tempdir()?;
    write_query_set(folder.path())?;
    let ring = ring_with(&facts, &format!("querySetDir: {}", folder.path().display())).await?;
    let options = json!({"dataset": "ring", "sync": true, "query_set": "stars"});
    ring.put("sets", 2, "TAPQuerySetRunner", &options).await?;
    ring.succeed("sets", 6).await?;
    let log = ring.log("sets", 1).await?;
    ensure!(
        log.contains("Query templates to choose from: ['cone.sql', 'objects.sql', 'polygon.sql', 'scan.sql']"),
        "{log}"
    );
    ensure!(log.contains("SELECT 'mobu-") && !log.contains("{{"), "{log}");
    ring.stop("sets").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_query_fails_with_the_words_of_the_service_and_leaves_no_job() -> Result<()> {
    let (facts, _service) = shared(Kind::Dachs).await?;
    let ring = ring(&facts).await?;
    for (flock, sync) in [("sync", true), ("async", false)] {
        let options = json!({"dataset": "ring", "sync": sync, "queries": ["SELECT nothing FROM ring.nowhere"]});
        ring.put(flock, 1, "TAPQueryRunner", &options).await?;
        // Twice: a failure is no end.
        ring.until(flock, "two failures", |counts| counts.failures >= 2).await?;
        let log = ring.until_logged(flock, 1, "nowhere").await?;
        ensure!(log.contains("Could not locate table"), "{log}");
        ring.stop(flock).await?;
    }
    until_no_jobs(&facts).await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_aborts_and_deletes_a_job_that_runs() -> Result<()> {
    let (facts, _service) = shared(Kind::Dachs).await?;
    let ring = ring(&facts).await?;
    let options = json!({"dataset": "ring", "sync": false, "queries": [ENDLESS]});
    ring.put("slow", 1, "TAPQueryRunner", &options).await?;
    let begun = Instant::now();
    while !matches!(jobs(&facts).await, Ok(1..)) {
        ensure!(begun.elapsed() < Duration::from_secs(60), "no job was begun");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ring.stop("slow").await?;
    until_no_jobs(&facts).await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_timeout_ends_a_job_and_the_monkey_goes_on() -> Result<()> {
    let (facts, _service) = shared(Kind::Dachs).await?;
    let ring = ring(&facts).await?;
    let options = json!({"dataset": "ring", "sync": false, "queries": [ENDLESS], "query_timeout": 2.0});
    ring.put("limit", 1, "TAPQueryRunner", &options).await?;
    ring.until("limit", "two failures", |counts| counts.failures >= 2)
        .await?;
    ring.until_logged("limit", 1, "did not end within its query_timeout of 2.0 seconds")
        .await?;
    ring.stop("limit").await?;
    until_no_jobs(&facts).await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_searched_for_and_found() -> Result<()> {
    let (facts, _service) = shared(Kind::Dachs).await?;
    let ring = ring(&facts).await?;
    ring.put("images", 3, "SIAQuerySetRunner", &json!({})).await?;
    ring.succeed("images", 3).await?;
    let log = ring.log("images", 1).await?;
    ensure!(log.contains("Running SIA query: SIA parameters: pos=("), "{log}");
    ring.stop("images").await?;
    ring.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_in_the_middle_is_one_clear_failure_each_and_all_go_on_when_it_is_back() -> Result<()> {
    let mut service = Service::start(Kind::Dachs).await?;
    let facts = service.facts().clone();
    let ring = ring(&facts).await?;
    ring.put("sync", 2, "TAPQueryRunner", &queries(true)).await?;
    ring.put("async", 1, "TAPQueryRunner", &queries(false)).await?;
    ring.put("images", 2, "SIAQuerySetRunner", &json!({})).await?;
    let flocks = ["sync", "async", "images"];
    let mut before = Vec::new();
    for flock in flocks {
        ring.succeed(flock, 1).await?;
        before.push(ring.counts(flock).await?);
    }
    service.kill().await?;
    for (flock, before) in flocks.iter().zip(&before) {
        ring.until(flock, "a failure", |counts| counts.failures > before.failures)
            .await?;
        // The first failure may still be an answer that broke off; then nobody listens any more.
        ring.until_logged(flock, 1, "could not connect to http://127.0.0.1")
            .await?;
    }
    service.restart().await?;
    for flock in flocks {
        let now = ring.counts(flock).await?;
        ring.until_for(AGAIN, flock, "new successes", |counts| counts.fewest > now.fewest)
            .await?;
        ring.stop(flock).await?;
    }
    ring.finish().await.context("after the restart")?;
    service.finish().await
}
