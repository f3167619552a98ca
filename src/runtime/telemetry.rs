//! Logging: one subscriber for every process, in two forms.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Form of the service's log (`logProfile`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogProfile {
    /// Text for people, coloured on a terminal unless `NO_COLOR` is set.
    #[default]
    Development,
    /// One JSON object per line.
    Production,
}

/// Starts logging to standard error. Only the first call in a process has an effect.
///
/// The libraries below us are quiet unless something is wrong: a broker that restarts is ours to report, once.
pub fn start(profile: LogProfile, level: LevelFilter) {
    let ours = ["mobu_fleet", "mobu_worker", "mobu_coordinator", "mobu"];
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target("lapin", LevelFilter::OFF);
    let targets = targets.with_targets(ours.map(|target| (target, level)));
    let layer = match profile {
        LogProfile::Production => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(std::io::stderr)
            .boxed(),
        LogProfile::Development => {
            let layer = fmt::layer().with_target(false).with_writer(std::io::stderr);
            // On a terminal as the library has it, for that heeds NO_COLOR.
            if std::io::stderr().is_terminal() {
                layer.boxed()
            } else {
                layer.with_ansi(false).boxed()
            }
        }
    };
    if tracing_subscriber::registry()
        .with(layer.with_filter(targets))
        .try_init()
        .is_err()
    {
        tracing::debug!("logging was started before");
    }
}
