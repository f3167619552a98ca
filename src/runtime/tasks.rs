//! The only place that starts tasks.

use std::future::Future;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span, warn};

/// What the end of a task means to its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskKind {
    /// The process cannot do its work without it: any end of it drains the process.
    Vital,
    /// It may end whenever it likes; a panic is logged.
    Expendable,
}

/// The tasks of a process, or of one part of it: named, counted, drained together.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    drain: CancellationToken,
    abort: CancellationToken,
    #[cfg(feature = "simulation")]
    freezer: crate::simulation::Freezer,
}

impl Tasks {
    /// Makes an empty set whose drain and abort tokens are fresh.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that asks every task to finish what it does and end.
    pub fn drain_token(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// The token after which nothing is worth finishing.
    pub fn abort_token(&self) -> CancellationToken {
        self.abort.clone()
    }

    /// Starts a task in a span of its name. It is dropped at its next await once the abort token is cancelled.
    pub fn spawn(
        &self,
        kind: TaskKind,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> tokio::task::JoinHandle<()> {
        let abort = self.abort.clone();
        let ending = Ending {
            kind,
            name,
            drain: self.drain.clone(),
            done: false,
        };
        let task = async move {
            let mut ending = ending;
            tokio::select! {
                // First, so that a process that was killed does nothing more.
                biased;
                () = abort.cancelled() => {}
                () = future => {}
            }
            ending.done = true;
        };
        #[cfg(feature = "simulation")]
        let task = self.freezer.hold(task);
        self.tracker
            .spawn(task.instrument(info_span!("task", task.name = name)))
    }

    /// What stops and resumes every task of this process, as SIGSTOP and SIGCONT would.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn freezer(&self) -> &crate::simulation::Freezer {
        &self.freezer
    }

    /// Returns how many tasks run.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until every task has ended; only ends if no further task is started.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Notices the end of a task, a panic included, because it is dropped with it.
struct Ending {
    kind: TaskKind,
    name: &'static str,
    drain: CancellationToken,
    done: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        if !self.done && std::thread::panicking() {
            error!(task.name = self.name, "task `{}` panicked", self.name);
        }
        if self.kind == TaskKind::Vital && !self.drain.is_cancelled() {
            warn!(
                task.name = self.name,
                "vital task `{}` ended: the process drains", self.name
            );
            self.drain.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_panic_of_a_vital_task_drains_the_process() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Expendable, "harmless", async {});
        tasks.spawn(TaskKind::Vital, "heart", async { panic!("on purpose") });
        tasks.drain_token().cancelled().await;
        tasks.wait().await;
        assert_eq!(tasks.running(), 0);
    }

    #[tokio::test]
    async fn abort_ends_a_task_that_waits_for_ever() {
        let tasks = Tasks::new();
        tasks.spawn(TaskKind::Expendable, "stuck", std::future::pending());
        tasks.abort_token().cancel();
        tasks.wait().await;
        assert!(!tasks.drain_token().is_cancelled());
    }
}
