//! A coordinator as a process, and what its API says.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use http::Method;
use mobu_fleet::domain::ids::FleetName;
use serde_json::Value;

use crate::bare::Bare;
use crate::fleet::PATIENCE;
use crate::programs::Program;

/// A coordinator, and a connection to it.
pub(crate) struct Coordinator {
    pub(crate) program: Program,
    client: Bare,
}

impl Coordinator {
    /// Starts one; waits until it serves HTTP.
    pub(crate) async fn start(broker: &str, fleet: &FleetName, replicas: u32, scratch: &Path) -> Result<Self> {
        let mut program = Program::start("mobu-coordinator", broker, fleet, replicas, None, scratch)?;
        let address: SocketAddr = program.address().await?;
        Ok(Self {
            program,
            client: Bare::connect(address).await?,
        })
    }

    pub(crate) async fn get(&mut self, path: &str) -> Result<Value> {
        let (status, body) = self.client.fetch(&Method::GET, path, &USER, String::new()).await?;
        if !status.is_success() {
            bail!("{path} answered {status}");
        }
        serde_json::from_slice(&body).with_context(|| format!("{path} answers JSON"))
    }

    /// Starts a flock; does not insist that all have it yet.
    pub(crate) async fn put(&mut self, flock: &Value) -> Result<()> {
        let (status, _) = self
            .client
            .fetch(&Method::PUT, "/mobu/flocks", &USER, flock.to_string())
            .await?;
        if !status.is_success() {
            bail!("a start was answered {status}");
        }
        Ok(())
    }

    /// Waits until this one leads and all replicas run what they should; returns how long that took.
    pub(crate) async fn converged(&mut self) -> Result<Duration> {
        self.wait("convergence", |fleet| {
            fleet["converged"] == true && fleet["coordinator"]["active"] == true
        })
        .await
    }

    /// Waits until the fleet is as it should be; returns how long that took.
    pub(crate) async fn wait(&mut self, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let fleet = self.get("/mobu/fleet").await?;
            if condition(&fleet) {
                return Ok(begun.elapsed());
            }
            if begun.elapsed() > PATIENCE {
                bail!("waited {PATIENCE:?} for {what}; last: {fleet}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Returns the ages of all replicas' reports in seconds.
    pub(crate) async fn ages(&mut self) -> Result<Vec<f64>> {
        let replicas = self.get("/mobu/replicas").await?;
        let replicas = replicas.as_array().context("replicas are a list")?;
        Ok(replicas
            .iter()
            .filter_map(|replica| replica["report_age"].as_f64())
            .collect())
    }
}

/// Whom the API takes us for.
const USER: [(&str, &str); 2] = [("x-auth-request-user", "bench"), ("content-type", "application/json")];
