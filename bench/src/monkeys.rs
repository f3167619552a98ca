//! What a monkey costs that does nothing but iterate and log, against a bare timer of tokio's.
//!
//! Each run is a process of its own. The replica runs on a runtime of its own, the coordinator that it reports to on another,
//! whose processor time is not counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use mobu_fleet::domain::desired::Command;
use mobu_fleet::link::Link;
use mobu_fleet::link::memory::Hub;
use mobu_fleet::runtime::tasks::Tasks;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::report::{Figure, Report, quantile};
use crate::usage::{process_cpu, thread_cpu, usage};
use crate::{Scale, child, fleet};

/// How many timers of their own runtime look how late it is, besides what is measured: one for so many monkeys, so that they cost
/// little in comparison.
const MONKEYS_PER_PROBE: u64 = 50;
/// Most of them.
const PROBES: u64 = 1000;
/// How often it is looked how many iterations there were.
const LOOK: Duration = Duration::from_millis(1);

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    /// A replica with one flock of `EmptyLoop` monkeys.
    Fleet,
    /// As many tasks that sleep and count.
    Timers,
}

/// One measurement, in a process of its own.
#[derive(Debug, Clone, Args)]
pub(crate) struct Measurement {
    #[arg(long)]
    side: Side,
    #[arg(long)]
    count: u64,
    #[arg(long)]
    idle_ms: u64,
    /// Threads of the runtime; 0 is one without threads of its own.
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    seconds: f64,
}

/// What it came to.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Run {
    iterations: u64,
    seconds: f64,
    cpu_seconds: f64,
    own_kib: f64,
    start_seconds: f64,
    stop_seconds: f64,
    cycle_seconds: f64,
    late_ms: [f64; 2],
}

impl Measurement {
    fn arguments(&self) -> Vec<String> {
        let side = match self.side {
            Side::Fleet => "fleet",
            Side::Timers => "timers",
        };
        let text = format!(
            "monkeys --side {side} --count {} --idle-ms {} --threads {} --seconds {}",
            self.count, self.idle_ms, self.threads, self.seconds
        );
        text.split(' ').map(str::to_owned).collect()
    }

    fn measure(&self) -> Result<Run> {
        child::run(&self.arguments())
    }

    /// Measures in this process.
    pub(crate) fn run(&self) -> Result<()> {
        let control = Builder::new_current_thread().enable_all().build()?;
        let (handle, _ended) = self.runtime()?;
        let run = match self.side {
            Side::Fleet => control.block_on(self.fleet(&handle))?,
            Side::Timers => control.block_on(self.timers(&handle))?,
        };
        child::print(&run)
    }

    /// Starts the runtime that is measured.
    fn runtime(&self) -> Result<(Handle, Option<Runtime>)> {
        if self.threads > 0 {
            let runtime = Builder::new_multi_thread()
                .worker_threads(self.threads)
                .enable_all()
                .build()?;
            return Ok((runtime.handle().clone(), Some(runtime)));
        }
        Ok((child::measured_thread()?, None))
    }

    async fn fleet(&self, handle: &Handle) -> Result<Run> {
        let name = "bench".parse().context("a right name")?;
        let config = fleet::config(&name, 1)?;
        let link: Arc<dyn Link> = Arc::new(Hub::new());
        let (own, its) = (Tasks::new(), Tasks::new());
        let leader = fleet::Leader::start(&config, link.clone(), &own).await?;
        let worker = {
            let its = its.clone();
            handle
                .spawn(async move { fleet::replica(&config, 0, link, &its) })
                .await??
        };
        leader.wait_converged().await?;
        let empty = usage(None)?;
        let idle_time = Duration::from_millis(self.idle_ms).as_secs_f64();
        let business = json!({"type": "EmptyLoop", "options": {"idle_time": idle_time}});
        let flock = fleet::flock_json("idlers", self.count, &business);
        let begun = Instant::now();
        leader.change(fleet::start_command(&flock)?).await?;
        let start_seconds = begun.elapsed().as_secs_f64();
        let iterations = || worker.flocks().values().map(|flock| flock.success_count).sum();
        let mut run = self.watch(handle, iterations).await;
        run.own_kib = (usage(None)?.own_mib - empty.own_mib) * 1024.0;
        run.start_seconds = start_seconds;
        let begun = Instant::now();
        leader.change(Command::StopAll).await?;
        run.stop_seconds = begun.elapsed().as_secs_f64();
        Ok(run)
    }

    async fn timers(&self, handle: &Handle) -> Result<Run> {
        let (ended, iterations) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let empty = usage(None)?;
        let idle = Duration::from_millis(self.idle_ms);
        let begun = Instant::now();
        let tasks: Vec<_> = (0..self.count)
            .map(|_| {
                let (ended, iterations) = (ended.clone(), iterations.clone());
                handle.spawn(async move {
                    while !ended.load(Ordering::Relaxed) {
                        iterations.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(idle).await;
                    }
                })
            })
            .collect();
        let start_seconds = begun.elapsed().as_secs_f64();
        let mut run = self.watch(handle, || iterations.load(Ordering::Relaxed)).await;
        run.own_kib = (usage(None)?.own_mib - empty.own_mib) * 1024.0;
        run.start_seconds = start_seconds;
        ended.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        for task in tasks {
            drop(task.await);
        }
        run.stop_seconds = begun.elapsed().as_secs_f64();
        Ok(run)
    }

    /// Lets it settle, then looks for a while.
    async fn watch(&self, handle: &Handle, iterations: impl Fn() -> u64) -> Run {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let cpu = || process_cpu().saturating_sub(thread_cpu());
        let probes = u32::try_from((self.count / MONKEYS_PER_PROBE).clamp(1, PROBES)).unwrap_or(1);
        let (begun, before, cpu_before) = (Instant::now(), iterations(), cpu());
        let late = handle.spawn(lateness(probes, Duration::from_secs_f64(self.seconds)));
        let (late, cycle_seconds) = tokio::join!(late, self.cycle(&iterations));
        let late = late.unwrap_or_default();
        Run {
            iterations: iterations() - before,
            seconds: begun.elapsed().as_secs_f64(),
            cpu_seconds: cpu().saturating_sub(cpu_before).as_secs_f64(),
            cycle_seconds,
            late_ms: [quantile(&late, 0.5), quantile(&late, 0.99)],
            ..Run::default()
        }
    }

    /// Returns how long a cycle takes on average: from some iteration to the one of the same monkey a few cycles later, as long as
    /// they keep their order. To count what falls into a while would be wrong by a part of a cycle, for they come in bursts.
    async fn cycle(&self, iterations: &impl Fn() -> u64) -> f64 {
        let reaches = async |count| {
            while iterations() < count {
                tokio::time::sleep(LOOK).await;
            }
            (iterations(), Instant::now())
        };
        let cycles = (self.seconds * 1000.0 / float(self.idle_ms)).floor().max(1.0);
        let (from, begun) = reaches(iterations() + 1).await;
        let asked = Duration::from_millis(self.idle_ms).mul_f64(cycles);
        // Nothing to see until most of it is over.
        tokio::time::sleep(asked.mul_f64(0.9)).await;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of cycles"
        )]
        let (_, ended) = reaches(from + cycles as u64 * self.count).await;
        (ended - begun).as_secs_f64() / cycles
    }
}

/// Returns by how many milliseconds timers of this runtime are late, over a while. They begin spread over a second.
async fn lateness(probes: u32, during: Duration) -> Vec<f64> {
    let begun = tokio::time::Instant::now();
    let probing: Vec<_> = (0..probes)
        .map(|number| {
            tokio::spawn(async move {
                let mut late = Vec::new();
                let mut due = begun + Duration::from_secs(1) * number / probes;
                while due < begun + during {
                    tokio::time::sleep_until(due).await;
                    late.push(due.elapsed().as_secs_f64() * 1000.0);
                    due = tokio::time::Instant::now() + Duration::from_secs(1);
                }
                late
            })
        })
        .collect();
    let mut all = Vec::new();
    for probe in probing {
        all.extend(probe.await.unwrap_or_default());
    }
    all
}

/// Measures all of it.
pub(crate) fn part(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part("monkeys", "Monkeys that do nothing, against bare timers");
    let seconds = if scale.quick { 3.0 } else { 5.0 };
    let counts: &[u64] = if scale.quick {
        &[1_000, 20_000]
    } else {
        &[1_000, 10_000, 100_000]
    };
    for &count in counts {
        let of = |side, threads| Measurement {
            side,
            count,
            idle_ms: 1000,
            threads,
            seconds,
        };
        let mut runs = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..scale.runs {
            runs[0].push(of(Side::Fleet, 0).measure()?);
            runs[1].push(of(Side::Timers, 0).measure()?);
        }
        // As the program runs: a thread for each core.
        runs[2].push(of(Side::Fleet, cores()).measure()?);
        add(report, count, &runs)?;
    }
    saturation(report, scale, seconds)
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}

fn add(report: &mut Report, count: u64, [fleet, timers, threads]: &[Vec<Run>; 3]) -> Result<()> {
    let case = thousands(count);
    let monkeys = float(count);
    let cost = |run: &Run| run.cpu_seconds / float(run.iterations) * 1e6;
    let memory = |run: &Run| run.own_kib / monkeys;
    let all = |runs: &[Run], of: &dyn Fn(&Run) -> f64| runs.iter().map(of).collect::<Vec<f64>>();
    let figure = |name: &str, unit, values| Figure::new(name, case.clone(), unit, values);
    // With few monkeys a thread wakes for each of them, which costs a bare timer several times the budget.
    let budget = |figure: Figure| if count < 10_000 { figure } else { figure.at_most(3.0) };
    let figures = [
        budget(figure("processor time of an iteration", "µs", all(fleet, &cost))),
        figure("… on a thread for each core", "µs", all(threads, &cost)),
        figure("… of a bare timer", "µs", all(timers, &cost)),
        figure("memory of a monkey", "KiB", all(fleet, &memory)).at_most(4.0),
        figure("… of a bare timer", "KiB ", all(timers, &memory)),
        figure("lateness, p50", "ms", all(fleet, &|run| run.late_ms[0])),
        figure("… beside bare timers", "ms", all(timers, &|run| run.late_ms[0])),
        figure("lateness, p99", "ms", all(fleet, &|run| run.late_ms[1])).at_most(50.0),
        figure("… beside bare timers, p99", "ms", all(timers, &|run| run.late_ms[1])),
        figure(
            "length of a cycle beyond the asked second, mean",
            "ms",
            all(fleet, &|run| (run.cycle_seconds - 1.0) * 1000.0),
        ),
        figure(
            "one core's use",
            "%",
            all(fleet, &|run| run.cpu_seconds / run.seconds * 100.0),
        ),
        figure("start of all", "s", all(fleet, &|run| run.start_seconds)),
        figure("stop of all", "s", all(fleet, &|run| run.stop_seconds)),
    ];
    figures.into_iter().try_for_each(|figure| report.add(figure))
}

/// Asks for more and more until one core gives no more.
fn saturation(report: &mut Report, scale: &Scale, seconds: f64) -> Result<()> {
    let count = if scale.quick { 20_000 } else { 100_000 };
    for idle_ms in [500, 200, 100] {
        let asked = float(count) * 1000.0 / float(idle_ms);
        let case = format!("{} at {idle_ms} ms", thousands(count));
        for (side, name) in [
            (Side::Fleet, "achieved of the asked rate"),
            (Side::Timers, "… by bare timers"),
        ] {
            let measurement = Measurement {
                side,
                count,
                idle_ms,
                threads: 0,
                seconds: seconds / 2.0,
            };
            let run = measurement.measure()?;
            let rate = float(run.iterations) / run.seconds;
            report.add(Figure::new(name, case.clone(), "%", vec![rate / asked * 100.0]))?;
            if side == Side::Fleet {
                report.add(Figure::new("iterations a second", case.clone(), "1/s", vec![rate]))?;
            }
        }
    }
    Ok(())
}

fn thousands(count: u64) -> String {
    if count >= 1000 {
        format!("{},000", count / 1000)
    } else {
        count.to_string()
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of iterations stay far below 2^52")]
fn float(number: u64) -> f64 {
    number as f64
}
