//! Measurements in a process of their own, so that none inherits another's memory, threads or warm caches.

use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::{Builder, Handle};

use crate::fleet::PATIENCE;

/// Runs one measurement of this program in a fresh process and returns what it printed.
///
/// # Errors
///
/// If it fails; what went wrong is on standard error.
pub(crate) fn run<T: DeserializeOwned>(arguments: &[String]) -> Result<T> {
    let name = || format!("`child {}`", arguments.join(" "));
    let mut child = command(arguments)?.stdout(Stdio::piped()).spawn()?;
    let out = child.stdout.take().context("it has an output")?;
    // It prints one line when it is done. The output is closed at its end, whatever becomes of it.
    let (done, printed) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // Without a line there are no figures, which is noticed below; and nobody may wait any more.
        BufReader::new(out).read_line(&mut line).ok();
        done.send(line).ok();
    });
    let line = printed.recv_timeout(PATIENCE).map_err(|_| {
        // It may have ended meanwhile.
        child.kill().ok();
        anyhow!("{} took longer than {PATIENCE:?}", name())
    });
    let status = child.wait()?;
    let line = line?;
    ensure!(status.success(), "{} ended with {status}", name());
    serde_json::from_str(&line).with_context(|| format!("{} printed no figures", name()))
}

/// Returns the command that runs one measurement.
pub(crate) fn command(arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Starts a runtime on a thread of its own, on which what is measured runs alone until the process ends.
pub(crate) fn measured_thread() -> Result<Handle> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(handle)
}

/// Prints what a measurement came to, for [`run`].
pub(crate) fn print(figures: &impl Serialize) -> Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(figures)?)?;
    Ok(())
}

/// A server as a process of its own, that says where it listens; ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts one of the servers of this program.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let mut child = command(&[name.to_owned()])?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("it has an output")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        Ok(Self {
            child,
            address: line.trim().parse()?,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Says where a server listens, for [`Server::start`].
pub(crate) fn say_address(address: SocketAddr) -> Result<()> {
    writeln!(std::io::stdout(), "{address}")?;
    Ok(())
}
