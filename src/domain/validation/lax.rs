//! Plain values and containers, as leniently as pydantic reads them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{FromInput, Input, Parsed};

impl FromInput for String {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        match input.value() {
            Value::String(text) => Some(Parsed::new(text.clone(), text.clone())),
            _ => input.fail("string_type", "Input should be a valid string"),
        }
    }
}

impl FromInput for bool {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let parsed = match input.value() {
            Value::Bool(given) => Some(*given),
            Value::String(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "t" | "yes" | "y" | "on" | "1" => Some(true),
                "false" | "f" | "no" | "n" | "off" | "0" => Some(false),
                _ => None,
            },
            Value::Number(number) => match number.as_f64() {
                Some(1.0) => Some(true),
                Some(0.0) => Some(false),
                Some(_) if number.is_f64() => return input.fail("bool_type", "Input should be a valid boolean"),
                _ => None,
            },
            _ => return input.fail("bool_type", "Input should be a valid boolean"),
        };
        match parsed {
            Some(given) => Some(Parsed::new(given, given)),
            None => input.fail(
                "bool_parsing",
                "Input should be a valid boolean, unable to interpret input",
            ),
        }
    }
}

impl FromInput for i64 {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let parsed = match input.value() {
            Value::Bool(given) => Some(Self::from(*given)),
            Value::Number(number) if number.is_f64() => {
                let float = number.as_f64().expect("is_f64 says that it is one");
                if float.fract() != 0.0 {
                    return input.fail(
                        "int_from_float",
                        "Input should be a valid integer, got a number with a fractional part",
                    );
                }
                // Printed without a fraction, a float that fits is an integer's text, and one that does not is not.
                format!("{float:.0}").parse().ok()
            }
            Value::Number(number) => number.as_i64(),
            Value::String(text) => match integer_text(text) {
                Some(digits) => digits.parse().ok(),
                None => {
                    return input.fail(
                        "int_parsing",
                        "Input should be a valid integer, unable to parse string as an integer",
                    );
                }
            },
            _ => return input.fail("int_type", "Input should be a valid integer"),
        };
        match parsed {
            Some(given) => Some(Parsed::new(given, given)),
            None => input.fail(
                "int_parsing_size",
                "Unable to parse input string as an integer, exceeded maximum size",
            ),
        }
    }
}

/// Returns the sign and digits of an integer as pydantic allows it in a string: blanks around it, `_` between digits,
/// a fraction of zeros.
fn integer_text(text: &str) -> Option<String> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = without_separators(digits)?;
    let is_integer =
        !plain.is_empty() && plain.bytes().all(|b| b.is_ascii_digit()) && fraction.bytes().all(|b| b == b'0');
    is_integer.then(|| format!("{sign}{plain}"))
}

/// Removes the `_` between digits; `None` if one is anywhere else.
fn without_separators(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let is_digit = |index: Option<usize>| index.and_then(|i| bytes.get(i)).is_some_and(u8::is_ascii_digit);
    let misplaced = (0..bytes.len())
        .filter(|&i| bytes[i] == b'_')
        .any(|i| !is_digit(i.checked_sub(1)) || !is_digit(Some(i + 1)));
    (!misplaced).then(|| text.replace('_', ""))
}

/// Returns the number that Python's `float` makes of a text; infinities and NaN included.
pub(crate) fn float_text(text: &str) -> Option<f64> {
    without_separators(text.trim())?.parse().ok()
}

impl FromInput for f64 {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        let parsed = match input.value() {
            Value::Bool(given) => Some(if *given { 1.0 } else { 0.0 }),
            Value::Number(number) => number.as_f64(),
            Value::String(text) => float_text(text),
            _ => return input.fail("float_type", "Input should be a valid number"),
        };
        match parsed {
            Some(given) if given.is_finite() => Some(Parsed::new(given, given)),
            Some(_) => input.fail("finite_number", "Input should be a finite number"),
            None => input.fail(
                "float_parsing",
                "Input should be a valid number, unable to parse string as a number",
            ),
        }
    }
}

impl<T: FromInput> FromInput for Vec<T> {
    fn from_input(input: &Input<'_>) -> Option<Parsed<Self>> {
        input.list(usize::MAX, T::from_input)
    }
}

impl Input<'_> {
    /// Reads an integer from `min` to `max`, both included.
    pub fn integer(&self, min: i64, max: i64) -> Option<Parsed<i64>> {
        let parsed = i64::from_input(self)?;
        if parsed.value < min {
            self.fail_with(
                "greater_than_equal",
                format!("Input should be greater than or equal to {min}"),
                json!({ "ge": min }),
            )
        } else if parsed.value > max {
            self.fail_with(
                "less_than_equal",
                format!("Input should be less than or equal to {max}"),
                json!({ "le": max }),
            )
        } else {
            Some(parsed)
        }
    }

    /// Reads a text of `min` to `max` characters.
    pub fn text(&self, min: usize, max: usize) -> Option<Parsed<String>> {
        let parsed = String::from_input(self)?;
        let length = parsed.value.chars().count();
        let characters = |count: usize| if count == 1 { "character" } else { "characters" };
        if length < min {
            self.fail_with(
                "string_too_short",
                format!("String should have at least {min} {}", characters(min)),
                json!({ "min_length": min }),
            )
        } else if length > max {
            self.fail_with(
                "string_too_long",
                format!("String should have at most {max} {}", characters(max)),
                json!({ "max_length": max }),
            )
        } else {
            Some(parsed)
        }
    }

    /// Reads a list of at most `max` elements.
    pub fn list<T>(&self, max: usize, read: impl Fn(&Input<'_>) -> Option<Parsed<T>>) -> Option<Parsed<Vec<T>>> {
        let Value::Array(given) = self.value() else {
            return self.fail("list_type", "Input should be a valid list");
        };
        if given.len() > max {
            return self.too_long("List", max, given.len());
        }
        let read: Vec<_> = given
            .iter()
            .enumerate()
            .map(|(index, value)| read(&self.at_index(index, value)))
            .collect();
        let (values, echo): (Vec<T>, Vec<Value>) = read
            .into_iter()
            .collect::<Option<Vec<_>>>()?
            .into_iter()
            .map(|parsed| (parsed.value, parsed.echo))
            .unzip();
        Some(Parsed::new(values, echo))
    }

    /// Reads a list as a set: duplicates fall away, and the echo is sorted (mobu's order is unspecified).
    pub fn set(&self, read: impl Fn(&Input<'_>) -> Option<Parsed<String>>) -> Option<Parsed<BTreeSet<String>>> {
        if !self.value().is_array() {
            return self.fail("set_type", "Input should be a valid set");
        }
        let values: BTreeSet<String> = self.list(usize::MAX, read)?.value.into_iter().collect();
        let echo: Vec<Value> = values.iter().cloned().map(Value::String).collect();
        Some(Parsed::new(values, echo))
    }

    /// Reads an object with free keys, at most `max` of them, in the order given.
    pub fn entries<T>(
        &self,
        max: usize,
        read: impl Fn(&str, &Input<'_>) -> Option<Parsed<T>>,
    ) -> Option<Parsed<Vec<(String, T)>>> {
        let Value::Object(given) = self.value() else {
            return self.fail("dict_type", "Input should be a valid dictionary");
        };
        if given.len() > max {
            return self.too_long("Dictionary", max, given.len());
        }
        let read: Vec<_> = given
            .iter()
            .map(|(key, value)| read(key, &self.at_key(key, value)))
            .collect();
        let mut values = Vec::with_capacity(given.len());
        let mut echo = serde_json::Map::new();
        for (key, parsed) in given.keys().zip(read.into_iter().collect::<Option<Vec<_>>>()?) {
            values.push((key.clone(), parsed.value));
            echo.insert(key.clone(), parsed.echo);
        }
        Some(Parsed::new(values, echo))
    }

    /// Reads one of a few texts, exactly or in any case.
    pub fn choice<T: Copy>(&self, kind: &'static str, choices: &[(&str, T)], any_case: bool) -> Option<Parsed<T>> {
        let matches = |given: &str, name: &str| given == name || (any_case && given.eq_ignore_ascii_case(name));
        let given = self.value().as_str();
        if let Some((name, choice)) = choices
            .iter()
            .find(|(name, _)| given.is_some_and(|given| matches(given, name)))
        {
            return Some(Parsed::new(*choice, *name));
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("'{name}'")).collect();
        let expected = match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        };
        self.fail_with(
            kind,
            format!("Input should be {expected}"),
            json!({ "expected": expected }),
        )
    }

    /// Takes any JSON, nulls included.
    pub fn any(&self) -> Parsed<Value> {
        Parsed::new(self.value().clone(), self.value().clone())
    }

    /// Reports that a container has more than `max` elements.
    pub fn too_long<T>(&self, container: &str, max: usize, actual: usize) -> Option<T> {
        self.fail_with(
            "too_long",
            format!("{container} should have at most {max} items after validation, not {actual}"),
            json!({ "field_type": container, "max_length": max, "actual_length": actual }),
        )
    }

    /// Reports that a container has less than one element.
    pub fn too_short<T>(&self, container: &str) -> Option<T> {
        self.fail_with(
            "too_short",
            format!("{container} should have at least 1 item after validation, not 0"),
            json!({ "field_type": container, "min_length": 1, "actual_length": 0 }),
        )
    }
}

/// Reads a path as Python's `PurePosixPath` writes it: without `.`, doubled and trailing slashes.
pub(crate) fn posix_path(input: &Input<'_>) -> Option<Parsed<String>> {
    let Value::String(text) = input.value() else {
        return input.fail("path_type", "Input is not a valid path for <class 'pathlib.Path'>");
    };
    let root = match text.len() - text.trim_start_matches('/').len() {
        0 => "",
        2 => "//",
        _ => "/",
    };
    let names: Vec<&str> = text.split('/').filter(|name| !matches!(*name, "" | ".")).collect();
    let path = format!("{root}{}", names.join("/"));
    let path = if path.is_empty() { ".".to_owned() } else { path };
    Some(Parsed::new(path.clone(), path))
}

/// Defines an enum whose values are texts: its wire form, its schema and its reading.
///
/// `$kind` is pydantic's error type (`enum` or `literal_error`), `$any_case` whether case matters.
macro_rules! choices {
    (
        $(#[$doc:meta])* $type:ident, $kind:literal, any_case = $any_case:literal,
        { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $type {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $type {
            /// Every value with its text, in the order of the contract.
            pub const ALL: &'static [(&'static str, Self)] = &[$(($text, Self::$variant)),+];

            /// Returns the text.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::domain::validation::FromInput for $type {
            fn from_input(
                input: &$crate::domain::validation::Input<'_>,
            ) -> Option<$crate::domain::validation::Parsed<Self>> {
                input.choice($kind, Self::ALL, $any_case)
            }
        }
    };
}

/// Derives `Deserialize` from [`FromInput`], so that the wire and HTTP share one truth.
macro_rules! deserialize_by_reading {
    ($type:ty, $root:literal) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                let root = [$crate::domain::validation::Loc::from($root)];
                $crate::domain::validation::Input::read(
                    &value,
                    &root,
                    <Self as $crate::domain::validation::FromInput>::from_input,
                )
                .map(|parsed| parsed.value)
                .map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {choices, deserialize_by_reading};
