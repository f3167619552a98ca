//! What a new leader makes of what it is told. All else about reigns is in the simulation.

use mobu_fleet::domain::desired::Command;
use mobu_fleet::domain::flock::FlockConfig;
use serde_json::json;

use super::*;

/// A reign that has claimed an empty log and asks what others know.
fn asking(now: Instant) -> Reign {
    let mut reign = Reign::new(ReignRules::default(), Owner::new("us"), Memory::default(), now);
    let effects = reign.handle(ReignEvent::Lock { held: true }, now);
    reign.handle(echo(0, &effects), now);
    reign
}

/// The entry that was just appended, as it comes back.
fn echo(offset: u64, effects: &[ReignEffect]) -> ReignEvent {
    let entry = ReadEntry::Whole(appended(effects).clone());
    ReignEvent::Record {
        offset,
        entry: Box::new(entry),
    }
}

fn appended(effects: &[ReignEffect]) -> &LogEntry {
    match effects {
        [ReignEffect::Append(entry)] => entry,
        other => panic!("nothing was appended: {other:?}"),
    }
}

fn flock(name: &str, padding: usize) -> Command {
    let config = json!({
        "name": name, "count": 1, "user_spec": {"username_prefix": "bot-mobu-x"},
        "scopes": vec!["x".repeat(1000); padding], "business": {"type": "EmptyLoop"},
    });
    Command::Start(Box::new(FlockConfig::parse(&config).unwrap()))
}

/// What a replica knows that read one state of an owner that nobody else has heard of.
fn told(owner: &str, name: &str, padding: usize) -> Known {
    let state = DesiredState::default();
    let state = state
        .apply(&flock(name, padding), Timestamp::UNIX_EPOCH)
        .unwrap()
        .unwrap()
        .state;
    let standing = Standing {
        epoch: Epoch(1),
        revision: state.revision,
        digest: state.digest(),
        owner: Some(Owner::new(owner)),
    };
    Known {
        line: Arc::new(Line::of(&standing)),
        request_ids: Arc::new(VecDeque::from([(RequestId::new(owner), state.revision)])),
        state: Arc::new(state),
        standing,
    }
}

fn tell(reign: &mut Reign, known: Vec<Known>, now: Instant) -> Vec<ReignEffect> {
    for (number, known) in known.into_iter().enumerate() {
        let event = ReignEvent::Told {
            replica: None,
            session: SessionId::new(number.to_string()),
            standing: Some(known.standing.clone()),
            known: Some(known),
        };
        assert!(reign.handle(event, now).is_empty());
    }
    // Somebody has seen an epoch as high as ours, so it claims a higher one, and asks again.
    let later = now + ReignRules::default().ask_timeout;
    reign.handle(ReignEvent::Tick, later)
}

/// What becomes of a reign that was told this, twice: once for each epoch that it claims.
fn believed(known: &[Known]) -> (Reign, Vec<ReignEffect>, Instant) {
    let now = Instant::now();
    let mut reign = asking(now);
    let effects = tell(&mut reign, known.to_vec(), now);
    reign.handle(echo(1, &effects), now);
    let effects = tell(&mut reign, known.to_vec(), now);
    (reign, effects, now)
}

#[test]
fn what_several_know_is_brought_together_with_its_requests() {
    let (_, effects, _) = believed(&[told("a", "one", 1), told("b", "two", 1)]);
    let entry = appended(&effects);
    let state = entry.state.as_ref().unwrap();
    assert_eq!((state.flocks.len(), entry.change.clone()), (2, Some(Change::Recover)));
    let line = entry.line.as_ref().unwrap();
    for known in [told("a", "one", 1), told("b", "two", 1)] {
        assert_eq!(line.holds(&known.standing), Some(true));
    }
    let requests: BTreeSet<_> = entry.request_ids.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(requests, BTreeSet::from(["a", "b"]));
}

#[test]
fn two_full_states_can_be_brought_together_and_then_only_made_smaller() {
    let (mut reign, effects, now) = believed(&[told("a", "one", 3900), told("b", "two", 3900)]);
    let entry = appended(&effects).clone();
    assert!(entry.encode().len() > MAX_STATE);
    reign.handle(echo(2, &effects), now);
    let effects = reign.handle(ReignEvent::Confirmed, now);
    assert!(matches!(effects.as_slice(), [ReignEffect::Led]), "{effects:?}");
    let proposal = |command: &Command| {
        let changed = entry.state.as_ref().unwrap().apply(command, Timestamp::UNIX_EPOCH);
        let changed = changed.unwrap().unwrap();
        Proposal {
            state: changed.state,
            change: changed.change,
            by: "test".to_owned(),
            source: Source::Http,
            request_id: None,
            at: Timestamp::UNIX_EPOCH,
        }
    };
    assert!(reign.propose(proposal(&flock("three", 1)), now).is_err());
    assert!(reign.propose(proposal(&Command::StopAll), now).is_ok());
}

#[test]
fn what_no_log_can_take_is_not_cut_down() {
    let lines: Vec<_> = ["a", "b", "c", "d"].map(|name| told(name, name, 3900)).into();
    let (_, effects, _) = believed(&lines);
    let [ReignEffect::End(reason)] = effects.as_slice() else {
        panic!("it goes on: {effects:?}");
    };
    assert!(reason.contains("nobody can lead"), "{reason}");
}

/// A reign that was refused the lock, and when.
fn standby() -> (Reign, Instant) {
    let now = Instant::now();
    let mut reign = Reign::new(ReignRules::default(), Owner::new("us"), Memory::default(), now);
    assert!(reign.handle(ReignEvent::Lock { held: false }, now).is_empty());
    (reign, now)
}

/// What it does, every second for so many, while it hears itself and perhaps a leader.
fn wait(reign: &mut Reign, from: Instant, seconds: u64, hears_leader: bool) -> (Vec<ReignEffect>, Instant) {
    for second in 1..=seconds {
        let now = from + Duration::from_secs(second);
        reign.handle(ReignEvent::HeardSelf, now);
        if hears_leader {
            reign.handle(ReignEvent::HeardLeader, now);
        }
        let mut effects = reign.handle(ReignEvent::Tick, now);
        effects.retain(|effect| !matches!(effect, ReignEffect::TryLock));
        if !effects.is_empty() {
            return (effects, now);
        }
    }
    (Vec::new(), from + Duration::from_secs(seconds))
}

#[test]
fn a_lock_that_a_dead_leader_left_keeps_nobody_from_leading() {
    let (mut reign, now) = standby();
    let (effects, claimed) = wait(&mut reign, now, 60, false);
    assert_eq!(appended(&effects).kind, EntryKind::Claim);
    assert!(
        claimed - now >= ReignRules::default().silence,
        "a leader has time to say something"
    );
    reign.handle(echo(0, &effects), claimed);
    let effects = reign.handle(ReignEvent::Tick, claimed + ReignRules::default().genesis_timeout);
    reign.handle(echo(1, &effects), claimed);
    let effects = reign.handle(ReignEvent::Confirmed, claimed);
    assert!(matches!(effects.as_slice(), [ReignEffect::Led]), "{effects:?}");

    // It asks for the lock from time to time, until it has it.
    let effects = reign.handle(ReignEvent::Tick, claimed);
    assert!(matches!(effects.as_slice(), [ReignEffect::TryLock]), "{effects:?}");
    reign.handle(ReignEvent::Lock { held: false }, claimed);
    assert!(reign.handle(ReignEvent::Tick, claimed).is_empty() && reign.is_leading());
    let effects = reign.handle(ReignEvent::Tick, claimed + LOCK_AGAIN);
    assert!(matches!(effects.as_slice(), [ReignEffect::TryLock]), "{effects:?}");
    reign.handle(ReignEvent::Lock { held: true }, claimed + LOCK_AGAIN);
    assert!(reign.handle(ReignEvent::Tick, claimed + 2 * LOCK_AGAIN).is_empty());
}

#[test]
fn a_standby_that_hears_the_leader_or_nothing_at_all_stays_one() {
    let (mut reign, now) = standby();
    let (effects, later) = wait(&mut reign, now, 600, true);
    assert!(effects.is_empty(), "{effects:?}");
    for second in 1..=600 {
        let effects = reign.handle(ReignEvent::Tick, later + Duration::from_secs(second));
        assert!(matches!(effects.as_slice(), [] | [ReignEffect::TryLock]), "{effects:?}");
    }
}

#[test]
fn whoever_has_just_claimed_is_given_the_time_to_ask_everybody() {
    let (mut reign, now) = standby();
    let mut rival = Reign::new(ReignRules::default(), Owner::new("them"), Memory::default(), now);
    let effects = rival.handle(ReignEvent::Lock { held: true }, now);
    reign.handle(echo(0, &effects), now);
    let patience = ReignRules::default().genesis_timeout + ReignRules::default().operation_timeout;
    let (effects, claimed) = wait(&mut reign, now, 60, false);
    assert_eq!(appended(&effects).epoch, Epoch(2));
    assert!(claimed - now >= patience);
}
