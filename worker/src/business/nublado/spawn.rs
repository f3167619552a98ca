//! Spawning a lab (`contracts/businesses.md` 4.4).

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use mobu_fleet::domain::business::NubladoOptions;
use mobu_fleet::runtime::clock::{self, Instant};

use super::failure::failed;
use crate::business::{IterationError, Phase};
use crate::client::nublado::{Nublado, NubladoError, plain};
use crate::monkey::{Monkey, Stopped};

/// Most bytes of a spawn's log that are kept.
const LOG: usize = 16 * 1024;
/// Most bytes of what the hub says at a time that are kept.
const MESSAGE: usize = 1024;
/// How long after a stop the hub may take to say that it spawns the lab that it was asked for.
const ANSWER: Duration = Duration::from_secs(5);

/// Why there is no lab.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpawnError {
    /// It took too long.
    #[error("Lab did not spawn after {seconds}s")]
    TimedOut {
        /// How long it has taken.
        seconds: u64,
    },
    /// The hub gave it up.
    #[error("Lab did not spawn: {last}")]
    Failed {
        /// What the hub said last.
        last: String,
    },
    /// The hub has nothing more to say.
    #[error("Lab did not spawn: the hub ended its report without one")]
    Silent,
}

/// What a spawn told of itself.
#[derive(Debug, Default)]
struct SpawnLog {
    /// Its newest lines.
    lines: VecDeque<String>,
    /// How many bytes those have.
    size: usize,
    last: Option<String>,
}

/// Spawns a lab and waits until it is there, or until the monkey shall stop. Says in `is_unanswered` whether it was asked for and the hub
/// has not said what comes of it, so that it may come later.
pub(super) async fn spawn(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
    is_unanswered: &mut bool,
) -> Result<(), IterationError> {
    monkey.enter(Phase::SpawnLab);
    monkey.info("Spawning lab");
    let begun = clock::now();
    let deadline = begun + options.spawn_timeout.to_std().min(FOREVER);
    let mut log = SpawnLog::default();
    let watching = async {
        ask(client, options, monkey, deadline, is_unanswered).await?;
        let watching = watch(client, options, monkey, begun, &mut log);
        monkey.unless_stopped(limited(deadline, watching)).await?
    };
    let failure = match watching.await {
        Ok(()) => return Ok(()),
        Err(Trouble::Stopped(stopped)) => return Err(stopped.into()),
        Err(Trouble::Hub(error)) => failed(error, monkey),
        Err(Trouble::Late) => {
            let seconds = begun.elapsed().as_secs();
            IterationError::retry("timeout", SpawnError::TimedOut { seconds })
        }
        Err(Trouble::Spawn(error)) => IterationError::retry("spawn", error),
    };
    Err(failure.spawn_log(&log.text()))
}

enum Trouble {
    Hub(NubladoError),
    Spawn(SpawnError),
    Late,
    Stopped(Stopped),
}

impl From<NubladoError> for Trouble {
    fn from(error: NubladoError) -> Self {
        Self::Hub(error)
    }
}

impl From<Stopped> for Trouble {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

/// Waits until all the time of a spawn is over.
async fn limited<T, E: Into<Trouble>>(
    deadline: Instant,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Trouble> {
    match tokio::time::timeout_at(deadline, work).await {
        Ok(done) => done.map_err(Into::into),
        Err(_) => Err(Trouble::Late),
    }
}

/// Opens the form and sends it. A stop does not interrupt the sending at once: the hub would spawn a lab that nobody knows of.
async fn ask(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
    deadline: Instant,
    is_unanswered: &mut bool,
) -> Result<(), Trouble> {
    // A hub without a form spawns when the form is asked for.
    *is_unanswered = true;
    monkey
        .unless_stopped(limited(deadline, client.open_spawn_form()))
        .await??;
    let form = options.image.spawn_form();
    let asked = tokio::select! {
        biased;
        asked = limited(deadline, client.spawn(&form)) => asked,
        () = async {
            monkey.stopped().await;
            tokio::time::sleep(ANSWER).await;
        } => return Err(Stopped.into()),
    };
    *is_unanswered = match &asked {
        Ok(()) => false,
        Err(Trouble::Hub(error)) => error.may_be_done(),
        Err(_) => true,
    };
    if monkey.is_stopping() {
        return Err(Stopped.into());
    }
    asked
}

async fn watch(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
    begun: Instant,
    log: &mut SpawnLog,
) -> Result<(), Trouble> {
    tokio::time::sleep(options.spawn_settle_time.to_std()).await;
    let mut progress = client.progress().await?;
    loop {
        let event = match progress.next().await? {
            None => {
                let last = log.last.take();
                let error = last.map_or(SpawnError::Silent, |last| SpawnError::Failed { last });
                return Err(Trouble::Spawn(error));
            }
            Some(Err(garbage)) => {
                let shown: String = monkey.hide(&garbage).chars().take(256).collect();
                monkey.warn(&format!(
                    "Ignoring invalid spawn progress event: {}",
                    shown.escape_debug()
                ));
                continue;
            }
            Some(Ok(event)) => event,
        };
        let seconds = begun.elapsed().as_secs();
        let what = if event.ready {
            "Spawn complete"
        } else {
            "Spawn in progress"
        };
        let message = monkey.shown(&plain(&event.message), MESSAGE);
        monkey.info(&format!("{what} ({seconds}s elapsed): {message}"));
        log.add(message);
        if event.ready {
            return Ok(());
        }
    }
}

/// A time that no clock overflows with.
const FOREVER: Duration = Duration::from_secs(365 * 86400);

impl SpawnLog {
    /// Adds what the hub said. Of many lines the newest are kept: they say how it ended.
    fn add(&mut self, message: String) {
        let at = clock::wall().strftime("%Y-%m-%d %H:%M:%S");
        let line = format!("{at} - {message}\n");
        self.size += line.len();
        self.lines.push_back(line);
        while self.size > LOG
            && let Some(oldest) = self.lines.pop_front()
        {
            self.size -= oldest.len();
        }
        self.last = Some(message);
    }

    fn text(&self) -> String {
        self.lines.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_spawn_log_the_newest_lines_are_kept() {
        let mut log = SpawnLog::default();
        for number in 0..10_000 {
            log.add(format!("event {number}"));
        }
        log.add("Spawn failed: no room".to_owned());
        let text = log.text();
        assert!(text.len() <= LOG && text.len() > LOG / 2, "{}", text.len());
        assert!(text.ends_with(" - Spawn failed: no room\n"), "{text}");
        assert!(!text.contains(" - event 0\n"), "{text}");
        assert_eq!(log.last.as_deref(), Some("Spawn failed: no room"));
    }
}
