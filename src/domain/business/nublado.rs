//! Businesses that run code in a lab.

use schemars::JsonSchema;

use super::{CommonOptions, Image};
use crate::domain::duration::HumanDuration;
use crate::domain::validation::{Extra, Fields, FromInput, Input, Parsed};

/// Options of every business that runs code in a lab (`contracts/config.md` 6.3).
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct NubladoOptions {
    /// Whether the lab is deleted after each iteration; true unless given.
    #[schemars(default = "NubladoOptions::yes")]
    pub delete_lab: bool,
    /// How long to wait for the deletion; 60 s unless given.
    #[schemars(default = "NubladoOptions::minute")]
    pub delete_timeout: HumanDuration,
    /// Pause between blocks of code or cells; 1 s unless given.
    #[schemars(default = "NubladoOptions::second")]
    pub execution_idle_time: HumanDuration,
    /// Whether the lab is asked for its node; true unless given.
    #[schemars(default = "NubladoOptions::yes")]
    pub get_node: bool,
    /// Which image is spawned, and how large.
    #[schemars(default)]
    pub image: Image,
    /// A random part of it passes before the first login and is added to each idle time; none unless given.
    #[schemars(default)]
    pub jitter: HumanDuration,
    /// Limit of each HTTP operation, and between two progress events; 60 s unless given.
    #[schemars(default = "NubladoOptions::minute")]
    pub jupyter_timeout: HumanDuration,
    /// Largest message accepted from the lab, in bytes; no limit unless given.
    pub max_websocket_message_size: Option<u64>,
    /// Pause between asking for a lab and watching its progress; 10 s unless given.
    #[schemars(default = "NubladoOptions::settle")]
    pub spawn_settle_time: HumanDuration,
    /// Limit of a spawn, the settle time included; 610 s unless given.
    #[schemars(default = "NubladoOptions::spawn")]
    pub spawn_timeout: HumanDuration,
    /// Accepted, and without effect as in mobu; `/nb/` unless given.
    #[schemars(default = "NubladoOptions::prefix")]
    pub url_prefix: String,
    /// Directory, below the home directory, in which code runs.
    pub working_directory: Option<String>,
    /// Limit of one execution of code or of one cell; none unless given.
    pub cell_execution_timeout: Option<HumanDuration>,
}

impl NubladoOptions {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let default = Self::default();
        Self {
            delete_lab: fields.or("delete_lab", default.delete_lab),
            delete_timeout: fields.or("delete_timeout", default.delete_timeout),
            execution_idle_time: fields.or("execution_idle_time", default.execution_idle_time),
            get_node: fields.or("get_node", default.get_node),
            image: fields.or("image", default.image),
            jitter: fields.or("jitter", default.jitter),
            jupyter_timeout: fields.or("jupyter_timeout", default.jupyter_timeout),
            max_websocket_message_size: fields.nullable_by("max_websocket_message_size", |input| {
                Some(input.integer(0, i64::MAX)?.map(i64::unsigned_abs))
            }),
            spawn_settle_time: fields.or("spawn_settle_time", default.spawn_settle_time),
            spawn_timeout: fields.or("spawn_timeout", default.spawn_timeout),
            url_prefix: fields.or("url_prefix", default.url_prefix),
            working_directory: fields.nullable("working_directory"),
            cell_execution_timeout: fields.nullable("cell_execution_timeout"),
        }
    }

    fn yes() -> bool {
        true
    }

    fn second() -> HumanDuration {
        HumanDuration::from_seconds(1)
    }

    fn settle() -> HumanDuration {
        HumanDuration::from_seconds(10)
    }

    fn minute() -> HumanDuration {
        HumanDuration::from_seconds(60)
    }

    fn spawn() -> HumanDuration {
        HumanDuration::from_seconds(610)
    }

    fn prefix() -> String {
        "/nb/".to_owned()
    }
}

impl Default for NubladoOptions {
    fn default() -> Self {
        Self {
            delete_lab: Self::yes(),
            delete_timeout: Self::minute(),
            execution_idle_time: Self::second(),
            get_node: Self::yes(),
            image: Image::default(),
            jitter: HumanDuration::ZERO,
            jupyter_timeout: Self::minute(),
            max_websocket_message_size: None,
            spawn_settle_time: Self::settle(),
            spawn_timeout: Self::spawn(),
            url_prefix: Self::prefix(),
            working_directory: None,
            cell_execution_timeout: None,
        }
    }
}

/// How often code runs in one lab and session before they are renewed, unless given.
pub(super) const MAX_EXECUTIONS: u64 = 25;

/// Reads `max_executions`: 1 or more.
pub(super) fn max_executions(fields: &mut Fields<'_>) -> u64 {
    fields.or_by("max_executions", MAX_EXECUTIONS, |input| {
        Some(input.integer(1, i64::MAX)?.map(i64::unsigned_abs))
    })
}

pub(super) fn default_max_executions() -> u64 {
    MAX_EXECUTIONS
}

/// Options of `NubladoPythonLoop`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct NubladoPythonLoopOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Options of every business that runs code in a lab.
    #[schemars(flatten)]
    pub nublado: NubladoOptions,
    /// Python to run; it prints 4 unless given.
    #[schemars(default = "NubladoPythonLoopOptions::four")]
    pub code: String,
    /// How often it runs in one session, 1 or more; 25 unless given.
    #[schemars(default = "default_max_executions", range(min = 1))]
    pub max_executions: u64,
}

impl NubladoPythonLoopOptions {
    fn four() -> String {
        r#"print(2+2, end="")"#.to_owned()
    }
}

impl Default for NubladoPythonLoopOptions {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            nublado: NubladoOptions::default(),
            code: Self::four(),
            max_executions: MAX_EXECUTIONS,
        }
    }
}

impl FromInput for NubladoPythonLoopOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("NubladoPythonLoopOptions")?;
        let options = Self {
            common: CommonOptions::read(&mut fields),
            nublado: NubladoOptions::read(&mut fields),
            code: fields.or("code", Self::four()),
            max_executions: max_executions(&mut fields),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(options, echo))
    }
}
