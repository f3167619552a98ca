//! Measurements in a process of their own, so that none inherits another's memory, threads or warm caches.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Runs one measurement of this program in a fresh process and returns what it printed.
///
/// # Errors
///
/// If it fails; what went wrong is on standard error.
pub(crate) fn run<T: DeserializeOwned>(arguments: &[String]) -> Result<T> {
    let output = command(arguments)?.stdout(Stdio::piped()).output()?;
    ensure!(
        output.status.success(),
        "`child {}` ended with {}",
        arguments.join(" "),
        output.status
    );
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("`child {}` printed no figures", arguments.join(" ")))
}

/// Returns the command that runs one measurement.
pub(crate) fn command(arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child").args(arguments).stdin(Stdio::null());
    Ok(command)
}

/// Prints what a measurement came to, for [`run`].
pub(crate) fn print(figures: &impl Serialize) -> Result<()> {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(figures)?)?;
    Ok(())
}
