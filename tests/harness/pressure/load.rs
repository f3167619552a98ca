//! Requests at a rate that does not ask whether the fleet keeps up: changes, reads, and what is refused, over HTTP and AMQP.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use mobu_fleet::domain::messages::{RequestAnswer, RequestOutcome, Wire as _};
use mobu_fleet::link::{Address, Inbox, Link as _, LinkError, Message, ReplyAddress, Session};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::account::Account;
use super::log::Tail;
use super::stage::Stage;
use super::{Part, Scale};
use crate::broker::link;
use crate::fleet::flock;

/// Flocks that all clients change.
const FLOCKS: u32 = 8;
/// How many HTTP calls may be under way at once: fewer than a coordinator serves, so that a bystander gets in.
const CALLS: usize = 900;
/// How many requests may lie at the broker unanswered.
const REQUESTS: usize = 9000;
/// How long a call may take.
const ATTEMPT: Duration = Duration::from_secs(60);
/// How long the answers to what was sent may take in the end.
const REST: Duration = Duration::from_secs(900);
/// How often requests are sent.
const BEAT: Duration = Duration::from_millis(5);
/// Connections of publishers.
const PUBLISHERS: usize = 4;

/// Where a request goes and what for.
enum Wish {
    Read(String),
    /// Over HTTP; with a name, it is one that shall be accepted.
    Call(Method, String, Option<Value>, Option<String>),
    /// Over AMQP.
    Request(Value),
}

/// What came of everything that was sent.
#[derive(Debug, Default)]
struct Ledger {
    answers: BTreeMap<String, Vec<f64>>,
    accepted: Vec<(String, u64)>,
    /// Requests that the broker has taken and nobody has answered.
    waiting: BTreeMap<String, Instant>,
    /// Requests of which the broker has not said in time whether it has taken them: they are answered if it has.
    unclear: BTreeMap<String, Instant>,
    calls: usize,
    /// Requests that the broker has not taken yet.
    publishing: usize,
    /// What was not sent, because too much was under way.
    held_back: u64,
    trouble: Vec<String>,
}

/// Leaf data; never held over an await.
type Shared = Arc<Mutex<Ledger>>;

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().expect("no code panics while it holds the ledger")
}

impl Ledger {
    fn answered(&mut self, what: String, begun: Instant) {
        let times = self.answers.entry(what).or_default();
        times.push(begun.elapsed().as_secs_f64());
    }
}

/// Everything that is needed to send.
struct Load {
    client: Client,
    base: String,
    publishers: Vec<(Arc<dyn Session>, ReplyAddress)>,
    ledger: Shared,
    tasks: Tasks,
}

pub(super) async fn play(broker: &str, scale: &Scale) -> Result<Account> {
    let stage = Stage::open(Part::Requests, broker, scale, &json!({"tokens": "local"})).await?;
    let link = link(broker, &stage.fleet.name);
    let tail = Tail::follow(&link).await?;
    let mut load = Load {
        client: Client::builder().timeout(ATTEMPT).build()?,
        base: format!("{}/mobu", stage.fleet.base()),
        publishers: Vec::new(),
        ledger: Shared::default(),
        tasks: Tasks::new(),
    };
    for _ in 0..PUBLISHERS {
        let session: Arc<dyn Session> = link.open("pressure").await?.into();
        let (address, inbox) = session.replies().await?;
        drop(
            load.tasks
                .spawn(TaskKind::Expendable, "answers", listen(inbox, load.ledger.clone())),
        );
        load.publishers.push((session, address));
    }
    load.run(scale).await;
    let took = load.rest().await?;
    let fleet = stage.fleet.wait_converged().await?;
    let revision = fleet["revision"].as_u64().context("a fleet has a revision")?;
    let ledger = std::mem::take(&mut *lock(&load.ledger));
    let newest = tail.check(revision, &ledger.accepted).await?;
    let shown = stage.fleet.get("/flocks").await?;
    ensure!(
        shown == json!(newest.flocks.keys().collect::<Vec<_>>()),
        "the log has {:?}, and the fleet says {shown}",
        newest.flocks.keys()
    );
    for (session, _) in &load.publishers {
        session.close().await;
    }
    load.tasks.abort_token().cancel();
    // With it go its connections, which the coordinator would otherwise keep for the next call.
    drop(load);
    drop(tail);
    let mut account = stage.close().await?;
    account.notes.push(format!(
        "{} changes accepted, all of them in the log; {} requests not sent because too many were under way; the last answer came {:.1} s after \
         the last request.",
        ledger.accepted.len(),
        ledger.held_back,
        took.as_secs_f64()
    ));
    account.answers.extend(ledger.answers);
    account.breaches.extend(ledger.trouble);
    Ok(account)
}

impl Load {
    /// Sends at the rate, whatever comes back.
    async fn run(&self, scale: &Scale) {
        let begun = Instant::now();
        let mut beat = tokio::time::interval(BEAT);
        let mut number = 0;
        while begun.elapsed() < scale.time {
            beat.tick().await;
            let due = begun.elapsed().as_millis() * u128::from(scale.rate) / 1000;
            while u128::from(number) < due {
                self.send(number);
                number += 1;
            }
        }
    }

    /// Waits until everything that was sent is answered.
    async fn rest(&self) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            {
                let ledger = lock(&self.ledger);
                if ledger.calls == 0 && ledger.publishing == 0 && ledger.waiting.is_empty() {
                    return Ok(begun.elapsed());
                }
                ensure!(
                    begun.elapsed() < REST,
                    "{} calls and {} requests were never answered",
                    ledger.calls,
                    ledger.waiting.len()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn send(&self, number: u64) {
        let wish = wish(number);
        let mut ledger = lock(&self.ledger);
        let is_call = !matches!(wish, Wish::Request(_));
        let is_full = if is_call {
            ledger.calls >= CALLS
        } else {
            ledger.waiting.len() + ledger.publishing >= REQUESTS
        };
        if is_full {
            ledger.held_back += 1;
            return;
        }
        if is_call {
            ledger.calls += 1;
        } else {
            ledger.publishing += 1;
        }
        drop(ledger);
        let ledger = self.ledger.clone();
        let (kind, name) = (TaskKind::Expendable, "request");
        match wish {
            Wish::Request(payload) => {
                let index = usize::try_from(number).unwrap_or_default() % self.publishers.len();
                let (session, address) = &self.publishers[index];
                let (session, address) = (session.clone(), address.clone());
                drop(
                    self.tasks
                        .spawn(kind, name, publish(session, address, number, payload, ledger)),
                );
            }
            Wish::Read(path) => {
                let request = self.client.get(format!("{}{path}", self.base));
                drop(self.tasks.spawn(kind, name, call(request, "read", None, ledger)));
            }
            Wish::Call(method, path, body, id) => {
                let mut request = self.client.request(method, format!("{}{path}", self.base));
                if let Some(body) = body {
                    request = request.json(&body);
                }
                let what = if id.is_some() { "change" } else { "wrong" };
                drop(self.tasks.spawn(kind, name, call(request, what, id, ledger)));
            }
        }
    }
}

/// Of twenty requests eight read, seven are wrong, and five change something; six go over AMQP.
fn wish(number: u64) -> Wish {
    let name = format!("f{}", (number / 20) % u64::from(FLOCKS));
    let id = format!("r{number}");
    let start = || flock(&name, 2, &json!({"type": "EmptyLoop", "options": {"idle_time": 60}}));
    match number % 20 {
        0 => Wish::Read("/flocks".to_owned()),
        1 => Wish::Read("/summary".to_owned()),
        2 => Wish::Read("/fleet".to_owned()),
        3 => Wish::Read("/replicas".to_owned()),
        4 => Wish::Read("/revisions".to_owned()),
        5 => Wish::Read(format!("/flocks/{name}")),
        6 => Wish::Read(format!("/flocks/{name}/monkeys")),
        7 => Wish::Read(format!("/flocks/{name}/summary")),
        8 => Wish::Call(
            Method::PUT,
            "/flocks".to_owned(),
            Some(json!({"name": "-", "count": -1})),
            None,
        ),
        9 => Wish::Call(Method::DELETE, "/flocks/nobody".to_owned(), None, None),
        10 => Wish::Call(Method::POST, "/flocks/nobody/refresh".to_owned(), None, None),
        11 => Wish::Call(Method::PATCH, "/flocks".to_owned(), None, None),
        12 => Wish::Call(Method::PUT, "/flocks".to_owned(), Some(start()), Some(id)),
        13 => Wish::Call(Method::POST, format!("/flocks/{name}/refresh"), None, Some(id)),
        14 | 16 => Wish::Request(json!({"kind": "refresh", "flock": name})),
        15 if (number / 20).is_multiple_of(4) => Wish::Request(json!({"kind": "stop", "flock": name})),
        15 => Wish::Request(json!({"kind": "start", "flock": start()})),
        17 => Wish::Request(json!({"kind": "start", "flock": {"name": name, "count": -1}})),
        18 => Wish::Request(json!({"kind": "stop", "flock": "nobody"})),
        _ => Wish::Request(json!({"kind": "nonsense"})),
    }
}

async fn call(request: reqwest::RequestBuilder, what: &'static str, id: Option<String>, ledger: Shared) {
    let begun = Instant::now();
    let mut request = request.header("X-Auth-Request-User", "pressure");
    if let Some(id) = &id {
        request = request.header("Idempotency-Key", id);
    }
    let answer = async {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
    };
    let answer = answer.await;
    let mut ledger = lock(&ledger);
    ledger.calls -= 1;
    let (status, headers, body) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            ledger.trouble.push(format!("a call was not answered: {error:?}"));
            return;
        }
    };
    ledger.answered(format!("HTTP {what} {}", status.as_u16()), begun);
    let revision = headers
        .get("x-fleet-revision")
        .and_then(|text| text.to_str().ok()?.parse().ok());
    let is_refusal = match status {
        StatusCode::NOT_FOUND => what != "read" || !body.is_empty(),
        StatusCode::SERVICE_UNAVAILABLE => headers.contains_key("retry-after"),
        StatusCode::UNPROCESSABLE_ENTITY | StatusCode::METHOD_NOT_ALLOWED => what == "wrong",
        _ => false,
    };
    match (status.is_success(), id, revision) {
        (true, Some(id), Some(revision)) => ledger.accepted.push((id, revision)),
        (is_done, id, _) if is_refusal || (is_done && id.is_none() && what == "read") => {}
        _ => {
            let body = String::from_utf8_lossy(&body);
            ledger.trouble.push(format!("a {what} was answered {status}: {body}"));
        }
    }
}

async fn publish(session: Arc<dyn Session>, address: ReplyAddress, number: u64, payload: Value, ledger: Shared) {
    let id = format!("r{number}");
    let mut message = Message::new("", payload.to_string());
    message.message_id = Some(id.clone());
    message.correlation_id = Some(id.clone());
    message.reply_to = Some(address);
    let begun = Instant::now();
    // Before it is sent: the answer may be faster than the confirmation.
    lock(&ledger).waiting.insert(id.clone(), begun);
    let published = session.publish(Address::Requests, message).await;
    let mut ledger = lock(&ledger);
    ledger.publishing -= 1;
    if let Err(error) = published {
        let Some(sent) = ledger.waiting.remove(&id) else {
            // It was answered before the broker said so.
            return;
        };
        match error {
            LinkError::TimedOut { .. } => {
                ledger.answered("AMQP not confirmed in time".to_owned(), begun);
                ledger.unclear.insert(id, sent);
            }
            LinkError::Refused { .. } | LinkError::Full => {
                ledger.answered("AMQP not taken by the broker".to_owned(), begun);
            }
            error => ledger.trouble.push(format!("a request was not published: {error}")),
        }
    }
}

async fn listen(mut inbox: Inbox<Message>, ledger: Shared) {
    while let Some(message) = inbox.recv().await {
        let answer = RequestAnswer::decode(&message.kind, &message.payload);
        let mut ledger = lock(&ledger);
        let id = message.correlation_id.unwrap_or_default();
        let begun = ledger.waiting.remove(&id);
        let Some(begun) = begun.or_else(|| ledger.unclear.remove(&id)) else {
            ledger.trouble.push(format!("request {id} was answered twice"));
            continue;
        };
        match answer.map(|answer| answer.outcome) {
            Ok(RequestOutcome::Accepted { revision, .. }) => {
                ledger.answered("AMQP accepted".to_owned(), begun);
                ledger.accepted.push((id, revision.0));
            }
            Ok(RequestOutcome::Rejected {
                code: code @ (404 | 422),
                ..
            }) => {
                ledger.answered(format!("AMQP rejected {code}"), begun);
            }
            other => ledger.trouble.push(format!("request {id} was answered {other:?}")),
        }
    }
    lock(&ledger).trouble.push("the answers ended".to_owned());
}
