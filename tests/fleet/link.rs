//! What the link promises, on a real RabbitMQ.

use std::time::Duration;

use bytes::Bytes;
use fleet_tests::broker::{config, shared_broker, unique_fleet};
use mobu_fleet::link::amqp::client::AmqpClient;
use mobu_fleet::link::{Address, LinkError, LogStart, MAX_PAYLOAD, Message, ReplyAddress};

use crate::foreign;
use crate::support::{closed, id, message, next, session, within};

/// Retries while another session's queue is on its way out.
async fn until_free<T>(what: &str, mut try_it: impl AsyncFnMut() -> Result<T, LinkError>) -> T {
    within(what, async {
        loop {
            match try_it().await {
                Ok(value) => return value,
                Err(LinkError::NameInUse { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{what}: {error}"),
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_is_appended_comes_back_in_order_to_every_reader() {
    let fleet = unique_fleet();
    let (writer, reader) = (session(&fleet).await, session(&fleet).await);
    let mut echo = writer.read_log(LogStart::First).await.unwrap();
    for n in 0..300 {
        writer.append(Bytes::from(format!("entry {n}"))).await.unwrap();
    }
    let mut other = reader.read_log(LogStart::First).await.unwrap();
    let mut last = None;
    for n in 0..300 {
        let (mine, theirs) = (next(&mut echo).await, next(&mut other).await);
        assert_eq!(mine, theirs);
        assert_eq!(mine.payload, format!("entry {n}"));
        assert!(last < Some(mine.offset), "{last:?} then {mine:?}");
        last = Some(mine.offset);
    }
    writer.append(Bytes::from_static(b"later")).await.unwrap();
    assert_eq!(next(&mut other).await.payload, "later");
}

#[tokio::test]
async fn a_reader_can_begin_in_the_middle_of_the_log() {
    let fleet = unique_fleet();
    let session = session(&fleet).await;
    let mut all = session.read_log(LogStart::First).await.unwrap();
    let mut offsets = Vec::new();
    for n in 0..20 {
        session.append(Bytes::from(format!("{n}"))).await.unwrap();
        offsets.push(next(&mut all).await.offset);
    }
    let mut tail = session.read_log(LogStart::Offset(offsets[12])).await.unwrap();
    let first = next(&mut tail).await;
    assert_eq!((first.offset, &*first.payload), (offsets[12], &b"12"[..]));
}

#[tokio::test]
async fn appends_at_once_are_all_stored() {
    let fleet = unique_fleet();
    let session = session(&fleet).await;
    let mut log = session.read_log(LogStart::First).await.unwrap();
    let append = |n: u8| session.append(Bytes::from(vec![n]));
    let (a, b, c) = tokio::join!(append(1), append(2), append(3));
    for outcome in [a, b, c] {
        outcome.unwrap();
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(next(&mut log).await.payload[0]);
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2, 3]);
}

#[tokio::test]
async fn a_payload_above_the_limit_is_refused_and_the_session_lives() {
    let fleet = unique_fleet();
    let session = session(&fleet).await;
    let big = Bytes::from(vec![b' '; MAX_PAYLOAD + 1]);
    for error in [
        session.append(big.clone()).await.unwrap_err(),
        session
            .publish(Address::Everyone, Message::new("x", big.clone()))
            .await
            .unwrap_err(),
        session
            .post(Address::Coordinators, Message::new("x", big.clone()))
            .unwrap_err(),
    ] {
        assert!(
            matches!(error, LinkError::TooLarge { size, .. } if size == MAX_PAYLOAD + 1),
            "{error}"
        );
    }
    let error = session
        .publish(Address::Everyone, Message::new("k".repeat(256), ""))
        .await
        .unwrap_err();
    assert!(
        matches!(error, LinkError::TooLarge { size: 256, limit: 255 }),
        "{error}"
    );
    session.append(big.slice(1..)).await.unwrap();
    let mut log = session.read_log(LogStart::First).await.unwrap();
    assert_eq!(next(&mut log).await.payload.len(), MAX_PAYLOAD);
}

#[tokio::test]
async fn a_second_process_with_an_instance_id_is_refused_until_the_first_is_gone() {
    let fleet = unique_fleet();
    let (first, second) = (session(&fleet).await, session(&fleet).await);
    let mut held = first.replica_inbox(&id("0")).await.unwrap();
    let error = second.replica_inbox(&id("0")).await.unwrap_err();
    assert!(
        matches!(&error, LinkError::NameInUse { name } if *name == format!("{fleet}.replica.0")),
        "{error}"
    );
    // A refusal ends neither session.
    second.replica_inbox(&id("1")).await.unwrap();
    second.publish(Address::Everyone, message("still here")).await.unwrap();
    assert_eq!(next(&mut held).await.payload, "still here");
    first.close().await;
    assert_eq!(closed(&first).await, "closed by its owner");
    until_free("the instance ID", async || second.replica_inbox(&id("0")).await).await;
}

#[tokio::test]
async fn a_session_that_is_dropped_gives_up_its_names() {
    let fleet = unique_fleet();
    let (first, second) = (session(&fleet).await, session(&fleet).await);
    let mut held = first.replica_inbox(&id("0")).await.unwrap();
    drop(first);
    assert!(within("the end", held.recv()).await.is_none());
    // The inbox itself lives on and holds nothing back.
    until_free("the instance ID", async || second.replica_inbox(&id("0")).await).await;
    drop(held);
}

#[tokio::test]
async fn a_broadcast_reaches_replicas_and_coordinators() {
    let fleet = unique_fleet();
    let (leader, a, b) = (session(&fleet).await, session(&fleet).await, session(&fleet).await);
    let mut inboxes = vec![
        a.replica_inbox(&id("a")).await.unwrap(),
        b.replica_inbox(&id("b")).await.unwrap(),
        a.broadcasts().await.unwrap(),
        leader.broadcasts().await.unwrap(),
    ];
    let sent = Message {
        message_id: Some("m".to_owned()),
        correlation_id: Some("c".to_owned()),
        reply_to: Some(ReplyAddress("somewhere".to_owned())),
        expires: Some(Duration::from_secs(20)),
        ..Message::new("fleet.query.v1", r#"{"q":1}"#)
    };
    leader.publish(Address::Everyone, sent.clone()).await.unwrap();
    leader.post(Address::Everyone, message("posted")).unwrap();
    for inbox in &mut inboxes {
        assert_eq!(next(inbox).await, sent);
        assert_eq!(next(inbox).await.payload, "posted");
    }
}

#[tokio::test]
async fn a_message_to_one_replica_reaches_it_alone_or_is_known_to_reach_nobody() {
    let fleet = unique_fleet();
    let (leader, worker) = (session(&fleet).await, session(&fleet).await);
    let mut inbox = worker.replica_inbox(&id("0")).await.unwrap();
    let mut other = worker.replica_inbox(&id("1")).await.unwrap();
    let error = leader
        .publish(Address::Replica(id("7")), message("x"))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, LinkError::Unroutable { address } if address.ends_with(".replica.7")),
        "{error}"
    );
    leader
        .publish(Address::Replica(id("0")), message("for 0"))
        .await
        .unwrap();
    leader.publish(Address::Everyone, message("for all")).await.unwrap();
    assert_eq!(next(&mut inbox).await.payload, "for 0");
    assert_eq!(next(&mut other).await.payload, "for all");
}

#[tokio::test]
async fn more_messages_than_fit_on_the_way_all_arrive() {
    let fleet = unique_fleet();
    let (leader, worker) = (session(&fleet).await, session(&fleet).await);
    let mut inbox = worker.replica_inbox(&id("0")).await.unwrap();
    for n in 0..450_u32 {
        let message = Message::new("n", n.to_string());
        leader.publish(Address::Replica(id("0")), message).await.unwrap();
    }
    for n in 0..450_u32 {
        assert_eq!(next(&mut inbox).await.payload, n.to_string());
    }
}

#[tokio::test]
async fn every_coordinator_gets_every_report() {
    let fleet = unique_fleet();
    let (a, b, worker) = (session(&fleet).await, session(&fleet).await, session(&fleet).await);
    let mut reports = [a.reports().await.unwrap(), b.reports().await.unwrap()];
    worker.post(Address::Coordinators, message("1")).unwrap();
    worker.publish(Address::Coordinators, message("2")).await.unwrap();
    for inbox in &mut reports {
        assert_eq!(next(inbox).await.payload, "1");
        assert_eq!(next(inbox).await.payload, "2");
    }
}

#[tokio::test]
async fn answers_reach_who_asked() {
    let fleet = unique_fleet();
    let (asker, worker) = (session(&fleet).await, session(&fleet).await);
    let (address, mut answers) = asker.replies().await.unwrap();
    let mut inbox = worker.replica_inbox(&id("0")).await.unwrap();
    let query = Message {
        reply_to: Some(address),
        correlation_id: Some("7".to_owned()),
        ..message("?")
    };
    asker.publish(Address::Replica(id("0")), query).await.unwrap();
    let query = next(&mut inbox).await;
    let answer = Message {
        correlation_id: query.correlation_id,
        ..message("!")
    };
    worker.post(Address::Reply(query.reply_to.unwrap()), answer).unwrap();
    let got = next(&mut answers).await;
    assert_eq!((&*got.payload, got.correlation_id.as_deref()), (&b"!"[..], Some("7")));
    // To somebody who is gone, to an own object that is no reply queue.
    let gone = ReplyAddress(format!("{fleet}.reply.gone"));
    worker.publish(Address::Reply(gone), message("!")).await.unwrap();
    let log = ReplyAddress(format!("{fleet}.state"));
    let error = worker.publish(Address::Reply(log), message("!")).await.unwrap_err();
    assert!(matches!(error, LinkError::Unroutable { .. }), "{error}");
}

#[tokio::test]
async fn a_request_comes_again_until_it_is_done_and_never_after() {
    let fleet = unique_fleet();
    let (outside, first) = (session(&fleet).await, session(&fleet).await);
    for name in ["r1", "r2"] {
        let request = Message {
            message_id: Some(name.to_owned()),
            ..message("{}")
        };
        outside.publish(Address::Requests, request).await.unwrap();
    }
    let mut requests = first.requests().await.unwrap();
    let seen = next(&mut requests).await;
    assert_eq!(
        (seen.message.message_id.as_deref(), seen.redelivered),
        (Some("r1"), false)
    );
    drop(seen);
    let again = next(&mut requests).await;
    assert_eq!(
        (again.message.message_id.as_deref(), again.redelivered),
        (Some("r1"), true)
    );
    // The session ends with the request in hand: nothing is lost, and settling it is an error.
    first.close().await;
    assert!(matches!(again.done().await, Err(LinkError::Closed { .. })));
    let second = session(&fleet).await;
    let mut requests = second.requests().await.unwrap();
    let again = next(&mut requests).await;
    assert_eq!(
        (again.message.message_id.as_deref(), again.redelivered),
        (Some("r1"), true)
    );
    again.done().await.unwrap();
    let other = next(&mut requests).await;
    assert_eq!(other.message.message_id.as_deref(), Some("r2"));
    other.done().await.unwrap();
    second.close().await;
    let third = session(&fleet).await;
    let mut requests = third.requests().await.unwrap();
    outside.publish(Address::Requests, message("last")).await.unwrap();
    assert_eq!(next(&mut requests).await.message.payload, "last");
}

#[tokio::test]
async fn a_dead_letter_carries_its_reason() {
    let fleet = unique_fleet();
    let session = session(&fleet).await;
    let reason = "é".repeat(400);
    let to = Address::Dead { reason: reason.clone() };
    session.publish(to, message("not json")).await.unwrap();
    let letter = foreign::take(shared_broker(), &format!("{fleet}.dead")).await;
    assert_eq!(letter.data, b"not json");
    let headers = letter.properties.headers().clone().unwrap();
    let Some(lapin::types::AMQPValue::LongString(sent)) = headers.inner().get("x-fleet-reason") else {
        panic!("{headers:?}");
    };
    assert_eq!(sent.as_bytes(), &reason.as_bytes()[..512]);
    assert_eq!(letter.properties.delivery_mode(), &Some(2));
}

#[tokio::test]
async fn what_foreigners_send_arrives_as_bytes_and_blocks_nothing() {
    let fleet = unique_fleet();
    let (leader, worker) = (session(&fleet).await, session(&fleet).await);
    let mut inbox = worker.replica_inbox(&id("0")).await.unwrap();
    let mut requests = leader.requests().await.unwrap();
    let broadcast = format!("{fleet}.broadcast");
    foreign::publish(shared_broker(), &broadcast, "", b"\xff\x00garbage").await;
    foreign::publish(shared_broker(), &format!("{fleet}.requests"), "", b"\xfe").await;
    let foreign = next(&mut inbox).await;
    assert_eq!(foreign, Message::new("", &b"\xff\x00garbage"[..]));
    let request = next(&mut requests).await;
    assert_eq!(request.message.payload, &b"\xfe"[..]);
    request.done().await.unwrap();
    leader.publish(Address::Everyone, message("next")).await.unwrap();
    assert_eq!(next(&mut inbox).await.payload, "next");
}

#[tokio::test]
async fn a_reader_that_begins_past_the_end_waits_until_the_log_gets_there() {
    let fleet = unique_fleet();
    let session = session(&fleet).await;
    let mut log = session.read_log(LogStart::Offset(60)).await.unwrap();
    for n in 0..100 {
        session.append(Bytes::from(format!("{n}"))).await.unwrap();
    }
    let first = next(&mut log).await;
    assert!(first.offset >= 60, "{first:?}");
}

#[tokio::test]
async fn a_client_gets_all_answers_to_its_request_and_only_those() {
    let fleet = unique_fleet();
    let coordinator = session(&fleet).await;
    let client = AmqpClient::new(&config(shared_broker(), &fleet)).unwrap();
    // As a coordinator does before it takes requests: a client makes no fleet's exchanges.
    let _replies = coordinator.replies().await.unwrap();
    let mut requests = coordinator.requests().await.unwrap();
    let mut answers = client
        .request(message(r#"{"kind":"stop"}"#), Duration::from_secs(20))
        .await
        .unwrap();
    let request = next(&mut requests).await;
    assert!(request.message.message_id.is_some());
    let to = Address::Reply(request.message.reply_to.clone().unwrap());
    let answer = |payload, id: &Option<String>| Message {
        correlation_id: id.clone(),
        ..message(payload)
    };
    let own = request.message.correlation_id.clone();
    coordinator.publish(to.clone(), answer("accepted", &own)).await.unwrap();
    coordinator.publish(to.clone(), answer("foreign", &None)).await.unwrap();
    coordinator.publish(to, answer("applied", &own)).await.unwrap();
    request.done().await.unwrap();
    assert_eq!(answers.next().await.unwrap().payload, "accepted");
    assert_eq!(answers.next().await.unwrap().payload, "applied");
    drop(answers);
    let mut none = client.request(message("{}"), Duration::from_millis(50)).await.unwrap();
    assert!(matches!(none.next().await, Err(LinkError::TimedOut { .. })));
    let mut listener = coordinator.broadcasts().await.unwrap();
    client.publish_only(Address::Everyone, message("hello")).await.unwrap();
    assert_eq!(next(&mut listener).await.payload, "hello");
}

#[tokio::test]
async fn a_client_makes_nothing_for_a_fleet_that_does_not_exist() {
    let fleet = unique_fleet();
    let client = AmqpClient::new(&config(shared_broker(), &fleet)).unwrap();
    for _ in 0..2 {
        let error = client
            .request(message("{}"), Duration::from_secs(20))
            .await
            .unwrap_err();
        assert!(matches!(error, LinkError::Absent { .. }), "{error}");
        let sent = client.publish_only(Address::Requests, message("{}")).await;
        let error = sent.unwrap_err();
        assert!(error.to_string().contains("is this the fleet's name"), "{error}");
    }
}

#[tokio::test]
async fn a_requester_from_outside_is_answered_on_a_queue_of_its_own() {
    let fleet = unique_fleet();
    let coordinator = session(&fleet).await;
    let queue = format!("outside-{fleet}");
    let consumer = foreign::consume_own(shared_broker(), &queue).await;
    let to = Address::Reply(ReplyAddress(queue.clone()));
    coordinator.publish(to, message("accepted")).await.unwrap();
    assert_eq!(foreign::next(consumer).await.data, b"accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_may_ask_for_the_lock_as_often_as_it_likes() {
    let fleet = unique_fleet();
    let (leader, standby) = (session(&fleet).await, session(&fleet).await);
    assert!(leader.try_lead().await.unwrap());
    for _ in 0..500 {
        assert!(!standby.try_lead().await.unwrap());
    }
    standby.append(Bytes::from_static(b"it lives")).await.unwrap();
}
