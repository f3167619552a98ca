//! What monkeys do: the trait, and one file per business. A new one is a file, and a line in [`registry`].

mod empty_loop;
mod failure;
mod git_lfs;
mod http_runner;
mod muster;
mod notebook_runner;
mod nublado;
mod nublado_python_loop;
mod phase;
pub(crate) mod query_sets;
pub(crate) mod registry;
mod sia_query_set_runner;
mod sky;
mod tap_query;
mod tap_query_runner;
mod tap_query_set_runner;

use std::future::Future;

pub(crate) use self::failure::{Failure, IterationError};
#[cfg(feature = "fuzzing")]
pub(crate) use self::notebook_runner::glob_finds;
pub(crate) use self::phase::Phase;
use crate::monkey::Monkey;

/// What a monkey does over and over.
///
/// Whatever waits must end when the monkey is told to stop: [`Monkey::pause`] and [`Monkey::unless_stopped`] see to that.
pub(crate) trait Business: Send {
    /// Prepares a run.
    fn startup(&mut self, monkey: &Monkey) -> impl Future<Output = Result<(), IterationError>> + Send;

    /// Does one iteration.
    fn execute(&mut self, monkey: &Monkey) -> impl Future<Output = Result<(), IterationError>> + Send;

    /// Pauses between two iterations.
    fn idle(&mut self, monkey: &Monkey) -> impl Future<Output = ()> + Send {
        let interval = monkey.flock().business.common().idle_time.to_std();
        async move {
            monkey.pause(interval).await;
        }
    }

    /// Tidies up after an orderly stop, also if that came during start-up.
    fn shutdown(&mut self, monkey: &Monkey) -> impl Future<Output = Result<(), IterationError>> + Send {
        let _ = monkey;
        async { Ok(()) }
    }

    /// Lets nothing stay at other services that an earlier run may have left there: after a panic, when nobody knows what the run that
    /// panicked had, and when there is no further run. Must not take long, for nothing interrupts it.
    fn depart(&mut self, monkey: &Monkey) -> impl Future<Output = ()> + Send {
        let _ = monkey;
        async {}
    }

    /// Lets go of what a run held, also after a failure. Must not wait for other services.
    fn close(&mut self, monkey: &Monkey) -> impl Future<Output = ()> + Send {
        let _ = monkey;
        async {}
    }
}
