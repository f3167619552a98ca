//! The fleet as the coordinator sees it: who leads, what shall run, who runs it.
//!
//! [`handle`] is the public face, [`actor`] the one loop, [`state`] decides.

pub mod actor;
pub mod change;
pub mod gather;
pub mod handle;
pub mod reign;
pub mod replicas;
mod requests;
pub mod state;
mod wire;
