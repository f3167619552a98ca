//! What the tests share: a leader on a hub, and workers beside it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mobu_fleet::domain::desired::{Command, DesiredState};
use mobu_fleet::domain::events::{Act, Event};
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::{Epoch, FlockName, MonkeyName, Owner};
use mobu_fleet::domain::messages::{
    Announcement, Answer, AnswerBody, Ask, EntryKind, FlockPhase, LogEntry, Query, Report, SCHEMA, Source, Standing,
    Wire,
};
use mobu_fleet::domain::monkey::MonkeyState;
use mobu_fleet::link::memory::Hub;
use mobu_fleet::link::{Address, Inbox, Link, Message, ReplyAddress, Session};
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::tasks::Tasks;
use mobu_worker::{Worker, WorkerConfig, WorkerHandle};
use serde_json::{Value, json};

/// How long a test waits for anything before it says what it saw last.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The configuration of replica 0, alone in its fleet, for a test of stops: to force one takes longer than any test waits, so that whoever
/// is gone by then was not forced.
pub(crate) fn unhurried() -> WorkerConfig {
    WorkerConfig {
        stop_timeout: 2 * PATIENCE,
        ..WorkerConfig::for_tests("0", 1)
    }
}

/// A coordinator without a mind of its own.
pub(crate) struct Leader {
    pub(crate) hub: Hub,
    session: Box<dyn Session>,
    pub(crate) epoch: Epoch,
    pub(crate) state: DesiredState,
    offset: u64,
    reports: Inbox<Message>,
    reply_to: ReplyAddress,
    replies: Inbox<Message>,
    queries: u64,
}

impl Leader {
    /// Leads an empty log and writes its first state.
    pub(crate) async fn new() -> Self {
        Self::on(Hub::new(), 1, DesiredState::default()).await
    }

    /// Leads a log under the given epoch, and writes the state that it was given.
    pub(crate) async fn on(hub: Hub, epoch: u64, state: DesiredState) -> Self {
        let session = hub.open("leader").await.unwrap();
        let reports = session.reports().await.unwrap();
        let (reply_to, replies) = session.replies().await.unwrap();
        let epoch = Epoch(epoch);
        let mut leader = Self {
            hub,
            session,
            epoch,
            state,
            offset: 0,
            reports,
            reply_to,
            replies,
            queries: 0,
        };
        leader.append(EntryKind::Claim).await;
        leader.append(EntryKind::State).await;
        leader
    }

    async fn append(&mut self, kind: EntryKind) {
        let entry = LogEntry {
            schema: SCHEMA,
            epoch: self.epoch,
            owner: Owner::new("leader"),
            seq: 0,
            kind,
            revision: self.state.revision,
            state: (kind == EntryKind::State).then(|| self.state.clone()),
            digest: Some(self.state.digest()).filter(|_| kind == EntryKind::State),
            change: None,
            request_ids: VecDeque::new(),
            line: None,
            by: "test".to_owned(),
            source: Source::Http,
            at: clock::wall(),
        };
        self.append_bytes(entry.encode()).await;
        self.offset = self.hub.log().last().unwrap().offset;
    }

    pub(crate) async fn append_bytes(&self, entry: Vec<u8>) {
        self.session.append(Bytes::from(entry)).await.unwrap();
    }

    pub(crate) fn announce(&self) {
        let announcement = Announcement {
            schema: SCHEMA,
            owner: Owner::new("leader"),
            standing: self.standing(),
            offset: self.offset,
            at: clock::wall(),
        };
        let message = Message::new(Announcement::KIND, announcement.encode());
        self.session.post(Address::Everyone, message).unwrap();
    }

    pub(crate) fn standing(&self) -> Standing {
        Standing {
            epoch: self.epoch,
            revision: self.state.revision,
            digest: self.state.digest(),
            owner: Some(Owner::new("leader")),
        }
    }

    /// Makes a revision and announces it.
    pub(crate) async fn command(&mut self, command: Command) {
        self.state = self
            .state
            .apply(&command, clock::wall())
            .unwrap()
            .expect("it changes something")
            .state;
        self.append(EntryKind::State).await;
        self.announce();
    }

    pub(crate) async fn start(&mut self, config: &Value) {
        self.command(Command::Start(Box::new(FlockConfig::parse(config).unwrap())))
            .await;
    }

    pub(crate) async fn stop(&mut self, flock: &str) {
        self.command(Command::Stop(flock.parse().unwrap())).await;
    }

    /// Sends bytes to every replica.
    pub(crate) fn broadcast(&self, kind: &str, payload: &str) {
        self.session
            .post(Address::Everyone, Message::new(kind, payload.to_owned()))
            .unwrap();
    }

    /// Asks one replica and returns the whole answer.
    pub(crate) async fn ask(&mut self, replica: &str, ask: Ask) -> Vec<Answer> {
        let query = Query {
            schema: SCHEMA,
            owner: Owner::new("leader"),
            ask,
        };
        self.ask_bytes(replica, query.encode()).await
    }

    pub(crate) async fn ask_bytes(&mut self, replica: &str, payload: Vec<u8>) -> Vec<Answer> {
        self.queries += 1;
        let id = self.queries.to_string();
        let query = Message {
            correlation_id: Some(id.clone()),
            reply_to: Some(self.reply_to.clone()),
            ..Message::new(Query::KIND, payload)
        };
        self.session
            .publish(Address::Replica(replica.parse().unwrap()), query)
            .await
            .unwrap();
        let mut parts: Vec<Answer> = Vec::new();
        while parts.last().is_none_or(|part| !part.last) {
            let message = tokio::time::timeout(PATIENCE, self.replies.recv())
                .await
                .expect("an answer comes")
                .unwrap();
            assert_eq!(message.correlation_id.as_ref(), Some(&id));
            parts.push(Answer::decode(&message.kind, &message.payload).unwrap());
            assert_eq!(parts.last().unwrap().part as usize, parts.len() - 1);
        }
        parts
    }

    /// Reads the whole log of a monkey.
    pub(crate) async fn log(&mut self, replica: &str, flock: &str, monkey: &str) -> String {
        let mut text = String::new();
        let mut offset = 0;
        loop {
            let ask = Ask::Log {
                flock: name(flock),
                monkey: MonkeyName::new(monkey),
                offset,
                limit: u32::MAX,
            };
            let answer = self.ask(replica, ask).await.remove(0);
            let AnswerBody::Log(part) = answer.body else {
                panic!("{answer:?}")
            };
            text.push_str(&part.text);
            offset = part.offset + part.text.len() as u64;
            if offset >= part.end {
                return text;
            }
        }
    }

    /// Reads reports until one is as wanted; announces where there are none.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Report) -> bool) -> Report {
        let deadline = clock::now() + PATIENCE;
        let mut last = None;
        while clock::now() < deadline {
            let next = tokio::time::timeout(Duration::from_millis(200), self.reports.recv()).await;
            let Ok(message) = next else {
                self.announce();
                continue;
            };
            let message = message.expect("the leader's session goes on");
            let report = Report::decode(&message.kind, &message.payload).unwrap();
            if wanted(&report) {
                return report;
            }
            last = Some(report);
        }
        panic!("no such report came; the last one was {last:#?}");
    }

    /// Waits until a flock is in a phase.
    pub(crate) async fn until_phase(&mut self, flock: &str, phase: FlockPhase) -> Report {
        self.until(|report| report.flocks.get(flock).is_some_and(|flock| flock.phase == phase))
            .await
    }

    /// Waits until a flock is gone.
    pub(crate) async fn until_gone(&mut self, flock: &str) -> Report {
        let revision = self.state.revision;
        self.until(|report| {
            let is_there = report
                .standing
                .as_ref()
                .is_some_and(|standing| standing.revision >= revision);
            is_there && !report.flocks.contains_key(flock)
        })
        .await
    }
}

/// A worker with tasks of its own, as a process has them.
pub(crate) struct Process {
    pub(crate) handle: WorkerHandle,
    pub(crate) tasks: Tasks,
}

impl Process {
    pub(crate) fn start(hub: &Hub, config: WorkerConfig) -> Self {
        let tasks = Tasks::new();
        let link: Arc<dyn Link> = Arc::new(hub.clone());
        let handle = Worker::build(config, link).unwrap().spawn(&tasks);
        Self { handle, tasks }
    }

    /// Ends it as SIGTERM does.
    pub(crate) async fn drain(self) {
        self.tasks.drain_token().cancel();
        self.wait().await;
    }

    /// Ends it as SIGKILL does.
    pub(crate) async fn kill(self) {
        self.tasks.abort_token().cancel();
        self.wait().await;
    }

    pub(crate) async fn wait(&self) {
        tokio::time::timeout(PATIENCE, self.tasks.wait())
            .await
            .expect("the process ends");
    }

    /// Waits until the handle shows what is wanted.
    pub(crate) async fn until<T>(&self, wanted: impl Fn(&WorkerHandle) -> Option<T>) -> T {
        let deadline = clock::now() + PATIENCE;
        loop {
            if let Some(value) = wanted(&self.handle) {
                return value;
            }
            assert!(
                clock::now() < deadline,
                "{:?}\n{:#?}",
                self.handle.status().borrow(),
                self.handle.flocks()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until every monkey of a flock is in a state.
    pub(crate) async fn until_all(&self, flock: &str, state: MonkeyState) {
        let name = name(flock);
        self.until(|handle| {
            let monkeys = handle.monkeys(&name);
            (!monkeys.is_empty() && monkeys.iter().all(|monkey| monkey.state == state)).then_some(())
        })
        .await;
    }
}

pub(crate) fn name(text: &str) -> FlockName {
    text.parse().unwrap()
}

/// A flock of `count` monkeys of a business, with its options.
pub(crate) fn flock(name: &str, count: u32, business: &str, options: &Value) -> Value {
    json!({
        "name": name, "count": count, "user_spec": {"username_prefix": format!("bot-mobu-{name}")}, "scopes": ["exec:test"],
        "business": {"type": business, "options": options, "restart": true},
    })
}

/// A flock that idles for a second at a time.
pub(crate) fn idlers(name: &str, count: u32) -> Value {
    flock(name, count, "EmptyLoop", &json!({"idle_time": 1}))
}

/// Whoever listens to what the monkeys do.
pub(crate) struct Listener {
    _session: Box<dyn Session>,
    inbox: Inbox<Message>,
}

impl Listener {
    /// Listens before there is anything to hear, so that nothing is missed. The pattern is that of a topic exchange.
    pub(crate) async fn on(hub: &Hub, pattern: &str) -> Self {
        let session = hub.open("listener").await.unwrap();
        let inbox = session.events(pattern).await.unwrap();
        Self {
            _session: session,
            inbox,
        }
    }

    /// Waits for the next event.
    pub(crate) async fn hear(&mut self) -> Event {
        let message = tokio::time::timeout(PATIENCE, self.inbox.recv()).await;
        let message = message.expect("an event comes in time").unwrap();
        Event::decode(&message.kind, &message.payload).unwrap()
    }

    /// Waits for an act that is wanted; returns it.
    pub(crate) async fn until(&mut self, is_wanted: impl Fn(&Act) -> bool) -> Act {
        loop {
            let act = self.hear().await.act;
            if is_wanted(&act) {
                return act;
            }
        }
    }
}
