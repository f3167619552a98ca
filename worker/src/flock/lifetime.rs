//! How long a flock may run: its `duration`, and its `lease`.

use std::time::Duration;

use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::runtime::clock::{self, Instant};
use mobu_fleet::simulation::{Bug, has};
use tokio::sync::watch;

/// When a flock ends by itself.
#[derive(Debug)]
pub(super) struct Lifetime {
    /// When its duration is over, and the text that says so.
    over: Option<(Instant, String)>,
    lease: Option<(Duration, String)>,
    contact: watch::Receiver<Instant>,
}

impl Lifetime {
    pub(super) fn of(desired: &DesiredFlock, contact: watch::Receiver<Instant>) -> Self {
        let over = desired.config.duration.map(|duration| {
            let (whole, now) = (duration.to_std(), clock::wall());
            // The clocks of coordinator and replica may differ: it never runs longer than it should.
            let run = Duration::try_from(now.duration_since(desired.since)).unwrap_or_default();
            let text = format!("ran for its duration of {duration}");
            // A duration of centuries is none.
            let end = clock::now().checked_add(whole.saturating_sub(run));
            end.map(|end| (end, text))
        });
        let lease = desired.config.lease.filter(|_| !has(Bug::IgnoreLease)).map(|lease| {
            let text = format!("stopped because the coordinator was not heard of for its lease of {lease}");
            (lease.to_std(), text)
        });
        Self {
            over: over.flatten(),
            lease,
            contact,
        }
    }

    /// Waits until the flock must end, and says why.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn over(&mut self) -> String {
        loop {
            let last = *self.contact.borrow_and_update();
            let lease_end = self.lease.as_ref().and_then(|(lease, _)| last.checked_add(*lease));
            tokio::select! {
                biased;
                () = clock::until(self.over.as_ref().map(|(end, _)| *end)) => {
                    return self.over.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
                }
                Ok(()) = self.contact.changed(), if lease_end.is_some() => {}
                () = clock::until(lease_end) => {
                    return self.lease.as_ref().map(|(_, text)| text.clone()).unwrap_or_default();
                }
            }
        }
    }
}
