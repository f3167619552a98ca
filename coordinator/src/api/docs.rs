//! A page for people that lists what the API offers. It needs nothing from elsewhere.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::{Html, IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CONTENT_SECURITY_POLICY;
use serde_json::Value;

use super::Api;

/// Shows the operations of this API.
#[utoipa::path(get, path = "/docs", tag = "mobu", responses((status = 200, description = "A page", body = String, content_type = "text/html")))]
pub(super) async fn docs(State(api): State<Api>) -> Response {
    page(&api)
}

/// Shows the operations of this API.
#[utoipa::path(get, path = "/redoc", tag = "mobu", responses((status = 200, description = "A page", body = String, content_type = "text/html")))]
pub(super) async fn redoc(State(api): State<Api>) -> Response {
    page(&api)
}

fn page(api: &Api) -> Response {
    let mut response = Html(api.documents.page.clone()).into_response();
    let policy = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response
}

const STYLE: &str = "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#222}\
code{background:#f2f2f2;padding:.1em .3em}b{display:inline-block;min-width:4.5em}summary{cursor:pointer;margin:.4em 0}";

/// Writes the page of an `OpenAPI` document.
pub(super) fn render(document: &Value) -> String {
    let text = |pointer: &str| escape(document.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let title = text("/info/title");
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{STYLE}</style>\
        <h1>{title} {}</h1><p>{}</p><p>The whole description: <a href=\"openapi.json\">openapi.json</a></p>",
        text("/info/version"),
        text("/info/description"),
    );
    let paths = document["paths"].as_object().into_iter().flatten();
    for (path, methods) in paths {
        for (method, operation) in methods.as_object().into_iter().flatten() {
            operation_of(&mut page, path, method, operation);
        }
    }
    page
}

fn operation_of(page: &mut String, path: &str, method: &str, operation: &Value) {
    let summary = operation["summary"].as_str().unwrap_or_default();
    let (method, path, summary) = (method.to_uppercase(), escape(path), escape(summary));
    let mut row = |text: String| page.push_str(&text);
    row(format!(
        "<details><summary><b>{method}</b> <code>{path}</code> {summary}</summary><ul>"
    ));
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let of = |key: &str| escape(parameter[key].as_str().unwrap_or_default());
        row(format!(
            "<li><code>{}</code> ({}) {}",
            of("name"),
            of("in"),
            of("description")
        ));
    }
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let description = escape(response["description"].as_str().unwrap_or_default());
        row(format!("<li>{status}: {description}"));
    }
    page.write_str("</ul></details>")
        .expect("writing to a String cannot fail");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
