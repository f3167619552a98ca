//! The coordinator's one loop: wait for one thing, let the state decide, do what it says.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mobu_fleet::domain::ids::Owner;
use mobu_fleet::domain::messages::{
    Announcement, Answer, Ask, CoordinatorReport, LogEntry, Query, ReadEntry, Report, SCHEMA, Wire as _,
};
use mobu_fleet::domain::request::RequestError;
use mobu_fleet::link::oddities::Oddities;
use mobu_fleet::link::{Address, Link, LinkError, Message, RequestDelivery};
use mobu_fleet::runtime::backoff::Backoff;
use mobu_fleet::runtime::clock::{Instant, now, until};
use mobu_fleet::runtime::process::chain;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tracing::{debug, error, info, warn};

use super::change::{Asker, ChangeError, Outcome};
use super::gather::{Gathered, Gathers};
use super::handle::{CALLS, Call, Fleet, chosen};
use super::requests;
use super::state::{Effect, FleetRules, FleetState, Shape};
use super::wire::{Arrival, Requests, Wire};

/// How often time is looked at: the resolution of every deadline of the coordinator.
const TICK: Duration = Duration::from_millis(100);

/// How long a session must have lasted to count as a good one, after which the backoff begins anew.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// How long a draining coordinator waits for the change that is under way.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

type Job<T> = Option<Pin<Box<dyn Future<Output = Result<T, LinkError>> + Send>>>;

/// How long to wait before requests are taken again after their session has ended, first and at most. A request that no client library can read
/// ends it 20 times, before the broker drops that request.
const REQUESTS_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));

/// Waits for a job; for ever if there is none.
async fn finished<T>(job: &mut Job<T>) -> Result<T, LinkError> {
    match job {
        Some(running) => {
            let result = running.await;
            *job = None;
            result
        }
        None => std::future::pending().await,
    }
}

enum Event {
    Drain,
    Call(Option<Call>),
    Tick,
    Retry,
    Opened(Result<Box<Wire>, LinkError>),
    Arrived(Arrival),
    Appended(Result<(), LinkError>),
    Locked(Result<bool, LinkError>),
    TakeRequests,
    TakesRequests(Result<Requests, LinkError>),
}

struct Actor {
    link: Arc<dyn Link>,
    tasks: Tasks,
    state: FleetState,
    gathers: Gathers,
    oddities: Oddities,
    calls: mpsc::Receiver<Call>,
    changed: watch::Sender<u64>,
    shape: Shape,
    random: fastrand::Rng,
    backoff: Backoff,
    retry_at: Instant,
    began: Instant,
    wire: Option<Box<Wire>>,
    opening: Job<Box<Wire>>,
    appending: Job<()>,
    locking: Job<bool>,
    taking_requests: Job<Requests>,
    requests_backoff: Backoff,
    /// When to take requests again, after their session has ended.
    take_requests_at: Option<Instant>,
}

/// Starts the coordinator's actor. `random` decides names and jitter, so that a simulation repeats itself.
///
/// The actor ends when the drain token of `tasks` is cancelled, after the change that is under way.
pub fn start(rules: FleetRules, link: Arc<dyn Link>, tasks: &Tasks, mut random: fastrand::Rng) -> Fleet {
    let (calls_tx, calls) = mpsc::channel(CALLS);
    let (changed, changed_rx) = watch::channel(0);
    let actor = Actor {
        link,
        tasks: tasks.clone(),
        state: FleetState::new(rules, now()),
        gathers: Gathers::default(),
        oddities: Oddities::default(),
        calls,
        changed,
        shape: Shape::default(),
        backoff: Backoff::for_sessions(random.u64(..)),
        retry_at: now(),
        began: now(),
        wire: None,
        opening: None,
        appending: None,
        locking: None,
        taking_requests: None,
        requests_backoff: Backoff::new(REQUESTS_WAIT.0, REQUESTS_WAIT.1, random.u64(..)),
        take_requests_at: None,
        random,
    };
    drop(tasks.spawn(TaskKind::Vital, "fleet", actor.run()));
    Fleet {
        calls: calls_tx,
        changed: changed_rx,
    }
}

impl Actor {
    async fn run(mut self) {
        let drain = self.tasks.drain_token();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                () = drain.cancelled() => Event::Drain,
                result = finished(&mut self.appending) => Event::Appended(result),
                result = finished(&mut self.locking) => Event::Locked(result),
                result = finished(&mut self.taking_requests) => Event::TakesRequests(result),
                result = finished(&mut self.opening) => Event::Opened(result),
                _ = ticks.tick() => Event::Tick,
                arrival = arrival(&mut self.wire) => Event::Arrived(arrival),
                () = tokio::time::sleep_until(self.retry_at), if self.wire.is_none() && self.opening.is_none() => Event::Retry,
                () = until(self.take_requests_at) => Event::TakeRequests,
                call = self.calls.recv() => Event::Call(call),
            };
            match event {
                Event::Drain | Event::Call(None) => break,
                Event::Arrived(arrival) => {
                    self.handle(Event::Arrived(arrival));
                    // A long log to read must not leave callers without an answer until its end.
                    if let Ok(call) = self.calls.try_recv() {
                        self.handle(Event::Call(Some(call)));
                    }
                    // In one process with whoever calls, this is what lets them.
                    tokio::task::consume_budget().await;
                }
                event => self.handle(event),
            }
        }
        self.drain().await;
    }

    /// Lets the change that is under way come to its end, then gives the lock up.
    async fn drain(mut self) {
        // A request that came now would be given back, and come again at once, for as long as this takes.
        self.taking_requests = None;
        self.take_requests_at = None;
        if let Some(wire) = &mut self.wire {
            wire.leave_requests();
        }
        let effects = self.state.drain(now());
        self.perform(effects);
        let finish = async {
            while self.state.is_writing() {
                let event = tokio::select! {
                    biased;
                    result = finished(&mut self.appending) => Event::Appended(result),
                    arrival = arrival(&mut self.wire) => Event::Arrived(arrival),
                };
                self.handle(event);
            }
        };
        if tokio::time::timeout(DRAIN_PATIENCE, finish).await.is_err() {
            warn!("the change that was under way did not come back from the log in time");
        }
        let effects = self.state.end("the coordinator is shutting down");
        self.perform(effects);
        self.gathers.abandon();
        if let Some(wire) = self.wire.take() {
            wire.close().await;
        }
        info!("the coordinator has stepped down");
    }

    fn handle(&mut self, event: Event) {
        let at = now();
        let effects = match event {
            Event::Tick => {
                self.gathers.expire(at);
                let effects = self.state.tick(at);
                self.tell_changes(at);
                effects
            }
            Event::Retry => {
                self.open();
                Vec::new()
            }
            Event::Opened(Ok(wire)) => {
                info!("connected to {}", self.link.describe());
                self.wire = Some(wire);
                self.began = at;
                let owner = Owner::new(format!("{:032x}", self.random.u128(..)));
                self.state.begin(owner, at);
                Vec::new()
            }
            Event::Opened(Err(error)) => {
                self.failed(&error);
                Vec::new()
            }
            Event::Appended(Ok(())) => self.state.confirmed(at),
            Event::Locked(Ok(held)) => self.state.locked(held, at),
            Event::TakesRequests(Ok(requests)) => {
                if let Some(wire) = &mut self.wire {
                    wire.take_requests(requests);
                }
                Vec::new()
            }
            Event::TakeRequests => {
                self.take_requests();
                Vec::new()
            }
            Event::TakesRequests(Err(error)) if !error.needs_attention() => {
                self.requests_ended(&chain(&error));
                Vec::new()
            }
            Event::Appended(Err(error)) | Event::Locked(Err(error)) | Event::TakesRequests(Err(error)) => {
                vec![Effect::End(chain(&error))]
            }
            Event::Arrived(arrival) => self.arrived(arrival, at),
            Event::Call(Some(call)) => self.call(call, at),
            Event::Drain | Event::Call(None) => Vec::new(),
        };
        self.perform(effects);
    }

    /// What the names of its sessions begin with.
    fn name(&self) -> String {
        format!("coordinator {}", self.state.rules().session)
    }

    fn open(&mut self) {
        let (link, name) = (self.link.clone(), self.name());
        self.opening = Some(Box::pin(async move { Wire::open(link, name).await.map(Box::new) }));
    }

    fn take_requests(&mut self) {
        self.take_requests_at = None;
        if self.wire.is_some() {
            let (link, name) = (self.link.clone(), self.name());
            self.taking_requests = Some(Box::pin(Requests::open(link, name)));
        }
    }

    /// Their session alone has ended: whoever leads goes on to, and takes them again.
    fn requests_ended(&mut self, reason: &str) {
        let Some(wire) = &mut self.wire else { return };
        wire.lose_requests();
        let wait = self.requests_backoff.next_wait();
        self.take_requests_at = Some(now() + wait);
        warn!(
            error = reason,
            "the session of the requests ends: {reason}; trying again in {wait:?}"
        );
    }

    fn failed(&mut self, error: &LinkError) {
        let wait = self.backoff.next_wait();
        self.retry_at = now() + wait;
        let reason = chain(error);
        if error.needs_attention() {
            error!(error = reason, "{reason}; somebody must act; trying again in {wait:?}");
        } else {
            warn!(error = reason, "{reason}; trying again in {wait:?}");
        }
        let effects = self.state.end(&reason);
        self.perform(effects);
    }

    fn arrived(&mut self, arrival: Arrival, at: Instant) -> Vec<Effect> {
        match arrival {
            Arrival::Entry(record) => match LogEntry::read(&record.payload) {
                Ok(entry) => {
                    if let ReadEntry::Unreadable { reason, .. } = &entry {
                        self.oddities.note("the state log", reason, &record.payload);
                    }
                    self.state.record(record.offset, entry, at)
                }
                Err(error) => {
                    self.oddities.note("the state log", &error, &record.payload);
                    Vec::new()
                }
            },
            Arrival::Report(message) => self.report(message, at),
            Arrival::Broadcast(message) => self.broadcast(message, at),
            Arrival::Reply(message) => self.reply(message, at),
            Arrival::Request(delivery) => {
                self.requests_backoff.reset();
                self.request(delivery, at)
            }
            Arrival::RequestsEnded(reason) => {
                self.requests_ended(&reason);
                Vec::new()
            }
            Arrival::Ended(reason) => vec![Effect::End(reason)],
        }
    }

    fn report(&mut self, message: Message, at: Instant) -> Vec<Effect> {
        let decoded = if message.kind == CoordinatorReport::KIND {
            CoordinatorReport::decode(&message.kind, &message.payload).map(|report| self.state.peer(report, at))
        } else {
            Report::decode(&message.kind, &message.payload).map(|report| self.state.report(report, at))
        };
        decoded.unwrap_or_else(|error| self.dead(message, "the reports", &error))
    }

    fn broadcast(&mut self, message: Message, at: Instant) -> Vec<Effect> {
        if message.kind == Announcement::KIND {
            // What it says is for replicas, a coordinator believes the log alone; but somebody leads.
            self.state.heard_leader(at);
            return Vec::new();
        }
        match Query::decode(&message.kind, &message.payload) {
            Ok(query) => {
                let answer = self.state.asked(&query);
                if let (Some(answer), Some(reply_to)) = (answer, message.reply_to) {
                    let mut reply = Message::new(Answer::KIND, answer.encode());
                    reply.correlation_id = message.correlation_id;
                    self.post(Address::Reply(reply_to), reply);
                }
                Vec::new()
            }
            Err(error) => self.dead(message, "the broadcasts", &error),
        }
    }

    fn reply(&mut self, message: Message, at: Instant) -> Vec<Effect> {
        match Answer::decode(&message.kind, &message.payload) {
            Ok(answer) => match &message.correlation_id {
                Some(correlation_id) if !is_state_query(correlation_id) => {
                    self.gathers.take(correlation_id, answer);
                    Vec::new()
                }
                _ => self.state.told(answer, at),
            },
            Err(error) => {
                let about_state = message.correlation_id.as_deref().is_some_and(is_state_query);
                let mut effects = self.dead(message, "the answers", &error);
                if about_state {
                    effects.extend(self.state.told_unreadable(at));
                }
                effects
            }
        }
    }

    fn request(&mut self, delivery: RequestDelivery, at: Instant) -> Vec<Effect> {
        match requests::wish(&delivery.message) {
            Ok(wish) => self.state.wish(wish, Asker::Request(delivery), at),
            Err(error) => {
                let payload = &delivery.message.payload;
                match &error {
                    RequestError::Wire(_) => self.oddities.note("the requests", &error, payload),
                    RequestError::Invalid(_) => self.oddities.note_refused("the requests", &error, payload),
                };
                self.reject(delivery, requests::rejection(&error));
                Vec::new()
            }
        }
    }

    fn call(&mut self, call: Call, at: Instant) -> Vec<Effect> {
        match call {
            Call::Status(done) => {
                let mut status = self.state.status(at);
                if let Some(wire) = &self.wire {
                    status.link = wire.health();
                }
                status.unusable_messages = self.oddities.total();
                status.late_answers = self.gathers.dropped;
                // Whoever asked may be gone; that is their right.
                drop(done.send(Box::new(status)));
                Vec::new()
            }
            Call::Wish(wish, asker) => self.state.wish(*wish, asker, at),
            Call::Gather {
                ask,
                from,
                timeout,
                done,
            } => {
                if let Ask::Flock { flock } = &ask
                    && !self.state.shall_run(flock)
                {
                    // Nobody has any of its monkeys. Whoever asked may be gone; that is their right.
                    drop(done.send(Gathered::default()));
                    return Vec::new();
                }
                let correlation_id = format!("{:016x}", self.random.u64(..));
                let one = match &from {
                    super::handle::From::One(id) => Some(id.clone()),
                    super::handle::From::All => None,
                };
                let from = chosen(from, self.state.answerers(at));
                if self.gathers.begin(correlation_id.clone(), from, at + timeout, done) {
                    let query = Query {
                        schema: SCHEMA,
                        owner: self.state.owner(),
                        ask,
                    };
                    let to = one.map_or(Address::Everyone, Address::Replica);
                    if !self.ask(to, &query, correlation_id.clone(), timeout) {
                        self.gathers.give_up(&correlation_id);
                    }
                }
                Vec::new()
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::TryLock => {
                    if let Some(wire) = &self.wire {
                        let log = wire.log.clone();
                        self.locking = Some(Box::pin(async move { log.try_lead().await }));
                    }
                }
                Effect::Append(entry) => {
                    if let Some(wire) = &self.wire {
                        let (log, bytes) = (wire.log.clone(), Bytes::from(entry.encode()));
                        self.appending = Some(Box::pin(async move { log.append(bytes).await }));
                    }
                }
                Effect::TakeRequests => self.take_requests(),
                Effect::Announce(announcement) => {
                    self.post(
                        Address::Everyone,
                        Message::new(Announcement::KIND, announcement.encode()),
                    );
                    self.changed.send_modify(|number| *number += 1);
                }
                Effect::AskAll(query) => {
                    let correlation_id = format!("{STATE_QUERY}{:08x}", self.random.u32(..));
                    self.ask(Address::Everyone, &query, correlation_id, Duration::from_secs(2));
                }
                Effect::Present(report) => {
                    self.post(
                        Address::Coordinators,
                        Message::new(CoordinatorReport::KIND, report.encode()),
                    );
                }
                Effect::Settle { asker, wait, result } => self.settle(asker, wait, result),
                Effect::End(reason) => self.end(&reason),
            }
        }
    }

    fn end(&mut self, reason: &str) {
        let Some(wire) = self.wire.take() else { return };
        warn!("the session ends: {reason}");
        self.appending = None;
        self.locking = None;
        self.taking_requests = None;
        self.take_requests_at = None;
        self.gathers.abandon();
        drop(
            self.tasks
                .spawn(TaskKind::Expendable, "close session", async move { wire.close().await }),
        );
        if now().saturating_duration_since(self.began) >= GOOD_SESSION {
            self.backoff.reset();
        }
        self.retry_at = now() + self.backoff.next_wait();
        let effects = self.state.end(reason);
        self.perform(effects);
    }

    fn settle(&mut self, asker: Asker, wait: bool, result: Result<Outcome, ChangeError>) {
        match asker {
            // Whoever asked may be gone; that is their right.
            Asker::Caller(done) => drop(done.send(result)),
            Asker::Nobody => {
                if let Err(error) = result {
                    error!(error = %error, "the autostart flocks were not brought in: {error}");
                }
            }
            Asker::Applied {
                reply_to,
                correlation_id,
            } => {
                if let Ok(outcome) = result {
                    let mut reply = requests::applied(&outcome);
                    reply.correlation_id = correlation_id;
                    self.post(Address::Reply(reply_to), reply);
                }
            }
            Asker::Request(delivery) => match result {
                Ok(outcome) => {
                    let mut reply = requests::accepted(&outcome);
                    // A repetition, or something that changes nothing, is applied as far as it will ever be.
                    let second = (wait && outcome.change.is_none()).then(|| requests::applied(&outcome));
                    reply.correlation_id.clone_from(&delivery.message.correlation_id);
                    if let Some(reply_to) = &delivery.message.reply_to {
                        self.post(Address::Reply(reply_to.clone()), reply);
                        if let Some(mut second) = second {
                            second.correlation_id.clone_from(&delivery.message.correlation_id);
                            self.post(Address::Reply(reply_to.clone()), second);
                        }
                    }
                    drop(self.tasks.spawn(TaskKind::Expendable, "settle request", async move {
                        if let Err(error) = delivery.done().await {
                            debug!("a request will come again, and be recognized: {error}");
                        }
                    }));
                }
                Err(error) if error.retry_after().is_some() => {
                    // Not settled, so it comes again, to whoever leads then.
                    debug!("a request goes back to the queue: {error}");
                    drop(delivery);
                }
                Err(error) => self.reject(delivery, requests::refusal(&error)),
            },
        }
    }

    /// Keeps a request that is wrong as a dead letter, settles it, and only then answers: one that was answered and not settled would come
    /// again, and might be carried out then, although its sender knows that nothing was changed.
    fn reject(&mut self, delivery: RequestDelivery, rejection: requests::Rejection) {
        let Some(wire) = &self.wire else { return };
        let (session, side, message) = (wire.log.clone(), wire.side.clone(), delivery.message.clone());
        drop(self.tasks.spawn(TaskKind::Expendable, "reject request", async move {
            let mut reply = rejection.reply;
            reply.correlation_id.clone_from(&message.correlation_id);
            let reply_to = message.reply_to.clone();
            let reason = rejection.reason;
            let settled = match session.publish(Address::Dead { reason }, message).await {
                Ok(()) => delivery.done().await,
                Err(error) => Err(error),
            };
            match (settled, reply_to) {
                (Err(error), _) => debug!("a wrong request will come again, and be looked at again: {error}"),
                (Ok(()), Some(reply_to)) => {
                    if let Err(error) = side.post(Address::Reply(reply_to), reply) {
                        debug!(error = %error, "an answer was not sent");
                    }
                }
                (Ok(()), None) => {}
            }
        }));
    }

    /// Keeps a message that cannot be used as a dead letter, if this coordinator leads: one copy is enough.
    fn dead(&mut self, message: Message, place: &'static str, error: &dyn std::fmt::Display) -> Vec<Effect> {
        // One of each kind: a replica of another version sends the same every second, and would push the requests out.
        if self.oddities.note(place, error, &message.payload) && self.state.is_leading() {
            let reason: String = format!("on {place}: {error}").chars().take(300).collect();
            self.post(Address::Dead { reason }, message);
        }
        Vec::new()
    }

    fn ask(&self, to: Address, query: &Query, correlation_id: String, expires: Duration) -> bool {
        let Some(wire) = &self.wire else { return false };
        let mut message = Message::new(Query::KIND, query.encode());
        message.correlation_id = Some(correlation_id);
        message.reply_to = Some(wire.reply_to.clone());
        message.expires = Some(expires);
        wire.post(to, message)
    }

    fn post(&self, to: Address, message: Message) {
        if let Some(wire) = &self.wire
            && !wire.post(to, message)
        {
            debug!("a message was not sent: too many wait, or the session has ended");
        }
    }

    /// Tells event streams that they should look again.
    fn tell_changes(&mut self, at: Instant) {
        let shape = self.state.shape(at);
        if shape != self.shape {
            self.shape = shape;
            self.changed.send_modify(|number| *number += 1);
        }
    }
}

/// What correlation IDs of questions about the desired state begin with; they are answered to the state, not to a gather.
const STATE_QUERY: &str = "state-";

fn is_state_query(correlation_id: &str) -> bool {
    correlation_id.starts_with(STATE_QUERY)
}

async fn arrival(wire: &mut Option<Box<Wire>>) -> Arrival {
    match wire {
        Some(wire) => wire.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
