//! How a fleet grows: from ten replicas to a thousand, each with a hundred monkeys, on one broker.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::broker::Host;
use crate::coordinator::Coordinator;
use crate::crowd::{Crowd, messages};
use crate::fleet::flock_json;
use crate::report::{Figure, Report, quantile};
use crate::{Scale, block_on};

/// Monkeys of each replica.
const MONKEYS: u32 = 100;

/// Measures all of it.
pub(crate) fn part(report: &mut Report, scale: &Scale) -> Result<()> {
    report.part("scale", "Growth: replicas of 100 monkeys each on one broker");
    let counts = scale.replicas_or(if scale.quick { &[10, 50] } else { &[10, 100, 1000] });
    for &count in counts {
        let scratch = tempfile::tempdir()?;
        block_on(grown(report, scale, count, scratch.path())).with_context(|| format!("{count} replicas"))?;
    }
    Ok(())
}

async fn grown(report: &mut Report, scale: &Scale, count: u32, scratch: &Path) -> Result<()> {
    let host = Host::find(scale).await?;
    let fleet = fleet_tests::broker::unique_fleet();
    let case = format!("{count} replicas");
    let mut add = |name: &str, unit, value| report.add(Figure::new(name, case.clone(), unit, vec![value]));

    let mut leader = Coordinator::start(&host.url, &fleet, count, scratch).await?;
    let begun = Instant::now();
    let crowd = Crowd::start(&host.url, &fleet, count, 0)?;
    leader.converged().await?;
    add(
        "start of all replicas until converged",
        "s",
        begun.elapsed().as_secs_f64(),
    )?;

    let business = json!({"type": "EmptyLoop", "options": {"idle_time": 1}});
    let begun = Instant::now();
    leader.put(&flock_json("grown", MONKEYS.into(), &business)).await?;
    leader.converged().await?;
    add(
        "start of a flock until it runs everywhere",
        "s",
        begun.elapsed().as_secs_f64(),
    )?;

    tokio::time::sleep(Duration::from_secs(3)).await;
    let count_messages = async || match &host.node {
        Some(node) => messages(node).await.map(Some),
        None => Ok(None),
    };
    let (before, crowd_before, messages_before, begun) = (
        leader.program.usage()?,
        crowd.usage()?,
        count_messages().await?,
        Instant::now(),
    );
    let seconds = if scale.quick { 3 } else { 10 };
    let mut ages = Vec::new();
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        ages.extend(leader.ages().await?);
    }
    let (after, crowd_after, elapsed) = (leader.program.usage()?, crowd.usage()?, begun.elapsed().as_secs_f64());
    add("age of a report, p50", "s", quantile(&ages, 0.5))?;
    add("age of a report, p99", "s", quantile(&ages, 0.99))?;
    add("age of a report, oldest", "s", quantile(&ages, 1.0))?;
    add(
        "use of a core by the coordinator",
        "%",
        after.cpu.saturating_sub(before.cpu).as_secs_f64() / elapsed * 100.0,
    )?;
    add("resident memory of the coordinator", "MiB", after.rss_mib)?;
    let crowd_cpu: f64 = crowd_before
        .iter()
        .zip(&crowd_after)
        .map(|(before, after)| after.cpu.saturating_sub(before.cpu).as_secs_f64())
        .sum();
    let crowd_mib: f64 = crowd_after.iter().map(|one| one.own_mib).sum();
    add(
        "use of a core by a replica",
        "%",
        crowd_cpu / elapsed * 100.0 / f64::from(count),
    )?;
    add(
        "memory of a replica with its monkeys",
        "MiB",
        crowd_mib / f64::from(count),
    )?;
    if let (Some(before), Some(after)) = (messages_before, count_messages().await?) {
        add(
            "messages taken and delivered by the broker",
            "1/s",
            (after - before) / begun.elapsed().as_secs_f64(),
        )?;
    }

    let mut standby = Coordinator::start(&host.url, &fleet, count, scratch).await?;
    standby
        .wait("the standby to know all replicas", |fleet| {
            fleet["replicas"]["ready"] == count
        })
        .await?;
    let begun = Instant::now();
    leader.program.kill()?;
    standby
        .wait("the standby to lead", |fleet| fleet["coordinator"]["active"] == true)
        .await?;
    add("takeover until the standby leads", "s", begun.elapsed().as_secs_f64())?;
    standby.converged().await?;
    add("takeover until converged", "s", begun.elapsed().as_secs_f64())?;

    if let Some(node) = &host.node {
        node.sync().await?;
        node.kill().await?;
        let begun = Instant::now();
        node.restart().await?;
        let boot = begun.elapsed();
        standby
            .wait("the session to be lost", |fleet| fleet["converged"] == false)
            .await
            .ok();
        standby.converged().await?;
        add("restart of the broker: its own", "s", boot.as_secs_f64())?;
        add(
            "… and from there until converged",
            "s",
            begun.elapsed().saturating_sub(boot).as_secs_f64(),
        )?;
    }
    Ok(())
}
