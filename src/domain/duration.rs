//! Durations as people write them: `90`, `"1m30s"`, `"1 week 2 days"`.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use super::validation::{FromInput, Input, Parsed, float_text, mistyped, repr};

/// Why something is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// The text is neither a number of seconds nor a human duration. It is said only if it looks like one that was mistyped.
    #[error("{}", unparsable(&mistyped::duration(.0)))]
    Unparsable(String),
    /// It is not even a number or a text.
    #[error("Input should be a valid timedelta")]
    Type,
    /// It is infinite, or longer than 999,999,999 days.
    #[error("durations may not exceed 999,999,999 days")]
    TooLong,
    /// It is the text of a NaN.
    #[error("NaN values not permitted")]
    NotANumber,
}

/// A finite span of time, also negative, in microseconds, as Python's `timedelta` has it.
///
/// Written as a number of seconds or in the grammar of `contracts/rest-api.md` 7; serializes as a float of seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HumanDuration {
    micros: i128,
}

const MICROS: i128 = 1_000_000;
const DAY: i128 = 86_400 * MICROS;
const MAX_DAYS: i128 = 999_999_999;

/// Microseconds of the units of a human duration, in the order of the groups of [`HUMAN`].
const UNITS: [i128; 5] = [7 * DAY, DAY, 3_600 * MICROS, 60 * MICROS, MICROS];

/// Weeks to seconds, each at most once.
static HUMAN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^(?:([0-9]+)\s*(?:weeks|week|w))?\s*(?:([0-9]+)\s*(?:days|day|d))?\s*(?:([0-9]+)\s*(?:hours|hour|hr|h))?\s*(?:([0-9]+)\s*(?:minutes|minute|mins|min|m))?\s*(?:([0-9]+)\s*(?:seconds|second|secs|sec|s))?$",
    )
    .expect("the pattern is a constant that the tests compile")
});

impl HumanDuration {
    /// How durations may be written, for whoever has written something else.
    pub const EXAMPLES: &str = "90, 45s, 1m30s or 2 hours";

    /// No time at all.
    pub const ZERO: Self = Self { micros: 0 };

    /// Returns a duration of whole seconds.
    pub const fn from_seconds(seconds: u32) -> Self {
        Self {
            // `From` is not const; u32 always fits.
            micros: seconds as i128 * MICROS,
        }
    }

    /// Reads a number of seconds or a text.
    ///
    /// # Errors
    ///
    /// Every variant of [`DurationError`].
    pub fn parse(value: &Value) -> Result<Self, DurationError> {
        match value {
            Value::Bool(given) => Ok(Self::from_seconds(u32::from(*given))),
            Value::Number(number) => match number.as_i64() {
                Some(seconds) => Self::from_micros(i128::from(seconds) * MICROS),
                None => Self::from_float(number.as_f64().ok_or(DurationError::TooLong)?),
            },
            Value::String(text) => Self::from_text(text),
            _ => Err(DurationError::Type),
        }
    }

    /// Reads a text: a number of seconds, or a human duration such as `1h30m`. An empty one is zero.
    ///
    /// # Errors
    ///
    /// Every variant of [`DurationError`] but `Type`.
    pub fn from_text(text: &str) -> Result<Self, DurationError> {
        if let Some(seconds) = float_text(text) {
            return Self::from_float(seconds);
        }
        let groups = HUMAN
            .captures(text.trim())
            .ok_or_else(|| DurationError::Unparsable(text.to_owned()))?;
        let mut micros: i128 = 0;
        for (group, unit) in groups.iter().skip(1).zip(UNITS) {
            let Some(digits) = group else { continue };
            let amount: i128 = digits.as_str().parse().map_err(|_| DurationError::TooLong)?;
            micros = amount
                .checked_mul(unit)
                .and_then(|part| micros.checked_add(part))
                .ok_or(DurationError::TooLong)?;
        }
        Self::from_micros(micros)
    }

    fn from_float(seconds: f64) -> Result<Self, DurationError> {
        if seconds.is_nan() {
            return Err(DurationError::NotANumber);
        }
        // Beyond this, microseconds would not fit; what is below is exact enough for the check of the days.
        if seconds.abs() > 1e18 {
            return Err(DurationError::TooLong);
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "bounded above by 1e18 seconds, 1e24 microseconds"
        )]
        let (whole, rest) = (
            seconds.trunc() as i128,
            (seconds.fract() * 1e6).round_ties_even() as i128,
        );
        Self::from_micros(whole * MICROS + rest)
    }

    fn from_micros(micros: i128) -> Result<Self, DurationError> {
        if micros.div_euclid(DAY).abs() > MAX_DAYS {
            return Err(DurationError::TooLong);
        }
        Ok(Self { micros })
    }

    /// Returns the seconds, fractions included; negative for a negative duration.
    pub fn seconds(self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "each part is below 2^53 where it is turned into a float"
        )]
        let float = |part: i128| part as f64;
        if self.micros.unsigned_abs() < 1 << f64::MANTISSA_DIGITS {
            float(self.micros) / 1e6
        } else {
            float(self.micros / MICROS) + float(self.micros % MICROS) / 1e6
        }
    }

    /// Returns the time to wait: nothing for a negative duration.
    pub fn to_std(self) -> Duration {
        let micros = self.micros.max(0).unsigned_abs();
        // 999,999,999 days of microseconds are more than a u64 holds; nothing is lost by waiting 584,000 years instead.
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// Reads a duration that is longer than nothing.
    pub(crate) fn positive(input: &Input<'_>) -> Option<Parsed<Self>> {
        let parsed = Self::from_input(input)?;
        if parsed.value.is_positive() {
            return Some(parsed);
        }
        input.fail_with(
            "greater_than",
            "Input should be greater than 0 seconds",
            json!({ "gt": "0 seconds" }),
        )
    }

    /// Returns whether it is no time at all.
    pub const fn is_zero(self) -> bool {
        self.micros == 0
    }

    /// Returns whether it is more than no time at all.
    pub const fn is_positive(self) -> bool {
        self.micros > 0
    }
}

impl fmt::Display for HumanDuration {
    /// Writes what Python's `str` of a `timedelta` writes: `1:30:00`, `1 day, 0:00:05`, `-1 day, 23:59:57`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, micros) = (self.micros.div_euclid(DAY), self.micros.rem_euclid(DAY));
        match days {
            0 => {}
            1 | -1 => write!(f, "{days} day, ")?,
            _ => write!(f, "{days} days, ")?,
        }
        let (seconds, fraction) = (micros / MICROS, micros % MICROS);
        write!(f, "{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
        if fraction > 0 {
            write!(f, ".{fraction:06}")?;
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.seconds())
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for HumanDuration {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HumanDuration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of seconds, or a text of whole weeks, days, hours, minutes and seconds in this order, such as `1h30m`.",
            "anyOf": [{ "type": "number" }, { "type": "string" }],
        })
    }
}

/// Returns mobu's words, with what was given as far as it is said.
fn unparsable(given: &str) -> String {
    format!("Could not parse {given} as a time duration")
}

impl FromInput for HumanDuration {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        match Self::parse(input.value()) {
            Ok(duration) => Some(Parsed::new(duration, duration.seconds())),
            Err(error @ DurationError::Type) => input.fail("time_delta_type", error.to_string()),
            Err(ref error @ DurationError::Unparsable(ref text)) => {
                // To clients, in mobu's words: the answer repeats the input anyway.
                input.value_error_that_repeats(unparsable(&repr(text)), error)
            }
            Err(error) => input.fail_with(
                "time_delta_parsing",
                format!("Input should be a valid timedelta, {error}"),
                json!({ "error": error.to_string() }),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
