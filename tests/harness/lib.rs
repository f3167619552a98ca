//! What tests of the whole fleet need: real brokers, and networks that fail on demand.

pub mod broker;
pub mod chaos;
pub mod fleet;
pub mod fuzz;
pub mod ingress;
pub mod platform;
pub mod pressure;
pub mod process;
pub mod proxy;
pub mod service;
pub mod sim;
