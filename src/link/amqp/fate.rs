//! How a session is doing, and the one way in which it ends.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::link::{LinkError, SessionHealth};

/// Shared by all parts of a session: whoever meets a fault ends it for all.
#[derive(Debug, Clone)]
pub(super) struct Fate {
    health: Arc<watch::Sender<SessionHealth>>,
    ended: CancellationToken,
}

impl Fate {
    pub(super) fn new() -> Self {
        Self {
            health: Arc::new(watch::Sender::new(SessionHealth::Open)),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<SessionHealth> {
        self.health.subscribe()
    }

    /// Ends the session, unless it has ended: the first reason is the one that counts.
    pub(super) fn end(&self, reason: impl Into<String>) {
        self.change(SessionHealth::Closed { reason: reason.into() });
        self.ended.cancel();
    }

    pub(super) fn block(&self, reason: String) {
        self.change(SessionHealth::Blocked { reason });
    }

    pub(super) fn unblock(&self) {
        self.change(SessionHealth::Open);
    }

    fn change(&self, to: SessionHealth) {
        self.health.send_if_modified(|health| {
            let changes = !matches!(health, SessionHealth::Closed { .. }) && *health != to;
            if changes {
                *health = to;
            }
            changes
        });
    }

    /// Whether the broker holds back publishers now.
    pub(super) fn is_blocked(&self) -> bool {
        matches!(*self.health.borrow(), SessionHealth::Blocked { .. })
    }

    /// Waits until the session has ended.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The same, for who keeps waiting.
    pub(super) async fn into_ended(self) {
        self.ended.cancelled_owned().await;
    }

    /// Waits until the broker does not hold back publishers, or the session has ended.
    pub(super) async fn unblocked(&self) {
        let mut health = self.subscribe();
        // The sender lives in `self`, so the wait cannot fail.
        drop(
            health
                .wait_for(|health| !matches!(health, SessionHealth::Blocked { .. }))
                .await,
        );
    }

    /// The error for whoever asks something of a session that has ended.
    pub(super) fn check(&self) -> Result<(), LinkError> {
        match &*self.health.borrow() {
            SessionHealth::Closed { reason } => Err(LinkError::Closed { reason: reason.clone() }),
            SessionHealth::Open | SessionHealth::Blocked { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_ends_once_and_keeps_its_first_reason() {
        let fate = Fate::new();
        fate.block("low on memory".to_owned());
        assert!(fate.is_blocked());
        fate.end("reset");
        fate.end("a consequence");
        fate.unblock();
        fate.ended().await;
        assert_eq!(
            fate.check().unwrap_err().to_string(),
            "the session with the broker ended: reset"
        );
    }
}
