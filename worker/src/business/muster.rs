//! `Muster`: checks what Gafaelfawr's ingresses let through, refuse and pass on, by way of the service Muster.
//!
//! Its quota is one request per user and minute, so that two iterations of one user within a minute cannot both succeed:
//! `idle_time` should be well above a minute, and no other flock or fleet may play the same user.

mod check;

use mobu_fleet::domain::discovery::NotDiscovered;
use mobu_fleet::domain::events::Act;
use mobu_fleet::runtime::clock;
use serde_json::{Value, json};

use self::check::{Check, Deviation};
use super::{Business, IterationError, Phase};
use crate::client::muster::{self, MusterError};
use crate::client::repertoire::DiscoveryError;
use crate::monkey::{AuthenticatedUser, Monkey, UserOrigin};

/// A monkey that asks Muster.
#[derive(Debug, Default)]
pub(super) struct Muster {
    /// What the current run asks with, and what Muster must know about the user.
    run: Option<Run>,
}

#[derive(Debug)]
struct Run {
    client: muster::Muster,
    expected: Value,
}

/// Nobody but Gafaelfawr can say what Muster must answer.
#[derive(Debug, thiserror::Error)]
#[error(
    "Muster compares users with what Gafaelfawr says about them: it needs `tokens: gafaelfawr`, not `tokens: local`"
)]
struct NeedsGafaelfawr;

/// `execute` was called without `startup`.
#[derive(Debug, thiserror::Error)]
#[error("the run has not been started up")]
struct NotStarted;

/// Returns what a service behind Gafaelfawr is told about a user.
fn delegated(user: &AuthenticatedUser) -> Result<Value, NeedsGafaelfawr> {
    let UserOrigin::Gafaelfawr { display_name } = &user.origin else {
        return Err(NeedsGafaelfawr);
    };
    Ok(json!({
        "username": user.username.as_str(),
        "name": display_name,
        "uid": user.uidnumber,
        "gid": user.gidnumber,
        "groups": &*user.groups,
    }))
}

impl Business for Muster {
    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        monkey.info("Starting Muster runner");
        let user = monkey.user();
        self.run = Some(Run {
            expected: delegated(user).map_err(|error| IterationError::fatal("configuration", error))?,
            client: muster::Muster::connect(&user.token).map_err(|error| IterationError::retry("client", error))?,
        });
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let run = self
            .run
            .as_ref()
            .ok_or_else(|| IterationError::retry("muster", NotStarted))?;
        let begun = clock::now();
        // Boxed, because a request needs more room than all the rest of a monkey, and only while it is under way.
        let checked = monkey.unless_stopped(Box::pin(run.check(monkey))).await?;
        let seconds = begun.elapsed().as_secs_f64();
        monkey.emit(Act::Muster {
            duration: seconds,
            success: checked.is_ok(),
        });
        checked?;
        monkey.info(&format!("Muster finished after {seconds} seconds"));
        Ok(())
    }

    async fn close(&mut self, _: &Monkey) {
        self.run = None;
    }
}

impl Run {
    async fn check(&self, monkey: &Monkey) -> Result<(), IterationError> {
        monkey.enter(Phase::Discovery);
        let discovery = |error: DiscoveryError| IterationError::retry("discovery", error);
        let locator = monkey.surroundings().locator.as_deref();
        let locator = locator.ok_or_else(|| discovery(DiscoveryError::NotConfigured))?;
        let services = locator.discover().await.map_err(discovery)?;
        let base = services
            .muster()
            .map_err(|error: NotDiscovered| discovery(error.into()))?;
        let check = Check {
            monkey,
            client: &self.client,
            base,
            expected: &self.expected,
        };
        monkey.enter(Phase::Muster);
        check.run().await.map_err(|error| {
            let kind = match &error {
                Deviation::Unanswered(MusterError::TimedOut { .. }) => "timeout",
                Deviation::Unanswered(MusterError::Transport { .. }) => "transport",
                Deviation::Status { .. } => "status",
                _ => "muster",
            };
            let (url, status) = (error.url().unwrap_or_default().to_owned(), error.status());
            IterationError::retry(kind, error).at_shown(&url).status(status)
        })
    }
}
