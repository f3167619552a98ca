//! What coordinator, workers and tools of a mobu fleet share.
//!
//! # Glossary: one word per thing
//!
//! - **flock**: a named group of monkeys that do one business with the same options.
//! - **monkey**: one simulated user, in one task on one replica.
//! - **business**: what a monkey does over and over; one round of it is an *iteration*.
//! - **fleet**: coordinator and replicas that share a name, the prefix of everything they have on the broker.
//! - **replica**: one worker process. Its *instance ID* names it for life, its *session* tells restarts apart.
//! - **coordinator**: the process that leads, and its standbys. Only what the leader appends to the log counts.
//! - **desired state**: what shall run. **Actual state**: what a replica runs.
//! - **revision**: number of an accepted change of the desired state; only grows.
//! - **epoch**: number of a coordinator's reign; a takeover raises it. **Owner**: random name of the session that claimed it.
//! - **state log**: the stream of whole desired states, in the order that decides; made of *entries*.
//! - **announcement**, **query**, **report**, **request**: the other messages; see [`domain::messages`].
//! - **generation**: the revision at which a flock's configuration was last given; **refresh generation**: that of its last refresh.
//! - **converged**: every expected replica acts on the newest revision, and its flocks are where that asks them to be.

pub mod domain;
pub mod link;
pub mod runtime;
#[doc(hidden)]
pub mod simulation;
