//! Server-sent events: what changes in the fleet, as it changes.
//!
//! Nothing is queued for anybody. Each stream remembers what it has shown and compares that with what is true when its
//! client takes more, so a slow client sees fewer, larger steps, and is told how many revisions it missed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_lite::stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use mobu_fleet::domain::ids::{Epoch, InstanceId, Revision};
use mobu_fleet::runtime::clock::{Instant, now};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::auth::Caller;
use super::error::ApiError;
use super::{Api, revisions, snapshot};
use crate::fleet::replicas::ReplicaState;
use crate::fleet::state::Status;

/// How often a silent stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often a stream looks again even if nothing is said to have changed: convergence shows in reports alone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// Where the fleet stands: an event whenever one of these changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct FleetEvent {
    epoch: Epoch,
    revision: Option<Revision>,
    stage: &'static str,
    active: bool,
    converged: bool,
}

/// Where a replica stands: an event whenever that changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct ReplicaEvent {
    instance_id: InstanceId,
    /// Null once the replica is forgotten.
    state: Option<ReplicaState>,
    applied_revision: Option<Revision>,
}

#[derive(Serialize)]
struct Lagged {
    missed_revisions: u64,
}

/// Follows the fleet as server-sent events: `fleet`, `replica`, `revision`, and `lagged` after a gap.
#[utoipa::path(get, path = "/events", tag = "fleet",
    params(("Last-Event-ID" = Option<String>, Header, description = "Revision after which to begin")), responses(
    (status = 200, description = "A stream that ends with the coordinator", body = String, content_type = "text/event-stream"),
))]
pub(super) async fn events(_: Caller, State(api): State<Api>, headers: HeaderMap) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    let asked = headers.get(LAST_EVENT).and_then(|id| id.to_str().ok()?.parse().ok());
    let newest = status.standing.as_ref().map(|standing| standing.revision);
    let follower = Follower {
        changes: api.fleet.changes(),
        drain: api.tasks.drain_token(),
        shown: Shown {
            fleet: None,
            replicas: BTreeMap::new(),
            // Nobody is told of what lies ahead of the fleet itself: its revisions would never come.
            revision: asked.map(Revision).min(newest).or(newest),
        },
        spoke_at: now(),
        api,
    };
    let frames = stream::try_unfold(follower, |mut follower| async move {
        let next = follower.next().await;
        Ok::<_, io::Error>(next.map(|bytes| (bytes, follower)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Proxies such as nginx would hold events back otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

struct Follower {
    api: Api,
    changes: watch::Receiver<u64>,
    drain: CancellationToken,
    shown: Shown,
    spoke_at: Instant,
}

struct Shown {
    fleet: Option<FleetEvent>,
    replicas: BTreeMap<InstanceId, ReplicaEvent>,
    revision: Option<Revision>,
}

impl Follower {
    /// Waits for news; `None` once the coordinator ends.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            self.changes.mark_unchanged();
            let status = self.api.fleet.status().await.ok()?;
            let mut news = self.shown.news(&status);
            if news.is_empty() && now() - self.spoke_at >= KEEP_ALIVE {
                news.push_str(": still here\n\n");
            }
            if !news.is_empty() {
                self.spoke_at = now();
                return Some(Bytes::from(news));
            }
            tokio::select! {
                () = self.drain.cancelled() => return None,
                changed = self.changes.changed() => changed.ok()?,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}

impl Shown {
    /// Returns what is different now, as events, and remembers it as shown.
    fn news(&mut self, status: &Status) -> String {
        let mut news = String::new();
        self.fleet_news(status, &mut news);
        self.replica_news(status, &mut news);
        self.revision_news(status, &mut news);
        news
    }

    fn fleet_news(&mut self, status: &Status, news: &mut String) {
        let fleet = FleetEvent {
            epoch: status.epoch,
            revision: status.standing.as_ref().map(|standing| standing.revision),
            stage: status.stage,
            active: status.is_leading(),
            converged: status.converged,
        };
        if self.fleet.as_ref() != Some(&fleet) {
            event(news, "fleet", None, &fleet);
            self.fleet = Some(fleet);
        }
    }

    fn replica_news(&mut self, status: &Status, news: &mut String) {
        let mut gone = std::mem::take(&mut self.replicas);
        for (id, state) in snapshot::replicas(status) {
            let standing = status.replica(id).and_then(|replica| replica.report.standing.as_ref());
            let replica = ReplicaEvent {
                instance_id: id.clone(),
                state: Some(state),
                applied_revision: standing.map(|standing| standing.revision),
            };
            if gone.remove(id).as_ref() != Some(&replica) {
                event(news, "replica", None, &replica);
            }
            self.replicas.insert(id.clone(), replica);
        }
        for (instance_id, _) in gone {
            let forgotten = ReplicaEvent {
                instance_id,
                state: None,
                applied_revision: None,
            };
            event(news, "replica", None, &forgotten);
        }
    }

    fn revision_news(&mut self, status: &Status, news: &mut String) {
        let after = self.revision.unwrap_or_default();
        let mut new = status.history.iter().filter(|past| past.revision > after).peekable();
        if let Some(oldest) = new.peek() {
            let missed_revisions = oldest.revision.0 - after.0 - 1;
            if missed_revisions > 0 && self.revision.is_some() {
                event(news, "lagged", None, &Lagged { missed_revisions });
            }
        }
        for past in new {
            event(news, "revision", Some(past.revision), &revisions::view(status, past));
            self.revision = Some(past.revision);
        }
    }
}

fn event<T: Serialize>(news: &mut String, name: &str, id: Option<Revision>, data: &T) {
    let data = serde_json::to_string(data).expect("events have text keys");
    if let Some(id) = id {
        writeln!(news, "id: {id}").expect("writing to a String cannot fail");
    }
    write!(news, "event: {name}\ndata: {data}\n\n").expect("writing to a String cannot fail");
}
