//! Simulates fleets by as many seeds as wanted: `cargo run -p fleet-tests --bin soak -- --seeds 10000 --first 1`.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use fleet_tests::sim;

/// Plays seeds, and says how they went.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to play.
    #[arg(long, default_value_t = 2000)]
    seeds: u64,
    /// The first one.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many to play at a time.
    #[arg(long)]
    threads: Option<usize>,
    /// Go on after a failure, without making its script small.
    #[arg(long)]
    keep_going: bool,
    /// Show all that happened.
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(2, Into::into));
    let (next, failed, accepted, slowest) = (
        AtomicU64::new(args.first),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= args.first + args.seeds {
                        return;
                    }
                    match sim::run(seed, None) {
                        Ok(played) => {
                            accepted.fetch_add(played.accepted as u64, Ordering::Relaxed);
                            slowest.fetch_max(
                                u64::try_from(played.convergence.as_millis()).unwrap_or(u64::MAX),
                                Ordering::Relaxed,
                            );
                            if args.trace {
                                say(&played.trace.join("\n"));
                            }
                        }
                        Err(failure) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            if args.keep_going {
                                say(&format!("seed {seed}: {}", failure.what));
                            } else {
                                stop.store(true, Ordering::Relaxed);
                                let shrunk = sim::explain(seed, None);
                                say(&shrunk.unwrap_or_else(|| format!("seed {seed}, not again: {}", failure.what)));
                            }
                        }
                    }
                }
            });
        }
    });
    let (failed, accepted, slowest) = (failed.into_inner(), accepted.into_inner(), slowest.into_inner());
    say(&format!(
        "{} seeds from {} in {:.1?}: {accepted} changes accepted, slowest convergence {slowest} ms, {failed} failed",
        args.seeds,
        args.first,
        began.elapsed(),
    ));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stdout, reason = "this is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
