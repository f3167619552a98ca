//! Clients: they call coordinators and publish requests, and remember what they were told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mobu_coordinator::Fleet;
use mobu_coordinator::fleet::change::{ChangeError, Wish};
use mobu_fleet::domain::desired::Command;
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::{FlockName, RequestId, Revision};
use mobu_fleet::domain::messages::{REQUEST_KIND, RequestAnswer, RequestOutcome, Source, Wire};
use mobu_fleet::link::memory::Hub;
use mobu_fleet::link::{Address, Link, Message};
use serde_json::{Value, json};

use super::script::{LEASE, LEASED, SPREAD, Wanted};

/// What a client was told.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) request: String,
    pub(super) revision: Revision,
    /// Whether this very call made the revision.
    pub(super) is_new: bool,
}

/// What clients were told and nobody has looked at yet.
pub(super) type Heard = Arc<Mutex<Vec<Result<Told, String>>>>;

fn config(flock: usize, count: u32) -> Value {
    let mut config = json!({
        "name": format!("f{flock}"), "count": count, "user_spec": {"username_prefix": format!("bot-mobu-f{flock}")},
        "scopes": [], "business": {"type": "EmptyLoop"},
    });
    match flock {
        SPREAD => (config["spread"], config["count"]) = (json!("across_replicas"), json!(3 * count)),
        LEASED => config["lease"] = json!(LEASE.as_secs()),
        _ => {}
    }
    config
}

fn command(wanted: Wanted) -> Command {
    let name = |flock: usize| -> FlockName { format!("f{flock}").parse().expect("a right name") };
    match wanted {
        Wanted::Start(flock, count) => {
            let config = FlockConfig::parse(&config(flock, count)).expect("a right flock");
            Command::Start(Box::new(config))
        }
        Wanted::Stop(flock) => Command::Stop(name(flock)),
        Wanted::Refresh(flock) => Command::Refresh(name(flock)),
        Wanted::StopAll => Command::StopAll,
    }
}

/// Calls a coordinator as its HTTP API does.
pub(super) async fn call(fleet: Fleet, wanted: Wanted, request: String, heard: Heard) {
    let wish = Wish {
        command: command(wanted),
        by: "client".to_owned(),
        source: Source::Http,
        request_id: Some(RequestId::new(request.clone())),
        wait: false,
        dry_run: false,
    };
    let outcome = fleet.change(wish).await;
    let told = match outcome {
        Ok(outcome) => Ok(Told {
            request,
            revision: outcome.revision,
            is_new: outcome.change.is_some(),
        }),
        Err(error @ (ChangeError::Rules(_) | ChangeError::TooLarge { .. } | ChangeError::Overloaded)) => {
            Err(format!("{wanted:?} was refused: {error}"))
        }
        // Unknown, or not carried out: nothing was promised.
        Err(_) => return,
    };
    heard.lock().expect("no code panics while it holds it").push(told);
}

/// Publishes a request, and waits for its answer for as long as the connection lasts.
pub(super) async fn publish(hub: Hub, wanted: Wanted, request: String, copies: usize, heard: Heard) {
    let Ok(session) = hub.open("client").await else { return };
    let Ok((reply_to, mut replies)) = session.replies().await else {
        return;
    };
    let body = match wanted {
        Wanted::Start(flock, count) => json!({"kind": "start", "flock": config(flock, count)}),
        Wanted::Stop(flock) => json!({"kind": "stop", "flock": format!("f{flock}")}),
        Wanted::Refresh(flock) => json!({"kind": "refresh", "flock": format!("f{flock}")}),
        Wanted::StopAll => json!({"kind": "stop", "all": true}),
    };
    let mut message = Message::new(REQUEST_KIND, body.to_string());
    message.message_id = Some(request.clone());
    message.reply_to = Some(reply_to);
    for _ in 0..copies {
        if session.publish(Address::Requests, message.clone()).await.is_err() {
            return;
        }
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(30);
    while let Ok(Some(reply)) = tokio::time::timeout_at(until, replies.recv()).await {
        let Ok(answer) = RequestAnswer::decode(&reply.kind, &reply.payload) else {
            heard
                .lock()
                .expect("as above")
                .push(Err("an answer cannot be read".to_owned()));
            return;
        };
        if let RequestOutcome::Accepted { revision, changed } = answer.outcome {
            let told = Told {
                // As the coordinator names it: each source has names of its own.
                request: format!("amqp:{request}"),
                revision,
                is_new: changed,
            };
            heard.lock().expect("as above").push(Ok(told));
        }
    }
}
