//! How a monkey learns that it shall stop, and how long it pauses otherwise.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use mobu_fleet::runtime::clock;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::measure::lateness::LatenessGauge;

/// The wish that one monkey stops: one bit, and whom to wake. Small, because every monkey has one.
#[derive(Debug, Default)]
pub(crate) struct StopSignal {
    is_set: AtomicBool,
    /// Guards the waker of the first task that waited, nearly always the monkey's own; held for a look or a change, never over an
    /// await. It stays there from pause to pause, so that a pause need not queue up in `told` and leave again.
    sleeper: Mutex<Option<Waker>>,
    /// Whoever else waits.
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
        let sleeper = self.lock().take();
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
        self.told.notify_waiters();
        is_first
    }

    /// Keeps a waker, if it keeps none yet. Returns whether it is this one that it keeps.
    fn keeps(&self, waker: &Waker) -> bool {
        self.lock().get_or_insert_with(|| waker.clone()).will_wake(waker)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Waker>> {
        self.sleeper.lock().expect("no code panics while it holds the sleeper")
    }

    pub(crate) fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Waits until the stop is asked for.
    pub(crate) async fn wait(&self) {
        let mut waiting = Waiting::on(self);
        poll_fn(|context| waiting.poll(context)).await;
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
        if self.unless_set(tokio::time::sleep_until(due)).await.is_err() {
            return Pause::Stopped;
        }
        gauge.record(clock::now().saturating_duration_since(due));
        Pause::Elapsed
    }

    /// Waits for `future`, and drops it at the stop.
    pub(crate) async fn unless_set<T>(&self, future: impl Future<Output = T>) -> Result<T, Stopped> {
        let mut future = pin!(future);
        let mut waiting = Waiting::on(self);
        poll_fn(|context| match waiting.poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Stopped)),
            Poll::Pending => future.as_mut().poll(context).map(Ok),
        })
        .await
    }
}

/// Somebody who waits for the stop.
struct Waiting<'a> {
    signal: &'a StopSignal,
    /// Its place among the others, if it is not the one whose waker the signal keeps.
    told: Option<Pin<Box<Notified<'a>>>>,
}

impl<'a> Waiting<'a> {
    const fn on(signal: &'a StopSignal) -> Self {
        Self { signal, told: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let signal = self.signal;
        if signal.is_set() {
            return Poll::Ready(());
        }
        if self.told.is_none() {
            if signal.keeps(context.waker()) {
                // Asked for since the look above, it would have found no waker to wake.
                return if signal.is_set() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                };
            }
            self.told = Some(Box::pin(signal.told.notified()));
            // Asked for from here on, the notification is kept: `notified` counts from when it was made.
            if signal.is_set() {
                return Poll::Ready(());
            }
        }
        let told = self.told.as_mut().map(|told| told.as_mut().poll(context));
        told.unwrap_or(Poll::Pending)
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
    async fn a_stop_reaches_everybody_who_waits_in_whatever_task() {
        let signal = std::sync::Arc::new(StopSignal::default());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let signal = signal.clone();
            tasks.spawn(async move {
                let never = signal.unless_set(std::future::pending::<()>());
                tokio::join!(signal.wait(), never).1
            });
        }
        // All of them wait by the time that a timer fires on paused time.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(tasks.try_join_next().is_none());
        assert!(signal.set());
        assert_eq!(tasks.join_all().await, [Err(Stopped); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_undisturbed_pause_takes_its_time() {
        let (signal, gauge) = (StopSignal::default(), LatenessGauge::default());
        assert_eq!(signal.pause(Duration::from_secs(5), &gauge).await, Pause::Elapsed);
        assert_eq!(signal.pause(Duration::ZERO, &gauge).await, Pause::Elapsed);
    }
}
