//! What in a flock's configuration lets somebody in, and how it is shown to whoever only looks.

use serde_json::Value;

use super::{HttpRequest, JsonTemplate, RequestBody, shown_repo_url};

/// Ends of the names under which people keep what lets them in.
const ENDS: [&str; 7] = ["key", "token", "secret", "password", "passwd", "pwd", "auth"];

/// Returns whether a header, parameter or key is one of those that say who asks, going by its name.
pub fn lets_in(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let known = ["authorization", "proxy-authorization", "cookie", "set-cookie"];
    known.contains(&name.as_str()) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Hides in the options of a business, as they were given, what opens the repositories and services that they name. What is
/// made of what each monkey has (`{{token}}`) is no secret itself, and stays.
pub(in crate::domain) fn hide_credentials(options: &mut Value) {
    for key in ["repo_url", "lfs_read_url", "lfs_write_url"] {
        if let Some(Value::String(url)) = options.get_mut(key) {
            *url = shown_repo_url(url);
        }
    }
    let requests = options.get_mut("requests").and_then(Value::as_array_mut);
    for request in requests.into_iter().flatten() {
        if let Some(Value::String(url)) = request.get_mut("url") {
            *url = without_credentials(url);
        }
        if let Some(Value::String(body)) = request.get_mut("body") {
            *body = without_values(body);
        }
        for key in ["headers", "query", "json"] {
            if let Some(given) = request.get_mut(key) {
                hide_values(given);
            }
        }
    }
}

/// Returns a URL without user and password, and without the parameters that let somebody in. The others are the request's own, and stay.
fn without_credentials(url: &str) -> String {
    let shown = shown_repo_url(url);
    let (Some((place, _)), Some((_, query))) = (shown.split_once('?'), url.rsplit_once('?')) else {
        return shown;
    };
    format!("{place}?{}", without_values(query))
}

/// Returns `a=b&token=c` as `a=b&token=***`.
fn without_values(pairs: &str) -> String {
    let pairs = pairs.split('&').map(|pair| match pair.split_once('=') {
        Some((name, value)) if lets_in(name) && is_fixed(value) => format!("{name}=***"),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join("&")
}

fn hide_values(given: &mut Value) {
    match given {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if lets_in(name) && is_fixed(text) => "***".clone_into(text),
                    value => hide_values(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(hide_values),
        _ => {}
    }
}

fn is_fixed(text: &str) -> bool {
    !text.contains("{{")
}

impl HttpRequest {
    /// Returns the texts in this request that let somebody in, by the names of what they stand in: a whole header and what follows
    /// its scheme, cookies, parameters, fields of a form, texts in JSON. Those of the URL are not among them, nor what holds
    /// places to fill in.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for (name, value) in &self.headers {
            let Some(value) = value.fixed().filter(|_| lets_in(name)) else {
                continue;
            };
            secrets.push(value.to_owned());
            if name.eq_ignore_ascii_case("cookie") {
                let cookies = value.split(';').filter_map(|cookie| cookie.split_once('='));
                secrets.extend(cookies.map(|(_, value)| value.trim().to_owned()));
            } else if let Some((_, credentials)) = value.trim().split_once(' ') {
                secrets.push(credentials.trim().to_owned());
            }
        }
        let parameters = self.query.iter().filter(|(name, _)| lets_in(name));
        secrets.extend(parameters.filter_map(|(_, value)| Some(value.fixed()?.to_owned())));
        match &self.body {
            Some(RequestBody::Text(text)) => {
                let pairs = text.fixed().unwrap_or_default().split('&');
                let pairs = pairs
                    .filter_map(|pair| pair.split_once('='))
                    .filter(|(name, _)| lets_in(name));
                secrets.extend(pairs.map(|(_, value)| value.to_owned()));
            }
            Some(RequestBody::Json(json)) => collect(json, &mut secrets),
            None => {}
        }
        secrets
    }
}

fn collect(json: &JsonTemplate, secrets: &mut Vec<String>) {
    match json {
        JsonTemplate::Fixed(value) => collect_fixed(value, secrets),
        JsonTemplate::Text(_) => {}
        JsonTemplate::Array(items) => items.iter().for_each(|item| collect(item, secrets)),
        JsonTemplate::Object(entries) => {
            for (name, value) in entries {
                match value {
                    JsonTemplate::Fixed(Value::String(text)) if lets_in(name) => secrets.push(text.clone()),
                    value => collect(value, secrets),
                }
            }
        }
    }
}

fn collect_fixed(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match value {
                    Value::String(text) if lets_in(name) => secrets.push(text.clone()),
                    value => collect_fixed(value, secrets),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect_fixed(value, secrets)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::business::BusinessOptions;
    use crate::domain::flock::FlockConfig;

    fn flock(request: &Value) -> FlockConfig {
        FlockConfig::parse(&json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"}, "scopes": [],
            "business": {"type": "HTTPRunner", "options": {"requests": [request]}},
        }))
        .unwrap()
    }

    #[test]
    fn what_lets_a_request_in_is_found_and_not_shown() {
        let request = json!({
            "url": "https://me:word@x.test/a?page=1&token=one",
            "headers": {"Authorization": "Bearer two", "X-Page": "2", "cookie": "a=three; b=four", "x-api-key": "k{{username}}"},
            "query": {"api_key": "five", "page": "3"},
            "json": {"user": "me", "password": "six", "deep": [{"client_secret": "seven", "name": "{{username}}"}]},
        });
        let flock = flock(&request);
        let BusinessOptions::HttpRunner(options) = &flock.business.options else {
            unreachable!()
        };
        let secrets = [
            "Bearer two",
            "two",
            "a=three; b=four",
            "three",
            "four",
            "five",
            "six",
            "seven",
        ];
        assert_eq!(options.requests[0].secrets(), secrets);
        let shown = flock.shown();
        assert_eq!(
            shown.pointer("/business/options/requests/0").unwrap(),
            &json!({
                "url": "https://***@x.test/a?page=1&token=***",
                "headers": {"Authorization": "***", "X-Page": "2", "cookie": "***", "x-api-key": "k{{username}}"},
                "query": {"api_key": "***", "page": "3"},
                "json": {"user": "me", "password": "***", "deep": [{"client_secret": "***", "name": "{{username}}"}]},
            })
        );
    }

    #[test]
    fn a_form_is_shown_without_what_lets_in() {
        let flock = flock(&json!({"url": "http://x.test/", "body": "grant=a&client_secret=b&c=d"}));
        let shown = flock.shown();
        let body = shown.pointer("/business/options/requests/0/body").unwrap();
        assert_eq!(body, "grant=a&client_secret=***&c=d");
        let BusinessOptions::HttpRunner(options) = &flock.business.options else {
            unreachable!()
        };
        assert_eq!(options.requests[0].secrets(), ["b"]);
    }
}
