//! Real services on loopback, which the scripts of `tests/services` fetch and run: killed and brought back on demand.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Says, as JSON, what the runner has started for all tests: [`Started`] by the service's name.
pub const VARIABLE: &str = "MOBU_TEST_SERVICES";

/// How long a service may take: the first time, everything that it consists of is fetched.
const PATIENCE: Duration = Duration::from_secs(540);

/// What a script ends with if its service cannot be had on this machine.
const UNAVAILABLE: i32 = 77;

/// A service, by the name of its script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// TAP and SIA: facts `tap` and `sia`, base URLs.
    Dachs,
    /// Git LFS: facts `write` and `read`, URLs; `tokens`, passwords of `gituser`; `storage`, a folder.
    Giftless,
    /// `JupyterHub` with `JupyterLab`: facts `port`; `host`, the name it goes by; `token`, for its API; `home`, the folder of all homes.
    JupyterHub,
}

impl Kind {
    /// Every service.
    pub const ALL: [Self; 3] = [Self::Dachs, Self::Giftless, Self::JupyterHub];

    /// Its name, which is that of its script, and of the module of the ring's tests that need it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dachs => "dachs",
            Self::Giftless => "giftless",
            Self::JupyterHub => "jupyterhub",
        }
    }
}

/// What a running service says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts(BTreeMap<String, String>);

impl Facts {
    /// Returns a fact.
    ///
    /// # Panics
    ///
    /// If the service says no such thing: its script and its test do not belong together.
    pub fn get(&self, key: &str) -> &str {
        self.0.get(key).unwrap_or_else(|| panic!("no fact `{key}` in {self:?}"))
    }

    fn parse(line: &str) -> Option<Self> {
        let facts = line.strip_prefix("ready")?.split_whitespace();
        let facts = facts.filter_map(|fact| fact.split_once('='));
        Some(Self(
            facts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ))
    }
}

/// What became of the start of a service.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Started {
    /// It runs.
    Ready(Facts),
    /// It cannot be had here, and why.
    Unavailable(String),
}

/// A running service. It ends, with its data, when it is dropped or this process is gone.
#[derive(Debug)]
pub struct Service {
    kind: Kind,
    facts: Facts,
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

/// The service cannot be had on this machine.
#[derive(Debug, thiserror::Error)]
#[error("NOT CHECKED: {name} cannot be had here: {reason}")]
pub struct Unavailable {
    name: &'static str,
    /// What its script said.
    pub reason: String,
}

impl Service {
    /// Fetches what is missing, starts the service, and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] if it cannot be had here; others if it does not start.
    pub async fn start(kind: Kind) -> Result<Self> {
        Self::start_with(kind, &[]).await
    }

    /// The same with more variables for its script.
    pub async fn start_with(kind: Kind, variables: &[(&str, String)]) -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("services/{}.sh", kind.name()));
        let mut child = Command::new(&script)
            .arg("run")
            .envs(variables.iter().map(|(key, value)| (*key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Away from signals for the tests: it ends when its input does.
            .process_group(0)
            .spawn()
            .with_context(|| format!("{} starts", script.display()))?;
        let commands = child.stdin.take().context("its input was asked for")?;
        let answers = BufReader::new(child.stdout.take().context("its output was asked for")?).lines();
        let mut service = Self {
            kind,
            facts: Facts::default(),
            child,
            commands,
            answers,
        };
        let ready = tokio::time::timeout(PATIENCE, service.answers.next_line()).await;
        let ready = ready.with_context(|| format!("{} took longer than {PATIENCE:?}", kind.name()))??;
        match ready.as_deref().and_then(Facts::parse) {
            Some(facts) => service.facts = facts,
            None => return Err(service.complaint().await),
        }
        Ok(service)
    }

    /// What it says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Ends all its processes without a warning. Its data stays.
    pub async fn kill(&mut self) -> Result<()> {
        self.command("kill", "killed").await
    }

    /// Brings it back where it was, and waits until it answers.
    pub async fn restart(&mut self) -> Result<()> {
        self.command("start", "ready").await
    }

    async fn command(&mut self, command: &str, answer: &str) -> Result<()> {
        self.commands.write_all(format!("{command}\n").as_bytes()).await?;
        let said = tokio::time::timeout(PATIENCE, self.answers.next_line()).await;
        let said = said.with_context(|| format!("{} does not {command}", self.kind.name()))??;
        match said {
            Some(said) if said.starts_with(answer) => Ok(()),
            _ => Err(self.complaint().await),
        }
    }

    /// Ends it and waits until nothing is left of it.
    pub async fn finish(self) -> Result<()> {
        let Self {
            kind,
            mut child,
            commands,
            ..
        } = self;
        drop(commands);
        let ended = tokio::time::timeout(Duration::from_secs(60), child.wait()).await;
        let status = ended.with_context(|| format!("{} does not end", kind.name()))??;
        if !status.success() {
            bail!("{} ended with {status}", kind.name());
        }
        Ok(())
    }

    /// Returns why it gave up.
    async fn complaint(&mut self) -> anyhow::Error {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let read = stderr.read_to_string(&mut said);
            tokio::time::timeout(Duration::from_secs(20), read).await.ok();
        }
        let status = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        if matches!(status, Ok(Ok(status)) if status.code() == Some(UNAVAILABLE)) {
            let reason = said.lines().last().unwrap_or("it does not say why").to_owned();
            let name = self.kind.name();
            return Unavailable { name, reason }.into();
        }
        anyhow::anyhow!("{} does not run ({status:?}):\n{said}", self.kind.name())
    }
}

/// The service that tests share: the runner's, or one of this process alone, which is then returned, too.
///
/// # Errors
///
/// [`Unavailable`] if it cannot be had here: a test without its service has failed. The runner does not come that far; it leaves
/// the tests out and says so.
pub async fn shared(kind: Kind) -> Result<(Facts, Option<Service>)> {
    let given = std::env::var_os(VARIABLE).filter(|given| !given.is_empty());
    let Some(given) = given else {
        let service = Service::start(kind).await?;
        return Ok((service.facts.clone(), Some(service)));
    };
    let given = given.to_string_lossy();
    let mut started: BTreeMap<String, Started> = serde_json::from_str(&given).context(VARIABLE)?;
    match started.remove(kind.name()) {
        Some(Started::Ready(facts)) => Ok((facts, None)),
        Some(Started::Unavailable(reason)) => {
            let name = kind.name();
            Err(Unavailable { name, reason }.into())
        }
        None => bail!("{VARIABLE} says nothing about {}", kind.name()),
    }
}
