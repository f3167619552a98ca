//! What an error may repeat of what was given: that which looks like something that somebody mistyped.
//!
//! Whoever put a password into the wrong line reads its place in the error, and nobody reads the password in a log.

use std::borrow::Cow;

use super::repr;

/// Longest name of a variable or type that is repeated, in bytes.
const NAME: usize = 24;

/// Longest name of a flock or an instance that is repeated, and longest part of it without anything between, in bytes.
const NAME_LENGTH: usize = 63;
const NAME_PART: usize = 12;

/// Longest duration that is repeated, in bytes: `1 week 2 days 3 hours 4 minutes 5 seconds` and a mistake.
const DURATION: usize = 48;

/// Longest word and longest number in such a duration, in bytes.
const WORD: usize = 8;

/// Most capitals in a row: `PT5M` is a duration for others, and `HTTPRunner` a type.
const CAPITALS: usize = 5;

/// Stands for what is not repeated.
const GIVEN: &str = "what was given";

/// Returns whether a text may be the mistyped name of a variable: lower-case letters and underscores.
pub(crate) fn is_variable(text: &str) -> bool {
    text.len() <= NAME && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Returns whether a text may be the mistyped name of a type: letters, as in `TAPQueryRunner`.
pub(super) fn is_type(text: &str) -> bool {
    text.len() <= NAME
        && text.bytes().all(|byte| byte.is_ascii_alphabetic())
        && runs(text, |byte| byte.is_ascii_uppercase(), CAPITALS)
}

/// Returns a text that is no name between backticks, if it may be a mistyped one: short words with spaces or a name's own signs between them.
pub(crate) fn name(text: &str) -> Cow<'static, str> {
    let is_plain = text
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b" ._-".contains(&byte));
    let is_short = runs(text, |byte| byte.is_ascii_alphanumeric(), NAME_PART);
    if text.len() <= NAME_LENGTH && is_plain && is_short && runs(text, |byte| byte.is_ascii_uppercase(), CAPITALS) {
        format!("`{text}`").into()
    } else {
        GIVEN.into()
    }
}

/// Returns a text that is no duration as Python would quote it, if it may be a mistyped one.
pub(crate) fn duration(text: &str) -> Cow<'static, str> {
    if is_duration(text) {
        repr(text).into()
    } else {
        GIVEN.into()
    }
}

/// Short words and numbers, with what stands between them in durations.
fn is_duration(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+-.,:_'".contains(&byte);
    text.len() <= DURATION
        && text.bytes().all(plain)
        && runs(text, |byte| byte.is_ascii_alphabetic(), WORD)
        && runs(text, |byte| byte.is_ascii_digit(), WORD)
        && runs(text, |byte| byte.is_ascii_uppercase(), 2)
}

/// Returns whether no more than `most` bytes of a kind are in a row.
fn runs(text: &str, is_part: fn(u8) -> bool, most: usize) -> bool {
    let mut runs = text.as_bytes().split(|byte| !is_part(*byte));
    runs.all(|run| run.len() <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mistyped_is_repeated() {
        for name in ["user", "instanceid", "user_name", ""] {
            assert!(is_variable(name), "{name}");
        }
        for name in ["EmptyLop", "HTTPrunner", "TAPQueryRuner", "notebook"] {
            assert!(is_type(name), "{name}");
        }
        for text in [
            "1.5h",
            "PT5M",
            "00:05:00",
            "5 parsecs",
            "1H",
            "it's",
            "soon",
            "five minutes",
            "1 week, 2 days",
        ] {
            assert_eq!(duration(text), repr(text));
        }
        assert_eq!(name("my flock"), "`my flock`");
    }

    #[test]
    fn what_looks_secret_is_not_repeated() {
        for secret in [
            "Zq7vQXJWKVw9Xk",
            "QXJWKV",
            "https://u:QXJWKV@h/",
            "https://bot:hunter2@h/",
            "amqp://guest:guest@h",
            "gt-key.0123456789abcdef/",
            "Bearer 0123456789abcdef",
            "CORRECTHORSEBATTERYSTAPLE",
        ] {
            assert!(!is_variable(secret) && !is_type(secret), "{secret}");
            assert_eq!(duration(secret), "what was given", "{secret}");
            assert_eq!(name(secret), "what was given", "{secret}");
        }
    }
}
