//! Tokens from a stand-in for Gafaelfawr and Repertoire that follows the contract.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use mobu_fleet::domain::messages::{FlockPhase, Report};
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_worker::{TokenSource, WorkerConfig};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::leader::{Leader, Process, idlers, name};
use crate::service::serve;

#[derive(Default)]
struct StandIn {
    is_down: AtomicBool,
    /// Whether it says of every token that it is one user's.
    mistakes_users: AtomicBool,
    base: Mutex<String>,
    wishes: Mutex<Vec<Value>>,
    now: AtomicUsize,
    most: AtomicUsize,
    discoveries: AtomicUsize,
}

type Shared = State<Arc<StandIn>>;

async fn discovery(State(stand_in): Shared) -> Json<Value> {
    stand_in.discoveries.fetch_add(1, Ordering::SeqCst);
    let url = format!("{}/auth/api/v1", stand_in.base.lock().unwrap());
    Json(json!({"services": {"internal": {"gafaelfawr": {"url": "https://x/", "versions": {"v1": {"url": url}}}}}}))
}

async fn tokens(State(stand_in): Shared, headers: HeaderMap, Json(wish): Json<Value>) -> (StatusCode, Json<Value>) {
    assert_eq!(headers["authorization"], "Bearer gt-admin.secret");
    if stand_in.is_down.load(Ordering::SeqCst) {
        let detail = json!({"detail": [{"msg": "no gt-admin.secret today", "type": "sad"}]});
        return (StatusCode::INTERNAL_SERVER_ERROR, Json(detail));
    }
    let now = stand_in.now.fetch_add(1, Ordering::SeqCst) + 1;
    stand_in.most.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(5)).await;
    stand_in.now.fetch_sub(1, Ordering::SeqCst);
    let token = format!("gt-{}.secret", wish["username"].as_str().unwrap());
    stand_in.wishes.lock().unwrap().push(wish);
    (StatusCode::CREATED, Json(json!({"token": token})))
}

async fn user_info(State(stand_in): Shared, headers: HeaderMap) -> Json<Value> {
    let token = headers["authorization"].to_str().unwrap();
    let username = token
        .strip_prefix("Bearer gt-")
        .unwrap()
        .strip_suffix(".secret")
        .unwrap();
    let username = if stand_in.mistakes_users.load(Ordering::SeqCst) {
        "bot-mobu-a1"
    } else {
        username
    };
    Json(json!({"username": username, "uid": 4242, "gid": 4243, "groups": [{"name": "g", "id": 7}], "quota": {}}))
}

async fn stand_in() -> (Arc<StandIn>, String, mobu_fleet::runtime::tasks::Tasks) {
    let stand_in = Arc::new(StandIn::default());
    let router = Router::new()
        .route("/discovery", get(discovery))
        .route("/auth/api/v1/tokens", post(tokens))
        .route("/auth/api/v1/user-info", get(user_info))
        .with_state(stand_in.clone());
    let (base, tasks) = serve(router).await;
    stand_in.base.lock().unwrap().clone_from(&base);
    (stand_in, base, tasks)
}

fn config(base: &str) -> WorkerConfig {
    let mut config = WorkerConfig::for_tests("0", 1);
    config.discovery = Some(ServiceDiscovery::Repertoire(base.parse().unwrap()));
    config.tokens = TokenSource::Gafaelfawr {
        token: SecretString::from("gt-admin.secret"),
        timeout: Duration::from_secs(5),
    };
    config
}

#[tokio::test]
async fn users_are_what_gafaelfawr_says_and_tokens_come_ten_at_a_time() {
    let (stand_in, base, _tasks) = stand_in().await;
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config(&base));
    let mut flock = idlers("a", 25);
    flock["user_spec"]["uid_start"] = json!(1000);
    leader.start(&flock).await;
    leader.until_phase("a", FlockPhase::Running).await;
    let monkeys = process.handle.monkeys(&name("a"));
    assert_eq!(monkeys.len(), 25);
    let user = &monkeys[3].user;
    assert_eq!(
        (user.username.as_str(), user.uidnumber, user.gidnumber),
        ("bot-mobu-a04", Some(4242), Some(4243))
    );
    assert_eq!((user.groups[0].id, user.token.as_str()), (7, "gt-bot-mobu-a04.***"));
    let most = stand_in.most.load(Ordering::SeqCst);
    assert!(most > 1 && most <= 10, "{most} at a time");
    assert_eq!(
        stand_in.discoveries.load(Ordering::SeqCst),
        1,
        "an answer is good for five minutes"
    );
    let wishes = stand_in.wishes.lock().unwrap().clone();
    let wish = wishes.iter().find(|wish| wish["username"] == "bot-mobu-a04").unwrap();
    assert_eq!(
        (&wish["uid"], &wish["gid"], &wish["email"]),
        (&json!(1003), &json!(1003), &Value::Null)
    );
    assert_eq!(
        (&wish["token_type"], &wish["scopes"]),
        (&json!("service"), &json!(["exec:test"]))
    );
    process.drain().await;
}

#[tokio::test]
async fn a_flock_without_tokens_is_visible_and_starts_when_there_are_some() {
    let (stand_in, base, _tasks) = stand_in().await;
    stand_in.is_down.store(true, Ordering::SeqCst);
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config(&base));
    leader.start(&idlers("a", 2)).await;
    let report = leader.until_phase("a", FlockPhase::Failed).await;
    let error = report.flocks["a"].error.clone().unwrap();
    assert!(
        error.starts_with("could not create a token for user bot-mobu-a1: Gafaelfawr answered 500 with"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    let has_causes = |report: &Report| report.flocks["a"].failures.is_some();
    let report = leader.until(has_causes).await;
    let cause = &report.flocks["a"].failures.as_ref().unwrap().causes[0];
    assert_eq!((cause.kind.as_str(), cause.status), ("status", Some(500)));
    assert_eq!(cause.url, Some(format!("{base}/auth/api/v1/tokens")));
    stand_in.is_down.store(false, Ordering::SeqCst);
    let report = leader.until_phase("a", FlockPhase::Running).await;
    assert_eq!(
        (report.flocks["a"].monkey_count(), &report.flocks["a"].error),
        (2, &None)
    );
    process.drain().await;
}

#[tokio::test]
async fn two_users_who_are_told_to_be_the_same_one_fail_the_flock_and_name_them() {
    let (stand_in, base, _tasks) = stand_in().await;
    stand_in.mistakes_users.store(true, Ordering::SeqCst);
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, config(&base));
    leader.start(&idlers("a", 2)).await;
    let report = leader.until_phase("a", FlockPhase::Failed).await;
    assert_eq!(
        report.flocks["a"].error.as_deref(),
        Some("the tokens of the users bot-mobu-a1 and bot-mobu-a2 are both for bot-mobu-a1, says Gafaelfawr")
    );
    assert_eq!(report.flocks["a"].monkey_count(), 0);
    leader.stop("a").await;
    leader.until_gone("a").await;
    process.drain().await;
}

#[tokio::test]
async fn a_stop_overtakes_a_flock_that_cannot_start() {
    let mut leader = Leader::new().await;
    // Nothing listens at port 9 of the loopback interface.
    let process = Process::start(&leader.hub, config("http://127.0.0.1:9/repertoire"));
    leader.start(&idlers("a", 2)).await;
    let report = leader.until_phase("a", FlockPhase::Failed).await;
    let error = report.flocks["a"].error.clone().unwrap();
    assert!(
        error.starts_with("could not find Gafaelfawr: service discovery did not answer"),
        "{error}"
    );
    leader.stop("a").await;
    leader.until_gone("a").await;
    process.drain().await;
}
