//! `mobu`: the command line of a fleet.
//!
//! It talks to a coordinator over HTTP, or to the broker with `publish`, and keeps nothing between two calls. What a command found
//! out goes to stdout, everything else to stderr; how it went is the exit code (see [`failure::Outcome`]).

mod args;
mod change;
mod completions;
mod config;
mod escapes;
mod failure;
mod health;
mod local;
mod logs;
mod output;
mod overview;
mod progress;
mod publish;
mod refresh;
mod report;
mod revisions;
mod server;
mod spec;
#[cfg(test)]
mod stand_in;
mod start;
mod status;
mod stop;
mod table;

use std::process::ExitCode;

use args::{Cli, Command};
use failure::{Failure, Outcome};
use output::Output;

#[tokio::main]
async fn main() -> ExitCode {
    let mut out = Output::process();
    let cli = config::parse_process();
    let result = run(cli, &mut out).await;
    ExitCode::from(out.finish(&result))
}

/// Carries out one command.
async fn run(cli: Cli, out: &mut Output) -> Result<Outcome, Failure> {
    let Cli { connection, command } = cli;
    match command {
        Command::Local(command) => command.run(out).await,
        Command::Start(command) => command.run(&connection, out).await,
        Command::Stop(command) => command.run(&connection, out).await,
        Command::Refresh(command) => command.run(&connection, out).await,
        Command::Report(command) => command.run(&connection, out).await,
        Command::Status(command) => command.run(&connection, out).await,
        Command::Logs(command) => command.run(&connection, out).await,
        Command::Revisions(command) => command.run(&connection, out).await,
        Command::Publish(command) => command.run(&connection, out).await,
        Command::Health(command) => command.run(&connection, out).await,
        Command::Completions(command) => command.run(out),
    }
}
