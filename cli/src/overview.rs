//! The fleet as people read it. Whatever the fleet did not say is shown as unknown.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mobu_fleet::domain::messages::{FailureCause, Failures};
use serde::Deserialize;
use serde_json::Value;

use crate::failure::printable;
use crate::table::{UNKNOWN, age, counted, known, mebibytes, render};

/// What `GET /fleet` says, as far as it is shown. Everything may be absent: it is another process, perhaps of another version.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Fleet {
    #[serde(rename = "fleet")]
    name: Option<String>,
    epoch: Option<u64>,
    revision: Option<u64>,
    converged: Option<bool>,
    coordinator: Option<Coordinator>,
    standbys: Option<Vec<serde_json::Value>>,
    replica_count: Option<u64>,
    replicas: BTreeMap<String, Option<u64>>,
    overloaded: Option<Vec<String>>,
    flocks: Option<u64>,
    monkeys: Option<u64>,
    link: Option<Link>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Coordinator {
    session: Option<String>,
    active: Option<bool>,
    stage: Option<String>,
    version: Option<String>,
}

impl Coordinator {
    /// What it is: one that does not lead may wait for that, or be on its way, or have no session with the broker.
    fn role(&self) -> &str {
        match (self.active, &self.stage) {
            (Some(true), _) => "active",
            (Some(false), Some(stage)) => stage,
            (Some(false), None) => "standby",
            (None, _) => UNKNOWN,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Link {
    state: Option<String>,
    detail: Option<String>,
}

/// One element of `GET /replicas`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Replica {
    instance_id: Option<String>,
    state: Option<String>,
    phase: Option<String>,
    applied_revision: Option<u64>,
    report_age: Option<f64>,
    started_at: Option<Timestamp>,
    flocks: Option<BTreeMap<String, FlockOnReplica>>,
    process: Option<Process>,
    error: Option<String>,
}

/// State of a replica whose last report says nothing about now.
const SILENT: &str = "silent";

/// Phase of a flock that runs, if anything of it does.
const RUNNING: &str = "running";
/// States of monkeys that do nothing any more while their flock runs: those that failed for good stop at the first of them.
const OVER: [&str; 2] = ["STOPPING", "FINISHED"];

impl Replica {
    /// Whether what it reported last still holds.
    fn is_current(&self) -> bool {
        self.state.as_deref() != Some(SILENT)
    }

    /// Its flocks, if what is known of them still holds.
    fn current_flocks(&self) -> Option<&BTreeMap<String, FlockOnReplica>> {
        self.flocks.as_ref().filter(|_| self.is_current())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FlockOnReplica {
    phase: Option<String>,
    monkeys: Option<BTreeMap<String, u64>>,
    error: Option<String>,
    /// As [`Failures`], if it is from a version that says so in the same way.
    failures: Option<Value>,
}

impl FlockOnReplica {
    /// Returns how many of its monkeys have ended for good although it runs, and how many there are.
    fn ended(&self) -> Option<(u64, u64)> {
        let monkeys = self
            .monkeys
            .as_ref()
            .filter(|_| self.phase.as_deref() == Some(RUNNING))?;
        let ended = OVER.iter().filter_map(|state| monkeys.get(*state)).sum();
        (ended > 0).then(|| (ended, monkeys.values().sum()))
    }

    /// What it does, in a word.
    fn doing(&self) -> &str {
        match self.ended() {
            Some((ended, all)) if ended == all => "all monkeys ended",
            _ => self.phase.as_deref().unwrap_or(UNKNOWN),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Process {
    cpu: Option<f64>,
    rss_bytes: Option<u64>,
    lag_ms: Option<f64>,
    lateness: Option<Lateness>,
    overloaded: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lateness {
    p99_ms: Option<f64>,
}

/// How many causes of failures are shown of each flock.
const TOP_CAUSES: usize = 3;

/// What `GET /summary` says.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Summary {
    flocks: Vec<FlockSummary>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FlockSummary {
    name: String,
    business: Option<String>,
    monkey_count: Option<u64>,
    success_count: Option<u64>,
    failure_count: Option<u64>,
    start_time: Option<Timestamp>,
}

/// Writes the fleet, its replicas and its flocks, and what is wrong with them.
pub(crate) fn write(fleet: &Fleet, replicas: &[Replica], summary: &Summary, now: Timestamp) -> String {
    let parts = [
        heading(fleet),
        replica_table(replicas, now),
        flock_table(&summary.flocks, replicas, now),
    ];
    parts.join("\n\n") + &errors(replicas) + &causes(replicas, now)
}

fn heading(fleet: &Fleet) -> String {
    let converged = match fleet.converged {
        Some(true) => "converged",
        Some(false) => "not converged",
        None => "convergence ?",
    };
    let mut replicas = format!(
        "{} of {} replicas ready",
        known(fleet.replicas.get("ready").copied().flatten()),
        known(fleet.replica_count),
    );
    for state in ["behind", "silent", "missing", "surplus"] {
        if let Some(Some(count @ 1..)) = fleet.replicas.get(state) {
            replicas = format!("{replicas}, {count} {state}");
        }
    }
    if let Some(overloaded @ [_, ..]) = fleet.overloaded.as_deref() {
        replicas = format!("{replicas}, {} overloaded", overloaded.len());
    }
    let standbys = fleet.standbys.as_ref().map_or_else(
        || "standbys ?".to_owned(),
        |standbys| counted(standbys.len(), "standby"),
    );
    let mut link = known(fleet.link.as_ref().and_then(|link| link.state.as_ref()));
    if let Some(detail) = fleet.link.as_ref().and_then(|link| link.detail.as_ref()) {
        link = format!("{link} ({detail})");
    }
    let coordinator = fleet.coordinator.as_ref();
    format!(
        "Fleet {name}: {converged} at revision {revision} (epoch {epoch}); {replicas}; flocks {flocks}, monkeys {monkeys}\n\
         Coordinator {session} {version} ({role}); {standbys}; link {link}",
        name = known(fleet.name.as_ref()),
        revision = known(fleet.revision),
        epoch = known(fleet.epoch),
        flocks = known(fleet.flocks),
        monkeys = known(fleet.monkeys),
        session = known(coordinator.and_then(|process| process.session.as_ref())),
        version = known(coordinator.and_then(|process| process.version.as_ref())),
        role = coordinator.map_or(UNKNOWN, Coordinator::role),
    )
}

fn replica_table(replicas: &[Replica], now: Timestamp) -> String {
    let rows = replicas
        .iter()
        .map(|replica| {
            let process = replica.process.as_ref().filter(|_| replica.is_current());
            let flocks = replica.current_flocks();
            vec![
                known(replica.instance_id.as_ref()),
                state(replica),
                known(replica.phase.as_ref().filter(|_| replica.is_current())),
                known(replica.applied_revision),
                age(replica.report_age),
                age(replica
                    .started_at
                    .filter(|_| replica.is_current())
                    .map(|at| since(at, now))),
                known(flocks.map(BTreeMap::len)),
                known(flocks.and_then(monkeys)),
                known(
                    process
                        .and_then(|process| process.cpu)
                        .map(|share| format!("{:.1}%", share * 100.0)),
                ),
                mebibytes(process.and_then(|process| process.rss_bytes)),
                known(
                    process
                        .and_then(|process| process.lag_ms)
                        .map(|lag| format!("{lag:.1}ms")),
                ),
                known(
                    process
                        .and_then(|process| process.lateness.as_ref()?.p99_ms)
                        .map(|late| format!("{late:.1}ms")),
                ),
            ]
        })
        .collect();
    let heading = [
        "REPLICA", "STATE", "PHASE", "REVISION", "REPORT", "UP", "FLOCKS", "MONKEYS", "CPU", "MEMORY", "LAG", "LATE",
    ];
    render(&heading, &[3, 4, 5, 6, 7, 8, 9, 10, 11], rows)
}

/// Returns a replica's state, and whether what it measures may be its own slowness.
fn state(replica: &Replica) -> String {
    let state = known(replica.state.as_ref());
    let process = replica.process.as_ref().filter(|_| replica.is_current());
    match process.and_then(|process| process.overloaded) {
        Some(true) => format!("{state}, overloaded"),
        _ => state,
    }
}

/// Adds up a replica's monkeys; unknown if one flock's are.
fn monkeys(flocks: &BTreeMap<String, FlockOnReplica>) -> Option<u64> {
    flocks
        .values()
        .map(|flock| flock.monkeys.as_ref().map(|monkeys| monkeys.values().sum::<u64>()))
        .sum()
}

fn flock_table(flocks: &[FlockSummary], replicas: &[Replica], now: Timestamp) -> String {
    if flocks.is_empty() {
        return "No flock runs.".to_owned();
    }
    let rows = flocks
        .iter()
        .map(|flock| {
            // What no replica tells now is not zero.
            let told = replicas.iter().any(|replica| replica.current_flocks().is_some());
            let told = |figure: Option<u64>| known(figure.filter(|_| told));
            vec![
                flock.name.clone(),
                known(flock.business.as_ref()),
                told(flock.monkey_count),
                told(flock.success_count),
                told(flock.failure_count),
                // A flock without a start time is known not to have started everywhere.
                flock
                    .start_time
                    .map_or_else(|| "-".to_owned(), |at| age(Some(since(at, now)))),
                phases(&flock.name, replicas),
            ]
        })
        .collect();
    let heading = [
        "FLOCK",
        "BUSINESS",
        "MONKEYS",
        "SUCCESSES",
        "FAILURES",
        "UP",
        "REPLICAS",
    ];
    render(&heading, &[2, 3, 4, 5], rows)
}

/// Counts the replicas by what a flock does there, as in `2 running, 1 ?`.
fn phases(flock: &str, replicas: &[Replica]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for replica in replicas {
        let phase = match replica.current_flocks() {
            None if replica.state.as_deref() == Some(SILENT) => SILENT,
            None => UNKNOWN,
            Some(flocks) => flocks.get(flock).map_or("absent", FlockOnReplica::doing),
        };
        *counts.entry(phase).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(phase, count)| (std::cmp::Reverse(*count), *phase));
    let parts: Vec<String> = counts.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
    parts.join(", ")
}

/// Names what went wrong on replicas, one thing a line, behind an empty line; nothing if nothing did.
fn errors(replicas: &[Replica]) -> String {
    let mut lines = Vec::new();
    for replica in replicas {
        let id = known(replica.instance_id.as_ref());
        lines.extend(replica.error.iter().map(|error| format!("\nReplica {id}: {error}")));
        for (name, flock) in replica.flocks.iter().flatten() {
            let error = flock.error.iter();
            lines.extend(error.map(|error| format!("\nFlock {name} on replica {id}: {error}")));
            if let Some((ended, all)) = flock.ended().filter(|_| replica.is_current()) {
                let line = format!("\nFlock {name} on replica {id}: {ended} of {all} monkeys failed for good");
                lines.push(line + ", and stay so until the flock is started anew");
            }
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    printable(&format!("\n{}", lines.concat()))
}

/// Names the causes of each flock's latest failures, over all replicas, behind an empty line; nothing if none failed.
fn causes(replicas: &[Replica], now: Timestamp) -> String {
    let mut flocks = BTreeMap::<&str, Vec<Failures>>::new();
    for (name, flock) in replicas.iter().filter_map(Replica::current_flocks).flatten() {
        let failures = flock.failures.as_ref();
        let failures = failures.and_then(|failures| Failures::deserialize(failures).ok());
        flocks.entry(name).or_default().extend(failures);
    }
    let mut lines = Vec::new();
    for (name, told) in flocks {
        let Failures { causes, others } = Failures::sum(&told);
        let shown = causes.iter().take(TOP_CAUSES);
        lines.extend(shown.map(|cause| format!("\nFlock {name} failed {}", cause_line(cause, now))));
        let rest = others + causes.iter().skip(TOP_CAUSES).map(|cause| cause.count).sum::<u64>();
        if rest > 0 {
            lines.push(format!("\nFlock {name} failed {rest}x for other reasons"));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    printable(&format!("\n{}", lines.concat()))
}

fn cause_line(cause: &FailureCause, now: Timestamp) -> String {
    let status = cause.status.map_or_else(String::new, |status| format!(" {status}"));
    let mut line = format!("{}x with {}{status}", cause.count, cause.kind);
    let places = [
        ("in", &cause.phase),
        ("at", &cause.url),
        ("of", &cause.notebook),
        ("cell", &cause.cell),
    ];
    for (word, place) in places {
        if let Some(place) = place {
            line = format!("{line} {word} {place}");
        }
    }
    format!(
        "{line}, last {} ago: {}",
        age(Some(since(cause.last_at, now))),
        cause.example.replace('\n', " ")
    )
}

fn since(at: Timestamp, now: Timestamp) -> f64 {
    now.duration_since(at).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use serde_json::json;

    use super::*;

    const NOW: &str = "2026-01-02T03:04:05Z";

    fn replicas() -> Vec<Replica> {
        serde_json::from_value(json!([
            {"instance_id": "0", "state": "ready", "session": "s", "version": "0.1.0", "phase": "running", "applied_revision": 17,
             "report_age": 0.42, "started_at": "2026-01-02T01:00:00Z",
             "flocks": {"lambs": {"phase": "running", "monkeys": {"RUNNING": 3, "ERROR": 1}, "error": null, "failures": failures(5)},
                        "goats": {"phase": "failed", "monkeys": {}, "error": "no token for bot-mobu-goat-instance-0-1"}},
             "process": {"cpu": 0.021, "rss_bytes": 15_000_000, "lag_ms": 0.3, "lateness": {"p99_ms": 1.24},
                         "overloaded": true}, "error": null},
            {"instance_id": "1", "state": "silent", "phase": "running", "applied_revision": 16, "report_age": 75.0,
             "started_at": null, "flocks": {"lambs": {"phase": "starting"}}, "process": {}, "error": "connection lost"},
            {"instance_id": "2", "state": "missing", "phase": null, "applied_revision": null, "report_age": null,
             "started_at": null, "flocks": null, "process": null, "error": null}]))
        .unwrap()
    }

    #[test]
    fn what_is_unknown_of_a_replica_is_a_question_mark() {
        assert_snapshot!(replica_table(&replicas(), NOW.parse().unwrap()), @r"
        REPLICA  STATE              PHASE    REVISION  REPORT     UP  FLOCKS  MONKEYS   CPU   MEMORY    LAG   LATE
        0        ready, overloaded  running        17    0.4s  2h04m       2        4  2.1%  14.3MiB  0.3ms  1.2ms
        1        silent             ?              16   1m15s      ?       ?        ?     ?        ?      ?      ?
        2        missing            ?               ?       ?      ?       ?        ?     ?        ?      ?      ?
        ");
    }

    #[test]
    fn flocks_are_shown_with_what_they_do_where() {
        let flocks: Vec<FlockSummary> = serde_json::from_value(json!([
            {"business": "EmptyLoop", "failure_count": 1, "monkey_count": 4, "name": "lambs", "start_time": "2026-01-01T00:00:00Z", "success_count": 1200},
            {"business": "HTTPRunner", "failure_count": 0, "monkey_count": 0, "name": "goats", "start_time": null, "success_count": 0}]))
        .unwrap();
        assert_snapshot!(flock_table(&flocks, &replicas(), NOW.parse().unwrap()), @r"
        FLOCK  BUSINESS    MONKEYS  SUCCESSES  FAILURES     UP  REPLICAS
        lambs  EmptyLoop         4       1200         1  1d03h  1 ?, 1 running, 1 silent
        goats  HTTPRunner        0          0         0      -  1 ?, 1 failed, 1 silent
        ");
        assert_snapshot!(errors(&replicas()).trim_start(), @r"
        Flock goats on replica 0: no token for bot-mobu-goat-instance-0-1
        Replica 1: connection lost
        ");
        assert_eq!(flock_table(&[], &[], NOW.parse().unwrap()), "No flock runs.");
    }

    #[test]
    fn a_flock_whose_monkeys_have_all_ended_is_not_called_running() {
        let replica = |id: &str, state: &str, monkeys: Value| {
            let flocks = json!({"lambs": {"phase": "running", "monkeys": monkeys}});
            serde_json::from_value(json!({"instance_id": id, "state": state, "flocks": flocks})).unwrap()
        };
        let replicas = [
            replica("0", "ready", json!({"STOPPING": 2})),
            replica("1", "ready", json!({"STOPPING": 1, "RUNNING": 3})),
            replica("2", "ready", json!({"RUNNING": 4})),
            replica("3", "silent", json!({"STOPPING": 4})),
        ];
        assert_eq!(phases("lambs", &replicas), "2 running, 1 all monkeys ended, 1 silent");
        assert_snapshot!(errors(&replicas).trim_start(), @r"
        Flock lambs on replica 0: 2 of 2 monkeys failed for good, and stay so until the flock is started anew
        Flock lambs on replica 1: 1 of 4 monkeys failed for good, and stay so until the flock is started anew
        ");
    }

    fn failures(count: u64) -> Value {
        let causes: Vec<_> = (0..count)
            .map(|number| {
                json!({"kind": "status", "phase": "request", "status": 500 + number, "url": "http://x.test/a", "count": number + 1,
                       "last_at": format!("2026-01-02T03:04:0{number}Z"), "example": "it said \u{1b}no"})
            })
            .collect();
        json!({"causes": causes, "others": 7})
    }

    #[test]
    fn the_latest_causes_of_failures_are_told() {
        assert_snapshot!(causes(&replicas(), NOW.parse().unwrap()).trim_start(), @r"
        Flock lambs failed 5x with status 504 in request at http://x.test/a, last 1.0s ago: it said  no
        Flock lambs failed 4x with status 503 in request at http://x.test/a, last 2.0s ago: it said  no
        Flock lambs failed 3x with status 502 in request at http://x.test/a, last 3.0s ago: it said  no
        Flock lambs failed 10x for other reasons
        ");
        assert_eq!(causes(&[], NOW.parse().unwrap()), "");
    }

    #[test]
    fn the_heading_names_only_states_that_occur() {
        let fleet = json!({"fleet": "mobu", "epoch": 3, "revision": 17, "converged": false,
            "coordinator": {"session": "5f2c", "active": true, "version": "0.1.0"}, "standbys": [{"session": "77aa"}],
            "replica_count": 3, "replicas": {"ready": 1, "behind": 0, "silent": 1, "missing": 1, "surplus": 0},
            "overloaded": ["0"], "flocks": 2, "monkeys": 8, "link": {"state": "connected", "detail": null}});
        assert_snapshot!(heading(&serde_json::from_value(fleet).unwrap()), @r"
        Fleet mobu: not converged at revision 17 (epoch 3); 1 of 3 replicas ready, 1 silent, 1 missing, 1 overloaded; flocks 2, monkeys 8
        Coordinator 5f2c 0.1.0 (active); 1 standby; link connected
        ");
        let fleet = json!({"fleet": "mobu", "epoch": 3, "revision": 17, "converged": false,
            "coordinator": {"session": "5f2c", "active": false, "stage": "offline", "version": "0.1.0"}, "standbys": [],
            "replica_count": 2, "replicas": {"ready": 0, "behind": 0, "silent": 2, "missing": 0, "surplus": 0},
            "flocks": 1, "monkeys": null, "link": {"state": "closed", "detail": "it is gone"}});
        assert_snapshot!(heading(&serde_json::from_value(fleet).unwrap()), @r"
        Fleet mobu: not converged at revision 17 (epoch 3); 0 of 2 replicas ready, 2 silent; flocks 1, monkeys ?
        Coordinator 5f2c 0.1.0 (offline); 0 standbys; link closed (it is gone)
        ");
        assert_snapshot!(heading(&Fleet::default()), @r"
        Fleet ?: convergence ? at revision ? (epoch ?); ? of ? replicas ready; flocks ?, monkeys ?
        Coordinator ? ? (?); standbys ?; link ?
        ");
    }
}
