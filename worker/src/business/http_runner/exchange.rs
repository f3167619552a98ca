//! One request and its answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use mobu_fleet::domain::business::{HttpRequest, RequestBody, TemplateValues};
use mobu_fleet::link::BoxError;
use mobu_fleet::runtime::clock;
use reqwest::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::check::{Mismatch, check};
use super::veil::Veil;
use super::ways::Ways;
use crate::client::direct::Direct;
use crate::client::shown::{shown_url, without_token};

/// A request about to be sent.
pub(super) struct Exchange<'a> {
    /// Position among the flock's requests, from 1.
    pub(super) number: usize,
    pub(super) request: &'a HttpRequest,
    /// Whether redirects are followed.
    pub(super) follows: bool,
    pub(super) is_bearer: bool,
    pub(super) token: &'a SecretString,
    pub(super) values: TemplateValues<'a>,
}

/// A request with everything filled in.
pub(super) struct Prepared {
    request: Request,
    /// The same for the direct way, if it can go that way.
    direct: Option<Direct>,
    /// Where it is sent, as far as that may be shown.
    shown: Arc<str>,
    /// Whether it was redirected: then it goes by a client that follows, over one connection.
    is_redirected: AtomicBool,
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
pub(super) enum Failure {
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
            direct: Direct::of(&request),
            request,
            shown: shown.into(),
            is_redirected: AtomicBool::new(false),
        })
    }

    /// Sends the request and reads the answer, within the request's time-out.
    pub(super) async fn run(&self, prepared: &Prepared, ways: &mut Ways) -> Result<Answer, RequestError> {
        let shown = &prepared.shown;
        let error = |failure, source| self.error(shown, failure, source);
        let was_redirected = prepared.is_redirected.load(Ordering::Relaxed);
        let direct = prepared.direct.as_ref().filter(|_| !was_redirected);
        let begun = clock::now();
        let limit = self.request.timeout.to_std();
        let answered = tokio::time::timeout(limit, ways.ask(&prepared.request, direct, self.follows)).await;
        let (answered, is_redirected) = answered
            .map_err(|_| error(Failure::TimedOut(limit), None))?
            .map_err(|(failure, source)| error(failure, Some(source)))?;
        if is_redirected {
            prepared.is_redirected.store(true, Ordering::Relaxed);
        }
        let veil = Veil {
            request: self.request,
            url: prepared.request.url(),
            token: self.token,
        };
        let verdict = check(&self.request.expect, &answered, veil);
        Ok(Answer {
            verdict: verdict.map_err(|mismatch| error(Failure::Unexpected(mismatch), None)),
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
