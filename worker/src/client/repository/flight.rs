//! One attempt to make a clone, and those who wait for it.

use std::sync::Arc;

use mobu_fleet::runtime::clock::Instant;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::clone::{CloneError, WorkingCopy, make};
use super::{Repository, Workshop};

type Outcome = Result<Arc<WorkingCopy>, Arc<CloneError>>;

/// An attempt, as those see it who wait for it. The last one to leave ends it.
#[derive(Debug)]
pub(super) struct Flight {
    begun: Instant,
    outcome: watch::Receiver<Option<Outcome>>,
    _needed: DropGuard,
}

/// An attempt, as the one sees it who makes it.
#[derive(Debug)]
pub(super) struct Crew {
    begun: Instant,
    outcome: watch::Sender<Option<Outcome>>,
    unneeded: CancellationToken,
}

impl Flight {
    pub(super) fn new(begun: Instant) -> (Arc<Self>, Crew) {
        let (outcome, seen) = watch::channel(None);
        let unneeded = CancellationToken::new();
        let flight = Self {
            begun,
            outcome: seen,
            _needed: unneeded.clone().drop_guard(),
        };
        let crew = Crew {
            begun,
            outcome,
            unneeded,
        };
        (Arc::new(flight), crew)
    }

    /// A moment before git asked the repository for anything.
    pub(super) const fn begun(&self) -> Instant {
        self.begun
    }

    pub(super) fn is_over(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    pub(super) async fn wait(self: Arc<Self>) -> Outcome {
        let mut outcome = self.outcome.clone();
        let ended = outcome.wait_for(Option::is_some).await;
        ended
            .ok()
            .and_then(|outcome| outcome.clone())
            .unwrap_or_else(|| Err(Arc::new(CloneError::Abandoned)))
    }
}

impl Crew {
    /// Makes the clone, once no other one of the repository is in the making, and tells those who wait.
    pub(super) async fn fly(self, workshop: Arc<Workshop>, repository: Repository, turn: Arc<Semaphore>) {
        let turns = async {
            // In this order: who waits for the repository keeps no turn from other ones.
            let own = turn.acquire().await;
            (own, workshop.turns.acquire().await)
        };
        let _turns = tokio::select! {
            biased;
            () = self.unneeded.cancelled() => return,
            turns = turns => turns,
        };
        let made = make(&workshop, &repository, self.begun, self.unneeded.cancelled()).await;
        let outcome = made.map(Arc::new).map_err(Arc::new);
        if let Ok(copy) = &outcome {
            workshop.put(&repository, copy);
        }
        self.outcome.send_replace(Some(outcome));
    }
}
