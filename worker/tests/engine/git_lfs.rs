//! `GitLFS` with the real git and git-lfs, against a stand-in for a Git LFS server: its batch API and storage, and no more.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use mobu_worker::WorkerConfig;
use serde_json::{Value, json};

use crate::leader::{Leader, Process, flock, name, unhurried};
use crate::service::serve;

/// How Basic authentication as `gituser` begins; what follows is the token.
const GITUSER: &str = "Basic Z2l0dXNlcjpnd";

/// What the stand-in does wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// It answers no batch with success.
    Down,
    /// It takes no password.
    Refusing,
    /// It never answers an upload.
    Hanging,
    /// It gives back something else than it got.
    Corrupting,
    /// It forgets what it got.
    Forgetting,
}

#[derive(Default)]
struct Server {
    fault: Fault,
    base: Mutex<String>,
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Operation and beginning of the authorization of each batch.
    batches: Mutex<Vec<String>>,
    hanging: AtomicU64,
}

/// Counts a request for as long as its client waits.
struct Waiting(Arc<Server>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.hanging.fetch_sub(1, Ordering::SeqCst);
    }
}

fn lfs(status: StatusCode, body: &Value) -> Response {
    let headers = [("content-type", "application/vnd.git-lfs+json")];
    (status, headers, body.to_string()).into_response()
}

async fn batch(
    State(server): State<Arc<Server>>,
    Path(side): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let batch: Value = serde_json::from_slice(&body).unwrap();
    let operation = batch["operation"].as_str().unwrap().to_owned();
    let authorization = headers
        .get("authorization")
        .map_or("-", |value| value.to_str().unwrap());
    let shown = &authorization[..authorization.len().min(GITUSER.len())];
    server
        .batches
        .lock()
        .unwrap()
        .push(format!("{side} {operation} {shown}"));
    if server.fault == Fault::Down {
        return lfs(StatusCode::NOT_IMPLEMENTED, &json!({"message": "not today"}));
    }
    if side == "write" {
        if authorization == "-" || server.fault == Fault::Refusing {
            let challenge = [
                ("www-authenticate", "Basic realm=\"lfs\""),
                ("lfs-authenticate", "Basic realm=\"lfs\""),
            ];
            let answer = lfs(StatusCode::UNAUTHORIZED, &json!({"message": "who are you?"}));
            return (challenge, answer).into_response();
        }
        if server.fault == Fault::Hanging {
            server.hanging.fetch_add(1, Ordering::SeqCst);
            let _waiting = Waiting(server.clone());
            std::future::pending::<()>().await;
        }
    }
    let base = server.base.lock().unwrap().clone();
    let objects = batch["objects"].as_array().unwrap().iter().map(|object| {
        let oid = object["oid"].as_str().unwrap();
        let action = json!({"href": format!("{base}/objects/{oid}")});
        let actions = match operation.as_str() {
            "upload" => json!({"upload": action}),
            _ => json!({"download": action}),
        };
        json!({"oid": oid, "size": object["size"], "actions": actions})
    });
    let objects: Vec<_> = objects.collect();
    lfs(StatusCode::OK, &json!({"transfer": "basic", "objects": objects}))
}

async fn store(State(server): State<Arc<Server>>, Path(oid): Path<String>, body: Bytes) -> StatusCode {
    if server.fault != Fault::Forgetting {
        server.objects.lock().unwrap().insert(oid, body);
    }
    StatusCode::OK
}

async fn fetch(State(server): State<Arc<Server>>, Path(oid): Path<String>) -> Response {
    let object = server.objects.lock().unwrap().get(&oid).cloned();
    match object {
        None => (StatusCode::NOT_FOUND, "no such object").into_response(),
        Some(object) if server.fault == Fault::Corrupting => vec![b'x'; object.len()].into_response(),
        Some(object) => object.into_response(),
    }
}

struct Bench {
    server: Arc<Server>,
    leader: Leader,
    process: Process,
    _tasks: mobu_fleet::runtime::tasks::Tasks,
}

impl Bench {
    async fn start(fault: Fault) -> Self {
        let server = Arc::new(Server {
            fault,
            ..Server::default()
        });
        let router = Router::new()
            .route("/{side}/objects/batch", post(batch))
            .route("/objects/{oid}", get(fetch).put(store))
            .with_state(server.clone());
        let (base, tasks) = serve(router).await;
        server.base.lock().unwrap().clone_from(&base);
        let mut leader = Leader::new().await;
        let mut config = unhurried();
        // By itself, git-lfs tries eight times, longer and longer apart.
        let once = [
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", "lfs.transfer.maxretries"),
            ("GIT_CONFIG_VALUE_0", "1"),
        ];
        let once = once.map(|(name, value)| (name.into(), value.into()));
        config.git_environment.extend(once);
        let process = Process::start(&leader.hub, config);
        let options = json!({"lfs_read_url": format!("{base}/read"), "lfs_write_url": format!("{base}/write")});
        leader.start(&flock("g", 1, "GitLFS", &options)).await;
        leader.until(|report| report.flocks.contains_key("g")).await;
        Self {
            server,
            leader,
            process,
            _tasks: tasks,
        }
    }

    /// Waits for the first outcome; returns whether it was a success, and the monkey's log.
    async fn outcome(mut self) -> (bool, String, Arc<Server>) {
        let is_success = self
            .process
            .until(|handle| {
                let monkey = handle.monkeys(&name("g")).into_iter().next()?;
                match (monkey.business.success_count, monkey.business.failure_count) {
                    (0, 0) => None,
                    (_, failures) => Some(failures == 0),
                }
            })
            .await;
        // The line about a failure follows its count.
        let mut log = self.leader.log("0", "g", "bot-mobu-g1").await;
        while !is_success && !log.contains("Restarting failed monkey") {
            tokio::time::sleep(Duration::from_millis(10)).await;
            log = self.leader.log("0", "g", "bot-mobu-g1").await;
        }
        self.process.drain().await;
        (is_success, log, self.server)
    }
}

#[tokio::test]
async fn a_file_is_stored_with_the_token_and_read_back_without() {
    let (is_success, log, server) = Bench::start(Fault::None).await.outcome().await;
    assert!(is_success, "{log}");
    assert!(
        log.contains("Running Git-LFS check...") && log.contains("...Git-LFS check finished after "),
        "{log}"
    );
    let objects = server.objects.lock().unwrap().clone();
    let payload = objects.values().next().unwrap();
    assert_eq!(objects.len(), 1);
    assert!(
        payload.len() == 32 && payload.iter().all(u8::is_ascii_hexdigit),
        "{payload:?}"
    );
    let batches = server.batches.lock().unwrap().clone();
    assert_eq!(batches[0], "write upload -");
    assert!(batches.contains(&format!("write upload {GITUSER}")), "{batches:?}");
    assert_eq!(batches.last().unwrap(), "read download -");
}

#[tokio::test]
async fn a_service_that_does_wrong_fails_the_check_and_shows_what_git_said() {
    for (fault, command, said) in [
        (Fault::Down, "git push origin main", "stderr: "),
        (Fault::Refusing, "git push origin main", "terminal prompts disabled"),
        (Fault::Corrupting, "git clone ", "stderr: "),
        (Fault::Forgetting, "git clone ", "/objects/"),
    ] {
        let (is_success, log, server) = Bench::start(fault).await.outcome().await;
        assert!(!is_success, "{fault:?}: {log}");
        let first = log.find(&format!("git: `{command}"));
        let first = first.unwrap_or_else(|| panic!("{fault:?}: no `{command}` in {log}"));
        let error = &log[first..];
        assert!(
            error.contains("failed with exit status: ") && error.contains(said),
            "{fault:?}: {log}"
        );
        assert!(!server.batches.lock().unwrap().is_empty());
        // Local tokens are `gt-` with two times 22 characters.
        let tokens = error.split("gt-").skip(1).filter(|rest| !rest.contains(".***"));
        assert_eq!(tokens.count(), 0, "{fault:?}: {log}");
    }
}

#[tokio::test]
async fn a_stop_ends_git_and_all_that_it_has_started() {
    let mut bench = Bench::start(Fault::Hanging).await;
    let server = bench.server.clone();
    let waiting = |count| {
        let server = server.clone();
        move |_: &mobu_worker::WorkerHandle| (server.hanging.load(Ordering::SeqCst) == count).then_some(())
    };
    bench.process.until(waiting(1)).await;
    bench.leader.stop("g").await;
    bench.leader.until_gone("g").await;
    // It is git-lfs that has the connection, a grandchild of ours.
    bench.process.until(waiting(0)).await;
    bench.process.drain().await;
}

#[tokio::test]
async fn a_write_url_that_is_none_fails_for_good() {
    let mut leader = Leader::new().await;
    let process = Process::start(&leader.hub, WorkerConfig::for_tests("0", 1));
    let options = json!({"lfs_read_url": "nowhere", "lfs_write_url": "--global"});
    leader.start(&flock("g", 1, "GitLFS", &options)).await;
    process
        .until_all("g", mobu_fleet::domain::monkey::MonkeyState::Stopping)
        .await;
    let log = leader.log("0", "g", "bot-mobu-g1").await;
    assert!(log.contains("lfs_write_url `--global` is no URL with a host"), "{log}");
    process.drain().await;
}
