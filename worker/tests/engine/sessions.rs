//! What becomes of a replica whose sessions come and go.

use std::time::Duration;

use mobu_fleet::domain::ids::SessionId;
use mobu_fleet::domain::messages::{Answer, AnswerBody, FlockPhase, Query, ReplicaPhase, Report, SCHEMA, Wire};
use mobu_fleet::link::{Address, Link, Message};
use mobu_worker::{LinkStatus, WorkerConfig};

use crate::leader::{Leader, Process, idlers, name};

#[tokio::test(start_paused = true)]
async fn the_second_process_of_an_instance_id_gives_up_without_a_monkey() {
    let mut leader = Leader::new().await;
    let first = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let second = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    second.wait().await;
    assert!(second.tasks.drain_token().is_cancelled(), "the process ends");
    assert!(second.handle.flocks().is_empty());
    let failure = second.handle.status().borrow().failure.clone().unwrap();
    assert!(
        failure.contains("instance ID 0 is in use by another process"),
        "{failure}"
    );
    assert_eq!(first.handle.flocks()["a"].phase, FlockPhase::Running);
    first.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_was_cut_off_runs_on_and_catches_up() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let before = process.handle.flocks()["a"].success_count;
    leader.hub.cut(|name| name.starts_with("worker"));
    leader.start(&idlers("b", 1)).await;
    let is_back = |report: &Report| {
        let b = report.flocks.get("b");
        b.is_some_and(|b| b.phase == FlockPhase::Running) && report.flocks["a"].success_count > before
    };
    let report = leader.until(is_back).await;
    assert_eq!(report.flocks["a"].generation.0, 1, "it was not restarted");
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_starts_from_the_log_alone() {
    let mut leader = Leader::new().await;
    leader.start(&idlers("a", 1)).await;
    leader.start(&idlers("b", 1)).await;
    leader.stop("a").await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    process
        .until(|handle| (handle.flocks().get("b")?.phase == FlockPhase::Running).then_some(()))
        .await;
    assert!(!process.handle.flocks().contains_key("a"));
    process.drain().await;
}

/// What another process with the instance ID answers to a question about its state.
fn sign_of_life(process: &Process) -> Message {
    let answer = Answer {
        schema: SCHEMA,
        instance_id: Some(process.handle.instance_id().clone()),
        session: SessionId::new("another"),
        part: 0,
        last: true,
        body: AnswerBody::state(None, None),
    };
    Message::new(Answer::KIND, answer.encode())
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_name_is_taken_stops_and_resumes_when_it_is_free_again() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    leader.hub.cut(|name| name.starts_with("worker"));
    let thief = leader.hub.open("thief").await.unwrap();
    let mut inbox = thief.replica_inbox(process.handle.instance_id()).await.unwrap();
    // Whoever holds the name and says nothing may be our own last connection: that is no reason to stop.
    process
        .until(|handle| handle.status().borrow().is_name_taken.then_some(()))
        .await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(process.handle.flocks()["a"].phase, FlockPhase::Running);
    // One that answers is another process.
    let answering = async {
        while let Some(message) = inbox.recv().await {
            if let (Query::KIND, Some(reply_to)) = (message.kind.as_str(), message.reply_to) {
                thief.post(Address::Reply(reply_to), sign_of_life(&process)).unwrap();
            }
        }
    };
    tokio::select! {
        () = answering => panic!("the thief lost the name"),
        () = process.until(|handle| handle.flocks().is_empty().then_some(())) => {}
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(process.handle.flocks().is_empty());
    assert!(process.handle.status().borrow().ready().unwrap_err().contains("in use"));
    thief.close().await;
    leader.until_phase("a", FlockPhase::Running).await;
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_whose_name_is_stranded_goes_by_a_spare_until_its_own_is_back() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    let id = process.handle.instance_id().clone();
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let since = process.handle.flocks()["a"].start_time;
    // One node of the broker dies, then the next.
    for flock in ["b", "c"] {
        leader.hub.strand_name(&id);
        leader.start(&idlers(flock, 1)).await;
        leader.until_phase(flock, FlockPhase::Running).await;
    }
    assert_eq!(process.handle.flocks()["a"].start_time, since, "no monkey stopped");
    let second = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    second.wait().await;
    assert!(second.handle.flocks().is_empty(), "the name is in use all the same");
    leader.hub.free_name(&id);
    let asker = leader.hub.open("asker").await.unwrap();
    let own = Address::Inbox(id, 0);
    while asker.publish(own.clone(), Message::new("nothing", "")).await.is_err() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    leader.start(&idlers("d", 1)).await;
    leader.until_phase("d", FlockPhase::Running).await;
    assert_eq!(process.handle.flocks()["a"].start_time, since);
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_started_while_its_name_is_stranded_runs() {
    let mut leader = Leader::new().await;
    let first = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let id = first.handle.instance_id().clone();
    first.kill().await;
    let dead = leader.hub.open("dead").await.unwrap();
    let _inbox = dead.replica_inbox(&id).await.unwrap();
    leader.hub.strand_name(&id);
    let again = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    again
        .until(|handle| (handle.flocks().get("a")?.phase == FlockPhase::Running).then_some(()))
        .await;
    again.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_lost_its_newest_entries_takes_nothing_back() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let known = leader.state.clone();
    leader.hub.wipe();
    let mut leader = Leader::on(
        leader.hub.clone(),
        1,
        mobu_fleet::domain::desired::DesiredState::default(),
    )
    .await;
    let report = leader.until(|report| report.standing.is_some()).await;
    assert_eq!(report.standing.unwrap().revision, known.revision);
    let mut leader = Leader::on(leader.hub.clone(), 2, known.merge(&leader.state)).await;
    let report = leader
        .until(|report| report.standing.as_ref().is_some_and(|standing| standing.epoch.0 == 2))
        .await;
    assert_eq!(report.flocks["a"].generation.0, 1);
    assert_eq!(process.handle.monkeys(&name("a")).len(), 1);
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn rubbish_is_counted_and_harms_nothing() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.until(|report| report.phase == ReplicaPhase::Running).await;
    leader.append_bytes(b"\xff\x00 rubbish".to_vec()).await;
    for (kind, payload) in [
        ("fleet.announcement.v1", "{"),
        ("fleet.query.v1", "[]"),
        ("what.is.this", "?"),
        ("", ""),
    ] {
        leader.broadcast(kind, payload);
    }
    leader.start(&idlers("a", 1)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    assert_eq!(process.handle.status().borrow().undecodable_messages, 5);
    process.drain().await;
}

#[tokio::test(start_paused = true)]
async fn a_drained_replica_says_goodbye_and_leaves_nothing() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&idlers("a", 3)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let (status, sessions) = (process.handle.status(), leader.hub.sessions());
    process.drain().await;
    let report = leader
        .until(|report| report.phase == ReplicaPhase::Draining && report.flocks.is_empty())
        .await;
    assert_eq!(report.standing, Some(leader.standing()));
    assert_eq!(leader.hub.sessions(), sessions - 1);
    assert_eq!(status.borrow().link, LinkStatus::Open);
}

#[tokio::test(start_paused = true)]
async fn a_killed_replica_comes_back_under_the_same_names() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("1", 3));
    leader.start(&idlers("a", 4)).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let names = |process: &Process| {
        process
            .handle
            .monkeys(&name("a"))
            .into_iter()
            .map(|monkey| monkey.name)
            .collect::<Vec<_>>()
    };
    let before = names(&process);
    process.kill().await;
    leader.hub.cut(|name| name.starts_with("worker"));
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("1", 3));
    leader
        .until(|report| report.seq < 5 && report.flocks.get("a").is_some_and(|a| a.phase == FlockPhase::Running))
        .await;
    assert_eq!(names(&process), before);
    process.drain().await;
}
