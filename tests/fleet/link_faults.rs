//! What the link makes of faults, on a real RabbitMQ.

use std::time::Duration;

use bytes::Bytes;
use fleet_tests::broker::{Broker, config, link, role_users, shared_broker, unique_fleet};
use fleet_tests::proxy::Proxy;
use mobu_fleet::link::amqp::AmqpLink;
use mobu_fleet::link::amqp::client::AmqpClient;
use mobu_fleet::link::topology::Topology;
use mobu_fleet::link::{Address, Link, LinkError, LogStart, Message, ReplyAddress, SessionHealth};

use crate::foreign;
use crate::support::{closed, id, message, next, open, session, within};

/// A proxy before the shared broker, and the URL that leads through it.
async fn proxied() -> (Proxy, String) {
    let url = shared_broker();
    let port = url::Url::parse(url).unwrap().port().unwrap();
    let proxy = Proxy::start(port).await.unwrap();
    let through = url.replace(&format!(":{port}"), &format!(":{}", proxy.port()));
    (proxy, through)
}

#[tokio::test]
async fn one_session_leads_until_its_connection_breaks() {
    let fleet = unique_fleet();
    let (proxy, through) = proxied().await;
    let leader = open(&through, &fleet).await;
    let standby = session(&fleet).await;
    assert!(leader.try_lead().await.unwrap());
    assert!(leader.try_lead().await.unwrap(), "it still does");
    assert!(!standby.try_lead().await.unwrap());
    let mut inbox = leader.broadcasts().await.unwrap();
    let mut log = leader.read_log(LogStart::First).await.unwrap();
    let (_, mut answers) = leader.replies().await.unwrap();
    proxy.reset();
    let reason = closed(&leader).await;
    assert!(!reason.is_empty());
    assert!(within("the end", inbox.recv()).await.is_none());
    assert!(within("the end", log.recv()).await.is_none());
    assert!(within("the end", answers.recv()).await.is_none());
    assert!(matches!(
        leader.append(Bytes::new()).await,
        Err(LinkError::Closed { .. })
    ));
    assert!(matches!(
        leader.post(Address::Everyone, message("")),
        Err(LinkError::Closed { .. })
    ));
    within("the lock", async {
        while !standby.try_lead().await.unwrap() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn an_object_with_other_arguments_is_a_refusal_that_names_it() {
    let fleet = unique_fleet();
    foreign::declare(shared_broker(), &format!("{fleet}.state")).await;
    let session = session(&fleet).await;
    let error = session.read_log(LogStart::First).await.unwrap_err();
    assert!(error.needs_attention(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!("{fleet}.state")) && text.contains("inequivalent arg"),
        "{text}"
    );
}

#[tokio::test]
async fn a_log_that_is_deleted_ends_the_session() {
    let fleet = unique_fleet();
    let session = session(&fleet).await;
    let mut log = session.read_log(LogStart::First).await.unwrap();
    session.append(Bytes::from_static(b"x")).await.unwrap();
    next(&mut log).await;
    foreign::delete(shared_broker(), &format!("{fleet}.state")).await;
    assert!(within("the end", log.recv()).await.is_none());
    assert!(closed(&session).await.contains(".state"));
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_noticed() {
    let fleet = unique_fleet();
    let (proxy, through) = proxied().await;
    let mut config = config(&through, &fleet);
    // What must succeed has the same limits as what must not.
    config.operation_timeout = Duration::from_secs(4);
    config.connect_timeout = Duration::from_secs(4);
    let link = AmqpLink::new(config).unwrap();
    let session = link.open("test").await.unwrap();
    session.append(Bytes::from_static(b"1")).await.unwrap();
    proxy.black_hole();
    let error = session.append(Bytes::from_static(b"2")).await.unwrap_err();
    assert!(
        matches!(error, LinkError::TimedOut { .. } | LinkError::Closed { .. }),
        "{error}"
    );
    // Nothing is asked of it, and still it ends: by the operation limit or by the heartbeat.
    closed(&session).await;
    let error = link.open("test").await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
    proxy.pass();
    let session = within("a session", link.open("test")).await.unwrap();
    session.append(Bytes::from_static(b"3")).await.unwrap();
    within("close", session.close()).await;
}

#[tokio::test]
async fn a_wrong_password_and_a_missing_virtual_host_need_attention() {
    let fleet = unique_fleet();
    let url = shared_broker();
    let wrong = url.replace("guest:guest", "guest:hunter2");
    let error = link(&wrong, &fleet).open("test").await.unwrap_err();
    assert!(
        error.needs_attention() && error.to_string().contains("user `guest`"),
        "{error}"
    );
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let nowhere = url.replace("/?", "/nowhere?");
    let error = link(&nowhere, &fleet).open("test").await.unwrap_err();
    assert!(
        error.needs_attention() && error.to_string().contains("`nowhere`"),
        "{error}"
    );
    // A node that is down is passed over.
    let both = format!("amqp://guest:guest@127.0.0.1:1/,{url}");
    within("the second", link(&both, &fleet).open("test")).await.unwrap();
    let error = link("amqp://guest:guest@127.0.0.1:1/", &fleet)
        .open("test")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, LinkError::Unreachable { host, .. } if host == "127.0.0.1:1"),
        "{error}"
    );
}

#[tokio::test]
async fn a_broker_that_was_killed_comes_back_with_the_log() {
    let broker = Broker::start().await.unwrap();
    let fleet = unique_fleet();
    let session = open(&broker.url(), &fleet).await;
    let mut log = session.read_log(LogStart::First).await.unwrap();
    let mut inbox = session.replica_inbox(&id("0")).await.unwrap();
    session.publish(Address::Requests, message("kept")).await.unwrap();
    for n in 0..50 {
        session.append(Bytes::from(format!("{n}"))).await.unwrap();
        next(&mut log).await;
    }
    broker.sync().await.unwrap();
    broker.kill().await.unwrap();
    closed(&session).await;
    assert!(within("the end", log.recv()).await.is_none());
    assert!(within("the end", inbox.recv()).await.is_none());
    within("close of a dead session", session.close()).await;
    let error = link(&broker.url(), &fleet).open("test").await.unwrap_err();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
    broker.restart().await.unwrap();
    // It answers before its queues are back. That is an error which trying again mends, as a supervisor does.
    let (session, mut log) = within("the log", async {
        loop {
            let session = open(&broker.url(), &fleet).await;
            match session.read_log(LogStart::First).await {
                Ok(log) => return (session, log),
                Err(error) => assert!(!error.needs_attention(), "{error}"),
            }
        }
    })
    .await;
    for n in 0..50 {
        assert_eq!(next(&mut log).await.payload, format!("{n}"));
    }
    let mut requests = session.requests().await.unwrap();
    assert_eq!(next(&mut requests).await.message.payload, "kept");
    session.replica_inbox(&id("0")).await.unwrap();
}

#[tokio::test]
async fn while_the_broker_is_low_on_memory_publishing_times_out_and_posting_does_not_wait() {
    let broker = Broker::start().await.unwrap();
    let fleet = unique_fleet();
    let mut config = config(&broker.url(), &fleet);
    config.operation_timeout = Duration::from_secs(4);
    let link = AmqpLink::new(config).unwrap();
    let session = link.open("test").await.unwrap();
    let mut log = session.read_log(LogStart::First).await.unwrap();
    let mut listener = session.broadcasts().await.unwrap();
    session.append(Bytes::from_static(b"before")).await.unwrap();
    next(&mut log).await;
    broker.alarm(true).await.unwrap();
    let error = session.append(Bytes::from_static(b"during")).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error}");
    let mut health = session.health();
    let is_blocked = |health: &SessionHealth| matches!(health, SessionHealth::Blocked { .. });
    let reason = within("blocked", health.wait_for(is_blocked)).await.unwrap().clone();
    assert!(
        matches!(&reason, SessionHealth::Blocked { reason } if reason.contains("memory")),
        "{reason:?}"
    );
    let error = session.post(Address::Everyone, message("lost")).unwrap_err();
    assert!(matches!(error, LinkError::Full), "{error}");
    let error = session.publish(Address::Everyone, message("late")).await.unwrap_err();
    assert!(matches!(error, LinkError::TimedOut { .. }), "{error}");
    broker.alarm(false).await.unwrap();
    let after = within("unblocked", health.wait_for(|health| !is_blocked(health)))
        .await
        .unwrap()
        .clone();
    assert_eq!(after, SessionHealth::Open);
    // The outcome was unknown, and here it was stored; the session lived through it all.
    assert_eq!(next(&mut log).await.payload, "during");
    session.publish(Address::Everyone, message("after")).await.unwrap();
    while next(&mut listener).await.payload != "after" {}
    // A session that is given up during an alarm does not wait for its end.
    broker.alarm(true).await.unwrap();
    session.append(Bytes::from_static(b"again")).await.unwrap_err();
    within("close", session.close()).await;
    assert_eq!(closed(&session).await, "closed by its owner");
}

#[tokio::test]
async fn each_user_may_do_what_its_role_needs_and_no_more() {
    let broker = Broker::start().await.unwrap();
    let fleet = unique_fleet();
    let topology = Topology::new(fleet.clone());
    broker.add_users(&role_users(&topology)).await.unwrap();
    let open_as = async |user: &str| open(&broker.url_as(user, user), &fleet).await;

    // Before any coordinator there is nothing to read, and trying again may help.
    let early = open_as("auditor").await;
    let error = early.read_log(LogStart::First).await.unwrap_err();
    assert!(
        !error.needs_attention() && error.to_string().contains("does not exist yet"),
        "{error}"
    );

    let coordinator = open_as("coordinator").await;
    assert!(coordinator.try_lead().await.unwrap());
    let mut requests = coordinator.requests().await.unwrap();
    let mut reports = coordinator.reports().await.unwrap();
    let mut heard = coordinator.broadcasts().await.unwrap();
    let (address, mut answers) = coordinator.replies().await.unwrap();
    coordinator.append(Bytes::from_static(b"state")).await.unwrap();
    let events = Address::Events {
        key: "a.b.c".to_owned(),
    };
    let worker = open_as("worker").await;
    let mut log = worker.read_log(LogStart::First).await.unwrap();
    assert_eq!(next(&mut log).await.payload, "state");
    let mut inbox = worker.replica_inbox(&id("0")).await.unwrap();
    worker.replies().await.unwrap();
    worker.publish(Address::Coordinators, message("report")).await.unwrap();
    worker
        .publish(Address::Reply(address), message("answer"))
        .await
        .unwrap();
    // What no coordinator has made by now, nobody makes for a worker.
    worker.publish(events, message("e")).await.unwrap();
    let dead = Address::Dead { reason: "r".to_owned() };
    worker.publish(dead, message("letter")).await.unwrap();
    assert_eq!(next(&mut reports).await.payload, "report");
    assert_eq!(next(&mut answers).await.payload, "answer");
    coordinator
        .publish(Address::Replica(id("0")), message("query"))
        .await
        .unwrap();
    assert_eq!(next(&mut inbox).await.payload, "query");
    // An answer to where a worker may not write is lost, and nothing else with it.
    let outside = Address::Reply(ReplyAddress("outside".to_owned()));
    for _ in 0..3 {
        worker.post(outside.clone(), message("answer")).unwrap();
    }
    worker.publish(Address::Coordinators, message("second")).await.unwrap();
    assert_eq!(next(&mut reports).await.payload, "second");
    let error = worker.append(Bytes::from_static(b"forged")).await.unwrap_err();
    assert!(error.needs_attention(), "{error}");
    assert!(closed(&worker).await.contains("ACCESS_REFUSED"));
    // What is not confirmed is refused later, and then says why as well.
    let worker = open_as("worker").await;
    worker.post(Address::Everyone, message("forged")).unwrap();
    let reason = closed(&worker).await;
    assert!(
        reason.contains("ACCESS_REFUSED") && reason.contains(".broadcast"),
        "{reason}"
    );

    let publisher = AmqpClient::new(&config(&broker.url_as("publisher", "publisher"), &fleet)).unwrap();
    let mut replies = publisher.request(message("{}"), Duration::from_secs(20)).await.unwrap();
    let request = next(&mut requests).await;
    let answer = Message {
        correlation_id: request.message.correlation_id.clone(),
        ..message("accepted")
    };
    let to = Address::Reply(request.message.reply_to.clone().unwrap());
    coordinator.publish(to, answer).await.unwrap();
    request.done().await.unwrap();
    assert_eq!(replies.next().await.unwrap().payload, "accepted");
    let error = publisher
        .publish_only(Address::Everyone, message("x"))
        .await
        .unwrap_err();
    assert!(error.needs_attention(), "{error}");

    let auditor = open_as("auditor").await;
    let mut log = auditor.read_log(LogStart::First).await.unwrap();
    assert_eq!(next(&mut log).await.payload, "state");
    let error = auditor.replica_inbox(&id("9")).await.unwrap_err();
    assert!(error.needs_attention(), "{error}");
    coordinator.publish(Address::Everyone, message("done")).await.unwrap();
    assert_eq!(next(&mut heard).await.payload, "done");
}
