//! Many replicas in processes of their own, beside the processes that are looked at.

use std::io::Read;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use clap::Args;
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::runtime::tasks::Tasks;

use crate::usage::{Usage, usage};
use crate::{block_on, broker, child, fleet};

/// How many replicas share a process: each has a thread of lapin's.
const IN_ONE: u32 = 250;

/// Replicas in this process.
#[derive(Debug, Clone, Args)]
pub(crate) struct Replicas {
    #[arg(long)]
    broker: String,
    #[arg(long)]
    fleet: FleetName,
    /// How many the whole fleet has.
    #[arg(long)]
    total: u32,
    #[arg(long)]
    first: u32,
    #[arg(long)]
    count: u32,
}

impl Replicas {
    /// Runs them until the standard input ends.
    pub(crate) fn run(&self) -> Result<()> {
        block_on(async {
            let config = fleet::config(&self.fleet, self.total)?;
            let (link, tasks) = (broker::link(&self.broker, &self.fleet)?, Tasks::new());
            for index in self.first..self.first + self.count {
                fleet::replica(&config, index, link.clone(), &tasks)?;
            }
            tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
            Ok(())
        })
    }
}

/// The processes of many replicas; killed when they are dropped.
pub(crate) struct Crowd {
    children: Vec<Child>,
}

impl Crowd {
    /// Starts replicas from a number on.
    pub(crate) fn start(broker: &str, fleet: &FleetName, total: u32, first: u32) -> Result<Self> {
        let mut children = Vec::new();
        for from in (first..total).step_by(IN_ONE as usize) {
            let arguments = [
                "replicas".to_owned(),
                format!("--broker={broker}"),
                format!("--fleet={fleet}"),
                format!("--total={total}"),
                format!("--first={from}"),
                format!("--count={}", IN_ONE.min(total - from)),
            ];
            children.push(
                child::command(&arguments)?
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .spawn()?,
            );
        }
        Ok(Self { children })
    }

    /// Returns what each process uses.
    pub(crate) fn usage(&self) -> Result<Vec<Usage>> {
        self.children.iter().map(|child| usage(Some(child.id()))).collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Returns how many messages a broker has taken and delivered so far.
pub(crate) async fn messages(node: &fleet_tests::broker::Broker) -> Result<f64> {
    let program = "lists:sum([maps:get(K, C, 0) || C <- maps:values(rabbit_global_counters:overview()), \
                   K <- [messages_received_total, messages_delivered_total]]).";
    let text = node.control(&["eval", program]).await?;
    text.trim()
        .parse()
        .with_context(|| format!("the broker counts its messages, and says {text}"))
}
