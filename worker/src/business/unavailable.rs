//! Stands for every business that this release does not run: its monkeys say so.

use super::{Business, IterationError};
use crate::monkey::Monkey;

/// A monkey that cannot do what it should.
#[derive(Debug)]
pub(super) struct Unavailable;

/// The business is known, but not to this release.
#[derive(Debug, thiserror::Error)]
#[error("this release ({version}) does not run the business {business}", version = env!("CARGO_PKG_VERSION"))]
struct NotInThisRelease {
    business: &'static str,
}

impl Business for Unavailable {
    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        let business = monkey.flock().business.kind().as_str();
        Err(IterationError::retry("unavailable", NotInThisRelease { business }))
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        self.startup(monkey).await
    }
}
