//! `EmptyLoop`: does nothing, as cheaply as possible.

use super::{Business, IterationError};
use crate::monkey::Monkey;

/// A monkey that only idles.
#[derive(Debug)]
pub(super) struct EmptyLoop;

impl Business for EmptyLoop {
    async fn startup(&mut self, _: &Monkey) -> Result<(), IterationError> {
        Ok(())
    }

    async fn execute(&mut self, _: &Monkey) -> Result<(), IterationError> {
        Ok(())
    }
}
