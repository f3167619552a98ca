//! Messages as they really look, for the documents: every one is the encoding of a value of its type.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::desired::{Change, DesiredFlock, DesiredState};
use crate::domain::events::{Act, Event, NotebookSource};
use crate::domain::flock::FlockConfig;
use crate::domain::ids::{Epoch, FlockName, InstanceId, MonkeyName, Owner, RequestId, Revision, SessionId};
use crate::domain::line::Line;
use crate::domain::messages::{
    Announcement, Answer, AnswerBody, Ask, CoordinatorReport, EntryKind, FailureCause, Failures, FlockPhase,
    FlockReport, Lateness, LogEntry, LogPart, ProcessFigures, Query, ReplicaOutcome, ReplicaPhase, Report, Request,
    RequestAction, RequestAnswer, RequestOutcome, SCHEMA, Source, Standing,
};
use crate::domain::monkey::{BusinessData, MonkeyData, MonkeyState, UserData};

type Examples = Vec<(&'static str, Value)>;

const REVISION: Revision = Revision(42);

pub(super) fn requests() -> Examples {
    let request = |action, wait| encoded(&Request { wait, action });
    vec![
        (
            "start",
            request(
                RequestAction::Start {
                    flock: Box::new(lambs()),
                },
                true,
            ),
        ),
        (
            "refresh",
            request(
                RequestAction::Refresh {
                    flock: Some(flock()),
                    repo_url: None,
                    repo_ref: None,
                },
                false,
            ),
        ),
        (
            "refresh_repository",
            request(
                RequestAction::Refresh {
                    flock: None,
                    repo_url: Some("https://github.com/lsst-sqre/system-test".to_owned()),
                    repo_ref: Some("prod".to_owned()),
                },
                false,
            ),
        ),
        (
            "stop",
            request(
                RequestAction::Stop {
                    flock: Some(flock()),
                    all: false,
                },
                false,
            ),
        ),
        (
            "stop_all",
            request(RequestAction::Stop { flock: None, all: true }, false),
        ),
    ]
}

pub(super) fn events() -> Examples {
    let event = |business: &str, act| {
        encoded(&Event {
            schema: SCHEMA,
            id: uuid::uuid!("3f2b8c1e-6d1a-4f0e-9a53-0d6f2f1f4b11"),
            at: Timestamp::from_second(1_795_375_800).expect("a constant that is a time"),
            instance_id: "0".parse().expect("a constant that is a name"),
            flock: Some(flock()),
            business: business.to_owned(),
            username: MonkeyName::new("bot-mobu-lambs1"),
            act,
        })
    };
    vec![
        (
            "tap_query",
            event(
                "TAPQuerySetRunner",
                Act::TapQuery {
                    success: true,
                    duration: Some(1.25),
                    sync: false,
                },
            ),
        ),
        (
            "notebook_cell_execution",
            event(
                "NotebookRunnerCounting",
                Act::NotebookCellExecution {
                    notebook: NotebookSource {
                        notebook: "science/sky.ipynb".to_owned(),
                        repo: "https://github.com/lsst-sqre/system-test.git".to_owned(),
                        repo_ref: "prod".to_owned(),
                        repo_hash: "7a2f1c0de4".to_owned(),
                    },
                    duration: None,
                    cell_id: "a1b2c3d4".to_owned(),
                    success: false,
                },
            ),
        ),
    ]
}

pub(super) fn request_answers() -> Examples {
    let answer = |outcome| {
        encoded(&RequestAnswer {
            schema: SCHEMA,
            outcome,
        })
    };
    let missing = |prefix: &str| {
        json!({ "detail": [{
            "msg": "Field required",
            "type": "missing",
            "loc": ["body", prefix, "business"],
            "input": { "name": "lambs", "count": 2 },
        }] })
    };
    vec![
        (
            "accepted",
            answer(RequestOutcome::Accepted {
                revision: REVISION,
                changed: true,
            }),
        ),
        (
            "applied",
            answer(RequestOutcome::Applied {
                revision: REVISION,
                replicas: BTreeMap::from([
                    (replica(0), ReplicaOutcome::Applied),
                    (replica(1), ReplicaOutcome::Applied),
                ]),
            }),
        ),
        (
            "incomplete",
            answer(RequestOutcome::Incomplete {
                revision: REVISION,
                replicas: BTreeMap::from([
                    (
                        replica(0),
                        ReplicaOutcome::Failed {
                            error: "token for bot-mobu-lambs-instance-0-1 refused: 403 Forbidden".to_owned(),
                        },
                    ),
                    (replica(1), ReplicaOutcome::Pending),
                ]),
                missing: vec![replica(1)],
            }),
        ),
        (
            "rejected",
            answer(RequestOutcome::Rejected {
                code: 422,
                error: missing("flock"),
            }),
        ),
    ]
}

pub(super) fn log_entries() -> Examples {
    let claim = LogEntry {
        schema: SCHEMA,
        epoch: Epoch(7),
        owner: owner(),
        seq: 0,
        kind: EntryKind::Claim,
        revision: Revision(41),
        state: None,
        digest: None,
        change: None,
        request_ids: VecDeque::new(),
        line: None,
        by: "coordinator".to_owned(),
        source: Source::Takeover,
        at: at(),
    };
    let state = LogEntry {
        seq: 2,
        kind: EntryKind::State,
        revision: REVISION,
        digest: Some(state().digest()),
        state: Some(state()),
        change: Some(Change::Start { flock: flock() }),
        request_ids: request_ids(),
        line: Some(line()),
        by: "request".to_owned(),
        source: Source::Amqp,
        ..claim.clone()
    };
    vec![("claim", encoded(&claim)), ("state", encoded(&state))]
}

pub(super) fn announcements() -> Examples {
    let announcement = Announcement {
        schema: SCHEMA,
        owner: owner(),
        standing: standing(),
        offset: 118,
        at: at(),
    };
    vec![("announcement", encoded(&announcement))]
}

pub(super) fn queries() -> Examples {
    let query = |ask| {
        encoded(&Query {
            schema: SCHEMA,
            owner: owner(),
            ask,
        })
    };
    vec![
        (
            "state",
            query(Ask::State {
                above: Some(standing()),
                line: Some(line()),
            }),
        ),
        ("flock", query(Ask::Flock { flock: flock() })),
        ("monkeys", query(Ask::Monkeys { flock: flock() })),
        (
            "monkey",
            query(Ask::Monkey {
                flock: flock(),
                monkey: monkey(),
            }),
        ),
        (
            "log",
            query(Ask::Log {
                flock: flock(),
                monkey: monkey(),
                offset: 4096,
                limit: 65536,
            }),
        ),
    ]
}

pub(super) fn answers() -> Examples {
    let answer = |body| {
        encoded(&Answer {
            schema: SCHEMA,
            instance_id: Some(replica(0)),
            session: session(),
            part: 0,
            last: true,
            body,
        })
    };
    vec![
        (
            "state",
            answer(AnswerBody::State {
                standing: Some(standing()),
                state: Some(state()),
                line: Some(line()),
                request_ids: request_ids(),
            }),
        ),
        (
            "flock",
            answer(AnswerBody::Flock {
                monkeys: vec![monkey_data()],
            }),
        ),
        (
            "monkeys",
            answer(AnswerBody::Monkeys {
                monkeys: vec![monkey()],
            }),
        ),
        (
            "monkey",
            answer(AnswerBody::Monkey {
                monkey: Box::new(monkey_data()),
            }),
        ),
        (
            "log",
            answer(AnswerBody::Log(LogPart {
                offset: 4096,
                text: "2026-11-22 12:00:00 - INFO - Idling...\n".to_owned(),
                end: 4135,
            })),
        ),
        ("not_here", answer(AnswerBody::NotHere)),
        ("unknown", answer(AnswerBody::Unknown)),
    ]
}

pub(super) fn reports() -> Examples {
    let report = Report {
        schema: SCHEMA,
        instance_id: replica(0),
        session: session(),
        seq: 1201,
        version: "0.1.0".to_owned(),
        started_at: at(),
        phase: ReplicaPhase::Running,
        replica_count: 2,
        standing: Some(standing()),
        flocks: BTreeMap::from([(
            flock(),
            FlockReport {
                generation: REVISION,
                refresh_generation: REVISION,
                phase: FlockPhase::Failed,
                business: "EmptyLoop".to_owned(),
                monkeys: BTreeMap::from([(MonkeyState::Running, 2)]),
                success_count: 15,
                failure_count: 1,
                start_time: Some(at()),
                error: Some("token for bot-mobu-lambs-instance-0-2 refused: 403 Forbidden".to_owned()),
                failures: Some(Failures {
                    causes: vec![FailureCause {
                        kind: "status".to_owned(),
                        phase: Some("authenticate".to_owned()),
                        url: Some("https://data.example.com/auth/api/v1/tokens".to_owned()),
                        status: Some(403),
                        notebook: None,
                        cell: None,
                        count: 1,
                        last_at: at(),
                        example: "could not create a token for user bot-mobu-lambs-instance-0-2".to_owned(),
                    }],
                    others: 0,
                }),
            },
        )]),
        process: ProcessFigures {
            cpu_seconds: 12.5,
            cpu: 0.01,
            rss_bytes: 14_680_064,
            lag_ms: 0.4,
            connections: Some(0),
            lateness: Some(Lateness {
                p50_ms: 0.5,
                p99_ms: 1.1,
                max_ms: 2.5,
            }),
            overloaded: false,
        },
    };
    vec![("report", encoded(&report))]
}

pub(super) fn coordinator_reports() -> Examples {
    let report = CoordinatorReport {
        schema: SCHEMA,
        session: session(),
        active: true,
        version: "0.1.0".to_owned(),
        standing: Some(standing()),
        at: at(),
    };
    vec![("report", encoded(&report))]
}

fn encoded(message: &impl Serialize) -> Value {
    serde_json::to_value(message).expect("what travels serializes")
}

fn lambs() -> FlockConfig {
    let config = json!({
        "name": "lambs",
        "count": 2,
        "user_spec": { "username_prefix": "bot-mobu-lambs" },
        "scopes": ["exec:notebook"],
        "business": { "type": "EmptyLoop", "options": { "idle_time": "30s" } },
    });
    FlockConfig::parse(&config).expect("the example keeps the rules")
}

fn state() -> DesiredState {
    let lambs = DesiredFlock {
        config: lambs(),
        generation: REVISION,
        refresh_generation: REVISION,
        since: at(),
        autostart: None,
        by_autostart: false,
        among: None,
        was_among: None,
    };
    DesiredState {
        revision: REVISION,
        flocks: BTreeMap::from([(flock(), lambs)]),
        stopped: BTreeMap::new(),
    }
}

fn standing() -> Standing {
    Standing {
        epoch: Epoch(7),
        revision: REVISION,
        digest: state().digest(),
        owner: Some(owner()),
    }
}

fn line() -> Line {
    let mut line = Line::default();
    line.add(&standing());
    line
}

fn request_ids() -> VecDeque<(RequestId, Revision)> {
    VecDeque::from([(RequestId::new("0198f6a0-8a3c-7c54-a8a5-4f0f6a3c2a11"), REVISION)])
}

fn monkey_data() -> MonkeyData {
    MonkeyData {
        name: monkey(),
        state: MonkeyState::Running,
        user: UserData {
            username: monkey().as_str().to_owned(),
            scopes: vec!["exec:notebook".to_owned()],
            token: "gt-UwB5vX9wJmQp3cZr7sTyAg.***".to_owned(),
            uidnumber: None,
            gidnumber: None,
            groups: Vec::new(),
        },
        business: BusinessData {
            name: "EmptyLoop".to_owned(),
            failure_count: 0,
            success_count: 15,
            refreshing: false,
            ..BusinessData::default()
        },
        replica: Some(replica(0)),
    }
}

fn flock() -> FlockName {
    "lambs".parse().expect("the example is a name")
}

fn replica(number: u32) -> InstanceId {
    number.to_string().parse().expect("digits are an instance ID")
}

fn monkey() -> MonkeyName {
    MonkeyName::new("bot-mobu-lambs-instance-0-1")
}

fn owner() -> Owner {
    Owner::new("5f0c1d7e9a3b4c62a8e1f4b7d2906c35")
}

fn session() -> SessionId {
    SessionId::new("c2b7f1e08d5a4390")
}

fn at() -> Timestamp {
    // 2026-11-22T12:00:00Z.
    Timestamp::from_second(1_795_348_800).expect("a time of this century")
}
