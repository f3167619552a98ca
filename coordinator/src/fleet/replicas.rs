//! What is known of each replica, and how well.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::desired::{Change, DesiredState};
use mobu_fleet::domain::ids::{FlockName, InstanceId, Revision};
use mobu_fleet::domain::line::Line;
use mobu_fleet::domain::messages::{FlockPhase, ReplicaOutcome, ReplicaPhase, Report, Standing};
use mobu_fleet::runtime::clock::Instant;
use serde::Serialize;

/// After how many report intervals without a report a replica is silent.
const SILENT_AFTER: u32 = 3;

/// How a replica is doing, as its reports show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// It reports, and acts on the newest state.
    Ready,
    /// It reports, and does not act on the newest state yet.
    Behind,
    /// It has not reported for three intervals.
    Silent,
    /// It is expected and was never heard of.
    Missing,
    /// It reports, and the fleet is smaller than its instance ID.
    Surplus,
}

/// One replica, as it was last heard of.
#[derive(Debug, Clone)]
pub struct Replica {
    /// Its last report.
    pub report: Arc<Report>,
    /// When that came.
    pub heard_at: Instant,
}

/// Every replica that was heard of.
#[derive(Debug, Clone)]
pub struct Replicas {
    heard: BTreeMap<InstanceId, Replica>,
    expected: u32,
    report_interval: Duration,
}

impl Replicas {
    /// Expects `expected` replicas that report every `report_interval`.
    pub fn new(expected: u32, report_interval: Duration) -> Self {
        Self {
            heard: BTreeMap::new(),
            expected,
            report_interval,
        }
    }

    /// Takes a report; one that was overtaken by a later one of the same session is dropped.
    ///
    /// Returns whether the report is news.
    pub fn hear(&mut self, mut report: Report, now: Instant) -> bool {
        if let Some(known) = self.heard.get(&report.instance_id)
            && known.report.session == report.session
        {
            if known.report.seq >= report.seq {
                return false;
            }
            keep_failures(&known.report, &mut report);
        }
        self.heard.insert(
            report.instance_id.clone(),
            Replica {
                report: Arc::new(report),
                heard_at: now,
            },
        );
        true
    }

    /// Forgets replicas that are silent and not expected: nothing is to be waited for from them.
    pub fn forget(&mut self, now: Instant) {
        let limit = self.report_interval * SILENT_AFTER;
        let expected = self.expected_ids();
        self.heard
            .retain(|id, replica| expected.contains(id) || now.saturating_duration_since(replica.heard_at) < limit);
    }

    /// How many replicas the configuration asks for.
    pub fn expected(&self) -> u32 {
        self.expected
    }

    /// Every replica that was heard of, by instance ID.
    pub fn heard(&self) -> &BTreeMap<InstanceId, Replica> {
        &self.heard
    }

    /// The instance IDs that the fleet should have: the first heard of that fit, filled up with the integers from 0.
    ///
    /// A StatefulSet names its replicas 0 to n-1. Whoever names them otherwise has no replica called by such an integer, and
    /// then whatever is heard of counts.
    pub fn expected_ids(&self) -> BTreeSet<InstanceId> {
        let ordinals = || (0..self.expected).filter_map(|index| index.to_string().parse().ok());
        let named_otherwise = |id: &&InstanceId| id.as_str().parse::<u32>().is_err();
        let others: BTreeSet<InstanceId> = self.heard.keys().filter(named_otherwise).cloned().collect();
        if others.is_empty() {
            return ordinals().collect();
        }
        let mut ids: BTreeSet<InstanceId> = others.into_iter().take(self.expected as usize).collect();
        let heard_ordinals = ordinals().filter(|id| self.heard.contains_key(id));
        for id in heard_ordinals.chain(ordinals()) {
            if ids.len() < self.expected as usize {
                ids.insert(id);
            }
        }
        ids
    }

    /// Returns every expected or heard replica with its state as of `now`.
    pub fn states(&self, newest: Option<&Standing>, now: Instant) -> BTreeMap<InstanceId, ReplicaState> {
        let expected = self.expected_ids();
        let missing = expected.iter().map(|id| (id.clone(), ReplicaState::Missing));
        let mut states: BTreeMap<_, _> = missing.collect();
        for (id, replica) in &self.heard {
            let age = now.saturating_duration_since(replica.heard_at);
            let state = if age > self.report_interval * SILENT_AFTER {
                ReplicaState::Silent
            } else if !expected.contains(id) {
                ReplicaState::Surplus
            } else if acts_on(&replica.report, newest) {
                ReplicaState::Ready
            } else {
                ReplicaState::Behind
            };
            states.insert(id.clone(), state);
        }
        states
    }

    /// Returns the replicas that can be asked now: those that report, surplus ones included, since they run monkeys too.
    pub fn alive(&self, now: Instant) -> BTreeSet<InstanceId> {
        let limit = self.report_interval * SILENT_AFTER;
        let alive = self
            .heard
            .iter()
            .filter(|(_, replica)| now.saturating_duration_since(replica.heard_at) <= limit);
        alive.map(|(id, _)| id.clone()).collect()
    }

    /// Returns whether every expected replica acts on the newest state and has all its flocks where they should be.
    pub fn converged(&self, desired: &DesiredState, newest: &Standing, now: Instant) -> bool {
        let states = self.states(Some(newest), now);
        // Flocks whose users nobody runs while a fleet is being scaled are not where they should be.
        let is_dealt_out = desired.flocks.values().all(|flock| flock.among != Some(0));
        is_dealt_out
            && states.iter().all(|(id, state)| match state {
                ReplicaState::Ready => self
                    .heard
                    .get(id)
                    .is_some_and(|replica| is_settled(&replica.report, desired)),
                ReplicaState::Surplus => true,
                ReplicaState::Behind | ReplicaState::Silent | ReplicaState::Missing => false,
            })
    }
}

fn acts_on(report: &Report, newest: Option<&Standing>) -> bool {
    let (Some(theirs), Some(newest)) = (&report.standing, newest) else {
        return false;
    };
    // Another state of the same revision is one that the log has lost.
    let is_there =
        theirs.revision > newest.revision || (theirs.revision == newest.revision && theirs.digest == newest.digest);
    report.phase == ReplicaPhase::Running && is_there
}

fn is_settled(report: &Report, desired: &DesiredState) -> bool {
    let wanted = desired.flocks.iter().all(|(name, flock)| {
        report.flocks.get(name).is_some_and(|runs| {
            let settled = matches!(runs.phase, FlockPhase::Running | FlockPhase::Ended);
            runs.generation == flock.generation && runs.refresh_generation >= flock.refresh_generation && settled
        })
    });
    wanted && report.flocks.keys().all(|name| desired.flocks.contains_key(name))
}

/// Returns what one replica has made of a change, by its last report.
///
/// `desired` is the newest state: where it has moved on, the change counts as applied, for nobody waits for it any more. `line`
/// is what that state descends from: the same number in a line that the log has lost is another change.
pub fn outcome(
    report: &Report,
    revision: Revision,
    change: &Change,
    desired: &DesiredState,
    line: &Line,
) -> ReplicaOutcome {
    let acts = report
        .standing
        .as_ref()
        .is_some_and(|standing| standing.revision >= revision && line.holds(standing) != Some(false));
    if !acts {
        return ReplicaOutcome::Pending;
    }
    let each: Vec<ReplicaOutcome> = match change {
        Change::Start { flock } => vec![started(report, revision, flock, desired)],
        Change::Stop { flocks } => flocks.iter().map(|flock| stopped(report, revision, flock)).collect(),
        Change::Refresh { flocks, .. } => flocks
            .iter()
            .map(|flock| refreshed(report, revision, flock, desired))
            .collect(),
        Change::Autostart {
            started: starts,
            stopped: stops,
        } => starts
            .iter()
            .map(|flock| started(report, revision, flock, desired))
            .chain(stops.iter().map(|flock| stopped(report, revision, flock)))
            .collect(),
        Change::Begin | Change::Takeover | Change::Recover => Vec::new(),
    };
    let failed = each
        .iter()
        .find(|outcome| matches!(outcome, ReplicaOutcome::Failed { .. }));
    let pending = each.iter().find(|outcome| matches!(outcome, ReplicaOutcome::Pending));
    failed.or(pending).cloned().unwrap_or(ReplicaOutcome::Applied)
}

fn started(report: &Report, revision: Revision, flock: &FlockName, desired: &DesiredState) -> ReplicaOutcome {
    if desired
        .flocks
        .get(flock)
        .is_none_or(|newest| newest.generation > revision)
    {
        return ReplicaOutcome::Applied;
    }
    match report.flocks.get(flock) {
        Some(runs) if runs.generation >= revision => match runs.phase {
            FlockPhase::Running | FlockPhase::Ended => ReplicaOutcome::Applied,
            FlockPhase::Failed => ReplicaOutcome::Failed {
                error: runs.error.clone().unwrap_or_else(|| "it did not start".to_owned()),
            },
            FlockPhase::Starting | FlockPhase::Stopping => ReplicaOutcome::Pending,
        },
        _ => ReplicaOutcome::Pending,
    }
}

fn stopped(report: &Report, revision: Revision, flock: &FlockName) -> ReplicaOutcome {
    match report.flocks.get(flock) {
        Some(runs) if runs.generation <= revision => ReplicaOutcome::Pending,
        _ => ReplicaOutcome::Applied,
    }
}

fn refreshed(report: &Report, revision: Revision, flock: &FlockName, desired: &DesiredState) -> ReplicaOutcome {
    if !desired.flocks.contains_key(flock) {
        return ReplicaOutcome::Applied;
    }
    match report.flocks.get(flock) {
        Some(runs) if runs.refresh_generation >= revision => ReplicaOutcome::Applied,
        _ => ReplicaOutcome::Pending,
    }
}

/// Takes over what a report of the same session leaves out because it is as before.
fn keep_failures(before: &Report, report: &mut Report) {
    for (name, flock) in &mut report.flocks {
        if flock.failures.is_none()
            && let Some(known) = before.flocks.get(name)
            && known.generation == flock.generation
        {
            flock.failures.clone_from(&known.failures);
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use mobu_fleet::domain::ids::{Epoch, Owner, SessionId};
    use mobu_fleet::domain::messages::{Failures, FlockReport, ProcessFigures, SCHEMA};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn standing(revision: u64) -> Standing {
        Standing {
            epoch: Epoch(1),
            revision: Revision(revision),
            digest: String::new(),
            owner: None,
        }
    }

    fn report(id: &str, seq: u64, revision: u64) -> Report {
        Report {
            schema: SCHEMA,
            instance_id: id.parse().unwrap(),
            session: SessionId::new("s"),
            seq,
            version: "1".to_owned(),
            started_at: Timestamp::UNIX_EPOCH,
            phase: ReplicaPhase::Running,
            replica_count: 3,
            standing: Some(standing(revision)),
            flocks: BTreeMap::new(),
            process: ProcessFigures::default(),
        }
    }

    fn flock(generation: u64, phase: FlockPhase) -> FlockReport {
        FlockReport {
            generation: Revision(generation),
            refresh_generation: Revision(generation),
            phase,
            business: "EmptyLoop".to_owned(),
            monkeys: BTreeMap::new(),
            success_count: 0,
            failure_count: 0,
            start_time: None,
            error: None,
            failures: None,
        }
    }

    fn states(replicas: &Replicas, revision: u64, now: Instant) -> Vec<(String, ReplicaState)> {
        let states = replicas.states(Some(&standing(revision)), now);
        states.into_iter().map(|(id, state)| (id.to_string(), state)).collect()
    }

    #[test]
    fn failures_are_kept_until_others_are_reported_or_the_flock_begins_anew() {
        let now = Instant::now();
        let mut replicas = Replicas::new(1, SECOND);
        let told = Failures {
            causes: Vec::new(),
            others: 7,
        };
        let mut hear = |seq, generation, failures: Option<&Failures>| {
            let flock = FlockReport {
                failures: failures.cloned(),
                ..flock(generation, FlockPhase::Running)
            };
            let report = Report {
                flocks: BTreeMap::from([("a".parse().unwrap(), flock)]),
                ..report("0", seq, 5)
            };
            replicas.hear(report, now);
            replicas.heard()["0"].report.flocks["a"].failures.clone()
        };
        assert_eq!(hear(1, 5, Some(&told)), Some(told.clone()));
        assert_eq!(hear(2, 5, None), Some(told.clone()));
        assert_eq!(hear(3, 5, Some(&Failures::default())), Some(Failures::default()));
        assert_eq!(hear(4, 5, Some(&told)), Some(told));
        assert_eq!(hear(5, 6, None), None, "another generation has failures of its own");
    }

    #[test]
    fn each_state_is_told_from_reports_alone() {
        let now = Instant::now();
        let mut replicas = Replicas::new(3, SECOND);
        for (id, revision) in [("0", 5), ("1", 4), ("7", 5)] {
            replicas.hear(report(id, 0, revision), now);
        }
        let expected = [
            ("0", ReplicaState::Ready),
            ("1", ReplicaState::Behind),
            ("2", ReplicaState::Missing),
            ("7", ReplicaState::Surplus),
        ];
        assert_eq!(
            states(&replicas, 5, now),
            expected.map(|(id, state)| (id.to_owned(), state))
        );
        let late = states(&replicas, 5, now + SECOND * 4);
        assert_eq!(late[0].1, ReplicaState::Silent);
        assert_eq!(late[2].1, ReplicaState::Missing);
        replicas.forget(now + SECOND * 61);
        assert_eq!(replicas.heard().len(), 2, "expected ones are remembered");
    }

    #[test]
    fn replicas_with_names_of_their_own_are_the_expected_ones() {
        let mut replicas = Replicas::new(2, SECOND);
        let now = Instant::now();
        replicas.hear(report("blue", 0, 1), now);
        let ids: Vec<_> = replicas.expected_ids().into_iter().map(String::from).collect();
        assert_eq!(ids, ["0", "blue"]);
        replicas.hear(report("green", 0, 1), now);
        assert!(
            states(&replicas, 1, now)
                .iter()
                .all(|(_, state)| *state == ReplicaState::Ready)
        );
    }

    #[test]
    fn an_overtaken_report_is_dropped_and_a_new_session_begins_anew() {
        let now = Instant::now();
        let mut replicas = Replicas::new(1, SECOND);
        assert!(replicas.hear(report("0", 5, 2), now));
        assert!(!replicas.hear(report("0", 5, 1), now));
        let mut restarted = report("0", 0, 1);
        restarted.session = SessionId::new("t");
        assert!(replicas.hear(restarted, now));
    }

    #[test]
    fn a_start_is_applied_when_the_flock_runs_and_failed_when_it_cannot() {
        let change = Change::Start {
            flock: "a".parse().unwrap(),
        };
        let mut desired = DesiredState::default();
        let changed =
            |report: &Report, desired: &DesiredState| outcome(report, Revision(5), &change, desired, &Line::default());
        let mut report = report("0", 0, 5);
        assert_eq!(
            changed(&report, &desired),
            ReplicaOutcome::Applied,
            "nobody wants the flock any more"
        );
        let config = mobu_fleet::domain::flock::FlockConfig::parse(&serde_json::json!({
            "name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
            "business": {"type": "EmptyLoop"},
        }))
        .unwrap();
        desired.revision = Revision(4);
        let start = mobu_fleet::domain::desired::Command::Start(Box::new(config));
        desired = desired.apply(&start, Timestamp::UNIX_EPOCH).unwrap().unwrap().state;
        assert_eq!(changed(&report, &desired), ReplicaOutcome::Pending);
        report
            .flocks
            .insert("a".parse().unwrap(), flock(5, FlockPhase::Starting));
        assert_eq!(changed(&report, &desired), ReplicaOutcome::Pending);
        report
            .flocks
            .insert("a".parse().unwrap(), flock(5, FlockPhase::Running));
        assert_eq!(changed(&report, &desired), ReplicaOutcome::Applied);
        report.flocks.insert("a".parse().unwrap(), flock(5, FlockPhase::Failed));
        assert!(matches!(changed(&report, &desired), ReplicaOutcome::Failed { .. }));
        report
            .flocks
            .insert("a".parse().unwrap(), flock(5, FlockPhase::Running));
        let lost = Standing {
            owner: Some(Owner::new("replaced")),
            ..standing(5)
        };
        report.standing = Some(lost);
        assert_eq!(
            changed(&report, &desired),
            ReplicaOutcome::Pending,
            "the same number in another line"
        );
        report.standing = Some(standing(4));
        assert_eq!(changed(&report, &desired), ReplicaOutcome::Pending);
    }

    #[test]
    fn a_stop_is_applied_when_the_flock_is_gone() {
        let change = Change::Stop {
            flocks: vec!["a".parse().unwrap()],
        };
        let desired = DesiredState::default();
        let mut report = report("0", 0, 5);
        report
            .flocks
            .insert("a".parse().unwrap(), flock(4, FlockPhase::Stopping));
        assert_eq!(
            outcome(&report, Revision(5), &change, &desired, &Line::default()),
            ReplicaOutcome::Pending
        );
        report.flocks.clear();
        assert_eq!(
            outcome(&report, Revision(5), &change, &desired, &Line::default()),
            ReplicaOutcome::Applied
        );
    }
}
