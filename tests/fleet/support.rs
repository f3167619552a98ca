//! What the tests on a broker share.

use std::future::Future;
use std::time::Duration;

use fleet_tests::broker::{link, shared_broker};
use fleet_tests::fleet::flock;
use mobu_fleet::domain::ids::{FleetName, InstanceId};
use mobu_fleet::link::{Inbox, Link, Message, Session, ended};
use serde_json::{Value, json};

/// Longer than anything here takes on a busy machine, shorter than the runner's patience.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) type Opened = Box<dyn Session>;

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error} ({DEADLINE:?})"),
    }
}

pub(crate) async fn next<T>(inbox: &mut Inbox<T>) -> T {
    within("a message", inbox.recv()).await.expect("the inbox goes on")
}

pub(crate) async fn open(url: &str, fleet: &FleetName) -> Opened {
    within("a session", link(url, fleet).open("test")).await.unwrap()
}

pub(crate) async fn session(fleet: &FleetName) -> Opened {
    open(shared_broker(), fleet).await
}

pub(crate) async fn closed(session: &Opened) -> String {
    within("the end of the session", ended(session.health())).await
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

pub(crate) fn message(payload: &'static str) -> Message {
    Message::new("fleet.test.v1", payload)
}

/// The JSON of a flock of two monkeys on each replica that end an iteration five times a second.
pub(crate) fn lively(name: &str) -> Value {
    flock(name, 2, &json!({"type": "EmptyLoop", "options": {"idle_time": 0.2}}))
}

/// Sums of successes and failures over the monkeys of a flock.
pub(crate) fn counts(flock: &Value) -> (u64, u64) {
    let monkeys = flock["monkeys"].as_array().map_or(&[][..], Vec::as_slice);
    let sum = |what: &str| {
        monkeys
            .iter()
            .filter_map(|monkey| monkey["business"][what].as_u64())
            .sum()
    };
    (sum("success_count"), sum("failure_count"))
}
