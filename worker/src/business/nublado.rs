//! What every business in a lab does around its own work (`contracts/businesses.md` 4.9): log in, spawn a lab, hold a session
//! in it, delete the lab. What runs in the session is a [`LabWork`].

mod failure;
mod session;
mod spawn;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::business::NubladoOptions;
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::domain::events::Act;
use mobu_fleet::runtime::backoff::Backoff;
use mobu_fleet::runtime::clock::{self, Instant};

use self::failure::{failed, noted};
pub(crate) use self::session::{CodeError, LOGGED, LabSession, Ran};
use super::tap_query::{discover, not_found};
use super::{Business, IterationError, Phase};
use crate::client::nublado::{Nublado, NubladoError};
use crate::monkey::Monkey;

/// How often to look whether a lab is gone.
const POLL: Duration = Duration::from_secs(2);
/// How long deleting a lab may take when nobody waits for it to go: after a stop or a failure. A hub may take ten seconds to say
/// that it has begun.
const FAREWELL: Duration = Duration::from_secs(25);
/// How long one attempt at that may take.
const ATTEMPT: Duration = Duration::from_secs(12);
/// First and longest pause between two attempts.
const AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
/// How long to look for a lab that was never asked for: one that somebody else has left.
const GLANCE: Duration = Duration::from_secs(5);
/// How long a lab may take to show up if the hub has not answered when it was asked for it.
const LATE: Duration = Duration::from_secs(3);
/// How often to look for it.
const LOOK: Duration = Duration::from_secs(1);

/// What a business does in its lab, and before and after it has one.
///
/// The same value is used over restarts. What fails here ends the run; whether there is another one is the flock's choice.
pub(crate) trait LabWork: Send {
    /// The options that concern the lab.
    fn options(&self) -> &NubladoOptions;

    /// Prepares a run, before the first request to the hub.
    fn startup(&mut self, monkey: &Monkey) -> impl Future<Output = Result<(), IterationError>> + Send {
        let _ = monkey;
        async { Ok(()) }
    }

    /// Returns the base name of the notebook that the next session is to be named after; without one it is a console.
    fn notebook_name(&self) -> Option<String> {
        None
    }

    /// Does one iteration's work in a session that is already where `working_directory` says. An error ends the run,
    /// [`IterationError::Stopped`] ends the iteration; the session is closed in any case.
    fn execute_code(
        &mut self,
        monkey: &Monkey,
        session: &mut LabSession<'_>,
    ) -> impl Future<Output = Result<(), IterationError>> + Send;

    /// Tidies up after an orderly stop. The lab is deleted afterwards, also if this fails.
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

/// A business in a lab: the same life around whatever work.
#[derive(Debug)]
pub(super) struct InLab<W> {
    work: W,
    random: fastrand::Rng,
    /// The way to hub and lab, as long as a run lasts, or there may be a lab.
    client: Option<Box<Nublado>>,
    /// Whether a lab was asked for without an answer, so that it may come later.
    is_unanswered: bool,
    /// Whether the goodbye of the orderly end went wrong: then there is no time for another one.
    is_left: bool,
}

/// `execute` was called without `startup`.
#[derive(Debug, thiserror::Error)]
#[error("the run has not been started up")]
struct NotStarted;

/// The hub has not deleted the lab in time.
#[derive(Debug, thiserror::Error)]
#[error("Lab not deleted after {seconds}s")]
struct NotDeleted {
    seconds: u64,
}

impl<W: LabWork> InLab<W> {
    pub(super) fn new(work: W, monkey: &Monkey) -> Self {
        Self {
            work,
            random: monkey.random(),
            client: None,
            is_unanswered: false,
            is_left: false,
        }
    }

    async fn connect(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        monkey.enter(Phase::Discovery);
        let discovery = discover(monkey).await?;
        self.connect_to(&discovery, monkey)
    }

    fn connect_to(&mut self, discovery: &Discovery, monkey: &Monkey) -> Result<(), IterationError> {
        let hub = discovery.nublado().map_err(not_found)?;
        let user = monkey.user();
        let limit = self.work.options().jupyter_timeout.to_std();
        let client = Nublado::new(&hub, user.username.as_str(), &user.token, limit);
        let client = client.map_err(|error| IterationError::retry("client", error))?;
        self.client = Some(Box::new(client));
        Ok(())
    }

    /// Deletes what an earlier run has left behind.
    async fn begin(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        log_in(client(&mut self.client)?, monkey).await?;
        let client = client(&mut self.client)?;
        monkey.enter(Phase::DeleteLab);
        if client.is_lab_stopped().await.map_err(|error| failed(error, monkey))? {
            monkey.note_lab(false);
            return Ok(());
        }
        monkey.note_lab(true);
        let options = self.work.options();
        match delete_lab(client, options, monkey).await? {
            Ok(()) => monkey.note_lab(false),
            Err(NotDeleted { .. }) => {
                monkey.warn("Unable to delete pre-existing lab, continuing anyway");
            }
        }
        Ok(())
    }

    /// Sees to it that there is a lab, and logs in to it. A stop interrupts each step, and not their sequence, so that it is
    /// known which one.
    async fn enter(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let options = self.work.options();
        let client = client(&mut self.client)?;
        let broken = |error: NubladoError| failed(error, monkey);
        monkey.enter(Phase::SpawnLab);
        let is_needed = options.delete_lab || monkey.unless_stopped(client.is_lab_stopped()).await?.map_err(broken)?;
        if is_needed {
            monkey.note_lab(true);
            let begun = clock::now();
            let spawned = spawn::spawn(client, options, monkey, &mut self.is_unanswered).await;
            // As in mobu, one that a stop interrupted is a success.
            monkey.emit(Act::NubladoSpawnLab {
                duration: begun.elapsed().as_secs_f64(),
                success: !matches!(spawned, Err(IterationError::Failed(_))),
            });
            spawned?;
        }
        monkey.enter(Phase::LabLogin);
        monkey.info("Logging in to lab");
        monkey.unless_stopped(client.log_in_to_lab()).await?.map_err(broken)
    }

    /// Works in a session of its own, which it closes however the work ends.
    async fn work(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let notebook = self.work.notebook_name();
        let options = self.work.options().clone();
        let random = self.random.fork();
        let client = client(&mut self.client)?;
        let opening = LabSession::open(client, &options, monkey, random, notebook.as_deref());
        let mut session = monkey.unless_stopped(Box::pin(opening)).await??;
        let worked = async {
            session.prepare(&options).await?;
            self.work.execute_code(monkey, &mut session).await
        };
        match Box::pin(worked).await {
            Ok(()) => monkey.unless_stopped(Box::pin(session.end())).await?,
            Err(error) => {
                let error = noted(error, monkey);
                Box::pin(session.abandon()).await;
                Err(error)
            }
        }
    }

    async fn leave(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        log_in(client(&mut self.client)?, monkey).await?;
        let options = self.work.options();
        let gone = delete_lab(client(&mut self.client)?, options, monkey).await?;
        gone.map_err(|error| IterationError::retry("timeout", error))?;
        monkey.note_lab(false);
        Ok(())
    }

    async fn iterate(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        Box::pin(self.enter(monkey)).await?;
        self.work(monkey).await?;
        if self.work.options().delete_lab {
            monkey.unless_stopped(Box::pin(self.leave(monkey))).await??;
        }
        Ok(())
    }

    /// Asks for the end of the lab without waiting for it: again and again if the hub does not want to, and not for long. Nothing
    /// interrupts it. If no lab was ever asked for, it has a look whether somebody else has left one, and does without if the hub is mute.
    async fn say_farewell(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let may_have = monkey.may_have_lab();
        if !may_have && self.client.is_none() {
            return Ok(());
        }
        let limit = if may_have { FAREWELL } else { GLANCE };
        let deadline = clock::now() + limit;
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1, self.random.u64(..));
        let mut asked = None;
        let ended = loop {
            let attempt = Box::pin(self.ask_for_the_end(monkey, &mut asked));
            let until = deadline.min(clock::now() + ATTEMPT);
            let ended = tokio::time::timeout_at(until, attempt).await;
            let ended = ended.unwrap_or_else(|_| {
                Err(IterationError::retry(
                    "timeout",
                    NoFarewell {
                        limit: ATTEMPT.min(limit),
                    },
                ))
            });
            let wait = backoff.next_wait();
            match ended {
                Ok(()) => break Ok(()),
                Err(error) if !may_have => {
                    monkey.warn(&format!(
                        "Cannot see whether there is a lab that somebody has left: {error}"
                    ));
                    return Ok(());
                }
                Err(error) if clock::now() + wait >= deadline => break Err(error),
                Err(error) => monkey.warn(&format!("Unable to delete lab, trying again: {error}")),
            }
            tokio::time::sleep(wait).await;
        };
        if let (Some(asked), Err(_)) = (asked, &ended) {
            // How long a good one takes is not known, for nobody waits for it.
            deleted(monkey, asked, false);
        }
        ended.map_err(|error| noted(error, monkey))?;
        monkey.note_lab(false);
        self.is_unanswered = false;
        monkey.show(|activity| activity.image = None);
        Ok(())
    }

    /// Asks for the end of the lab once, if there is one. Says in `asked` when it was first asked for.
    async fn ask_for_the_end(&mut self, monkey: &Monkey, asked: &mut Option<Instant>) -> Result<(), IterationError> {
        if self.client.is_none() {
            monkey.enter(Phase::Discovery);
            // Also after a stop, when nobody waits for discovery any more.
            let discovery = match monkey.surroundings().locator.as_deref() {
                Some(locator) => Box::pin(locator.discover()).await.map_err(not_found)?,
                None => Arc::default(),
            };
            self.connect_to(&discovery, monkey)?;
        }
        let is_unanswered = self.is_unanswered;
        let client = client(&mut self.client)?;
        log_in(client, monkey).await?;
        monkey.enter(Phase::DeleteLab);
        let look = |stopped: Result<bool, NubladoError>| stopped.map_err(|error| failed(error, monkey));
        let mut is_stopped = look(client.is_lab_stopped().await)?;
        let late = clock::now() + LATE;
        while is_stopped && is_unanswered && clock::now() < late {
            // It was asked for, and the hub may not have got round to it.
            tokio::time::sleep(LOOK).await;
            is_stopped = look(client.is_lab_stopped().await)?;
        }
        if is_stopped {
            monkey.info("Lab is already stopped");
            return Ok(());
        }
        monkey.info("Deleting lab");
        asked.get_or_insert_with(clock::now);
        client.delete_lab().await.map_err(|error| failed(error, monkey))
    }

    fn jitter(&mut self) -> Duration {
        self.work.options().jitter.to_std().mul_f64(self.random.f64())
    }
}

/// The hub was too slow to say goodbye to.
#[derive(Debug, thiserror::Error)]
#[error("the hub took more than {limit:?} for deleting the lab")]
struct NoFarewell {
    limit: Duration,
}

impl<W: LabWork> Business for InLab<W> {
    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        self.work.startup(monkey).await?;
        self.connect(monkey).await?;
        let jitter = self.jitter();
        monkey.enter(Phase::PreLoginDelay);
        monkey.pause(jitter).await.unless_stopped()?;
        monkey.unless_stopped(Box::pin(self.begin(monkey))).await??;
        monkey.leave();
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let outcome = self.iterate(monkey).await.map_err(|error| noted(error, monkey));
        if let Err(error) = &outcome
            && !matches!(error, IterationError::Stopped(_))
            && monkey.may_have_lab()
        {
            // Unlike mobu, which leaves it to the next run: there may never be one.
            if let Err(error) = self.say_farewell(monkey).await {
                monkey.warn(&format!("Could not delete the lab of a failed run: {error}"));
            }
        }
        outcome
    }

    async fn idle(&mut self, monkey: &Monkey) {
        let interval = monkey.flock().business.common().idle_time.to_std();
        let interval = interval.saturating_add(self.jitter());
        monkey.pause(interval).await;
    }

    async fn shutdown(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let released = self.work.shutdown(monkey).await;
        let left = self.say_farewell(monkey).await;
        self.is_left = left.is_err();
        released.and(left)
    }

    async fn depart(&mut self, monkey: &Monkey) {
        if monkey.may_have_lab()
            && !self.is_left
            && let Err(error) = Box::pin(self.say_farewell(monkey)).await
        {
            monkey.warn(&format!("Could not delete the lab of an earlier run: {error}"));
        }
        self.client = None;
        monkey.leave();
    }

    async fn close(&mut self, monkey: &Monkey) {
        if !monkey.may_have_lab() {
            self.client = None;
        }
        self.work.close(monkey).await;
    }
}

fn client(client: &mut Option<Box<Nublado>>) -> Result<&mut Nublado, IterationError> {
    let client = client.as_deref_mut();
    client.ok_or_else(|| IterationError::retry("client", NotStarted))
}

async fn log_in(client: &mut Nublado, monkey: &Monkey) -> Result<(), IterationError> {
    monkey.enter(Phase::HubLogin);
    monkey.info("Logging in to hub");
    client.log_in().await.map_err(|error| failed(error, monkey))
}

/// Says that a lab was deleted, or was to be.
fn deleted(monkey: &Monkey, begun: Instant, success: bool) {
    monkey.emit(Act::NubladoDeleteLab {
        duration: begun.elapsed().as_secs_f64(),
        success,
    });
}

/// Deletes the lab, if there is one, and waits until it is gone.
async fn delete_lab(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
) -> Result<Result<(), NotDeleted>, IterationError> {
    monkey.enter(Phase::DeleteLab);
    let broken = |error: NubladoError| failed(error, monkey);
    if client.is_lab_stopped().await.map_err(broken)? {
        monkey.info("Lab is already stopped");
        monkey.show(|activity| activity.image = None);
        return Ok(Ok(()));
    }
    monkey.info("Deleting lab");
    let begun = clock::now();
    let outcome = delete(client, options, monkey, begun).await;
    deleted(monkey, begun, matches!(outcome, Ok(Ok(()))));
    if let Ok(Ok(())) = &outcome {
        monkey.info("Lab successfully deleted");
        monkey.show(|activity| activity.image = None);
    }
    outcome.map_err(broken)
}

async fn delete(
    client: &mut Nublado,
    options: &NubladoOptions,
    monkey: &Monkey,
    begun: Instant,
) -> Result<Result<(), NotDeleted>, NubladoError> {
    client.delete_lab().await?;
    let limit = options.delete_timeout.to_std();
    loop {
        // Looked at before the look, so that there is one after the time is over.
        let is_last = begun.elapsed() > limit;
        if client.is_lab_stopped().await? {
            return Ok(Ok(()));
        }
        let seconds = begun.elapsed().as_secs();
        if is_last {
            return Ok(Err(NotDeleted { seconds }));
        }
        monkey.info(&format!("Waiting for lab deletion ({seconds}s elapsed)"));
        tokio::time::sleep(POLL).await;
    }
}
