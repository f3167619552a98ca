//! The monkeys of one run of a flock: found by name, started in order, stopped together.

use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::ids::{FlockName, MonkeyName};
use mobu_fleet::runtime::clock;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::{Monkey, state_name};
use crate::business::{Phase, registry};

/// How long abandoned tasks may take to come to where they can be dropped.
const ABORT: Duration = Duration::from_secs(1);
/// How many names of monkeys a log line lists at most.
const NAMED: usize = 20;

/// All monkeys of a run, in the order of their users. Read by whoever asks about them.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    monkeys: Vec<Arc<Monkey>>,
    /// Positions in `monkeys`, by name.
    by_name: Vec<u32>,
}

impl Roster {
    pub(crate) fn new(monkeys: Vec<Arc<Monkey>>) -> Self {
        let count = u32::try_from(monkeys.len()).expect("a flock has at most a million monkeys");
        let mut by_name: Vec<u32> = (0..count).collect();
        by_name.sort_unstable_by(|a, b| monkeys[*a as usize].name().cmp(monkeys[*b as usize].name()));
        Self { monkeys, by_name }
    }

    pub(crate) fn monkeys(&self) -> &[Arc<Monkey>] {
        &self.monkeys
    }

    pub(crate) fn find(&self, name: &MonkeyName) -> Option<&Arc<Monkey>> {
        let found = self
            .by_name
            .binary_search_by(|at| self.monkeys[*at as usize].name().cmp(name));
        found.ok().map(|at| &self.monkeys[self.by_name[at] as usize])
    }

    pub(crate) fn refresh(&self) {
        // One moment for all, so that one clone will do for all of them.
        let now = clock::now();
        self.monkeys.iter().for_each(|monkey| monkey.refresh(now));
    }
}

/// The tasks of a run's monkeys. Dropped, it ends them all at their next await.
#[derive(Debug, Default)]
pub(crate) struct Lives {
    pub(super) tasks: JoinSet<()>,
}

impl Lives {
    /// Starts a monkey.
    pub(crate) fn start(&mut self, monkey: &Arc<Monkey>) {
        registry::start(monkey, &mut self.tasks);
    }

    /// Takes note of monkeys that end by themselves; never returns.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn watch(&mut self) -> std::convert::Infallible {
        loop {
            match self.tasks.join_next().await {
                Some(ended) => note(ended),
                None => std::future::pending().await,
            }
        }
    }

    /// Stops every monkey, all at once; those that still run after `limit` are dropped where they stand, and named.
    pub(crate) async fn stop(&mut self, flock: &FlockName, roster: &Roster, limit: Duration) {
        for (number, monkey) in roster.monkeys.iter().enumerate() {
            monkey.stop();
            if number % 1024 == 1023 {
                tokio::task::yield_now().await;
            }
        }
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                note(ended);
            }
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            let left: Vec<_> = roster.monkeys.iter().filter(|monkey| !monkey.has_ended()).collect();
            let names: Vec<_> = left.iter().take(NAMED).map(|monkey| described(monkey)).collect();
            warn!(
                flock.name = %flock,
                "{} monkeys of flock `{flock}` still run {limit:?} after they were told to stop, and are abandoned: {}{}",
                left.len(),
                names.join(", "),
                if left.len() > NAMED { ", …" } else { "" },
            );
            self.tasks.abort_all();
            let all = async { while self.tasks.join_next().await.is_some() {} };
            if tokio::time::timeout(ABORT, all).await.is_err() {
                // Those never wait for anything, so that nothing can end them. They are nobody's business any more.
                self.tasks.detach_all();
            }
        }
    }
}

/// Returns a monkey's name, and what it is at.
fn described(monkey: &Monkey) -> String {
    let at = monkey.phase().map_or(state_name(monkey.state()), Phase::as_str);
    format!("{} ({at})", monkey.name())
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        error!(error = %error, "the task of a monkey panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monkey::task::tests::{monkey, run};

    #[tokio::test]
    async fn who_is_abandoned_is_named_with_what_it_is_at() {
        let monkey = monkey(&run(true), "bot-mobu-a1");
        assert_eq!(described(&monkey), "bot-mobu-a1 (IDLE)");
        monkey.enter(Phase::DeleteLab);
        assert_eq!(described(&monkey), "bot-mobu-a1 (delete_lab)");
        monkey.leave();
        assert_eq!(described(&monkey), "bot-mobu-a1 (IDLE)");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_monkey_that_never_waits_cannot_hold_up_the_stop() {
        let run = run(true);
        let stuck = monkey(&run, "bot-mobu-a1");
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let mut lives = Lives::default();
        lives.tasks.spawn(async move {
            begun.send(()).unwrap();
            // It keeps its thread until the test lets go of it.
            assert!(released.recv().is_err());
        });
        has_begun.await.unwrap();
        let roster = Roster::new(vec![stuck]);
        lives.stop(&run.name, &roster, Duration::from_millis(10)).await;
        assert!(lives.tasks.is_empty());
        drop(release);
    }
}
