//! Monkeys that log a lot: cells that print 60 KiB each, which is all that a monkey's log takes of one.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::json;
use stand_ins::hub::{Hub, Knobs};

use super::account::Account;
use super::stage::Stage;
use super::{Part, Scale};
use crate::fleet::flock;

/// How long they may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// A position behind the end of every log.
const BEYOND: u64 = 1 << 60;

pub(super) async fn play(broker: &str, scale: &Scale) -> Result<Account> {
    let hub = Hub::start(Knobs::default()).await;
    let config = json!({"tokens": "local", "discovery": hub.discovery()});
    let stage = Stage::open(Part::Logs, broker, scale, &config).await?;
    let options = json!({
        "code": "chatter", "max_executions": 100_000, "execution_idle_time": 0, "idle_time": 0, "spawn_settle_time": 0,
    });
    let business = json!({"type": "NubladoPythonLoop", "restart": true, "options": options});
    stage.fleet.put_flock(&flock("noise", scale.loud, &business)).await?;
    let begun = Instant::now();
    let logged = loop {
        let logged = logged(&stage).await?;
        if logged >= scale.log_bytes {
            break logged;
        }
        ensure!(begun.elapsed() < PATIENCE, "only {logged} bytes were logged");
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let took = begun.elapsed();
    let (monkey, _) = stage.fleet.monkeys("noise").await?.swap_remove(0);
    let kept = loop {
        let path = format!("/flocks/noise/monkeys/{monkey}/log");
        let log = stage.fleet.call(Method::GET, &path).send().await?;
        ensure!(log.status() == StatusCode::OK, "{log:?}");
        match log.bytes().await {
            Ok(log) => break log.len(),
            // A log that moves on faster than it is read ends in the middle, so that its reader knows.
            Err(error) => ensure!(begun.elapsed() < took + PATIENCE, "no log was read to its end: {error}"),
        }
    };
    ensure!((1..1024 * 1024).contains(&kept), "{kept} bytes of a log are kept");
    let flock = stage.fleet.get("/flocks/noise").await?;
    let monkeys = flock["monkeys"].as_array().context("a flock has monkeys")?;
    ensure!(
        monkeys.iter().all(|monkey| monkey["business"]["failure_count"] == 0),
        "a monkey failed: {flock}"
    );
    let mut account = stage.close().await?;
    account.notes.push(format!(
        "{} MiB were logged in {:.0} s by {} monkeys, of whose logs {} KiB each are kept.",
        logged >> 20,
        took.as_secs_f64(),
        2 * scale.loud,
        kept / 1024
    ));
    Ok(account)
}

/// How much all monkeys have logged.
async fn logged(stage: &Stage) -> Result<u64> {
    let mut bytes = 0;
    for (monkey, _) in stage.fleet.monkeys("noise").await? {
        let path = format!("/flocks/noise/monkeys/{monkey}/log?offset={BEYOND}");
        let answer = stage.fleet.call(Method::GET, &path).send().await?;
        let end = answer.headers().get("x-log-end").context("a log has an end")?;
        bytes += end.to_str()?.parse::<u64>()?;
    }
    Ok(bytes)
}
