//! Muster: a small service behind several ingresses of Gafaelfawr (`contracts/businesses.md` 9).

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, InvalidHeaderValue};
use mobu_fleet::link::BoxError;
use reqwest::cookie::Jar;
use reqwest::{Client, Response};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::http;

/// How long Muster may take for a whole answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How many bytes of an answer's body are kept; its answers have a few hundred.
const BODY_KEPT: usize = 64 * 1024;

/// A client of Muster: the connections and cookies of one run, which follow no redirect.
#[derive(Debug)]
pub(crate) struct Muster {
    client: Client,
    bearer: HeaderValue,
}

/// What a request says about its sender.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credentials {
    /// The user's token.
    Token,
    /// Something that is no authentication at all.
    Malformed,
    /// Nothing.
    None,
}

/// An answer of Muster, or of what stands before it.
#[derive(Debug)]
pub(crate) struct MusterAnswer {
    /// Where it was asked.
    pub(crate) url: String,
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MusterError {
    /// It took too long.
    #[error("GET {url} had no complete answer within {limit:?}")]
    TimedOut {
        /// Where it was asked.
        url: String,
        /// How long it may take.
        limit: Duration,
    },
    /// It cannot be reached, or broke off.
    #[error("GET {url} failed")]
    Transport {
        /// Where it was asked.
        url: String,
        /// What failed.
        source: BoxError,
    },
}

impl Muster {
    pub(crate) fn connect(token: &SecretString) -> Result<Self, BoxError> {
        let text = format!("Bearer {}", token.expose_secret());
        let mut bearer = HeaderValue::from_str(&text).map_err(|error: InvalidHeaderValue| BoxError::from(error))?;
        bearer.set_sensitive(true);
        let client = http::for_monkey(Arc::new(Jar::default()))?;
        Ok(Self { client, bearer })
    }

    /// Asks for a path below the service's base.
    pub(crate) async fn get(
        &self,
        base: &Url,
        path: &str,
        credentials: Credentials,
    ) -> Result<MusterAnswer, MusterError> {
        let url = format!("{}/{path}", base.as_str().trim_end_matches('/'));
        let request = self.client.get(&url);
        let request = match credentials {
            Credentials::Token => request.header(AUTHORIZATION, self.bearer.clone()),
            Credentials::Malformed => request.header(AUTHORIZATION, "Token bogus"),
            Credentials::None => request,
        };
        let answered = tokio::time::timeout(TIMEOUT, async { read(request.send().await?).await }).await;
        let (status, headers, body) = match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                let source = error.without_url().into();
                return Err(MusterError::Transport { url, source });
            }
            Err(_) => return Err(MusterError::TimedOut { url, limit: TIMEOUT }),
        };
        Ok(MusterAnswer {
            url,
            status,
            headers,
            body,
        })
    }
}

async fn read(mut response: Response) -> Result<(u16, HeaderMap, Vec<u8>), reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = BODY_KEPT - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
    }
    Ok((status, headers, body))
}
