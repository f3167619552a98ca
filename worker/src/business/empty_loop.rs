//! `EmptyLoop`: does nothing, as cheaply as possible.

use mobu_fleet::domain::events::Act;

use super::{Business, IterationError};
use crate::monkey::Monkey;

/// A monkey that only idles.
#[derive(Debug)]
pub(super) struct EmptyLoop;

impl Business for EmptyLoop {
    async fn startup(&mut self, _: &Monkey) -> Result<(), IterationError> {
        Ok(())
    }

    async fn execute(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        monkey.emit(Act::EmptyLoop { success: true });
        Ok(())
    }
}
