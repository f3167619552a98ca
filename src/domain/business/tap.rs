//! Businesses that query a TAP service.

use schemars::JsonSchema;

use super::CommonOptions;
use crate::domain::validation::{Extra, Fields, FromInput, Input, Parsed};

/// Options of both TAP businesses (`contracts/config.md` 6.2).
#[derive(Debug, Clone, PartialEq, JsonSchema)]
pub struct TapOptions {
    /// Dataset whose service is asked; `dp02` unless given.
    #[schemars(default = "TapOptions::dp02")]
    pub dataset: String,
    /// Whether queries are synchronous; true unless given.
    #[schemars(default = "TapOptions::yes")]
    pub sync: bool,
    /// Seconds that a whole query may take, its answer included; a number, not a human duration. No limit unless given.
    pub query_timeout: Option<f64>,
}

impl TapOptions {
    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            dataset: fields.or("dataset", Self::dp02()),
            sync: fields.or("sync", Self::yes()),
            query_timeout: fields.nullable("query_timeout"),
        }
    }

    fn dp02() -> String {
        "dp02".to_owned()
    }

    fn yes() -> bool {
        true
    }
}

impl Default for TapOptions {
    fn default() -> Self {
        Self {
            dataset: Self::dp02(),
            sync: Self::yes(),
            query_timeout: None,
        }
    }
}

/// Options of `TAPQueryRunner`.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TapQueryRunnerOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Options of both TAP businesses.
    #[schemars(flatten)]
    pub tap: TapOptions,
    /// Queries, of which each iteration runs one. An empty list is accepted, and every iteration fails.
    pub queries: Vec<String>,
}

impl FromInput for TapQueryRunnerOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("TAPQueryRunnerOptions")?;
        let common = CommonOptions::read(&mut fields);
        let tap = TapOptions::read(&mut fields);
        let queries = fields.required("queries");
        let echo = fields.close(Extra::Forbidden)?;
        let options = Self {
            common,
            tap,
            queries: queries?,
        };
        Some(Parsed::new(options, echo))
    }
}

/// Options of `TAPQuerySetRunner`.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct TapQuerySetRunnerOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Options of both TAP businesses.
    #[schemars(flatten)]
    pub tap: TapOptions,
    /// Name of the set of query templates; `dp0.1` unless given. An unknown one fails when the monkey starts.
    #[schemars(default = "TapQuerySetRunnerOptions::dp01")]
    pub query_set: String,
}

impl TapQuerySetRunnerOptions {
    fn dp01() -> String {
        "dp0.1".to_owned()
    }
}

impl Default for TapQuerySetRunnerOptions {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            tap: TapOptions::default(),
            query_set: Self::dp01(),
        }
    }
}

impl FromInput for TapQuerySetRunnerOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("TAPQuerySetRunnerOptions")?;
        let options = Self {
            common: CommonOptions::read(&mut fields),
            tap: TapOptions::read(&mut fields),
            query_set: fields.or("query_set", Self::dp01()),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(options, echo))
    }
}
