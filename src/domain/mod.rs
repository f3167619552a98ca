//! What a fleet is about, without any input or output: no runtime, no socket, no clock and no
//! randomness of its own. What is decided here is decided the same way in every process.

pub mod business;
pub mod duration;
pub mod flock;
pub mod ids;
pub mod users;
pub mod validation;
