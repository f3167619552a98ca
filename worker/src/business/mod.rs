//! What monkeys do: the trait, and one file per business. A new one is a file, and a line in [`registry`].

mod empty_loop;
mod git_lfs;
mod http_runner;
mod muster;
#[expect(dead_code, unused_imports, reason = "no business of this release runs in a lab yet")]
mod nublado;
mod query_sets;
pub(crate) mod registry;
mod sia_query_set_runner;
mod sky;
mod tap_query;
mod tap_query_runner;
mod tap_query_set_runner;
mod unavailable;

use std::future::Future;

use mobu_fleet::link::BoxError;

use crate::monkey::{Monkey, Stopped};

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

    /// Lets go of what a run held, also after a failure. Must not wait for other services.
    fn close(&mut self, monkey: &Monkey) -> impl Future<Output = ()> + Send {
        let _ = monkey;
        async {}
    }
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IterationError {
    /// The monkey was told to stop: neither a success nor a failure.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The run failed; the flock's configuration says whether there is another one.
    #[error("{error}")]
    Retry {
        /// What failed, in a word: for counting.
        kind: &'static str,
        /// How it failed.
        error: BoxError,
    },
    /// The run failed, and another one would fail likewise.
    #[error("{error}")]
    Fatal {
        /// What failed, in a word: for counting.
        kind: &'static str,
        /// How it failed.
        error: BoxError,
    },
}

impl IterationError {
    pub(crate) fn retry(kind: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Retry {
            kind,
            error: error.into(),
        }
    }

    pub(crate) fn fatal(kind: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Fatal {
            kind,
            error: error.into(),
        }
    }

    /// Returns what failed, in a word.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "stopped",
            Self::Retry { kind, .. } | Self::Fatal { kind, .. } => kind,
        }
    }

    /// Returns whether another run would fail likewise.
    pub(crate) const fn is_fatal(&self) -> bool {
        matches!(self, Self::Fatal { .. })
    }

    /// Returns the causes of the error, the nearest first; the error itself has the text of the first.
    pub(crate) fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        let first = match self {
            Self::Stopped(_) => None,
            Self::Retry { error, .. } | Self::Fatal { error, .. } => error.source(),
        };
        std::iter::successors(first, |cause| cause.source())
    }
}
