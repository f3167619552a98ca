//! `mobu local`: a whole fleet in one process, without a broker.

use std::sync::Arc;

use clap::Args;
use mobu_coordinator::{Coordinator, CoordinatorConfig};
use mobu_fleet::link::Link;
use mobu_fleet::link::memory::Hub;
use mobu_fleet::runtime::config::{Config, Flags, Role, Sources};
use mobu_fleet::runtime::lifecycle::{self, Ending};
use mobu_fleet::runtime::process::chain;
use mobu_fleet::runtime::tasks::Tasks;
use mobu_fleet::runtime::telemetry;
use mobu_worker::{Worker, WorkerConfig};
use tracing::warn;

use crate::failure::{Failure, Outcome};
use crate::output::Output;

const AFTER_HELP: &str = "\
Examples:
  mobu local                                     three replicas, HTTP on 127.0.0.1:8080
  mobu local --config examples/local.yaml        with flocks that start by themselves
  mobu local --replicas 1                        answers exactly as mobu does

In another terminal: `mobu status --watch`. Ctrl-C ends the fleet; it forgets everything then.";

/// Run a whole fleet in this process, to try it or to test one service from one machine
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Local {
    /// How many replicas to run [default: 3, or as configured]
    #[arg(long, value_name = "N")]
    replicas: Option<String>,
    /// Configuration file, as of a real fleet [default: $`MOBU_CONFIG_PATH`, or /etc/mobu/config.yaml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<std::path::PathBuf>,
    /// Where to listen for HTTP; port 0 takes any free one [default: 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    http_bind: Option<String>,
    /// Least severity that is logged: debug, info, warning, error or critical
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Say what is wrong with the configuration, and exit
    #[arg(long)]
    check_config: bool,
}

impl Local {
    pub(crate) async fn run(self, out: &mut Output) -> Result<Outcome, Failure> {
        let only_check = self.check_config;
        let config = self.load(out)?;
        if only_check {
            out.line("the configuration can work")?;
            return Ok(Outcome::Done);
        }
        telemetry::start(config.log_profile, config.level_filter());
        let ending = fleet(&config, out).await?;
        Ok(match ending {
            Ending::Asked => Outcome::Done,
            Ending::Crashed => Outcome::Failed,
        })
    }

    fn load(self, out: &mut Output) -> Result<Config, Failure> {
        let flags = Flags {
            config: self.config,
            check_config: self.check_config,
            http_bind: self.http_bind,
            replica_count: self.replicas,
            log_level: self.log_level,
            ..Flags::default()
        };
        let loaded =
            Config::load(Sources::of_process(Role::Local, flags)).map_err(|error| Failure::Usage(error.to_string()))?;
        for warning in &loaded.warnings {
            out.note(warning);
        }
        Ok(loaded.config)
    }
}

/// Runs coordinator and replicas over the in-process link until somebody asks them to end.
async fn fleet(config: &Config, out: &mut Output) -> Result<Ending, Failure> {
    let link: Arc<dyn Link> = Arc::new(Hub::new());
    let tasks = Tasks::new();
    let coordinator = Coordinator::build(CoordinatorConfig::new(config), link.clone()).await;
    let coordinator = coordinator.map_err(|error| Failure::Usage(chain(&error)))?;
    let address = coordinator.address();
    for index in 0..config.replica_count {
        let worker = Worker::build(WorkerConfig::of_local(config, index), link.clone());
        drop(worker.map_err(|error| Failure::Usage(chain(&error)))?.spawn(&tasks));
    }
    drop(coordinator.spawn(&tasks));
    let prefix = &config.path_prefix;
    out.note(&format!(
        "a fleet of {} replicas answers on http://{address}{prefix}/ (Ctrl-C ends it)",
        config.replica_count
    ));
    let ending = lifecycle::run(tasks, config.drain_timeout).await;
    ending.map_err(|error| {
        warn!("cannot listen to signals: {error}");
        Failure::Output(error)
    })
}
