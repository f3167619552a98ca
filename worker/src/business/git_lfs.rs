//! `GitLFS`: stores a file with Git LFS, and reads it back into another clone.

mod check;

use std::sync::Arc;

use mobu_fleet::domain::business::GitLfsOptions;
use mobu_fleet::domain::events::Act;
use mobu_fleet::runtime::clock;

use self::check::{Check, CheckError};
use super::{Business, IterationError};
use crate::client::git::{self, GitError};
use crate::monkey::Monkey;

/// A monkey that stores and reads files with Git LFS.
#[derive(Debug)]
pub(super) struct GitLfs {
    options: Arc<GitLfsOptions>,
    random: fastrand::Rng,
}

impl GitLfs {
    pub(super) fn new(options: Arc<GitLfsOptions>, monkey: &Monkey) -> Self {
        Self {
            options,
            random: monkey.random(),
        }
    }
}

impl GitLfs {
    async fn check(&self, monkey: &Monkey, payload: String) -> Result<(), CheckError> {
        let check = Check::prepare(monkey, &self.options, payload)?;
        // Boxed, because it needs more room than all the rest of a monkey, and only while it is under way.
        let outcome = Box::pin(check.run()).await;
        check.tidy_up().await;
        outcome
    }
}

impl Business for GitLfs {
    async fn startup(&mut self, _: &Monkey) -> Result<(), IterationError> {
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        monkey.info("Running Git-LFS check...");
        let begun = clock::now();
        let payload = uuid::Builder::from_random_bytes(self.random.u128(..).to_ne_bytes())
            .into_uuid()
            .simple()
            .to_string();
        let outcome = self.check(monkey, payload).await.map_err(failed);
        let seconds = begun.elapsed().as_secs_f64();
        if !matches!(outcome, Err(IterationError::Stopped(_))) {
            monkey.emit(Act::GitLfsCheck {
                success: outcome.is_ok(),
                duration: outcome.is_ok().then_some(seconds),
            });
        }
        outcome?;
        monkey.info(&format!("...Git-LFS check finished after {seconds}s"));
        Ok(())
    }
}

fn failed(error: CheckError) -> IterationError {
    let kind = match &error {
        CheckError::Git(GitError::Stopped(stopped)) => return IterationError::Stopped(*stopped),
        CheckError::WriteUrl { .. } => return IterationError::fatal("configuration", error),
        CheckError::Git(GitError::TimedOut { .. }) => "timeout",
        CheckError::Git(_) => "git",
        CheckError::File { .. } => "file",
        CheckError::Comparison { .. } => "comparison",
    };
    let reason = git::reason(&error).unwrap_or_default();
    IterationError::retry(kind, error).because(&reason)
}
