//! Connections, and streams that follow the fleet.

use futures_lite::StreamExt as _;
use mobu_fleet::runtime::http::serve;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// Reads events until one satisfies the condition.
async fn next_event(
    stream: &mut (impl futures_lite::Stream<Item = Result<bytes::Bytes, axum::Error>> + Unpin),
    seen: &mut String,
    condition: impl Fn(&str) -> bool,
) {
    let read = async {
        while !condition(seen) {
            let part = stream.next().await.expect("the stream goes on").unwrap();
            seen.push_str(std::str::from_utf8(&part).unwrap());
        }
    };
    let ended = tokio::time::timeout(PATIENCE, read).await;
    assert!(ended.is_ok(), "last seen {seen}");
}

#[tokio::test(start_paused = true)]
async fn events_tell_where_the_fleet_stands_and_what_changes() {
    let stage = Stage::of(2).await;
    let response = stage
        .begin("GET", "/mobu/events", &[("x-auth-request-user", "rra")], "")
        .await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let mut seen = String::new();
    next_event(&mut stream, &mut seen, |seen| seen.contains("\"instance_id\":\"1\"")).await;
    insta::assert_snapshot!(seen, @r#"
    event: fleet
    data: {"epoch":1,"revision":0,"stage":"leading","active":true,"converged":true}

    event: replica
    data: {"instance_id":"0","state":"ready","applied_revision":0}

    event: replica
    data: {"instance_id":"1","state":"ready","applied_revision":0}
    "#);
    stage.put(&lambs("lambs", 1)).await;
    seen.clear();
    next_event(&mut stream, &mut seen, |seen| seen.contains("event: revision")).await;
    assert!(
        seen.contains("id: 1\nevent: revision\ndata: {\"revision\":1,"),
        "{seen}"
    );
    stage.mood(1, |mood| mood.reports = false);
    next_event(&mut stream, &mut seen, |seen| seen.contains("\"state\":\"silent\"")).await;
    next_event(&mut stream, &mut seen, |seen| seen.contains(": still here")).await;
    stage.tasks.drain_token().cancel();
    while stream.next().await.is_some() {}
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_was_away_gets_what_is_kept_and_learns_what_is_not() {
    let stage = Stage::of(1).await;
    for _ in 0..105 {
        stage.put(&lambs("lambs", 1)).await;
    }
    let headers = [("x-auth-request-user", "rra"), ("last-event-id", "2")];
    let mut stream = stage
        .begin("GET", "/mobu/events", &headers, "")
        .await
        .into_body()
        .into_data_stream();
    let mut seen = String::new();
    next_event(&mut stream, &mut seen, |seen| seen.contains("id: 105\n")).await;
    assert!(
        seen.contains("event: lagged\ndata: {\"missed_revisions\":3}\n\nid: 6\nevent: revision"),
        "{seen}"
    );
    stage.finish().await;
}

async fn served(stage: &Stage) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = serve(listener, stage.router.clone(), 1024, stage.tasks.drain_token());
    let kind = mobu_fleet::runtime::tasks::TaskKind::Expendable;
    (address, stage.tasks.spawn(kind, "http", serving))
}

async fn said(stream: &mut TcpStream, until: &str) -> String {
    let mut said = String::new();
    let mut bytes = [0; 4096];
    let read = async {
        while !said.contains(until) {
            let count = stream.read(&mut bytes).await.unwrap();
            if count == 0 {
                break;
            }
            said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("the server answers");
    said
}

/// A real socket does not know the test's clock, so these run on the real one, with a fleet that begins quickly.
async fn quick() -> Stage {
    let hub = Hub::new();
    let tasks = Tasks::new();
    let mut rules = rules(1);
    rules.reign.genesis_timeout = Duration::from_millis(100);
    rules.reign.ask_timeout = Duration::from_millis(100);
    let fleet = actor::start(rules, Arc::new(hub.clone()), &tasks, fastrand::Rng::with_seed(7));
    let router = router(fleet.clone(), Arc::new(config(1)), &tasks);
    let mut stage = Stage {
        router,
        fleet,
        hub,
        tasks,
        parts: Vec::new(),
    };
    stage.add("0", 1);
    stage
        .until("a replica that is ready", |status| {
            status.is_leading() && status.converged
        })
        .await;
    stage
}

#[tokio::test]
async fn answers_go_over_a_connection_that_stays_open_until_the_drain() {
    let stage = quick().await;
    stage.put(&facts()).await;
    let (address, serving) = served(&stage).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let user = "host: example.com\r\nx-auth-request-user: rra\r\n\r\n";
    stream
        .write_all(format!("GET /mobu/flocks HTTP/1.1\r\n{user}").as_bytes())
        .await
        .unwrap();
    assert!(
        said(&mut stream, "[\"facts\"]")
            .await
            .starts_with("HTTP/1.1 200 OK\r\n")
    );
    stream
        .write_all(format!("HEAD /mobu/flocks HTTP/1.1\r\n{user}").as_bytes())
        .await
        .unwrap();
    let head = said(&mut stream, "\r\n\r\n").await;
    assert!(
        head.starts_with("HTTP/1.1 405 ") && head.contains("allow: GET\r\n") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    stream
        .write_all(format!("DELETE /mobu/flocks/facts HTTP/1.1\r\n{user}").as_bytes())
        .await
        .unwrap();
    let deleted = said(&mut stream, "\r\n\r\n").await;
    assert!(
        deleted.starts_with("HTTP/1.1 204 No Content\r\ncontent-type: application/json\r\n"),
        "{deleted}"
    );
    assert!(
        !deleted.contains("content-length") && !deleted.contains("transfer-encoding"),
        "{deleted}"
    );
    let mut events = TcpStream::connect(address).await.unwrap();
    events
        .write_all(format!("GET /mobu/events HTTP/1.1\r\n{user}").as_bytes())
        .await
        .unwrap();
    said(&mut events, "event: fleet").await;
    stage.tasks.drain_token().cancel();
    assert!(
        said(&mut events, "\r\n0\r\n\r\n").await.ends_with("0\r\n\r\n"),
        "the stream ends in an orderly way"
    );
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    serving.await.unwrap();
    stage.finish().await;
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let stage = quick().await;
    let (address, _) = served(&stage).await;
    for (request, expected) in [
        ("nonsense\r\n\r\n".to_owned(), "HTTP/1.1 400 "),
        (
            format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(200_000)),
            "HTTP/1.1 431 ",
        ),
        (
            format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(1000)),
            "HTTP/1.1 431 ",
        ),
        (
            "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx".to_owned(),
            "HTTP/1.1 400 ",
        ),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may be done with the request before it has come whole.
        drop(stream.write_all(request.as_bytes()).await);
        let answer = said(&mut stream, "\r\n\r\n").await;
        assert!(answer.starts_with(expected), "{answer}");
    }
    stage.finish().await;
}

/// A paused clock leaps whenever everybody waits: a client that does nothing costs no real time here.
#[tokio::test(start_paused = true)]
async fn a_client_that_never_ends_its_head_is_cut_off() {
    let stage = Stage::of(1).await;
    let (address, _) = served(&stage).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /mobu/flocks HTTP/1.1\r\nhost: exa")
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    stage.finish().await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_a_log_and_never_reads_is_cut_off() {
    let stage = Stage::of(1).await;
    stage.put(&facts()).await;
    let log = "x".repeat(32 * 1024 * 1024);
    stage.mood(0, |mood| mood.log.clone_from(&log));
    let (address, _) = served(&stage).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let path = "/mobu/flocks/facts/monkeys/bot-mobu-facts1/log";
    let head = format!("GET {path} HTTP/1.1\r\nhost: example.com\r\nx-auth-request-user: rra\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    said(&mut stream, "200 OK").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let mut rest = Vec::new();
    // Whether the cut shows as an end or as a reset is the system's choice.
    drop(stream.read_to_end(&mut rest).await);
    assert!(rest.len() < log.len(), "{} bytes came", rest.len());
    stage.finish().await;
}
