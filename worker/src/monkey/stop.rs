//! How a monkey learns that it shall stop, and how long it pauses otherwise.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mobu_fleet::runtime::clock;
use tokio::sync::Notify;

use crate::measure::lateness::LatenessGauge;

/// The wish that one monkey stops: one bit, and whom to wake. Small, because every monkey has one.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    is_set: AtomicBool,
    told: Notify,
}

/// How a pause ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// It took its time.
    Elapsed,
    /// The monkey shall stop.
    Stopped,
}

impl Pause {
    /// Returns an error if the monkey shall stop.
    pub(crate) const fn unless_stopped(self) -> Result<(), Stopped> {
        match self {
            Self::Elapsed => Ok(()),
            Self::Stopped => Err(Stopped),
        }
    }
}

/// The monkey was told to stop while it waited for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the monkey was told to stop")]
pub(crate) struct Stopped;

impl StopSignal {
    /// Asks for the stop, once and for all. Returns whether nobody had before.
    pub(crate) fn set(&self) -> bool {
        let is_first = !self.is_set.swap(true, Ordering::SeqCst);
        self.told.notify_waiters();
        is_first
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Waits until the stop is asked for.
    pub(crate) async fn wait(&self) {
        let told = self.told.notified();
        // Asked for between the two lines, the notification is kept: `notified` counts from when it was made.
        if !self.is_set() {
            told.await;
        }
    }

    /// Waits for a while, or until the stop. No time at all only looks; afterwards every pause ends at once.
    ///
    /// Whoever was not stopped tells `gauge` how late it woke.
    pub(crate) async fn pause(&self, interval: Duration, gauge: &LatenessGauge) -> Pause {
        if self.is_set() {
            return Pause::Stopped;
        }
        if interval.is_zero() {
            // A monkey without pauses must not keep its thread from the others.
            tokio::task::yield_now().await;
            return if self.is_set() { Pause::Stopped } else { Pause::Elapsed };
        }
        let Some(due) = clock::now().checked_add(interval) else {
            // Centuries.
            self.wait().await;
            return Pause::Stopped;
        };
        tokio::select! {
            biased;
            () = self.wait() => Pause::Stopped,
            () = tokio::time::sleep_until(due) => {
                gauge.record(clock::now().saturating_duration_since(due));
                Pause::Elapsed
            }
        }
    }

    /// Waits for `future`, and drops it at the stop.
    pub(crate) async fn unless_set<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        tokio::select! {
            biased;
            () = self.wait() => Err(Stopped),
            done = future => Ok(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause_and_every_later_one() {
        let (signal, gauge) = (StopSignal::default(), LatenessGauge::default());
        let begun = tokio::time::Instant::now();
        let (pause, ()) = tokio::join!(signal.pause(Duration::from_secs(60), &gauge), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(signal.set());
            assert!(!signal.set());
        });
        assert_eq!(pause, Pause::Stopped);
        assert_eq!(signal.pause(Duration::from_secs(60), &gauge).await, Pause::Stopped);
        assert_eq!(signal.pause(Duration::ZERO, &gauge).await, Pause::Stopped);
        assert_eq!(signal.unless_set(std::future::pending::<()>()).await, Err(Stopped));
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_undisturbed_pause_takes_its_time() {
        let (signal, gauge) = (StopSignal::default(), LatenessGauge::default());
        assert_eq!(signal.pause(Duration::from_secs(5), &gauge).await, Pause::Elapsed);
        assert_eq!(signal.pause(Duration::ZERO, &gauge).await, Pause::Elapsed);
    }
}
