//! Whether an answer is what was expected.

use std::fmt;

use http::header::HeaderMap;
use mobu_fleet::domain::business::{Expectation, lets_in};
use serde_json::Value;

use super::veil::Veil;

/// What a service answered.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// The kept part of the body.
    pub(super) body: Vec<u8>,
    /// Size of the whole body in bytes.
    pub(super) size: u64,
}

/// An expectation that does not hold, and what came instead.
#[derive(Debug)]
pub(super) struct Mismatch {
    kind: &'static str,
    expected: String,
    got: String,
}

impl Mismatch {
    fn new(kind: &'static str, expected: impl Into<String>, got: impl Into<String>) -> Self {
        Self {
            kind,
            expected: expected.into(),
            got: got.into(),
        }
    }

    /// Returns which expectation does not hold, in a word.
    pub(super) const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Returns it without what is secret of the request, which its author may expect to come back.
    fn veiled(self, veil: Veil<'_>) -> Self {
        Self {
            expected: veil.hide(&self.expected),
            got: veil.hide(&self.got),
            ..self
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "was expected to answer {}, but answered {}", self.expected, self.got)
    }
}

/// Checks an answer; the first expectation that does not hold is the error, in which nothing is secret.
pub(super) fn check(expect: &Expectation, answered: &Answered, veil: Veil<'_>) -> Result<(), Mismatch> {
    compare(expect, answered, veil).map_err(|mismatch| mismatch.veiled(veil))
}

fn compare(expect: &Expectation, answered: &Answered, veil: Veil<'_>) -> Result<(), Mismatch> {
    if !expect.accepts_status(answered.status) {
        let wanted: Vec<_> = expect.status.iter().map(u16::to_string).collect();
        let wanted = if wanted.is_empty() {
            "200 to 299".to_owned()
        } else {
            wanted.join(" or ")
        };
        let got = format!("{} with {}", answered.status, veil.excerpt(&answered.body));
        return Err(Mismatch::new("status", format!("with status {wanted}"), got));
    }
    for (name, wanted) in &expect.header {
        check_header(name, wanted.as_deref(), &answered.headers, veil)?;
    }
    if expect.ignores_body() {
        return Ok(());
    }
    let whole = answered.size == answered.body.len() as u64;
    let body = || {
        let cut = if whole {
            String::new()
        } else {
            format!(" (the first {} of {} bytes)", answered.body.len(), answered.size)
        };
        format!("{}{cut}", veil.excerpt(&answered.body))
    };
    let text = String::from_utf8_lossy(&answered.body);
    if let Some(part) = &expect.body_contains
        && !text.contains(part)
    {
        return Err(Mismatch::new(
            "body",
            format!("with {} in the body", veil.excerpt(part.as_bytes())),
            body(),
        ));
    }
    if let Some(pattern) = &expect.body_matches
        && !pattern.is_match(&text)
    {
        return Err(Mismatch::new(
            "body",
            format!("with a body that matches `{}`", pattern.as_str()),
            body(),
        ));
    }
    if expect.json.is_empty() {
        return Ok(());
    }
    let json: Value = serde_json::from_slice(&answered.body)
        .map_err(|error| Mismatch::new("json", "with JSON", format!("{}, which is none: {error}", body())))?;
    for (pointer, wanted) in &expect.json {
        let found = pointer.find(&json);
        if found != Some(wanted) {
            let short = |value: &Value| veil.excerpt(value.to_string().as_bytes());
            let got = found.map_or_else(|| "without it".to_owned(), |found| format!("with {}", short(found)));
            let expected = format!("with {} at `{}` of its JSON", short(wanted), pointer.as_str());
            return Err(Mismatch::new("json", expected, got));
        }
    }
    Ok(())
}

fn check_header(name: &str, wanted: Option<&str>, headers: &HeaderMap, veil: Veil<'_>) -> Result<(), Mismatch> {
    let mut values = headers.get_all(name).iter();
    let is_there = match wanted {
        None => values.next().is_some(),
        Some(wanted) => values.any(|value| value.as_bytes() == wanted.as_bytes()),
    };
    if is_there {
        return Ok(());
    }
    let expected = match wanted {
        None => format!("with a header `{name}`"),
        Some(_) if lets_in(name) => format!("with a certain header `{name}`"),
        Some(wanted) => format!("with a header `{name}: {}`", wanted.escape_debug()),
    };
    let values = headers.get_all(name).iter();
    let got: Vec<_> = values
        .map(|value| {
            if lets_in(name) {
                "`***`".to_owned()
            } else {
                veil.excerpt(value.as_bytes())
            }
        })
        .collect();
    let got = if got.is_empty() {
        "without it".to_owned()
    } else {
        format!("with {}", got.join(" and "))
    };
    Err(Mismatch::new("header", expected, got))
}

#[cfg(test)]
mod tests {
    use mobu_fleet::domain::business::{BusinessOptions, HttpRequest};
    use mobu_fleet::domain::flock::FlockConfig;
    use secrecy::SecretString;
    use serde_json::json;

    use super::*;

    fn request(given: &Value) -> HttpRequest {
        let flock = FlockConfig::parse(&json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [],
            "business": {"type": "HTTPRunner", "options": {"requests": [{"url": "http://localhost/", "expect": given}]}},
        }))
        .unwrap();
        let BusinessOptions::HttpRunner(options) = &flock.business.options else {
            unreachable!()
        };
        options.requests[0].clone()
    }

    fn verdict(given: &Value, status: u16, body: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "text/plain".parse().unwrap());
        let answered = Answered {
            status,
            headers,
            body: body.into(),
            size: body.len() as u64,
        };
        let request = request(given);
        let veil = Veil {
            request: &request,
            url: &"http://localhost/".parse().unwrap(),
            token: &SecretString::default(),
        };
        check(&request.expect, &answered, veil).map_or_else(|mismatch| mismatch.to_string(), |()| "fine".to_owned())
    }

    #[test]
    fn an_answer_is_held_to_every_expectation() {
        for (given, status, body, outcome) in [
            (json!({}), 204, "", "fine"),
            (
                json!({}),
                404,
                "no\n",
                "was expected to answer with status 200 to 299, but answered 404 with `no\\n`",
            ),
            (json!({"status": [200, 404]}), 404, "", "fine"),
            (
                json!({"status": [200, 201]}),
                500,
                "",
                "was expected to answer with status 200 or 201, but answered 500 with an empty body",
            ),
            (json!({"header": {"content-type": null}}), 200, "", "fine"),
            (json!({"header": {"Content-Type": "text/plain"}}), 200, "", "fine"),
            (
                json!({"header": {"content-type": "a/b"}}),
                200,
                "",
                "was expected to answer with a header `content-type: a/b`, but answered with `text/plain`",
            ),
            (
                json!({"header": {"x-a": null}}),
                200,
                "",
                "was expected to answer with a header `x-a`, but answered without it",
            ),
            (json!({"body_contains": "ell"}), 200, "hello", "fine"),
            (
                json!({"body_contains": "x"}),
                200,
                "hello",
                "was expected to answer with `x` in the body, but answered `hello`",
            ),
            (json!({"body_matches": "^h.*o$"}), 200, "hello", "fine"),
            (
                json!({"body_matches": "^x"}),
                200,
                "hello",
                "was expected to answer with a body that matches `^x`, but answered `hello`",
            ),
            (json!({"json": {"/a/0": 1}}), 200, "{\"a\": [1]}", "fine"),
            (
                json!({"json": {"/a": 2}}),
                200,
                "{\"a\": 1}",
                "was expected to answer with `2` at `/a` of its JSON, but answered with `1`",
            ),
            (
                json!({"json": {"/b": 2}}),
                200,
                "{\"a\": 1}",
                "was expected to answer with `2` at `/b` of its JSON, but answered without it",
            ),
        ] {
            assert_eq!(verdict(&given, status, body), outcome, "{given}");
        }
        assert!(verdict(&json!({"json": {"": 1}}), 200, "<html>").contains("`<html>`, which is none: expected value"));
    }
}
