//! A fleet that is watched.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::account::Account;
use super::watch::Watch;
use super::{Part, Scale};
use crate::broker::unique_fleet;
use crate::fleet::ProcessFleet;
use crate::process::Process;

/// How long a fleet may take to come to rest once the pressure is gone. Longer than a client that does not read is waited for.
const REST: Duration = Duration::from_secs(120);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// The fleet and who watches it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) fleet: ProcessFleet,
    watch: Watch,
    title: String,
    scale: Scale,
}

impl Stage {
    /// Starts one coordinator and the replicas 0 and 1, waits until they have converged, and watches from then on.
    pub(super) async fn open(part: Part, broker: &str, scale: &Scale, config: &Value) -> Result<Self> {
        Self::open_with(part, broker, scale, config, &[]).await
    }

    /// The same, with more variables for all processes.
    pub(super) async fn open_with(
        part: Part,
        broker: &str,
        scale: &Scale,
        config: &Value,
        variables: &[(&'static str, String)],
    ) -> Result<Self> {
        let mut fleet = ProcessFleet::prepare(broker, unique_fleet(), 2, &config.to_string())?;
        fleet.variables.extend_from_slice(variables);
        fleet.start_coordinator(0).await?;
        for id in 0..2 {
            fleet.start_worker(id)?;
        }
        fleet.wait_converged().await?;
        Self::watch(part, fleet, scale)
    }

    /// Watches a fleet that has converged.
    pub(super) fn watch(part: Part, fleet: ProcessFleet, scale: &Scale) -> Result<Self> {
        let coordinators = fleet
            .coordinators
            .iter()
            .map(|(id, process)| ("coordinator", id, process));
        let workers = fleet.workers.iter().map(|(id, process)| ("worker", id, process));
        let processes = coordinators.chain(workers).map(|(role, id, process)| {
            let pid = Process::id(process).context("it runs")?;
            Ok((format!("{role} {id}"), pid))
        });
        let watch = Watch::start(processes.collect::<Result<_>>()?, fleet.base(), scale.bounds.answer)?;
        Ok(Self {
            fleet,
            watch,
            title: part.describe(scale),
            scale: scale.clone(),
        })
    }

    /// Refreshes a flock, and returns how many seconds that took until it was applied.
    pub(super) async fn refresh(&self, flock: &str) -> Result<f64> {
        let asked = Instant::now();
        let refreshed = self.fleet.call(Method::POST, &format!("/flocks/{flock}/refresh"));
        let refreshed = refreshed.send().await?;
        ensure!(refreshed.status() == StatusCode::ACCEPTED, "{refreshed:?}");
        Ok(asked.elapsed().as_secs_f64())
    }

    /// What a process has open more than at the start, by its name.
    pub(super) fn more_files(&self, process: &str) -> u64 {
        let seen = self.watch.seen();
        let course = seen.processes.get(process).copied().unwrap_or_default();
        course.now.files.saturating_sub(course.start.files)
    }

    /// Stops everything that runs, waits until the fleet has come to rest, and gives an account.
    pub(super) async fn close(self) -> Result<Account> {
        let stopped = self.fleet.call(Method::POST, "/stop").send().await?;
        ensure!(stopped.status().is_success(), "{stopped:?}");
        self.fleet.wait_converged().await?;
        let deadline = Instant::now() + REST;
        loop {
            let seen = self.watch.seen();
            if Instant::now() > deadline || self.scale.bounds.at_rest(&seen).is_empty() {
                let account = Account::new(self.title, seen, &self.scale.bounds);
                drop(self.watch);
                self.fleet.finish().await?;
                return Ok(account);
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
