//! A wish to change the desired state, on its way from whoever asks to the state log and back.

use std::collections::BTreeMap;
use std::time::Duration;

use mobu_fleet::domain::desired::{Change, Command, CommandError};
use mobu_fleet::domain::ids::{InstanceId, RequestId, Revision};
use mobu_fleet::domain::messages::{ReplicaOutcome, Source};
use mobu_fleet::domain::validation::ValidationErrors;
use mobu_fleet::link::{ReplyAddress, RequestDelivery};
use tokio::sync::oneshot;

use super::replicas::ReplicaState;

/// A wish to change the desired state.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What shall change.
    pub command: Command,
    /// Who asks.
    pub by: String,
    /// How they ask.
    pub source: Source,
    /// Names the wish over repetitions: a second one of the same ID changes nothing.
    pub request_id: Option<RequestId>,
    /// Whether the answer shall wait until every replica has applied the change.
    pub wait: bool,
    /// Whether only to say what would happen.
    pub dry_run: bool,
}

/// What became of a wish.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The revision that it made, or the present one if it changed nothing.
    pub revision: Revision,
    /// What it changed; `None` if nothing.
    pub change: Option<Change>,
    /// What each replica that reports has made of it.
    pub replicas: BTreeMap<InstanceId, ReplicaOutcome>,
    /// Where every known replica stands.
    pub states: BTreeMap<InstanceId, ReplicaState>,
}

impl Outcome {
    /// Returns the replicas that have not said yet what they made of the change, those that do not report included.
    pub fn missing(&self) -> Vec<InstanceId> {
        let pending = |id: &InstanceId| {
            self.replicas
                .get(id)
                .is_none_or(|outcome| *outcome == ReplicaOutcome::Pending)
        };
        self.states.keys().filter(|id| pending(id)).cloned().collect()
    }

    /// Returns whether every replica that reports has said what it made of the change, and at least one does.
    pub fn is_settled(&self) -> bool {
        !self.replicas.is_empty()
            && self
                .replicas
                .values()
                .all(|outcome| *outcome != ReplicaOutcome::Pending)
    }
}

/// Why a wish was not carried out, as far as is known.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// This coordinator does not lead now.
    #[error("this coordinator cannot accept changes now: {reason}")]
    NotLeading {
        /// Why, for people.
        reason: String,
    },
    /// The change was sent and nobody knows whether it counts: it may, or may not, become visible later.
    #[error("whether the change was accepted is not known: {reason}")]
    Unknown {
        /// Why, for people.
        reason: String,
    },
    /// It names something that does not exist.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The flock breaks a rule of the fleet.
    #[error(transparent)]
    Rules(#[from] ValidationErrors),
    /// The desired state would grow beyond what a link carries.
    #[error("the desired state would take {size} bytes, more than the {limit} that it may")]
    TooLarge {
        /// How large it would be.
        size: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Too many changes wait already.
    #[error("too many changes wait to be accepted")]
    Overloaded,
}

impl ChangeError {
    /// How long a client should wait before it tries again, if trying again can help.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotLeading { .. } | Self::Unknown { .. } | Self::Overloaded => Some(Duration::from_secs(2)),
            Self::Command(_) | Self::Rules(_) | Self::TooLarge { .. } => None,
        }
    }
}

/// Who wants to know what became of a wish.
#[derive(Debug)]
pub enum Asker {
    /// A caller in this process.
    Caller(oneshot::Sender<Result<Outcome, ChangeError>>),
    /// The sender of a request over the link.
    Request(RequestDelivery),
    /// The sender of a request that was accepted and settled, and who wants to know when it is applied.
    Applied {
        /// Where to.
        reply_to: ReplyAddress,
        /// Of what.
        correlation_id: Option<String>,
    },
    /// Nobody: the coordinator itself.
    Nobody,
}
