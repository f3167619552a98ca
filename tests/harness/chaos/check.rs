//! What must be true once everything is healed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mobu_fleet::domain::desired::{Change, DesiredState};
use mobu_fleet::domain::ids::{FlockName, Revision};
use reqwest::Client;
use serde_json::Value;

use super::clients::{self, MONKEYS};
use super::fault::WORKERS;
use super::ledger::{Action, Fate, Operation};
use super::log::{Reading, is_of};
use super::stage::{PASSWORD, Stage};
use crate::sim::model::Accepted;

/// How long a fleet may take to converge when everything is healed.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long one look may take.
const GLANCE: Duration = Duration::from_secs(5);

/// What the checks know from one round to the next.
#[derive(Debug)]
pub(super) struct Checks {
    http: Client,
    /// The log.
    pub(super) reading: Reading,
    /// Everything that was acknowledged since the beginning.
    accepted: Accepted,
    /// The newest revision that each client was told of.
    told: BTreeMap<String, u64>,
    /// Operations up to here were put to `accepted`.
    noted: usize,
    /// Operations from here on must be in the log as they were answered.
    base: usize,
    barriers: u64,
    /// Logs of processes, and how far they were read.
    logs: BTreeMap<PathBuf, usize>,
    /// Lines of level `ERROR`.
    pub(super) errors: BTreeMap<String, usize>,
    /// Entries that did not count, in logs that are no more.
    pub(super) ignored: usize,
}

impl Checks {
    /// Nothing has happened yet.
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            http: Client::builder().timeout(GLANCE).build()?,
            reading: Reading::default(),
            accepted: Accepted::default(),
            told: BTreeMap::new(),
            noted: 0,
            base: 0,
            barriers: 0,
            logs: BTreeMap::new(),
            errors: BTreeMap::new(),
            ignored: 0,
        })
    }

    /// The log has lost something: what was answered before need not be in it as it was.
    pub(super) fn lose(&mut self, operations: usize) {
        self.ignored += self.reading.ignored;
        self.reading = Reading::default();
        self.base = operations;
    }

    /// Waits until one coordinator leads and all replicas run what they should. Returns its index. The other one may still be reading.
    pub(super) async fn served(&self, stage: &Stage) -> Result<usize> {
        self.wait(stage, serves).await
    }

    /// Waits until that is so, and the other coordinator follows and knows as much.
    pub(super) async fn converged(&self, stage: &Stage) -> Result<usize> {
        self.wait(stage, leader).await
    }

    async fn wait(&self, stage: &Stage, condition: fn(&Value, &Value) -> Option<usize>) -> Result<usize> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let views = [self.get(stage, 0, "/fleet").await, self.get(stage, 1, "/fleet").await];
            let seen = |view: &Result<Value>| view.as_ref().map_or(Value::Null, Value::clone);
            if let Some(leader) = condition(&seen(&views[0]), &seen(&views[1])) {
                return Ok(leader);
            }
            ensure!(
                Instant::now() < deadline,
                "the fleet has not converged within {PATIENCE:?} after the heal: {}",
                views
                    .map(|view| view.map_or_else(|error| error.to_string(), |view| view.to_string()))
                    .join("\n")
            );
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Checks everything. The clients must have come to rest.
    pub(super) async fn check(&mut self, stage: &mut Stage) -> Result<()> {
        self.barriers += 1;
        clients::barrier(&stage.requests, self.barriers).await?;
        let deadline = Instant::now() + PATIENCE;
        let leader = loop {
            let leader = self.converged(stage).await?;
            let mut settled = self.settled(stage, leader).await;
            if settled.is_ok() {
                // A replica that was cut off a moment ago is not missed yet, and cannot be asked.
                settled = self.monkeys(stage, leader).await;
            }
            match settled {
                Ok(()) => break leader,
                Err(_) if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(error),
            }
        };
        self.answers(stage)?;
        self.revisions(stage, leader).await?;
        stage.check_alive()?;
        self.logs(stage)?;
        let trouble = stage
            .shared
            .trouble
            .lock()
            .expect("no code panics while it holds it")
            .join("\n");
        ensure!(
            trouble.is_empty(),
            "clients were answered what should never come:\n{trouble}"
        );
        Ok(())
    }

    /// The log's newest revision and state.
    fn newest(&self) -> Result<(u64, &DesiredState)> {
        let (standing, state) = self.reading.newest.as_ref().context("the log has a state")?;
        Ok((standing.revision.0, state))
    }

    /// The log was read to its end, both coordinators hold what it says, and every replica reports that it runs just that.
    async fn settled(&mut self, stage: &Stage, leader: usize) -> Result<()> {
        let view = self.get(stage, leader, "/fleet").await?;
        let number = |value: &Value| value.as_u64().context("a number");
        let (epoch, revision) = (number(&view["epoch"])?, number(&view["revision"])?);
        self.reading.read_to(&stage.link, epoch, revision).await?;
        let (_, desired) = self.newest()?;
        for coordinator in [leader, 1 - leader] {
            let replicas = self.get(stage, coordinator, "/replicas").await?;
            let replicas = replicas.as_array().context("replicas are listed")?;
            ensure!(replicas.len() == WORKERS as usize, "{} replicas", replicas.len());
            for replica in replicas {
                runs(replica, desired, revision).with_context(|| {
                    format!(
                        "seen by the {}",
                        if coordinator == leader { "leader" } else { "standby" }
                    )
                })?;
            }
        }
        Ok(())
    }

    /// Asked themselves, the replicas name each user once, and those that belong to them.
    async fn monkeys(&self, stage: &Stage, leader: usize) -> Result<()> {
        let (_, desired) = self.newest()?;
        for (name, flock) in &desired.flocks {
            let data = self.get(stage, leader, &format!("/flocks/{name}")).await?;
            let monkeys = data["monkeys"].as_array().context("flock data has monkeys")?;
            let mut seen: Vec<(String, String)> = Vec::new();
            for monkey in monkeys {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                seen.push((text(&monkey["name"]), text(&monkey["replica"])));
                ensure!(
                    monkey["business"]["refreshing"] != true || flock.refresh_generation > flock.generation,
                    "a monkey of {name} was told of a refresh that came before its start: {monkey}"
                );
            }
            seen.sort();
            let mut expected = Vec::new();
            for id in 0..WORKERS {
                expected.extend((1..=MONKEYS).map(|i| (format!("bot-mobu-{name}-instance-{id}-{i}"), id.to_string())));
            }
            ensure!(seen == expected, "flock {name} has the monkeys {seen:?}");
        }
        Ok(())
    }

    /// What clients were told is in the log, in their order, and the log has nothing that nobody asked for.
    fn answers(&mut self, stage: &Stage) -> Result<()> {
        let operations = stage.shared.ledger.since(0);
        for operation in &operations[self.noted..] {
            let Fate::Accepted(revision) = operation.fate else {
                continue;
            };
            self.accepted.take(Revision(revision), &change(operation)?);
            let before = self.told.insert(operation.client.clone(), revision);
            ensure!(
                before.is_none_or(|before| before < revision),
                "{} was accepted as revision {revision}, and the operation before it as {before:?}",
                operation.id
            );
        }
        self.noted = operations.len();
        let (revision, desired) = self.newest()?;
        ensure!(
            self.accepted.newest.0 <= revision,
            "revision {} was accepted, and the fleet is at {revision}",
            self.accepted.newest
        );
        if let Some(forgotten) = self.accepted.forgotten(desired) {
            bail!("accepted and forgotten: {forgotten}");
        }
        for operation in &operations[self.base..] {
            self.in_log(operation)?;
        }
        let asked = stage.shared.ledger.by_id();
        for (revision, made) in &self.reading.made {
            if matches!(made.change, Change::Begin | Change::Recover) {
                continue;
            }
            let Some((action, flock)) = asked.get(&made.request) else {
                bail!("nobody asked for revision {revision}: {made:?}");
            };
            ensure!(
                is_of(&made.change, *action, flock),
                "revision {revision} is {made:?}, and {action:?} of {flock} was asked for"
            );
        }
        Ok(())
    }

    fn in_log(&self, operation: &Operation) -> Result<()> {
        let found = self.reading.requests.get(&operation.id);
        match operation.fate {
            Fate::Accepted(revision) => ensure!(
                found == Some(&revision),
                "{} was accepted as revision {revision}, and the log has it as {found:?}",
                operation.id
            ),
            Fate::NotDone => ensure!(
                found.is_none(),
                "{} was never taken, and is in the log as {found:?}",
                operation.id
            ),
            // What is sent over AMQP is delivered at least once: a refusal whose settlement is lost with a connection is looked at again.
            Fate::NotFound if operation.unclear == 0 && operation.client.starts_with('h') => {
                ensure!(
                    found.is_none(),
                    "{} was refused, and is in the log as {found:?}",
                    operation.id
                );
            }
            Fate::NotFound | Fate::Unknown => {}
        }
        Ok(())
    }

    /// `GET /revisions` tells what the log says.
    async fn revisions(&self, stage: &Stage, leader: usize) -> Result<()> {
        let listed = self.get(stage, leader, "/revisions").await?;
        let listed = listed.as_array().context("revisions are listed")?;
        let (newest, _) = self.newest()?;
        let mut last = newest + 1;
        for item in listed {
            let revision = item["revision"].as_u64().context("a revision has a number")?;
            ensure!(revision < last, "revisions are listed as {listed:?}");
            last = revision;
            if let Some(made) = self.reading.made.get(&revision) {
                let change = serde_json::to_value(&made.change)?;
                ensure!(
                    item["change"] == change,
                    "revision {revision} is listed as {item}, and is {change}"
                );
            }
        }
        ensure!(
            listed.first().is_none_or(|first| first["revision"] == newest),
            "the newest revision is {newest}, and {:?} is listed",
            listed.first()
        );
        Ok(())
    }

    /// No process panicked, or told a secret.
    fn logs(&mut self, stage: &Stage) -> Result<()> {
        for entry in std::fs::read_dir(stage.folder.path())? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "log") {
                continue;
            }
            let text = std::fs::read_to_string(&path)?;
            let read = self.logs.entry(path).or_default();
            // Not into the middle of a line that is being written.
            let end = text.rfind('\n').map_or(0, |at| at + 1);
            let new = &text[(*read).min(end)..end];
            *read = end;
            for line in new.lines() {
                ensure!(!line.contains("panicked"), "a process panicked: {line}");
                ensure!(!line.contains(PASSWORD), "a log tells the broker's password: {line}");
                if line.contains("\"level\":\"ERROR\"") {
                    let line: Value = serde_json::from_str(line).unwrap_or_default();
                    let message = line["message"].as_str().or_else(|| line["fields"]["message"].as_str());
                    let words = message.unwrap_or("without a message").chars();
                    let words = words
                        .map(|c| if c.is_ascii_digit() { '#' } else { c })
                        .take(160)
                        .collect();
                    *self.errors.entry(words).or_default() += 1;
                }
            }
        }
        Ok(())
    }

    async fn get(&self, stage: &Stage, coordinator: usize, path: &str) -> Result<Value> {
        let base = stage.bases.lock().expect("no code panics while it holds it")[coordinator];
        let base = base.context("the coordinator has started once")?;
        let request = self.http.get(format!("http://{base}/mobu{path}"));
        let response = request.header("X-Auth-Request-User", "chaos").send().await?;
        Ok(response.error_for_status()?.json().await?)
    }
}

/// The index of the coordinator that leads and sees all replicas run what they should, if there is one.
fn serves(first: &Value, second: &Value) -> Option<usize> {
    let does = |view: &Value| view["coordinator"]["active"] == true && is_well(view);
    match (does(first), does(second)) {
        (true, false) => Some(0),
        (false, true) => Some(1),
        _ => None,
    }
}

/// The same, if the other one follows it.
fn leader(first: &Value, second: &Value) -> Option<usize> {
    let leader = serves(first, second)?;
    let (lead, follow) = if leader == 0 { (first, second) } else { (second, first) };
    let is_one = lead["epoch"] == follow["epoch"] && lead["revision"] == follow["revision"];
    let follows = follow["coordinator"]["stage"] == "standby";
    (is_well(follow) && is_one && follows).then_some(leader)
}

fn is_well(view: &Value) -> bool {
    view["converged"] == true && view["replicas"]["ready"] == WORKERS && view["link"]["state"] == "open"
}

/// Whether a replica reports that it runs just this.
fn runs(replica: &Value, state: &DesiredState, revision: u64) -> Result<()> {
    let id = &replica["instance_id"];
    ensure!(
        replica["state"] == "ready" && replica["applied_revision"] == revision,
        "replica {id} is {} at revision {}, and the log at {revision}",
        replica["state"],
        replica["applied_revision"]
    );
    let flocks = replica["flocks"].as_object().context("a replica reports flocks")?;
    let is_same = flocks
        .keys()
        .map(String::as_str)
        .eq(state.flocks.keys().map(FlockName::as_str));
    ensure!(
        is_same,
        "replica {id} runs {:?}, and shall run {:?}",
        flocks.keys(),
        state.flocks.keys()
    );
    for (name, flock) in &state.flocks {
        let report = &flocks[name.as_str()];
        ensure!(
            report["generation"] == flock.generation.0
                && report["refresh_generation"] == flock.refresh_generation.0
                && report["phase"] == "running"
                && report["monkey_count"] == MONKEYS,
            "replica {id} runs flock {name} as {report}, and shall as generation {}, refreshed by {}",
            flock.generation,
            flock.refresh_generation
        );
    }
    Ok(())
}

fn change(operation: &Operation) -> Result<Change> {
    let flock = operation.flock.parse()?;
    Ok(match operation.action {
        Action::Start => Change::Start { flock },
        Action::Stop => Change::Stop { flocks: vec![flock] },
        Action::Refresh => Change::Refresh {
            flocks: vec![flock],
            repo_url: None,
            repo_ref: None,
        },
    })
}
