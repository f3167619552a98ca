//! The replica's loop: one event, what it means, what is to be done.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mobu_fleet::domain::ids::FlockName;
use mobu_fleet::domain::messages::{
    Announcement, AnswerBody, FlockReport, LogEntry, ProcessFigures, Query, ReadEntry, Report, SCHEMA, Wire,
};
use mobu_fleet::domain::reconcile::ActualFlock;
use mobu_fleet::link::{Address, Inbox, Link, LinkError, LogRecord, Message, Session, SessionHealth};
use mobu_fleet::runtime::backoff::Backoff;
use mobu_fleet::runtime::clock::{self, Instant};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::answers::{Envelope, Reply, answer};
use super::figures::Figures;
use super::handle::{LinkStatus, WorkerHandle, WorkerStatus};
use super::session::{SessionCommand, SessionEvent, Supervisor};
use super::state::{Effect, ReplicaEvent, ReplicaState};
use super::telling::Telling;
use super::undecodable::Undecodable;
use crate::config::WorkerConfig;
use crate::flock::{FlockHandle, Pasture, Status, Wish};
use crate::measure::lateness::{Change, LatenessWatch};
use crate::measure::outlet::BEAT;

/// How many events of the session wait: it has a few in its life, and waits if they are many.
const EVENTS: usize = 8;
/// How many commands to the session wait. It gets one or two in its life.
const COMMANDS: usize = 8;
/// How long a report waits for flocks that do what they were told: most have done it by then, and one report tells it all.
const SETTLING: Duration = Duration::from_millis(100);
/// How long it waits if all others are done but those for which a report has waited before: what they say as they go on is told together.
const GATHERING: Duration = Duration::from_millis(20);
/// How long the last report and the end of the session may take.
const FAREWELL: Duration = Duration::from_secs(5);

/// The replica's task.
pub(crate) struct Replica {
    config: WorkerConfig,
    handle: WorkerHandle,
    status: watch::Sender<WorkerStatus>,
    tasks: Tasks,
    pasture: Arc<Pasture>,
    changed: Arc<Notify>,
    contact: watch::Sender<Instant>,
    stop_limit: watch::Sender<Duration>,
    flocks_ended: mpsc::UnboundedReceiver<FlockName>,
    state: ReplicaState,
    figures: Figures,
    undecodable: Undecodable,
    random: fastrand::Rng,
    started_at: Timestamp,
    report_number: u64,
    /// Since when there is something to tell that was not reported yet.
    untold: Option<Instant>,
    /// Flocks that had not done what they were told when that was reported.
    slow: BTreeMap<FlockName, Option<ActualFlock>>,
    next_report: Instant,
    /// When the events that wait are sent.
    next_events: Option<Instant>,
    telling: Telling,
    lateness: LatenessWatch,
    session: Option<Arc<dyn Session>>,
    /// What arrives for this replica, while there is a session. Read here and not by the session's task: each hop from task to task
    /// costs a message more than all that is done with it.
    inbox: Option<Inbox<Message>>,
    /// The entries of the log, while it is read.
    log: Option<Inbox<LogRecord>>,
    commands: Option<mpsc::Sender<SessionCommand>>,
    /// Cancelled when the replica has ended, so that what serves its health may end too.
    ended: CancellationToken,
}

/// What a replica is made of.
pub(crate) struct Parts {
    pub(crate) config: WorkerConfig,
    pub(crate) handle: WorkerHandle,
    pub(crate) status: watch::Sender<WorkerStatus>,
    pub(crate) tasks: Tasks,
    pub(crate) pasture: Arc<Pasture>,
    pub(crate) contact: watch::Sender<Instant>,
    pub(crate) stop_limit: watch::Sender<Duration>,
    pub(crate) flocks_ended: mpsc::UnboundedReceiver<FlockName>,
    pub(crate) ended: CancellationToken,
}

/// Whether the loop goes on.
#[derive(PartialEq, Eq)]
enum Course {
    On,
    End,
}

enum Next {
    Session(SessionEvent),
    Message(Message),
    Record(LogRecord),
    /// An inbox has ended, and its session with it.
    Ended(&'static str),
    Event(ReplicaEvent),
    Report,
    Changed,
    /// There are events, which may wait a moment for others.
    EventsWait,
    Events,
}

impl Replica {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            config,
            handle,
            status,
            tasks,
            pasture,
            contact,
            stop_limit,
            flocks_ended,
            ended,
        } = parts;
        Self {
            state: ReplicaState::new(config.name_wait),
            figures: Figures::new(config.measures_process),
            undecodable: Undecodable::default(),
            random: fastrand::Rng::with_seed(config.seed),
            started_at: clock::wall(),
            report_number: 0,
            untold: None,
            slow: BTreeMap::new(),
            next_report: clock::now(),
            next_events: None,
            telling: Telling::default(),
            lateness: LatenessWatch::new(config.max_lateness, clock::now()),
            session: None,
            inbox: None,
            log: None,
            commands: None,
            changed: pasture.changed.clone(),
            config,
            handle,
            status,
            tasks,
            pasture,
            contact,
            stop_limit,
            flocks_ended,
            ended,
        }
    }

    /// Runs until everything has stopped, or the replica gives up.
    pub(crate) async fn run(mut self, link: Arc<dyn Link>) {
        let (event_tx, mut events) = mpsc::channel(EVENTS);
        let (command_tx, commands) = mpsc::channel(COMMANDS);
        self.commands = Some(command_tx);
        let supervisor = Supervisor {
            link,
            name: format!("worker {} {}", self.config.instance_id, self.handle.session),
            instance_id: self.config.instance_id.clone(),
            backoff: Backoff::for_sessions(self.random.u64(..)),
            events: event_tx,
            commands,
        };
        let supervisor = self.tasks.spawn(TaskKind::Vital, "session", supervisor.run());
        let probe = self.config.measures_process.then(|| {
            let probe = self.figures.probe(self.pasture.surroundings.clone());
            self.tasks.spawn(TaskKind::Expendable, "lateness", probe)
        });
        let surroundings = self.pasture.surroundings.clone();
        let drain = self.tasks.drain_token();
        let mut is_draining = false;
        loop {
            let deadline = self.state.deadline();
            let next = tokio::select! {
                biased;
                () = drain.cancelled(), if !is_draining => {
                    is_draining = true;
                    Next::Event(ReplicaEvent::Drain)
                }
                Some(name) = self.flocks_ended.recv() => Next::Event(ReplicaEvent::FlockEnded(name)),
                () = due(self.next_report), if self.session.is_some() => Next::Report,
                () = self.changed.notified() => Next::Changed,
                () = clock::until(self.next_events) => Next::Events,
                () = surroundings.outlet.filled(), if self.next_events.is_none() => Next::EventsWait,
                // What has come goes before what is due: after a freeze, silence is only believed once everything was looked at.
                Some(event) = events.recv() => Next::Session(event),
                message = arrival(&mut self.inbox) => message.map_or(Next::Ended("the replica's queue is gone"), Next::Message),
                record = arrival(&mut self.log) => record.map_or(Next::Ended("the state log is gone"), Next::Record),
                () = clock::until(deadline) => Next::Event(ReplicaEvent::Tick),
            };
            let course = match next {
                Next::Event(event) => self.handle(event),
                Next::Session(event) => self.session_event(event),
                Next::Message(message) => self.message(&message),
                Next::Record(record) => self.record(&record),
                Next::Ended(reason) => {
                    self.inboxes_ended(reason);
                    Course::On
                }
                Next::Report => {
                    self.report();
                    Course::On
                }
                Next::Changed => {
                    self.report_soon();
                    Course::On
                }
                Next::EventsWait => {
                    self.next_events = Some(clock::now() + BEAT);
                    Course::On
                }
                Next::Events => {
                    self.next_events = None;
                    self.send_events();
                    Course::On
                }
            };
            if course == Course::End {
                break;
            }
            // lapin's consumers know nothing of tokio's budget: a long log to read must not keep the flocks from the thread.
            tokio::task::consume_budget().await;
        }
        // Without its sender, the session closes; what was handed over is sent before.
        self.commands = None;
        if tokio::time::timeout(FAREWELL, async {
            // A supervisor that waits for room in the channel must get it.
            while events.recv().await.is_some() {}
            drop(supervisor.await);
        })
        .await
        .is_err()
        {
            info!("the session did not close within {FAREWELL:?}");
        }
        if let Some(probe) = probe {
            probe.abort();
        }
        self.ended.cancel();
    }

    fn handle(&mut self, event: ReplicaEvent) -> Course {
        if matches!(event, ReplicaEvent::Drain) {
            info!(replica.id = %self.config.instance_id, "replica {} stops its monkeys", self.config.instance_id);
            self.stop_limit.send_replace(self.config.drain_timeout.mul_f64(0.9));
        }
        if let ReplicaEvent::FlockEnded(name) = &event {
            // A name that is wanted again gets a new task from the effects.
            self.handle.flocks.lock().remove(name);
        }
        let mut course = Course::On;
        for effect in self.state.handle(event, clock::now()) {
            if self.perform(effect) == Course::End {
                course = Course::End;
            }
        }
        self.publish_status();
        course
    }

    fn perform(&mut self, effect: Effect) -> Course {
        match effect {
            Effect::ReadLog(start) => self.command(SessionCommand::Read(start)),
            Effect::EndSession(reason) => self.command(SessionCommand::End(reason)),
            Effect::Run(name, desired) => {
                info!(flock.name = %name, revision = %desired.generation, "flock `{name}` shall run generation {}", desired.generation);
                let mut flocks = self.handle.flocks.lock();
                match flocks.get(&name) {
                    Some(flock) => flock.wish(Wish::Run(desired)),
                    None => {
                        flocks.insert(name, FlockHandle::spawn(&desired, self.pasture.clone(), &self.tasks));
                    }
                }
            }
            Effect::Stop(name) => {
                info!(flock.name = %name, "flock `{name}` shall stop");
                if let Some(flock) = self.handle.flocks.lock().get(&name) {
                    flock.wish(Wish::Stop);
                }
            }
            Effect::Contact => drop(self.contact.send_replace(clock::now())),
            Effect::Report => self.report_soon(),
            Effect::GiveUp => {
                let id = &self.config.instance_id;
                let failure = format!(
                    "instance ID {id} is in use by another process, which did not end within {:?}",
                    self.config.name_wait
                );
                error!(replica.id = %id, "{failure}; this process ends without having run a monkey");
                self.status.send_modify(|status| status.failure = Some(failure));
                return Course::End;
            }
            Effect::Finish => {
                self.send_events();
                self.report();
                return Course::End;
            }
        }
        Course::On
    }

    fn command(&self, command: SessionCommand) {
        if let Some(commands) = &self.commands
            && let Err(error) = commands.try_send(command)
        {
            // The session has ended meanwhile, or has too much to do: its end is on its way.
            debug!(error = %error, "the session takes no commands");
        }
    }

    fn session_event(&mut self, event: SessionEvent) -> Course {
        match event {
            SessionEvent::Opened(session, inbox) => {
                self.session = Some(session);
                (self.inbox, self.log) = (Some(inbox), None);
                self.telling.forget();
                self.pasture.surroundings.outlet.set_open(true);
                self.set_link(LinkStatus::Open);
                self.handle(ReplicaEvent::Opened)
            }
            SessionEvent::NameTaken { by_another } => self.handle(ReplicaEvent::NameTaken { by_another }),
            SessionEvent::Lost(reason) => {
                self.session = None;
                (self.inbox, self.log) = (None, None);
                self.pasture.surroundings.outlet.set_open(false);
                self.set_link(LinkStatus::Closed(reason));
                self.handle(ReplicaEvent::Lost)
            }
            SessionEvent::Health(health) => {
                match health {
                    SessionHealth::Open => self.set_link(LinkStatus::Open),
                    SessionHealth::Blocked { reason } => self.set_link(LinkStatus::Blocked(reason)),
                    // The loss itself is on its way.
                    SessionHealth::Closed { .. } => {}
                }
                Course::On
            }
            SessionEvent::Attached(log) => {
                self.log = Some(log);
                self.handle(ReplicaEvent::Attached)
            }
        }
    }

    /// Reads no more of a session that has ended in part. Mostly all of it has, and its loss is on its way.
    fn inboxes_ended(&mut self, reason: &'static str) {
        (self.inbox, self.log) = (None, None);
        let session = self.session.as_ref();
        if session.is_some_and(|session| !matches!(*session.health().borrow(), SessionHealth::Closed { .. })) {
            self.command(SessionCommand::End(reason));
        }
    }

    fn record(&mut self, record: &LogRecord) -> Course {
        match LogEntry::read(&record.payload) {
            Ok(entry) => {
                if let ReadEntry::Unreadable { reason, .. } = &entry {
                    self.undecodable.note(LogEntry::KIND, reason, &record.payload);
                }
                self.handle(ReplicaEvent::Read(record.offset, Box::new(entry)))
            }
            Err(error) => {
                self.undecodable
                    .note(LogEntry::KIND, &error.to_string(), &record.payload);
                Course::On
            }
        }
    }

    fn message(&mut self, message: &Message) -> Course {
        let (kind, payload) = (message.kind.as_str(), &message.payload);
        let unreadable = match kind {
            Announcement::KIND => match Announcement::decode(kind, payload) {
                Ok(announcement) => return self.handle(ReplicaEvent::Announced(announcement)),
                Err(error) => error.to_string(),
            },
            Query::KIND => match Query::decode(kind, payload) {
                Ok(query) => {
                    self.answer(query, message);
                    return Course::On;
                }
                Err(error) => {
                    self.answer_unknown(message);
                    error.to_string()
                }
            },
            _ => "a replica expects nothing of this kind".to_owned(),
        };
        self.undecodable.note(kind, &unreadable, payload);
        self.publish_status();
        Course::On
    }

    fn envelope(&self, message: &Message) -> Option<Envelope> {
        Some(Envelope {
            instance_id: self.config.instance_id.clone(),
            session: self.handle.session.clone(),
            reply_to: message.reply_to.clone()?,
            correlation_id: message.correlation_id.clone(),
        })
    }

    fn answer(&mut self, query: Query, message: &Message) {
        let (Some(envelope), Some(session)) = (self.envelope(message), self.session.clone()) else {
            return;
        };
        match answer(query.ask, self.state.acted(), &self.handle.flocks) {
            Reply::One(body) => self.count_dropped(envelope.post(&*session, body)),
            Reply::Many(listing) if listing.is_short() => {
                let body = listing.parts().next().unwrap_or(AnswerBody::NotHere);
                self.count_dropped(envelope.post(&*session, body));
            }
            Reply::Many(listing) => {
                let send = async move {
                    if let Err(error) = envelope.send(session, listing).await {
                        debug!(error = %error, "an answer was not sent to its end");
                    }
                };
                drop(self.tasks.spawn(TaskKind::Expendable, "answer", send));
            }
        }
    }

    /// Tells somebody of another version that we do not understand the question, so that they need not wait.
    fn answer_unknown(&self, message: &Message) {
        if let (Some(envelope), Some(session)) = (self.envelope(message), self.session.clone()) {
            self.count_dropped(envelope.post(&*session, AnswerBody::Unknown));
        }
    }

    fn report_soon(&mut self) {
        let since = *self.untold.get_or_insert_with(clock::now);
        self.next_report = self.next_report.min(since + self.patience());
    }

    /// How long a report waits for flocks that have not done what they were told.
    fn patience(&self) -> Duration {
        let flocks = self.handle.flocks.lock();
        let has_done = |name: &FlockName, told| flocks.get(name).is_some_and(|flock| flock.status().has_done(told));
        let mut patience = Duration::ZERO;
        for (name, told) in self.unsettled(has_done) {
            if self.slow.get(name) != Some(&told) {
                return SETTLING;
            }
            patience = GATHERING;
        }
        patience
    }

    /// Flocks that have not done what they were told last, and what that is.
    fn unsettled(
        &self,
        has_done: impl Fn(&FlockName, ActualFlock) -> bool,
    ) -> impl Iterator<Item = (&FlockName, Option<ActualFlock>)> {
        let told = self.state.told();
        told.filter(move |(name, told)| !told.is_some_and(|told| has_done(name, told)))
    }

    fn report(&mut self) {
        let now = clock::now();
        self.untold = None;
        let statuses = self.handle.flocks.statuses();
        let has_done = |name: &FlockName, told| statuses.get(name).is_some_and(|status| status.has_done(told));
        let unsettled = self.unsettled(has_done);
        self.slow = unsettled.map(|(name, told)| (name.clone(), told)).collect();
        self.next_report = now + self.config.report_interval.mul_f64(0.9 + 0.2 * self.random.f64());
        let Some(session) = self.session.clone() else { return };
        let mut process = self.figures.take();
        self.look_at_lateness(now, &mut process);
        self.status.send_if_modified(|status| {
            // Nobody waits for these.
            status.process = process;
            false
        });
        let report = Report {
            schema: SCHEMA,
            instance_id: self.config.instance_id.clone(),
            session: self.handle.session.clone(),
            seq: self.report_number,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            phase: self.state.phase(),
            replica_count: self.config.replica_count,
            standing: self.state.acted().map(|acted| acted.standing.clone()),
            flocks: self.flocks(statuses, now),
            process,
        };
        self.report_number += 1;
        let posted = session.post(Address::Coordinators, Message::new(Report::KIND, report.encode()));
        self.count_dropped(posted);
    }

    fn flocks(&mut self, statuses: BTreeMap<FlockName, Status>, now: Instant) -> BTreeMap<FlockName, FlockReport> {
        self.telling.retain(|name| statuses.contains_key(name));
        let report = |(name, status): (FlockName, Status)| {
            let mut report = status.report();
            report.failures = self.telling.failures(&name, status.generation, &status.causes, now);
            (name, report)
        };
        statuses.into_iter().map(report).collect()
    }

    fn look_at_lateness(&mut self, now: Instant, process: &mut ProcessFigures) {
        let change = self.lateness.look(&self.pasture.surroundings.lateness, now);
        process.lateness = self.lateness.figures();
        process.overloaded = self.lateness.is_overloaded();
        let (id, bound) = (&self.config.instance_id, self.config.max_lateness);
        match change {
            Some(Change::Overloaded) => warn!(
                replica.id = %id, cpu = process.cpu,
                "replica {id} is overloaded: its monkeys wake more than {bound:?} late, so what they measure may be its own slowness"
            ),
            Some(Change::Recovered) => info!(replica.id = %id, "replica {id} is not overloaded any more"),
            None => {}
        }
    }

    fn send_events(&self) {
        if let Some(session) = &self.session {
            let outlet = &self.pasture.surroundings.outlet;
            outlet.send(&self.config.instance_id, &**session);
        }
    }

    fn count_dropped(&self, posted: Result<(), LinkError>) {
        if let Err(error) = posted {
            debug!(error = %error, "a message was dropped");
            self.status.send_modify(|status| status.dropped_messages += 1);
        }
    }

    fn set_link(&self, link: LinkStatus) {
        self.status.send_modify(|status| status.link = link);
    }

    fn publish_status(&self) {
        let (phase, is_name_taken) = (self.state.phase(), self.state.is_name_taken());
        let standing = self.state.acted().map(|acted| &acted.standing);
        let undecodable = self.undecodable.total();
        self.status.send_if_modified(|status| {
            let is_new = status.phase != phase
                || status.is_name_taken != is_name_taken
                || status.standing.as_ref() != standing
                || status.undecodable_messages != undecodable;
            if is_new {
                status.phase = phase;
                status.is_name_taken = is_name_taken;
                status.standing = standing.cloned();
                status.undecodable_messages = undecodable;
            }
            is_new
        });
    }
}

/// Waits for what comes next; for ever while there is no inbox.
async fn arrival<T>(inbox: &mut Option<Inbox<T>>) -> Option<T> {
    match inbox {
        Some(inbox) => inbox.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits for a moment. One that has come is not waited for: the timer's next tick may be a millisecond away, and somebody waits for
/// the report.
async fn due(moment: Instant) {
    if moment > clock::now() {
        tokio::time::sleep_until(moment).await;
    }
}
