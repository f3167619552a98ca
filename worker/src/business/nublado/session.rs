//! One session in a lab: a kernel, and the connection over which it gets code.

use std::time::Duration;

use mobu_fleet::domain::business::{LogLevel, NubladoOptions};
use mobu_fleet::domain::duration::HumanDuration;
use serde_json::json;

use super::failure::{failed, unopened};
use crate::business::{IterationError, Phase};
use crate::client::nublado::{
    Execution, Incoming, Kernel, Meaning, Nublado, NubladoError, Raised, SessionIds, SocketError,
};
use crate::client::shown::last_bytes;
use crate::monkey::{Event, Field, Monkey, Pause, Stopped};

/// How long a kernel that has answered may take to say that it is idle: what it says no more is not waited for.
const GRACE: Duration = Duration::from_secs(2);
/// How long opening the connection may take.
const OPEN: Duration = Duration::from_secs(60);
/// How long each step of a hurried end may take: after a stop or a failure.
const HURRY: Duration = Duration::from_secs(5);

/// Most bytes of code, or of what it printed, that are logged.
pub(crate) const LOGGED: usize = 64 << 10;
/// Most bytes of a name that a lab gives that are logged.
const NAME: usize = 1 << 10;
/// Most bytes of the kind of a message that are logged.
const KIND: usize = 256;
/// Most bytes of a traceback that are logged: its end, where the exception is.
const TRACEBACK: usize = 16 << 10;

/// Prints which image runs: its reference, and what it is called.
const IMAGE: &str = "import os\nprint(os.getenv(\"JUPYTER_IMAGE_SPEC\"))\nprint(os.getenv(\"IMAGE_DESCRIPTION\"))\n";
/// Prints the name of the node.
const NODE: &str = "import lsst.rsp\nprint(lsst.rsp.get_node(), end=\"\")\n";

/// A session with a kernel, for as long as one iteration needs it. All code of a session shares the kernel's variables.
#[derive(Debug)]
pub(crate) struct LabSession<'m> {
    monkey: &'m Monkey,
    client: &'m mut Nublado,
    ids: SessionIds,
    /// `None` once it is of no more use.
    kernel: Option<Kernel>,
    random: fastrand::Rng,
    limit: Option<Duration>,
}

/// What became of a piece of code.
#[derive(Debug)]
pub(crate) struct Ran {
    /// What it printed, standard output and error alike, in the order in which it came: also before it failed.
    pub(crate) printed: String,
    /// How it ended.
    pub(crate) ended: Result<(), CodeError>,
}

impl Ran {
    /// Whether it ended before its time because the monkey shall stop.
    pub(crate) const fn is_stopped(&self) -> bool {
        matches!(self.ended, Err(CodeError::Stopped(_)))
    }
}

/// Why code did not run to a good end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeError {
    /// The monkey was told to stop; the kernel was interrupted.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The code raised, or the kernel gave it up.
    #[error("{reason}")]
    Raised {
        /// What was raised, in one line.
        reason: String,
        /// How the code came to it, without colours; may be empty.
        traceback: String,
    },
    /// The kernel died, while the code ran or before.
    #[error("the kernel died; its lab calls it `{state}`")]
    KernelDied {
        /// What the lab says about it.
        state: &'static str,
    },
    /// The code took longer than `cell_execution_timeout`; the kernel was interrupted.
    #[error("running code timed out after {limit:?}")]
    TimedOut {
        /// How long it may take.
        limit: Duration,
    },
    /// The connection to the kernel broke.
    #[error(transparent)]
    Connection(SocketError),
    /// An earlier error has left no connection.
    #[error("the session has no connection to its kernel any more")]
    Disconnected,
}

impl CodeError {
    /// What went wrong, in a word: for counting.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "stopped",
            Self::Raised { .. } => "execute",
            Self::TimedOut { .. } => "timeout",
            Self::KernelDied { .. } => "kernel",
            Self::Connection(_) | Self::Disconnected => "websocket",
        }
    }
}

impl CodeError {
    /// Makes a failure of it, with why, and what there is to read of how the code came to it.
    pub(crate) fn explained(mut self, failed: impl FnOnce(Self) -> IterationError) -> IterationError {
        let reason = self.to_string();
        let traceback = match &mut self {
            Self::Raised { traceback, .. } => std::mem::take(traceback),
            _ => String::new(),
        };
        failed(self).because(&reason).traced(&traceback)
    }
}

impl From<SocketError> for CodeError {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Died { state } => Self::KernelDied { state },
            error => Self::Connection(error),
        }
    }
}

impl From<CodeError> for IterationError {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::Stopped(stopped) => stopped.into(),
            error => error.explained(|error| Self::retry(error.kind(), error)),
        }
    }
}

impl<'m> LabSession<'m> {
    /// Opens a session in the lab, of a notebook or of a console.
    pub(super) async fn open(
        client: &'m mut Nublado,
        options: &NubladoOptions,
        monkey: &'m Monkey,
        mut random: fastrand::Rng,
        notebook: Option<&str>,
    ) -> Result<Self, IterationError> {
        monkey.enter(Phase::CreateSession);
        monkey.info("Creating lab session");
        let ids = client.create_session(notebook, &id(&mut random)).await;
        let ids = ids.map_err(|error| failed(error, monkey))?;
        let largest = options.max_websocket_message_size;
        let largest = largest.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let kernel = tokio::time::timeout(OPEN, client.connect(&ids, largest)).await;
        let kernel = kernel.unwrap_or(Err(SocketError::OpenTimedOut));
        let kernel = match kernel {
            Ok(kernel) => kernel,
            Err(error) => {
                // Nobody else knows of it, and its kernel would run on.
                let deleted = tokio::time::timeout(HURRY, client.delete_session(&ids)).await;
                tell(monkey, "Unable to delete lab session", deleted);
                return Err(unopened(error, monkey));
            }
        };
        let limit = options.cell_execution_timeout.map(HumanDuration::to_std);
        Ok(Self {
            monkey,
            kernel: Some(kernel),
            client,
            ids,
            random,
            limit,
        })
    }

    /// Finds out where the session is, and goes where it should be.
    pub(super) async fn prepare(&mut self, options: &NubladoOptions) -> Result<(), IterationError> {
        let monkey = self.monkey;
        monkey.enter(Phase::ExecuteSetup);
        let image = self.ask(IMAGE).await?;
        if let Some((reference, description)) = image.split_once('\n') {
            let (reference, description) = (
                monkey.shown(reference.trim(), NAME),
                monkey.shown(description.trim(), NAME),
            );
            monkey.info(&format!("Running on image {reference} ({description})"));
            monkey.show(|activity| {
                activity.image = Some(json!({"description": description, "reference": reference}));
            });
        } else {
            monkey.warn("Unable to get running image from reply");
            monkey.show(|activity| activity.image = Some(json!({})));
        }
        if options.get_node {
            let node = self.ask(NODE).await?;
            monkey.info(&format!("Running on node {}", monkey.shown(&node, NAME)));
        }
        if let Some(path) = &options.working_directory {
            monkey.info(&format!("Changing directories to {path}"));
            self.ask(&format!("import os\nos.chdir({})\n", python_text(path)))
                .await?;
        }
        Ok(())
    }

    /// Runs code. Shows it as the monkey's `running_code` until it has ended well.
    ///
    /// A stop interrupts the kernel and gives [`CodeError::Stopped`]. After any error but [`CodeError::Raised`] the session is of
    /// no more use.
    pub(crate) async fn run(&mut self, code: &str) -> Ran {
        let shown = code.to_owned();
        self.monkey.show(|activity| activity.running_code = Some(shown));
        let ran = self.run_unseen(code).await;
        if ran.ended.is_ok() || ran.is_stopped() {
            self.monkey.show(|activity| activity.running_code = None);
        }
        ran
    }

    /// Runs code as [`LabSession::run`] does, without showing it.
    pub(crate) async fn run_unseen(&mut self, code: &str) -> Ran {
        let mut execution = Execution::new(id(&mut self.random));
        let ended = self.run_to_an_end(code, &mut execution).await;
        let (printed, raised) = execution.into_parts();
        let raised = raised.map_or(Ok(()), |Raised { reason, traceback }| {
            let traceback = self.monkey.hide(&traceback);
            let is_cut = traceback.len() > TRACEBACK;
            let traceback = format!("{}{}", if is_cut { "…" } else { "" }, last_bytes(&traceback, TRACEBACK));
            let reason = self.monkey.hide(&reason).into_owned();
            Err(CodeError::Raised { reason, traceback })
        });
        Ran {
            printed,
            ended: ended.and(raised),
        }
    }

    /// Runs code of our own, and returns what it printed.
    async fn ask(&mut self, code: &str) -> Result<String, CodeError> {
        let Ran { printed, ended } = self.run_unseen(code).await;
        ended.map(|()| printed)
    }

    async fn run_to_an_end(&mut self, code: &str, execution: &mut Execution) -> Result<(), CodeError> {
        // Taken out, so that what ends badly in the middle of a message is not used again.
        let mut kernel = self.kernel.take().ok_or(CodeError::Disconnected)?;
        let running = async {
            let limited = tokio::time::timeout(
                self.limit.unwrap_or(FOREVER),
                run(&mut kernel, code, execution, self.monkey),
            );
            limited.await
        };
        let ended = self.monkey.unless_stopped(Box::pin(running)).await;
        match ended {
            Ok(Ok(Ok(()))) => {
                self.kernel = Some(kernel);
                Ok(())
            }
            Ok(Ok(Err(error))) => Err(error.into()),
            Ok(Err(_)) => {
                self.interrupt().await;
                let limit = self.limit.unwrap_or(FOREVER);
                Err(CodeError::TimedOut { limit })
            }
            Err(stopped) => {
                self.interrupt().await;
                Err(stopped.into())
            }
        }
    }

    /// Pauses; a stop ends the pause at once. Unlike [`Monkey::pause`] it keeps the connection alive, so whoever holds a session
    /// should pause here.
    pub(crate) async fn pause(&mut self, interval: Duration) -> Pause {
        let Some(kernel) = &mut self.kernel else {
            return self.monkey.pause(interval).await;
        };
        let listening = async {
            // Nothing runs, so nothing that comes matters. That it has ended is told when it is used next.
            while kernel.next().await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            pause = self.monkey.pause(interval) => pause,
            () = listening => Pause::Elapsed,
        }
    }

    /// Ends the session after good work.
    pub(super) async fn end(mut self) -> Result<(), IterationError> {
        let monkey = self.monkey;
        // The session may have lasted longer than the login.
        monkey.enter(Phase::LabLogin);
        let renewed = self.client.log_in_to_lab().await;
        renewed.map_err(|error| failed(error, monkey))?;
        monkey.enter(Phase::DeleteSession);
        monkey.info("Deleting lab session");
        if let Some(kernel) = self.kernel.take() {
            kernel.close().await;
        }
        let deleted = self.client.delete_session(&self.ids).await;
        deleted.map_err(|error| failed(error, monkey))
    }

    /// Ends the session after a stop or a failure: not for long, and whatever fails is only logged.
    pub(super) async fn abandon(mut self) {
        let monkey = self.monkey;
        monkey.enter(Phase::DeleteSession);
        monkey.info("Deleting lab session");
        if let Some(kernel) = self.kernel.take() {
            // Cut short, it is closed all the same.
            drop(tokio::time::timeout(HURRY, kernel.close()).await);
        }
        let deleted = tokio::time::timeout(HURRY, self.client.delete_session(&self.ids)).await;
        tell(monkey, "Unable to delete lab session", deleted);
    }

    async fn interrupt(&mut self) {
        let interrupted = tokio::time::timeout(HURRY, self.client.interrupt(&self.ids)).await;
        tell(self.monkey, "Unable to interrupt kernel", interrupted);
    }
}

/// Says that something at the end went wrong, if it did: that changes nothing.
fn tell(monkey: &Monkey, text: &'static str, outcome: Result<Result<(), NubladoError>, tokio::time::error::Elapsed>) {
    let error = match outcome {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {HURRY:?}"),
    };
    monkey.say(&Event {
        level: LogLevel::Warning,
        text,
        fields: &[("error", Field::Text(&error))],
        exception: None,
    });
}

/// A time that no clock overflows with.
const FOREVER: Duration = Duration::from_secs(365 * 86400);

async fn run(kernel: &mut Kernel, code: &str, execution: &mut Execution, monkey: &Monkey) -> Result<(), SocketError> {
    kernel.execute(code, execution).await?;
    let mut decided = None;
    while !execution.has_ended() {
        let next = if execution.is_decided() {
            // Once for all messages: others may go on for ever.
            let until = *decided.get_or_insert_with(|| tokio::time::Instant::now() + GRACE);
            match tokio::time::timeout_at(until, kernel.next()).await {
                Ok(next) => next?,
                Err(_) => break,
            }
        } else {
            kernel.next().await?
        };
        let Incoming::Message(message) = next else {
            monkey.warn("Ignoring unparsable web socket message");
            continue;
        };
        if execution.take(&message) == Meaning::Unknown {
            monkey.say(&Event {
                level: LogLevel::Warning,
                text: "Ignoring unrecognized WebSocket message",
                fields: &[("type", Field::Text(&monkey.shown(message.kind(), KIND)))],
                exception: None,
            });
        }
    }
    Ok(())
}

/// Returns 32 hexadecimal digits.
fn id(random: &mut fastrand::Rng) -> String {
    format!("{:032x}", random.u128(..))
}

/// Returns a text as Python writes it: what JSON makes of it, for JSON's escapes are Python's too.
fn python_text(text: &str) -> String {
    json!(text).to_string()
}
