//! `HTTPRunner`, ours: requests to any HTTP service, with checks of the answers.

use schemars::JsonSchema;

use super::{CommonOptions, HttpRequest};
use crate::domain::validation::{Extra, FromInput, Input, Parsed, choices};

/// Most requests of one iteration.
const MAX_REQUESTS: usize = 100;

choices! {
    /// In which order the requests of an iteration are sent.
    RequestOrder, "enum", any_case = false, {
        /// All, as they are listed; the first failure ends the iteration.
        Sequence = "sequence",
        /// One of them, chosen at random.
        Random = "random",
    }
}

choices! {
    /// How requests prove who sends them.
    Authenticate, "enum", any_case = false, {
        /// With the user's token in an `Authorization: Bearer` header.
        Bearer = "bearer",
        /// Not at all, unless a header of the request does.
        None = "none",
    }
}

/// Options of `HTTPRunner`.
#[derive(Debug, Clone, PartialEq, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct HttpRunnerOptions {
    /// Options of every business.
    #[schemars(flatten)]
    pub common: CommonOptions,
    /// What is asked, 1 to 100 requests.
    #[schemars(length(min = 1, max = 100))]
    pub requests: Vec<HttpRequest>,
    /// In which order; `sequence` unless given.
    #[schemars(default = "HttpRunnerOptions::sequence")]
    pub order: RequestOrder,
    /// Whether a monkey keeps cookies from one request to the next; true unless given.
    #[schemars(default = "HttpRunnerOptions::yes")]
    pub cookies: bool,
    /// How requests prove who sends them; `none` unless given, because the URLs may lead anywhere and a token that
    /// nobody asked to send must not leave for a stranger's service.
    #[schemars(default = "HttpRunnerOptions::nobody")]
    pub authenticate: Authenticate,
}

impl HttpRunnerOptions {
    fn sequence() -> RequestOrder {
        RequestOrder::Sequence
    }

    fn yes() -> bool {
        true
    }

    fn nobody() -> Authenticate {
        Authenticate::None
    }

    fn requests(input: &Input<'_>) -> Option<Parsed<Vec<HttpRequest>>> {
        if input.value().as_array().is_some_and(Vec::is_empty) {
            return input.too_short("List");
        }
        input.list(MAX_REQUESTS, HttpRequest::from_input)
    }
}

impl FromInput for HttpRunnerOptions {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("HTTPRunnerOptions")?;
        let common = CommonOptions::read(&mut fields);
        let requests = fields.required_by("requests", Self::requests);
        let order = fields.or("order", Self::sequence());
        let cookies = fields.or("cookies", Self::yes());
        let authenticate = fields.or("authenticate", Self::nobody());
        let echo = fields.close(Extra::Forbidden)?;
        let options = Self {
            common,
            requests: requests?,
            order,
            cookies,
            authenticate,
        };
        Some(Parsed::new(options, echo))
    }
}
