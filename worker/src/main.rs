//! `mobu-worker`: one replica of a fleet.

use std::process::ExitCode;

use clap::Parser;
use mobu_fleet::runtime::config::{Flags, Role, Sources};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_fleet::runtime::{lifecycle, process};
use mobu_worker::{Worker, WorkerConfig};

/// A replica of a mobu fleet: runs monkeys, as the state log says.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    flags: Flags,
}

fn main() -> ExitCode {
    process::main(
        Sources::of_process(Role::Worker, Arguments::parse().flags),
        async |config| {
            let link = process::broker(&config)?;
            let drain_timeout = config.drain_timeout;
            let tasks = Tasks::new();
            drop(Worker::build(WorkerConfig::of_process(&config), link)?.spawn(&tasks));
            Ok(lifecycle::run(tasks, drain_timeout).await?.into())
        },
    )
}
