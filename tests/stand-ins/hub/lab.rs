//! The labs: login by way of the hub, sessions, kernels.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use super::{State, cookie, has_xsrf, header, kernel, token};

type Hub = Shared<Arc<State>>;

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/nb/user/{user}/lab", get(page))
        .route("/nb/user/{user}/oauth_callback", get(callback))
        .route("/nb/user/{user}/api/sessions", post(create))
        .route("/nb/user/{user}/api/sessions/{id}", delete(end))
        .route("/nb/user/{user}/api/kernels/{id}/interrupt", post(interrupt))
        .route("/nb/user/{user}/api/kernels/{id}/channels", get(channels))
}

/// Nobody but its user gets to a lab, on its own host, and only while there is one.
fn refusal(state: &State, headers: &HeaderMap, user: &str) -> Option<Response> {
    let base = state.lab_base(user);
    let host = base.trim_start_matches("http://").trim_end_matches("/nb").to_owned();
    let mut inner = state.lock();
    inner.sweep();
    let is_there = inner
        .labs
        .get(user)
        .is_some_and(|lab| lab.is_ready && lab.deleted.is_none());
    let is_own = token(headers)
        .and_then(|token| inner.users.get(token))
        .is_some_and(|known| known == user);
    drop(inner);
    if !is_own {
        return Some(state.complain(StatusCode::FORBIDDEN, format!("{user}'s lab is entered by another")));
    }
    if !is_there {
        return Some((StatusCode::SERVICE_UNAVAILABLE, "no such lab").into_response());
    }
    (header(headers, "host") != host).then(|| {
        state.complain(
            StatusCode::NOT_FOUND,
            format!("{user}'s lab is asked for at another host"),
        )
    })
}

fn api_refusal(state: &State, headers: &HeaderMap, user: &str) -> Option<Response> {
    if let Some(refusal) = refusal(state, headers, user) {
        return Some(refusal);
    }
    if cookie(headers, "lab-session") != Some(user) || !has_xsrf(headers) {
        let what = "a lab's API is used without login, or without the lab's XSRF token";
        return Some(state.complain(StatusCode::FORBIDDEN, what));
    }
    (header(headers, "sec-fetch-mode") != "same-origin")
        .then(|| state.complain(StatusCode::FORBIDDEN, "a lab's API is opened as a page"))
}

async fn page(Shared(state): Hub, Path(user): Path<String>, headers: HeaderMap) -> Response {
    let base = state.lab_base(&user);
    if !base.starts_with(&format!("http://{}/", header(&headers, "host"))) {
        // The hub sends users who come to its own host on to theirs.
        return Redirect::to(&format!("{base}/user/{user}/lab")).into_response();
    }
    if let Some(refusal) = refusal(&state, &headers, &user) {
        return refusal;
    }
    if header(&headers, "sec-fetch-mode") != "navigate" {
        return state.complain(
            StatusCode::FORBIDDEN,
            "a lab is opened by something else than a browser",
        );
    }
    if cookie(&headers, "lab-session") == Some(&user) {
        return "<h1>lab</h1>".into_response();
    }
    let hub = state.base("localhost");
    let target = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &format!("jupyterhub-user-{user}"))
        .append_pair("redirect_uri", &format!("{base}/user/{user}/oauth_callback"))
        .append_pair("state", "oauth-secret")
        .finish();
    let cookie = ("set-cookie", format!("oauth-state=oauth-secret; Path=/nb/user/{user}/"));
    let target = format!("{hub}/hub/api/oauth2/authorize?{target}");
    (AppendHeaders([cookie]), Redirect::to(&target)).into_response()
}

async fn callback(
    Shared(state): Hub,
    Path(user): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if let Some(refusal) = refusal(&state, &headers, &user) {
        return refusal;
    }
    if query.get("state").map(String::as_str) != cookie(&headers, "oauth-state") {
        return state.complain(StatusCode::FORBIDDEN, "a login to a lab comes back with another state");
    }
    let number = state.lock().number();
    let cookies = AppendHeaders([
        ("set-cookie", format!("lab-session={user}; Path=/nb/user/{user}/")),
        ("set-cookie", format!("_xsrf=\"lab|{number}=:\"; Path=/nb/user/{user}/")),
    ]);
    (cookies, Redirect::to(&format!("/nb/user/{user}/lab"))).into_response()
}

async fn create(Shared(state): Hub, Path(user): Path<String>, headers: HeaderMap, body: String) -> Response {
    if let Some(refusal) = api_refusal(&state, &headers, &user) {
        return refusal;
    }
    let asked: Value = serde_json::from_str(&body).unwrap_or_default();
    let is_named = asked["path"].as_str().is_some_and(|path| !path.is_empty());
    let is_known = matches!(asked["type"].as_str(), Some("console" | "notebook"));
    if asked["kernel"] != json!({"name": "lsst"}) || !is_named || !is_known {
        return state.complain(StatusCode::BAD_REQUEST, format!("a session is asked for with {body}"));
    }
    let mut inner = state.lock();
    let (session, kernel) = (
        format!("session-{}", inner.number()),
        format!("kernel-{}", inner.number()),
    );
    let lab = inner.labs.get_mut(&user).unwrap();
    lab.sessions.insert(session.clone(), kernel.clone());
    let answer = json!({"id": session, "kernel": {"id": kernel, "name": "lsst"}, "name": asked["name"]});
    (StatusCode::CREATED, axum::Json(answer)).into_response()
}

async fn end(Shared(state): Hub, Path((user, id)): Path<(String, String)>, headers: HeaderMap) -> Response {
    if let Some(refusal) = api_refusal(&state, &headers, &user) {
        return refusal;
    }
    let mut inner = state.lock();
    match inner.labs.get_mut(&user).and_then(|lab| lab.sessions.remove(&id)) {
        Some(_) => StatusCode::NO_CONTENT.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn interrupt(Shared(state): Hub, Path((user, _)): Path<(String, String)>, headers: HeaderMap) -> Response {
    if let Some(refusal) = api_refusal(&state, &headers, &user) {
        return refusal;
    }
    let mut inner = state.lock();
    if let Some(lab) = inner.labs.get_mut(&user) {
        lab.interrupts += 1;
        lab.interrupt.notify_waiters();
    }
    StatusCode::NO_CONTENT.into_response()
}

async fn channels(
    Shared(state): Hub,
    Path((user, id)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    if let Some(refusal) = api_refusal(&state, &headers, &user) {
        return refusal;
    }
    let known = state
        .lock()
        .labs
        .get(&user)
        .is_some_and(|lab| lab.sessions.values().any(|kernel| *kernel == id));
    if !known {
        return StatusCode::NOT_FOUND.into_response();
    }
    kernel::open(state, user, request)
}
