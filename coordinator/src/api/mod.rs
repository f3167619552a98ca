//! The HTTP API: mobu's routes for the whole fleet, and the fleet's own.
//!
//! One file per resource. Handlers read from the [`Fleet`] handle and never hold state of their own; answers that mobu
//! gives too are its answers to the byte in a fleet of one replica. Nothing under the prefix is answered before
//! `auth` has said who asks, except what says so in `openapi::NO_AUTH`.

mod auth;
mod body;
mod docs;
mod error;
mod events;
mod flock_data;
mod flocks;
mod forwarded;
mod github;
mod index;
mod json;
mod log;
mod metrics;
mod monkeys;
mod openapi;
mod outer;
mod overview;
mod python_json;
mod replicas;
mod revisions;
mod routes;
mod snapshot;
mod sorted;
mod summary;
mod wishes;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use mobu_fleet::runtime::tasks::Tasks;
use secrecy::SecretString;

/// What reads foreign input, for the tests that give it millions.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use super::body::fuzzing::json_body;
    pub use super::github::fuzzing::webhook;
}

use crate::fleet::handle::Fleet;

/// What the configuration decides about the API.
#[derive(Debug, Clone)]
pub struct ApiConfig {
    /// Name of the service, as the index shows it.
    pub name: String,
    /// This release.
    pub version: String,
    /// What mobu's routes begin with, such as `/mobu`; a slash at its end does not matter.
    pub path_prefix: String,
    /// Who may call.
    pub auth: Auth,
    /// Whether monkeys keep logs; if not, the log route says so.
    pub log_monkeys: bool,
    /// The webhook of the refresh app, if there is one.
    pub github_refresh: Option<GithubRefresh>,
    /// How many replicas the fleet should have: one answers exactly as mobu does.
    pub replica_count: u32,
    /// How long replicas may take to answer a question.
    pub gather_timeout: Duration,
    /// How long a change may take to be applied before the call is answered all the same.
    pub apply_timeout: Duration,
    /// Largest body of a request, in bytes.
    pub body_limit: usize,
    /// Largest body of a webhook, in bytes.
    pub webhook_limit: usize,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            name: "mobu".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            path_prefix: "/mobu".to_owned(),
            auth: Auth::Header,
            log_monkeys: true,
            github_refresh: None,
            replica_count: 1,
            gather_timeout: Duration::from_secs(5),
            apply_timeout: Duration::from_secs(30),
            body_limit: 1024 * 1024,
            webhook_limit: 25 * 1024 * 1024,
        }
    }
}

/// Who may call.
#[derive(Debug, Clone)]
pub enum Auth {
    /// Whoever a trusted ingress names in `X-Auth-Request-User`.
    Header,
    /// Whoever has one of these bearer tokens.
    Token(Vec<SecretString>),
    /// Anybody; only for a server that is bound to loopback.
    None,
}

/// What is needed to take pushes from GitHub.
#[derive(Debug, Clone)]
pub struct GithubRefresh {
    /// The app's secret, which signs every delivery.
    pub webhook_secret: SecretString,
    /// Organizations whose pushes count, by login.
    pub accepted_orgs: Vec<String>,
}

/// What every handler has at hand.
#[derive(Debug, Clone)]
struct Api {
    fleet: Fleet,
    config: Arc<ApiConfig>,
    /// The path prefix, with a slash in front and none at the end; empty for the root.
    prefix: Arc<str>,
    tasks: Tasks,
    metrics: Arc<metrics::Requests>,
    bodies: body::Budget,
    deliveries: github::Deliveries,
    documents: Arc<openapi::Documents>,
}

/// Makes the API of a fleet. Background work runs in `tasks`, and event streams end when they drain.
pub fn router(fleet: Fleet, config: Arc<ApiConfig>, tasks: &Tasks) -> Router {
    let prefix = match config.path_prefix.trim_matches('/') {
        "" => String::new(),
        inner => format!("/{inner}"),
    };
    let api = Api {
        documents: Arc::new(openapi::Documents::new(&config, &prefix)),
        prefix: prefix.clone().into(),
        fleet,
        config,
        tasks: tasks.clone(),
        metrics: Arc::default(),
        bodies: body::Budget::default(),
        deliveries: github::Deliveries::default(),
    };
    let at = |path: &str| format!("{prefix}{path}");
    let mut router = Router::new()
        .route("/", get(index::internal))
        .route("/healthz", get(index::healthz))
        .route("/readyz", get(index::readyz))
        .route("/metrics", get(metrics::metrics))
        .route(&at("/openapi.json"), get(openapi::openapi))
        .route(&at("/docs"), get(docs::docs))
        .route(&at("/redoc"), get(docs::redoc))
        .route(&at("/flocks"), get(flocks::list).put(flocks::put))
        .route(&at("/flocks/{flock}"), get(flocks::get).delete(flocks::delete))
        .route(&at("/flocks/{flock}/refresh"), post(flocks::refresh))
        .route(&at("/flocks/{flock}/monkeys"), get(monkeys::list))
        .route(&at("/flocks/{flock}/monkeys/{monkey}"), get(monkeys::get))
        .route(&at("/flocks/{flock}/monkeys/{monkey}/log"), get(log::log))
        .route(&at("/flocks/{flock}/summary"), get(summary::flock))
        .route(&at("/summary"), get(summary::all))
        .route(&at("/stop"), post(wishes::stop))
        .route(&at("/refresh"), post(wishes::refresh))
        .route(&at("/fleet"), get(overview::fleet))
        .route(&at("/replicas"), get(replicas::list))
        .route(&at("/replicas/{instance_id}"), get(replicas::get))
        .route(&at("/revisions"), get(revisions::list))
        .route(&at("/revisions/{revision}"), get(revisions::get))
        .route(&at("/events"), get(events::events));
    if !prefix.is_empty() {
        router = router.route(&at("/"), get(index::external));
    }
    if api.config.github_refresh.is_some() {
        router = router.route(&at("/github/refresh/webhook"), post(github::webhook));
    }
    router
        .fallback(outer::unknown_path)
        .method_not_allowed_fallback(outer::wrong_method)
        .layer(from_fn_with_state(api.clone(), outer::around))
        .with_state(api)
}
