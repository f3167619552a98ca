//! A worker on the in-process link, with a leader that does exactly what a test says.
#![expect(clippy::unwrap_used, reason = "what fails in a test's helper fails the test")]

mod admin;
mod faults;
mod flocks;
mod front;
mod gafaelfawr;
mod git_lfs;
mod http_runner;
mod leader;
mod measures;
mod muster;
mod notebooks;
mod nublado;
mod service;
mod sessions;
mod sia;
mod tap;
mod vo;
