//! Names and numbers that cross boundaries, each checked once, where it is parsed.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::validation::mistyped;

/// Why a text is not a name of the kind it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not {article} {kind}: it must match {pattern}", mistyped::name(given))]
pub struct InvalidName {
    /// It is said only if it looks like a name that was mistyped.
    given: String,
    article: &'static str,
    kind: &'static str,
    pattern: &'static str,
}

/// Longest flock name and instance ID, in bytes.
const NAME_LENGTH: usize = 63;

/// Returns whether `text` matches `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_LENGTH
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

macro_rules! checked_name {
    ($(#[$doc:meta])* $type:ident, $article:literal, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(try_from = "String", into = "String")]
        #[schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))]
        pub struct $type(String);

        impl $type {
            /// The pattern that every such name matches.
            pub const PATTERN: &'static str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                if is_name(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { given: text, article: $article, kind: $kind, pattern: Self::PATTERN })
                }
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::borrow::Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

checked_name! {
    /// Name of a flock: 1 to 63 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit.
    ///
    /// Stricter than mobu, which accepts names that its own routes cannot address
    /// (`contracts/rest-api.md`, trap 5).
    FlockName, "a", "flock name"
}

checked_name! {
    /// Name of a replica for life (`MOBU_INSTANCE_ID`): 1 to 63 of `A-Z a-z 0-9 . _ -`,
    /// beginning with a letter or digit. In a StatefulSet it is the pod's ordinal.
    InstanceId, "an", "instance ID"
}

checked_name! {
    /// Name of a fleet (`MOBU_FLEET`), the prefix of every exchange and queue.
    FleetName, "a", "fleet name"
}

macro_rules! opaque_name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(transparent)]
        pub struct $type(String);

        impl $type {
            /// Takes a text as it is: whoever made it decides what it looks like.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque_name! {
    /// Name of a monkey: its user's name, as Gafaelfawr returned it.
    MonkeyName
}

opaque_name! {
    /// Random name of one run of a process; tells restarts of one replica apart.
    SessionId
}

opaque_name! {
    /// Random 128-bit nonce, in hex, of a coordinator's session that claimed the state log.
    Owner
}

opaque_name! {
    /// `message_id` of a request from outside: what makes its redelivery harmless.
    RequestId
}

macro_rules! number {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        pub struct $type(pub u64);

        impl $type {
            /// Returns the number that follows; 2^64 - 1 has none and stays.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a coordinator's reign; a takeover raises it.
    Epoch
}

number! {
    /// Number of an accepted change of the desired state; only grows. 0: nothing was ever changed.
    Revision
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_route_could_not_address_are_refused() {
        for bad in ["", "a/b", ".hidden", "-x", "a b", "é", "a\n", &"x".repeat(64)] {
            let error = bad.parse::<FlockName>().unwrap_err();
            assert!(error.to_string().contains(FlockName::PATTERN), "{error}");
        }
        for good in ["a", "0", "tap-dp02.v1_x", &"x".repeat(63)] {
            assert_eq!(good.parse::<FlockName>().unwrap().as_str(), good);
        }
    }

    #[test]
    fn an_instance_id_on_the_wire_is_checked() {
        assert!(serde_json::from_str::<InstanceId>("\"0\"").is_ok());
        let error = serde_json::from_str::<InstanceId>("\"a b\"").unwrap_err();
        assert!(error.to_string().contains("is not an instance ID"), "{error}");
    }
}
