//! The replica: reads the state log, runs what it says, reports, answers.

pub(crate) mod actor;
mod answers;
mod figures;
pub(crate) mod handle;
mod session;
mod state;
mod telling;
mod undecodable;

pub use self::handle::{LinkStatus, WorkerHandle, WorkerStatus};
