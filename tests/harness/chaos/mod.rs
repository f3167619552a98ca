//! Chaos on a real broker: real processes, a private node or a cluster of three, clients that change the fleet all the time, and faults
//! at moments that a seed chooses. After each heal, what runs is compared with what was acknowledged.

mod check;
mod clients;
mod fault;
mod ledger;
mod log;
mod lossy;
mod report;
mod slot;
mod stage;
pub mod takeover;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use self::check::Checks;
use self::fault::{BrokerFault, Fault, Planned};
use self::stage::{PASSWORD, Stage};
use crate::broker::{Broker, Settings};

pub use self::report::{Report, Round};

/// Rounds after which a new fleet takes the place of the old one. In a build for tests, and while other things run, a coordinator takes
/// its time to read a long log, and the rounds would be spent on that.
const ACT: u64 = 12;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many faults.
    pub faults: usize,
    /// Decides which, and when.
    pub seed: u64,
    /// The first round to play.
    pub first: u64,
    /// Nodes of the broker.
    pub nodes: usize,
    /// Most faults of one round.
    pub most: usize,
    /// How long the nodes may live.
    pub lifetime: Duration,
    /// Whether to tell of each round.
    pub tell: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            faults: 20,
            seed: 1,
            first: 0,
            nodes: 1,
            most: 5,
            lifetime: Duration::from_secs(3600),
            tell: false,
        }
    }
}

/// Plays rounds of faults on one fleet.
///
/// # Errors
///
/// What was not as it must be, with the faults of the round, how to play it again, and where the logs are.
pub async fn run(options: &Options) -> Result<Report> {
    let settings = Settings {
        password: PASSWORD.to_owned(),
        nodes: options.nodes,
        lifetime: options.lifetime,
        ..Settings::default()
    };
    let nodes = Broker::start_all(settings).await?;
    let mut report = Report::default();
    let mut round = options.first;
    while report.faults() < options.faults {
        let enough = options.faults - report.faults();
        report.add(act(&nodes, options, &mut round, enough).await?);
    }
    Ok(report)
}

/// The rounds of one fleet, until there were enough faults or the fleet is old.
async fn act(nodes: &[Broker], options: &Options, round: &mut u64, enough: usize) -> Result<Report> {
    let end = *round + ACT;
    let mut report = Report::default();
    let mut stage = Stage::start(nodes.to_vec(), options.seed.wrapping_add(*round)).await?;
    let mut checks = Checks::new()?;
    let mut outcome = begin(&mut stage, &mut checks)
        .await
        .map_err(|error| (error, Vec::new()));
    while outcome.is_ok() && report.faults() < enough && *round < end {
        let mut faults = fault::plan(options.seed, *round, options.nodes, options.most);
        faults.truncate(enough - report.faults());
        match play(&mut stage, &mut checks, &faults).await {
            Ok(played) => {
                if options.tell {
                    say(&format!(
                        "seed {} round {round}: {:.1} s after {}",
                        options.seed,
                        played.convergence.as_secs_f64(),
                        list(&faults).join("; ")
                    ));
                }
                report.rounds.push(played);
                *round += 1;
            }
            Err(error) => outcome = Err((error, faults)),
        }
    }
    if let Err((error, faults)) = outcome {
        return Err(explain(&error, options, *round, &faults, stage));
    }
    report.operations = stage.shared.ledger.counts();
    report.ignored = checks.ignored + checks.reading.ignored;
    report.errors = checks.errors;
    stage.finish().await?;
    Ok(report)
}

async fn begin(stage: &mut Stage, checks: &mut Checks) -> Result<()> {
    checks.converged(stage).await.context("at the beginning")?;
    sync(stage).await
}

async fn play(stage: &mut Stage, checks: &mut Checks, faults: &[Planned]) -> Result<Round> {
    let leader = checks.served(stage).await.context("before the faults")?;
    stage.suffer(faults, leader).await?;
    let healed = Instant::now();
    checks.served(stage).await?;
    let convergence = healed.elapsed();
    if faults.iter().any(|planned| planned.fault.loses()) {
        stage.shared.losses.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        checks.lose(stage.shared.ledger.len());
        if faults
            .iter()
            .any(|planned| matches!(planned.fault, Fault::Broker(_, BrokerFault::LoseAll)))
        {
            sync(stage).await?;
        }
    }
    stage.clients.pause().await?;
    checks.check(stage).await?;
    stage.clients.resume();
    Ok(Round {
        kinds: faults.iter().map(|planned| planned.fault.kind()).collect(),
        convergence,
    })
}

/// What was declared so far shall survive a kill of the node: see [`crate::broker::Broker::sync`].
async fn sync(stage: &Stage) -> Result<()> {
    for node in &stage.nodes {
        node.sync().await?;
    }
    Ok(())
}

fn explain(error: &anyhow::Error, options: &Options, round: u64, faults: &[Planned], stage: Stage) -> anyhow::Error {
    let mut text = format!("{}\n\nseed {} round {round}, faults:\n", chain(error), options.seed);
    for line in list(faults) {
        writeln!(text, "  {line}").expect("a text takes everything");
    }
    let cluster = if options.nodes > 1 { " --cluster" } else { "" };
    writeln!(
        text,
        "that round again: cargo run -p fleet-tests --bin chaos -- --seed {} --first {round} --faults {}{cluster}",
        options.seed,
        faults.len().max(1),
    )
    .expect("a text takes everything");
    let Stage {
        folder,
        clients,
        shared,
        ..
    } = stage;
    drop(clients);
    text.push_str("last operations:\n");
    let operations = shared.ledger.since(shared.ledger.len().saturating_sub(25));
    for operation in operations {
        writeln!(text, "  {operation:?}").expect("a text takes everything");
    }
    let kept = keep(folder);
    writeln!(text, "logs of all processes: {kept}").expect("a text takes everything");
    anyhow!(text)
}

/// The error and its causes, without where in the code they came up.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Leaves the logs where they are.
fn keep(folder: TempDir) -> String {
    folder.keep().display().to_string()
}

fn list(faults: &[Planned]) -> Vec<String> {
    faults.iter().map(ToString::to_string).collect()
}

#[expect(clippy::print_stderr, reason = "this is a program for people")]
fn say(text: &str) {
    eprintln!("{text}");
}
