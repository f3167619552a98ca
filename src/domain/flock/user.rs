//! Whom monkeys run as.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::validation::{
    Extra, Fields, FromInput, Input, Loc, Parsed, ValidationErrors, deserialize_by_reading,
};

/// Name of a user, not yet checked by Gafaelfawr.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Username(Arc<str>);

impl Username {
    /// What every name begins with.
    pub const PREFIX: &'static str = "bot-mobu";

    /// Takes a text as it is.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Username {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromInput for Username {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let text = String::from_input(input)?;
        if text.value.starts_with(Self::PREFIX) {
            return Some(text.map(Self::new));
        }
        input.fail_with(
            "string_pattern_mismatch",
            format!("String should match pattern '^{}'", Self::PREFIX),
            json!({ "pattern": format!("^{}", Self::PREFIX) }),
        )
    }
}

/// A group that a user is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Group {
    /// Name, not empty.
    #[schemars(length(min = 1))]
    pub name: String,
    /// Number.
    pub id: i64,
}

impl FromInput for Group {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("Group")?;
        let name = fields.required_by("name", |input| input.text(1, usize::MAX));
        let id = fields.required("id");
        let echo = fields.close(Extra::Ignored)?;
        let group = Self { name: name?, id: id? };
        Some(Parsed::new(group, echo))
    }
}

fn groups(fields: &mut Fields<'_>) -> Arc<[Group]> {
    fields.or("groups", Vec::new()).into()
}

/// A user to run as: an element of `users`, of the CI app's users, or the user of a solitary run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct User {
    /// Name; begins with `bot-mobu`.
    #[schemars(extend("pattern" = "^bot-mobu"))]
    pub username: Username,
    /// Number of the user; Gafaelfawr's choice unless given.
    pub uidnumber: Option<i64>,
    /// Number of the user's own group; Gafaelfawr's choice unless given.
    pub gidnumber: Option<i64>,
    /// Further groups.
    #[schemars(default)]
    pub groups: Arc<[Group]>,
}

impl User {
    /// Reads a user from any document.
    ///
    /// # Errors
    ///
    /// All mistakes at once, placed below `loc`.
    pub fn parse_at(value: &Value, loc: &[Loc]) -> Result<Self, ValidationErrors> {
        Input::read(value, loc, Self::from_input).map(|parsed| parsed.value)
    }
}

impl FromInput for User {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("User")?;
        let username = fields.required("username");
        let uidnumber = fields.nullable("uidnumber");
        let gidnumber = fields.nullable("gidnumber");
        let groups = groups(&mut fields);
        let echo = fields.close(Extra::Ignored)?;
        let user = Self {
            username: username?,
            uidnumber,
            gidnumber,
            groups,
        };
        Some(Parsed::new(user, echo))
    }
}

deserialize_by_reading!(User, "user");

/// How to make users: `{username_prefix}{i}` with i from 1.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
pub struct UserSpec {
    /// What all names begin with; checked together with the names that come of it.
    pub username_prefix: String,
    /// Number of the first user; the others count on.
    pub uid_start: Option<i64>,
    /// Number of the first user's own group; the others count on.
    pub gid_start: Option<i64>,
    /// Further groups of every user.
    #[schemars(default)]
    pub groups: Arc<[Group]>,
}

impl UserSpec {
    /// Largest first number, so that the last user's number still is one.
    const MAX_START: i64 = i64::MAX - super::MAX_COUNT as i64;
}

impl FromInput for UserSpec {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let mut fields = input.model("UserSpec")?;
        let username_prefix = fields.required("username_prefix");
        let start = |input: &Input<'_>| input.integer(i64::MIN, Self::MAX_START);
        let uid_start = fields.nullable_by("uid_start", start);
        let gid_start = fields.nullable_by("gid_start", start);
        let groups = groups(&mut fields);
        let echo = fields.close(Extra::Ignored)?;
        let spec = Self {
            username_prefix: username_prefix?,
            uid_start,
            gid_start,
            groups,
        };
        Some(Parsed::new(spec, echo))
    }
}
