//! Many replicas, the worker's own code in this process, that all report whenever something changes.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::link::amqp::{AmqpConfig, AmqpLink};
use mobu_fleet::runtime::config::{Config, Flags, Role, Sources};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::{Worker, WorkerConfig};
use serde_json::json;

use super::account::Account;
use super::stage::Stage;
use super::{Part, Scale};
use crate::broker::unique_fleet;
use crate::fleet::{ProcessFleet, flock};

pub(super) async fn play(broker: &str, scale: &Scale) -> Result<Account> {
    // With a longer heartbeat: so many connections of one process are late for that of tests.
    let broker = broker.replace("heartbeat=2", "heartbeat=10");
    let mut fleet = ProcessFleet::prepare(&broker, unique_fleet(), scale.replicas, "tokens: local\n")?;
    fleet.start_coordinator(0).await?;
    let tasks = start(&broker, &fleet.name, scale.replicas)?;
    fleet.wait_converged().await?;
    let business = json!({"type": "EmptyLoop", "options": {"idle_time": 1}});
    fleet.put_flock(&flock("lambs", 2, &business)).await?;
    let stage = Stage::watch(Part::Crowd, fleet, scale)?;
    let (begun, mut changes) = (Instant::now(), Vec::new());
    while begun.elapsed() < scale.time {
        changes.push(stage.refresh("lambs").await?);
    }
    let told = changes.len() * scale.replicas as usize;
    let mut account = stage.close().await?;
    tasks.drain_token().cancel();
    tasks.wait().await;
    account.notes.push(format!(
        "{} changes one after the other, each reported by all replicas at once: {told} reports beside one a second from each.",
        changes.len()
    ));
    account
        .answers
        .insert("HTTP change, applied by all".to_owned(), changes);
    Ok(account)
}

fn start(broker: &str, fleet: &FleetName, replicas: u32) -> Result<Tasks> {
    let variables = [
        ("MOBU_FLEET", fleet.to_string()),
        ("MOBU_REPLICA_COUNT", replicas.to_string()),
        ("MOBU_HTTP_BIND", "127.0.0.1:0".to_owned()),
    ];
    let sources = Sources {
        role: Role::Local,
        flags: Flags::default(),
        variables: variables.map(|(name, value)| (OsString::from(name), OsString::from(value))),
    };
    let config = Config::load(sources).map_err(|error| anyhow!("{error}"))?.config;
    let urls = AmqpConfig::parse_urls(broker)?;
    let link = Arc::new(AmqpLink::new(AmqpConfig::new(urls, fleet.clone()))?);
    let tasks = Tasks::new();
    for index in 0..replicas {
        Worker::build(WorkerConfig::of_local(&config, index), link.clone())?.spawn(&tasks);
    }
    Ok(tasks)
}
