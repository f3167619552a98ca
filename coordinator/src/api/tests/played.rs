//! A replica that is played: it follows the log and answers as a worker does, and misbehaves as it is told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::fold::View;
use mobu_fleet::domain::ids::{FlockName, InstanceId, SessionId};
use mobu_fleet::domain::messages::{
    Answer, AnswerBody, Ask, FailureCause, Failures, FlockPhase, FlockReport, Lateness, LogEntry, LogPart,
    ProcessFigures, Query, ReplicaPhase, Report, SCHEMA, Wire as _,
};
use mobu_fleet::domain::monkey::{BusinessData, MonkeyData, MonkeyState, UserData};
use mobu_fleet::domain::users::{ReplicaIdentity, users_of};
use mobu_fleet::link::memory::Hub;
use mobu_fleet::link::{Address, Link as _, LogStart, Message, Session};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};

/// When everything of a played replica started.
pub(super) const STARTED: &str = "2026-11-22T19:29:28.251978Z";

/// How a replica behaves.
#[derive(Debug, Clone)]
pub(super) struct Mood {
    /// Whether it answers questions.
    pub(super) answers: bool,
    /// Whether it reports.
    pub(super) reports: bool,
    /// Whether it acts on what the log says.
    pub(super) acts: bool,
    /// Why its flocks fail to start.
    pub(super) fails: Option<String>,
    /// Why its monkeys have failed for good; then it is overloaded too.
    pub(super) struggles: Option<Failures>,
    /// The log of each of its monkeys.
    pub(super) log: String,
    /// From where on the log is kept.
    pub(super) log_begins: usize,
    /// How many parts of logs it was asked for.
    pub(super) log_parts: usize,
}

/// A replica that is played.
pub(super) struct Part {
    pub(super) mood: Arc<Mutex<Mood>>,
}

impl Part {
    pub(super) fn play(hub: &Hub, tasks: &Tasks, id: &str, replica_count: u32) -> Self {
        let mood = Arc::new(Mutex::new(Mood {
            answers: true,
            reports: true,
            acts: true,
            fails: None,
            struggles: None,
            log: "a line\n".to_owned(),
            log_begins: 0,
            log_parts: 0,
        }));
        let player = Player {
            identity: ReplicaIdentity {
                instance_id: Some(id.parse().unwrap()),
                replica_count,
            },
            id: id.parse().unwrap(),
            mood: mood.clone(),
            seen: View::default(),
            acted: View::default(),
            seq: 0,
        };
        let (hub, drain) = (hub.clone(), tasks.drain_token());
        let playing = async move {
            tokio::select! {
                () = drain.cancelled() => {}
                () = player.play(hub) => {}
            }
        };
        drop(tasks.spawn(TaskKind::Expendable, "played replica", playing));
        Self { mood }
    }
}

struct Player {
    id: InstanceId,
    identity: ReplicaIdentity,
    mood: Arc<Mutex<Mood>>,
    seen: View,
    acted: View,
    seq: u64,
}

impl Player {
    async fn play(mut self, hub: Hub) {
        let session = hub.open(&format!("replica {}", self.id)).await.unwrap();
        let mut log = session.read_log(LogStart::First).await.unwrap();
        let mut inbox = session.replica_inbox(&self.id).await.unwrap();
        let mut ticks = tokio::time::interval(Duration::from_millis(500));
        loop {
            tokio::select! {
                record = log.recv() => {
                    let Some(record) = record else { return };
                    self.seen.fold(record.offset, LogEntry::decode("", &record.payload).unwrap());
                }
                message = inbox.recv() => {
                    let Some(message) = message else { return };
                    self.answer(&*session, message);
                    continue;
                }
                _ = ticks.tick() => {}
            }
            // Never the whole mood: its log may be large.
            let (acts, reports, fails, struggles) = {
                let mood = self.mood.lock().unwrap();
                (mood.acts, mood.reports, mood.fails.clone(), mood.struggles.clone())
            };
            if acts {
                self.acted = self.seen.clone();
            }
            if reports {
                let report = self.report(fails.as_ref(), struggles.as_ref());
                session
                    .post(Address::Coordinators, Message::new(Report::KIND, report.encode()))
                    .unwrap();
            }
        }
    }

    fn flocks(&self) -> BTreeMap<FlockName, DesiredFlock> {
        self.acted
            .held()
            .map(|held| held.state.flocks.clone())
            .unwrap_or_default()
    }

    fn report(&mut self, fails: Option<&String>, struggles: Option<&Failures>) -> Report {
        self.seq += 1;
        let flocks = self.flocks().into_iter().map(|(name, flock)| {
            let failed = fails.is_some();
            let count = if failed { 0 } else { self.monkeys(&flock).len() as u64 };
            let state = if struggles.is_some() {
                MonkeyState::Stopping
            } else {
                MonkeyState::Running
            };
            let report = FlockReport {
                generation: flock.generation,
                refresh_generation: flock.refresh_generation,
                phase: if failed {
                    FlockPhase::Failed
                } else {
                    FlockPhase::Running
                },
                business: flock.config.business.kind().as_str().to_owned(),
                monkeys: BTreeMap::from([(state, count)]),
                success_count: count,
                failure_count: 0,
                start_time: (!failed).then(|| STARTED.parse().unwrap()),
                error: fails.cloned(),
                failures: struggles.cloned(),
            };
            (name, report)
        });
        Report {
            schema: SCHEMA,
            instance_id: self.id.clone(),
            session: self.session(),
            seq: self.seq,
            version: "0.1.0".to_owned(),
            started_at: STARTED.parse::<Timestamp>().unwrap(),
            phase: ReplicaPhase::Running,
            replica_count: self.identity.replica_count,
            standing: self.acted.held().map(|held| held.standing.clone()),
            flocks: flocks.collect(),
            process: ProcessFigures {
                cpu_seconds: 1.5,
                cpu: 0.25,
                rss_bytes: 1024,
                lag_ms: 0.5,
                connections: None,
                lateness: struggles.map(|_| Lateness {
                    p50_ms: 0.5,
                    p99_ms: 300.0,
                    max_ms: 400.0,
                }),
                overloaded: struggles.is_some(),
            },
        }
    }

    fn session(&self) -> SessionId {
        SessionId::new(format!("session-{}", self.id))
    }

    fn monkeys(&self, flock: &DesiredFlock) -> Vec<MonkeyData> {
        let users = users_of(&flock.config, &self.identity).unwrap();
        let monkey = |user: &mobu_fleet::domain::flock::User| MonkeyData {
            name: mobu_fleet::domain::ids::MonkeyName::new(user.username.as_str()),
            state: MonkeyState::Running,
            user: UserData {
                username: user.username.to_string(),
                scopes: flock.config.scopes.to_vec(),
                token: "gt-abc.***".to_owned(),
                uidnumber: user.uidnumber,
                gidnumber: user.gidnumber.or(user.uidnumber),
                groups: user.groups.to_vec(),
            },
            business: BusinessData {
                name: flock.config.business.kind().class_name().to_owned(),
                success_count: 1,
                refreshing: flock.refresh_generation > flock.generation,
                ..BusinessData::default()
            },
            replica: None,
        };
        users.iter().map(monkey).collect()
    }

    fn answer(&self, session: &dyn Session, message: Message) {
        let (Ok(query), Some(reply_to)) = (Query::decode(&message.kind, &message.payload), message.reply_to) else {
            return;
        };
        let mut mood = self.mood.lock().unwrap();
        if !mood.answers {
            return;
        }
        let flocks = self.flocks();
        let monkeys_of = |flock: &FlockName| flocks.get(flock).map(|flock| self.monkeys(flock));
        let body = match query.ask {
            Ask::State { above, line } => {
                let held = self.seen.held().map(|held| &held.known);
                let more = held.filter(|held| held.standing.knows_more_than(above.as_ref(), line.as_ref()));
                Some(AnswerBody::state(held.map(|held| held.standing.clone()), more))
            }
            Ask::Flock { flock } => monkeys_of(&flock).map(|monkeys| AnswerBody::Flock { monkeys }),
            Ask::Monkeys { flock } => monkeys_of(&flock).map(|monkeys| AnswerBody::Monkeys {
                monkeys: monkeys.into_iter().map(|monkey| monkey.name).collect(),
            }),
            Ask::Monkey { flock, monkey } => {
                let found = monkeys_of(&flock).into_iter().flatten().find(|one| one.name == monkey);
                found.map(|monkey| AnswerBody::Monkey {
                    monkey: Box::new(monkey),
                })
            }
            Ask::Log {
                flock,
                monkey,
                offset,
                limit,
            } => {
                let runs = monkeys_of(&flock).into_iter().flatten().any(|one| one.name == monkey);
                runs.then(|| log_part(&mut mood, offset, limit))
            }
        };
        let answer = Answer {
            schema: SCHEMA,
            instance_id: Some(self.id.clone()),
            session: self.session(),
            part: 0,
            last: true,
            body: body.unwrap_or(AnswerBody::NotHere),
        };
        let mut reply = Message::new(Answer::KIND, answer.encode());
        reply.correlation_id = message.correlation_id;
        session.post(Address::Reply(reply_to), reply).unwrap();
    }
}

/// Failures of one cause, and one of another that is not kept.
pub(super) fn failures() -> Failures {
    Failures {
        causes: vec![FailureCause {
            kind: "status".to_owned(),
            phase: Some("request".to_owned()),
            url: Some("http://x.test/a".to_owned()),
            status: Some(503),
            notebook: None,
            cell: None,
            count: 3,
            last_at: STARTED.parse().unwrap(),
            example: "it said no".to_owned(),
        }],
        others: 1,
    }
}

fn log_part(mood: &mut Mood, offset: u64, limit: u32) -> AnswerBody {
    mood.log_parts += 1;
    let begin = usize::try_from(offset).unwrap().clamp(mood.log_begins, mood.log.len());
    let mut end = mood.log.len().min(begin + limit as usize);
    while !mood.log.is_char_boundary(end) {
        end -= 1;
    }
    AnswerBody::Log(LogPart {
        offset: begin as u64,
        text: mood.log[begin..end].to_owned(),
        end: mood.log.len() as u64,
    })
}
