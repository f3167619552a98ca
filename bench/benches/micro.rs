//! What is done for every change, report and start, in the small: `cargo bench -p fleet-bench`.

use std::collections::BTreeMap;
use std::hint::black_box;

use divan::Bencher;
use mobu_fleet::domain::desired::{Change, Command, DesiredState};
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::{Epoch, Owner, Revision, SessionId};
use mobu_fleet::domain::messages::{
    EntryKind, FlockPhase, FlockReport, LogEntry, ProcessFigures, ReplicaPhase, Report, SCHEMA, Source, Wire,
};
use mobu_fleet::domain::monkey::MonkeyState;
use mobu_fleet::domain::reconcile::{ActualFlock, reconcile};
use mobu_fleet::domain::users::{ReplicaIdentity, users_of};
use mobu_fleet::runtime::clock;
use serde_json::json;

fn main() {
    divan::main();
}

/// Sizes of a fleet's desired state, in flocks.
const FLOCKS: [u64; 3] = [1, 10, 100];

fn flock(number: u64, count: u64) -> FlockConfig {
    let flock = json!({
        "name": format!("flock-{number}"), "count": count, "scopes": ["read:image"],
        "user_spec": {"username_prefix": format!("bot-mobu-f{number}x")},
        "business": {"type": "EmptyLoop", "options": {"idle_time": 1}},
    });
    FlockConfig::parse(&flock).expect("a right flock")
}

fn desired(flocks: u64) -> DesiredState {
    (0..flocks).fold(DesiredState::default(), |state, number| {
        let start = Command::Start(Box::new(flock(number, 10)));
        let changed = state.apply(&start, clock::wall()).expect("a start is possible");
        changed.expect("a start changes something").state
    })
}

fn entry(flocks: u64) -> LogEntry {
    let state = desired(flocks);
    LogEntry {
        schema: SCHEMA,
        epoch: Epoch(7),
        owner: Owner::new("0123456789abcdef0123456789abcdef"),
        seq: 12,
        kind: EntryKind::State,
        revision: state.revision,
        state: Some(state),
        digest: Some("0123456789abcdef".to_owned()),
        change: Some(Change::Takeover),
        request_ids: std::collections::VecDeque::new(),
        line: None,
        by: "somebody".to_owned(),
        source: Source::Http,
        at: clock::wall(),
    }
}

fn report(flocks: u64) -> Report {
    let flocks = (0..flocks).map(|number| {
        let flock = FlockReport {
            generation: Revision(number),
            refresh_generation: Revision(number),
            phase: FlockPhase::Running,
            business: "EmptyLoop".to_owned(),
            monkeys: BTreeMap::from([(MonkeyState::Running, 10)]),
            success_count: 123_456,
            failure_count: 7,
            start_time: Some(clock::wall()),
            error: None,
            failures: None,
        };
        (format!("flock-{number}").parse().expect("a right name"), flock)
    });
    Report {
        schema: SCHEMA,
        instance_id: "17".parse().expect("a right instance ID"),
        session: SessionId::new("0123456789abcdef"),
        seq: 99,
        version: "1.0.0".to_owned(),
        started_at: clock::wall(),
        phase: ReplicaPhase::Running,
        replica_count: 50,
        standing: None,
        flocks: flocks.collect(),
        process: ProcessFigures::default(),
    }
}

#[divan::bench(args = FLOCKS)]
fn reconcile_one_refresh(bencher: Bencher<'_, '_>, flocks: u64) {
    let before = desired(flocks);
    let actual: BTreeMap<_, _> = before
        .flocks
        .iter()
        .map(|(name, flock)| {
            let actual = ActualFlock {
                generation: flock.generation,
                refresh_generation: flock.refresh_generation,
            };
            (name.clone(), actual)
        })
        .collect();
    let name = before.flocks.keys().next().expect("there is a flock").clone();
    let refreshed = before
        .apply(&Command::Refresh(name), clock::wall())
        .expect("the flock is there");
    let after = refreshed.expect("a refresh changes something").state;
    bencher.bench(|| reconcile(black_box(&after), black_box(&actual)));
}

#[divan::bench(args = FLOCKS)]
fn write_an_entry(bencher: Bencher<'_, '_>, flocks: u64) {
    let entry = entry(flocks);
    bencher.bench(|| black_box(&entry).encode());
}

#[divan::bench(args = FLOCKS)]
fn read_an_entry(bencher: Bencher<'_, '_>, flocks: u64) {
    let bytes = entry(flocks).encode();
    bencher.bench(|| LogEntry::read(black_box(&bytes)));
}

#[divan::bench(args = FLOCKS)]
fn write_a_report(bencher: Bencher<'_, '_>, flocks: u64) {
    let report = report(flocks);
    bencher.bench(|| black_box(&report).encode());
}

#[divan::bench(args = FLOCKS)]
fn read_a_report(bencher: Bencher<'_, '_>, flocks: u64) {
    let bytes = report(flocks).encode();
    bencher.bench(|| Report::decode(Report::KIND, black_box(&bytes)));
}

#[divan::bench(args = [10, 1000, 100_000])]
fn name_users(bencher: Bencher<'_, '_>, count: u64) {
    let flock = flock(1, count);
    let identity = ReplicaIdentity {
        instance_id: Some("3".parse().expect("a right instance ID")),
        replica_count: 10,
    };
    bencher.bench(|| users_of(black_box(&flock), black_box(&identity)));
}
