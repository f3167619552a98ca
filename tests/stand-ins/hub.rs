//! A stand-in for a JupyterHub with its labs, behind an ingress that knows everybody by a token.
//!
//! It is as strict as the real ones about cookies, XSRF tokens, `Sec-Fetch-Mode`, `Referer` and the order of requests, and its
//! kernels speak both sub-protocols; they understand no Python, only the few calls that [`Knobs`] and `kernel.rs` name. What it
//! cannot know is whose a token is: it believes the first name that is asked for with it.

mod kernel;
mod lab;
mod pages;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use mobu_fleet::runtime::clock::{self, Instant};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// What becomes of a spawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spawn {
    /// A lab.
    Lab,
    /// A lab, after much that is no event.
    LabAfterGarbage,
    /// A last event that says that it failed.
    Fails,
    /// Keep-alive comments without end.
    Never,
    /// Not even those.
    Silent,
    /// An end of the stream without an event.
    Ends,
    /// A break in the middle of an event.
    BreaksOff,
    /// A page instead of events.
    Page,
}

/// Where the hub sends users who come to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// To where they wanted to go.
    Works,
    /// Here and there without end.
    Circles,
    /// On and on, never twice to the same place.
    Wanders,
    /// To a foreign host.
    LeadsAway,
    /// Nowhere: it refuses them.
    Refuses,
}

/// How it behaves. Everything may be changed while it runs.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a knob of its own, and all of them combine"
)]
pub struct Knobs {
    /// What happens at login.
    pub login: Login,
    /// What becomes of spawns.
    pub spawn: Spawn,
    /// How long one takes.
    pub spawn_time: Duration,
    /// How long the hub thinks before it makes a lab that it was asked for: also if nobody waits for its answer any more.
    pub thinking_time: Duration,
    /// Whether it refuses to delete a lab that is still coming.
    pub refuses_hasty_ends: bool,
    /// How long a lab takes to go.
    pub delete_time: Duration,
    /// How long each piece of code takes.
    pub cell_time: Duration,
    /// Whether kernels speak the newer sub-protocol if it is offered.
    pub speaks_v1: bool,
    /// Whether each user's lab has a host of its own, `{user}.localhost`.
    pub has_subdomains: bool,
    /// Whether labs tell which image they run.
    pub tells_image: bool,
    /// Whether hub, labs and kernels put the token of whom they talk to before whatever they say.
    pub betrays: bool,
    /// Beginning of the paths, with their method, that are answered with 503.
    pub broken: Option<&'static str>,
    /// Beginning of the paths, with their method, whose answers come byte by byte, without end.
    pub drips: Option<&'static str>,
    /// Beginning of the paths, with their method, that are never answered.
    pub hangs: Option<&'static str>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            login: Login::Works,
            spawn: Spawn::Lab,
            spawn_time: Duration::ZERO,
            thinking_time: Duration::ZERO,
            refuses_hasty_ends: false,
            delete_time: Duration::ZERO,
            cell_time: Duration::ZERO,
            speaks_v1: true,
            has_subdomains: false,
            tells_image: true,
            betrays: false,
            broken: None,
            drips: None,
            hangs: None,
        }
    }
}

/// A running stand-in. It ends when this is dropped.
#[derive(Debug)]
pub struct Hub {
    address: SocketAddr,
    state: Arc<State>,
    tasks: Tasks,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

/// What all handlers share.
#[derive(Debug)]
pub(crate) struct State {
    address: SocketAddr,
    /// Guards everything; held for a look or a change.
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
pub(crate) struct Inner {
    knobs: Knobs,
    requests: Vec<String>,
    complaints: Vec<String>,
    forms: Vec<String>,
    code: Vec<String>,
    /// Whose the tokens are.
    users: BTreeMap<String, String>,
    /// Tokens for which the form was shown.
    shown: Vec<String>,
    labs: BTreeMap<String, Lab>,
    numbers: u64,
    most_labs: usize,
    /// Labs so far.
    all_labs: usize,
    /// Connections to kernels that are open.
    sockets: usize,
    /// Sessions that went with their lab, because nobody had ended them.
    forsaken: usize,
}

/// One user's lab.
#[derive(Debug, Default)]
pub(crate) struct Lab {
    asked: Option<Instant>,
    is_ready: bool,
    /// When its deletion was asked for.
    deleted: Option<Instant>,
    /// Kernels by session.
    sessions: BTreeMap<String, String>,
    interrupts: u64,
    interrupt: Arc<Notify>,
}

impl Hub {
    /// Starts one on a port of its own.
    ///
    /// # Panics
    ///
    /// If there is no port.
    pub async fn start(knobs: Knobs) -> Self {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .await
            .unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            address,
            inner: Mutex::new(Inner {
                knobs,
                ..Inner::default()
            }),
        });
        let tasks = Tasks::new();
        let router = Router::new()
            .merge(pages::router())
            .merge(lab::router())
            .layer(axum::middleware::from_fn_with_state(state.clone(), pages::gate))
            .merge(kernel::bare())
            .with_state(state.clone());
        drop(tasks.spawn(TaskKind::Expendable, "hub", async move {
            axum::serve(listener, router).await.unwrap();
        }));
        Self { address, state, tasks }
    }

    /// Base URL of the hub.
    pub fn url(&self) -> String {
        self.state.base("localhost")
    }

    /// What service discovery says of it.
    pub fn discovery(&self) -> Value {
        json!({"services": {"ui": {"nublado": {"url": self.url()}}}})
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves.
    pub fn set(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut self.state.lock().knobs);
    }

    /// All requests so far: method and path, without queries.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }

    /// What clients did wrong so far. Must be empty, unless a test made them do it.
    pub fn complaints(&self) -> Vec<String> {
        self.state.lock().complaints.clone()
    }

    /// The spawn forms so far.
    pub fn forms(&self) -> Vec<String> {
        self.state.lock().forms.clone()
    }

    /// All code that kernels got so far.
    pub fn code(&self) -> Vec<String> {
        self.state.lock().code.clone()
    }

    /// The tokens that users have come with.
    pub fn tokens(&self) -> Vec<String> {
        self.state.lock().users.keys().cloned().collect()
    }

    /// Whose labs there are, those included that come or go.
    pub fn labs(&self) -> Vec<String> {
        let mut inner = self.state.lock();
        inner.sweep();
        inner.labs.keys().cloned().collect()
    }

    /// How many labs there were at once.
    pub fn most_labs(&self) -> usize {
        self.state.lock().most_labs
    }

    /// How many labs were asked for so far.
    pub fn all_labs(&self) -> usize {
        self.state.lock().all_labs
    }

    /// How many connections to kernels are open.
    pub fn sockets(&self) -> usize {
        self.state.lock().sockets
    }

    /// How many sessions went with their lab, because nobody had ended them.
    pub fn forsaken_sessions(&self) -> usize {
        self.state.lock().forsaken
    }

    /// How many sessions there are in a user's lab.
    pub fn session_count(&self, user: &str) -> usize {
        self.state.lock().labs.get(user).map_or(0, |lab| lab.sessions.len())
    }

    /// How often a user's kernels were interrupted.
    pub fn interrupts(&self, user: &str) -> u64 {
        self.state.lock().labs.get(user).map_or(0, |lab| lab.interrupts)
    }

    /// Leaves a lab as an earlier run might have.
    pub fn leave_lab(&self, user: &str) {
        let lab = Lab {
            is_ready: true,
            ..Lab::default()
        };
        self.state.lock().labs.insert(user.to_owned(), lab);
    }

    /// Ends all labs at once, as a node does that goes down.
    pub fn lose_labs(&self) {
        self.state.lock().labs.clear();
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn base(&self, host: &str) -> String {
        format!("http://{host}:{}/nb", self.address.port())
    }

    /// Base URL of a user's lab.
    fn lab_base(&self, user: &str) -> String {
        let host = if self.lock().knobs.has_subdomains {
            format!("{user}.localhost")
        } else {
            "localhost".to_owned()
        };
        self.base(&host)
    }

    /// Returns what is said to a user: with the token before it, if that is to be.
    fn said(&self, user: &str, text: &str) -> String {
        let inner = self.lock();
        let token = inner.users.iter().find(|(_, name)| *name == user);
        match token {
            Some((token, _)) if inner.knobs.betrays => format!("{token} {text}"),
            _ => text.to_owned(),
        }
    }

    /// Says no, and remembers why.
    fn complain(&self, status: StatusCode, what: impl Into<String>) -> Response {
        let what = what.into();
        self.lock().complaints.push(what.clone());
        (status, what).into_response()
    }
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// Lets go of labs whose time has come.
    fn sweep(&mut self) {
        let time = self.knobs.delete_time;
        let is_gone = |lab: &Lab| lab.deleted.is_some_and(|at| at.elapsed() >= time);
        let gone = self.labs.values().filter(|lab| is_gone(lab));
        self.forsaken += gone.map(|lab| lab.sessions.len()).sum::<usize>();
        self.labs.retain(|_, lab| !is_gone(lab));
        let now = clock::now();
        let is_over = |at: Instant| now.duration_since(at) >= self.knobs.spawn_time;
        let comes = matches!(self.knobs.spawn, Spawn::Lab | Spawn::LabAfterGarbage);
        for lab in self.labs.values_mut() {
            lab.is_ready = lab.is_ready || (comes && lab.asked.is_some_and(is_over));
        }
        self.most_labs = self.most_labs.max(self.labs.len());
    }
}

/// Returns the token of a request.
fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// Returns the value of a cookie as it is written.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split("; "));
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Returns whether a request carries its cookie's token back. Cookies are quoted, headers are not.
fn has_xsrf(headers: &HeaderMap) -> bool {
    let sent = header(headers, "x-xsrftoken");
    cookie(headers, "_xsrf").is_some_and(|cookie| cookie.trim_matches('"') == sent)
}
