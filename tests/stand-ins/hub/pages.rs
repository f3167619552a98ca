//! The hub: login, the user's servers, spawn and its progress.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State as Shared};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{delete, get};
use bytes::Bytes;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use serde_json::json;

use super::{Lab, Login, Spawn, State, cookie, has_xsrf, header, token};

type Hub = Shared<Arc<State>>;

pub(super) fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/nb/hub/home", get(home))
        .route("/nb/hub/login", get(login))
        .route("/nb/hub/spawn", get(form).post(spawn))
        .route("/nb/hub/spawn-pending/{user}", get(pending))
        .route("/nb/hub/api/users/{user}", get(user))
        .route("/nb/hub/api/users/{user}/server", delete(stop))
        .route("/nb/hub/api/users/{user}/server/progress", get(progress))
        .route("/nb/hub/api/oauth2/authorize", get(authorize))
}

/// What stands before hub and labs: lets nobody through without a token, and breaks what shall be broken.
pub(super) async fn gate(Shared(state): Hub, request: Request, next: Next) -> Response {
    let what = format!("{} {}", request.method(), request.uri().path());
    let (broken, drips, hangs) = {
        let mut inner = state.lock();
        inner.requests.push(what.clone());
        let is_hit = |knob: Option<&str>| knob.is_some_and(|beginning| what.starts_with(beginning));
        (
            is_hit(inner.knobs.broken),
            is_hit(inner.knobs.drips),
            is_hit(inner.knobs.hangs),
        )
    };
    if drips {
        let spaces = futures_lite::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b" ")), ()))
        });
        return Body::from_stream(spaces).into_response();
    }
    if hangs {
        std::future::pending::<()>().await;
    }
    if broken {
        let betrayed = state.lock().knobs.betrays.then(|| token(request.headers())).flatten();
        let page = format!("<h1>503 out of order</h1>{}", betrayed.unwrap_or_default());
        return (StatusCode::SERVICE_UNAVAILABLE, page).into_response();
    }
    if token(request.headers()).is_none() {
        return state.complain(StatusCode::UNAUTHORIZED, format!("{what} without a token"));
    }
    if header(request.headers(), "sec-fetch-mode").is_empty() {
        return state.complain(StatusCode::BAD_REQUEST, format!("{what} without Sec-Fetch-Mode"));
    }
    next.run(request).await
}

fn is_logged_in(headers: &HeaderMap) -> bool {
    cookie(headers, "hub-session") == token(headers)
}

async fn home(Shared(state): Hub, headers: HeaderMap) -> Response {
    if header(&headers, "sec-fetch-mode") != "navigate" {
        return state.complain(
            StatusCode::FORBIDDEN,
            "the home page is opened by something else than a browser",
        );
    }
    if is_logged_in(&headers) {
        return "<h1>home</h1>".into_response();
    }
    Redirect::to("/nb/hub/login?next=%2Fnb%2Fhub%2Fhome").into_response()
}

/// Both cookies come with the redirect alone.
async fn login(Shared(state): Hub, headers: HeaderMap) -> Response {
    let (login, number) = {
        let mut inner = state.lock();
        (inner.knobs.login, inner.number())
    };
    let on = format!("/nb/hub/login?next=%2Fnb%2Fhub%2Fhome&state=secret{number}");
    let target = match login {
        Login::Works => "/nb/hub/home",
        Login::Wanders => on.as_str(),
        Login::Circles => "/nb/hub/login?next=%2Fnb%2Fhub%2Fhome&state=secret",
        Login::LeadsAway => "http://127.0.0.2:9/nb/hub/home?state=secret",
        Login::Refuses => return (StatusCode::FORBIDDEN, "nobody knows you").into_response(),
    };
    let token = token(&headers).unwrap_or_default();
    let cookies = AppendHeaders([
        ("set-cookie", format!("hub-session={token}; Path=/nb/; HttpOnly")),
        ("set-cookie", format!("_xsrf=\"hub|{number}=:\"; Path=/nb/hub/")),
    ]);
    (cookies, Redirect::to(target)).into_response()
}

/// Notes whose a token is, and refuses those of others.
fn refusal(state: &State, headers: &HeaderMap, user: &str) -> Option<Response> {
    if !is_logged_in(headers) {
        return Some(state.complain(StatusCode::FORBIDDEN, "the API is used without a login"));
    }
    if !has_xsrf(headers) {
        return Some(state.complain(StatusCode::FORBIDDEN, "the API is used without the hub's XSRF token"));
    }
    let token = token(headers).unwrap_or_default();
    let mut inner = state.lock();
    let known = inner.users.entry(token.to_owned()).or_insert_with(|| user.to_owned());
    let is_own = known == user;
    drop(inner);
    (!is_own).then(|| {
        state.complain(
            StatusCode::NOT_FOUND,
            format!("{user} is asked for with the token of another"),
        )
    })
}

async fn user(Shared(state): Hub, Path(user): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&state, &headers, &user) {
        return refusal;
    }
    let mut inner = state.lock();
    inner.sweep();
    let servers = match inner.labs.get(&user) {
        None => json!({}),
        Some(lab) => {
            let pending = match (lab.deleted, lab.is_ready) {
                (Some(_), _) => json!("stop"),
                (None, false) => json!("spawn"),
                (None, true) => json!(null),
            };
            json!({"": {"name": "", "pending": pending, "ready": lab.is_ready}})
        }
    };
    axum::Json(json!({"name": user, "servers": servers})).into_response()
}

async fn form(Shared(state): Hub, headers: HeaderMap) -> Response {
    if !is_logged_in(&headers) || header(&headers, "sec-fetch-mode") != "navigate" {
        return state.complain(
            StatusCode::FORBIDDEN,
            "the spawn form is opened without a login, or not as a page",
        );
    }
    let token = token(&headers).unwrap_or_default().to_owned();
    state.lock().shown.push(token);
    "<form></form>".into_response()
}

async fn spawn(Shared(state): Hub, headers: HeaderMap, body: String) -> Response {
    let (user, time) = match admitted(&state, &headers, body) {
        Ok(admitted) => admitted,
        Err(refusal) => return *refusal,
    };
    let whose = user.clone();
    let making = async move {
        tokio::time::sleep(time).await;
        let lab = Lab {
            asked: Some(clock::now()),
            ..Lab::default()
        };
        let mut inner = state.lock();
        inner.labs.insert(whose, lab);
        inner.all_labs += 1;
        inner.sweep();
    };
    // In a task of its own: a hub goes on with what it has begun.
    drop(Tasks::new().spawn(TaskKind::Expendable, "spawn", making).await);
    Redirect::to(&format!("/nb/hub/spawn-pending/{user}")).into_response()
}

/// Returns who may have a lab, and how long the hub thinks about it.
fn admitted(state: &State, headers: &HeaderMap, body: String) -> Result<(String, Duration), Box<Response>> {
    let token = token(headers).unwrap_or_default();
    if !is_logged_in(headers) || !has_xsrf(headers) {
        return Err(Box::new(state.complain(
            StatusCode::FORBIDDEN,
            "the spawn form is sent without the hub's XSRF token",
        )));
    }
    let mut inner = state.lock();
    let Some(at) = inner.shown.iter().position(|shown| shown == token) else {
        drop(inner);
        return Err(Box::new(state.complain(
            StatusCode::BAD_REQUEST,
            "the spawn form is sent by somebody who has not seen it",
        )));
    };
    inner.shown.swap_remove(at);
    inner.sweep();
    inner.forms.push(body);
    let Some(user) = inner.users.get(token).cloned() else {
        drop(inner);
        return Err(Box::new(state.complain(
            StatusCode::BAD_REQUEST,
            "the spawn form is sent by nobody knows whom",
        )));
    };
    if inner.labs.contains_key(&user) {
        drop(inner);
        return Err(Box::new(
            state.complain(StatusCode::BAD_REQUEST, format!("{user} spawns a second lab")),
        ));
    }
    Ok((user, inner.knobs.thinking_time))
}

async fn pending(Path(_): Path<String>) -> &'static str {
    "<h1>your server is starting up</h1>"
}

async fn stop(Shared(state): Hub, Path(user): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&state, &headers, &user) {
        return refusal;
    }
    if !header(&headers, "referer").ends_with("/nb/hub/home") {
        return state.complain(StatusCode::FORBIDDEN, "a lab is deleted from nowhere");
    }
    let mut inner = state.lock();
    inner.sweep();
    let is_hasty = inner.knobs.refuses_hasty_ends;
    let status = match inner.labs.get_mut(&user) {
        None => StatusCode::NO_CONTENT,
        Some(lab) if is_hasty && !lab.is_ready => StatusCode::BAD_REQUEST,
        Some(lab) => {
            lab.deleted.get_or_insert_with(clock::now);
            StatusCode::ACCEPTED
        }
    };
    inner.sweep();
    status.into_response()
}

async fn progress(Shared(state): Hub, Path(user): Path<String>, headers: HeaderMap) -> Response {
    if let Some(refusal) = refusal(&state, &headers, &user) {
        return refusal;
    }
    let is_from_home = header(&headers, "referer").ends_with("/nb/hub/home");
    if !is_from_home || header(&headers, "accept") != "text/event-stream" {
        return state.complain(
            StatusCode::FORBIDDEN,
            "progress is watched from nowhere, or not as a stream",
        );
    }
    let knobs = state.lock().knobs.clone();
    if knobs.spawn == Spawn::Page {
        return (StatusCode::INTERNAL_SERVER_ERROR, axum::response::Html("<h1>500</h1>")).into_response();
    }
    let stream = futures_lite::stream::unfold(0, move |step| {
        let (state, user) = (state.clone(), user.clone());
        async move { event(&state, &user, step).await.map(|event| (event, step + 1)) }
    });
    ([("content-type", "text/event-stream")], Body::from_stream(stream)).into_response()
}

fn event_of(progress: u32, message: &str, more: serde_json::Value) -> Bytes {
    let mut event = json!({"progress": progress, "message": message, "html_message": format!("<b>{message}</b>")});
    if let (Some(event), serde_json::Value::Object(more)) = (event.as_object_mut(), more) {
        event.extend(more);
    }
    Bytes::from(format!("data: {event}\n\n"))
}

/// Returns what comes next on the stream.
async fn event(state: &State, user: &str, step: u32) -> Option<Result<Bytes, std::io::Error>> {
    let knobs = state.lock().knobs.clone();
    let said = |progress: u32, message: &str, more| event_of(progress, &state.said(user, message), more);
    if step == 0 {
        return Some(Ok(match knobs.spawn {
            Spawn::Silent => Bytes::from_static(b": here you are\n\n"),
            Spawn::Ends => said(0, "Server requested", json!({})),
            Spawn::LabAfterGarbage => Bytes::from(format!(
                "\n\n: keep-alive\n\nevent: x\ndata: {}\n\ndata: {{\"progress\": 3}}\n\ndata: [1]\n\nid: 7\n\n",
                state.said(user, "no JSON at all")
            )),
            _ => said(0, "Server \u{1b}[32mrequested\u{1b}[0m", json!({})),
        }));
    }
    match knobs.spawn {
        Spawn::Silent => std::future::pending().await,
        Spawn::Fails if step == 1 => Some(Ok(said(100, "Spawn failed: no room", json!({"failed": true})))),
        Spawn::Fails | Spawn::Ends => None,
        Spawn::BreaksOff if step == 1 => Some(Ok(Bytes::from_static(b"data: {\"progress\": 5, \"mess"))),
        Spawn::BreaksOff => Some(Err(std::io::Error::other("broken off"))),
        Spawn::Never => {
            tokio::time::sleep(Duration::from_millis(50)).await;
            Some(Ok(Bytes::from_static(b"\n\n: keep-alive\n\n")))
        }
        Spawn::Lab | Spawn::LabAfterGarbage | Spawn::Page => {
            let (is_ready, is_there) = {
                let mut inner = state.lock();
                inner.sweep();
                let lab = inner.labs.get(user);
                (lab.is_some_and(|lab| lab.is_ready), lab.is_some())
            };
            if is_ready {
                // It stays open, as a hub's does that is slow to close it.
                return Some(Ok(said(
                    100,
                    &format!("Server ready at /nb/user/{user}/"),
                    json!({"ready": true}),
                )));
            }
            if !is_there {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50).min(knobs.spawn_time)).await;
            Some(Ok(if step % 20 == 1 {
                said(50, "Spawning server...", json!({}))
            } else {
                Bytes::from_static(b"\n\n")
            }))
        }
    }
}

/// The hub's half of a lab's login.
async fn authorize(
    Shared(state): Hub,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if !is_logged_in(&headers) {
        return state.complain(StatusCode::FORBIDDEN, "a lab is entered without a login to the hub");
    }
    let get = |key: &str| query.get(key).cloned().unwrap_or_default();
    let code = state.lock().number();
    let target = format!("{}?code={code}&state={}", get("redirect_uri"), get("state"));
    // A fresh one, in the middle of the way to the lab.
    let cookie = ("set-cookie", format!("_xsrf=\"hub|{code}=:\"; Path=/nb/hub/"));
    (AppendHeaders([cookie]), Redirect::to(&target)).into_response()
}
