//! `HTTPRunner` against a real service.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Redirect};
use axum::routing::{any, get, post};
use mobu_worker::WorkerConfig;
use serde_json::{Value, json};

use crate::leader::{Leader, Process, flock, name, unhurried};
use crate::service::serve;

#[derive(Default)]
struct Target {
    hits: AtomicU64,
}

fn target() -> (Arc<Target>, Router) {
    let target = Arc::new(Target::default());
    let router =
        Router::new()
            .route("/echo/{name}", any(echo))
            .route(
                "/count",
                get(|State(target): State<Arc<Target>>| async move {
                    target.hits.fetch_add(1, Ordering::SeqCst).to_string()
                }),
            )
            .route(
                "/login",
                post(|| async { ([("set-cookie", "session=crumbs; Path=/")], Redirect::to("/whoami")) }),
            )
            .route(
                "/whoami",
                get(|headers: HeaderMap| async move {
                    headers
                        .get("cookie")
                        .map_or_else(String::new, |cookie| cookie.to_str().unwrap().to_owned())
                }),
            )
            .route("/circle", get(|| async { Redirect::to("/circle") }))
            .route(
                "/slow",
                get(|| async {
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                }),
            )
            .route("/big", get(|| async { Body::from(vec![b'x'; 3_000_000]) }))
            .route(
                "/cut",
                get(|| async { ([("content-length", "10")], Body::from_stream(Half)) }),
            )
            .route(
                "/broken",
                get(|| async { (StatusCode::INTERNAL_SERVER_ERROR, "it\nbroke") }),
            )
            .with_state(target.clone());
    (target, router)
}

/// A body that promises ten bytes and breaks off after four.
struct Half;

impl futures_lite::Stream for Half {
    type Item = Result<&'static str, std::io::Error>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Err(std::io::Error::other("enough"))))
    }
}

async fn echo(Path(name): Path<String>, uri: Uri, headers: HeaderMap, body: String) -> impl IntoResponse {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    axum::Json(json!({
        "name": name, "query": uri.query(), "auth": text("authorization"), "x": text("x-test"),
        "type": text("content-type"), "body": body,
    }))
}

/// Runs one request until the monkey has an outcome; returns whether it was a success, and the monkey's log.
async fn outcome(options: Value) -> (bool, String) {
    let (_, router) = target();
    let (base, _tasks) = serve(router).await;
    let text = options.to_string().replace("BASE", &base);
    let options: Value = serde_json::from_str(&text).unwrap();
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    leader.start(&flock("h", 1, "HTTPRunner", &options)).await;
    leader.until(|report| report.flocks.contains_key("h")).await;
    let is_success = process
        .until(|handle| {
            let monkey = handle.monkeys(&name("h")).into_iter().next()?;
            match (monkey.business.success_count, monkey.business.failure_count) {
                (0, 0) => None,
                (_, failures) => Some(failures == 0),
            }
        })
        .await;
    // The line about a failure follows its count.
    let mut log = leader.log("0", "h", "bot-mobu-h1").await;
    while !is_success && !log.contains("Restarting failed monkey") {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log = leader.log("0", "h", "bot-mobu-h1").await;
    }
    process.drain().await;
    (is_success, log)
}

#[tokio::test]
async fn requests_are_filled_in_sent_in_order_and_measured() {
    let (is_success, log) = outcome(json!({
        "authenticate": "bearer",
        "requests": [
            {"method": "put", "url": "BASE/echo/{{username}}?a=1", "query": {"i": "{{iteration}}", "u": "{{uuid}}"},
             "headers": {"x-test": "r{{instance_id}}"}, "json": {"n": ["{{iteration}}"]},
             "expect": {"status": 200, "header": {"content-type": "application/json"}, "body_matches": "a=1&i=1&u=[0-9a-f-]{36}",
                        "json": {"/name": "bot-mobu-h1", "/x": "r0", "/type": "application/json", "/body": "{\"n\":[\"1\"]}"}}},
            {"url": "BASE/echo/x", "headers": {"authorization": "Basic abc"}, "body": "plain",
             "expect": {"json": {"/auth": "Basic abc", "/body": "plain"}}},
            {"url": "BASE/echo/x", "expect": {"body_contains": "Bearer gt-"}},
        ],
    }))
    .await;
    assert!(is_success, "{log}");
    let requests: Vec<_> = log.lines().filter(|line| line.contains("Request answered")).collect();
    assert!(
        requests[0].contains("\"request\": 1, \"method\": \"PUT\"") && requests[0].contains("?a=***&i=***&u=***"),
        "{log}"
    );
    assert!(
        requests[0].contains("\"status\": 200, \"size_bytes\": ") && requests[0].contains("\"duration\": 0."),
        "{log}"
    );
    assert_eq!(requests.len(), 3, "{log}");
}

#[tokio::test]
async fn cookies_last_over_redirects_and_iterations_unless_they_are_off() {
    let login = json!({"method": "POST", "url": "BASE/login", "expect": {"body_contains": "session=crumbs"}});
    let whoami = json!({"url": "BASE/whoami", "expect": {"body_contains": "session=crumbs"}});
    let (is_success, log) = outcome(json!({"requests": [login, whoami]})).await;
    assert!(is_success, "{log}");
    let (is_success, log) = outcome(json!({"requests": [login], "cookies": false})).await;
    assert!(!is_success, "{log}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_where_it_is_what_is_expected() {
    let request = json!({"method": "POST", "url": "BASE/login", "expect": {"status": [302, 303], "header": {"location": "/whoami"}}});
    let (is_success, log) = outcome(json!({"requests": [request]})).await;
    assert!(is_success, "{log}");
}

#[tokio::test]
async fn a_big_body_is_counted_whole_and_kept_in_part() {
    let (is_success, log) =
        outcome(json!({"requests": [{"url": "BASE/big", "expect": {"body_contains": "xxx"}}]})).await;
    assert!(is_success && log.contains("\"size_bytes\": 3000000"), "{log}");
    let (is_success, log) = outcome(json!({"requests": [{"url": "BASE/big", "expect": {"body_contains": "y"}}]})).await;
    assert!(!is_success && log.contains("the first 65536 of 3000000 bytes"), "{log}");
}

#[tokio::test]
async fn every_failure_says_what_was_asked_and_what_came() {
    for (request, kind, text) in [
        (
            json!({"url": "BASE/broken?token=abc"}),
            "status",
            "/broken?token=***) was expected to answer with status 200 to 299, but answered 500 with `it\\nbroke`",
        ),
        (
            json!({"url": "BASE/slow", "timeout": 0.2}),
            "timeout",
            "/slow) had no complete answer within 200ms",
        ),
        (
            json!({"url": "BASE/circle"}),
            "redirect",
            "/circle) was redirected in circles",
        ),
        (
            json!({"url": "BASE/cut"}),
            "transport",
            "/cut) broke off\n  caused by: ",
        ),
        (
            json!({"url": "http://127.0.0.1:9/"}),
            "connect",
            "request 1 (GET http://127.0.0.1:9/) could not connect\n  caused by: ",
        ),
        (
            json!({"url": "BASE/count", "expect": {"json": {"": "x"}}}),
            "json",
            "with `\\\"x\\\"` at `` of its JSON, but answered with `0`",
        ),
        (
            json!({"url": "BASE/none"}),
            "status",
            "but answered 404 with an empty body",
        ),
        (json!({"url": "https://127.0.0.1:9/"}), "connect", "could not connect"),
    ] {
        let (is_success, log) = outcome(json!({"requests": [request]})).await;
        assert!(!is_success, "{request}: {log}");
        assert!(
            log.contains(&format!("\n{kind}: request 1 (GET ")) && log.contains(text),
            "{request}: {log}"
        );
        assert!(log.contains("Restarting failed monkey after 0:01:00s"), "{log}");
    }
}

#[tokio::test]
async fn a_token_that_a_service_sends_back_is_not_shown() {
    let request = json!({"url": "BASE/echo/{{token}}", "expect": {"body_contains": "nothing of the kind"}});
    let (is_success, log) = outcome(json!({"requests": [request]})).await;
    assert!(
        !is_success && log.contains("/echo/gt-") && log.contains(".***"),
        "{log}"
    );
    let secret = log.split("gt-").any(|rest| {
        let shown: String = rest
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '.')
            .collect();
        shown.len() > 30
    });
    assert!(!secret, "{log}");
}

#[tokio::test]
async fn what_lets_a_request_in_is_not_shown_if_the_service_sends_it_back() {
    let request = json!({
        "url": "BASE/echo/x?access_token=in-the-url", "headers": {"Authorization": "Bearer in-the-header"},
        "method": "POST", "json": {"password": "in-the-body"},
    });
    for expect in [
        json!({"status": 404}),
        json!({"json": {"/auth": "z"}}),
        json!({"body_contains": "in-the-body!"}),
    ] {
        let mut request = request.clone();
        request["expect"] = expect;
        let (is_success, log) = outcome(json!({"requests": [request]})).await;
        assert!(
            !is_success && log.contains("***") && log.contains("was expected to answer"),
            "{log}"
        );
        assert!(!log.contains("in-the-"), "{log}");
    }
}

#[tokio::test]
async fn a_stop_drops_a_request_that_is_under_way() {
    let (_, router) = target();
    let (base, _tasks) = serve(router).await;
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, unhurried());
    let options = json!({"requests": [{"url": format!("{base}/slow"), "timeout": 3600}]});
    leader.start(&flock("h", 1, "HTTPRunner", &options)).await;
    process
        .until(|handle| {
            (handle.flocks().get("h")?.phase == mobu_fleet::domain::messages::FlockPhase::Running).then_some(())
        })
        .await;
    leader.stop("h").await;
    leader.until_gone("h").await;
    process.drain().await;
}
