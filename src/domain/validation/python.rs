//! How Python would print a value, for the messages that quote one.

use std::fmt::Write as _;

use serde_json::Value;

/// Returns Python's `repr` of a string: single quotes unless it contains one and no double quote.
pub(crate) fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') {
        '"'
    } else {
        '\''
    };
    let mut out = String::with_capacity(text.len() + 2);
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => {
                let width = if u32::from(c) < 0x100 { 2 } else { 4 };
                let letter = if width == 2 { 'x' } else { 'u' };
                write!(out, "\\{letter}{:0width$x}", u32::from(c)).expect("writing to a String cannot fail");
            }
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// Returns Python's `str` of a JSON value.
pub(super) fn str(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr_value(other),
    }
}

fn repr_value(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => repr(text),
        Value::Array(items) => format!("[{}]", items.iter().map(repr_value).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let entries = map
                .iter()
                .map(|(key, value)| format!("{}: {}", repr(key), repr_value(value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn strings_are_quoted_as_python_quotes_them() {
        assert_eq!(repr("5 parsecs"), "'5 parsecs'");
        assert_eq!(repr("it's"), r#""it's""#);
        assert_eq!(repr(r#"it's "so""#), r#"'it\'s "so"'"#);
        assert_eq!(repr("a\n\t\\\u{1b}"), r"'a\n\t\\\x1b'");
    }

    #[test]
    fn a_tag_that_is_no_string_is_printed_as_python_would() {
        assert_eq!(str(&json!(null)), "None");
        assert_eq!(str(&json!([1, true, "x"])), "[1, True, 'x']");
        assert_eq!(str(&json!({"a": 1})), "{'a': 1}");
    }
}
