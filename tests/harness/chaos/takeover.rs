//! How long a fleet is without anybody who accepts changes, and that who was replaced accepts none.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures_lite::future;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use super::check::Checks;
use super::fault::ProcessFault;
use super::stage::{PASSWORD, Stage};
use crate::broker::{Broker, Settings};

/// How long a standby may take. The broker drops a silent connection after up to three heartbeats.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries to have a change accepted.
const AGAIN: Duration = Duration::from_millis(10);

/// What takes the leader away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// SIGKILL.
    Kill,
    /// SIGTERM.
    Terminate,
    /// Its connections are reset, and none is made anew for a while.
    Reset,
    /// SIGSTOP.
    Freeze,
}

/// A fleet with two coordinators and three replicas, for experiments.
#[derive(Debug)]
pub struct Theatre {
    stage: Stage,
    checks: Checks,
    http: Client,
    played: u64,
}

impl Theatre {
    /// Starts a broker and a fleet with a heartbeat in seconds, and waits until it has converged.
    pub async fn open(heartbeat: u16) -> Result<Self> {
        let settings = Settings {
            password: PASSWORD.to_owned(),
            heartbeat,
            ..Settings::default()
        };
        let nodes: Vec<Broker> = Broker::start_all(settings).await?;
        let stage = Stage::start(nodes, 0).await?;
        stage.clients.pause().await?;
        let checks = Checks::new()?;
        checks.converged(&stage).await?;
        Ok(Self {
            stage,
            checks,
            // The time of an idle connection may be over when its server wakes, and what was sent over it is reset.
            http: Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0).build()?,
            played: 0,
        })
    }

    /// Takes the leader away and returns how long it took until the other coordinator had a change accepted, and applied by every
    /// replica.
    pub async fn replace(&mut self, loss: Loss) -> Result<Duration> {
        let leader = self.checks.converged(&self.stage).await?;
        self.played += 1;
        let flock = format!("after-{}", self.played);
        let accepting = accept(self.http.clone(), self.base(1 - leader)?, flock.clone());
        let fault = match loss {
            Loss::Kill => ProcessFault::Kill,
            Loss::Terminate => ProcessFault::Terminate,
            Loss::Reset => ProcessFault::Refuse,
            Loss::Freeze => ProcessFault::FreezeLong,
        };
        let began = Instant::now();
        let timed = async {
            accepting.await?;
            anyhow::Ok(began.elapsed())
        };
        let ((), took) = future::try_zip(self.stage.begin(leader, fault), timed).await?;
        self.stage.heal(leader, fault).await?;
        let leads = self.checks.converged(&self.stage).await?;
        ensure!(leads != leader, "whoever was away leads again");
        self.see(&flock, true).await?;
        Ok(took)
    }

    /// Freezes the leader until the other one leads, and asks the frozen one for changes, which it reads in the instant it wakes:
    /// none of them may be accepted, or ever count.
    pub async fn wake(&mut self) -> Result<()> {
        let leader = self.checks.converged(&self.stage).await?;
        self.played += 1;
        let (frozen, other) = (self.base(leader)?, self.base(1 - leader)?);
        let flock = format!("meanwhile-{}", self.played);
        self.stage.begin(leader, ProcessFault::FreezeLong).await?;
        accept(self.http.clone(), other, flock.clone()).await?;
        let late: Vec<String> = (0..8).map(|n| format!("late-{}-{n}", self.played)).collect();
        let asking = late.iter().map(|name| {
            let request = put(&self.http, frozen, name);
            async move { request.send().await }
        });
        // The system takes the connections in the frozen process's place.
        let mut asking: Vec<_> = asking.map(Box::pin).collect();
        for request in &mut asking {
            let early = future::poll_once(request).await;
            ensure!(early.is_none(), "a frozen process has answered: {early:?}");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        for request in &mut asking {
            let early = future::poll_once(request).await;
            ensure!(early.is_none(), "a frozen process has answered: {early:?}");
        }
        self.stage.heal(leader, ProcessFault::FreezeLong).await?;
        for request in asking {
            let answer = request.await.context("the process that woke answers")?;
            let retry = answer.headers().contains_key("retry-after");
            let (status, text) = (answer.status(), answer.text().await?);
            ensure!(
                status == StatusCode::SERVICE_UNAVAILABLE && retry,
                "who was replaced answered a change with {status}: {text}"
            );
        }
        ensure!(
            self.checks.converged(&self.stage).await? != leader,
            "whoever was frozen leads again"
        );
        self.see(&flock, true).await?;
        for name in &late {
            self.see(name, false).await?;
        }
        Ok(())
    }

    /// What a standby says to somebody who wants a change, and to somebody who reads: both answers.
    pub async fn ask_standby(&mut self) -> Result<(StatusCode, bool, Value, Value)> {
        let leader = self.checks.converged(&self.stage).await?;
        let standby = self.base(1 - leader)?;
        let refused = put(&self.http, standby, "nowhere").send().await?;
        let retry = refused.headers().contains_key("retry-after");
        let status = refused.status();
        let read = self.http.get(format!("http://{standby}/mobu/flocks"));
        let read = read.header("X-Auth-Request-User", "chaos").send().await?;
        Ok((
            status,
            retry,
            refused.json().await?,
            read.error_for_status()?.json().await?,
        ))
    }

    /// Ends everything in an orderly way.
    pub async fn close(self) -> Result<()> {
        self.stage.finish().await
    }

    fn base(&self, coordinator: usize) -> Result<std::net::SocketAddr> {
        let base = self.stage.bases.lock().expect("no code panics while it holds it")[coordinator];
        base.context("the coordinator has started")
    }

    /// Whether both coordinators, and so the log, know of a flock.
    async fn see(&self, flock: &str, is_there: bool) -> Result<()> {
        for coordinator in 0..2 {
            let url = format!("http://{}/mobu/flocks/{flock}/summary", self.base(coordinator)?);
            let answer = self.http.get(url).header("X-Auth-Request-User", "chaos").send().await?;
            let expected = if is_there {
                StatusCode::OK
            } else {
                StatusCode::NOT_FOUND
            };
            ensure!(
                answer.status() == expected,
                "coordinator {coordinator} answers {} for flock {flock}",
                answer.status()
            );
        }
        Ok(())
    }
}

fn put(http: &Client, base: std::net::SocketAddr, flock: &str) -> reqwest::RequestBuilder {
    let body = json!({
        "name": flock, "count": 1, "user_spec": {"username_prefix": format!("bot-mobu-{flock}")}, "scopes": [],
        "business": {"type": "EmptyLoop", "options": {"idle_time": 60}},
    });
    let request = http.put(format!("http://{base}/mobu/flocks")).json(&body);
    request.header("X-Auth-Request-User", "chaos")
}

/// Asks for a change until it is accepted.
async fn accept(http: Client, base: std::net::SocketAddr, flock: String) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = put(&http, base, &flock).send().await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::ACCEPTED => return Ok(()),
            StatusCode::SERVICE_UNAVAILABLE if Instant::now() < deadline => tokio::time::sleep(AGAIN).await,
            status => bail!("the standby answers {status}: {}", answer.text().await?),
        }
    }
}
