//! Coordinators and replicas within this process, with the product's own code and any link.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use mobu_coordinator::fleet::change::{Outcome, Wish};
use mobu_coordinator::fleet::state::Status;
use mobu_coordinator::{Coordinator, CoordinatorConfig, Fleet};
use mobu_fleet::domain::desired::Command;
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::domain::messages::Source;
use mobu_fleet::link::Link;
use mobu_fleet::runtime::config::{Config, Flags, Role, Sources};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::{Worker, WorkerConfig, WorkerHandle};
use serde_json::{Value, json};

/// How long anything may take before the measurement is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Returns the configuration of a fleet of so many replicas: everything as by default, local tokens, any port.
pub(crate) fn config(fleet: &FleetName, replicas: u32) -> Result<Config> {
    let variables = [
        ("MOBU_FLEET", fleet.to_string()),
        ("MOBU_REPLICA_COUNT", replicas.to_string()),
        ("MOBU_HTTP_BIND", "127.0.0.1:0".to_owned()),
        ("MOBU_LOG_PROFILE", "production".to_owned()),
    ];
    let variables = variables.map(|(name, value)| (OsString::from(name), OsString::from(value)));
    let sources = Sources {
        role: Role::Local,
        flags: Flags::default(),
        variables,
    };
    let loaded = Config::load(sources).map_err(|error| anyhow!("{error}"))?;
    Ok(loaded.config)
}

/// Starts one replica on the present runtime.
pub(crate) fn replica(config: &Config, index: u32, link: Arc<dyn Link>, tasks: &Tasks) -> Result<WorkerHandle> {
    worker(WorkerConfig::of_local(config, index), link, tasks)
}

/// Starts a replica with a configuration of its own on the present runtime.
pub(crate) fn worker(config: WorkerConfig, link: Arc<dyn Link>, tasks: &Tasks) -> Result<WorkerHandle> {
    Ok(Worker::build(config, link)?.spawn(tasks))
}

/// A coordinator on the present runtime.
pub(crate) struct Leader {
    pub(crate) fleet: Fleet,
    /// Where it serves HTTP.
    pub(crate) address: std::net::SocketAddr,
}

impl Leader {
    /// Starts it; waits for nothing.
    pub(crate) async fn start(config: &Config, link: Arc<dyn Link>, tasks: &Tasks) -> Result<Self> {
        let coordinator = Coordinator::build(CoordinatorConfig::new(config), link).await?;
        let address = coordinator.address();
        Ok(Self {
            fleet: coordinator.spawn(tasks),
            address,
        })
    }

    /// Waits until a status satisfies a condition; returns it and how long that took.
    pub(crate) async fn wait(
        &self,
        what: &str,
        condition: impl Fn(&Status) -> bool,
    ) -> Result<(Box<Status>, Duration)> {
        let begun = Instant::now();
        loop {
            let status = self.fleet.status().await?;
            if condition(&status) {
                return Ok((status, begun.elapsed()));
            }
            if begun.elapsed() > PATIENCE {
                bail!(
                    "waited {PATIENCE:?} for {what}; the coordinator is {} ({:?})",
                    status.stage,
                    status.trouble
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until every expected replica runs what it should.
    pub(crate) async fn wait_converged(&self) -> Result<Duration> {
        let (_, took) = self
            .wait("convergence", |status| status.is_leading() && status.converged)
            .await?;
        Ok(took)
    }

    /// Makes a change and waits until every replica has applied it.
    pub(crate) async fn change(&self, command: Command) -> Result<Outcome> {
        let wish = Wish {
            command,
            by: "bench".to_owned(),
            source: Source::Http,
            request_id: None,
            wait: true,
            dry_run: false,
        };
        let outcome = self.fleet.change(wish).await?;
        if !outcome.is_settled() {
            bail!(
                "revision {} was not applied by {:?}",
                outcome.revision,
                outcome.missing()
            );
        }
        Ok(outcome)
    }
}

/// Returns the JSON of a flock that does a business.
pub(crate) fn flock_json(name: &str, count: u64, business: &Value) -> Value {
    json!({
        "name": name, "count": count, "user_spec": {"username_prefix": format!("bot-mobu-{name}")}, "scopes": [],
        "business": business,
    })
}

/// Returns the command that starts a flock.
pub(crate) fn start_command(flock: &Value) -> Result<Command> {
    let config = FlockConfig::parse(flock).map_err(|error| anyhow!("{error}"));
    Ok(Command::Start(Box::new(
        config.context("the flock of a measurement is right")?,
    )))
}
