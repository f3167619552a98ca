//! The ring: every business against the real service that it is made for, run by real processes on a real broker.
//!
//! Modules are named as the service that their tests need (`fleet_tests::service::Kind`): by that name the runner leaves out, and
//! says that it does, what cannot be had on a machine. Where a test talks to a stand-in, it says so.

mod certificates;
mod dachs;
mod giftless;
mod jupyterhub;
mod support;
mod web;
