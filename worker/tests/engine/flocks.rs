//! What becomes of flocks and their monkeys.

use std::collections::VecDeque;
use std::time::Duration;

use mobu_fleet::domain::desired::Command;
use mobu_fleet::domain::ids::{MonkeyName, Revision};
use mobu_fleet::domain::line::Line;
use mobu_fleet::domain::messages::{AnswerBody, Ask, FlockPhase, ReplicaPhase};
use mobu_fleet::domain::monkey::MonkeyState;
use mobu_fleet::runtime::clock;
use mobu_worker::WorkerConfig;
use serde_json::json;

use crate::leader::{Leader, Process, flock, idlers, name};

#[tokio::test(start_paused = true)]
async fn a_flock_starts_iterates_and_stops() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("lambs", 3)).await;
    let report = leader.until_phase("lambs", FlockPhase::Running).await;
    assert_eq!(report.phase, ReplicaPhase::Running);
    assert_eq!(report.standing, Some(leader.standing()));
    leader.until(|report| report.flocks["lambs"].success_count >= 9).await;
    let monkeys = process.handle.monkeys(&name("lambs"));
    let names: Vec<_> = monkeys.iter().map(|monkey| monkey.name.as_str()).collect();
    assert_eq!(names, ["bot-mobu-lambs1", "bot-mobu-lambs2", "bot-mobu-lambs3"]);
    assert!(
        monkeys
            .iter()
            .all(|monkey| monkey.state == MonkeyState::Running && monkey.business.success_count >= 3)
    );
    assert!(
        monkeys[0].user.token.starts_with("gt-") && monkeys[0].user.token.ends_with(".***"),
        "{monkeys:?}"
    );
    let log = leader.log("0", "lambs", "bot-mobu-lambs2").await;
    let texts: Vec<_> = log
        .lines()
        .map(|line| line.split("\"event\": \"").nth(1).unwrap().split('"').next().unwrap())
        .collect();
    assert_eq!(
        texts[..5],
        [
            "Starting new file logger",
            "Starting up...",
            "Starting next iteration",
            "Idling...",
            "Starting next iteration"
        ]
    );
    leader.stop("lambs").await;
    leader.until_gone("lambs").await;
    assert!(process.handle.flocks().is_empty());
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_stops_the_old_generation_first_and_a_stop_overtakes_a_start() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 2)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    leader.start(&idlers("a", 5)).await;
    let report = leader
        .until(|report| {
            report
                .flocks
                .get("a")
                .is_some_and(|a| a.generation == Revision(2) && a.phase == FlockPhase::Running)
        })
        .await;
    assert_eq!(report.flocks["a"].monkey_count(), 5);
    // Batches that would take an hour.
    let mut slow = idlers("slow", 10);
    slow["start_batch_size"] = json!(1);
    slow["start_batch_wait"] = json!(400);
    leader.start(&slow).await;
    leader.until_phase("slow", FlockPhase::Starting).await;
    leader.start(&idlers("quick", 1)).await;
    leader.until_phase("quick", FlockPhase::Running).await;
    leader.stop("slow").await;
    leader.until_gone("slow").await;
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn monkeys_start_in_batches_with_a_pause_between() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    let mut flock = idlers("a", 5);
    flock["start_batch_size"] = json!(2);
    flock["start_batch_wait"] = json!("10s");
    leader.start(&flock).await;
    leader
        .until(|report| {
            report
                .flocks
                .get("a")
                .is_some_and(|a| a.monkeys.get(&MonkeyState::Running) == Some(&2))
        })
        .await;
    let begun = clock::now();
    let report = leader
        .until(|report| report.flocks["a"].monkeys.get(&MonkeyState::Running) == Some(&4))
        .await;
    assert_eq!(report.flocks["a"].phase, FlockPhase::Starting);
    assert_eq!(report.flocks["a"].monkeys[&MonkeyState::Idle], 1);
    let report = leader.until_phase("a", FlockPhase::Running).await;
    assert_eq!(report.flocks["a"].monkeys[&MonkeyState::Running], 5);
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(18) && took < Duration::from_secs(23),
        "{took:?}"
    );
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_reaches_every_monkey_also_during_a_start() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    let mut flock = idlers("a", 4);
    flock["start_batch_size"] = json!(2);
    flock["start_batch_wait"] = json!(5);
    leader.start(&flock).await;
    leader.start(&idlers("b", 1)).await;
    leader.until_phase("a", FlockPhase::Starting).await;
    leader.command(Command::Refresh(name("a"))).await;
    let report = leader.until_phase("a", FlockPhase::Running).await;
    assert_eq!(
        report.flocks["a"].refresh_generation,
        leader.state.flocks["a"].refresh_generation
    );
    assert!(
        process
            .handle
            .monkeys(&name("a"))
            .iter()
            .all(|monkey| monkey.business.refreshing)
    );
    assert!(
        process
            .handle
            .monkeys(&name("b"))
            .iter()
            .all(|monkey| !monkey.business.refreshing)
    );
    process.drain().await;
}

#[tokio::test]
async fn a_monkey_that_cannot_start_stays_visible_and_takes_note_of_a_refresh() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    let options = json!({"repo_url": "file:///nowhere/at-all.git", "repo_ref": "main"});
    leader
        .start(&flock("books", 2, "NotebookRunnerCounting", &options))
        .await;
    process.until_all("books", MonkeyState::Error).await;
    leader.command(Command::Refresh(name("books"))).await;
    process
        .until(|handle| {
            handle
                .monkeys(&name("books"))
                .iter()
                .all(|monkey| monkey.business.refreshing)
                .then_some(())
        })
        .await;
    let monkeys = process.handle.monkeys(&name("books"));
    assert_eq!(
        (monkeys[0].business.failure_count, monkeys[0].business.success_count),
        (1, 0)
    );
    assert_eq!(monkeys[0].business.name, "NotebookRunnerCounting");
    let log = leader.log("0", "books", "bot-mobu-books1").await;
    assert!(log.contains("Exception thrown while doing monkey business"), "{log}");
    assert!(
        log.contains("clone: cannot clone `main` of file:///nowhere/at-all.git"),
        "{log}"
    );
    leader.stop("books").await;
    leader.until_gone("books").await;
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_flock_ends_after_its_duration_and_after_its_lease() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    let mut short = idlers("short", 1);
    short["duration"] = json!("10s");
    leader.start(&short).await;
    let mut leased = idlers("leased", 1);
    leased["lease"] = json!("20s");
    leader.start(&leased).await;
    let report = leader.until_phase("short", FlockPhase::Ended).await;
    assert_eq!(
        report.flocks["short"].error.as_deref(),
        Some("ran for its duration of 0:00:10")
    );
    assert_eq!(report.flocks["leased"].phase, FlockPhase::Running);
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        leader.announce();
    }
    assert_eq!(process.handle.flocks()["leased"].phase, FlockPhase::Running);
    tokio::time::sleep(Duration::from_secs(25)).await;
    let flock = process.handle.flocks().remove("leased").unwrap();
    assert_eq!(flock.phase, FlockPhase::Ended);
    assert!(
        flock.error.as_deref().unwrap().contains("lease of 0:00:20"),
        "{flock:?}"
    );
    leader.start(&leased).await;
    leader.until_phase("leased", FlockPhase::Running).await;
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn queries_are_answered_in_parts() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("7", 3));
    leader.start(&idlers("many", 1200)).await;
    leader.until_phase("many", FlockPhase::Running).await;
    let parts = leader.ask("7", Ask::Monkeys { flock: name("many") }).await;
    let sizes = parts.iter().map(|part| match &part.body {
        AnswerBody::Monkeys { monkeys } => monkeys.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [500, 500, 200]);
    let parts = leader.ask("7", Ask::Flock { flock: name("many") }).await;
    let monkeys: Vec<_> = parts
        .into_iter()
        .flat_map(|part| match part.body {
            AnswerBody::Flock { monkeys } => monkeys,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(monkeys.len(), 1200);
    assert_eq!(monkeys[1199].name.as_str(), "bot-mobu-many-instance-7-1200");
    assert_eq!(monkeys[0].replica, Some("7".parse().unwrap()));
    let known = MonkeyName::new("bot-mobu-many-instance-7-0042");
    let answer = leader
        .ask(
            "7",
            Ask::Monkey {
                flock: name("many"),
                monkey: known.clone(),
            },
        )
        .await
        .remove(0);
    assert!(matches!(answer.body, AnswerBody::Monkey { monkey } if monkey.name == known));
    for ask in [
        Ask::Flock { flock: name("none") },
        Ask::Monkey {
            flock: name("many"),
            monkey: MonkeyName::new("nobody"),
        },
        Ask::Log {
            flock: name("none"),
            monkey: known,
            offset: 0,
            limit: 10,
        },
    ] {
        assert_eq!(leader.ask("7", ask).await.remove(0).body, AnswerBody::NotHere);
    }
    let ask = Ask::State {
        above: None,
        line: None,
    };
    let state = leader.ask("7", ask).await.remove(0);
    let standing = leader.standing();
    assert_eq!(
        state.body,
        AnswerBody::State {
            standing: Some(standing.clone()),
            state: Some(leader.state.clone()),
            line: Some(Line::of(&standing)),
            request_ids: VecDeque::new(),
        }
    );
    let state = leader
        .ask(
            "7",
            Ask::State {
                above: Some(standing.clone()),
                line: None,
            },
        )
        .await
        .remove(0);
    assert_eq!(state.body, AnswerBody::state(Some(standing), None));
    let unknown = leader
        .ask_bytes(
            "7",
            br#"{"schema": 1, "owner": "x", "ask": {"kind": "horoscope"}}"#.to_vec(),
        )
        .await;
    assert_eq!(unknown[0].body, AnswerBody::Unknown);
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_monkeys_start_and_stop() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("crowd", 10_000)).await;
    leader
        .until(|report| {
            report
                .flocks
                .get("crowd")
                .is_some_and(|crowd| crowd.success_count >= 10_000)
        })
        .await;
    leader.stop("crowd").await;
    leader.until_gone("crowd").await;
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_flock_that_this_replica_cannot_name_fails_and_says_why() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 3));
    let mut flock = idlers("a", 1);
    flock.as_object_mut().unwrap().remove("user_spec");
    flock["users"] = json!([{"username": "bot-mobu-a"}]);
    leader.start(&flock).await;
    let report = leader.until_phase("a", FlockPhase::Failed).await;
    assert_eq!(
        report.flocks["a"].error.as_deref(),
        Some("Only user_spec users are allowed if replica_count > 1")
    );
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn without_logs_of_their_own_monkeys_have_no_log_to_read() {
    let mut leader = Leader::new().await;
    let mut config = WorkerConfig::for_tests("0", 1);
    config.monkey_logs.to_file = false;
    let process = Process::start(&leader.hub, config);
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let ask = Ask::Log {
        flock: name("a"),
        monkey: MonkeyName::new("bot-mobu-a1"),
        offset: 0,
        limit: 10,
    };
    assert_eq!(leader.ask("0", ask).await.remove(0).body, AnswerBody::NotHere);
    process.drain().await;
}
