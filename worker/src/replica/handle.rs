//! The public face of a running worker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use mobu_fleet::domain::ids::{FlockName, InstanceId, SessionId};
use mobu_fleet::domain::messages::{FlockReport, ProcessFigures, ReplicaPhase, Standing};
use mobu_fleet::domain::monkey::MonkeyData;
use tokio::sync::watch;

use crate::flock::{FlockHandle, Status};

/// How the connection to the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkStatus {
    /// There is none, for this reason.
    Closed(String),
    /// Everything flows.
    Open,
    /// The broker holds back, for this reason.
    Blocked(String),
}

/// Where a worker stands.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerStatus {
    /// As in its reports.
    pub phase: ReplicaPhase,
    /// Its connection.
    pub link: LinkStatus,
    /// The newest state that it acts on.
    pub standing: Option<Standing>,
    /// Whether another process holds its instance ID.
    pub is_name_taken: bool,
    /// Reports and answers that were dropped because too many waited.
    pub dropped_messages: u64,
    /// Messages and entries that could not be read.
    pub undecodable_messages: u64,

    /// Why it gave up, if it did.
    pub failure: Option<String>,
    /// What its process used as of the last report; changes of it alone wake nobody.
    pub process: ProcessFigures,
}

impl Default for WorkerStatus {
    fn default() -> Self {
        Self {
            phase: ReplicaPhase::Starting,
            link: LinkStatus::Closed("not connected yet".to_owned()),
            standing: None,
            is_name_taken: false,
            dropped_messages: 0,
            undecodable_messages: 0,
            failure: None,
            process: ProcessFigures::default(),
        }
    }
}

impl WorkerStatus {
    /// Returns why the worker is not ready; `Ok` if it is.
    ///
    /// # Errors
    ///
    /// The reason, for people.
    pub fn ready(&self) -> Result<(), String> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.is_name_taken {
            return Err("the instance ID is in use by another process".to_owned());
        }
        match (self.phase, &self.link) {
            (ReplicaPhase::Draining, _) => Err("draining".to_owned()),
            (_, LinkStatus::Closed(reason)) => Err(format!("not connected: {reason}")),
            (_, LinkStatus::Blocked(reason)) => Err(format!("blocked by broker: {reason}")),
            (ReplicaPhase::Starting, LinkStatus::Open) => Err("reading the state log".to_owned()),
            (ReplicaPhase::Running, LinkStatus::Open) => Ok(()),
        }
    }
}

/// The flocks of a replica, for all who look at them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flocks {
    /// Guards the map alone; held for a look or an insertion, never over an await.
    map: Arc<Mutex<BTreeMap<FlockName, FlockHandle>>>,
}

impl Flocks {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<FlockName, FlockHandle>> {
        self.map.lock().expect("no code panics while it holds the flocks")
    }

    pub(crate) fn status(&self, name: &FlockName) -> Option<Status> {
        self.lock().get(name).map(FlockHandle::status)
    }

    pub(crate) fn statuses(&self) -> BTreeMap<FlockName, Status> {
        self.lock()
            .iter()
            .map(|(name, flock)| (name.clone(), flock.status()))
            .collect()
    }

    pub(crate) fn reports(&self) -> BTreeMap<FlockName, FlockReport> {
        let report = |(name, status): (FlockName, Status)| {
            let failures = (status.causes.total() > 0).then(|| status.causes.read());
            let report = FlockReport {
                failures,
                ..status.report()
            };
            (name, report)
        };
        self.statuses().into_iter().map(report).collect()
    }
}

/// A running worker. Cheap to clone; dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct WorkerHandle {
    pub(crate) instance_id: InstanceId,
    pub(crate) session: SessionId,
    pub(crate) status: watch::Receiver<WorkerStatus>,
    pub(crate) flocks: Flocks,
    pub(crate) admin: Option<SocketAddr>,
}

impl WorkerHandle {
    /// The replica's name for life.
    pub fn instance_id(&self) -> &InstanceId {
        &self.instance_id
    }

    /// The name of this run of its process.
    pub fn session(&self) -> &SessionId {
        &self.session
    }

    /// Where health and metrics are served, if they are.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Follows where the worker stands.
    pub fn status(&self) -> watch::Receiver<WorkerStatus> {
        self.status.clone()
    }

    /// Returns what it runs, as it would report it now.
    pub fn flocks(&self) -> BTreeMap<FlockName, FlockReport> {
        self.flocks.reports()
    }

    /// Returns the monkeys of a flock, in the order of their users; none if it does not run the flock.
    pub fn monkeys(&self, flock: &FlockName) -> Vec<MonkeyData> {
        let herd = self.flocks.status(flock).and_then(|status| status.monkeys);
        herd.map(|herd| herd.roster.monkeys().iter().map(|monkey| monkey.data()).collect())
            .unwrap_or_default()
    }
}
