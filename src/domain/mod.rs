//! What a fleet is about, without any input or output: no runtime, no socket, no clock and no
//! randomness of its own. What is decided here is decided the same way in every process.

pub mod business;
pub mod desired;
pub mod discovery;
pub mod duration;
pub mod events;
pub mod flock;
pub mod fold;
pub mod ids;
pub mod line;
pub mod messages;
pub mod monkey;
pub mod reconcile;
pub mod request;
pub mod schema;
pub mod users;
pub mod validation;
