//! Services that accept connections and never answer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::account::Account;
use super::stage::Stage;
use super::{Part, Scale};
use crate::fleet::flock;
use crate::platform::Platform;

/// How long a flock may take to start once Gafaelfawr answers again: it tries at least once a minute.
const PATIENCE: Duration = Duration::from_secs(120);

/// Reads everything that it is sent and says nothing, until it is dropped.
#[derive(Debug)]
pub struct BlackHole {
    /// Where it listens.
    pub address: SocketAddr,
    accepted: Arc<AtomicU64>,
    tasks: Tasks,
}

impl BlackHole {
    /// Opens it.
    ///
    /// # Errors
    ///
    /// If there is no port for it.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let hole = Self {
            address: listener.local_addr()?,
            accepted: Arc::default(),
            tasks: Tasks::new(),
        };
        let accepted = hole.accepted.clone();
        drop(hole.tasks.spawn(TaskKind::Expendable, "black hole", async move {
            let mut open = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                open.spawn(async move { while let Ok(1..) = stream.read(&mut [0; 4096]).await {} });
                while open.try_join_next().is_some() {}
            }
        }));
        Ok(hole)
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for BlackHole {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

/// A flock of few that has nothing to do with what hangs.
fn lambs() -> Value {
    flock("lambs", 2, &json!({"type": "EmptyLoop", "options": {"idle_time": 0.5}}))
}

/// Changes another flock until a time has passed; returns how long each change took.
async fn work(stage: &Stage, time: Duration) -> Result<Vec<f64>> {
    let (begun, mut changes) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        changes.push(stage.refresh("lambs").await?);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(changes)
}

pub(super) async fn target(broker: &str, scale: &Scale) -> Result<Account> {
    let hole = BlackHole::open().await?;
    let stage = Stage::open(Part::Target, broker, scale, &json!({"tokens": "local"})).await?;
    stage.fleet.put_flock(&lambs()).await?;
    let options = json!({
        "requests": [{"url": format!("http://{}/", hole.address), "timeout": 1}], "idle_time": 0.1, "error_idle_time": 0.5,
    });
    let business = json!({"type": "HTTPRunner", "restart": true, "options": options});
    stage
        .fleet
        .put_flock(&flock("waiting", scale.monkeys, &business))
        .await?;
    let changes = work(&stage, scale.time).await?;
    let is_told = |replica: &Value| {
        let causes = replica["flocks"]["waiting"]["failures"]["causes"].as_array();
        causes.is_some_and(|causes| {
            let mut kinds = causes.iter().map(|cause| &cause["kind"]);
            causes.len() == 1 && kinds.all(|kind| kind == "timeout")
        })
    };
    for id in 0..2 {
        stage
            .fleet
            .wait_for(&format!("/replicas/{id}"), "one cause of all failures", is_told)
            .await?;
    }
    let asked = Instant::now();
    let stopped = stage.fleet.call(Method::DELETE, "/flocks/waiting").send().await?;
    ensure!(stopped.status() == StatusCode::NO_CONTENT, "{stopped:?}");
    let took = asked.elapsed();
    let accepted = hole.accepted();
    let mut account = stage.close().await?;
    account.notes.push(format!(
        "{accepted} connections were made to the target; the monkeys were stopped within {:.1} s.",
        took.as_secs_f64()
    ));
    account
        .answers
        .insert("HTTP change of another flock".to_owned(), changes);
    Ok(account)
}

pub(super) async fn tokens(broker: &str, scale: &Scale) -> Result<Account> {
    let platform = Platform::start(&json!({})).await?;
    let mut variables = platform.variables();
    variables.push(("MOBU_GAFAELFAWR_TIMEOUT", "2".to_owned()));
    variables.push(("MOBU_APPLY_TIMEOUT", "1".to_owned()));
    let config = json!({"tokens": "gafaelfawr"});
    let stage = Stage::open_with(Part::Tokens, broker, scale, &config, &variables).await?;
    begin(&stage, &lambs()).await?;
    stage.fleet.wait_converged().await?;
    platform.hang(true);
    let business = json!({"type": "EmptyLoop", "options": {"idle_time": 0.5}});
    begin(&stage, &flock("waiting", scale.monkeys, &business)).await?;
    let changes = work(&stage, scale.time).await?;
    for id in 0..2 {
        let says_it = |replica: &Value| {
            let flock = &replica["flocks"]["waiting"];
            let is_named = flock["error"]
                .as_str()
                .is_some_and(|error| error.contains("create a token"));
            flock["phase"] != "running" && is_named && replica["flocks"]["lambs"]["phase"] == "running"
        };
        let path = format!("/replicas/{id}");
        stage
            .fleet
            .wait_for(&path, "an error that says what is awaited", says_it)
            .await?;
    }
    platform.hang(false);
    let begun = Instant::now();
    loop {
        let all = usize::try_from(2 * scale.monkeys)?;
        if stage.fleet.monkeys("waiting").await?.len() == all {
            break;
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "the flock does not start although Gafaelfawr answers again"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let took = begun.elapsed();
    let mut account = stage.close().await?;
    account.notes.push(format!(
        "The flock ran {:.1} s after Gafaelfawr answered again.",
        took.as_secs_f64()
    ));
    account
        .answers
        .insert("HTTP change of another flock".to_owned(), changes);
    Ok(account)
}

/// Starts a flock, whether or not it runs within the short time that is waited for that here.
async fn begin(stage: &Stage, flock: &Value) -> Result<()> {
    let started = stage.fleet.call(Method::PUT, "/flocks").json(flock).send().await?;
    ensure!(
        matches!(started.status(), StatusCode::ACCEPTED | StatusCode::CREATED),
        "{started:?}"
    );
    Ok(())
}
