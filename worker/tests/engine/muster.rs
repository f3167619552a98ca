//! `Muster` against a stand-in for Gafaelfawr, its ingresses and Muster, which is none of them but answers as the contract says.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use mobu_fleet::domain::discovery::Discovery;
use mobu_fleet::domain::monkey::MonkeyState;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_worker::{TokenSource, WorkerConfig};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::faults::Stranger;
use crate::leader::{Leader, Process, flock, name, unhurried};
use crate::service::serve;

const TOKEN: &str = "gt-monkey.secret";

/// What one request is answered instead: its number among the ten, status, headers, body.
type Twist = (usize, u16, Vec<(&'static str, &'static str)>, &'static str);

#[derive(Default)]
struct StandIn {
    twist: Option<Twist>,
    quota: AtomicU64,
    requests: Mutex<Vec<String>>,
}

fn person() -> Value {
    json!({"username": "bot-mobu-m1", "name": "Bot One", "uid": 4242, "gid": 4243, "groups": [{"name": "g", "id": 7}]})
}

async fn muster(State(stand_in): State<Arc<StandIn>>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let credentials = headers.get("authorization").map(|value| value.to_str().unwrap());
    let number = {
        let mut requests = stand_in.requests.lock().unwrap();
        requests.push(format!("{path} {}", credentials.unwrap_or("-")));
        requests.len()
    };
    if let Some((_, status, headers, body)) = stand_in.twist.as_ref().filter(|twist| twist.0 == number) {
        if *status == 0 {
            std::future::pending::<()>().await;
        }
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect();
        return (StatusCode::from_u16(*status).unwrap(), headers, *body).into_response();
    }
    let is_user = credentials == Some(&format!("Bearer {TOKEN}"));
    match (path.as_str(), is_user) {
        ("anonymous", _) => Json(json!({"ok": true})).into_response(),
        ("auth/redirect", false) => (StatusCode::FOUND, [("location", "/login?rd=x")]).into_response(),
        ("auth/fail", false) if credentials.is_none() => {
            let challenge = [("www-authenticate", "Bearer realm=\"data.test\"")];
            (StatusCode::UNAUTHORIZED, challenge).into_response()
        }
        ("auth/fail", false) => StatusCode::BAD_REQUEST.into_response(),
        ("auth/redirect" | "auth/fail", true) => Json(json!({"username": "bot-mobu-m1"})).into_response(),
        ("auth/quota", true) => {
            let limits = [
                ("x-ratelimit-limit", "1"),
                ("x-ratelimit-remaining", "0"),
                ("x-ratelimit-reset", "1700000000"),
                ("x-ratelimit-resource", "muster-quota"),
                ("x-ratelimit-used", "1"),
            ];
            if stand_in.quota.fetch_add(1, Ordering::SeqCst) == 0 {
                return (limits, Json(json!({}))).into_response();
            }
            (StatusCode::TOO_MANY_REQUESTS, limits, [("retry-after", "42")]).into_response()
        }
        ("delegated/header" | "delegated/authorization", true) => Json(person()).into_response(),
        _ => (StatusCode::NOT_FOUND, format!("nothing at {path}")).into_response(),
    }
}

fn router(stand_in: Arc<StandIn>) -> Router {
    let info = || async {
        let mut info = person();
        info["quota"] = json!({});
        Json(info)
    };
    Router::new()
        .route(
            "/v1/tokens",
            post(|| async { (StatusCode::CREATED, Json(json!({"token": TOKEN}))) }),
        )
        .route("/v1/user-info", get(info))
        .route("/muster/{*path}", get(muster))
        .with_state(stand_in)
}

fn config(base: &str, has_muster: bool) -> WorkerConfig {
    let mut services = json!({"services": {"internal": {
        "gafaelfawr": {"url": base, "versions": {"v1": {"url": format!("{base}/v1")}}},
    }}});
    if has_muster {
        services["services"]["internal"]["muster"] = json!({"url": format!("{base}/muster")});
    }
    let mut config = unhurried();
    let discovery = Discovery::parse_at(&services, &[]).unwrap();
    config.discovery = Some(ServiceDiscovery::Static(Arc::new(discovery)));
    config.tokens = TokenSource::Gafaelfawr {
        token: SecretString::from("gt-admin.secret"),
        timeout: Duration::from_secs(5),
    };
    config
}

/// Runs one monkey until it has an outcome; returns whether it was a success, its log, and what was asked.
async fn outcome(twist: Option<Twist>) -> (bool, String, Vec<String>) {
    let stand_in = Arc::new(StandIn {
        twist,
        ..StandIn::default()
    });
    let (base, _tasks) = serve(router(stand_in.clone())).await;
    let (is_success, log) = live(config(&base, true)).await;
    let requests = stand_in.requests.lock().unwrap().clone();
    (is_success, log, requests)
}

async fn live(config: WorkerConfig) -> (bool, String) {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config);
    leader.start(&flock("m", 1, "Muster", &json!({}))).await;
    leader.until(|report| report.flocks.contains_key("m")).await;
    let is_success = process
        .until(|handle| {
            let monkey = handle.monkeys(&name("m")).into_iter().next()?;
            match (monkey.business.success_count, monkey.business.failure_count) {
                (0, 0) => None,
                (_, failures) => Some(failures == 0 && monkey.state == MonkeyState::Running),
            }
        })
        .await;
    // The line about a failure follows its count.
    let mut log = leader.log("0", "m", "bot-mobu-m1").await;
    while !is_success && !log.contains("doing monkey business") {
        tokio::time::sleep(Duration::from_millis(10)).await;
        log = leader.log("0", "m", "bot-mobu-m1").await;
    }
    process.drain().await;
    (is_success, log)
}

#[tokio::test]
async fn ten_requests_in_order_make_an_iteration() {
    let (is_success, log, requests) = outcome(None).await;
    assert!(is_success, "{log}");
    let user = format!("Bearer {TOKEN}");
    let wanted = [
        format!("anonymous {user}"),
        "auth/redirect -".to_owned(),
        "auth/fail -".to_owned(),
        "auth/fail Token bogus".to_owned(),
        format!("auth/redirect {user}"),
        format!("auth/fail {user}"),
        format!("auth/quota {user}"),
        format!("auth/quota {user}"),
        format!("delegated/header {user}"),
        format!("delegated/authorization {user}"),
    ];
    assert_eq!(requests, wanted);
    let mut rest = log.as_str();
    for text in [
        "Starting Muster runner",
        "Checking anonymous access",
        "Checking redirect for authentication",
        "Checking 401 challenge",
        "Checking 400 challenge",
        "Checking successful authentication",
        "Checking quota handling",
        "Checking token delegation",
        "Muster finished after 0.",
    ] {
        let at = rest
            .find(text)
            .unwrap_or_else(|| panic!("no `{text}` at its place in\n{log}"));
        rest = &rest[at..];
    }
}

#[tokio::test]
async fn each_deviation_fails_the_iteration_with_its_text() {
    let quota = |used| {
        vec![
            ("x-ratelimit-limit", "1"),
            ("x-ratelimit-remaining", "0"),
            ("x-ratelimit-reset", "9"),
            ("x-ratelimit-resource", "muster-quota"),
            ("x-ratelimit-used", used),
        ]
    };
    let with_retry = [quota("1"), vec![("retry-after", "9")]].concat();
    let headers = "{\"x-ratelimit-limit\": \"1\", \"x-ratelimit-remaining\": \"0\", \"x-ratelimit-reset\": \"9\", \
                   \"x-ratelimit-resource\": \"muster-quota\", \"x-ratelimit-used\": ";
    let wrong_person = "{\"username\":\"bot-mobu-m1\",\"name\":\"Bot One\",\"uid\":1,\"gid\":4243,\"groups\":[]}";
    let expected = person().to_string();
    let texts: Vec<(Twist, String)> = vec![
        (
            (1, 200, vec![], "{\"ok\": false}"),
            "Anonymous ingress returned failure: {\"ok\": false}".into(),
        ),
        (
            (1, 200, vec![], "{\"ok\":true,\"x\":1}"),
            "Anonymous ingress returned failure: {\"ok\":true,\"x\":1}".into(),
        ),
        (
            (1, 503, vec![], "down, gt-monkey.secret"),
            "muster/anonymous\nBody:\ndown, gt-monkey.***".into(),
        ),
        ((2, 200, vec![], ""), "Auth redirect returned wrong status: 200".into()),
        ((3, 403, vec![], ""), "Auth failure returned wrong status: 403".into()),
        (
            (3, 401, vec![], ""),
            "Auth failure has no WWW-Authenticate header".into(),
        ),
        (
            (3, 401, vec![("www-authenticate", "Basic realm=\"x\"")], ""),
            "Auth failure has bad WWW-Authenticate header: Basic realm=\"x\"".into(),
        ),
        ((4, 401, vec![], ""), "Malformed auth returned wrong status: 401".into()),
        (
            (5, 200, vec![], "{\"username\":\"x\"}"),
            "Bad response from authenticated request: {\"username\":\"x\"}".into(),
        ),
        (
            (6, 200, vec![], "<html>"),
            "Bad response from authenticated request: <html>".into(),
        ),
        ((6, 302, vec![("location", "/")], ""), "Status 302 from GET ".into()),
        (
            (7, 200, quota("2"), "{}"),
            format!("Bad headers from quota request: {headers}\"2\"}}"),
        ),
        (
            (7, 200, with_retry.clone(), "{}"),
            "Bad headers from quota request: {\"retry-after\": \"9\", ".into(),
        ),
        ((7, 429, with_retry, ""), "Status 429 from GET ".into()),
        ((8, 200, vec![], ""), "Bad response from quota rejection: 200".into()),
        (
            (8, 429, quota("1"), ""),
            format!("Bad headers from quota rejection: {headers}\"1\"}}"),
        ),
        (
            (9, 200, vec![], wrong_person),
            format!("Bad response from delegation: {wrong_person} != {expected}"),
        ),
        (
            (10, 200, vec![], wrong_person),
            format!("Bad response from delegation (Authorization): {wrong_person} != {expected}"),
        ),
        (
            (2, 0, vec![], ""),
            "/muster/auth/redirect had no complete answer within 5s".into(),
        ),
    ];
    for (twist, text) in texts {
        let number = twist.0;
        let (is_success, log, requests) = outcome(Some(twist)).await;
        assert!(!is_success && log.contains(&text), "no `{text}` in\n{log}");
        assert!(!log.contains("secret"), "{log}");
        assert_eq!(requests.len(), number, "nothing is asked after the deviation");
    }
}

#[tokio::test]
async fn a_stop_does_not_wait_for_an_answer() {
    let stand_in = Arc::new(StandIn {
        twist: Some((1, 0, vec![], "")),
        ..StandIn::default()
    });
    let (base, _tasks) = serve(router(stand_in.clone())).await;
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config(&base, true));
    leader.start(&flock("m", 1, "Muster", &json!({}))).await;
    process
        .until(|_| (!stand_in.requests.lock().unwrap().is_empty()).then_some(()))
        .await;
    leader.stop("m").await;
    leader.until_gone("m").await;
    process.drain().await;
}

#[tokio::test]
async fn without_gafaelfawr_or_muster_the_monkey_says_what_is_missing() {
    let (is_success, log) = live(WorkerConfig::for_tests("0", 1)).await;
    assert!(
        !is_success && log.contains("it needs `tokens: gafaelfawr`, not `tokens: local`"),
        "{log}"
    );
    let (base, _tasks) = serve(router(Arc::default())).await;
    let (is_success, log) = live(config(&base, false)).await;
    assert!(
        !is_success && log.contains("Service muster not found in service discovery"),
        "{log}"
    );
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_failure_that_says_so_and_the_monkey_goes_on() {
    let stranger = Stranger::start().await;
    let (base, _tasks) = serve(router(Arc::default())).await;
    let mut config = config(&base, false);
    let services = json!({"services": {"internal": {
        "gafaelfawr": {"versions": {"v1": {"url": format!("{base}/v1")}}},
        "muster": {"url": format!("{}/muster", stranger.base)},
    }}});
    let discovery = Discovery::parse_at(&services, &[]).unwrap();
    config.discovery = Some(ServiceDiscovery::Static(Arc::new(discovery)));
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config);
    leader
        .start(&flock("m", 1, "Muster", &json!({"error_idle_time": 0.05})))
        .await;
    leader.until(|report| report.flocks.contains_key("m")).await;
    // Twice: it is tried again.
    process
        .until(|handle| {
            let business = handle.monkeys(&name("m")).into_iter().next()?.business;
            (business.failure_count > 1 && business.success_count == 0).then_some(())
        })
        .await;
    let log = leader.log("0", "m", "bot-mobu-m1").await;
    assert!(
        log.contains("\ntransport: ") && log.to_lowercase().contains("certificate"),
        "{log}"
    );
    assert!(!log.contains("secret"), "{log}");
    process.drain().await;
    stranger.end().await;
}
