//! A fleet of real processes under pressure: what it uses, how old its reports get, and whether it goes on answering.
//!
//! Each [`Part`] plays one kind of pressure and gives an [`Account`] of it, which says what was used at the start, at worst and in the end,
//! and which bound was broken, if any.

mod account;
mod crowd;
mod load;
mod log;
mod noise;
mod readers;
mod silence;
mod stage;
mod watch;

use std::time::Duration;

use anyhow::Result;

pub use account::{Account, Bounds};
pub use readers::{Reader, Readers};
pub use silence::BlackHole;
pub use watch::{Usage, usage};

/// One kind of pressure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Many requests, over HTTP and AMQP: changes, reads, and what is refused.
    Requests,
    /// Monkeys that log a lot.
    Logs,
    /// Readers of logs and events that read slowly, or not at all.
    Readers,
    /// A service under test that accepts connections and never answers.
    Target,
    /// A Gafaelfawr that accepts connections and never answers.
    Tokens,
    /// Many replicas that report at once.
    Crowd,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Requests,
        Self::Logs,
        Self::Readers,
        Self::Target,
        Self::Tokens,
        Self::Crowd,
    ];

    /// What is done, for people.
    pub fn describe(self, scale: &Scale) -> String {
        let seconds = scale.time.as_secs();
        match self {
            Self::Requests => format!("{} requests a second, {seconds} s", scale.rate),
            Self::Logs => format!("{} MiB of output of cells", scale.log_bytes >> 20),
            Self::Readers => format!("{0} slow readers of logs and {0} of events, {seconds} s", scale.readers),
            Self::Target => format!("a target that never answers, {} monkeys, {seconds} s", scale.monkeys),
            Self::Tokens => format!("a Gafaelfawr that hangs, {} users, {seconds} s", scale.monkeys),
            Self::Crowd => format!("{} replicas that report at once, {seconds} s", scale.replicas),
        }
    }
}

/// How much of everything.
#[derive(Debug, Clone)]
pub struct Scale {
    /// How long each part goes on, but for [`Part::Logs`].
    pub time: Duration,
    /// Requests in a second.
    pub rate: u32,
    /// How much the monkeys of [`Part::Logs`] log.
    pub log_bytes: u64,
    /// How many of them each replica has.
    pub loud: u32,
    /// Slow readers of logs, and as many of events.
    pub readers: usize,
    /// Monkeys that wait for what never answers.
    pub monkeys: u32,
    /// Replicas of [`Part::Crowd`].
    pub replicas: u32,
    /// What must not be exceeded.
    pub bounds: Bounds,
}

impl Scale {
    /// What is done by hand.
    pub fn full(time: Duration) -> Self {
        Self {
            time,
            rate: 1000,
            log_bytes: 1 << 30,
            loud: 8,
            readers: 50,
            monkeys: 200,
            replicas: 200,
            bounds: Bounds::default(),
        }
    }

    /// What the gate does beside other tests: short, and without a word on how old a report may be on a machine that does other things.
    pub fn short() -> Self {
        Self {
            time: Duration::from_secs(3),
            rate: 100,
            log_bytes: 4 << 20,
            loud: 2,
            readers: 10,
            monkeys: 50,
            replicas: 20,
            bounds: Bounds {
                report_age: Duration::from_secs(60),
                answer: Duration::from_secs(60),
                peak_kib: 64 * 1024,
                rest_kib: 32 * 1024,
                ..Bounds::default()
            },
        }
    }
}

/// Plays one part on a broker.
///
/// # Errors
///
/// If it could not be played to its end. That a bound was broken is no error: see [`Account::breaches`].
pub async fn play(part: Part, broker: &str, scale: &Scale) -> Result<Account> {
    match part {
        Part::Requests => load::play(broker, scale).await,
        Part::Logs => noise::play(broker, scale).await,
        Part::Readers => readers::play(broker, scale).await,
        Part::Target => silence::target(broker, scale).await,
        Part::Tokens => silence::tokens(broker, scale).await,
        Part::Crowd => crowd::play(broker, scale).await,
    }
}
