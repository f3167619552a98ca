//! What an answer must look like for an HTTP request to count as a success.

use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;

use super::http_request::{MAX_ENTRIES, header_name};
use crate::domain::validation::{Extra, FromInput, Input, Parsed};

/// Longest regular expression, in characters.
const MAX_PATTERN: usize = 1_000;
/// Largest compiled regular expression, in bytes: a few nested repetitions would otherwise take all memory.
const MAX_COMPILED: usize = 1 << 20;
/// Longest text looked for in a body: as much of the body as is kept.
const MAX_NEEDLE: usize = 65_536;
/// Most statuses that one expectation may list.
const MAX_STATUSES: usize = 50;

/// A regular expression, compiled when it was read.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Returns whether it matches anywhere in the text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// Returns whether it matches anywhere in bytes that are looked at as UTF-8, wrong sequences replaced.
    pub fn is_match_bytes(&self, bytes: &[u8]) -> bool {
        self.0.is_match(&String::from_utf8_lossy(bytes))
    }

    /// Returns the expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl FromInput for Pattern {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let text = input.text(1, MAX_PATTERN)?;
        match RegexBuilder::new(&text.value).size_limit(MAX_COMPILED).build() {
            Ok(regex) => Some(text.map(|_| Self(regex))),
            // The cause may span lines, with a marker below the place; its last line is the reason.
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                input.value_error(format_args!("not a regular expression: {reason}"))
            }
        }
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A regular expression in the syntax of Rust's regex, without look-around and back-references.",
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_PATTERN,
        })
    }
}

/// A JSON pointer (RFC 6901), checked when it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer(String);

impl JsonPointer {
    /// Returns what the pointer points at, if there is anything.
    pub fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.pointer(&self.0)
    }

    /// Returns the pointer as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not a JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a JSON pointer: it must be empty or begin with `/`, and `~` must be followed by 0 or 1")]
pub struct InvalidPointer;

impl FromStr for JsonPointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, InvalidPointer> {
        let is_rooted = text.is_empty() || text.starts_with('/');
        let is_escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        if is_rooted && is_escaped {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPointer)
        }
    }
}

/// What an answer must look like; everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectation {
    /// Statuses that are right; any of 200 to 299 if none is given.
    pub status: Vec<u16>,
    /// Headers that must be there: with this value, or `None` for any.
    pub header: Vec<(String, Option<String>)>,
    /// What the body must contain, within the part of it that is kept.
    pub body_contains: Option<String>,
    /// What the body must match, within the part of it that is kept.
    pub body_matches: Option<Pattern>,
    /// What JSON pointers into the body must find.
    pub json: Vec<(JsonPointer, Value)>,
}

impl Expectation {
    /// Returns whether a status is right.
    pub fn accepts_status(&self, status: u16) -> bool {
        if self.status.is_empty() {
            (200..300).contains(&status)
        } else {
            self.status.contains(&status)
        }
    }

    /// Returns whether nothing is expected of the body, so that it need not be looked at.
    pub fn ignores_body(&self) -> bool {
        self.body_contains.is_none() && self.body_matches.is_none() && self.json.is_empty()
    }

    fn status(input: &Input<'_>) -> Option<Parsed<u16>> {
        let parsed = input.integer(100, 599)?;
        Some(parsed.map(|status| u16::try_from(status).expect("100 to 599 fits")))
    }

    fn statuses(input: &Input<'_>) -> Option<Parsed<Vec<u16>>> {
        match input.value() {
            Value::Array(given) if given.is_empty() => input.too_short("List"),
            Value::Array(_) => input.list(MAX_STATUSES, Self::status),
            _ => Some(Self::status(input)?.map(|status| vec![status])),
        }
    }

    fn header(name: &str, input: &Input<'_>) -> Option<Parsed<Option<String>>> {
        if !header_name(name) {
            return input.value_error("not the name of a header");
        }
        if input.value().is_null() {
            return Some(Parsed::new(None, Value::Null));
        }
        Some(String::from_input(input)?.map(Some))
    }

    fn pointers(input: &Input<'_>) -> Option<Parsed<Vec<(JsonPointer, Value)>>> {
        let entries = input.entries(MAX_ENTRIES, |pointer, input| match pointer.parse::<JsonPointer>() {
            Ok(pointer) => Some(input.any().map(|value| (pointer, value))),
            Err(error) => input.value_error(error),
        })?;
        Some(entries.map(|entries| entries.into_iter().map(|(_, entry)| entry).collect()))
    }
}

impl FromInput for Expectation {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("Expectation")?;
        let expectation = Self {
            status: fields.nullable_by("status", Self::statuses).unwrap_or_default(),
            header: fields
                .nullable_by("header", |input| input.entries(MAX_ENTRIES, Self::header))
                .unwrap_or_default(),
            body_contains: fields.nullable_by("body_contains", |input| input.text(1, MAX_NEEDLE)),
            body_matches: fields.nullable("body_matches"),
            json: fields.nullable_by("json", Self::pointers).unwrap_or_default(),
        };
        let echo = fields.close(Extra::Forbidden)?;
        Some(Parsed::new(expectation, echo))
    }
}

impl JsonSchema for Expectation {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Expectation".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pattern = generator.subschema_for::<Pattern>();
        let status = serde_json::json!({ "type": "integer", "minimum": 100, "maximum": 599 });
        json_schema!({
            "description": "What an answer must look like; everything that is given must hold.",
            "type": "object",
            "properties": {
                "status": {
                    "description": "Statuses that are right; any of 200 to 299 unless given.",
                    "anyOf": [status, { "type": "array", "items": status, "minItems": 1, "maxItems": MAX_STATUSES }],
                },
                "header": {
                    "description": "Headers that must be there: with this value, or null for any.",
                    "type": "object",
                    "additionalProperties": { "type": ["string", "null"] },
                    "maxProperties": MAX_ENTRIES,
                },
                "body_contains": { "type": "string", "minLength": 1, "maxLength": MAX_NEEDLE },
                "body_matches": pattern,
                "json": {
                    "description": "What JSON pointers into the body must find.",
                    "type": "object",
                    "maxProperties": MAX_ENTRIES,
                },
            },
            "additionalProperties": false,
        })
    }
}
