//! One HTTP request of an `HTTPRunner`.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;
use url::Url;

use super::{Expectation, JsonTemplate, Template, TemplateValues};
use crate::domain::duration::HumanDuration;
use crate::domain::validation::{Extra, FromInput, Input, Parsed};

/// Most headers, query parameters or expected values of one request.
pub(super) const MAX_ENTRIES: usize = 64;
/// Longest URL, header or query value, in characters: what common servers accept.
const MAX_TEXT: usize = 8_192;
/// Longest body, in characters; the whole flock must fit 1 MiB anyway.
const MAX_BODY: usize = 262_144;
/// Longest time-out, in seconds: an hour.
const MAX_TIMEOUT: u32 = 3_600;
/// Longest method name, in characters.
const MAX_METHOD: usize = 24;
/// Headers that describe the connection or the length, which are the client's business.
const RESERVED: [&str; 6] = [
    "connection",
    "content-length",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// Method of an HTTP request, in capitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method(String);

impl Method {
    /// Returns the method as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Method {
    fn default() -> Self {
        Self("GET".to_owned())
    }
}

impl FromInput for Method {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let text = input.text(1, MAX_METHOD)?.value.to_ascii_uppercase();
        if !text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') || matches!(text.as_str(), "CONNECT" | "TRACE") {
            return input.value_error("not an HTTP method that can be sent, such as GET or POST");
        }
        Some(Parsed::new(Self(text.clone()), text))
    }
}

/// What a request carries.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestBody {
    /// A text, sent as it is; its content type is the author's to give.
    Text(Template),
    /// JSON, sent as `application/json`.
    Json(JsonTemplate),
}

/// One request of an `HTTPRunner`, and what its answer must look like.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpRequest {
    /// Method; GET unless given.
    pub method: Method,
    /// Absolute URL, `http` or `https`.
    pub url: Template,
    /// Headers, in the order given.
    pub headers: Vec<(String, Template)>,
    /// Parameters that are added to the URL, in the order given.
    pub query: Vec<(String, Template)>,
    /// What it carries.
    pub body: Option<RequestBody>,
    /// Limit of the whole request, its answer's body included; 30 s unless given, an hour at most.
    pub timeout: HumanDuration,
    /// What the answer must look like.
    pub expect: Expectation,
}

impl HttpRequest {
    /// Returns whether its URL or a header may be another one each time that a monkey sends it, or whether it has a body, which may.
    pub fn varies(&self) -> bool {
        let texts = self.headers.iter().chain(&self.query).map(|(_, text)| text);
        self.body.is_some() || self.url.varies() || texts.into_iter().any(Template::varies)
    }
}

/// Returns whether a text can be the name of a header.
pub(super) fn header_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=256).contains(&name.len()) && name.bytes().all(is_token)
}

impl HttpRequest {
    /// Time-out unless given.
    pub const TIMEOUT: HumanDuration = HumanDuration::from_seconds(30);

    fn url(input: &Input<'_>) -> Option<Parsed<Template>> {
        let template = Template::read(input, MAX_TEXT)?;
        // Any value must leave the URL one that can be asked; this one is harmless in every part of it.
        let sample = TemplateValues {
            username: "0",
            token: "0",
            instance_id: "0",
            iteration: 0,
            uuid: "0",
        };
        match Url::parse(&template.value.render(&sample)) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Some(template),
            Ok(_) => input.value_error("the URL must begin with http:// or https:// and name a host"),
            Err(error) => input.value_error(format_args!("not an absolute URL: {error}")),
        }
    }

    fn header(name: &str, input: &Input<'_>) -> Option<Parsed<Template>> {
        if !header_name(name) {
            return input.value_error("not the name of a header");
        }
        if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            return input.value_error("this header is set by the client itself");
        }
        let template = Template::read(input, MAX_TEXT)?;
        if input
            .value()
            .as_str()
            .is_some_and(|text| text.chars().any(|c| c.is_control() && c != '\t'))
        {
            return input.value_error("the value of a header cannot hold control characters");
        }
        Some(template)
    }

    fn timeout(input: &Input<'_>) -> Option<Parsed<HumanDuration>> {
        let parsed = HumanDuration::positive(input)?;
        if parsed.value <= HumanDuration::from_seconds(MAX_TIMEOUT) {
            return Some(parsed);
        }
        input.fail_with(
            "less_than_equal",
            format!("Input should be less than or equal to {MAX_TIMEOUT} seconds"),
            json!({ "le": format!("{MAX_TIMEOUT} seconds") }),
        )
    }
}

impl FromInput for HttpRequest {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("HTTPRequest")?;
        let method = fields.or("method", Method::default());
        let url = fields.required_by("url", Self::url);
        let headers = fields.nullable_by("headers", |input| input.entries(MAX_ENTRIES, Self::header));
        let query = fields.nullable_by("query", |input| {
            input.entries(MAX_ENTRIES, |_, input| Template::read(input, MAX_TEXT))
        });
        let text = fields.nullable_by("body", |input| Template::read(input, MAX_BODY));
        let json = fields.nullable("json");
        let timeout = fields.or_by("timeout", Self::TIMEOUT, Self::timeout);
        let expect = fields.nullable("expect");
        let echo = fields.close(Extra::Forbidden)?;
        let body = match (text, json) {
            (Some(_), Some(_)) => return input.value_error("body and json exclude each other"),
            (Some(text), None) => Some(RequestBody::Text(text)),
            (None, json) => json.map(RequestBody::Json),
        };
        let request = Self {
            method,
            url: url?,
            headers: headers.unwrap_or_default(),
            query: query.unwrap_or_default(),
            body,
            timeout,
            expect: expect.unwrap_or_default(),
        };
        Some(Parsed::new(request, echo))
    }
}

impl JsonSchema for HttpRequest {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HttpRequest".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let template = generator.subschema_for::<Template>();
        let entries = json!({ "type": "object", "additionalProperties": template, "maxProperties": MAX_ENTRIES });
        json_schema!({
            "description": "One request, and what its answer must look like; body and json exclude each other.",
            "type": "object",
            "properties": {
                "method": { "type": "string", "default": "GET" },
                "url": template,
                "headers": entries,
                "query": entries,
                "body": template,
                "json": generator.subschema_for::<JsonTemplate>(),
                "timeout": generator.subschema_for::<HumanDuration>(),
                "expect": generator.subschema_for::<Expectation>(),
            },
            "required": ["url"],
            "additionalProperties": false,
        })
    }
}
