//! How a flock starts: users, their tokens, monkeys, batch by batch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::duration::HumanDuration;
use mobu_fleet::domain::flock::User;
use mobu_fleet::domain::messages::FlockPhase;
use mobu_fleet::domain::users::{UserRuleError, batch_size_of, users_of};
use mobu_fleet::runtime::clock;
use mobu_fleet::simulation::{Bug, has};
use tokio::sync::watch;
use tracing::info;

use super::{Herd, Pasture, Status};
use crate::business::{IterationError, Phase};
use crate::client::gafaelfawr::TokenError;
use crate::measure::causes::Causes;
use crate::measure::tally::Tally;
use crate::monkey::roster::{Lives, Roster};
use crate::monkey::{AuthenticatedUser, Counts, FlockRun, Monkey};

/// How many tokens are asked for at a time.
const TOKEN_BATCH: usize = 10;
/// Longest pause between two batches of tokens, so that replicas that start together do not ask together.
const TOKEN_JITTER: Duration = Duration::from_millis(20);
/// After how many monkeys the others get a turn.
const TURN: usize = 1000;

/// Why a flock could not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// Its users cannot be made on this replica; trying again cannot help.
    #[error(transparent)]
    Users(#[from] UserRuleError),
    /// There are no tokens.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// Two monkeys would be one, and the flock would have fewer than it should.
    #[error("the tokens of the users {one} and {other} are both for {user}, says Gafaelfawr")]
    Same {
        /// Who was asked for.
        one: String,
        /// Who was asked for after that.
        other: String,
        /// Whom both were given for.
        user: String,
    },
}

impl StartError {
    /// Returns it as the failure of a monkey, so that it is counted among those.
    pub(super) fn into_failure(self) -> IterationError {
        match self {
            Self::Users(error) => IterationError::fatal("users", error),
            Self::Same { .. } => IterationError::fatal("users", self).during(Phase::Authenticate),
            Self::Tokens(error) => {
                let (kind, url, status) = match &error {
                    TokenError::Discovery(_) => {
                        return IterationError::retry("discovery", error).during(Phase::Discovery);
                    }
                    TokenError::Unreachable { url, .. } => ("transport", url.clone(), None),
                    TokenError::Answer { url, .. } => ("format", url.clone(), None),
                    TokenError::Status { url, status, .. } => ("status", url.clone(), Some(*status)),
                };
                let failure = IterationError::retry(kind, error).during(Phase::Authenticate);
                failure.at_shown(&url).status(status)
            }
        }
    }
}

/// One attempt to start a flock.
pub(super) struct Start<'a> {
    pub(super) desired: &'a DesiredFlock,
    pub(super) pasture: &'a Pasture,
    pub(super) status: &'a watch::Sender<Status>,
    pub(super) random: &'a mut fastrand::Rng,
    /// Where failures of this generation are noted.
    pub(super) causes: &'a Arc<Causes>,
}

impl Start<'_> {
    /// Starts every monkey, and returns once the last batch is started.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it starts no further monkey; those in `lives` and in the status go on.
    pub(super) async fn run(mut self, lives: &mut Lives) -> Result<(), StartError> {
        let config = &self.desired.config;
        info!(flock.name = %config.name, "Creating users");
        let identity = self.pasture.identity.in_flock(self.desired);
        let users = identity.as_ref().map(|identity| users_of(config, identity));
        let users = users.transpose()?.unwrap_or_default();
        let users = self.authenticate(users).await?;
        let herd = self.herd(users).await;
        self.status.send_modify(|status| {
            status.monkeys = Some(herd.clone());
            // After a failed attempt, this one goes on.
            (status.phase, status.error) = (FlockPhase::Starting, None);
            // It was asked for while there was nobody to tell.
            let adopted = if has(Bug::AdoptNoRefreshGeneration) {
                self.desired.generation
            } else {
                self.desired.refresh_generation
            };
            if status.refresh_generation > adopted {
                herd.roster.refresh();
            }
        });
        self.start_batches(herd.roster.monkeys(), lives).await;
        self.status.send_modify(|status| status.phase = FlockPhase::Running);
        self.pasture.changed.notify_one();
        info!(flock.name = %config.name, "flock `{}` runs {} monkeys", config.name, herd.roster.monkeys().len());
        Ok(())
    }

    async fn authenticate(&mut self, users: Vec<User>) -> Result<Vec<AuthenticatedUser>, StartError> {
        let (tokens, scopes) = (&self.pasture.tokens, &self.desired.config.scopes);
        let mut authenticated = Vec::<AuthenticatedUser>::with_capacity(users.len());
        // Whom each name was asked as. The same user may be in a list twice, and is one monkey then, as in mobu.
        let mut asked_as = BTreeMap::new();
        for (number, batch) in users.chunks(TOKEN_BATCH).enumerate() {
            if number > 0 && tokens.are_remote() {
                tokio::time::sleep(TOKEN_JITTER.mul_f64(self.random.f64())).await;
            }
            let asked = batch.iter().map(|user| tokens.authenticate(user, scopes));
            for (user, answer) in batch.iter().zip(all(asked.collect()).await) {
                let answer = answer?;
                let before = asked_as.insert(answer.username.clone(), &user.username);
                if let Some(before) = before.filter(|before| **before != user.username) {
                    return Err(StartError::Same {
                        one: before.to_string(),
                        other: user.username.to_string(),
                        user: answer.username.to_string(),
                    });
                }
                authenticated.push(answer);
            }
            if (number * TOKEN_BATCH).is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
        Ok(authenticated)
    }

    async fn herd(&self, users: Vec<AuthenticatedUser>) -> Herd {
        let config = &self.desired.config;
        let run = Arc::new(FlockRun {
            name: config.name.clone(),
            business: config.business.clone(),
            scopes: config.scopes.clone(),
            counts: Counts::default(),
            tally: Tally::default(),
            causes: self.causes.clone(),
            surroundings: self.pasture.surroundings.clone(),
        });
        let mut monkeys = Vec::with_capacity(users.len());
        for user in users {
            monkeys.push(Arc::new(Monkey::new(run.clone(), user)));
            if monkeys.len().is_multiple_of(TURN) {
                tokio::task::yield_now().await;
            }
        }
        Herd {
            run,
            roster: Arc::new(Roster::new(monkeys)),
        }
    }

    async fn start_batches(&self, monkeys: &[Arc<Monkey>], lives: &mut Lives) {
        let config = &self.desired.config;
        let identity = self.pasture.identity.in_flock(self.desired);
        let size = identity.and_then(|identity| batch_size_of(config, &identity));
        let size = size.and_then(|size| usize::try_from(size).ok());
        let size = size.unwrap_or(usize::MAX).clamp(1, monkeys.len().max(1));
        let wait = config.start_batch_wait.map(HumanDuration::to_std).unwrap_or_default();
        let batches = monkeys.len().div_ceil(size);
        for (number, batch) in monkeys.chunks(size).enumerate() {
            if number > 0 {
                info!(flock.name = %config.name, wait_secs = wait.as_secs_f64(), "pausing for batch");
                tokio::time::sleep(wait).await;
            }
            info!(
                flock.name = %config.name, current_batch = number + 1, num_batches = batches, monkeys_in_batch = batch.len(),
                "starting batch"
            );
            for part in batch.chunks(TURN) {
                for monkey in part {
                    lives.start(monkey);
                }
                tokio::task::yield_now().await;
            }
            self.status
                .send_modify(|status| status.start_time = Some(clock::wall()));
        }
    }
}

/// Waits for all futures at once; returns what they gave in their order.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        let mut is_done = true;
        for (future, done) in &mut waiting {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(value) => *done = Some(value),
                    Poll::Pending => is_done = false,
                }
            }
        }
        if !is_done {
            return Poll::Pending;
        }
        Poll::Ready(waiting.iter_mut().filter_map(|(_, done)| done.take()).collect())
    })
    .await
}
