//! Tests against a real broker.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cluster_faults;
mod doors;
mod foreign;
mod link;
mod link_faults;
mod monitoring;
mod outages;
mod pressure;
mod processes;
mod support;
mod tls;
mod upgrades;
mod wire;
