//! Why a run cannot go on: what failed, at what, where, and what the service said.

use std::error::Error;
use std::fmt::{self, Write as _};

use mobu_fleet::link::BoxError;
use mobu_fleet::runtime::process::chain;
use secrecy::SecretString;

use super::Phase;
use crate::client::shown::{first_bytes, last_bytes, plain, without_token};
use crate::monkey::Stopped;

/// Most bytes of a URL that a failure keeps.
const URL: usize = 512;
/// Most bytes of a name of a notebook or cell that a failure keeps.
const NAME: usize = 256;
/// Most bytes of a reason that a failure keeps.
const REASON: usize = 512;
/// Most bytes of a traceback that a failure keeps: its end, where the exception is.
const TRACEBACK: usize = 16 * 1024 + 8;
/// Most bytes of a spawn log that a failure keeps: its end, where the reason is.
const SPAWN_LOG: usize = 8 * 1024;

/// Why a run cannot go on.
///
/// As large as one pointer: every iteration of every monkey returns one of these, or nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IterationError {
    /// The monkey was told to stop: neither a success nor a failure.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The run failed.
    #[error(transparent)]
    Failed(Box<Failure>),
}

/// A run that failed, with all that is known of the cause. None of it may be secret.
///
/// Beyond kind and error everything is optional, and added where it is known:
/// `IterationError::retry("status", error).during(Phase::SpawnLab).at_shown(&shown_url(&url)).status(503).excerpt(&body, token)`.
/// What several places know, the innermost says: a part that is there already is kept.
#[derive(Debug)]
pub(crate) struct Failure {
    kind: &'static str,
    is_fatal: bool,
    phase: Option<Phase>,
    status: Option<u16>,
    url: Option<Box<str>>,
    excerpt: Option<Box<str>>,
    reason: Option<Box<str>>,
    notebook: Option<Box<str>>,
    cell: Option<Box<str>>,
    traceback: Option<Box<str>>,
    spawn_log: Option<Box<str>>,
    error: BoxError,
}

impl IterationError {
    /// The run failed; the flock's configuration says whether there is another one. `kind` says what failed, in a word.
    pub(crate) fn retry(kind: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Failed(Box::new(Failure::new(kind, false, error.into())))
    }

    /// The run failed, and another one would fail likewise.
    pub(crate) fn fatal(kind: &'static str, error: impl Into<BoxError>) -> Self {
        Self::Failed(Box::new(Failure::new(kind, true, error.into())))
    }

    /// Says what the monkey was at, if that is not what it has [entered](crate::monkey::Monkey::enter).
    #[must_use]
    pub(crate) fn during(self, phase: Phase) -> Self {
        self.with(|failure| failure.phase = failure.phase.or(Some(phase)))
    }

    /// Says whom it asked, by a URL that has no secrets any more; an empty one says nothing.
    #[must_use]
    pub(crate) fn at_shown(self, url: &str) -> Self {
        self.with(|failure| set(&mut failure.url, first_bytes(url, URL)))
    }

    /// Says which HTTP status came; `None` says nothing.
    #[must_use]
    pub(crate) fn status(self, status: impl Into<Option<u16>>) -> Self {
        self.with(|failure| failure.status = failure.status.or(status.into()))
    }

    fn with(mut self, change: impl FnOnce(&mut Failure)) -> Self {
        if let Self::Failed(failure) = &mut self {
            change(failure);
        }
        self
    }

    /// Says how the answer, or what a command said, begins. It is cut, escaped and freed of the token.
    #[must_use]
    pub(crate) fn excerpt(self, body: &[u8], token: &SecretString) -> Self {
        self.with(|failure| set(&mut failure.excerpt, &plain(body, token)))
    }

    /// Says in one line why it failed, where the errors begin with something else: what was raised, or what a command said last.
    #[must_use]
    pub(crate) fn because(self, reason: &str) -> Self {
        self.with(|failure| set(&mut failure.reason, first_bytes(reason.trim(), REASON)))
    }

    /// Says which notebook ran: its path in the repository.
    #[must_use]
    pub(crate) fn notebook(self, notebook: &str) -> Self {
        self.with(|failure| set(&mut failure.notebook, first_bytes(notebook, NAME)))
    }

    /// Says which cell ran: its ID.
    #[must_use]
    pub(crate) fn cell(self, cell: &str) -> Self {
        self.with(|failure| set(&mut failure.cell, first_bytes(cell, NAME)))
    }

    /// Says how code that ran elsewhere came to fail; of much its end is kept.
    #[must_use]
    pub(crate) fn traced(self, traceback: &str) -> Self {
        self.with(|failure| set(&mut failure.traceback, last_bytes(traceback, TRACEBACK)))
    }

    /// Says what a spawn told of itself, line by line; of a long one its end is kept.
    #[must_use]
    pub(crate) fn spawn_log(self, log: &str) -> Self {
        self.with(|failure| set(&mut failure.spawn_log, last_bytes(log, SPAWN_LOG)))
    }
}

impl Failure {
    fn new(kind: &'static str, is_fatal: bool, error: BoxError) -> Self {
        Self {
            kind,
            is_fatal,
            phase: None,
            status: None,
            url: None,
            excerpt: None,
            reason: None,
            notebook: None,
            cell: None,
            traceback: None,
            spawn_log: None,
            error,
        }
    }

    /// What failed, in a word.
    pub(crate) const fn kind(&self) -> &'static str {
        self.kind
    }

    /// Whether another run would fail likewise.
    pub(crate) const fn is_fatal(&self) -> bool {
        self.is_fatal
    }

    /// What the monkey was at, if that is known.
    pub(crate) const fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// Says what the monkey was at, unless that is known already.
    pub(crate) fn set_phase(&mut self, phase: Option<Phase>) {
        self.phase = self.phase.or(phase);
    }

    /// Which HTTP status came, if any.
    pub(crate) const fn http_status(&self) -> Option<u16> {
        self.status
    }

    /// Whom it asked.
    pub(crate) fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// Which notebook ran.
    pub(crate) fn notebook(&self) -> Option<&str> {
        self.notebook.as_deref()
    }

    /// Which cell ran.
    pub(crate) fn cell(&self) -> Option<&str> {
        self.cell.as_deref()
    }

    /// Returns the error and its causes, one per line, and after them what else there is to read: what stands for mobu's traceback.
    pub(crate) fn traceback(&self) -> String {
        let mut text = format!("{}: {}", self.kind, self.error);
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            // Some errors say their cause themselves: mobu's texts do.
            if !text.ends_with(&said) {
                write!(text, "\n  caused by: {said}").expect("a String takes everything");
            }
            cause = error.source();
        }
        for (what, said) in [
            ("traceback", &self.traceback),
            ("answer", &self.excerpt),
            ("spawn log", &self.spawn_log),
        ] {
            if let Some(said) = said {
                write!(text, "\n{what}:\n{}", said.trim_end()).expect("a String takes everything");
            }
        }
        text
    }

    /// Returns the error and its causes in one line, which begins with the reason if that is known: of a long line the beginning is what
    /// people get to see.
    pub(crate) fn line(&self) -> String {
        let whole = chain(self);
        let Some(reason) = &self.reason else { return whole };
        let first = whole.lines().next().unwrap_or_default();
        let rest = first.strip_suffix(&**reason).unwrap_or(first);
        match rest.trim_end_matches([' ', ':']) {
            "" => reason.to_string(),
            rest => format!("{reason} ({rest})"),
        }
    }

    /// Makes sure that the monkey's token is nowhere, whatever the business has checked: a service may have sent it back.
    pub(crate) fn clean(&mut self, token: &SecretString) {
        for part in [
            &mut self.url,
            &mut self.excerpt,
            &mut self.reason,
            &mut self.notebook,
            &mut self.cell,
            &mut self.traceback,
            &mut self.spawn_log,
        ] {
            if let Some(text) = part {
                *part = Some(without_token(text, token).into());
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

fn set(part: &mut Option<Box<str>>, text: &str) {
    if part.is_none() && !text.is_empty() {
        *part = Some(text.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(error: IterationError) -> Failure {
        match error {
            IterationError::Failed(failure) => *failure,
            IterationError::Stopped(_) => panic!("it failed"),
        }
    }

    #[test]
    fn the_result_of_an_iteration_is_as_small_as_a_pointer() {
        assert_eq!(size_of::<Result<(), IterationError>>(), 2 * size_of::<usize>());
    }

    #[test]
    fn what_is_known_where_it_failed_is_kept_and_bounded() {
        let token = SecretString::from("gt-key.secret");
        let error = IterationError::retry("status", "it said no")
            .during(Phase::SpawnLab)
            .at_shown("https://x.test/a")
            .status(503)
            .excerpt(b"gt-key.secret \x1b[0m", &token)
            .spawn_log(&format!("begin{}end", "é".repeat(SPAWN_LOG)))
            .notebook(&"n".repeat(1000));
        let error = failure(error.during(Phase::HubLogin).status(500).at_shown("elsewhere"));
        assert_eq!(error.phase(), Some(Phase::SpawnLab));
        assert_eq!(error.http_status(), Some(503));
        assert_eq!(error.url(), Some("https://x.test/a"));
        assert_eq!(error.notebook().map(str::len), Some(NAME));
        let text = error.traceback();
        assert!(
            text.starts_with("status: it said no\nanswer:\ngt-key.*** \\u{1b}[0m\nspawn log:\né"),
            "{text}"
        );
        assert!(text.ends_with("éend") && text.len() < SPAWN_LOG + 200);
    }

    #[derive(Debug, thiserror::Error)]
    #[error("outer: {source}")]
    struct SaysItsCause {
        source: std::num::ParseIntError,
    }

    #[test]
    fn a_cause_that_an_error_says_itself_is_not_said_again() {
        let source = "x".parse::<u8>().unwrap_err();
        let error = failure(IterationError::retry("test", SaysItsCause { source }));
        assert_eq!(error.traceback(), "test: outer: invalid digit found in string");
        assert_eq!(error.line(), "outer: invalid digit found in string");
    }

    #[test]
    fn the_line_of_a_failure_begins_with_its_reason() {
        let line = |error: IterationError| failure(error).line();
        let long = format!("{}: ValueError: no", "a".repeat(300));
        assert_eq!(
            line(IterationError::retry("execute", long).because("ValueError: no")),
            format!("ValueError: no ({})", "a".repeat(300))
        );
        let git = "`git push` failed\nstdout: x\nstderr: y\nfatal: no";
        assert_eq!(
            line(IterationError::retry("git", git).because("fatal: no")),
            "fatal: no (`git push` failed)"
        );
        assert_eq!(line(IterationError::retry("execute", "E: x").because("E: x")), "E: x");
        assert_eq!(line(IterationError::retry("test", "x").because("")), "x");
    }

    #[test]
    fn a_stop_is_no_failure_whatever_is_added() {
        let error = IterationError::from(Stopped).during(Phase::TapQuery).status(500);
        assert!(matches!(error, IterationError::Stopped(Stopped)));
    }

    #[test]
    fn a_token_that_came_back_in_any_part_is_taken_out() {
        let mut error = failure(
            IterationError::retry("test", "x")
                .at_shown("http://x/gt-key.secret")
                .cell("gt-key.secret")
                .spawn_log("gt-key.secret"),
        );
        error.clean(&SecretString::from("gt-key.secret"));
        assert!(!format!("{error:?}").contains("secret\""), "{error:?}");
        assert_eq!(
            (error.url(), error.cell()),
            (Some("http://x/gt-key.***"), Some("gt-key.***"))
        );
    }
}
