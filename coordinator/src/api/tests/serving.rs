//! Connections, and streams that follow the fleet.

use futures_lite::StreamExt as _;
use mobu_fleet::runtime::http::serve;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::api::Auth;

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
    quick_with(config(1)).await
}

async fn quick_with(config: ApiConfig) -> Stage {
    let hub = Hub::new();
    let tasks = Tasks::new();
    let mut rules = rules(1);
    rules.reign.genesis_timeout = Duration::from_millis(100);
    rules.reign.ask_timeout = Duration::from_millis(100);
    let fleet = actor::start(rules, Arc::new(hub.clone()), &tasks, fastrand::Rng::with_seed(7));
    let router = router(fleet.clone(), Arc::new(config), &tasks);
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

/// Sends bytes, and returns all that is answered until the server ends the connection or has nothing to add.
async fn answered(address: std::net::SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have closed before it has taken everything.
    drop(stream.write_all(request.as_bytes()).await);
    drop(stream.shutdown().await);
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    let ended = tokio::time::timeout(PATIENCE, read).await;
    drop(ended.expect("the server answers or closes"));
    String::from_utf8_lossy(&said).into_owned()
}

/// What somebody sends who knows no token: odd heads, odd paths, and one request inside another.
fn ways_around() -> Vec<String> {
    let mut ways = Vec::new();
    for path in [
        "/mobu/flocks",
        "//mobu/flocks",
        "/mobu//flocks",
        "/mobu/%66locks",
        "/mobu%2Fflocks",
        "/mobu/./flocks",
        "/mobu/docs/../flocks",
        "/mobu/docs/%2e%2e/flocks",
        "/mobu/docs/..%2fflocks",
        "/mobu/flocks;x=y",
        "/mobu;x/flocks",
        "/MOBU/flocks",
        "/mobu/FLOCKS",
        "/mobu/flocks.",
        "/mobu/flocks/.",
        "/mobu/flocks%00",
        "/mobu/flocks?x=/docs",
        "/healthz/../mobu/flocks",
        "/mobu/openapi.json/../flocks",
        "http://x/mobu/flocks",
        "http://x@y/mobu/flocks",
        "https:/mobu/flocks",
        "*",
        "mobu/flocks",
        "/\\mobu/flocks",
        "/mobu/flocks/facts",
        "/mobu/events",
        "/mobu/fleet",
        "/mobu/summary",
        "/mobu/flocks/facts/monkeys/m/log",
    ] {
        ways.push(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n"));
    }
    for head in [
        "x-auth-request-user: admin",
        "authorization: Bearer wrong\r\nauthorization: Bearer a-right-token-of-some-length",
        "authorization: Bearer a-right-token-of-some-length\r\nauthorization: Bearer a-right-token-of-some-length",
        "authorization: Bearer",
        "authorization: Bearer ",
        "authorization: Bearer  wrong",
        "authorization: Basic a-right-token-of-some-length",
        "authorization: Bearer a-right-token-of-some-lengt",
        "authorization: Bearer a-right-token-of-some-length1",
        "authorization: Bearer A-RIGHT-TOKEN-OF-SOME-LENGTH",
        "authorization: Bearera-right-token-of-some-length",
        "authorization: Bearer a-right-token-of-some-length, Bearer x",
        "authorization: Bearer\r\n a-right-token-of-some-length",
        "authorization : Bearer a-right-token-of-some-length",
        " authorization: Bearer a-right-token-of-some-length",
        "authorization_: Bearer a-right-token-of-some-length",
        "proxy-authorization: Bearer a-right-token-of-some-length",
        "cookie: authorization=a-right-token-of-some-length",
        "x-original-url: /healthz",
        "x-rewrite-url: /healthz",
        "x-forwarded-prefix: /mobu/docs",
        "x-forwarded-host: localhost\r\nx-forwarded-user: admin",
        "x-http-method-override: GET",
        "x-forwarded-for: 127.0.0.1",
        "forwarded: for=127.0.0.1;host=localhost",
        "connection: authorization",
    ] {
        ways.push(format!("GET /mobu/flocks HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n"));
        ways.push(format!(
            "DELETE /mobu/flocks/facts HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n"
        ));
    }
    let inner = "DELETE /mobu/flocks/facts HTTP/1.1\r\nhost: x\r\nx-auth-request-user: admin\r\n\r\n";
    let chunk = format!("{:x}\r\n{inner}\r\n0\r\n\r\n", inner.len());
    let length = inner.len();
    for (head, body) in [
        (
            format!("content-length: {length}\r\ntransfer-encoding: chunked"),
            chunk.clone(),
        ),
        (
            format!("transfer-encoding: chunked\r\ncontent-length: {length}"),
            chunk.clone(),
        ),
        (
            "content-length: 4\r\ntransfer-encoding: chunked".to_owned(),
            format!("0\r\n\r\n{inner}"),
        ),
        (
            format!("content-length: 0\r\ncontent-length: {length}"),
            inner.to_owned(),
        ),
        (
            format!("content-length: {length}\r\ncontent-length: 0"),
            inner.to_owned(),
        ),
        (format!("content-length: 0, {length}"), inner.to_owned()),
        (format!("content-length: +{length}"), inner.to_owned()),
        ("content-length: -1".to_owned(), inner.to_owned()),
        ("transfer-encoding: identity, chunked".to_owned(), chunk.clone()),
        ("transfer-encoding: chunked, identity".to_owned(), chunk.clone()),
        ("transfer-encoding: xchunked".to_owned(), chunk.clone()),
        ("transfer-encoding : chunked".to_owned(), chunk.clone()),
        ("transfer-encoding:\r\n chunked".to_owned(), chunk.clone()),
        ("transfer-encoding: chunked".to_owned(), format!("0;\n{inner}")),
        ("transfer-encoding: chunked".to_owned(), format!("-1\r\n{inner}")),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("10000000000000000\r\n{inner}"),
        ),
        (
            "transfer-encoding: chunked".to_owned(),
            format!("0\r\nauthorization: Bearer a-right-token-of-some-length\r\n\r\n{inner}"),
        ),
    ] {
        for path in ["/healthz", "/mobu/stop", "/mobu/github/refresh/webhook"] {
            ways.push(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n{body}"));
        }
    }
    for method in ["HEAD", "OPTIONS", "TRACE", "PATCH", "get", "CONNECT"] {
        ways.push(format!("{method} /mobu/flocks HTTP/1.1\r\nhost: x\r\n\r\n"));
        ways.push(format!(
            "{method} /mobu/flocks/facts HTTP/1.1\r\nhost: x\r\nx-http-method: DELETE\r\n\r\n"
        ));
    }
    // Without a version, without line ends as they should be, with more than one request.
    ways.push("GET /mobu/flocks\r\n\r\n".to_owned());
    ways.push("GET /mobu/flocks HTTP/0.9\r\n\r\n".to_owned());
    ways.push("GET /mobu/flocks HTTP/1.1\nhost: x\nauthorization: Bearer x\n\n".to_owned());
    ways.push(format!("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n{inner}"));
    ways
}

#[tokio::test]
async fn no_odd_head_path_or_hidden_request_gets_past_the_token() {
    let token = SecretString::from("a-right-token-of-some-length");
    let stage = quick_with(ApiConfig {
        auth: Auth::Token(vec![token]),
        ..config(1)
    })
    .await;
    let (address, serving) = served(&stage).await;
    let right = "host: x\r\nconnection: close\r\nauthorization: bearer a-right-token-of-some-length\r\n";
    let flock = facts().to_string();
    let length = flock.len();
    let put = format!(
        "PUT /mobu/flocks HTTP/1.1\r\n{right}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{flock}"
    );
    let started = answered(address, &put).await;
    assert!(started.starts_with("HTTP/1.1 201 "), "{started}");
    for way in ways_around() {
        let said = answered(address, &way).await;
        // Only what everybody may see is told: health, the index, the documentation.
        let told = said.contains("facts") && !said.contains("flock_not_found") || said.contains("event:");
        assert!(!told, "{way:?} is told {said}");
        for status in said.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)) {
            let harmless = matches!(
                status,
                "200" | "307" | "400" | "401" | "404" | "405" | "413" | "414" | "431" | "501" | "505"
            );
            assert!(harmless, "{way:?} is answered {said}");
        }
    }
    let list = answered(address, &format!("GET /mobu/flocks HTTP/1.1\r\n{right}\r\n")).await;
    assert!(list.ends_with("[\"facts\"]"), "the flock runs on: {list}");
    stage.tasks.drain_token().cancel();
    serving.await.unwrap();
    stage.finish().await;
}

#[tokio::test]
async fn nobody_is_named_but_by_the_one_header_of_the_ingress() {
    let stage = quick().await;
    let (address, serving) = served(&stage).await;
    for head in [
        "x-auth-request-user: rra\r\nX-Auth-Request-User: admin",
        "x-auth-request-user: rra\r\n admin",
        "x-auth-request-user:\r\n admin",
        "x-auth-request-user:",
        "x-auth-request-user: \t ",
        "x-auth-request-user : admin",
        " x-auth-request-user: admin",
        "x_auth_request_user: admin",
        "x-auth-request-user\0: admin",
        "x-forwarded-user: admin",
        "remote-user: admin",
        "authorization: Basic YWRtaW46",
        "connection: x-auth-request-user",
    ] {
        let said = answered(
            address,
            &format!("GET /mobu/flocks HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n"),
        )
        .await;
        let refused = said.starts_with("HTTP/1.1 422 ") || said.starts_with("HTTP/1.1 400 ");
        assert!(refused, "{head:?} is answered {said}");
    }
    let named = "GET /mobu/flocks HTTP/1.1\r\nhost: x\r\nX-AUTH-Request-User: rra\r\nconnection: close\r\n\r\n";
    let said = answered(address, named).await;
    assert!(said.starts_with("HTTP/1.1 200 "), "{said}");
    stage.tasks.drain_token().cancel();
    serving.await.unwrap();
    stage.finish().await;
}
