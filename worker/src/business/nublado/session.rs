//! One session in a lab: a kernel, and the connection over which it gets code.

use std::time::Duration;

use mobu_fleet::link::BoxError;

use crate::business::IterationError;
use crate::monkey::{Monkey, Pause, Stopped};

/// A session with a kernel, for as long as one iteration needs it. All code of a session shares the kernel's variables.
#[derive(Debug)]
pub(crate) struct LabSession<'m> {
    monkey: &'m Monkey,
}

/// Why code did not run to a good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// The monkey was told to stop; the kernel was interrupted.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The code raised, or the kernel gave it up.
    #[error("{traceback}")]
    Raised {
        /// What Python says, without colours; never empty.
        traceback: String,
    },
    /// The code took longer than `cell_execution_timeout`; the kernel was interrupted.
    #[error("running code timed out after {limit:?}")]
    TimedOut {
        /// How long it may take.
        limit: Duration,
    },
    /// The connection to the kernel broke.
    #[error("{0}")]
    Connection(#[source] BoxError),
}

impl CodeError {
    /// What went wrong, in a word: for counting.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "stopped",
            Self::Raised { .. } => "execute",
            Self::TimedOut { .. } => "timeout",
            Self::Connection(_) => "websocket",
        }
    }
}

impl From<CodeError> for IterationError {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::Stopped(stopped) => stopped.into(),
            error => Self::retry(error.kind(), error),
        }
    }
}

impl LabSession<'_> {
    /// Runs code and returns what it printed, standard output and error alike, in the order in which it came. Shows the code
    /// as the monkey's `running_code` until it has ended well.
    ///
    /// A stop interrupts the kernel and gives [`CodeError::Stopped`]. After any error but [`CodeError::Raised`] the session is of
    /// no more use.
    pub(crate) async fn run(&mut self, code: &str) -> Result<String, CodeError> {
        self.monkey.unless_stopped(std::future::ready(())).await?;
        Err(CodeError::Connection(format!("no kernel runs {code}").into()))
    }

    /// Pauses; a stop ends the pause at once. Unlike [`Monkey::pause`] it keeps the connection alive, so whoever holds a session
    /// should pause here.
    pub(crate) async fn pause(&mut self, interval: Duration) -> Pause {
        self.monkey.pause(interval).await
    }
}
