//! The API in front of the real actor on the in-process link, with replicas that are played.

mod auth;
mod changes;
mod common;
mod documents;
mod fleets;
mod github;
mod logs;
mod mobu;
mod played;
mod serving;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::{HeaderMap, Request, StatusCode};
use mobu_fleet::domain::ids::SessionId;
use mobu_fleet::link::memory::Hub;
use mobu_fleet::runtime::tasks::Tasks;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use self::played::{Mood, Part};
use super::{ApiConfig, router};
use crate::fleet::actor;
use crate::fleet::handle::Fleet;
use crate::fleet::reign::ReignRules;
use crate::fleet::state::{FleetRules, Status};

/// How long a test waits for something to become true, on whatever clock it runs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A coordinator's API, and the fleet behind it.
struct Stage {
    router: Router,
    fleet: Fleet,
    hub: Hub,
    tasks: Tasks,
    parts: Vec<Part>,
}

/// An answer, whole.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    text: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    fn expect(self, status: u16, text: &str) -> Self {
        assert_eq!((self.status.as_u16(), self.text.as_str()), (status, text));
        self
    }
}

fn rules(replica_count: u32) -> FleetRules {
    FleetRules {
        fleet: "test".parse().unwrap(),
        session: SessionId::new("coordinator-session"),
        version: "0.1.0".to_owned(),
        reign: ReignRules {
            replica_count,
            ..ReignRules::default()
        },
        report_interval: Duration::from_secs(1),
        announce_interval: Duration::from_secs(2),
        apply_timeout: Duration::from_secs(30),
        autostart: None,
    }
}

fn config(replica_count: u32) -> ApiConfig {
    ApiConfig {
        replica_count,
        version: "19.0.0".to_owned(),
        ..ApiConfig::default()
    }
}

impl Stage {
    /// Starts a fleet of so many replicas and waits until all are ready.
    async fn of(replica_count: u32) -> Self {
        Self::with(config(replica_count)).await
    }

    async fn with(config: ApiConfig) -> Self {
        let replica_count = config.replica_count;
        let stage = Self::without_replicas(config);
        let mut stage = stage;
        for index in 0..replica_count {
            stage.add(&index.to_string(), replica_count);
        }
        stage
            .until("all replicas to be ready", |status| {
                status.is_leading() && status.converged && status.replicas.heard().len() == replica_count as usize
            })
            .await;
        stage
    }

    fn without_replicas(config: ApiConfig) -> Self {
        Self::on(Hub::new(), config)
    }

    fn on(hub: Hub, config: ApiConfig) -> Self {
        let tasks = Tasks::new();
        let random = fastrand::Rng::with_seed(7);
        let fleet = actor::start(rules(config.replica_count), Arc::new(hub.clone()), &tasks, random);
        Self {
            router: router(fleet.clone(), Arc::new(config), &tasks),
            fleet,
            hub,
            tasks,
            parts: Vec::new(),
        }
    }

    fn add(&mut self, id: &str, replica_count: u32) {
        let part = Part::play(&self.hub, &self.tasks, id, replica_count);
        self.parts.push(part);
    }

    fn mood(&self, index: usize, change: impl FnOnce(&mut Mood)) {
        change(&mut self.parts[index].mood.lock().unwrap());
    }

    async fn until(&self, what: &str, condition: impl Fn(&Status) -> bool) -> Box<Status> {
        let mut last = None;
        let wait = async {
            loop {
                let status = self.fleet.status().await.unwrap();
                if condition(&status) {
                    return status;
                }
                last = Some((status.stage, status.states));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("waited for {what}, last seen {last:?}"))
    }

    /// Calls with a user's header and, if there is a body, as JSON.
    async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut headers = vec![("x-auth-request-user", "rra")];
        if !body.is_empty() {
            headers.push(("content-type", "application/json"));
        }
        self.send(method, path, &headers, body.to_owned()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "").await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let response = self.begin(method, path, headers, body).await;
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    async fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> axum::response::Response {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "example.com");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn put(&self, flock: &Value) -> Answer {
        self.call("PUT", "/mobu/flocks", &flock.to_string()).await
    }

    async fn finish(self) {
        self.tasks.drain_token().cancel();
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .expect("every task ends");
    }
}

/// The flock of the contract's example.
fn facts() -> Value {
    json!({
        "name": "facts", "count": 2, "scopes": ["exec:notebook"],
        "user_spec": {"username_prefix": "bot-mobu-facts", "uid_start": 1000},
        "business": {"type": "EmptyLoop", "options": {"idle_time": "1m30s"}},
    })
}

/// A flock that a fleet of several replicas can run.
fn lambs(name: &str, count: u32) -> Value {
    json!({
        "name": name, "count": count, "scopes": [], "user_spec": {"username_prefix": "bot-mobu-lamb"},
        "business": {"type": "EmptyLoop"},
    })
}

/// A flock that runs notebooks of a repository.
fn notebooks(name: &str, reference: &str) -> Value {
    json!({
        "name": name, "count": 1, "scopes": [], "user_spec": {"username_prefix": "bot-mobu-nb"},
        "business": {"type": "NotebookRunnerList", "options": {
            "repo_url": "https://github.com/org1/repo1.git", "repo_ref": reference,
        }},
    })
}
