//! The whole set-up of one run: nodes, processes, clients, and what goes wrong with them.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::link::amqp::AmqpLink;
use mobu_fleet::link::amqp::client::AmqpClient;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use serde_json::Value;
use tempfile::TempDir;

use super::clients::{Bases, Clients, Shared};
use super::fault::{BrokerFault, Fault, Planned, ProcessFault, Target, WORKERS};
use super::lossy;
use super::slot::{Seat, Slot};
use crate::broker::{Broker, config, unique_fleet};

/// The fleet's configuration. Replicas that are away shall not hold the clients up for long.
const CONFIG: &str = "tokens: local\napplyTimeout: 2s\ndrainTimeout: 20s\nstopTimeout: 10s\n";

/// Password of the broker's user: it must not be seen in any log.
pub(super) const PASSWORD: &str = "hushHushChaos";

/// A fleet with everything around it.
#[derive(Debug)]
pub(super) struct Stage {
    /// Name of the fleet.
    pub(super) fleet: FleetName,
    /// Where processes log.
    pub(super) folder: TempDir,
    /// Nodes of the broker.
    pub(super) nodes: Vec<Broker>,
    /// Where the coordinators serve HTTP.
    pub(super) bases: Bases,
    /// What clients share.
    pub(super) shared: Shared,
    /// The clients.
    pub(super) clients: Clients,
    /// The harness's own way to the log.
    pub(super) link: AmqpLink,
    /// The harness's own way to ask.
    pub(super) requests: Arc<AmqpClient>,
    slots: Vec<Slot>,
}

impl Stage {
    /// Starts a new fleet on these nodes; returns before it has converged.
    pub(super) async fn start(nodes: Vec<Broker>, seed: u64) -> Result<Self> {
        let fleet = unique_fleet();
        let folder = tempfile::Builder::new().prefix("mobu-chaos-").tempdir()?;
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, CONFIG)?;
        let variables = [
            ("MOBU_CONFIG_PATH", file.display().to_string()),
            ("MOBU_FLEET", fleet.to_string()),
            ("MOBU_REPLICA_COUNT", WORKERS.to_string()),
            ("MOBU_HTTP_BIND", "127.0.0.1:0".to_owned()),
            ("MOBU_LOG_PROFILE", "production".to_owned()),
        ];
        let bases = Bases::default();
        let mut slots = Vec::new();
        let seats = [Seat::Coordinator(0), Seat::Coordinator(1)].into_iter();
        for seat in seats.chain((0..WORKERS).map(Seat::Worker)) {
            slots.push(Slot::start(seat, &nodes, &variables, folder.path().to_owned(), &bases).await?);
        }
        let urls: Vec<_> = nodes.iter().map(Broker::url).collect();
        let config = config(&urls.join(","), &fleet);
        let client = || anyhow::Ok(Arc::new(AmqpClient::new(&config)?));
        let shared = Shared::new(Bases::clone(&bases));
        let clients = Clients::start(&shared, &[client()?, client()?], seed)?;
        Ok(Self {
            link: AmqpLink::new(config.clone())?,
            requests: client()?,
            fleet,
            folder,
            nodes,
            bases,
            shared,
            clients,
            slots,
        })
    }

    /// Checks that no process has ended that nobody ended.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        self.slots.iter_mut().try_for_each(Slot::check_alive)
    }

    /// Begins a fault of a coordinator.
    pub(super) async fn begin(&mut self, coordinator: usize, fault: ProcessFault) -> Result<()> {
        self.slots[coordinator].begin(fault).await
    }

    /// Ends what [`Stage::begin`] began.
    pub(super) async fn heal(&mut self, coordinator: usize, fault: ProcessFault) -> Result<()> {
        self.slots[coordinator].heal(fault).await
    }

    /// Lets the round's faults happen; returns when each is healed. `leader` is the index of the coordinator that leads.
    pub(super) async fn suffer(&mut self, faults: &[Planned], leader: usize) -> Result<()> {
        let tasks = Tasks::new();
        let (done, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
        let mut slots: Vec<Option<Slot>> = std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        let mut away = 0;
        for planned in faults {
            let Fault::Process(target, fault) = planned.fault else {
                continue;
            };
            let index = match target {
                Target::Leader => leader,
                Target::Standby => 1 - leader,
                Target::Worker(id) => 2 + id as usize,
            };
            let mut slot = slots[index].take().context("a process suffers one fault at a time")?;
            let (done, planned) = (done.clone(), *planned);
            away += 1;
            drop(tasks.spawn(TaskKind::Expendable, "fault", async move {
                let outcome = slot.suffer(fault, &planned).await;
                // The receiver waits for everybody.
                drop(done.send((index, slot, outcome)));
            }));
        }
        let mut result = Ok(());
        for planned in faults {
            if let Fault::Broker(node, fault) = planned.fault {
                result = self.broker(node, fault, planned).await;
            }
        }
        for _ in 0..away {
            let (index, slot, outcome) = outcomes.recv().await.context("a fault panicked")?;
            slots[index] = Some(slot);
            result = result.and(outcome);
        }
        self.slots = slots.into_iter().flatten().collect();
        result
    }

    async fn broker(&self, index: usize, fault: BrokerFault, planned: &Planned) -> Result<()> {
        tokio::time::sleep(planned.after).await;
        let node = &self.nodes[index];
        match fault {
            BrokerFault::Restart => {
                node.stop().await?;
                tokio::time::sleep(planned.lasts).await;
                node.restart().await
            }
            BrokerFault::Kill => {
                node.kill().await?;
                tokio::time::sleep(planned.lasts).await;
                node.restart().await
            }
            BrokerFault::KillLogLeader => {
                let node = self.log_leader().await?;
                node.kill().await?;
                tokio::time::sleep(planned.lasts).await;
                node.restart().await
            }
            BrokerFault::Freeze => {
                node.freeze().await?;
                tokio::time::sleep(planned.lasts).await;
                node.thaw().await
            }
            BrokerFault::LoseTail => {
                node.kill().await?;
                // Whoever knows what is lost must be heard before anything new is accepted.
                self.clients.hold();
                let chunks = 1 + planned.seed % 30;
                lossy::cut_tail(&node.data(), self.fleet.as_str(), chunks)?;
                node.restart().await
            }
            BrokerFault::LoseAll => {
                node.kill().await?;
                self.clients.hold();
                node.wipe().await?;
                node.restart().await
            }
            BrokerFault::CloseAll => {
                node.control(&["close_all_connections", "chaos"]).await?;
                Ok(())
            }
            BrokerFault::CloseOne => self.close_one(node, planned.seed).await,
            BrokerFault::DiskAlarm => {
                node.disk_alarm(true).await?;
                tokio::time::sleep(planned.lasts).await;
                node.disk_alarm(false).await
            }
            BrokerFault::MemoryAlarm => {
                node.alarm(true).await?;
                tokio::time::sleep(planned.lasts).await;
                node.alarm(false).await
            }
        }
    }

    async fn close_one(&self, node: &Broker, seed: u64) -> Result<()> {
        let listed = node.control(&["list_connections", "pid"]).await?;
        let pids: Vec<&str> = listed.lines().filter(|line| line.starts_with('<')).collect();
        if let Some(pid) = pids.get(usize::try_from(seed)? % pids.len().max(1)) {
            // It may be gone by now.
            drop(node.control(&["close_connection", pid, "chaos"]).await);
        }
        Ok(())
    }

    async fn log_leader(&self) -> Result<&Broker> {
        let listed = self.nodes[0]
            .control(&["list_queues", "name", "leader", "--formatter", "json"])
            .await?;
        let queues: Value = serde_json::from_str(&listed).with_context(|| listed.clone())?;
        let name = format!("{}.state", self.fleet);
        let queues = queues.as_array().context("queues are listed")?;
        let queue = queues.iter().find(|queue| queue["name"] == name.as_str());
        let leader = queue.and_then(|queue| queue["leader"].as_str()).unwrap_or_default();
        let node = self.nodes.iter().find(|node| node.name() == leader);
        node.with_context(|| format!("nobody leads the log: {listed}"))
    }

    /// Asks every process to end, replicas first.
    pub(super) async fn finish(mut self) -> Result<()> {
        drop(self.clients);
        self.slots.reverse();
        for slot in &mut self.slots {
            slot.check_alive()?;
            slot.end().await?;
        }
        ensure!(self.slots.len() == 5, "every process was there");
        Ok(())
    }
}
