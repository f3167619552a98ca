//! Git, as a subprocess: it never asks anybody, and ends in time or with its whole family.
//!
//! [`Git`] runs it for one monkey, with a configuration of its own; [`run`] is for whoever else needs it.

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use url::Url;

use super::shown::{Secrets, shown_url};
use crate::monkey::{Monkey, Stopped};

/// How long a command may take. Each of ours is a matter of a second; a service that never answers must not keep a monkey.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// How long to wait for a killed command to be gone.
const GRACE: Duration = Duration::from_secs(5);
/// How many bytes of each output are kept, those at its end: there it says what went wrong.
const KEPT: usize = 2048;

/// Runs git for one monkey.
#[derive(Debug)]
pub(crate) struct Git<'a> {
    pub(crate) monkey: &'a Monkey,
    /// The only configuration that it reads besides that of a repository.
    pub(crate) config: PathBuf,
    /// What it takes for the user's home, so that nothing of a real one is found.
    pub(crate) home: PathBuf,
    /// How long a command may take.
    pub(crate) limit: Duration,
}

/// Why a command did not do what it should. Never says a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GitError {
    /// Nobody wants it any more.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It does not even start.
    #[error("cannot run `{command}`")]
    Unstartable {
        /// What was to be run.
        command: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It took too long and was killed.
    #[error("`{command}` in {directory} did not end within {limit:?}{output}")]
    TimedOut {
        /// What was run.
        command: String,
        /// Where.
        directory: String,
        /// How long it may take.
        limit: Duration,
        /// What it said.
        output: Output,
    },
    /// It failed.
    #[error("`{command}` in {directory} failed with {status}{output}")]
    Failed {
        /// What was run.
        command: String,
        /// Where.
        directory: String,
        /// Its exit code, or what killed it.
        status: ExitStatus,
        /// What it said.
        output: Output,
    },
}

/// The ends of what a command said, without secrets.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: String,
    stderr: String,
}

impl Output {
    /// Returns what it said, without blanks at the ends.
    pub(crate) fn stdout(&self) -> &str {
        self.stdout.trim()
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, said) in [("stdout", self.stdout.trim_end()), ("stderr", self.stderr.trim_end())] {
            if !said.is_empty() {
                write!(f, "\n{what}: {said}")?;
            }
        }
        Ok(())
    }
}

impl Output {
    /// Returns the line that says what went wrong: the last one that git calls an error, or else the last one at all.
    fn reason(&self) -> Option<&str> {
        let lines = |text| str::lines(text).rev().map(str::trim).filter(|line| !line.is_empty());
        let is_error = |line: &&str| ["fatal: ", "error: "].iter().any(|begin| line.starts_with(begin));
        let named = lines(&self.stderr).find(is_error);
        named
            .or_else(|| lines(&self.stderr).next())
            .or_else(|| lines(&self.stdout).next())
    }
}

/// Returns what git said was wrong, in one line, if an error comes from git.
pub(crate) fn reason(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(GitError::TimedOut { output, .. } | GitError::Failed { output, .. }) = error.downcast_ref() {
            return output.reason().map(str::to_owned);
        }
        next = error.source();
    }
    None
}

impl Git<'_> {
    /// Runs a command to its end.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it kills the command and whatever that has started.
    pub(crate) async fn run(&self, directory: &Path, arguments: &[&str]) -> Result<(), GitError> {
        let mut command = prepared(arguments, directory, &self.monkey.surroundings().git_environment);
        command
            .env("HOME", &self.home)
            .env("GIT_CONFIG_GLOBAL", &self.config)
            .env("GIT_CONFIG_SYSTEM", OsString::new())
            .env("GIT_CONFIG_NOSYSTEM", "1");
        let job = Job {
            command,
            arguments,
            directory,
            limit: self.limit,
            secrets: Secrets::Token(&self.monkey.user().token),
        };
        run(job, self.monkey.stopped()).await.map(drop)
    }
}

/// A command that is to be run.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// As [`prepared`] made it.
    pub(crate) command: Command,
    /// Its arguments, for people.
    pub(crate) arguments: &'a [&'a str],
    /// Where it runs.
    pub(crate) directory: &'a Path,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// What nobody may see of what it says.
    pub(crate) secrets: Secrets<'a>,
}

/// Returns a command that sees the given environment only, has nobody to ask, and can be ended with all that it starts.
pub(crate) fn prepared(arguments: &[&str], directory: &Path, environment: &[(OsString, OsString)]) -> Command {
    let mut command = Command::new("git");
    command
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().cloned())
        .env("GIT_TERMINAL_PROMPT", "0")
        // Set, though to nothing, it keeps git from looking for a program that would open a window.
        .env("GIT_ASKPASS", OsString::new())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Git does its work in children of its own, such as git-lfs. In one group, they can be ended together.
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// Runs a command to its end, or until `stopped` ends. Returns the ends of what it said.
///
/// # Cancel safety
///
/// Dropped, it kills the command and whatever that has started.
pub(crate) async fn run(job: Job<'_>, stopped: impl Future<Output = ()>) -> Result<Output, GitError> {
    let Job {
        command,
        arguments,
        directory,
        limit,
        secrets,
    } = job;
    let mut stopped = std::pin::pin!(stopped);
    // A stop that came before is one as well.
    if futures_lite::future::poll_once(stopped.as_mut()).await.is_some() {
        return Err(Stopped.into());
    }
    let shown = || shown_command(arguments, secrets);
    let unstartable = |source| GitError::Unstartable {
        command: shown(),
        source,
    };
    let mut running = Running::start(command).map_err(unstartable)?;
    let ended = tokio::select! {
        biased;
        () = stopped => Err(Stopped),
        ended = tokio::time::timeout(limit, running.finish()) => Ok(ended),
    };
    let directory = || directory.display().to_string();
    match ended {
        Ok(Ok(Ok(status))) if status.success() => Ok(running.output(secrets)),
        Ok(Ok(Ok(status))) => Err(GitError::Failed {
            command: shown(),
            directory: directory(),
            status,
            output: running.output(secrets),
        }),
        Ok(Ok(Err(source))) => Err(unstartable(source)),
        Ok(Err(_)) => {
            running.end().await;
            Err(GitError::TimedOut {
                command: shown(),
                directory: directory(),
                limit,
                output: running.output(secrets),
            })
        }
        Err(stopped) => {
            running.end().await;
            Err(stopped.into())
        }
    }
}

/// A command and what it says.
struct Running {
    child: Child,
    /// Its process group; `None` once it has been waited for, when the number may belong to somebody else.
    group: Option<Pid>,
    stdout: Tail<ChildStdout>,
    stderr: Tail<ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> std::io::Result<Self> {
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().expect("its output was asked for");
        let stderr = child.stderr.take().expect("its errors were asked for");
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            group: id.and_then(Pid::from_raw),
            child,
            stdout: Tail::new(stdout),
            stderr: Tail::new(stderr),
        })
    }

    /// Waits until nobody can say anything any more, and then for the command itself: as long as it has not been waited
    /// for, its group's number is its own.
    async fn finish(&mut self) -> std::io::Result<ExitStatus> {
        let (stdout, stderr) = tokio::join!(self.stdout.read(), self.stderr.read());
        stdout.and(stderr)?;
        let status = self.child.wait().await?;
        self.group = None;
        Ok(status)
    }

    /// Kills the command with all that it has started, and waits until they are gone, so that their files can go, too.
    async fn end(&mut self) {
        self.kill();
        let gone = tokio::time::timeout(GRACE, self.finish()).await;
        if !matches!(gone, Ok(Ok(_))) {
            tracing::warn!("a killed git command is still there");
        }
    }

    fn kill(&self) {
        if let Some(group) = self.group
            && let Err(error) = kill_process_group(group, Signal::KILL)
        {
            tracing::debug!(error = %error, "a git command cannot be killed");
        }
    }

    fn output(&self, secrets: Secrets<'_>) -> Output {
        Output {
            stdout: self.stdout.shown(secrets),
            stderr: self.stderr.shown(secrets),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The end of what comes out of a pipe.
struct Tail<R> {
    source: R,
    kept: Vec<u8>,
    is_cut: bool,
}

impl<R: AsyncRead + Unpin> Tail<R> {
    const fn new(source: R) -> Self {
        Self {
            source,
            kept: Vec::new(),
            is_cut: false,
        }
    }

    async fn read(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; KEPT];
        loop {
            let count = self.source.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            self.keep(&chunk[..count]);
        }
    }

    fn keep(&mut self, chunk: &[u8]) {
        self.kept.extend_from_slice(chunk);
        if let Some(surplus) = self.kept.len().checked_sub(KEPT)
            && surplus > 0
        {
            self.kept.drain(..surplus);
            self.is_cut = true;
        }
    }

    fn shown(&self, secrets: Secrets<'_>) -> String {
        if !self.is_cut {
            return secrets.plain(&self.kept);
        }
        // The cut may have gone through a secret: its rest would not be recognised.
        let doubtful = secrets.longest().min(self.kept.len());
        format!("…{}", secrets.plain(&self.kept[doubtful..]))
    }
}

/// Returns a command for people: what has blanks is quoted, and what may be secret left out.
fn shown_command(arguments: &[&str], secrets: Secrets<'_>) -> String {
    let mut text = "git".to_owned();
    for argument in arguments {
        let shown = match Url::parse(argument) {
            Ok(url) if !url.username().is_empty() || url.password().is_some() => shown_url(&url),
            _ => (*argument).to_owned(),
        };
        text.push(' ');
        if shown.is_empty() || shown.contains(char::is_whitespace) {
            text.push('"');
            text.extend(shown.escape_debug());
            text.push('"');
        } else {
            text.push_str(&shown);
        }
    }
    secrets.plain(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::monkey::task::tests::{monkey, run};

    #[test]
    fn a_command_is_shown_without_secrets() {
        let token = SecretString::from("gt-key.secret");
        let shown = shown_command(
            &[
                "commit",
                "-am",
                "two words",
                "",
                "https://a:b@example.org/x",
                "gt-key.secret",
            ],
            Secrets::Token(&token),
        );
        assert_eq!(
            shown,
            "git commit -am \"two words\" \"\" https://example.org/x gt-key.***"
        );
    }

    #[test]
    fn of_a_long_output_the_end_is_kept_and_no_half_of_a_token() {
        let token = SecretString::from("gt-key.secret");
        let mut tail = Tail::new(tokio::io::empty());
        let text = format!("gt-key.secret{}", "x".repeat(KEPT - 6));
        for chunk in text.as_bytes().chunks(100) {
            tail.keep(chunk);
        }
        let shown = tail.shown(Secrets::Token(&token));
        assert!(
            !shown.contains("secret") && shown.starts_with('…') && shown.ends_with("xxx"),
            "{shown}"
        );
        assert!(tail.kept.len() == KEPT);
    }

    #[test]
    fn a_short_output_is_kept_whole() {
        let mut tail = Tail::new(tokio::io::empty());
        tail.keep(b"fatal: gt-key.secret\n");
        assert_eq!(
            tail.shown(Secrets::Token(&SecretString::from("gt-key.secret"))),
            "fatal: gt-key.***\n"
        );
    }

    /// Runs a command of the shell as git would run its helpers, for so long at most.
    async fn run_shell(monkey: &Monkey, script: &str, limit: Duration) -> Result<(), GitError> {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("gitconfig");
        std::fs::write(&config, "").unwrap();
        let git = Git {
            monkey,
            config,
            home: directory.path().to_owned(),
            limit,
        };
        let alias = format!("alias.ours=!{script}");
        git.run(directory.path(), &["-c", &alias, "ours"]).await
    }

    #[tokio::test]
    async fn a_command_that_takes_too_long_is_killed_with_what_it_has_started() {
        let monkey = monkey(&run(true), "bot-mobu-a1");
        let begun = std::time::Instant::now();
        let (script, limit) = ("echo so far; sleep 600 & sleep 600", Duration::from_secs(5));
        let error = run_shell(&monkey, script, limit).await;
        let text = error.unwrap_err().to_string();
        assert!(text.ends_with("did not end within 5s\nstdout: so far"), "{text}");
        assert!(begun.elapsed() < limit + GRACE, "nobody holds its output any more");
    }

    #[tokio::test]
    async fn a_command_can_ask_nobody_and_sees_no_environment_but_its_own() {
        let monkey = monkey(&run(true), "bot-mobu-a1");
        let script = r#"test -z "$(cat)" -a "$GIT_TERMINAL_PROMPT" = 0 -a -z "$CARGO_MANIFEST_DIR""#;
        run_shell(&monkey, script, LIMIT).await.unwrap();
        let error = run_shell(&monkey, "echo gt-key.secret; exit 3", LIMIT)
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3\nstdout: gt-key.***"), "{text}");
        let script = "echo remote: hm >&2; echo fatal: no such thing >&2; echo Please make sure >&2; exit 3";
        let error = run_shell(&monkey, script, LIMIT).await.unwrap_err();
        assert_eq!(reason(&error).as_deref(), Some("fatal: no such thing"), "{error}");
        let error = run_shell(&monkey, "exit 3", LIMIT).await.unwrap_err();
        assert_eq!(reason(&error), None);
        assert!(error.to_string().ends_with("exit status: 3"), "{error}");
        assert!(!text.contains("secret"), "{text}");
    }

    #[tokio::test]
    async fn after_a_stop_nothing_is_started() {
        let monkey = monkey(&run(true), "bot-mobu-a1");
        monkey.stop();
        let ended = run_shell(&monkey, "exit 3", LIMIT).await;
        assert!(matches!(ended, Err(GitError::Stopped(_))), "{ended:?}");
    }
}
