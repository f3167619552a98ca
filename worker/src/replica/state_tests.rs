use std::collections::VecDeque;

use mobu_fleet::domain::desired::DesiredState;
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::Owner;
use mobu_fleet::domain::line::Line;
use mobu_fleet::domain::messages::{EntryHeader, EntryKind, LogEntry, SCHEMA, Source, Standing};
use serde_json::json;

use super::*;

/// A replica with a clock of its own.
struct Bench {
    state: ReplicaState,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        Self {
            state: ReplicaState::new(Duration::from_secs(25)),
            now: Instant::now(),
        }
    }

    /// A replica that has read revision 1 with flock `a` and acts on it.
    fn running() -> Self {
        let mut bench = Self::new();
        bench.on(ReplicaEvent::Opened);
        bench.on(announced(1, 1, 10));
        bench.on(read(10, entry(1, 1, Some(state(1, &[("a", 1)])))));
        assert_eq!(bench.state.phase(), ReplicaPhase::Running);
        bench
    }

    fn on(&mut self, event: ReplicaEvent) -> Vec<Effect> {
        let mut effects = self.state.handle(event, self.now);
        effects.retain(|effect| !matches!(effect, Effect::Report | Effect::Contact));
        effects
    }

    fn after(&mut self, seconds: u64) -> Vec<Effect> {
        self.now += Duration::from_secs(seconds);
        self.on(ReplicaEvent::Tick)
    }
}

fn state(revision: u64, flocks: &[(&str, u64)]) -> DesiredState {
    let flock = |(name, generation): &(&str, u64)| {
        let config = FlockConfig::parse(&json!({
            "name": name, "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"}, "scopes": [],
            "business": {"type": "EmptyLoop"},
        }));
        let flock = DesiredFlock {
            config: config.unwrap(),
            generation: Revision(*generation),
            refresh_generation: Revision(*generation),
            since: jiff::Timestamp::UNIX_EPOCH,
            autostart: None,
            by_autostart: false,
            among: None,
            was_among: None,
        };
        (name.parse().unwrap(), flock)
    };
    DesiredState {
        revision: Revision(revision),
        flocks: flocks.iter().map(flock).collect(),
        ..DesiredState::default()
    }
}

fn entry(epoch: u64, owner: u8, state: Option<DesiredState>) -> LogEntry {
    LogEntry {
        schema: SCHEMA,
        epoch: Epoch(epoch),
        owner: Owner::new(owner.to_string()),
        seq: 0,
        kind: if state.is_some() {
            EntryKind::State
        } else {
            EntryKind::Claim
        },
        revision: state.as_ref().map_or(Revision(0), |state| state.revision),
        state,
        digest: None,
        change: None,
        request_ids: VecDeque::new(),
        line: None,
        by: "test".to_owned(),
        source: Source::Http,
        at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn read(offset: u64, entry: LogEntry) -> ReplicaEvent {
    ReplicaEvent::Read(offset, Box::new(ReadEntry::Whole(entry)))
}

fn unreadable(offset: u64, epoch: u64, revision: u64) -> ReplicaEvent {
    let header = EntryHeader {
        epoch: Epoch(epoch),
        owner: Owner::new("1"),
        kind: Some(json!("state")),
        revision: Revision(revision),
    };
    let reason = "it is newer".to_owned();
    ReplicaEvent::Read(offset, Box::new(ReadEntry::Unreadable { header, reason }))
}

fn announced(epoch: u64, revision: u64, offset: u64) -> ReplicaEvent {
    let standing = Standing {
        epoch: Epoch(epoch),
        revision: Revision(revision),
        digest: "d".to_owned(),
        owner: None,
    };
    ReplicaEvent::Announced(Announcement {
        schema: SCHEMA,
        owner: Owner::new("1"),
        standing,
        offset,
        at: jiff::Timestamp::UNIX_EPOCH,
    })
}

/// The names that effects run and stop.
fn names(effects: &[Effect]) -> Vec<String> {
    let name = |effect: &Effect| match effect {
        Effect::Run(name, flock) => format!("run {name} {}", flock.generation),
        Effect::Stop(name) => format!("stop {name}"),
        other => format!("{other:?}"),
    };
    effects.iter().map(name).collect()
}

#[test]
fn a_session_begins_at_the_announced_offset_and_acts_once_it_is_there() {
    let mut bench = Bench::new();
    assert_eq!(bench.on(ReplicaEvent::Opened), []);
    assert_eq!(bench.on(announced(1, 3, 10)), [Effect::ReadLog(LogStart::Offset(10))]);
    assert_eq!(
        bench.on(announced(1, 4, 12)),
        [],
        "more is announced before the first entry"
    );
    assert_eq!(bench.on(read(10, entry(1, 1, Some(state(3, &[("a", 1)]))))), []);
    assert_eq!(bench.state.phase(), ReplicaPhase::Starting);
    let effects = bench.on(read(12, entry(1, 1, Some(state(4, &[("b", 4)])))));
    assert_eq!(
        names(&effects),
        ["run b 4"],
        "flock `a` was gone before this replica ran anything"
    );
}

#[test]
fn without_an_announcement_the_log_is_read_from_its_beginning_until_it_is_silent() {
    let mut bench = Bench::new();
    bench.on(ReplicaEvent::Opened);
    assert_eq!(bench.after(5), [Effect::ReadLog(LogStart::First)]);
    assert_eq!(bench.on(read(0, entry(1, 1, Some(state(1, &[("a", 1)]))))), []);
    assert_eq!(
        bench.on(read(1, entry(1, 1, Some(state(2, &[("a", 1), ("b", 2)]))))),
        []
    );
    assert_eq!(names(&bench.after(1)), ["run a 1", "run b 2"]);
}

#[test]
fn an_empty_log_stops_nothing_and_starts_nothing() {
    let mut bench = Bench::new();
    bench.on(ReplicaEvent::Opened);
    bench.after(5);
    bench.on(ReplicaEvent::Attached);
    assert_eq!(bench.after(1), []);
    assert_eq!(bench.state.phase(), ReplicaPhase::Running);
    assert!(bench.state.acted().is_none());
}

#[test]
fn only_a_higher_revision_is_acted_on() {
    let mut bench = Bench::running();
    let acted = bench.state.acted().unwrap().standing.clone();
    for (what, stale) in [
        ("the same state again", state(1, &[("a", 1)])),
        ("another state of the same revision", state(1, &[])),
        ("an older state", state(0, &[])),
    ] {
        assert_eq!(bench.on(read(11, entry(1, 1, Some(stale)))), [], "{what}");
        assert_eq!(bench.state.acted().unwrap().standing, acted, "{what}");
    }
    let effects = bench.on(read(12, entry(1, 1, Some(state(2, &[("b", 2)])))));
    assert_eq!(names(&effects), ["stop a", "run b 2"]);
}

#[test]
fn the_same_state_under_a_new_epoch_moves_the_standing_alone() {
    let mut bench = Bench::running();
    assert_eq!(bench.on(read(11, entry(2, 2, Some(state(1, &[("a", 1)]))))), []);
    assert_eq!(bench.state.acted().unwrap().standing.epoch, Epoch(2));
    assert_eq!(
        bench.on(read(12, entry(1, 1, Some(state(9, &[]))))),
        [],
        "the old coordinator counts for nobody"
    );
}

#[test]
fn what_was_lost_while_away_is_made_up_and_nothing_is_done_twice() {
    let mut bench = Bench::running();
    assert_eq!(bench.on(ReplicaEvent::Lost), []);
    bench.on(ReplicaEvent::Opened);
    bench.on(announced(1, 5, 40));
    let effects = bench.on(read(40, entry(1, 1, Some(state(5, &[("a", 1), ("b", 4)])))));
    assert_eq!(names(&effects), ["run b 4"]);
}

#[test]
fn an_emptied_log_changes_nothing_until_the_coordinator_has_healed_it() {
    let mut bench = Bench::running();
    bench.on(ReplicaEvent::Lost);
    bench.on(ReplicaEvent::Opened);
    // A coordinator that knows nothing yet leads the empty log.
    assert_eq!(bench.on(announced(1, 0, 0)), [Effect::ReadLog(LogStart::Offset(0))]);
    assert_eq!(bench.on(read(0, entry(1, 0, Some(state(0, &[]))))), []);
    assert_eq!(
        bench.state.acted().unwrap().standing.revision,
        Revision(1),
        "it reports what it knows"
    );
    let healed = bench.on(read(2, entry(2, 0, Some(state(2, &[("a", 1)])))));
    assert_eq!(healed, [], "the flock runs on");
    assert_eq!(bench.state.acted().unwrap().standing.revision, Revision(2));
}

#[test]
fn a_state_that_does_not_descend_from_ours_is_left_alone_until_it_was_merged() {
    let signed = |epoch, owner: u8, state: DesiredState, parents: &[&LogEntry]| {
        let mut entry = entry(epoch, owner, Some(state));
        let mut line = Line::default();
        for parent in parents {
            let mut view = View::default();
            view.fold(0, (*parent).clone());
            line.join(&view.held().unwrap().line);
        }
        entry.line = Some(line);
        entry
    };
    let first = signed(1, 1, state(1, &[("a", 1)]), &[]);
    let lost = signed(1, 1, state(2, &[("a", 1), ("b", 2)]), &[&first]);
    let grown = signed(2, 2, state(9, &[("a", 9)]), &[&first]);
    let merged = signed(3, 3, state(10, &[("a", 9), ("b", 2)]), &[&grown, &lost]);
    let mut bench = Bench::new();
    bench.on(ReplicaEvent::Opened);
    bench.on(announced(1, 1, 10));
    bench.on(read(10, first));
    bench.on(read(11, lost));
    assert_eq!(bench.on(read(12, grown)), []);
    assert_eq!(bench.state.acted().unwrap().standing.revision, Revision(2));
    assert_eq!(names(&bench.on(read(13, merged))), ["run a 9"], "`b` runs on");
}

#[test]
fn a_flock_that_crashes_again_and_again_is_left_alone_for_longer_and_longer() {
    let mut bench = Bench::running();
    let ended = || ReplicaEvent::FlockEnded("a".parse().unwrap());
    assert_eq!(names(&bench.on(ended())), ["run a 1"]);
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(bench.on(ended()), []);
        assert_eq!(bench.state.deadline(), Some(bench.now + Duration::from_secs(pause)));
        assert_eq!(names(&bench.after(pause)), ["run a 1"]);
    }
    bench.on(ended());
    let effects = bench.on(read(11, entry(1, 1, Some(state(2, &[("a", 2)])))));
    assert_eq!(names(&effects), ["run a 2"], "a new generation is a new try");
    bench.on(ended());
    assert_eq!(
        bench.on(read(12, entry(1, 1, Some(state(3, &[]))))),
        [],
        "nothing is left to stop"
    );
    assert_eq!(bench.state.deadline(), None);
    assert_eq!(bench.on(ReplicaEvent::Drain), [Effect::Finish]);
}

#[test]
fn a_reader_that_is_stuck_ends_the_session() {
    let mut bench = Bench::running();
    assert_eq!(bench.state.deadline(), None);
    bench.on(announced(1, 2, 11));
    assert_eq!(bench.after(4), []);
    bench.on(announced(1, 3, 12));
    assert!(matches!(*bench.after(1), [Effect::EndSession(_)]));
    assert_eq!(bench.state.deadline(), None, "there is nothing more to wait for");
}

#[test]
fn a_reader_that_moves_is_not_stuck() {
    let mut bench = Bench::running();
    bench.on(announced(1, 3, 12));
    assert_eq!(bench.after(4), []);
    bench.on(read(11, entry(1, 1, Some(state(2, &[])))));
    assert_eq!(bench.after(4), [], "it moves");
    bench.on(read(12, entry(1, 1, Some(state(3, &[])))));
    assert_eq!(bench.state.deadline(), None);
}

#[test]
fn an_instance_id_in_use_ends_a_process_that_never_ran_anything() {
    let mut bench = Bench::new();
    assert_eq!(bench.on(ReplicaEvent::NameTaken { by_another: true }), []);
    bench.now += Duration::from_secs(24);
    assert_eq!(bench.on(ReplicaEvent::NameTaken { by_another: true }), []);
    bench.now += Duration::from_secs(1);
    assert_eq!(bench.on(ReplicaEvent::NameTaken { by_another: true }), [Effect::GiveUp]);
}

#[test]
fn a_name_that_only_a_dead_connection_holds_is_no_reason_to_stop() {
    let mut bench = Bench::running();
    bench.on(ReplicaEvent::Lost);
    assert_eq!(bench.on(ReplicaEvent::NameTaken { by_another: false }), []);
    assert!(bench.state.is_name_taken());
    assert_eq!(
        names(&bench.on(ReplicaEvent::NameTaken { by_another: true })),
        ["stop a"]
    );
}

#[test]
fn a_replica_whose_name_was_taken_meanwhile_stops_at_once_and_resumes_when_it_is_free() {
    let mut bench = Bench::running();
    bench.on(ReplicaEvent::Lost);
    assert_eq!(
        names(&bench.on(ReplicaEvent::NameTaken { by_another: true })),
        ["stop a"]
    );
    bench.now += Duration::from_secs(100);
    assert_eq!(
        bench.on(ReplicaEvent::NameTaken { by_another: true }),
        [],
        "it keeps waiting"
    );
    bench.on(ReplicaEvent::FlockEnded("a".parse().unwrap()));
    bench.on(ReplicaEvent::Opened);
    assert!(!bench.state.is_name_taken());
    bench.on(announced(1, 1, 10));
    let effects = bench.on(read(10, entry(1, 1, Some(state(1, &[("a", 1)])))));
    assert_eq!(
        names(&effects),
        ["run a 1"],
        "the same revision is acted on again, for nothing runs"
    );
}

#[test]
fn a_flock_that_is_wanted_again_while_it_stops_starts_afterwards() {
    let mut bench = Bench::running();
    assert_eq!(names(&bench.on(read(11, entry(1, 1, Some(state(2, &[])))))), ["stop a"]);
    let effects = bench.on(read(12, entry(1, 1, Some(state(3, &[("a", 3)])))));
    assert_eq!(names(&effects), ["run a 3"]);
    let effects = bench.on(ReplicaEvent::FlockEnded("a".parse().unwrap()));
    assert_eq!(
        names(&effects),
        ["run a 3"],
        "its task had ended before the wish reached it"
    );
}

#[test]
fn draining_stops_everything_and_ends_with_the_last_flock() {
    let mut bench = Bench::running();
    assert_eq!(names(&bench.on(ReplicaEvent::Drain)), ["stop a"]);
    assert_eq!(bench.state.phase(), ReplicaPhase::Draining);
    assert_eq!(
        bench.on(read(11, entry(1, 1, Some(state(2, &[("b", 2)]))))),
        [],
        "no new control messages"
    );
    assert_eq!(
        bench.on(ReplicaEvent::FlockEnded("a".parse().unwrap())),
        [Effect::Finish]
    );
    assert_eq!(Bench::new().on(ReplicaEvent::Drain), [Effect::Finish]);
}

#[test]
fn an_entry_that_cannot_be_read_is_stepped_over() {
    let mut bench = Bench::new();
    bench.on(ReplicaEvent::Opened);
    bench.on(announced(1, 1, 10));
    assert_eq!(bench.on(unreadable(10, 1, 2)), []);
    assert_eq!(bench.state.phase(), ReplicaPhase::Running);
    let effects = bench.on(read(11, entry(1, 1, Some(state(2, &[("a", 2)])))));
    assert_eq!(names(&effects), ["run a 2"]);
}

#[test]
fn a_log_without_the_announced_entry_is_looked_for_again() {
    let mut bench = Bench::new();
    bench.on(ReplicaEvent::Opened);
    bench.on(announced(1, 1, 1000));
    assert_eq!(bench.after(4), []);
    bench.on(ReplicaEvent::Attached);
    assert!(matches!(*bench.after(5), [Effect::EndSession(_)]));
    // A deadline that stayed in the past would keep the replica busy with it for ever.
    assert_eq!(bench.state.deadline(), None);
    assert_eq!(bench.after(1), []);
}

#[test]
fn a_claim_that_the_log_has_lost_is_forgotten_with_the_session() {
    let mut bench = Bench::running();
    bench.on(read(11, entry(2, 9, None)));
    bench.on(ReplicaEvent::Lost);
    bench.on(ReplicaEvent::Opened);
    bench.on(announced(2, 2, 11));
    let effects = bench.on(read(11, entry(2, 1, Some(state(2, &[("a", 1), ("b", 2)])))));
    assert_eq!(
        names(&effects),
        ["run b 2"],
        "a lower owner of the same epoch claimed what was left"
    );
}

#[test]
fn a_log_that_was_begun_anew_is_followed_but_never_back_to_an_older_revision() {
    let mut bench = Bench::running();
    bench.on(announced(5, 2, 20));
    bench.on(read(20, entry(5, 1, Some(state(2, &[("a", 1), ("b", 2)])))));
    bench.on(ReplicaEvent::Lost);
    bench.on(ReplicaEvent::Opened);
    // The broker lost everything, and a fleet that did not hear of us began again.
    assert_eq!(bench.on(announced(1, 1, 0)), [Effect::ReadLog(LogStart::Offset(0))]);
    assert_eq!(bench.on(read(0, entry(1, 1, Some(state(1, &[]))))), []);
    assert_eq!(
        bench.state.acted().unwrap().standing.epoch,
        Epoch(5),
        "we still tell what we know"
    );
    let effects = bench.on(read(1, entry(6, 1, Some(state(3, &[("a", 1)])))));
    assert_eq!(effects, [Effect::Stop("b".parse().unwrap())]);
}

#[test]
fn an_announcement_from_before_the_log_lost_entries_is_not_believed() {
    let mut bench = Bench::new();
    bench.on(ReplicaEvent::Opened);
    bench.on(announced(1, 1, 10));
    let effects = bench.on(read(10, entry(1, 1, Some(state(2, &[("a", 2)])))));
    assert!(matches!(*effects, [Effect::EndSession(_)]), "{effects:?}");
    assert!(bench.state.acted().is_none());
}
