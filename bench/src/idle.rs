//! What a fleet costs that does nothing: coordinator and 50 replicas, and what their programs weigh.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::broker::Host;
use crate::coordinator::Coordinator;
use crate::crowd::{Crowd, messages};
use crate::programs::{self, Program};
use crate::report::{Figure, Report};
use crate::usage::Usage;
use crate::{Scale, block_on};

/// Size of the fleet.
const REPLICAS: u32 = 50;
/// How many of its replicas are real processes; the others share one.
const REAL: u32 = 3;

/// Measures all of it.
pub(crate) fn part(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part("idle", "A fleet of 50 that does nothing");
    let scratch = tempfile::tempdir()?;
    let folder = programs::folder()?;
    block_on(fleet(report, scale, scratch.path()))?;
    for name in ["mobu-worker", "mobu-coordinator"] {
        #[expect(clippy::cast_precision_loss, reason = "a file of some MiB")]
        let size = folder.join(name).metadata()?.len() as f64 / f64::from(1 << 20);
        let figure = Figure::new("program, as measured", name, "MiB", vec![size]);
        report.add(figure)?;
    }
    if scale.builds {
        build(report, scratch.path())?;
    }
    Ok(())
}

async fn fleet(report: &mut Report, scale: &Scale, scratch: &Path) -> Result<()> {
    let host = Host::find(scale).await?;
    let name = fleet_tests::broker::unique_fleet();
    let mut coordinator = Coordinator::start(&host.url, &name, REPLICAS, scratch).await?;
    let mut workers = Vec::new();
    for id in 0..REAL {
        workers.push(Program::start(
            "mobu-worker",
            &host.url,
            &name,
            REPLICAS,
            Some(id),
            scratch,
        )?);
    }
    let _crowd = Crowd::start(&host.url, &name, REPLICAS, REAL)?;
    coordinator.converged().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let seconds = if scale.quick { 5 } else { 20 };
    let look = || -> Result<Vec<Usage>> {
        let workers = workers.iter().map(Program::usage);
        std::iter::once(coordinator.program.usage()).chain(workers).collect()
    };
    let count = async || match &host.node {
        Some(node) => messages(node).await.map(Some),
        None => Ok(None),
    };
    let (before, messages_before, begun) = (look()?, count().await?, Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (after, elapsed) = (look()?, begun.elapsed().as_secs_f64());
    let cpu =
        |(before, after): (&Usage, &Usage)| (after.cpu.saturating_sub(before.cpu)).as_secs_f64() / elapsed * 100.0;
    let cpus: Vec<f64> = before.iter().zip(&after).map(cpu).collect();
    let (coordinator_cpu, worker_cpus) = cpus.split_first().context("there is a coordinator")?;
    let (coordinator_use, worker_uses) = after.split_first().context("there is a coordinator")?;
    let of = |show: &dyn Fn(&Usage) -> f64| worker_uses.iter().map(show).collect::<Vec<f64>>();
    for (case, limit, cpu, rss, own, files, threads) in [
        (
            "worker",
            15.0,
            worker_cpus.to_vec(),
            of(&|one| one.rss_mib),
            of(&|one| one.own_mib),
            of(&|one| one.files.into()),
            of(&|one| one.threads.into()),
        ),
        (
            "coordinator of 50",
            30.0,
            vec![*coordinator_cpu],
            vec![coordinator_use.rss_mib],
            vec![coordinator_use.own_mib],
            vec![coordinator_use.files.into()],
            vec![coordinator_use.threads.into()],
        ),
    ] {
        let cpu = Figure::new("use of a core", case, "%", cpu);
        report.add(if case == "worker" { cpu.at_most(0.2) } else { cpu })?;
        report.add(Figure::new("resident memory", case, "MiB", rss).at_most(limit))?;
        report.add(Figure::new(
            "… of its own, without the program's file",
            case,
            "MiB",
            own,
        ))?;
        report.add(Figure::new("files open", case, "", files))?;
        report.add(Figure::new("threads", case, "", threads))?;
    }
    if let (Some(before), Some(after)) = (messages_before, count().await?) {
        let rate = (after - before) / begun.elapsed().as_secs_f64();
        report.add(Figure::new(
            "messages taken and delivered by the broker",
            "coordinator of 50",
            "1/s",
            vec![rate],
        ))?;
    }
    Ok(())
}

/// Builds as what is shipped is built, from nothing.
fn build(report: &mut Report, scratch: &Path) -> Result<()> {
    let target = scratch.join("target");
    let seconds = programs::build(&["--profile", "dist"], Some(&target))?;
    for (name, limit) in [("mobu-worker", 25.0), ("mobu-coordinator", 25.0)] {
        #[expect(clippy::cast_precision_loss, reason = "a file of some MiB")]
        let size = target.join("dist").join(name).metadata()?.len() as f64 / f64::from(1 << 20);
        report.add(Figure::new("program, as shipped", name, "MiB", vec![size]).at_most(limit))?;
    }
    report.add(Figure::new(
        "cold build of both, as shipped",
        "mobu-worker",
        "s",
        vec![seconds],
    ))
}
