//! Clients that change the fleet all the time, over HTTP and AMQP, each sending an operation again until it knows what became of it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mobu_fleet::domain::messages::{RequestAnswer, RequestOutcome, Wire as _};
use mobu_fleet::link::amqp::client::AmqpClient;
use mobu_fleet::link::{LinkError, Message};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ledger::{Action, Fate, Ledger};

/// How long an attempt may take: longer than the fleet's `applyTimeout`.
const ATTEMPT: Duration = Duration::from_secs(5);
/// How long an operation is tried for.
const OPERATION: Duration = Duration::from_secs(15);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(200);
/// How long clients may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);
/// The flock that all clients use.
const SHARED: &str = "shared";

/// What clients shall do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Run,
    Pause,
    /// As a pause, and operations that are under way are not tried again meanwhile.
    Hold,
    End,
}

/// Where the coordinators serve HTTP now.
pub(super) type Bases = Arc<Mutex<[Option<SocketAddr>; 2]>>;

/// What all clients share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// What they asked for.
    pub(super) ledger: Ledger,
    /// Where to.
    pub(super) bases: Bases,
    /// How often the broker has lost something: what was known before may be known no more.
    pub(super) losses: Arc<AtomicU64>,
    /// Answers that should never come.
    pub(super) trouble: Arc<Mutex<Vec<String>>>,
    parked: Arc<AtomicUsize>,
}

impl Shared {
    /// Nothing was asked for yet.
    pub(super) fn new(bases: Bases) -> Self {
        Self {
            ledger: Ledger::default(),
            bases,
            losses: Arc::default(),
            trouble: Arc::default(),
            parked: Arc::default(),
        }
    }

    fn complain(&self, what: String) {
        let mut trouble = self.trouble.lock().expect("no code panics while it holds it");
        trouble.push(what);
    }
}

/// The clients of one fleet. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Clients {
    shared: Shared,
    mode: watch::Sender<Mode>,
    tasks: Tasks,
    count: usize,
}

impl Clients {
    /// Starts two clients of each kind.
    pub(super) fn start(shared: &Shared, amqp: &[Arc<AmqpClient>], seed: u64) -> Result<Self> {
        let mode = watch::Sender::new(Mode::Run);
        let tasks = Tasks::new();
        let http = Client::builder().timeout(ATTEMPT).build()?;
        let mut doors: Vec<(String, Door)> = (0..2).map(|n| (format!("h{n}"), Door::Http(http.clone(), n))).collect();
        doors.extend(
            amqp.iter()
                .enumerate()
                .map(|(n, client)| (format!("a{n}"), Door::Amqp(Arc::clone(client)))),
        );
        let count = doors.len();
        for (index, (name, door)) in doors.into_iter().enumerate() {
            let one = One {
                random: fastrand::Rng::with_seed(seed.wrapping_add(index as u64)),
                flock: format!("{name}-own"),
                name,
                door,
                shared: shared.clone(),
                mode: mode.subscribe(),
                runs: None,
                losses: 0,
                parameter: 0,
            };
            drop(tasks.spawn(TaskKind::Expendable, "client", one.run()));
        }
        Ok(Self {
            shared: shared.clone(),
            mode,
            tasks,
            count,
        })
    }

    /// Lets every client bring its operation to an end, and begin no other.
    pub(super) async fn pause(&self) -> Result<()> {
        self.mode.send_replace(Mode::Pause);
        let deadline = Instant::now() + PATIENCE;
        while self.shared.parked.load(Ordering::SeqCst) < self.count {
            ensure!(
                Instant::now() < deadline,
                "a client has not come to rest within {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Lets no client send anything, until it is to pause or to go on.
    pub(super) fn hold(&self) {
        self.mode.send_replace(Mode::Hold);
    }

    /// Lets them go on.
    pub(super) fn resume(&self) {
        self.mode.send_replace(Mode::Run);
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.mode.send_replace(Mode::End);
        self.tasks.abort_token().cancel();
    }
}

/// How a client reaches the fleet.
#[derive(Debug)]
enum Door {
    /// Over HTTP, at one of the two coordinators.
    Http(Client, usize),
    Amqp(Arc<AmqpClient>),
}

/// What an attempt has shown.
enum Attempt {
    Settled(Fate),
    /// Certainly nothing happened.
    Refused,
    Unclear,
}

#[derive(Debug)]
struct One {
    name: String,
    door: Door,
    shared: Shared,
    mode: watch::Receiver<Mode>,
    random: fastrand::Rng,
    /// The flock that it alone uses.
    flock: String,
    /// Whether that runs, where it is certain.
    runs: Option<bool>,
    losses: u64,
    parameter: u64,
}

impl One {
    async fn run(mut self) {
        loop {
            let mode = *self.mode.borrow_and_update();
            match mode {
                Mode::End => return,
                Mode::Hold => drop(self.mode.changed().await),
                Mode::Pause => {
                    self.shared.parked.fetch_add(1, Ordering::SeqCst);
                    let changed = self.mode.wait_for(|mode| *mode != Mode::Pause).await.is_ok();
                    self.shared.parked.fetch_sub(1, Ordering::SeqCst);
                    if !changed {
                        return;
                    }
                }
                Mode::Run => {
                    self.operate().await;
                    let rest = Duration::from_millis(self.random.u64(200..1000));
                    tokio::time::sleep(rest).await;
                }
            }
        }
    }

    async fn operate(&mut self) {
        let flock = if self.random.u8(0..5) == 0 {
            SHARED.to_owned()
        } else {
            self.flock.clone()
        };
        let action = match self.random.u8(0..20) {
            0..9 => Action::Start,
            9..13 => Action::Stop,
            _ => Action::Refresh,
        };
        let losses = self.shared.losses.load(Ordering::SeqCst);
        if losses != self.losses {
            self.losses = losses;
            self.runs = None;
        }
        self.parameter += 1;
        let (number, id) = self.shared.ledger.begin(&self.name, action, &flock);
        let body = specification(&flock, self.parameter);
        let begun = Instant::now();
        let mut was_unclear = false;
        let fate = loop {
            if self.mode.wait_for(|mode| *mode != Mode::Hold).await.is_err() {
                return;
            }
            match self.attempt(action, &flock, &id, &body).await {
                Attempt::Settled(fate) => break fate,
                Attempt::Refused => {}
                Attempt::Unclear => {
                    was_unclear = true;
                    self.shared.ledger.unclear(number);
                }
            }
            if begun.elapsed() > OPERATION {
                let fate = if was_unclear { Fate::Unknown } else { Fate::NotDone };
                self.shared.ledger.settle(number, fate);
                if was_unclear && flock != SHARED {
                    self.runs = None;
                }
                return;
            }
            tokio::time::sleep(AGAIN).await;
        };
        self.shared.ledger.settle(number, fate);
        if flock == SHARED {
            return;
        }
        match fate {
            Fate::Accepted(_) if action != Action::Refresh => {
                self.runs = Some(action == Action::Start);
            }
            Fate::NotFound if self.runs == Some(true) && self.losses == losses => {
                self.shared
                    .complain(format!("{id}: flock {flock} is said not to be there, and runs"));
            }
            Fate::NotFound if was_unclear => {
                // A copy of the request may still lie in the queue, and find the flock there one day.
                self.runs = None;
            }
            _ => {}
        }
    }

    async fn attempt(&mut self, action: Action, flock: &str, id: &str, body: &Value) -> Attempt {
        match &mut self.door {
            Door::Http(client, at) => {
                let base = self.shared.bases.lock().expect("no code panics while it holds it")[*at];
                let Some(base) = base else {
                    *at = 1 - *at;
                    return Attempt::Refused;
                };
                let (method, path) = match action {
                    Action::Start => (Method::PUT, "/mobu/flocks".to_owned()),
                    Action::Stop => (Method::DELETE, format!("/mobu/flocks/{flock}")),
                    Action::Refresh => (Method::POST, format!("/mobu/flocks/{flock}/refresh")),
                };
                let mut request = client
                    .request(method, format!("http://{base}{path}"))
                    .header("X-Auth-Request-User", &self.name)
                    .header("Idempotency-Key", id);
                if action == Action::Start {
                    request = request.json(body);
                }
                let attempt = match request.send().await {
                    Ok(response) => judge(response).await,
                    Err(error) if error.is_connect() => Ok(Attempt::Refused),
                    Err(_) => Ok(Attempt::Unclear),
                };
                if !matches!(attempt, Ok(Attempt::Settled(_))) {
                    *at = 1 - *at;
                }
                attempt.unwrap_or_else(|what| {
                    self.shared.complain(format!("{id} over HTTP: {what}"));
                    Attempt::Unclear
                })
            }
            Door::Amqp(client) => {
                let payload = match action {
                    Action::Start => json!({"kind": "start", "flock": body}),
                    Action::Stop => json!({"kind": "stop", "flock": flock}),
                    Action::Refresh => json!({"kind": "refresh", "flock": flock}),
                };
                let attempt = request(client, id, &payload, ATTEMPT).await;
                attempt.unwrap_or_else(|what| {
                    self.shared.complain(format!("{id} over AMQP: {what}"));
                    Attempt::Unclear
                })
            }
        }
    }
}

/// What an HTTP answer says.
async fn judge(response: reqwest::Response) -> Result<Attempt, String> {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let revision = header("x-fleet-revision").and_then(|value| value.parse().ok());
    let has_retry_after = header("retry-after").is_some();
    let text = response.text().await.unwrap_or_default();
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let kind = body["detail"][0]["type"].as_str().unwrap_or_default();
    match (status, revision) {
        (StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED | StatusCode::NO_CONTENT, Some(revision)) => {
            Ok(Attempt::Settled(Fate::Accepted(revision)))
        }
        (StatusCode::NOT_FOUND, _) if kind == "flock_not_found" => Ok(Attempt::Settled(Fate::NotFound)),
        (StatusCode::SERVICE_UNAVAILABLE, _) if has_retry_after && kind == "coordinator_not_active" => {
            Ok(Attempt::Refused)
        }
        (StatusCode::SERVICE_UNAVAILABLE, _) if has_retry_after && kind == "outcome_unknown" => Ok(Attempt::Unclear),
        _ => Err(format!("{status} {text}")),
    }
}

async fn request(client: &AmqpClient, id: &str, payload: &Value, patience: Duration) -> Result<Attempt, String> {
    let mut message = Message::new("", payload.to_string());
    message.message_id = Some(id.to_owned());
    // Declaring and publishing have limits of their own, which add up.
    let asked = tokio::time::timeout(patience, async {
        client.request(message, patience).await?.next().await
    });
    let answer = match asked.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(LinkError::Unreachable { .. })) => return Ok(Attempt::Refused),
        Ok(Err(_)) | Err(_) => return Ok(Attempt::Unclear),
    };
    let answer = RequestAnswer::decode(&answer.kind, &answer.payload).map_err(|error| error.to_string())?;
    match answer.outcome {
        RequestOutcome::Accepted { revision, .. } => Ok(Attempt::Settled(Fate::Accepted(revision.0))),
        RequestOutcome::Rejected { code: 404, .. } => Ok(Attempt::Settled(Fate::NotFound)),
        other => Err(format!("{other:?}")),
    }
}

/// Sends a request that changes nothing, until it is answered: then everything is done that lay in the queue before it.
pub(super) async fn barrier(client: &AmqpClient, number: u64) -> Result<()> {
    let payload = json!({"kind": "refresh", "repo_url": "https://nobody.example/x", "repo_ref": "none"});
    let deadline = Instant::now() + PATIENCE;
    loop {
        let id = format!("barrier-{number}");
        match request(client, &id, &payload, ATTEMPT).await {
            Ok(Attempt::Settled(Fate::Accepted(_))) => return Ok(()),
            Ok(_) => ensure!(
                Instant::now() < deadline,
                "no request was answered for {PATIENCE:?} after the heal"
            ),
            Err(what) => anyhow::bail!("a request that changes nothing was answered {what}"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// How many monkeys a flock has on each replica.
pub(super) const MONKEYS: u64 = 2;

fn specification(flock: &str, parameter: u64) -> Value {
    json!({
        "name": flock, "count": MONKEYS, "user_spec": {"username_prefix": format!("bot-mobu-{flock}")},
        "scopes": ["exec:notebook"],
        "business": {"type": "EmptyLoop", "options": {"idle_time": 1 + parameter % 60}},
    })
}
