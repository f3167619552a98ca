//! What must be bounded is, for a few seconds each: `cargo run -p fleet-tests --bin pressure` does the same for minutes. And what becomes
//! of those who cannot keep up, or are kept waiting.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::{ProcessFleet, flock};
use fleet_tests::platform::Platform;
use fleet_tests::pressure::{Part, Readers, Scale, play, usage};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::counts;

/// How long anything may take to show.
const PATIENCE: Duration = Duration::from_secs(90);

async fn stays_bounded(part: Part) -> Result<()> {
    let account = play(part, shared_broker(), &Scale::short()).await?;
    ensure!(account.breaches.is_empty(), "{}", account.to_markdown());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_can_be_carried_out_at_once_are_all_answered_and_none_is_lost() -> Result<()> {
    stays_bounded(Part::Requests).await
}

#[tokio::test(flavor = "multi_thread")]
async fn monkeys_that_log_a_lot_do_not_make_a_replica_grow() -> Result<()> {
    stays_bounded(Part::Logs).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_never_answers_holds_up_its_own_monkeys_alone() -> Result<()> {
    stays_bounded(Part::Target).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gafaelfawr_that_hangs_holds_up_new_flocks_alone() -> Result<()> {
    stays_bounded(Part::Tokens).await
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_report_all_at_once_are_heard() -> Result<()> {
    stays_bounded(Part::Crowd).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_goes_away_fails_its_monkeys_which_pause_as_configured_and_go_on_once_it_is_back() -> Result<()> {
    let mut target = Platform::start(&json!({})).await?;
    let fleet = ProcessFleet::start(shared_broker(), unique_fleet(), 2, "tokens: local\n").await?;
    let business = |error_idle_time: f64| {
        let request = json!({"url": format!("http://{}/muster/anonymous", target.address)});
        let options = json!({"requests": [request], "idle_time": 0.05, "error_idle_time": error_idle_time});
        json!({"type": "HTTPRunner", "restart": true, "options": options})
    };
    // Those who pause for an hour show that a pause is kept: whatever happens in this test, they fail once.
    let flocks = [("hasty", 0.2), ("patient", 3600.0)];
    for (name, pause) in flocks {
        fleet.put_flock(&flock(name, 4, &business(pause))).await?;
    }
    for (name, _) in flocks {
        let all_succeed = |flock: &Value| counts(flock).0 > 16;
        fleet
            .wait_for(&format!("/flocks/{name}"), "successes", all_succeed)
            .await?;
    }
    let revision = fleet.get("/fleet").await?["revision"].clone();
    target.kill().await?;
    fleet
        .wait_for("/flocks/hasty", "failures, one after the other", |flock| {
            counts(flock).1 > 32
        })
        .await?;
    let patient = fleet
        .wait_for("/flocks/patient", "a failure of each", |flock| counts(flock).1 == 8)
        .await?;
    let monkeys = patient["monkeys"].as_array().context("a flock has monkeys")?;
    ensure!(monkeys.iter().all(|monkey| monkey["state"] == "ERROR"), "{patient}");
    let url = format!("http://{}", target.address);
    let is_named =
        |cause: &Value| cause["kind"] == "connect" && cause["url"].as_str().is_some_and(|at| at.starts_with(&url));
    for id in 0..2 {
        // Causes come with the next report.
        let tells = |replica: &Value| {
            flocks.iter().all(|(name, _)| {
                let causes = replica["flocks"][*name]["failures"]["causes"].as_array();
                causes.is_some_and(|causes| causes.iter().any(is_named))
            })
        };
        let replica = fleet
            .wait_for(&format!("/replicas/{id}"), "the causes of each flock", tells)
            .await?;
        ensure!(replica["state"] == "ready" && replica["error"].is_null(), "{replica}");
    }
    target.restart().await?;
    let (before, _) = counts(&fleet.get("/flocks/hasty").await?);
    fleet
        .wait_for("/flocks/hasty", "successes again", |flock| {
            counts(flock).0 > before + 16
        })
        .await?;
    let patient = fleet.get("/flocks/patient").await?;
    ensure!(
        counts(&patient).1 == 8,
        "they have not waited as they should: {patient}"
    );
    let after = fleet.wait_converged().await?;
    ensure!(after["revision"] == revision, "nobody has changed anything: {after}");
    fleet.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_is_cut_off_and_nobody_waits_for_it_meanwhile() -> Result<()> {
    const READERS: usize = 20;
    let fleet = ProcessFleet::start(shared_broker(), unique_fleet(), 1, "tokens: local\n").await?;
    let business = json!({"type": "EmptyLoop", "options": {"idle_time": 0.01}});
    fleet.put_flock(&flock("lambs", 4, &business)).await?;
    let coordinator = fleet.coordinators[&0].id().context("it runs")?;
    let before = usage(coordinator)?;
    let address = fleet.base().trim_start_matches("http://").parse()?;
    let readers = Readers::start(address, &vec!["/mobu/events".to_owned(); READERS]).await?;
    let open = || anyhow::Ok(usage(coordinator)?.files.saturating_sub(before.files));
    ensure!(open()? >= READERS as u64, "{} connections are open", open()?);
    // Everybody is told of every change, and the half that reads nothing has no room for long.
    let deadline = Instant::now() + PATIENCE;
    let most = before.resident_kib + 64 * 1024;
    let mut changes = 0_u32;
    while open()? > READERS as u64 / 2 + 4 {
        let refreshed = fleet.call(Method::POST, "/flocks/lambs/refresh").send().await?;
        ensure!(refreshed.status().is_success(), "{refreshed:?}");
        changes += 1;
        let now = usage(coordinator)?;
        ensure!(
            now.resident_kib < most,
            "the coordinator grew from {before:?} to {now:?} after {changes} changes"
        );
        ensure!(
            Instant::now() < deadline,
            "{} connections are left after {changes} changes",
            open()?
        );
    }
    ensure!(open()? >= READERS as u64 / 2, "those who read slowly are cut off too");
    drop(readers);
    fleet.wait_converged().await?;
    fleet.finish().await
}

/// Publishes by a client that does not care whether a property is text; or takes such a message out of the requests, as an operator may.
const POISON: &str = r#"
import sys, pika
url, fleet, place = sys.argv[1:]
channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
channel.confirm_delivery()
poison = pika.BasicProperties(message_id=b"\xff\xfe", correlation_id=b"\xc3", delivery_mode=2)
channel.basic_publish(fleet + "." + place, "", b"{}", poison)
if place == "requests":
    good = pika.BasicProperties(message_id="good", delivery_mode=2)
    channel.basic_publish(fleet + ".requests", "", b'{"kind": "refresh", "flock": "lambs"}', good)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_property_that_is_no_text_ends_a_session_and_the_fleet_goes_on() -> Result<()> {
    let fleet = ProcessFleet::start(shared_broker(), unique_fleet(), 2, "tokens: local\n").await?;
    let business = json!({"type": "EmptyLoop", "options": {"idle_time": 0.1}});
    fleet.put_flock(&flock("lambs", 4, &business)).await?;
    let url = fleet.broker.replace("/?", "/%2f?");
    let poison = async |place: &str| {
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", POISON, &url, fleet.name.as_str(), place]);
        let done = python.stdin(Stdio::null()).kill_on_drop(true).output();
        let done = tokio::time::timeout(PATIENCE, done)
            .await
            .with_context(|| fleet.logs())??;
        ensure!(done.status.success(), "{done:?}");
        Ok(())
    };
    // They are gone once they were delivered.
    for place in ["reports", "broadcast"] {
        let before = sessions_ended(&fleet);
        poison(place).await?;
        let deadline = Instant::now() + PATIENCE;
        while sessions_ended(&fleet) == before {
            ensure!(Instant::now() < deadline, "{place}: no session has ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        accepts_a_change(&fleet).await?;
    }
    fleet.wait_converged().await?;
    // A request comes again until the broker gives up on it. Only other requests wait meanwhile, and in the end they are carried out.
    let before = sessions_ended(&fleet);
    poison("requests").await?;
    let deadline = Instant::now() + PATIENCE;
    while !fleet.logs().contains("the session of the requests ends") {
        ensure!(Instant::now() < deadline, "the requests go on: {}", fleet.logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let changed = fleet.call(Method::POST, "/flocks/lambs/refresh").send().await?;
    ensure!(changed.status().is_success(), "{}: {}", changed.status(), fleet.logs());
    loop {
        let revisions = fleet.get("/revisions").await?;
        let mut sources = revisions
            .as_array()
            .into_iter()
            .flatten()
            .map(|revision| &revision["source"]);
        if sources.any(|source| source == "amqp") {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the good request: {revisions}, {}",
            fleet.logs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ensure!(sessions_ended(&fleet) == before, "{}", fleet.logs());
    fleet.wait_converged().await?;
    let (succeeded, failed) = counts(&fleet.get("/flocks/lambs").await?);
    ensure!(succeeded > 0 && failed == 0, "{succeeded} successes, {failed} failures");
    fleet.finish().await
}

/// How often a coordinator or a replica has lost its session.
fn sessions_ended(fleet: &ProcessFleet) -> usize {
    fleet.logs().matches("the session ends").count()
}

async fn accepts_a_change(fleet: &ProcessFleet) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let changed = fleet.call(Method::POST, "/flocks/lambs/refresh").send().await?;
        if changed.status().is_success() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "no change is accepted: {}", fleet.logs());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
