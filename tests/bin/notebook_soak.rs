//! Soaks a replica with monkeys in labs: many of them run for minutes against a stand-in for a hub with realistic delays, while the
//! worker's memory, threads, open files, sessions and clones are watched. They must not grow. Half of the monkeys run Python, half
//! the notebooks of a repository that gets a commit and a refresh every now and then.
//!
//! `cargo run -p fleet-tests --bin notebook_soak -- --monkeys 200 --minutes 10`, after `cargo build --workspace --bins`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use fleet_tests::broker::{shared_broker, unique_fleet};
use fleet_tests::fleet::ProcessFleet;
use fleet_tests::process::Process;
use mobu_fleet::runtime::clock;
use reqwest::Method;
use serde_json::json;
use stand_ins::hub::{Hub, Knobs};

/// How often the worker is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How often the repository gets a commit, in looks.
const COMMIT: usize = 10;
/// The flocks.
const FLOCKS: [&str; 2] = ["python", "notebooks"];

/// How long and how many.
#[derive(Debug, Parser)]
struct Args {
    /// Monkeys of the flock.
    #[arg(long, default_value_t = 200)]
    monkeys: u32,
    /// Minutes that they run.
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// By how many percent memory may grow from the second quarter to the last.
    #[arg(long, default_value_t = 15)]
    growth: u64,
}

/// What the worker uses.
#[derive(Debug, Clone, Copy)]
struct Sample {
    resident_kib: u64,
    threads: u64,
    /// Tasks of its runtime that are alive.
    tasks: u64,
    files: u64,
    labs: u64,
    sessions: u64,
    clones: u64,
    successes: u64,
    failures: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match soak(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "{error:#}").ok();
            ExitCode::FAILURE
        }
    }
}

async fn soak(args: &Args) -> Result<()> {
    let hub = Hub::start(Knobs {
        spawn_time: Duration::from_secs(3),
        delete_time: Duration::from_secs(2),
        cell_time: Duration::from_millis(300),
        ..Knobs::default()
    })
    .await;
    let repository = tempfile::Builder::new().prefix("soak-notebooks-").tempdir()?;
    git(repository.path(), &["init", "--quiet", "--initial-branch=main"]).await?;
    commit(repository.path(), 0).await?;
    let config = json!({"tokens": "local", "discovery": hub.discovery()});
    let mut fleet = ProcessFleet::prepare(shared_broker(), unique_fleet(), 1, &config.to_string())?;
    let temporary = fleet.folder.path().join("tmp");
    std::fs::create_dir(&temporary)?;
    fleet.variables.push(("TMPDIR", temporary.display().to_string()));
    fleet.start_coordinator(0).await?;
    fleet.start_worker(0)?;
    fleet.wait_converged().await?;
    let worker = fleet.workers.get_mut(&0).context("the worker runs")?.http().await?;
    let figures = format!("http://{worker}/metrics");
    let at_rest = look(&fleet, &hub, &temporary, &figures).await?;
    writeln!(io::stdout(), "before the flocks: {at_rest:?}")?;
    for name in FLOCKS {
        let mut options = json!({
            "max_executions": 2, "idle_time": 1, "execution_idle_time": 0.5, "spawn_settle_time": 1, "error_idle_time": 1,
        });
        let kind = if name == "python" {
            options["code"] = json!("print(6 * 7)");
            "NubladoPythonLoop"
        } else {
            options["repo_url"] = json!(repository.path());
            options["repo_ref"] = json!("main");
            "NotebookRunnerCounting"
        };
        let flock = json!({
            "name": name, "count": args.monkeys.div_ceil(2), "user_spec": {"username_prefix": format!("bot-mobu-{name}")},
            "scopes": ["exec:notebook"], "business": {"type": kind, "restart": true, "options": options},
        });
        fleet.put_flock(&flock).await?;
    }
    let begun = clock::now();
    let end = Duration::from_secs_f64(args.minutes * 60.0);
    let mut samples = Vec::new();
    let mut stdout = io::stdout();
    while begun.elapsed() < end {
        tokio::time::sleep(LOOK).await;
        if samples.len() % COMMIT == COMMIT - 1 {
            commit(repository.path(), samples.len()).await?;
            let refreshed = fleet.call(Method::POST, "/flocks/notebooks/refresh").send().await?;
            ensure!(refreshed.status().is_success(), "{refreshed:?}");
        }
        let sample = look(&fleet, &hub, &temporary, &figures).await?;
        writeln!(stdout, "{:6.1} s {sample:?}", begun.elapsed().as_secs_f64())?;
        samples.push(sample);
    }
    for flock in FLOCKS {
        let stopped = fleet.call(Method::DELETE, &format!("/flocks/{flock}")).send().await?;
        ensure!(stopped.status().is_success(), "{stopped:?}");
    }
    fleet.wait_converged().await?;
    let deadline = clock::now() + Duration::from_secs(60);
    while !hub.labs().is_empty() {
        ensure!(clock::now() < deadline, "labs are left: {:?}", hub.labs());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let after = look(&fleet, &hub, &temporary, &figures).await?;
    writeln!(stdout, "after the stop: {after:?}")?;
    ensure!(hub.complaints().is_empty(), "{:?}", hub.complaints());
    fleet.finish().await?;
    ensure!(
        after.tasks <= at_rest.tasks + 4,
        "{} tasks are alive after the stop, {} before the flocks",
        after.tasks,
        at_rest.tasks
    );
    judge(args, &samples, after)
}

/// Commits another version of the only notebook.
async fn commit(repository: &Path, number: usize) -> Result<()> {
    let cell =
        json!({"cell_type": "code", "id": "only", "metadata": {}, "outputs": [], "source": format!("print({number})")});
    let notebook = json!({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5});
    std::fs::write(repository.join("only.ipynb"), notebook.to_string())?;
    git(repository, &["add", "."]).await?;
    let me = ["-c", "user.name=soak", "-c", "user.email=soak@example.org"];
    git(
        repository,
        &[&me[..], &["commit", "--quiet", "--message", "another"]].concat(),
    )
    .await
}

async fn git(repository: &Path, arguments: &[&str]) -> Result<()> {
    let mut git = tokio::process::Command::new("git");
    let status = git
        .args(arguments)
        .current_dir(repository)
        .env("HOME", repository)
        .status()
        .await?;
    ensure!(status.success(), "git {arguments:?}");
    Ok(())
}

fn judge(args: &Args, samples: &[Sample], after: Sample) -> Result<()> {
    let quarter = samples.len() / 4;
    ensure!(quarter > 0, "too short to judge");
    let most = |samples: &[Sample], what: fn(&Sample) -> u64| samples.iter().map(what).max().unwrap_or_default();
    let (early, late) = (&samples[quarter..2 * quarter], &samples[samples.len() - quarter..]);
    let (before, now) = (most(early, |s| s.resident_kib), most(late, |s| s.resident_kib));
    ensure!(
        now <= before + before * args.growth / 100,
        "memory grows: {before} KiB, later {now} KiB"
    );
    let (before, now) = (most(early, |s| s.clones), most(late, |s| s.clones));
    ensure!(
        now <= before + 2 && after.clones == 0,
        "{now} clones, {} after the stop",
        after.clones
    );
    let (before, now) = (most(early, |s| s.threads), most(late, |s| s.threads));
    ensure!(now <= before + 8, "{now} threads, {before} before");
    let most_labs = most(samples, |s| s.labs);
    ensure!(most_labs <= u64::from(args.monkeys) + 1, "{most_labs} labs at once");
    let most_sessions = most(samples, |s| s.sessions);
    ensure!(
        most_sessions <= u64::from(args.monkeys) + 1,
        "{most_sessions} sessions at once"
    );
    let (before, now) = (most(samples, |s| s.files), after.files);
    ensure!(
        now <= before && now < 100,
        "{now} files are open after the stop, {before} before"
    );
    let last = samples.last().context("there are samples")?;
    ensure!(last.failures == 0, "{} failures", last.failures);
    ensure!(
        last.successes >= u64::from(args.monkeys),
        "only {} successes",
        last.successes
    );
    Ok(())
}

async fn look(fleet: &ProcessFleet, hub: &Hub, temporary: &Path, figures: &str) -> Result<Sample> {
    let worker = fleet.workers.get(&0).and_then(Process::id);
    let worker = worker.context("the worker runs")?;
    let status = std::fs::read_to_string(format!("/proc/{worker}/status"))?;
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.split_whitespace().next());
        anyhow::Ok(figure.with_context(|| format!("no {name} in {status}"))?.parse()?)
    };
    let (mut successes, mut failures) = (0, 0);
    let there = fleet.get("/flocks").await?;
    for flock in there.as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
        let flock = fleet.get(&format!("/flocks/{flock}")).await?;
        for monkey in flock["monkeys"].as_array().into_iter().flatten() {
            successes += monkey["business"]["success_count"].as_u64().unwrap_or_default();
            failures += monkey["business"]["failure_count"].as_u64().unwrap_or_default();
        }
    }
    let page = reqwest::get(figures).await?.text().await?;
    let tasks = page.lines().find_map(|line| line.strip_prefix("mobu_worker_tasks "));
    let labs = hub.labs();
    Ok(Sample {
        resident_kib: figure("VmRSS:")?,
        threads: figure("Threads:")?,
        tasks: tasks.context("the worker counts its tasks")?.parse()?,
        files: std::fs::read_dir(format!("/proc/{worker}/fd"))?.count() as u64,
        labs: labs.len() as u64,
        sessions: labs.iter().map(|user| hub.session_count(user) as u64).sum(),
        clones: clones(temporary)?,
        successes,
        failures,
    })
}

/// Counts the clones that the worker has now: the folders in its folder for them.
fn clones(temporary: &Path) -> Result<u64> {
    let mut clones = 0;
    for root in std::fs::read_dir(temporary)? {
        let root = root?;
        if root.file_type()?.is_dir() {
            for entry in std::fs::read_dir(root.path())? {
                clones += u64::from(entry?.file_name().to_string_lossy().starts_with("clone-"));
            }
        }
    }
    Ok(clones)
}
