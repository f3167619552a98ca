//! Spawning a lab (`contracts/businesses.md` 4.4).

use std::fmt::Write as _;
use std::time::Duration;

use mobu_fleet::domain::business::NubladoOptions;
use mobu_fleet::runtime::clock::{self, Instant};

use super::failure::failed;
use crate::business::{IterationError, Phase};
use crate::client::nublado::{Nublado, NubladoError, SpawnEvent, plain};
use crate::monkey::Monkey;

/// Most bytes of a spawn's log that are kept.
const LOG: usize = 16 * 1024;

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
    text: String,
    last: Option<String>,
}

/// Spawns a lab and waits until it is there.
pub(super) async fn spawn(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
) -> Result<(), IterationError> {
    monkey.enter(Phase::SpawnLab);
    monkey.info("Spawning lab");
    let begun = clock::now();
    let mut log = SpawnLog::default();
    let failure = match watch(client, options, monkey, begun, &mut log).await {
        Ok(()) => return Ok(()),
        Err(Trouble::Hub(error)) => failed(error, monkey),
        Err(Trouble::Spawn(error)) => {
            let kind = if matches!(error, SpawnError::TimedOut { .. }) {
                "timeout"
            } else {
                "spawn"
            };
            IterationError::retry(kind, error)
        }
    };
    Err(failure.spawn_log(&log.text))
}

enum Trouble {
    Hub(NubladoError),
    Spawn(SpawnError),
}

impl From<NubladoError> for Trouble {
    fn from(error: NubladoError) -> Self {
        Self::Hub(error)
    }
}

async fn watch(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
    begun: Instant,
    log: &mut SpawnLog,
) -> Result<(), Trouble> {
    client.spawn(&options.image.spawn_form()).await?;
    let settle = options.spawn_settle_time.to_std();
    // Dropped by a stop, as all of this is.
    tokio::time::sleep(settle).await;
    let limit = options.spawn_timeout.to_std().saturating_sub(settle);
    let deadline = clock::now() + limit.min(FOREVER);
    let timed_out = |_| {
        Trouble::Spawn(SpawnError::TimedOut {
            seconds: begun.elapsed().as_secs(),
        })
    };
    let mut progress = tokio::time::timeout_at(deadline, client.progress())
        .await
        .map_err(timed_out)??;
    loop {
        let next = tokio::time::timeout_at(deadline, progress.next())
            .await
            .map_err(timed_out)??;
        let event = match next {
            None => {
                let last = log.last.take();
                let error = last.map_or(SpawnError::Silent, |last| SpawnError::Failed { last });
                return Err(Trouble::Spawn(error));
            }
            Some(Err(garbage)) => {
                let shown: String = garbage.chars().take(256).collect();
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
        monkey.info(&format!("{what} ({seconds}s elapsed): {}", event.message));
        log.add(&event);
        if event.ready {
            return Ok(());
        }
    }
}

/// A time that no clock overflows with.
const FOREVER: Duration = Duration::from_secs(365 * 86400);

impl SpawnLog {
    fn add(&mut self, event: &SpawnEvent) {
        let message = plain(&event.message);
        let at = clock::wall().strftime("%Y-%m-%d %H:%M:%S");
        if self.text.len() + message.len() < LOG {
            writeln!(self.text, "{at} - {message}").expect("a String takes everything");
        }
        self.last = Some(message);
    }
}
