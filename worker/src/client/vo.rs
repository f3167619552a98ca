//! What TAP and SIA have in common: requests with a token that goes nowhere else, and why queries fail.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use ::http::{Method, StatusCode};
use bytes::Bytes;
use futures_lite::{StreamExt, stream};
use mobu_fleet::link::BoxError;
use reqwest::cookie::Jar;
use reqwest::{Client, Response};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::http;
use super::shown::{excerpt, shown_url, without_token};
use super::uws::NotAJob;
use super::vosi::{Capabilities, NotCapabilities};
use super::votable::{self, BadAnswer, Verdict};

/// Most redirects that one request follows.
const MOST_REDIRECTS: usize = 10;
/// Size of the largest description of a job or of capabilities, in bytes.
const DESCRIPTION: usize = 1024 * 1024;
/// How much of an answer is kept for a message, in bytes.
const HEAD: usize = 512;
/// How long a service may take to describe itself.
const CAPABILITIES: Duration = Duration::from_secs(30);

/// Why a query, or the preparation for queries, failed. Never says a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueryError {
    /// The service cannot be reached.
    #[error("could not connect to {url}")]
    Connect {
        /// Where it should be.
        url: String,
        /// What failed.
        source: BoxError,
    },
    /// The connection broke off.
    #[error("the answer of {url} broke off")]
    Transport {
        /// Who was asked.
        url: String,
        /// What failed.
        source: BoxError,
    },
    /// One request took too long.
    #[error("{url}: Read timed out. (read timeout={:?})", limit.as_secs_f64())]
    TimedOut {
        /// Who was asked.
        url: String,
        /// How long it may take.
        limit: Duration,
    },
    /// The whole query took longer than the flock's options allow.
    #[error("the query did not end within its query_timeout of {:?} seconds", .0.as_secs_f64())]
    QueryTimeout(Duration),
    /// A redirect leads nowhere.
    #[error("{url} was redirected in circles, more than ten times, or to no address")]
    Redirect {
        /// Where it began, or ended.
        url: String,
    },
    /// An error status.
    #[error("{status} {class}: {reason} for url: {url}")]
    Status {
        /// The status.
        status: u16,
        /// Whose fault it is.
        class: &'static str,
        /// Its name.
        reason: &'static str,
        /// Who was asked.
        url: String,
        /// Whether it says when to come again.
        is_for_now: bool,
        /// What came with it.
        source: Body,
    },
    /// Too many queries.
    #[error("Rate limit exceeded (HTTP 429) for {url}{wait}")]
    RateLimit {
        /// Who was asked.
        url: String,
        /// When to come again.
        wait: String,
    },
    /// The answer to a query is no VOTable.
    #[error("E19: File does not appear to be a VOTABLE")]
    Format(#[source] Body),
    /// The answer is a VOTable that tells or shows a failure.
    #[error(transparent)]
    Answer(#[from] BadAnswer),
    /// The answer to another request is too long.
    #[error("the answer of {url} is longer than 1 MiB")]
    TooLong {
        /// Who was asked.
        url: String,
    },
    /// The service did not describe its capabilities.
    #[error("{url} did not answer with capabilities")]
    Capabilities {
        /// Who was asked.
        url: String,
        /// Why they are none.
        source: NotCapabilities,
    },
    /// No SIA here.
    #[error("This URL does not seem to correspond to an SIA2 service.")]
    NoSia,
    /// The service did not describe a job.
    #[error("{url} did not answer with the description of a job")]
    NotAJob {
        /// Who was asked.
        url: String,
        /// Why it is none.
        source: NotAJob,
    },
    /// A job left the path.
    #[error("Cannot wait for job completion. Job is not active!")]
    Inactive,
    /// A job failed.
    #[error("Query Error: {0}")]
    Job(String),
    /// A job has nothing to show.
    #[error("the job has no result")]
    NoResult,
}

/// The beginning of an answer that is not what was wanted.
#[derive(Debug, thiserror::Error)]
#[error("the service answered with {0}")]
pub(crate) struct Body(String);

impl QueryError {
    /// Returns what failed, in a word.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Transport { .. } => "transport",
            Self::TimedOut { .. } | Self::QueryTimeout(_) => "timeout",
            Self::Redirect { .. } => "redirect",
            Self::Status { .. } => "status",
            Self::RateLimit { .. } => "rate_limit",
            Self::Format(_) | Self::TooLong { .. } | Self::Answer(BadAnswer::Broken(_)) => "format",
            Self::Answer(_) => "query",
            Self::Capabilities { .. } | Self::NoSia => "capabilities",
            Self::NotAJob { .. } | Self::Inactive | Self::Job(_) | Self::NoResult => "job",
        }
    }
}

impl QueryError {
    /// Returns who was asked, as far as that may be shown.
    pub(crate) fn url(&self) -> Option<&str> {
        match self {
            Self::Connect { url, .. }
            | Self::Transport { url, .. }
            | Self::TimedOut { url, .. }
            | Self::Redirect { url }
            | Self::Status { url, .. }
            | Self::RateLimit { url, .. }
            | Self::TooLong { url }
            | Self::Capabilities { url, .. }
            | Self::NotAJob { url, .. } => Some(url),
            Self::QueryTimeout(_)
            | Self::Format(_)
            | Self::Answer(_)
            | Self::NoSia
            | Self::Inactive
            | Self::Job(_)
            | Self::NoResult => None,
        }
    }

    /// Returns the status that the failure is about.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::RateLimit { .. } => Some(429),
            _ => None,
        }
    }
}

/// The connections of one monkey to one service.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    token: SecretString,
    /// What the token is for.
    trusted: Url,
}

/// One request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: &'a Url,
    /// The fields of a form, encoded.
    pub(super) form: Option<String>,
}

impl<'a> Request<'a> {
    pub(super) const fn get(url: &'a Url) -> Self {
        Self {
            method: Method::GET,
            url,
            form: None,
        }
    }

    pub(super) fn post(url: &'a Url, fields: &[(&str, &str)]) -> Self {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        Self {
            method: Method::POST,
            url,
            form: Some(form.finish()),
        }
    }
}

impl Session {
    /// Makes a session whose token goes to `trusted` and what is below it, and nowhere else.
    pub(super) fn new(trusted: Url, token: SecretString) -> Result<Self, QueryError> {
        let client = http::for_monkey(Arc::new(Jar::default()));
        let client = client.map_err(|error| QueryError::Connect {
            url: shown_url(&trusted),
            source: error.into(),
        })?;
        Ok(Self { client, token, trusted })
    }

    /// Sends a request and takes whatever comes, redirects too.
    pub(super) async fn send_once(&self, request: &Request<'_>) -> Result<Response, QueryError> {
        let mut builder = self.client.request(request.method.clone(), request.url.clone());
        if is_at_or_below(&self.trusted, request.url)
            && let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {}", self.token.expose_secret()))
        {
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        if let Some(form) = &request.form {
            builder = builder
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.clone());
        }
        let url = || self.shown(request.url);
        builder.send().await.map_err(|error| {
            let is_connect = error.is_connect();
            let source = error.without_url().into();
            if is_connect {
                QueryError::Connect { url: url(), source }
            } else {
                QueryError::Transport { url: url(), source }
            }
        })
    }

    /// Sends a request and follows redirects, one by one, since each may leave what the token is for.
    pub(super) async fn send(&self, request: Request<'_>) -> Result<Response, QueryError> {
        let mut response = self.send_once(&request).await?;
        let Request {
            mut method, mut form, ..
        } = request;
        for _ in 0..MOST_REDIRECTS {
            let Some(next) = self.redirect(&response)? else {
                return Ok(response);
            };
            if !matches!(response.status().as_u16(), 307 | 308) && method != Method::HEAD {
                (method, form) = (Method::GET, None);
            }
            let request = Request {
                method: method.clone(),
                url: &next,
                form: form.clone(),
            };
            response = self.send_once(&request).await?;
        }
        match self.redirect(&response)? {
            None => Ok(response),
            Some(_) => Err(QueryError::Redirect {
                url: self.shown(request.url),
            }),
        }
    }

    /// Returns where a response leads to, if it is a redirect.
    pub(super) fn redirect(&self, response: &Response) -> Result<Option<Url>, QueryError> {
        let location = match response.status().as_u16() {
            301 | 302 | 303 | 307 | 308 => response.headers().get(LOCATION),
            _ => None,
        };
        let Some(location) = location else { return Ok(None) };
        let url = std::str::from_utf8(location.as_bytes());
        let url = url.ok().and_then(|location| response.url().join(location).ok());
        match url {
            Some(url) if matches!(url.scheme(), "http" | "https") => Ok(Some(url)),
            _ => Err(QueryError::Redirect {
                url: self.shown(response.url()),
            }),
        }
    }

    /// Sends a request and reads a small answer.
    pub(super) async fn describe(&self, request: Request<'_>) -> Result<(Url, String), QueryError> {
        let mut response = self.send(request).await?;
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(|error| self.broke_off(&response, error))?
        {
            if body.len() + chunk.len() > DESCRIPTION {
                return Err(QueryError::TooLong {
                    url: self.shown(response.url()),
                });
            }
            body.extend_from_slice(&chunk);
        }
        if response.status().is_success() {
            return Ok((response.url().clone(), String::from_utf8_lossy(&body).into_owned()));
        }
        Err(self.status(&response, &body))
    }

    /// Asks a service at `base` what it can do; where it does not know, its neighbour.
    pub(super) async fn capabilities(&self, base: &Url) -> Result<Capabilities, QueryError> {
        let own = match self.capabilities_at(&below(base, "capabilities")).await {
            Err(
                error @ (QueryError::TimedOut { .. }
                | QueryError::Status { status: 404, .. }
                | QueryError::Status {
                    status: 503,
                    is_for_now: true,
                    ..
                }),
            ) => error,
            other => return other,
        };
        match self.capabilities_at(&beside(base, "capabilities")).await {
            // Nobody has configured that place: what went wrong went wrong at the first.
            Err(QueryError::Status { status: 404, .. }) => Err(own),
            other => other,
        }
    }

    async fn capabilities_at(&self, url: &Url) -> Result<Capabilities, QueryError> {
        let (url, text) = self.within(CAPABILITIES, url, self.describe(Request::get(url))).await?;
        Capabilities::parse(&text).map_err(|source| QueryError::Capabilities {
            url: self.shown(&url),
            source,
        })
    }

    /// Reads the answer to a query to its end.
    pub(super) async fn judge(&self, mut response: Response) -> Result<(), QueryError> {
        let status = response.status();
        let mut head = Vec::new();
        let mut first = Vec::new();
        while head.len() < HEAD {
            let chunk = response
                .chunk()
                .await
                .map_err(|error| self.broke_off(&response, error))?;
            let Some(chunk) = chunk else { break };
            head.extend_from_slice(&chunk[..chunk.len().min(HEAD)]);
            first.push(chunk);
        }
        let (url, wait) = (response.url().clone(), retry_after(&response));
        let failed = |body: &[u8]| self.failed(status, &url, wait.as_deref(), body);
        let first = stream::iter(first.into_iter().map(Ok));
        match votable::judge(first.chain(chunks(response))).await {
            Verdict::BrokeOff(error) => Err(QueryError::Transport {
                url: self.shown(&url),
                source: error.into(),
            }),
            // A failure of the server is one, whatever it says besides.
            Verdict::Good if status.is_server_error() => Err(failed(&head)),
            Verdict::Good => Ok(()),
            Verdict::Bad(BadAnswer::Refused(text)) => Err(QueryError::Answer(BadAnswer::Refused(self.clean(&text)))),
            Verdict::NotVoTable if status.is_success() => Err(QueryError::Format(self.body(&head))),
            Verdict::Bad(bad) if status.is_success() => Err(QueryError::Answer(bad)),
            Verdict::NotVoTable | Verdict::Bad(_) => Err(failed(&head)),
        }
    }

    /// Gives up on something after a while.
    pub(super) async fn within<T>(
        &self,
        limit: Duration,
        url: &Url,
        future: impl Future<Output = Result<T, QueryError>>,
    ) -> Result<T, QueryError> {
        let ended = tokio::time::timeout(limit, future).await;
        ended.unwrap_or_else(|_| {
            Err(QueryError::TimedOut {
                url: self.shown(url),
                limit,
            })
        })
    }

    /// Returns a text of the service without the token.
    pub(super) fn clean(&self, text: &str) -> String {
        without_token(text, &self.token)
    }

    /// Returns what may be shown of a URL.
    pub(super) fn shown(&self, url: &Url) -> String {
        without_token(&shown_url(url), &self.token)
    }

    fn body(&self, body: &[u8]) -> Body {
        Body(self.clean(&excerpt(body)))
    }

    fn status(&self, response: &Response, body: &[u8]) -> QueryError {
        self.failed(
            response.status(),
            response.url(),
            retry_after(response).as_deref(),
            body,
        )
    }

    fn failed(&self, status: StatusCode, url: &Url, wait: Option<&str>, body: &[u8]) -> QueryError {
        let url = self.shown(url);
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = wait.map(|wait| format!(". Retry after {wait} seconds"));
            return QueryError::RateLimit {
                url,
                wait: wait.unwrap_or_default(),
            };
        }
        QueryError::Status {
            status: status.as_u16(),
            class: match status.as_u16() {
                400..500 => "Client Error",
                500..600 => "Server Error",
                _ => "Unexpected Status",
            },
            reason: status.canonical_reason().unwrap_or("unknown"),
            url,
            is_for_now: wait.is_some(),
            source: self.body(body),
        }
    }

    fn broke_off(&self, response: &Response, error: reqwest::Error) -> QueryError {
        QueryError::Transport {
            url: self.shown(response.url()),
            source: error.without_url().into(),
        }
    }
}

fn chunks(response: Response) -> impl futures_lite::Stream<Item = io::Result<Bytes>> {
    stream::unfold(response, |mut response| async move {
        let chunk = response.chunk().await.transpose()?;
        Some((chunk.map_err(|error| io::Error::other(error.without_url())), response))
    })
}

/// Returns the seconds after which to come again.
fn retry_after(response: &Response) -> Option<String> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !seconds.is_empty() && seconds.len() < 10 && seconds.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| seconds.to_owned())
}

/// Returns a URL with one more step in its path.
pub(super) fn below(base: &Url, step: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push(step);
    }
    url
}

/// Returns a URL with another last step in its path.
fn beside(base: &Url, step: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().pop().push(step);
    }
    url
}

/// Returns whether a URL is `base`, or a step or more below it.
fn is_at_or_below(base: &Url, url: &Url) -> bool {
    let path = base.path().trim_end_matches('/');
    let rest = url.path().strip_prefix(path);
    base.origin() == url.origin() && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_is_for_the_base_and_below_only() {
        let base = url("https://x.test/api/tap");
        for (at, is_trusted) in [
            ("https://x.test/api/tap", true),
            ("https://x.test/api/tap/", true),
            ("https://x.test:443/api/tap/async/7?WAIT=-1", true),
            ("https://x.test/api/tapas", false),
            ("https://x.test/api/tap/../sia", false),
            ("https://x.test/api/tap/%2e%2e/sia", false),
            ("http://x.test/api/tap/async", false),
            ("https://x.test:8443/api/tap", false),
            ("https://y.test/api/tap", false),
            ("https://x.test/", false),
        ] {
            assert_eq!(is_at_or_below(&base, &url(at)), is_trusted, "{at}");
        }
        assert!(is_at_or_below(&url("https://x.test"), &url("https://x.test/a")));
    }

    #[test]
    fn steps_are_added_and_replaced() {
        for base in ["http://x/api/tap", "http://x/api/tap/"] {
            assert_eq!(below(&url(base), "sync").as_str(), "http://x/api/tap/sync");
            assert_eq!(beside(&url(base), "capabilities").as_str(), "http://x/api/capabilities");
        }
    }
}
