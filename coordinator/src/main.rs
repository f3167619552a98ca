//! `mobu-coordinator`: leads a fleet, or stands by.

use std::process::ExitCode;

use clap::Parser;
use mobu_coordinator::{Coordinator, CoordinatorConfig};
use mobu_fleet::runtime::config::{Flags, Role, Sources};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_fleet::runtime::{lifecycle, process};

/// The coordinator of a mobu fleet: holds the desired state, broadcasts it, and answers for all replicas.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    process::main(
        Sources::of_process(Role::Coordinator, Arguments::parse().flags),
        async |config| {
            let link = process::broker(&config)?;
            let config = CoordinatorConfig::new(&config);
            let drain_timeout = config.drain_timeout;
            let tasks = Tasks::new();
            drop(Coordinator::build(config, link).await?.spawn(&tasks));
            Ok(lifecycle::run(tasks, drain_timeout).await?.into())
        },
    )
}
