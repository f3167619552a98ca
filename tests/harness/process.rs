//! The real programs, as processes: started, killed, frozen, asked to end.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::process::{Child, Command};

/// How long a process may take to do what it was asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often a file or a process is looked at while something is awaited.
const LOOK: Duration = Duration::from_millis(50);

/// Returns the path of a program of this workspace.
///
/// # Errors
///
/// If it was not built: `cargo build --workspace` does it, and the test runner of the README before everything else.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // Programs lie in target/PROFILE, tests in target/PROFILE/deps.
    let folders = own.ancestors().skip(1).take(2);
    let path = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    path.with_context(|| format!("{name} is not built: run `cargo build --workspace` first"))
}

/// A running program. Killed when it is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a program with exactly these variables, and its log in `folder`.
    pub fn start(name: &str, args: &[&str], variables: &[(&str, String)], folder: &Path) -> Result<Self> {
        Self::start_program(&program(name)?, args, variables, folder)
    }

    /// As [`Process::start`], with a program that is none of this workspace: of another version, say.
    pub fn start_program(program: &Path, args: &[&str], variables: &[(&str, String)], folder: &Path) -> Result<Self> {
        let name = program.file_name().and_then(std::ffi::OsStr::to_str);
        let name = name.context("the program has a name")?;
        let log = folder.join(format!("{name}-{}.log", uuid::Uuid::new_v4().simple()));
        let file = File::create(&log)?;
        let mut command = Command::new(program);
        command.args(args).env_clear().current_dir(folder);
        // What a process of a container has, so that nothing of the machine leaks into a test.
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", folder);
        command.envs(variables.iter().map(|(key, value)| (*key, value)));
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("{name} starts"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log,
        })
    }

    /// Returns everything that it has printed and logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until its log has a line with all of these texts, and returns the line.
    pub async fn wait_log(&mut self, texts: &[&str]) -> Result<String> {
        let find = async {
            loop {
                let log = self.log();
                if let Some(line) = log.lines().find(|line| texts.iter().all(|text| line.contains(text))) {
                    return Ok(line.to_owned());
                }
                if let Some(status) = self.child.try_wait()? {
                    bail!("{} ended with {status} before it logged {texts:?}:\n{log}", self.name);
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, find).await;
        found.unwrap_or_else(|_| {
            bail!(
                "{} has not logged {texts:?} in {PATIENCE:?}:\n{}",
                self.name,
                self.log()
            )
        })
    }

    /// Waits until it serves HTTP and returns where.
    pub async fn http(&mut self) -> Result<SocketAddr> {
        let line = self.wait_log(&["\"http.address\":"]).await?;
        let line: serde_json::Value = serde_json::from_str(&line)?;
        let address = line["http.address"].as_str().context("the address is text")?;
        Ok(address.parse()?)
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Where its log is.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// Its process ID, unless it has ended and that was noticed.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it at once, as the system would that is out of memory.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Sends it a signal by name, such as `TERM`, `STOP` or `CONT`.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.child.id().context("it still runs")?;
        let sent = Command::new("kill")
            .args(["-s", signal, &pid.to_string()])
            .status()
            .await?;
        ensure!(sent.success(), "signal {signal} was not sent to {}", self.name);
        Ok(())
    }

    /// Waits until it has ended, and returns how.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended
            .with_context(|| format!("{} still runs after {PATIENCE:?}:\n{}", self.name, self.log()))?
            .map_err(Into::into)
    }

    /// Asks it to end and waits until it has, and returns how.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal("TERM").await?;
        self.wait().await
    }
}
