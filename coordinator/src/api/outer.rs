//! What happens around every call: its time limit, its line in the log, its count; and what has no route.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_lite::FutureExt as _;
use http::header::LOCATION;
use http::{HeaderMap, Method, StatusCode, Uri};
use hyper::ext::ReasonPhrase;
use mobu_fleet::runtime::clock::now;
use mobu_fleet::runtime::http::Peer;
use tracing::{debug, error, info, warn};

use super::auth::Who;
use super::error::{ApiError, internal};
use super::forwarded::{absolute, client};
use super::{Api, routes};

/// What a call may take beyond the configured times: reading its body, and the broker's operations.
const MARGIN: Duration = Duration::from_secs(60);

/// Carries a call through, whatever it does.
pub(super) async fn around(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let began = now();
    let who = Who::default();
    request.extensions_mut().insert(who.clone());
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let route = routes::find(&api, &path);
    let client = client(request.headers(), request.extensions().get::<Peer>().copied());
    let response = match route {
        // The table decides what exists: the router below would take an empty name for a name.
        None => unknown_path(State(api.clone()), request.uri().clone(), request.headers().clone()).await,
        // The router below would run the handler of GET.
        Some(route) if method == Method::HEAD => ApiError::WrongMethod { allow: route.allow }.into_response(),
        Some(_) => carried(&api, request, next).await,
    };
    let (status, took) = (response.status(), now() - began);
    api.metrics
        .count(route.map_or("other", |route| route.pattern), &method, status, took);
    log(&method, &path, status, took, &client, &who);
    with_reason(response)
}

/// Names the status 422 as mobu does, and RFC 9110; the HTTP library still has the older name.
fn with_reason(mut response: Response) -> Response {
    if response.status() == StatusCode::UNPROCESSABLE_ENTITY {
        response
            .extensions_mut()
            .insert(ReasonPhrase::from_static(b"Unprocessable Content"));
    }
    response
}

async fn carried(api: &Api, request: Request, next: Next) -> Response {
    let limit = api.config.apply_timeout + api.config.gather_timeout * 2 + MARGIN;
    let call = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            error!("a handler panicked");
            internal()
        }
        Err(_) => {
            let msg = format!("nothing came of the call within {} s", limit.as_secs());
            ApiError::unavailable("outcome_unknown", msg).into_response()
        }
    }
}

/// One line per call, without headers, query or body: those may hold secrets.
fn log(method: &Method, path: &str, status: StatusCode, took: Duration, client: &str, who: &Who) {
    let user = who.0.get().map_or("", String::as_str).escape_debug().to_string();
    let client = client.escape_debug().to_string();
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let code = status.as_u16();
    if status.is_server_error() {
        warn!(%method, path, status = code, duration_ms, user, client, "{method} {path} {code}");
    } else if *method == Method::GET || *method == Method::HEAD {
        debug!(%method, path, status = code, duration_ms, user, client, "{method} {path} {code}");
    } else {
        info!(%method, path, status = code, duration_ms, user, client, "{method} {path} {code}");
    }
}

/// Sends whoever was wrong by a slash at the end to where it is right; there is nothing else here.
pub(super) async fn unknown_path(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path();
    let mut other = match path.strip_suffix('/') {
        Some(_) => path.trim_end_matches('/').to_owned(),
        None => format!("{path}/"),
    };
    if routes::find(&api, &other).is_none() {
        return ApiError::NoRoute.into_response();
    }
    if let Some(query) = uri.query() {
        other = format!("{other}?{query}");
    }
    match absolute(&headers, &other) {
        Some(location) => (StatusCode::TEMPORARY_REDIRECT, [(LOCATION, location)]).into_response(),
        None => ApiError::NoRoute.into_response(),
    }
}

/// The path is right, the method is not.
pub(super) async fn wrong_method(State(api): State<Api>, uri: Uri) -> ApiError {
    match routes::find(&api, uri.path()) {
        Some(route) => ApiError::WrongMethod { allow: route.allow },
        None => ApiError::NoRoute,
    }
}
