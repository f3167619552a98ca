//! What a flock's monkeys do: one business of eleven, with its options (`contracts/config.md` 6).

mod common;
mod credentials;
mod http_expect;
mod http_request;
mod http_runner;
mod image;
mod notebooks;
mod nublado;
mod oddities;
mod plain;
mod repository;
mod tap;
mod template;

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

pub use self::common::{CommonOptions, LogLevel};
pub(super) use self::credentials::hide_credentials;
pub use self::credentials::lets_in;
pub use self::http_expect::{Expectation, JsonPointer, Pattern};
pub use self::http_request::{HttpRequest, Method, RequestBody};
pub use self::http_runner::{Authenticate, HttpRunnerOptions, RequestOrder};
pub use self::image::{Image, ImageClass, ImageSelector, ImageSize};
pub use self::notebooks::{
    CollectionRule, CollectionRuleKind, NotebookOptions, NotebookRunnerCountingOptions, NotebookRunnerOptions,
    may_hold_the_host, shown_repo_url, split_user_info,
};
pub use self::nublado::{NubladoOptions, NubladoPythonLoopOptions};
pub use self::plain::{EmptyLoopOptions, GitLfsOptions, MusterOptions, SiaQuerySetRunnerOptions};
pub use self::repository::RepositoryConfig;
pub use self::tap::{TapOptions, TapQueryRunnerOptions, TapQuerySetRunnerOptions};
pub use self::template::{JsonTemplate, Template, TemplateValues, Variable};
use super::validation::{Extra, Fields, FromInput, Input, Parsed, choices};

choices! {
    /// The types of business, in the order in which mobu lists them; ours comes last.
    BusinessKind, "enum", any_case = false, {
        /// Runs given TAP queries.
        TapQueryRunner = "TAPQueryRunner",
        /// Writes to and reads from Git LFS.
        GitLfs = "GitLFS",
        /// Calls the Muster service.
        Muster = "Muster",
        /// Runs notebooks, a fixed number per session.
        NotebookRunnerCounting = "NotebookRunnerCounting",
        /// Runs each notebook once per session.
        NotebookRunnerList = "NotebookRunnerList",
        /// Runs notebooks in one session without end.
        NotebookRunnerInfinite = "NotebookRunnerInfinite",
        /// Runs Python in a lab.
        NubladoPythonLoop = "NubladoPythonLoop",
        /// Runs TAP queries made from templates.
        TapQuerySetRunner = "TAPQuerySetRunner",
        /// Runs SIA queries made from templates.
        SiaQuerySetRunner = "SIAQuerySetRunner",
        /// Does nothing.
        EmptyLoop = "EmptyLoop",
        /// Sends HTTP requests and checks the answers; ours.
        HttpRunner = "HTTPRunner",
    }
}

impl BusinessKind {
    /// Returns the name under which a monkey shows its business: the type, but for two (`contracts/rest-api.md` 4.1).
    pub const fn class_name(self) -> &'static str {
        match self {
            Self::Muster => "MusterRunner",
            Self::GitLfs => "GitLFSBusiness",
            other => other.as_str(),
        }
    }
}

/// Options of one business. Cheap to clone, and shared by all monkeys of a flock.
#[expect(missing_docs, reason = "each variant is its type of business")]
#[derive(Debug, Clone, PartialEq)]
pub enum BusinessOptions {
    EmptyLoop(Arc<EmptyLoopOptions>),
    HttpRunner(Arc<HttpRunnerOptions>),
    Muster(Arc<MusterOptions>),
    GitLfs(Arc<GitLfsOptions>),
    TapQueryRunner(Arc<TapQueryRunnerOptions>),
    TapQuerySetRunner(Arc<TapQuerySetRunnerOptions>),
    SiaQuerySetRunner(Arc<SiaQuerySetRunnerOptions>),
    NubladoPythonLoop(Arc<NubladoPythonLoopOptions>),
    NotebookRunnerCounting(Arc<NotebookRunnerCountingOptions>),
    NotebookRunnerInfinite(Arc<NotebookRunnerOptions>),
    NotebookRunnerList(Arc<NotebookRunnerOptions>),
}

impl BusinessOptions {
    fn read(kind: BusinessKind, fields: &mut Fields<'_>) -> Option<Self> {
        Some(match kind {
            BusinessKind::EmptyLoop => Self::EmptyLoop(optional(fields)),
            BusinessKind::HttpRunner => Self::HttpRunner(Arc::new(fields.required("options")?)),
            BusinessKind::Muster => Self::Muster(optional(fields)),
            BusinessKind::GitLfs => Self::GitLfs(Arc::new(fields.required("options")?)),
            BusinessKind::TapQueryRunner => Self::TapQueryRunner(Arc::new(fields.required("options")?)),
            BusinessKind::TapQuerySetRunner => Self::TapQuerySetRunner(optional(fields)),
            BusinessKind::SiaQuerySetRunner => Self::SiaQuerySetRunner(optional(fields)),
            BusinessKind::NubladoPythonLoop => Self::NubladoPythonLoop(optional(fields)),
            BusinessKind::NotebookRunnerCounting => Self::NotebookRunnerCounting(optional(fields)),
            BusinessKind::NotebookRunnerInfinite => Self::NotebookRunnerInfinite(optional(fields)),
            BusinessKind::NotebookRunnerList => {
                let default = NotebookRunnerOptions::default();
                let options = fields.or_by("options", default, NotebookRunnerOptions::from_list);
                Self::NotebookRunnerList(Arc::new(options))
            }
        })
    }
}

fn optional<T: FromInput + Default>(fields: &mut Fields<'_>) -> Arc<T> {
    Arc::new(fields.or("options", T::default()))
}

/// Repository whose notebooks a business runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repository<'a> {
    /// As given in the options; anything that git clones.
    pub url: &'a str,
    /// Branch, tag or commit.
    pub reference: &'a str,
}

/// The business of a flock.
#[derive(Debug, Clone, PartialEq)]
pub struct BusinessConfig {
    /// Whether a failed business starts again; false unless given.
    pub restart: bool,
    /// The type, with its options.
    pub options: BusinessOptions,
}

impl BusinessConfig {
    /// Returns the type.
    pub const fn kind(&self) -> BusinessKind {
        match &self.options {
            BusinessOptions::EmptyLoop(_) => BusinessKind::EmptyLoop,
            BusinessOptions::HttpRunner(_) => BusinessKind::HttpRunner,
            BusinessOptions::Muster(_) => BusinessKind::Muster,
            BusinessOptions::GitLfs(_) => BusinessKind::GitLfs,
            BusinessOptions::TapQueryRunner(_) => BusinessKind::TapQueryRunner,
            BusinessOptions::TapQuerySetRunner(_) => BusinessKind::TapQuerySetRunner,
            BusinessOptions::SiaQuerySetRunner(_) => BusinessKind::SiaQuerySetRunner,
            BusinessOptions::NubladoPythonLoop(_) => BusinessKind::NubladoPythonLoop,
            BusinessOptions::NotebookRunnerCounting(_) => BusinessKind::NotebookRunnerCounting,
            BusinessOptions::NotebookRunnerInfinite(_) => BusinessKind::NotebookRunnerInfinite,
            BusinessOptions::NotebookRunnerList(_) => BusinessKind::NotebookRunnerList,
        }
    }

    /// Returns the options that every business has.
    pub fn common(&self) -> &CommonOptions {
        match &self.options {
            BusinessOptions::EmptyLoop(options) => &options.common,
            BusinessOptions::HttpRunner(options) => &options.common,
            BusinessOptions::Muster(options) => &options.common,
            BusinessOptions::GitLfs(options) => &options.common,
            BusinessOptions::TapQueryRunner(options) => &options.common,
            BusinessOptions::TapQuerySetRunner(options) => &options.common,
            BusinessOptions::SiaQuerySetRunner(options) => &options.common,
            BusinessOptions::NubladoPythonLoop(options) => &options.common,
            BusinessOptions::NotebookRunnerCounting(options) => &options.common,
            BusinessOptions::NotebookRunnerInfinite(options) | BusinessOptions::NotebookRunnerList(options) => {
                &options.common
            }
        }
    }

    /// Returns the repository of a notebook runner, by which a push to GitHub finds its flocks; `None` for others.
    pub fn repository(&self) -> Option<Repository<'_>> {
        let notebooks = match &self.options {
            BusinessOptions::NotebookRunnerCounting(options) => &options.notebooks,
            BusinessOptions::NotebookRunnerInfinite(options) | BusinessOptions::NotebookRunnerList(options) => {
                &options.notebooks
            }
            _ => return None,
        };
        Some(Repository {
            url: &notebooks.repo_url,
            reference: &notebooks.repo_ref,
        })
    }
}

impl FromInput for BusinessConfig {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let (name, kind) = input.tag(BusinessKind::ALL)?;
        // The type is an element of the way to each option.
        let input = input.at_key(name, input.value());
        let mut fields = input.document()?;
        fields.or_by("type", (), |input| Some(Parsed::new((), input.value().clone())));
        let options = BusinessOptions::read(kind, &mut fields);
        let restart = fields.or("restart", false);
        let echo = fields.close(Extra::Forbidden)?;
        let config = Self {
            restart,
            options: options?,
        };
        Some(Parsed::new(config, echo))
    }
}

impl JsonSchema for BusinessConfig {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "BusinessConfig".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one_of: Vec<Value> = BusinessKind::ALL
            .iter()
            .map(|&(name, kind)| {
                let (options, required) = options_schema(kind, generator);
                let required = if required {
                    vec!["type", "options"]
                } else {
                    vec!["type"]
                };
                json!({
                    "type": "object",
                    "properties": {
                        "type": { "const": name },
                        "options": options,
                        "restart": { "type": "boolean", "default": false },
                    },
                    "required": required,
                    "additionalProperties": false,
                })
            })
            .collect();
        json_schema!({
            "description": "What the monkeys do: the type of business, whether a failed one starts again, and its options.",
            "oneOf": one_of,
        })
    }
}

/// Returns the schema of a type's options, and whether they must be given.
fn options_schema(kind: BusinessKind, generator: &mut SchemaGenerator) -> (Schema, bool) {
    match kind {
        BusinessKind::EmptyLoop => (generator.subschema_for::<EmptyLoopOptions>(), false),
        BusinessKind::HttpRunner => (generator.subschema_for::<HttpRunnerOptions>(), true),
        BusinessKind::Muster => (generator.subschema_for::<MusterOptions>(), false),
        BusinessKind::GitLfs => (generator.subschema_for::<GitLfsOptions>(), true),
        BusinessKind::TapQueryRunner => (generator.subschema_for::<TapQueryRunnerOptions>(), true),
        BusinessKind::TapQuerySetRunner => (generator.subschema_for::<TapQuerySetRunnerOptions>(), false),
        BusinessKind::SiaQuerySetRunner => (generator.subschema_for::<SiaQuerySetRunnerOptions>(), false),
        BusinessKind::NubladoPythonLoop => (generator.subschema_for::<NubladoPythonLoopOptions>(), false),
        BusinessKind::NotebookRunnerCounting => (generator.subschema_for::<NotebookRunnerCountingOptions>(), false),
        BusinessKind::NotebookRunnerInfinite | BusinessKind::NotebookRunnerList => {
            (generator.subschema_for::<NotebookRunnerOptions>(), false)
        }
    }
}

#[cfg(test)]
mod tests;
