//! Gives a parser as many broken inputs as wanted:
//! `cargo run --profile fuzz -p fleet-tests --bin fuzz -- votable --inputs 10000000`; without a name, all of them.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fleet_tests::fuzz::{Plan, Target, play};

/// Gives parsers broken inputs, and says how that went.
#[derive(Debug, Parser)]
struct Args {
    /// Which parsers; all unless given.
    targets: Vec<String>,
    /// How many inputs each gets.
    #[arg(long, default_value_t = 1_000_000)]
    inputs: u64,
    /// Number of the first.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// What decides the inputs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Go on with the next parser after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Read one file, and nothing else.
    #[arg(long)]
    file: Option<std::path::PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let mut failed = false;
    let targets: Vec<_> = if args.targets.is_empty() {
        Target::all()
    } else {
        let named = args.targets.iter().filter_map(|name| Target::named(name));
        named.collect()
    };
    if targets.is_empty() || targets.len() < args.targets.len() {
        let names: Vec<_> = Target::all().iter().map(|target| target.name).collect();
        say(&format!("the parsers are called {}", names.join(", ")));
        return ExitCode::FAILURE;
    }
    for target in targets {
        if let Some(file) = &args.file {
            let read = std::fs::read(file).map_err(|error| error.to_string());
            let outcome = read.and_then(|input| (target.check)(&input));
            say(&format!("{}: {outcome:?}", target.name));
            failed |= outcome.is_err();
            continue;
        }
        let plan = Plan {
            seed: args.seed,
            first: args.first,
            inputs: args.inputs,
        };
        match play(target, plan) {
            Ok(played) => say(&format!(
                "| {} | {} | {} | {:.1} | {} |",
                target.name,
                played.inputs,
                rate(played.inputs, played.took),
                played.slowest.as_secs_f64() * 1e3,
                played.memory / 1024,
            )),
            Err(failure) => {
                say(&failure.to_string());
                failed = true;
                if !args.keep_going {
                    break;
                }
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Returns how many there were in a second.
fn rate(inputs: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(inputs) * 1000 / took.as_millis().max(1)).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stdout, reason = "this is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
