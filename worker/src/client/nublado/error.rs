//! Why hub or lab did not do what they were asked for.

use std::fmt;
use std::time::Duration;

use mobu_fleet::link::BoxError;
use url::Url;

use super::browser::MOST_REDIRECTS;
use crate::client::shown::shown_url;

/// A request, as far as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    method: &'static str,
    url: String,
}

impl Request {
    pub(super) fn new(method: &'static str, url: &Url) -> Self {
        let url = shown_url(url);
        Self { method, url }
    }

    /// Whom it went to, without the values of the query.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.url)
    }
}

/// Why hub or lab did not do what they were asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NubladoError {
    /// Nothing came for too long.
    #[error("{request} had no complete answer, with nothing heard for {limit:?}")]
    TimedOut {
        /// What was asked.
        request: Request,
        /// How long the other side may be silent.
        limit: Duration,
    },
    /// It came drop by drop.
    #[error("{request} had no complete answer within {limit:?}")]
    TooSlow {
        /// What was asked.
        request: Request,
        /// How long an answer may take from its beginning to its end.
        limit: Duration,
    },
    /// It cannot be reached.
    #[error("{request} could not connect")]
    Connect {
        /// What was asked.
        request: Request,
        /// What failed.
        source: BoxError,
    },
    /// The connection broke.
    #[error("{request} broke off")]
    Transport {
        /// What was asked.
        request: Request,
        /// What failed.
        source: BoxError,
    },
    /// It refused, or failed.
    #[error("{request} was answered with status {status}")]
    Status {
        /// What was asked; after redirects, what the last of them led to.
        request: Request,
        /// Which status.
        status: u16,
        /// How the answer begins.
        body: Vec<u8>,
    },
    /// A redirect leads away from hub and lab.
    #[error("Unexpected redirect: {target} (from {request})")]
    UnexpectedRedirect {
        /// What was asked.
        request: Request,
        /// Where it leads.
        target: String,
    },
    /// Redirects lead to the same place for the third time.
    #[error("Redirect loop: {target} (from {request})")]
    RedirectLoop {
        /// What was asked.
        request: Request,
        /// Where it leads.
        target: String,
    },
    /// Redirects lead on and on, each time to another place.
    #[error("more than {MOST_REDIRECTS} redirects, the next one to {target} (from {request})")]
    TooManyRedirects {
        /// What was asked.
        request: Request,
        /// Where it leads.
        target: String,
    },
    /// The answer is not what such a request is answered with.
    #[error("{request} was answered with something else: {what}")]
    Answer {
        /// What was asked.
        request: Request,
        /// What is wrong.
        what: String,
        /// Which status it came with.
        status: u16,
        /// How the answer begins.
        body: Vec<u8>,
    },
}

impl NubladoError {
    /// What went wrong, in a word: for counting.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::TimedOut { .. } | Self::TooSlow { .. } => "timeout",
            Self::Connect { .. } => "connect",
            Self::Transport { .. } => "transport",
            Self::Status { .. } => "status",
            Self::UnexpectedRedirect { .. } | Self::RedirectLoop { .. } | Self::TooManyRedirects { .. } => "redirect",
            Self::Answer { .. } => "answer",
        }
    }

    /// Whether the other side may be doing what it was asked for all the same.
    pub(crate) const fn may_be_done(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::TooSlow { .. } | Self::Transport { .. } => true,
            Self::Status { status, .. } => *status >= 500,
            Self::Connect { .. }
            | Self::UnexpectedRedirect { .. }
            | Self::RedirectLoop { .. }
            | Self::TooManyRedirects { .. }
            | Self::Answer { .. } => false,
        }
    }

    /// What was asked.
    pub(crate) const fn request(&self) -> &Request {
        match self {
            Self::TimedOut { request, .. }
            | Self::TooSlow { request, .. }
            | Self::Connect { request, .. }
            | Self::Transport { request, .. }
            | Self::Status { request, .. }
            | Self::UnexpectedRedirect { request, .. }
            | Self::RedirectLoop { request, .. }
            | Self::TooManyRedirects { request, .. }
            | Self::Answer { request, .. } => request,
        }
    }

    /// Status and beginning of the answer, if there was one.
    pub(crate) fn answer(&self) -> Option<(u16, &[u8])> {
        match self {
            Self::Status { status, body, .. } | Self::Answer { status, body, .. } => Some((*status, body)),
            _ => None,
        }
    }

    pub(super) fn of(request: Request, limit: Duration, error: reqwest::Error) -> Self {
        if error.is_timeout() {
            return Self::TimedOut { request, limit };
        }
        let is_connect = error.is_connect();
        // Without the URL, which may have secrets, and which the request shows without them.
        let source = error.without_url().into();
        if is_connect {
            Self::Connect { request, source }
        } else {
            Self::Transport { request, source }
        }
    }
}
