//! One process of a simulated fleet.

use std::sync::Arc;
use std::time::Duration;

use mobu_coordinator::Fleet;
use mobu_coordinator::fleet::actor;
use mobu_coordinator::fleet::reign::ReignRules;
use mobu_coordinator::fleet::state::FleetRules;
use mobu_fleet::domain::ids::SessionId;
use mobu_fleet::link::Link;
use mobu_fleet::runtime::clock::{Instant, now};
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::{Worker, WorkerConfig, WorkerHandle};

use super::script::{REPLICAS, Role};

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
}

impl Node {
    pub(super) fn start(role: Role, life: usize, seed: u64, link: Arc<dyn Link>) -> Self {
        match role {
            Role::Coordinator(number) => Self::coordinator(number, life, seed, link),
            Role::Replica(number) => Self::replica(number, life, seed, link),
        }
    }

    fn coordinator(number: usize, life: usize, seed: u64, link: Arc<dyn Link>) -> Self {
        let tasks = Tasks::new();
        let session = format!("c{number}-{life}");
        let rules = FleetRules {
            fleet: "simulated".parse().expect("a right name"),
            session: SessionId::new(session.clone()),
            version: "0".to_owned(),
            reign: ReignRules {
                replica_count: u32::try_from(REPLICAS).expect("a few"),
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
        }
    }

    fn replica(number: usize, _life: usize, seed: u64, link: Arc<dyn Link>) -> Self {
        let tasks = Tasks::new();
        let mut config = WorkerConfig {
            seed,
            ..WorkerConfig::for_tests(&number.to_string(), u32::try_from(REPLICAS).expect("a few"))
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

    /// How many of its users are at work now.
    pub(super) fn monkeys(&self) -> u64 {
        let Some(worker) = &self.worker else { return 0 };
        let at_work = |report: &mobu_fleet::domain::messages::FlockReport| -> u64 {
            let states = report.monkeys.iter();
            let is_at_work = |state: &mobu_fleet::domain::monkey::MonkeyState| {
                use mobu_fleet::domain::monkey::MonkeyState::{Error, Running};
                matches!(state, Running | Error)
            };
            states
                .filter(|(state, _)| is_at_work(state))
                .map(|(_, count)| count)
                .sum()
        };
        worker.flocks().values().map(at_work).sum()
    }
}
