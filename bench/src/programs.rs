//! The real programs, as processes.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use mobu_fleet::domain::ids::FleetName;
use serde_json::Value;

use crate::fleet::PATIENCE;
use crate::usage::{Usage, usage};

/// Returns the folder of the programs: the one of this program, where they are built if they are not there.
pub(crate) fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folder = own.parent().context("a program lies in a folder")?.to_owned();
    if !folder.join("mobu-worker").is_file() || !folder.join("mobu-coordinator").is_file() {
        let profile = match folder.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(profile) => profile,
        };
        build(&["--profile", profile], None)?;
    }
    Ok(folder)
}

/// Builds both programs; returns how long that took, in seconds.
pub(crate) fn build(arguments: &[&str], target: Option<&Path>) -> Result<f64> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "-p", "mobu-worker", "-p", "mobu-coordinator"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if let Some(target) = target {
        cargo.env("CARGO_TARGET_DIR", target);
    }
    let begun = Instant::now();
    ensure!(cargo.status()?.success(), "the programs cannot be built");
    Ok(begun.elapsed().as_secs_f64())
}

/// A running program; killed when it is dropped.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts a program of the fleet with every default.
    pub(crate) fn start(
        name: &str,
        broker: &str,
        fleet: &FleetName,
        replicas: u32,
        instance_id: Option<u32>,
        scratch: &Path,
    ) -> Result<Self> {
        let log = scratch.join(format!("{name}-{}.log", uuid::Uuid::new_v4().simple()));
        let mut command = Command::new(folder()?.join(name));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("MOBU_CONFIG_PATH", config(scratch)?)
            .env("MOBU_AMQP_URL", broker)
            .env("MOBU_FLEET", fleet.as_str())
            .env("MOBU_REPLICA_COUNT", replicas.to_string())
            .env("MOBU_HTTP_BIND", "127.0.0.1:0")
            .env("MOBU_TOKENS", "local")
            .env("MOBU_LOG_PROFILE", "production")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        if let Some(id) = instance_id {
            command.env("MOBU_INSTANCE_ID", id.to_string());
        }
        let child = command.spawn().with_context(|| format!("{name} starts"))?;
        Ok(Self { child, log })
    }

    /// Waits until it serves HTTP and returns where.
    pub(crate) async fn address(&mut self) -> Result<SocketAddr> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            let log = std::fs::read_to_string(&self.log)?;
            let found = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(address) = found
                .into_iter()
                .find_map(|line| line["http.address"].as_str()?.parse().ok())
            {
                return Ok(address);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("a program ended with {status}:\n{log}");
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        bail!("a program serves no HTTP after {PATIENCE:?}")
    }

    /// Looks what it uses.
    pub(crate) fn usage(&self) -> Result<Usage> {
        usage(Some(self.child.id()))
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        self.kill().ok();
    }
}

/// Writes an empty configuration, so that none of the machine is read.
fn config(scratch: &Path) -> Result<PathBuf> {
    let path = scratch.join("config.yaml");
    if !path.is_file() {
        std::fs::write(&path, "{}\n")?;
    }
    Ok(path)
}
