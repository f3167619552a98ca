//! The link inside one process: what `mobu local` runs on, and what the simulation makes lie.
//!
//! A [`Hub`] stands for the broker. Everything on it behaves as on RabbitMQ: the log has an order, offsets with gaps and a
//! bounded size; names are exclusive to a session; an ended session loses its inboxes, its names and its unsettled requests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::stream;
use tokio::sync::{Notify, mpsc, watch};

use super::{
    Address, Inbox, Link, LinkError, LogRecord, LogStart, MAX_PAYLOAD, Message, ReplyAddress, RequestDelivery, SPARES,
    Session, SessionHealth, Settle,
};
use crate::domain::ids::InstanceId;
use crate::runtime::clock::{Instant, now};

/// How many messages an inbox keeps; as on the broker, the oldest go first.
const INBOX_KEPT: usize = 1000;

/// How many requests and dead letters wait at most.
const QUEUE_KEPT: usize = 10_000;

/// How many bytes of payload the log keeps; as on the broker.
const LOG_BYTES: usize = 64 * 1024 * 1024;

/// A session that there never is.
const NOBODY: u64 = 0;

/// What the simulation may do to messages; the real hub does nothing.
pub trait Faults: Send + Sync {
    /// Decides what becomes of a soft message (broadcasts, reports, answers, direct messages): the delays after which a
    /// copy arrives. Empty: it is lost.
    fn soft(&self, from: &str, to: &Address) -> Vec<Duration>;

    /// Decides how long it takes until an appended entry reaches the log, and whether its author learns of it.
    fn append(&self, from: &str) -> AppendFault;

    /// Decides how late a reader sees an entry.
    fn read(&self, reader: &str) -> Duration;

    /// Returns whether a session may be opened now.
    fn reachable(&self, name: &str) -> bool;
}

/// What becomes of an appended entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// It is stored after this long, and confirmed.
    Stored(Duration),
    /// It is stored after this long, but the confirmation is lost.
    Unconfirmed(Duration),
    /// It never arrives.
    Lost,
}

/// A broker in this process.
#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    /// Guards the hub's queues; held for a few map operations, never over an await.
    state: Mutex<State>,
    /// Told of every change of the log and of the request queue.
    changed: Notify,
    faults: Option<Arc<dyn Faults>>,
}

#[derive(Default)]
struct State {
    log: VecDeque<LogRecord>,
    log_bytes: usize,
    next_offset: u64,
    sessions: BTreeMap<u64, Open>,
    next_session: u64,
    leader: Option<u64>,
    /// By replica and number: 0 is its own inbox, the others are its spares.
    replicas: BTreeMap<(InstanceId, u8), u64>,
    inboxes: Vec<Queue>,
    next_reply: u64,
    requests: VecDeque<(Message, bool)>,
    /// The request that each session has taken and not settled yet.
    unsettled: BTreeMap<u64, Message>,
    dead: VecDeque<(String, Message)>,
}

struct Open {
    name: String,
    health: watch::Sender<SessionHealth>,
}

struct Queue {
    session: u64,
    hears: Hears,
    tx: mpsc::Sender<Message>,
}

#[derive(PartialEq, Eq)]
enum Hears {
    Replica(InstanceId, u8),
    Broadcasts,
    Reports,
    Replies(ReplyAddress),
    /// Those whose key matches the pattern.
    Events(String),
}

impl Hears {
    fn hears(&self, to: &Address) -> bool {
        match (self, to) {
            (Self::Replica(..) | Self::Broadcasts, Address::Everyone) | (Self::Reports, Address::Coordinators) => true,
            (Self::Replica(id, _), Address::Replica(to)) => id == to,
            (Self::Replica(id, number), Address::Inbox(to, wanted)) => id == to && number == wanted,
            (Self::Replies(own), Address::Reply(to)) => own == to,
            (Self::Events(pattern), Address::Events { key }) => matches(pattern, key),
            _ => false,
        }
    }
}

/// Returns whether a key matches a pattern of a topic exchange.
fn matches(pattern: &str, key: &str) -> bool {
    fn words_match(pattern: &[&str], key: &[&str]) -> bool {
        match (pattern, key) {
            ([], []) => true,
            (["#", rest @ ..], _) => words_match(rest, key) || (!key.is_empty() && words_match(pattern, &key[1..])),
            ([first, rest @ ..], [word, words @ ..]) => (*first == "*" || first == word) && words_match(rest, words),
            _ => false,
        }
    }
    let (pattern, key): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), key.split('.').collect());
    words_match(&pattern, &key)
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// Makes an empty hub that never fails.
    pub fn new() -> Self {
        Self::build(None)
    }

    /// Makes an empty hub that fails as `faults` says.
    pub fn with_faults(faults: Arc<dyn Faults>) -> Self {
        Self::build(Some(faults))
    }

    fn build(faults: Option<Arc<dyn Faults>>) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::default(),
                changed: Notify::new(),
                faults,
            }),
        }
    }

    /// Ends every session whose name satisfies `which`, as if its connection broke.
    pub fn cut(&self, which: impl Fn(&str) -> bool) {
        let ids: Vec<u64> = self
            .lock()
            .sessions
            .iter()
            .filter(|(_, open)| which(&open.name))
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.end(id, "the connection was cut");
        }
    }

    /// Ends the session that holds the lock, and keeps the lock taken, as a cluster does that waits for a dead node to come back.
    /// Returns whether anybody held it.
    pub fn strand_lock(&self) -> bool {
        let Some(holder) = self.lock().leader.replace(NOBODY) else {
            self.free_lock();
            return false;
        };
        self.end(holder, "the node of the broker died");
        true
    }

    /// Gives a lock free that [`Self::strand_lock`] keeps.
    pub fn free_lock(&self) {
        let mut state = self.lock();
        state.leader = state.leader.filter(|holder| *holder != NOBODY);
    }

    /// Ends the sessions that hold a replica's inboxes, and keeps the inboxes taken, as a cluster does that waits for a dead node to come
    /// back. If none was left to be taken, those of the nodes that were down already come free before.
    pub fn strand_name(&self, id: &InstanceId) {
        let holders: Vec<u64> = {
            let mut state = self.lock();
            let stranded = |state: &State| {
                let places = state.replicas.iter();
                places
                    .filter(|((of, _), holder)| of == id && **holder == NOBODY)
                    .count()
            };
            if stranded(&state) + 1 > usize::from(SPARES) {
                state.replicas.retain(|(of, _), holder| of != id || *holder != NOBODY);
            }
            let held = state.replicas.iter_mut().filter(|((of, _), _)| of == id);
            held.map(|(_, holder)| std::mem::replace(holder, NOBODY)).collect()
        };
        for holder in holders {
            self.end(holder, "the node of the broker died");
        }
    }

    /// Gives the inboxes of a replica free that [`Self::strand_name`] keeps.
    pub fn free_name(&self, id: &InstanceId) {
        let mut state = self.lock();
        state.replicas.retain(|(of, _), holder| of != id || *holder != NOBODY);
    }

    /// Removes the newest `entries` of the log, as a broker may that lost power; all sessions end.
    pub fn lose_newest(&self, entries: usize) {
        self.cut(|_| true);
        let mut state = self.lock();
        for _ in 0..entries {
            if let Some(record) = state.log.pop_back() {
                state.log_bytes -= record.payload.len();
                state.next_offset = record.offset;
            }
        }
    }

    /// Removes everything, as if the broker were set up anew; all sessions end.
    pub fn wipe(&self) {
        self.cut(|_| true);
        let mut state = self.lock();
        // Names are never given twice: a late answer must not reach somebody else.
        let (next_session, next_reply) = (state.next_session, state.next_reply);
        *state = State {
            next_session,
            next_reply,
            ..State::default()
        };
    }

    /// Returns what the log holds, oldest first.
    pub fn log(&self) -> Vec<LogRecord> {
        self.lock().log.iter().cloned().collect()
    }

    /// Returns the dead letters with their reasons, oldest first.
    pub fn dead_letters(&self) -> Vec<(String, Message)> {
        self.lock().dead.iter().cloned().collect()
    }

    /// Returns how many sessions are open.
    pub fn sessions(&self) -> usize {
        self.lock().sessions.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no code panics while it holds the hub")
    }

    fn end(&self, id: u64, reason: &str) {
        let mut state = self.lock();
        let Some(open) = state.sessions.remove(&id) else { return };
        if state.leader == Some(id) {
            state.leader = None;
        }
        state.replicas.retain(|_, session| *session != id);
        state.inboxes.retain(|queue| queue.session != id);
        if let Some(request) = state.unsettled.remove(&id) {
            state.requests.push_front((request, true));
        }
        drop(state);
        open.health.send_replace(SessionHealth::Closed {
            reason: reason.to_owned(),
        });
        self.inner.changed.notify_waiters();
    }

    fn deliver(&self, to: &Address, message: &Message) -> bool {
        let state = self.lock();
        let mut heard = false;
        for queue in state.inboxes.iter().filter(|queue| queue.hears.hears(to)) {
            // A full inbox loses the new message where the broker would lose the oldest: soft messages may be lost either way.
            heard |= queue.tx.try_send(message.clone()).is_ok();
        }
        heard
    }

    fn bury(&self, reason: String, message: Message) {
        let mut state = self.lock();
        if state.dead.len() >= QUEUE_KEPT {
            state.dead.pop_front();
        }
        state.dead.push_back((reason, message));
    }

    fn store(&self, payload: Bytes) {
        let mut state = self.lock();
        let offset = state.next_offset;
        state.next_offset += 1;
        state.log_bytes += payload.len();
        state.log.push_back(LogRecord { offset, payload });
        while state.log_bytes > LOG_BYTES && state.log.len() > 1 {
            if let Some(oldest) = state.log.pop_front() {
                state.log_bytes -= oldest.payload.len();
            }
        }
        drop(state);
        self.inner.changed.notify_waiters();
    }
}

#[async_trait]
impl Link for Hub {
    async fn open(&self, name: &str) -> Result<Box<dyn Session>, LinkError> {
        if let Some(faults) = &self.inner.faults
            && !faults.reachable(name)
        {
            return Err(LinkError::Unreachable {
                host: self.describe(),
                source: "cut off by the simulation".into(),
            });
        }
        let (health, _) = watch::channel(SessionHealth::Open);
        let mut state = self.lock();
        state.next_session += 1;
        let id = state.next_session;
        state.sessions.insert(
            id,
            Open {
                name: name.to_owned(),
                health: health.clone(),
            },
        );
        drop(state);
        Ok(Box::new(MemorySession {
            hub: self.clone(),
            id,
            name: name.to_owned(),
            health,
        }))
    }

    fn describe(&self) -> String {
        "this process".to_owned()
    }
}

struct MemorySession {
    hub: Hub,
    id: u64,
    name: String,
    health: watch::Sender<SessionHealth>,
}

impl fmt::Debug for MemorySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemorySession")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Drop for MemorySession {
    fn drop(&mut self) {
        self.hub.end(self.id, "the session was dropped");
    }
}

impl MemorySession {
    fn inbox_of(&self, id: &InstanceId, number: u8) -> Result<Inbox<Message>, LinkError> {
        self.check()?;
        let place = (id.clone(), number);
        let holder = *self.hub.lock().replicas.entry(place).or_insert(self.id);
        if holder != self.id {
            return Err(LinkError::NameInUse {
                name: format!("instance ID {id}"),
            });
        }
        self.listen(Hears::Replica(id.clone(), number))
    }

    fn check(&self) -> Result<(), LinkError> {
        match &*self.health.borrow() {
            SessionHealth::Closed { reason } => Err(LinkError::Closed { reason: reason.clone() }),
            _ => Ok(()),
        }
    }

    fn listen(&self, hears: Hears) -> Result<Inbox<Message>, LinkError> {
        self.check()?;
        let (tx, mut rx) = mpsc::channel(INBOX_KEPT);
        self.hub.lock().inboxes.push(Queue {
            session: self.id,
            hears,
            tx,
        });
        Ok(Inbox::new(stream::poll_fn(move |context| rx.poll_recv(context))))
    }

    /// Delivers each copy of a soft message in its time; returns whether anybody heard one that came at once.
    fn send_soft(&self, to: &Address, message: &Message) -> bool {
        let Some(faults) = &self.hub.inner.faults else {
            return self.hub.deliver(to, message);
        };
        let mut heard = false;
        for delay in faults.soft(&self.name, to) {
            if delay.is_zero() {
                heard |= self.hub.deliver(to, message);
            } else {
                let (hub, to, message) = (self.hub.clone(), to.clone(), message.clone());
                detached(async move {
                    tokio::time::sleep(delay).await;
                    hub.deliver(&to, &message);
                });
                heard = true;
            }
        }
        heard
    }
}

/// Runs the simulation's delayed deliveries: they belong to no process, like messages under way.
fn detached(future: impl Future<Output = ()> + Send + 'static) {
    let tasks = crate::runtime::tasks::Tasks::new();
    drop(tasks.spawn(crate::runtime::tasks::TaskKind::Expendable, "under way", future));
}

#[async_trait]
impl Session for MemorySession {
    async fn read_log(&self, from: LogStart) -> Result<Inbox<LogRecord>, LinkError> {
        self.check()?;
        let start = match from {
            LogStart::First => 0,
            LogStart::Offset(offset) => offset,
        };
        let reader = LogCursor {
            hub: self.hub.clone(),
            session: self.id,
            name: self.name.clone(),
            next: start,
            not_before: None,
        };
        Ok(Inbox::new(Box::pin(stream::unfold(reader, |mut reader| async move {
            let record = reader.next().await?;
            Some((record, reader))
        }))))
    }

    async fn append(&self, entry: Bytes) -> Result<(), LinkError> {
        self.check()?;
        if entry.len() > MAX_PAYLOAD {
            return Err(LinkError::TooLarge {
                size: entry.len(),
                limit: MAX_PAYLOAD,
            });
        }
        let fault = self.hub.inner.faults.as_ref().map(|faults| faults.append(&self.name));
        let (delay, confirmed, stored) = match fault {
            None => (Duration::ZERO, true, true),
            Some(AppendFault::Stored(delay)) => (delay, true, true),
            Some(AppendFault::Unconfirmed(delay)) => (delay, false, true),
            Some(AppendFault::Lost) => (Duration::ZERO, false, false),
        };
        if stored {
            // Once sent, an entry is under way whatever becomes of its sender.
            let (hub, arrived) = (self.hub.clone(), Arc::new(Notify::new()));
            let told = arrived.clone();
            if delay.is_zero() {
                hub.store(entry);
                told.notify_one();
            } else {
                detached(async move {
                    tokio::time::sleep(delay).await;
                    hub.store(entry);
                    told.notify_one();
                });
            }
            arrived.notified().await;
        }
        if confirmed {
            return self.check();
        }
        let after = Duration::from_secs(5);
        tokio::time::sleep(after).await;
        self.check()?;
        Err(LinkError::TimedOut {
            operation: "append",
            after,
        })
    }

    async fn try_lead(&self) -> Result<bool, LinkError> {
        self.check()?;
        let mut state = self.hub.lock();
        let holder = *state.leader.get_or_insert(self.id);
        Ok(holder == self.id)
    }

    async fn replica_inbox(&self, id: &InstanceId) -> Result<Inbox<Message>, LinkError> {
        self.inbox_of(id, 0)
    }

    async fn spare_inbox(&self, id: &InstanceId, number: u8) -> Result<Inbox<Message>, LinkError> {
        self.inbox_of(id, number)
    }

    async fn broadcasts(&self) -> Result<Inbox<Message>, LinkError> {
        self.listen(Hears::Broadcasts)
    }

    async fn reports(&self) -> Result<Inbox<Message>, LinkError> {
        self.listen(Hears::Reports)
    }

    async fn events(&self, pattern: &str) -> Result<Inbox<Message>, LinkError> {
        self.listen(Hears::Events(pattern.to_owned()))
    }

    async fn replies(&self) -> Result<(ReplyAddress, Inbox<Message>), LinkError> {
        let address = {
            let mut state = self.hub.lock();
            state.next_reply += 1;
            ReplyAddress(format!("reply-{}", state.next_reply))
        };
        let inbox = self.listen(Hears::Replies(address.clone()))?;
        Ok((address, inbox))
    }

    async fn requests(&self) -> Result<Inbox<RequestDelivery>, LinkError> {
        self.check()?;
        let (hub, session) = (self.hub.clone(), self.id);
        let busy = Arc::new(Notify::new());
        busy.notify_one();
        Ok(Inbox::new(Box::pin(stream::unfold(
            (hub, busy),
            move |(hub, busy)| async move {
                // The next request comes when the last is settled, or given back.
                busy.notified().await;
                let (message, redelivered) = next_request(&hub, session).await?;
                let settle = Unsettled {
                    hub: hub.clone(),
                    session,
                    free: busy.clone(),
                };
                Some((
                    RequestDelivery::new(message, redelivered, Box::new(settle)),
                    (hub, busy),
                ))
            },
        ))))
    }

    async fn publish(&self, to: Address, message: Message) -> Result<(), LinkError> {
        self.check()?;
        if message.payload.len() > MAX_PAYLOAD {
            return Err(LinkError::TooLarge {
                size: message.payload.len(),
                limit: MAX_PAYLOAD,
            });
        }
        match to {
            Address::Requests => {
                let mut state = self.hub.lock();
                if state.requests.len() >= QUEUE_KEPT {
                    return Err(LinkError::Full);
                }
                state.requests.push_back((message, false));
                drop(state);
                self.hub.inner.changed.notify_waiters();
                Ok(())
            }
            Address::Dead { reason } => {
                self.hub.bury(reason, message);
                Ok(())
            }
            Address::Replica(ref id) | Address::Inbox(ref id, _) => {
                let number = match to {
                    Address::Inbox(_, number) => Some(number),
                    _ => None,
                };
                let holders: Vec<u64> = {
                    let state = self.hub.lock();
                    let places = state.replicas.iter();
                    let meant =
                        places.filter(|((of, place), _)| of == id && number.is_none_or(|number| number == *place));
                    meant.map(|(_, holder)| *holder).collect()
                };
                self.send_soft(&to, &message);
                let name = format!("replica {id}");
                if holders.is_empty() {
                    Err(LinkError::Unroutable { address: name })
                } else if holders.contains(&NOBODY) {
                    Err(LinkError::Stranded { name })
                } else {
                    Ok(())
                }
            }
            soft => {
                self.send_soft(&soft, &message);
                Ok(())
            }
        }
    }

    fn post(&self, to: Address, message: Message) -> Result<(), LinkError> {
        self.check()?;
        match to {
            Address::Dead { reason } => self.hub.bury(reason, message),
            soft => {
                self.send_soft(&soft, &message);
            }
        }
        Ok(())
    }

    /// Exact, and at once: a broker has to be asked, and the AMQP link remembers for a second what it said.
    fn is_heard(&self, key: &str) -> bool {
        let to = Address::Events { key: key.to_owned() };
        let state = self.hub.lock();
        let mut inboxes = state.inboxes.iter();
        inboxes.any(|inbox| !inbox.tx.is_closed() && inbox.hears.hears(&to))
    }

    fn health(&self) -> watch::Receiver<SessionHealth> {
        self.health.subscribe()
    }

    async fn close(&self) {
        self.hub.end(self.id, "closed");
    }
}

/// What lies ahead of a log cursor.
enum Ahead {
    Record(LogRecord),
    /// Nothing yet.
    Nothing,
    /// Nothing ever: the session has ended.
    Ended,
}

struct LogCursor {
    hub: Hub,
    session: u64,
    name: String,
    next: u64,
    /// A slow reader stays in order: nothing arrives before what came earlier.
    not_before: Option<Instant>,
}

impl LogCursor {
    async fn next(&mut self) -> Option<LogRecord> {
        loop {
            let inner = self.hub.inner.clone();
            let changed = inner.changed.notified();
            match self.peek() {
                Ahead::Record(record) => return self.arrive(record).await,
                Ahead::Nothing => changed.await,
                Ahead::Ended => return None,
            }
        }
    }

    fn peek(&self) -> Ahead {
        let state = self.hub.lock();
        // Offsets grow along the log, so the first not below `next` is found by halving.
        let at = state.log.partition_point(|record| record.offset < self.next);
        match state.log.get(at) {
            _ if !state.sessions.contains_key(&self.session) => Ahead::Ended,
            Some(record) => Ahead::Record(record.clone()),
            None => Ahead::Nothing,
        }
    }

    async fn arrive(&mut self, record: LogRecord) -> Option<LogRecord> {
        if let Some(faults) = &self.hub.inner.faults {
            let due = *self.not_before.get_or_insert_with(|| now() + faults.read(&self.name));
            tokio::time::sleep_until(due).await;
            if !self.hub.lock().sessions.contains_key(&self.session) {
                return None;
            }
        }
        self.not_before = None;
        self.next = record.offset + 1;
        Some(record)
    }
}

async fn next_request(hub: &Hub, session: u64) -> Option<(Message, bool)> {
    loop {
        let changed = hub.inner.changed.notified();
        {
            let mut state = hub.lock();
            if !state.sessions.contains_key(&session) {
                return None;
            }
            if let Some((message, redelivered)) = state.requests.pop_front() {
                state.unsettled.insert(session, message.clone());
                return Some((message, redelivered));
            }
        }
        changed.await;
    }
}

/// A request that a session has taken; given back to the queue unless it is settled.
struct Unsettled {
    hub: Hub,
    session: u64,
    free: Arc<Notify>,
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        let mut state = self.hub.lock();
        if let Some(message) = state.unsettled.remove(&self.session) {
            state.requests.push_front((message, true));
        }
        drop(state);
        self.hub.inner.changed.notify_waiters();
        self.free.notify_one();
    }
}

#[async_trait]
impl Settle for Unsettled {
    async fn done(self: Box<Self>) -> Result<(), LinkError> {
        match self.hub.lock().unsettled.remove(&self.session) {
            Some(_) => Ok(()),
            None => Err(LinkError::Closed {
                reason: "the request will come again".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(hub: &Hub, name: &str) -> Box<dyn Session> {
        hub.open(name).await.unwrap()
    }

    #[tokio::test]
    async fn the_log_is_read_in_order_from_wherever_one_begins() {
        let hub = Hub::new();
        let session = open(&hub, "coordinator").await;
        let mut live = session.read_log(LogStart::First).await.unwrap();
        for payload in ["a", "b", "c"] {
            session.append(Bytes::from(payload)).await.unwrap();
        }
        for expected in ["a", "b", "c"] {
            assert_eq!(live.recv().await.unwrap().payload, expected);
        }
        let mut late = session.read_log(LogStart::Offset(1)).await.unwrap();
        assert_eq!(late.recv().await.unwrap().payload, "b");
    }

    #[tokio::test]
    async fn a_cut_session_loses_its_names_and_its_streams_end() {
        let hub = Hub::new();
        let (first, second) = (open(&hub, "one").await, open(&hub, "two").await);
        let id: InstanceId = "0".parse().unwrap();
        let mut inbox = first.replica_inbox(&id).await.unwrap();
        assert!(first.try_lead().await.unwrap());
        assert!(!second.try_lead().await.unwrap());
        assert!(matches!(
            second.replica_inbox(&id).await,
            Err(LinkError::NameInUse { .. })
        ));
        hub.cut(|name| name == "one");
        assert!(inbox.recv().await.is_none());
        assert!(matches!(
            first.append(Bytes::new()).await,
            Err(LinkError::Closed { .. })
        ));
        assert_eq!(super::super::ended(first.health()).await, "the connection was cut");
        assert!(second.try_lead().await.unwrap());
        assert!(second.replica_inbox(&id).await.is_ok());
    }

    #[tokio::test]
    async fn a_request_comes_again_until_it_is_settled_and_only_then_the_next() {
        let hub = Hub::new();
        let client = open(&hub, "client").await;
        for name in ["first", "second"] {
            client
                .publish(Address::Requests, Message::new("fleet.request.v1", name))
                .await
                .unwrap();
        }
        let leader = open(&hub, "leader").await;
        let mut requests = leader.requests().await.unwrap();
        let delivery = requests.recv().await.unwrap();
        assert_eq!(
            (delivery.message.payload.as_ref(), delivery.redelivered),
            (b"first".as_ref(), false)
        );
        hub.cut(|name| name == "leader");
        assert!(delivery.done().await.is_err());
        let heir = open(&hub, "heir").await;
        let mut requests = heir.requests().await.unwrap();
        let delivery = requests.recv().await.unwrap();
        assert_eq!(
            (delivery.message.payload.as_ref(), delivery.redelivered),
            (b"first".as_ref(), true)
        );
        delivery.done().await.unwrap();
        assert_eq!(requests.recv().await.unwrap().message.payload, "second");
    }

    #[tokio::test]
    async fn events_reach_those_whose_pattern_matches() {
        let hub = Hub::new();
        let (listener, replica) = (open(&hub, "listener").await, open(&hub, "replica").await);
        let mut inbox = listener.events("*.TAP.#").await.unwrap();
        for key in ["a.TAP.tap_query", "a.SIA.tap_query", "a.b.TAP", "b.TAP"] {
            let event = Message::new("k", key);
            replica.post(Address::Events { key: key.to_owned() }, event).unwrap();
        }
        assert_eq!(inbox.recv().await.unwrap().payload, "a.TAP.tap_query");
        assert_eq!(inbox.recv().await.unwrap().payload, "b.TAP");
        assert!(matches("#", "") && matches("a.#", "a") && !matches("a.*", "a"));
    }

    #[tokio::test]
    async fn broadcasts_reach_everyone_and_direct_messages_one() {
        let hub = Hub::new();
        let leader = open(&hub, "leader").await;
        let replica = open(&hub, "replica").await;
        let (id, nobody) = ("0".parse().unwrap(), "9".parse().unwrap());
        let mut inbox = replica.replica_inbox(&id).await.unwrap();
        let mut standby = leader.broadcasts().await.unwrap();
        leader.post(Address::Everyone, Message::new("k", "all")).unwrap();
        leader
            .publish(Address::Replica(id), Message::new("k", "one"))
            .await
            .unwrap();
        let error = leader
            .publish(Address::Replica(nobody), Message::new("k", "none"))
            .await
            .unwrap_err();
        assert!(matches!(error, LinkError::Unroutable { .. }));
        assert_eq!(inbox.recv().await.unwrap().payload, "all");
        assert_eq!(inbox.recv().await.unwrap().payload, "one");
        assert_eq!(standby.recv().await.unwrap().payload, "all");
    }

    #[tokio::test]
    async fn a_payload_above_the_limit_is_refused_before_it_is_sent() {
        let hub = Hub::new();
        let session = open(&hub, "one").await;
        let error = session.append(Bytes::from(vec![0; MAX_PAYLOAD + 1])).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "a message of {} bytes exceeds the limit of {MAX_PAYLOAD} bytes",
                MAX_PAYLOAD + 1
            )
        );
        assert!(hub.log().is_empty());
    }
}
