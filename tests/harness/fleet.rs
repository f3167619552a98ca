//! A whole fleet of real processes on a real broker.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use mobu_fleet::domain::ids::FleetName;
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Process;

/// How long a fleet may take to get where it should be.
const PATIENCE: Duration = Duration::from_secs(180);

/// How often a fleet is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(100);

/// A fleet of real processes.
#[derive(Debug)]
pub struct ProcessFleet {
    /// Name of the fleet on the broker.
    pub name: FleetName,
    /// The broker's URL.
    pub broker: String,
    /// How many replicas it is configured for.
    pub replicas: u32,
    /// Where logs and configuration lie.
    pub folder: TempDir,
    /// More variables for every process.
    pub variables: Vec<(&'static str, String)>,
    /// Where the programs of what is started next lie, if not those of this workspace.
    pub programs: Option<PathBuf>,
    /// Coordinators by number.
    pub coordinators: BTreeMap<u32, Process>,
    /// Workers by instance ID.
    pub workers: BTreeMap<u32, Process>,
    base: String,
    client: Client,
}

impl ProcessFleet {
    /// Prepares a fleet; nothing runs yet. `config` is the text of its configuration file.
    pub fn prepare(broker: &str, name: FleetName, replicas: u32, config: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("mobu-fleet-").tempdir()?;
        std::fs::write(folder.path().join("config.yaml"), config)?;
        Ok(Self {
            name,
            broker: broker.to_owned(),
            replicas,
            folder,
            variables: Vec::new(),
            programs: None,
            coordinators: BTreeMap::new(),
            workers: BTreeMap::new(),
            base: String::new(),
            client: Client::builder().timeout(PATIENCE).build()?,
        })
    }

    /// Prepares a fleet and starts one coordinator and all replicas, and waits until it has converged.
    pub async fn start(broker: &str, name: FleetName, replicas: u32, config: &str) -> Result<Self> {
        let mut fleet = Self::prepare(broker, name, replicas, config)?;
        fleet.start_coordinator(0).await?;
        for id in 0..replicas {
            fleet.start_worker(id)?;
        }
        fleet.wait_converged().await?;
        Ok(fleet)
    }

    /// Starts a coordinator and talks to it from now on.
    pub async fn start_coordinator(&mut self, number: u32) -> Result<()> {
        let mut process = self.launch("mobu-coordinator", &self.environment())?;
        self.base = format!("http://{}", process.http().await?);
        self.coordinators.insert(number, process);
        Ok(())
    }

    /// Starts a replica; does not wait for anything.
    pub fn start_worker(&mut self, id: u32) -> Result<()> {
        let mut variables = self.environment();
        variables.push(("MOBU_INSTANCE_ID", id.to_string()));
        let process = self.launch("mobu-worker", &variables)?;
        self.workers.insert(id, process);
        Ok(())
    }

    fn launch(&self, name: &str, variables: &[(&'static str, String)]) -> Result<Process> {
        match &self.programs {
            Some(folder) => Process::start_program(&folder.join(name), &[], variables, self.folder.path()),
            None => Process::start(name, &[], variables, self.folder.path()),
        }
    }

    /// Returns the variables that every process gets.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            (
                "MOBU_CONFIG_PATH",
                self.folder.path().join("config.yaml").display().to_string(),
            ),
            ("MOBU_AMQP_URL", self.broker.clone()),
            ("MOBU_FLEET", self.name.to_string()),
            ("MOBU_REPLICA_COUNT", self.replicas.to_string()),
            ("MOBU_HTTP_BIND", "127.0.0.1:0".to_owned()),
            ("MOBU_LOG_PROFILE", "production".to_owned()),
        ];
        variables.extend(self.variables.iter().cloned());
        variables
    }

    /// Where the coordinator serves HTTP.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Begins a request below mobu's prefix, as the user `tester`.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}/mobu{path}", self.base))
            .header("X-Auth-Request-User", "tester")
    }

    /// Gets JSON.
    ///
    /// # Errors
    ///
    /// If the answer is not a 200 with JSON; the error has the answer.
    pub async fn get(&self, path: &str) -> Result<Value> {
        answer(self.call(Method::GET, path).send().await?, 200).await
    }

    /// Starts a flock and returns its data.
    ///
    /// # Errors
    ///
    /// If the answer is not a 201.
    pub async fn put_flock(&self, flock: &Value) -> Result<Value> {
        answer(self.call(Method::PUT, "/flocks").json(flock).send().await?, 201).await
    }

    /// Waits until a GET answers something that satisfies `condition`, and returns it.
    pub async fn wait_for(&self, path: &str, what: &str, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.get(path).await;
            match &last {
                Ok(value) if condition(value) => return last,
                _ if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                _ => bail!("waited for {what} at {path}, last seen: {last:?}\n{}", self.logs()),
            }
        }
    }

    /// Waits until every replica runs what it should.
    pub async fn wait_converged(&self) -> Result<Value> {
        self.wait_for("/fleet", "convergence", |fleet| fleet["converged"] == true)
            .await
    }

    /// Waits until every replica runs what it should and a coordinator leads. Reports alone make a fleet converge, and changes are accepted once somebody leads.
    pub async fn wait_led(&self) -> Result<Value> {
        let is_led = |fleet: &Value| fleet["coordinator"]["active"] == true && fleet["converged"] == true;
        self.wait_for("/fleet", "a leader of a converged fleet", is_led).await
    }

    /// Returns the names of a flock's monkeys with the replica that runs each, sorted.
    pub async fn monkeys(&self, flock: &str) -> Result<Vec<(String, String)>> {
        let flock = self.get(&format!("/flocks/{flock}")).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let monkeys = flock["monkeys"].as_array().context("flock data has monkeys")?;
        let mut monkeys: Vec<_> = monkeys
            .iter()
            .map(|monkey| (text(&monkey["name"]), text(&monkey["replica"])))
            .collect();
        monkeys.sort();
        Ok(monkeys)
    }

    /// Returns what all processes have logged.
    pub fn logs(&self) -> String {
        let processes = self.coordinators.values().chain(self.workers.values());
        processes.map(Process::log).collect::<Vec<_>>().join("\n----\n")
    }

    /// Asks every process to end, workers first, and checks that each ends well.
    pub async fn finish(mut self) -> Result<()> {
        let workers = std::mem::take(&mut self.workers).into_values();
        for mut process in workers.chain(std::mem::take(&mut self.coordinators).into_values()) {
            let status = process.terminate().await?;
            if !status.success() {
                bail!("a process ended with {status}:\n{}", process.log());
            }
        }
        Ok(())
    }
}

/// The JSON of a flock that does a business, without scopes.
pub fn flock(name: &str, count: u32, business: &Value) -> Value {
    json!({
        "name": name, "count": count, "user_spec": {"username_prefix": format!("bot-mobu-{name}")}, "scopes": [],
        "business": business,
    })
}

/// Returns the JSON of an answer.
///
/// # Errors
///
/// If its status is another one; the error has the answer.
pub async fn answer(response: Response, status: u16) -> Result<Value> {
    let (got, url) = (response.status(), response.url().clone());
    let text = response.text().await?;
    if got.as_u16() != status {
        bail!("{url} answered {got} where {status} is expected: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("{url} answered no JSON: {text}"))
}
