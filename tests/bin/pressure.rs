//! Puts a fleet of real processes under pressure and watches what it uses: `cargo run -p fleet-tests --bin pressure -- [PARTS] [--seconds 60]`.
//!
//! Prints tables for `docs/reliability.md`. Fails, and says which, if a bound is broken. Needs the programs: `cargo build --workspace --bins`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use fleet_tests::broker::Broker;
use fleet_tests::pressure::{Part, Scale, play};

/// Puts a fleet under pressure.
#[derive(Debug, Parser)]
struct Args {
    /// Which kinds of pressure; all of them unless given.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How long each goes on.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Requests in a second.
    #[arg(long)]
    rate: Option<u32>,
    /// MiB that monkeys log.
    #[arg(long)]
    mebibytes: Option<u64>,
    /// Replicas that report at once.
    #[arg(long)]
    replicas: Option<u32>,
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let mut scale = Scale::full(Duration::from_secs(args.seconds));
    scale.rate = args.rate.unwrap_or(scale.rate);
    scale.log_bytes = args.mebibytes.map_or(scale.log_bytes, |mebibytes| mebibytes << 20);
    scale.replicas = args.replicas.unwrap_or(scale.replicas);
    let parts = if args.parts.is_empty() {
        Part::ALL.to_vec()
    } else {
        args.parts
    };
    let broker = Broker::start().await?;
    let mut breaches = Vec::new();
    for part in parts {
        say(&format!("load of the machine: {}\n", load()?));
        let account = play(part, &broker.url(), &scale).await?;
        say(&account.to_markdown());
        breaches.extend(account.breaches.into_iter().map(|breach| format!("{part:?}: {breach}")));
    }
    if breaches.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("BROKEN:\n{}", breaches.join("\n")));
    Ok(ExitCode::FAILURE)
}

/// How many processes wanted a processor over the last minute, on average.
fn load() -> Result<String> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

#[expect(clippy::print_stdout, reason = "this is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
