//! Businesses with few options of their own: `EmptyLoop`, `Muster`, `GitLFS`, `SIAQuerySetRunner`.

use schemars::JsonSchema;

use super::CommonOptions;
use crate::domain::validation::{Extra, FromInput, Input, Parsed};

/// Options of `EmptyLoop`, which does nothing at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EmptyLoopOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
}

impl FromInput for EmptyLoopOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("BusinessOptions")?;
        let common = CommonOptions::read(&mut fields);
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(Self { common }, echo))
    }
}

/// Options of `Muster`.
#[derive(Debug, Clone, Default, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct MusterOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
}

impl FromInput for MusterOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("MusterOptions")?;
        let common = CommonOptions::read(&mut fields);
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(Self { common }, echo))
    }
}

/// Options of `GitLFS`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct GitLfsOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Where objects are read from; not checked to be a URL.
    pub lfs_read_url: String,
    /// Where objects are written to; not checked to be a URL.
    pub lfs_write_url: String,
}

impl FromInput for GitLfsOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("GitLFSBusinessOptions")?;
        let common = CommonOptions::read(&mut fields);
        let lfs_read_url = fields.required("lfs_read_url");
        let lfs_write_url = fields.required("lfs_write_url");
        let echo = fields.close(Extra::Forbidden)?;
        let options = Self {
            common,
            lfs_read_url: lfs_read_url?,
            lfs_write_url: lfs_write_url?,
        };
        Some(Parsed::new(options, echo))
    }
}

/// Options of `SIAQuerySetRunner`.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SiaQuerySetRunnerOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// Name of the set of queries; `dp02` unless given. An unknown one fails when the monkey starts.
    #[schemars(default = "SiaQuerySetRunnerOptions::dp02")]
    pub query_set: String,
    /// Dataset whose service is asked; `dp02` unless given.
    #[schemars(default = "SiaQuerySetRunnerOptions::dp02")]
    pub dataset: String,
}

impl SiaQuerySetRunnerOptions {
    fn dp02() -> String {
        "dp02".to_owned()
    }
}

impl Default for SiaQuerySetRunnerOptions {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            query_set: Self::dp02(),
            dataset: Self::dp02(),
        }
    }
}

impl FromInput for SiaQuerySetRunnerOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("SIAQuerySetRunnerOptions")?;
        let options = Self {
            common: CommonOptions::read(&mut fields),
            query_set: fields.or("query_set", Self::dp02()),
            dataset: fields.or("dataset", Self::dp02()),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(options, echo))
    }
}
