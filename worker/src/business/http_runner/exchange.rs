//! One request and its answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use mobu_fleet::domain::business::{HttpRequest, RequestBody, TemplateValues};
use mobu_fleet::link::BoxError;
use mobu_fleet::runtime::clock;
use reqwest::{Client, Method, Request, Response};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::check::{Answered, Mismatch, check};
use crate::client::shown::{shown_url, without_token};

/// How many bytes of an answer's body are kept; the rest is read and counted.
const BODY_KEPT: usize = 64 * 1024;

/// A request about to be sent.
pub(super) struct Exchange<'a> {
    /// Position among the flock's requests, from 1.
    pub(super) number: usize,
    pub(super) request: &'a HttpRequest,
    pub(super) client: &'a Client,
    pub(super) is_bearer: bool,
    pub(super) token: &'a SecretString,
    pub(super) values: TemplateValues<'a>,
}

/// A request with everything filled in.
pub(super) struct Prepared {
    request: Request,
    /// Where it is sent, as far as that may be shown.
    shown: Arc<str>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the request, which carries the token.
        f.debug_struct("Prepared")
            .field("shown", &self.shown)
            .finish_non_exhaustive()
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// Where it was sent, as far as that may be shown.
    pub(super) url: Arc<str>,
    pub(super) status: u16,
    /// Size of the whole body in bytes.
    pub(super) size: u64,
    /// From sending to the body's last byte.
    pub(super) duration: Duration,
    /// Whether it is what was expected.
    pub(super) verdict: Result<(), RequestError>,
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[error("request {number} ({method} {url}) {failure}")]
pub(super) struct RequestError {
    number: usize,
    method: String,
    url: String,
    failure: Box<Failure>,
    source: Option<BoxError>,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot be sent: {0}")]
    Unsendable(&'static str),
    #[error("had no complete answer within {0:?}")]
    TimedOut(Duration),
    #[error("could not connect")]
    Connect,
    #[error("was redirected in circles, or more than ten times")]
    Redirect,
    #[error("broke off")]
    Transport,
    #[error("{0}")]
    Unexpected(Mismatch),
}

impl RequestError {
    /// Returns where it was sent, as far as that may be shown.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Returns what failed, in a word.
    pub(super) const fn kind(&self) -> &'static str {
        match &*self.failure {
            Failure::Unsendable(_) => "request",
            Failure::TimedOut(_) => "timeout",
            Failure::Connect => "connect",
            Failure::Redirect => "redirect",
            Failure::Transport => "transport",
            Failure::Unexpected(mismatch) => mismatch.kind(),
        }
    }
}

impl Exchange<'_> {
    /// Fills in everything.
    pub(super) fn prepare(&self) -> Result<Prepared, RequestError> {
        let url = self.url()?;
        let shown = without_token(&shown_url(&url), self.token);
        let error = |failure, source| self.error(&shown, failure, source);
        let headers = self.headers().map_err(|(failure, source)| error(failure, source))?;
        let method = Method::from_bytes(self.request.method.as_str().as_bytes())
            .map_err(|source| error(Failure::Unsendable("its method is none"), Some(source.into())))?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = headers;
        *request.body_mut() = match &self.request.body {
            None => None,
            Some(RequestBody::Text(text)) => Some(text.render(&self.values).into_owned().into()),
            Some(RequestBody::Json(json)) => Some(json.render(&self.values).to_string().into()),
        };
        Ok(Prepared {
            request,
            shown: shown.into(),
        })
    }

    /// Sends the request and reads the answer, within the request's time-out.
    pub(super) async fn run(&self, prepared: &Prepared) -> Result<Answer, RequestError> {
        let shown = &prepared.shown;
        let error = |failure, source| self.error(shown, failure, source);
        let request = prepared.request.try_clone().expect("its body is no stream");
        let begun = clock::now();
        let limit = self.request.timeout.to_std();
        let answered = tokio::time::timeout(limit, async { read(self.client.execute(request).await?).await }).await;
        let answered = answered
            .map_err(|_| error(Failure::TimedOut(limit), None))?
            .map_err(|source| error(failure_of(&source), Some(source.without_url().into())))?;
        let verdict = check(&self.request.expect, &answered);
        Ok(Answer {
            verdict: verdict.map_err(|mismatch| error(Failure::Unexpected(mismatch.without_token(self.token)), None)),
            status: answered.status,
            size: answered.size,
            duration: begun.elapsed(),
            url: shown.clone(),
        })
    }

    fn url(&self) -> Result<Url, RequestError> {
        let text = self.request.url.render(&self.values);
        let mut url = Url::parse(&text).map_err(|source| {
            // What does not parse cannot be cleaned either.
            self.error("***", Failure::Unsendable("its URL is none"), Some(source.into()))
        })?;
        if !self.request.query.is_empty() {
            let mut pairs = url.query_pairs_mut();
            for (key, value) in &self.request.query {
                pairs.append_pair(key, &value.render(&self.values));
            }
        }
        Ok(url)
    }

    fn headers(&self) -> Result<HeaderMap, (Failure, Option<BoxError>)> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.request.headers {
            let wrong = |source: BoxError| (Failure::Unsendable("one of its headers is none"), Some(source));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|source| wrong(source.into()))?;
            let value = HeaderValue::from_str(&value.render(&self.values)).map_err(|source| wrong(source.into()))?;
            headers.append(name, value);
        }
        if matches!(self.request.body, Some(RequestBody::Json(_))) && !headers.contains_key(CONTENT_TYPE) {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if self.is_bearer && !headers.contains_key(AUTHORIZATION) {
            let text = format!("Bearer {}", self.token.expose_secret());
            let mut value = HeaderValue::from_str(&text)
                .map_err(|source| (Failure::Unsendable("the user's token is none"), Some(source.into())))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    fn error(&self, url: &str, failure: Failure, source: Option<BoxError>) -> RequestError {
        RequestError {
            number: self.number,
            method: self.request.method.as_str().to_owned(),
            url: url.to_owned(),
            failure: Box::new(failure),
            source,
        }
    }
}

fn failure_of(error: &reqwest::Error) -> Failure {
    if error.is_connect() {
        Failure::Connect
    } else if error.is_redirect() {
        Failure::Redirect
    } else {
        Failure::Transport
    }
}

async fn read(mut response: Response) -> Result<Answered, reqwest::Error> {
    let mut answered = Answered {
        status: response.status().as_u16(),
        headers: std::mem::take(response.headers_mut()),
        body: Vec::new(),
        size: 0,
    };
    while let Some(chunk) = response.chunk().await? {
        let room = BODY_KEPT - answered.body.len();
        answered.body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        answered.size += chunk.len() as u64;
    }
    Ok(answered)
}
