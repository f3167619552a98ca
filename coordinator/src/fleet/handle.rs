//! The public face of the coordinator's actor: what the HTTP API and `mobu local` call.

use std::collections::BTreeSet;
use std::time::Duration;

use mobu_fleet::domain::ids::InstanceId;
use mobu_fleet::domain::messages::Ask;
use tokio::sync::{mpsc, oneshot, watch};

use super::change::{Asker, ChangeError, Outcome, Wish};
use super::gather::Gathered;
use super::state::Status;

/// How many calls may wait for the actor. It answers from memory, so a full queue means that it is stuck or
/// flooded; callers then wait in turn, and HTTP's own limits apply.
pub(super) const CALLS: usize = 256;

/// A call to the actor.
#[derive(Debug)]
pub(super) enum Call {
    Status(oneshot::Sender<Box<Status>>),
    Wish(Box<Wish>, Asker),
    Gather {
        ask: Ask,
        from: From,
        timeout: Duration,
        done: oneshot::Sender<Gathered>,
    },
}

/// Whom a question is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// Every replica that reports.
    All,
    /// One replica.
    One(InstanceId),
}

/// The coordinator is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator is shutting down")]
pub struct Gone;

/// A cheap handle on the coordinator's actor.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(super) calls: mpsc::Sender<Call>,
    pub(super) changed: watch::Receiver<u64>,
}

impl Fleet {
    /// Returns everything that is known now.
    ///
    /// # Errors
    ///
    /// [`Gone`] while the process ends.
    pub async fn status(&self) -> Result<Box<Status>, Gone> {
        let (done, status) = oneshot::channel();
        self.calls.send(Call::Status(done)).await.map_err(|_| Gone)?;
        status.await.map_err(|_| Gone)
    }

    /// Makes a wish and waits for what became of it: as long as the operation takes, and with [`Wish::wait`] until every
    /// replica that reports has applied it, at most for the apply timeout.
    ///
    /// # Errors
    ///
    /// [`ChangeError`]. If the caller gives up before, the change may be carried out all the same.
    pub async fn change(&self, wish: Wish) -> Result<Outcome, ChangeError> {
        let gone = || ChangeError::NotLeading {
            reason: Gone.to_string(),
        };
        let (done, outcome) = oneshot::channel();
        self.calls
            .send(Call::Wish(Box::new(wish), Asker::Caller(done)))
            .await
            .map_err(|_| gone())?;
        outcome.await.unwrap_or_else(|_| {
            Err(ChangeError::Unknown {
                reason: Gone.to_string(),
            })
        })
    }

    /// Asks replicas something and waits until all have answered, or `timeout` has passed.
    ///
    /// # Errors
    ///
    /// [`Gone`] while the process ends.
    pub async fn gather(&self, ask: Ask, from: From, timeout: Duration) -> Result<Gathered, Gone> {
        let (done, gathered) = oneshot::channel();
        self.calls
            .send(Call::Gather {
                ask,
                from,
                timeout,
                done,
            })
            .await
            .map_err(|_| Gone)?;
        gathered.await.map_err(|_| Gone)
    }

    /// Follows a number that grows whenever something changed that an event stream would tell: a revision, a replica's
    /// state, leadership.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }
}

/// Returns the instance IDs that a question is for, out of those that can be asked.
pub(super) fn chosen(from: From, alive: BTreeSet<InstanceId>) -> BTreeSet<InstanceId> {
    match from {
        From::All => alive,
        From::One(id) => BTreeSet::from([id]),
    }
}
