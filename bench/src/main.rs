//! Measures a fleet against the floor, in one run: `cargo run --release -p fleet-bench -- all`.

#![expect(clippy::disallowed_methods, reason = "what is bare starts its tasks bare")]

mod bare;
mod broker;
mod cells;
mod child;
mod coordinator;
mod crowd;
mod fan_out;
mod fleet;
mod floor;
mod idle;
mod machine;
mod monkeys;
mod programs;
mod report;
mod scale;
mod service;
mod usage;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::report::{Report, say};

/// Measures a fleet against the floor: the broker, tokio's timers and hyper, bare, in the same run
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    part: Part,
    #[command(flatten)]
    scale: Scale,
    /// Write every figure there, one JSON object a line
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables there, as Markdown
    #[arg(long, global = true, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Scale {
    /// Less of everything: to see that it works
    #[arg(long, global = true)]
    pub(crate) quick: bool,
    /// How often to measure what is compared with a target
    #[arg(long, global = true, value_name = "N", default_value_t = 3)]
    pub(crate) runs: usize,
    /// Sizes of the fleets of `fan-out` and `scale`, for example 3,200
    #[arg(long, global = true, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) replicas: Vec<u32>,
    /// A broker to use instead of a private one, several URLs for the nodes of a cluster
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) broker: Option<String>,
    /// Also build what is shipped, from nothing: its size and how long that takes
    #[arg(long, global = true)]
    pub(crate) builds: bool,
}

impl Scale {
    /// The sizes of fleets that were asked for, or else those given.
    pub(crate) fn replicas_or<'a>(&'a self, usual: &'a [u32]) -> &'a [u32] {
        if self.replicas.is_empty() {
            usual
        } else {
            &self.replicas
        }
    }
}

#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// Every part
    All,
    /// Changes and questions to all replicas, against the bare broker
    FanOut,
    /// What an idle monkey costs, against bare timers
    Monkeys,
    /// `HTTPRunner` against bare hyper
    Http,
    /// TAP queries against bare hyper
    Tap,
    /// Cells of notebooks against a bare WebSocket
    Cells,
    /// What coordinator and replicas cost that do nothing
    Idle,
    /// How a fleet grows to a thousand replicas
    Scale,
    /// One measurement in a process of its own
    #[command(hide = true)]
    Child {
        #[command(subcommand)]
        measurement: Child,
    },
}

#[derive(Debug, Clone, Subcommand)]
enum Child {
    Monkeys(monkeys::Measurement),
    Service(service::Measurement),
    Cells(cells::Measurement),
    Serve,
    Hub,
    Replicas(crowd::Replicas),
}

/// What a file of tables begins with.
const HEAD: &str = "\
# What was measured

<!-- Written by `cargo run --release -p fleet-bench -- all --markdown docs/performance-tables.md`; do not edit. -->

How, and what it means: [performance.md](performance.md). A cell is the median of the runs (least … most); ✓ and ✗ say whether that
meets the target at the end of the row.

";

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let scale = &arguments.scale;
    if let Part::Child { measurement } = &arguments.part {
        return match measurement {
            Child::Monkeys(measurement) => measurement.run(),
            Child::Service(measurement) => measurement.run(),
            Child::Cells(measurement) => measurement.run(),
            Child::Serve => service::serve(),
            Child::Hub => cells::serve(),
            Child::Replicas(replicas) => replicas.run(),
        };
    }
    let (begun, machine) = (Instant::now(), machine::describe());
    let mut report = Report::new(arguments.json.as_deref(), &machine)?;
    say(&machine);
    let tables = |report: &Report| {
        let seconds = begun.elapsed().as_secs();
        let (targets, missed) = report.verdict();
        format!(
            "{HEAD}{machine} At the end, {seconds} s later: {}.\n\n{} of {targets} targets met.\n\n{}",
            machine::load(),
            targets - missed.len(),
            report.tables()
        )
    };
    let mut failed = Vec::new();
    for part in arguments.part.measured() {
        if let Err(error) = part.measure(&mut report, scale) {
            // The others are worth having all the same.
            report.note(format!("This part broke off: {error:#}"));
            failed.push(error);
        }
        if let Some(path) = &arguments.markdown {
            fs::write(path, tables(&report)).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    say(&format!("\n{}", tables(&report)));
    let (targets, missed) = report.verdict();
    say(&format!("{} of {targets} targets met", targets - missed.len()));
    for name in &missed {
        say(&format!("not met: {name}"));
    }
    failed.into_iter().next().map_or(Ok(()), Err)
}

impl Part {
    /// Returns the parts to measure, in order.
    fn measured(&self) -> Vec<Self> {
        match self {
            Self::All => vec![
                Self::FanOut,
                Self::Monkeys,
                Self::Http,
                Self::Tap,
                Self::Cells,
                Self::Idle,
                Self::Scale,
            ],
            one => vec![one.clone()],
        }
    }

    fn measure(&self, report: &mut Report, scale: &Scale) -> Result<()> {
        match self {
            Self::FanOut => fan_out::part(report, scale),
            Self::Monkeys => monkeys::part(report, scale),
            Self::Http => service::http(report, scale),
            Self::Tap => service::tap(report, scale),
            Self::Cells => cells::part(report, scale),
            Self::Idle => idle::part(report, scale),
            Self::Scale => scale::part(report, scale),
            Self::All | Self::Child { .. } => Ok(()),
        }
    }
}

/// Runs something on a runtime as the programs have one.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let result = runtime.block_on(work);
    runtime.shutdown_background();
    result
}
