//! What is wrong with a piece of JSON, in mobu's words, and the layer that finds it out.
//!
//! mobu validates with pydantic, and its clients read pydantic's items: type, place, message, input.
//! [`Input`] reads JSON as leniently as pydantic does and collects every mistake before it gives up.

mod input;
mod lax;
mod mistakes;
pub(crate) mod mistyped;
mod python;

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::input::{Extra, Fields, FromInput, Input, Parsed};
pub(crate) use self::lax::{choices, deserialize_by_reading, float_text, posix_path};
pub(crate) use self::python::repr;

/// One step of the way to the wrong value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Loc {
    /// Key of an object, or one of pydantic's own steps: `body`, the type of a business.
    Key(Cow<'static, str>),
    /// Position in a list, from 0.
    Index(usize),
}

impl From<&'static str> for Loc {
    fn from(key: &'static str) -> Self {
        Self::Key(Cow::Borrowed(key))
    }
}

impl From<usize> for Loc {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

impl fmt::Display for Loc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(index) => index.fmt(f),
        }
    }
}

/// One mistake: an element of `detail` in a 422 answer (`contracts/rest-api.md` 8.2).
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ValidationItem {
    /// Stable name of the rule that was broken, such as `missing` or `extra_forbidden`.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The way to the wrong value, from `body` or `header`.
    pub loc: Vec<Loc>,
    /// What would have been right, for people.
    pub msg: String,
    /// The value as it was received. It may hold secrets, so it is answered and never logged.
    pub input: Value,
    /// The numbers and names in `msg`, for programs, where the rule has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ctx: Option<Value>,
    /// `msg` without what it repeats of the input, for wherever the input is not shown; absent if `msg` repeats nothing.
    #[serde(skip)]
    quiet: Option<Box<str>>,
}

impl ValidationItem {
    /// Makes an item without `ctx`.
    pub fn new(kind: &'static str, loc: Vec<Loc>, msg: impl Into<String>, input: Value) -> Self {
        Self {
            kind: Cow::Borrowed(kind),
            loc,
            msg: msg.into(),
            input,
            ctx: None,
            quiet: None,
        }
    }

    /// Makes a `value_error`, the kind of every rule that is not one of pydantic's own.
    pub fn value_error(loc: Vec<Loc>, text: impl fmt::Display, input: Value) -> Self {
        Self::new("value_error", loc, format!("Value error, {text}"), input)
            .with_ctx(serde_json::json!({ "error": {} }))
    }

    /// Sets what is said instead of `msg`, which repeats the input, where the input is not shown.
    #[must_use]
    fn said_as(mut self, quiet: String) -> Self {
        self.quiet = (quiet != self.msg).then(|| quiet.into());
        self
    }

    /// Length of what is said where the input is not shown, in bytes, if that differs.
    fn quiet_len(&self) -> usize {
        self.quiet.as_deref().map_or(0, str::len)
    }

    /// Returns the message as it may be logged: of the input it repeats what looks mistyped, and nothing that looks secret.
    pub fn said(&self) -> &str {
        self.quiet.as_deref().unwrap_or(&self.msg)
    }

    /// Adds the numbers and names of the message.
    #[must_use]
    pub fn with_ctx(mut self, ctx: Value) -> Self {
        self.ctx = Some(ctx);
        self
    }
}

impl fmt::Debug for ValidationItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ValidationItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.loc.iter().enumerate() {
            if number > 0 {
                f.write_str(".")?;
            }
            step.fmt(f)?;
        }
        write!(f, ": {}", self.said())
    }
}

/// All mistakes of one document, never none.
///
/// Serializes as the list that is `detail` of a 422 answer. Displays one line per mistake without the inputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(transparent)]
pub struct ValidationErrors(pub Vec<ValidationItem>);

impl fmt::Display for ValidationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, item) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str("\n")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}

impl From<ValidationItem> for ValidationErrors {
    fn from(item: ValidationItem) -> Self {
        Self(vec![item])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_item_has_pydantics_keys_in_pydantics_order() {
        let item = ValidationItem::value_error(vec!["body".into(), 3.into()], "no", json!({"b": 1, "a": 2}));
        assert_eq!(
            serde_json::to_string(&item).unwrap(),
            r#"{"type":"value_error","loc":["body",3],"msg":"Value error, no","input":{"b":1,"a":2},"ctx":{"error":{}}}"#
        );
        let back: ValidationItem = serde_json::from_str(&serde_json::to_string(&item).unwrap()).unwrap();
        assert_eq!(back, item);
    }

    #[test]
    fn what_an_answer_repeats_is_displayed_only_if_it_looks_mistyped() {
        let flock = |lease: &str, kind: &str| {
            let business = json!({ "type": kind });
            let given = json!({ "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [], "lease": lease, "business": business });
            let errors = crate::domain::flock::FlockConfig::parse(&given).unwrap_err();
            (serde_json::to_string(&errors).unwrap(), errors.to_string())
        };
        for (lease, kind, is_displayed) in [
            ("5 parsecs", "EmptyLop", true),
            ("https://u:Pass@h/", "gt-key.Pass", false),
        ] {
            let (answered, displayed) = flock(lease, kind);
            for text in [
                format!("Could not parse '{lease}' as"),
                format!("Input tag '{kind}' found"),
            ] {
                assert!(answered.contains(&text), "{answered}");
                assert_eq!(displayed.contains(&text), is_displayed, "{displayed}");
            }
            assert!(!displayed.contains("Pass"), "{displayed}");
        }
    }

    #[test]
    fn what_is_displayed_never_holds_the_input() {
        let mut item = ValidationItem::new("string_type", vec!["body".into(), "a".into()], "Wrong", json!("secret"));
        let errors = ValidationErrors(vec![item.clone(), {
            item.loc.push(0.into());
            item
        }]);
        assert_eq!(errors.to_string(), "body.a: Wrong\nbody.a.0: Wrong");
        assert!(!format!("{errors:?}").contains("secret"));
    }
}
