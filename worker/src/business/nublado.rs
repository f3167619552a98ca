//! What every business in a lab does around its own work (`contracts/businesses.md` 4.9): log in, spawn a lab, hold a session
//! in it, delete the lab. What runs in the session is a [`LabWork`].

mod session;

use std::future::Future;

use mobu_fleet::domain::business::NubladoOptions;

pub(crate) use self::session::{CodeError, LabSession};
use super::IterationError;
use crate::monkey::Monkey;

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
