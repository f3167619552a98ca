//! A flock on this replica: one task per name, so that a slow one never delays another.

mod actor;
mod lifetime;
mod start;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::ids::{FlockName, Revision};
use mobu_fleet::domain::messages::{FlockPhase, FlockReport};
use mobu_fleet::domain::reconcile::ActualFlock;
use mobu_fleet::domain::users::ReplicaIdentity;
use mobu_fleet::runtime::clock::Instant;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::sync::{Notify, mpsc, watch};

use self::actor::FlockActor;
use crate::client::tokens::Tokens;
use crate::measure::causes::Causes;
use crate::monkey::roster::Roster;
use crate::monkey::{Counts, FlockRun, Surroundings};

/// What a flock shall do.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// Run as this says.
    Run(Arc<DesiredFlock>),
    /// Stop, and end.
    Stop,
}

/// Where a flock stands.
#[derive(Debug, Clone)]
pub(crate) struct Status {
    pub(crate) generation: Revision,
    pub(crate) refresh_generation: Revision,
    pub(crate) phase: FlockPhase,
    pub(crate) business: &'static str,
    pub(crate) start_time: Option<Timestamp>,
    pub(crate) error: Option<String>,
    /// Why its monkeys failed, or why it did not start.
    pub(crate) causes: Arc<Causes>,
    /// Its monkeys, once there are any.
    pub(crate) monkeys: Option<Herd>,
}

/// The monkeys of a run, and what they have in common.
#[derive(Debug, Clone)]
pub(crate) struct Herd {
    pub(crate) run: Arc<FlockRun>,
    pub(crate) roster: Arc<Roster>,
}

impl Status {
    /// Whether the flock has done what it was told.
    pub(crate) fn has_done(&self, told: ActualFlock) -> bool {
        !matches!(self.phase, FlockPhase::Starting | FlockPhase::Stopping)
            && (self.generation, self.refresh_generation) >= (told.generation, told.refresh_generation)
    }

    /// A flock that begins to do what it shall.
    pub(crate) fn starting(desired: &DesiredFlock) -> Self {
        Self {
            generation: desired.generation,
            refresh_generation: desired.refresh_generation,
            phase: FlockPhase::Starting,
            business: desired.config.business.kind().as_str(),
            start_time: None,
            error: None,
            causes: Arc::default(),
            monkeys: None,
        }
    }

    /// Returns it as it is reported, but for its failures, which are not told every time.
    pub(crate) fn report(&self) -> FlockReport {
        let counts = self.monkeys.as_ref().map(|herd| &herd.run.counts);
        FlockReport {
            generation: self.generation,
            refresh_generation: self.refresh_generation,
            phase: self.phase,
            business: self.business.to_owned(),
            monkeys: counts.map(|counts| counts.by_state().collect()).unwrap_or_default(),
            success_count: counts.map_or(0, Counts::success),
            failure_count: counts.map_or(0, Counts::failure),
            start_time: self.start_time,
            error: self.error.clone(),
            failures: None,
        }
    }
}

/// What flocks need of their replica.
#[derive(Debug)]
pub(crate) struct Pasture {
    pub(crate) surroundings: Arc<Surroundings>,
    pub(crate) tokens: Tokens,
    pub(crate) identity: ReplicaIdentity,
    /// How long monkeys may take to stop; shorter while the process ends.
    pub(crate) stop_limit: watch::Receiver<Duration>,
    /// When the coordinator was last heard of.
    pub(crate) contact: watch::Receiver<Instant>,
    /// Told of every change of a phase.
    pub(crate) changed: Arc<Notify>,
    /// Told of flocks that have ended. Unbounded, because there is one message per task, and a task must be able to send it
    /// while it is dropped.
    pub(crate) ended: mpsc::UnboundedSender<FlockName>,
}

/// A running flock, to those who tell it what to do.
#[derive(Debug, Clone)]
pub(crate) struct FlockHandle {
    wish: Arc<watch::Sender<Wish>>,
    status: watch::Receiver<Status>,
}

impl FlockHandle {
    /// Starts a flock.
    pub(crate) fn spawn(desired: &Arc<DesiredFlock>, pasture: Arc<Pasture>, tasks: &Tasks) -> Self {
        let (status_tx, status) = watch::channel(Status::starting(desired));
        let (wish, wish_rx) = watch::channel(Wish::Run(desired.clone()));
        let actor = FlockActor::new(desired, pasture, wish_rx, status_tx);
        // The task is not waited for: it says itself when it has ended, also if it panics.
        drop(tasks.spawn(TaskKind::Expendable, "flock", actor.run()));
        Self {
            wish: Arc::new(wish),
            status,
        }
    }

    /// Tells it what to do; only the last wish counts.
    pub(crate) fn wish(&self, wish: Wish) {
        self.wish.send_replace(wish);
    }

    /// Returns where it stands.
    pub(crate) fn status(&self) -> Status {
        self.status.borrow().clone()
    }
}
