//! What all businesses are told alike, and those that are told nothing else.

use schemars::JsonSchema;

use crate::domain::duration::HumanDuration;
use crate::domain::validation::{Fields, choices};

choices! {
    /// Least severity of what a monkey's log keeps; read in any case, shown in capitals.
    LogLevel, "enum", any_case = true, {
        /// Everything.
        Debug = "DEBUG",
        /// What an operator wants to read.
        Info = "INFO",
        /// What was not expected.
        Warning = "WARNING",
        /// What failed.
        Error = "ERROR",
        /// What ended the monkey.
        Critical = "CRITICAL",
    }
}

/// Options of every business (`contracts/config.md` 6.1).
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct CommonOptions {
    /// Pause before a restart after a failure; 60 s unless given.
    #[schemars(default = "CommonOptions::minute")]
    pub error_idle_time: HumanDuration,
    /// Pause after each iteration; 60 s unless given. Zero is legal, negative acts like zero.
    #[schemars(default = "CommonOptions::minute")]
    pub idle_time: HumanDuration,
    /// Level of the monkey's log; `INFO` unless given.
    #[schemars(default = "CommonOptions::info")]
    pub log_level: LogLevel,
}

impl CommonOptions {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            error_idle_time: fields.or("error_idle_time", Self::minute()),
            idle_time: fields.or("idle_time", Self::minute()),
            log_level: fields.or("log_level", Self::info()),
        }
    }

    fn minute() -> HumanDuration {
        HumanDuration::from_seconds(60)
    }

    fn info() -> LogLevel {
        LogLevel::Info
    }
}

impl Default for CommonOptions {
    fn default() -> Self {
        Self {
            error_idle_time: Self::minute(),
            idle_time: Self::minute(),
            log_level: Self::info(),
        }
    }
}
