//! mobu's two ways to write JSON (`contracts/rest-api.md` 1.2), and how it writes times and numbers.

use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::ser::{Formatter, Serializer};

use super::error::ApiError;
use super::sorted;

/// Answers with JSON without any white space, keys in the order of the fields.
pub(super) fn compact<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    let mut bytes = Vec::with_capacity(256);
    match value.serialize(&mut Serializer::with_formatter(&mut bytes, Compact)) {
        Ok(()) => response(status, bytes),
        Err(error) => failed(&error),
    }
}

/// Answers with JSON indented by four, keys sorted at every level.
pub(super) fn pretty<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    match sorted::to_vec(value) {
        Ok(bytes) => response(status, bytes),
        Err(error) => failed(&error),
    }
}

pub(super) fn response(status: StatusCode, bytes: impl Into<Body>) -> Response {
    let mut response = Response::new(bytes.into());
    *response.status_mut() = status;
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn failed(error: &serde_json::Error) -> Response {
    use axum::response::IntoResponse as _;
    ApiError::Internal(format!("an answer does not serialize: {error}")).into_response()
}

/// Returns a time as mobu writes it: six digits of microseconds unless they are zero.
pub(super) fn timestamp(at: Timestamp) -> String {
    let text = at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
    match text.strip_suffix(".000000Z") {
        Some(whole) => format!("{whole}Z"),
        None => text,
    }
}

/// Returns a length of time in seconds, to the millisecond.
pub(super) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Returns a float as Python writes it: `90.0`, `1e-05`, `1e+16`.
pub(super) fn python_float(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("this format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent of a float is a small number");
    if (-4..16).contains(&exponent) {
        let plain = value.to_string();
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

fn write_float<W: ?Sized + io::Write>(writer: &mut W, value: f64) -> io::Result<()> {
    writer.write_all(python_float(value).as_bytes())
}

struct Compact;

impl Formatter for Compact {
    fn write_f64<W: ?Sized + io::Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        write_float(writer, value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, text) in [
            (90.0, "90.0"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.25e100, "1.25e+100"),
            (-0.1, "-0.1"),
            (0.0, "0.0"),
        ] {
            assert_eq!(python_float(value), text);
        }
    }

    #[test]
    fn times_have_six_digits_or_none() {
        let at = |text: &str| timestamp(text.parse().unwrap());
        assert_eq!(at("2026-11-22T19:29:28.2519Z"), "2026-11-22T19:29:28.251900Z");
        assert_eq!(at("2026-11-22T19:29:28Z"), "2026-11-22T19:29:28Z");
        assert_eq!(at("2026-11-22T20:29:28.000001+01:00"), "2026-11-22T19:29:28.000001Z");
    }

    #[test]
    fn pretty_sorts_at_every_level_and_keeps_what_is_not_ascii() {
        let value = json!({"b": [{"z": 1.0, "a": "é\n"}], "a": [], "c": {}});
        let text = String::from_utf8(sorted::to_vec(&value).unwrap()).unwrap();
        insta::assert_snapshot!(text, @r#"
        {
            "a": [],
            "b": [
                {
                    "a": "é\n",
                    "z": 1.0
                }
            ],
            "c": {}
        }
        "#);
    }
}
