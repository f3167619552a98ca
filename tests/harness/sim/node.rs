//! One process of a simulated fleet.

use std::sync::Arc;
use std::time::Duration;

use mobu_coordinator::Fleet;
use mobu_coordinator::fleet::actor;
use mobu_coordinator::fleet::reign::ReignRules;
use mobu_coordinator::fleet::state::FleetRules;
use mobu_fleet::domain::ids::{FlockName, MonkeyName, SessionId};
use mobu_fleet::domain::messages::FlockReport;
use mobu_fleet::domain::monkey::MonkeyState;
use mobu_fleet::link::Link;
use mobu_fleet::runtime::clock::{Instant, now};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::{LinkStatus, Worker, WorkerConfig, WorkerHandle};

use super::script::Role;

/// A process, from its start to its end.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) role: Role,
    /// What the names of its sessions begin with.
    pub(super) name: String,
    pub(super) tasks: Tasks,
    pub(super) fleet: Option<Fleet>,
    pub(super) worker: Option<WorkerHandle>,
    /// Whether it was asked to end, and since when.
    pub(super) ending: Option<Instant>,
    /// Since when another process has its name and it has been able to do something about that.
    pub(super) nameless: Option<Instant>,
    /// Since when it has been awake without a connection.
    pub(super) alone: Option<Instant>,
    /// Since when it has been without a connection, or frozen.
    pub(super) speechless: Option<Instant>,
}

impl Node {
    /// Starts it, in a fleet that it takes for one of `size` replicas.
    pub(super) fn start(role: Role, size: usize, life: usize, seed: u64, link: Arc<dyn Link>) -> Self {
        let size = u32::try_from(size).expect("a few");
        match role {
            Role::Coordinator(number) => Self::coordinator(number, size, life, seed, link),
            Role::Replica(number) => Self::replica(number, size, seed, link),
        }
    }

    fn coordinator(number: usize, size: u32, life: usize, seed: u64, link: Arc<dyn Link>) -> Self {
        let tasks = Tasks::new();
        let session = format!("c{number}-{life}");
        let rules = FleetRules {
            fleet: "simulated".parse().expect("a right name"),
            session: SessionId::new(session.clone()),
            version: "0".to_owned(),
            reign: ReignRules {
                replica_count: size,
                ..ReignRules::default()
            },
            report_interval: Duration::from_secs(1),
            announce_interval: Duration::from_secs(2),
            apply_timeout: Duration::from_secs(30),
            autostart: None,
        };
        let fleet = actor::start(rules, link, &tasks, fastrand::Rng::with_seed(seed));
        Self {
            role: Role::Coordinator(number),
            name: format!("coordinator {session}"),
            tasks,
            fleet: Some(fleet),
            worker: None,
            ending: None,
            nameless: None,
            alone: None,
            speechless: None,
        }
    }

    fn replica(number: usize, size: u32, seed: u64, link: Arc<dyn Link>) -> Self {
        let tasks = Tasks::new();
        let mut config = WorkerConfig {
            seed,
            ..WorkerConfig::for_tests(&number.to_string(), size)
        };
        config.monkey_logs.to_file = false;
        let worker = Worker::build(config, link).expect("it needs nothing of this machine");
        let handle = worker.spawn(&tasks);
        Self {
            role: Role::Replica(number),
            name: format!("worker {number} {}", handle.session()),
            tasks,
            fleet: None,
            worker: Some(handle),
            ending: None,
            nameless: None,
            alone: None,
            speechless: None,
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        self.tasks.freezer().is_frozen()
    }

    /// Kills it, as SIGKILL does: it does not get to say another word.
    pub(super) fn kill(&mut self) {
        self.ending.get_or_insert_with(now);
        self.tasks.abort_token().cancel();
        self.tasks.freezer().thaw();
    }

    pub(super) fn stop(&mut self) {
        self.ending.get_or_insert_with(now);
        self.tasks.drain_token().cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.tasks.running() == 0
    }

    /// Notes whether it can hear of the fleet, and the fleet of it.
    pub(super) fn look(&mut self) {
        let Some(worker) = &self.worker else { return };
        let since = |is_so: bool, before: Option<Instant>| is_so.then(|| before.unwrap_or_else(now));
        let is_open = worker.status().borrow().link == LinkStatus::Open;
        self.alone = since(!is_open && !self.is_frozen(), self.alone);
        self.speechless = since(!is_open || self.is_frozen(), self.speechless);
    }

    /// How many of its users are at work now.
    pub(super) fn monkeys(&self) -> u64 {
        let Some(worker) = &self.worker else { return 0 };
        let at_work = |report: &FlockReport| -> u64 {
            let states = report.monkeys.iter();
            states
                .filter(|(state, _)| is_at_work(**state))
                .map(|(_, count)| count)
                .sum()
        };
        worker.flocks().values().map(at_work).sum()
    }

    /// Who of its users in a flock is at work now.
    pub(super) fn users(&self, flock: &FlockName) -> Vec<MonkeyName> {
        let monkeys = self.worker.iter().flat_map(|worker| worker.monkeys(flock));
        let at_work = monkeys.filter(|monkey| is_at_work(monkey.state));
        at_work.map(|monkey| monkey.name).collect()
    }
}

fn is_at_work(state: MonkeyState) -> bool {
    matches!(state, MonkeyState::Running | MonkeyState::Error)
}
