//! What the simulation in `tests/` needs of the product's own code, and nobody else: bugs planted on demand, to show that it
//! finds them, and processes that freeze. Without the feature `simulation` none of it exists in a program.

#[cfg(feature = "simulation")]
use std::cell::Cell;
#[cfg(feature = "simulation")]
use std::sync::{Arc, Mutex};
#[cfg(feature = "simulation")]
use std::task::{Poll, Waker};

/// A bug that can be planted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// An entry counts by its epoch alone.
    FoldWithoutOwner,
    /// A change is answered once the broker has confirmed it.
    AnswerOnConfirm,
    /// A replica acts on every entry while it still catches up.
    ActBeforeCaughtUp,
    /// A replica acts on any state that differs from its own.
    ApplyOlderRevision,
    /// A new leader takes the log's word for everything.
    BelieveEmptyLog,
    /// Entries do not carry the requests that led to them.
    ForgetRequestIds,
    /// A flock that starts is told of the refreshes before its start.
    AdoptNoRefreshGeneration,
    /// A new leader does not write what it knows under its own epoch.
    LeadWithoutRewriting,
    /// A replica whose name is another's goes on.
    KeepRunningWithoutName,
    /// A replica whose name is taken by somebody who does not answer takes a spare, without proof that nobody can answer.
    TakeSpareOnSilence,
    /// Nobody notices that a log lost entries which it has outgrown since.
    ForgetTheLine,
    /// Users are dealt out anew before everybody has given them up.
    DealAtOnce,
    /// A replica that hears of nobody runs a flock on beyond its lease.
    IgnoreLease,
}

impl Bug {
    /// Every one.
    pub const ALL: [Self; 13] = [
        Self::FoldWithoutOwner,
        Self::AnswerOnConfirm,
        Self::ActBeforeCaughtUp,
        Self::ApplyOlderRevision,
        Self::BelieveEmptyLog,
        Self::ForgetRequestIds,
        Self::AdoptNoRefreshGeneration,
        Self::LeadWithoutRewriting,
        Self::KeepRunningWithoutName,
        Self::TakeSpareOnSilence,
        Self::ForgetTheLine,
        Self::DealAtOnce,
        Self::IgnoreLease,
    ];
}

#[cfg(feature = "simulation")]
thread_local! {
    /// A simulation runs on one thread, so that several can run side by side.
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug for all that runs on this thread.
#[cfg(feature = "simulation")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether a bug is planted; never without the feature.
#[inline]
pub fn has(bug: Bug) -> bool {
    #[cfg(feature = "simulation")]
    return PLANTED.get() == Some(bug);
    #[cfg(not(feature = "simulation"))]
    {
        let _ = bug;
        false
    }
}

/// Stops and resumes the tasks of one process.
#[cfg(feature = "simulation")]
#[derive(Debug, Clone, Default)]
pub struct Freezer {
    /// While frozen, the tasks that want to go on. Guards leaf data; never held over an await.
    frozen: Arc<Mutex<Option<Vec<Waker>>>>,
}

#[cfg(feature = "simulation")]
impl Freezer {
    /// Stops every task where it stands.
    pub fn freeze(&self) {
        self.lock().get_or_insert_default();
    }

    /// Lets every task go on.
    pub fn thaw(&self) {
        let waiting = self.lock().take();
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether tasks are stopped now.
    pub fn is_frozen(&self) -> bool {
        self.lock().is_some()
    }

    /// Makes a task one that can be stopped.
    pub fn hold<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        let freezer = self.clone();
        async move {
            let mut task = std::pin::pin!(task);
            std::future::poll_fn(|context| {
                if let Some(waiting) = &mut *freezer.lock() {
                    waiting.push(context.waker().clone());
                    return Poll::Pending;
                }
                task.as_mut().poll(context)
            })
            .await
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Waker>>> {
        self.frozen.lock().expect("no code panics while it holds the freezer")
    }
}
