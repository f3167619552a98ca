//! Lets faults happen to a real fleet on a real broker: `cargo run -p fleet-tests --bin chaos -- --faults 100 --seed 1`.
//!
//! Needs the programs: `cargo build --workspace`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use fleet_tests::chaos::{self, Options, Report};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};

/// Lets faults happen, and says how the fleet took them.
#[derive(Debug, Parser)]
struct Args {
    /// How many faults, over all lanes.
    #[arg(long, default_value_t = 60)]
    faults: usize,
    /// Decides which, and when. Lane n plays this seed plus n.
    #[arg(long)]
    seed: Option<u64>,
    /// The first round to play.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Three nodes instead of one, in every lane.
    #[arg(long)]
    cluster: bool,
    /// Lanes whose broker has three nodes, out of all lanes: the last ones.
    #[arg(long, default_value_t = 0)]
    cluster_lanes: usize,
    /// How many fleets to play with at once, each with a broker of its own.
    #[arg(long, default_value_t = 1)]
    lanes: usize,
    /// Most faults of one round.
    #[arg(long, default_value_t = 5)]
    most: usize,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(0..1_000_000));
    let lanes = args.lanes.max(1);
    let began = Instant::now();
    let tasks = Tasks::new();
    let (done, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    for lane in 0..lanes {
        let options = Options {
            faults: args.faults / lanes + usize::from(lane < args.faults % lanes),
            seed: seed + lane as u64,
            first: args.first,
            nodes: if args.cluster || lane + args.cluster_lanes >= lanes {
                3
            } else {
                1
            },
            most: args.most,
            lifetime: Duration::from_secs(60) * u32::try_from(args.faults).unwrap_or(u32::MAX).max(60),
            tell: true,
        };
        let done = done.clone();
        drop(tasks.spawn(TaskKind::Expendable, "lane", async move {
            // The receiver waits for every lane.
            drop(done.send(chaos::run(&options).await));
        }));
    }
    drop(done);
    let (mut report, mut failed) = (Report::default(), false);
    while let Some(outcome) = outcomes.recv().await {
        match outcome {
            Ok(lane) => report.add(lane),
            Err(error) => {
                failed = true;
                say(&format!("FAILED: {error:#}"));
            }
        }
    }
    say(&format!("{report}"));
    say(&format!(
        "{} faults in {:.0?}, seed {seed}",
        report.faults(),
        began.elapsed()
    ));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::print_stdout, reason = "this is a program for people")]
fn say(text: &str) {
    println!("{text}");
}
