//! The fleet's HTTP API as the commands need it: the only place that sends HTTP requests.

use std::fmt;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode, redirect};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

use crate::args::Connection;
use crate::failure::{Failure, problems};

const REVISION: &str = "x-fleet-revision";
const MISSING: &str = "x-fleet-missing";
const LOG_END: &str = "x-log-end";
const AUTH_USER: HeaderName = HeaderName::from_static("x-auth-request-user");

/// Connecting takes no longer than this, whatever the timeout: a host that is not there should be said soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A coordinator, or a mobu.
#[derive(Debug)]
pub(crate) struct Server {
    client: Client,
    base: Url,
    prefix: String,
    timeout: Duration,
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Reply {
    /// 2xx.
    pub status: StatusCode,
    /// Revision that a change made, if the server says.
    pub revision: Option<u64>,
    /// Replicas that have not applied it, or not answered.
    pub missing: Vec<String>,
    body: Vec<u8>,
    origin: String,
}

/// An answer whose body is read bit by bit.
pub(crate) struct Stream<'a> {
    /// Position after the last byte of the log, if the server says.
    pub log_end: Option<u64>,
    response: Response,
    server: &'a Server,
}

impl fmt::Debug for Stream<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("log_end", &self.log_end)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Prepares to talk to a server; nothing is sent yet.
    pub(crate) fn new(connection: &Connection) -> Result<Self, Failure> {
        Self::build(connection, Client::builder())
    }

    /// As [`Self::new`], but never through a proxy: for asking the process next door.
    pub(crate) fn direct(connection: &Connection) -> Result<Self, Failure> {
        Self::build(connection, Client::builder().no_proxy())
    }

    fn build(connection: &Connection, builder: reqwest::ClientBuilder) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        let user = HeaderValue::from_str(&connection.user).map_err(|_| {
            Failure::Usage("--user cannot be sent: it has characters that no header may have".to_owned())
        })?;
        headers.insert(AUTH_USER, user);
        if let Some(token) = connection.token() {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
                Failure::Usage("--token cannot be sent: it has characters that no header may have".to_owned())
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let client = builder
            .default_headers(headers)
            .user_agent(concat!("mobu/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(connection.timeout.min(CONNECT_TIMEOUT))
            .read_timeout(connection.timeout)
            // A redirection is a sign-in page or a wrong address; followed, it would look like a success.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| Failure::Usage(format!("cannot make an HTTP client: {error}")))?;
        Ok(Self {
            client,
            base: connection.base_url.clone(),
            prefix: connection.path_prefix.clone(),
            timeout: connection.timeout,
        })
    }

    /// Asks for something below the prefix; `path` is given by its unescaped parts.
    pub(crate) async fn get(&self, path: &[&str]) -> Result<Reply, Failure> {
        self.call(self.client.get(self.url(path))).await
    }

    /// Asks for something outside the prefix.
    pub(crate) async fn get_outside(&self, path: &str) -> Result<Reply, Failure> {
        let mut url = self.base.clone();
        url.set_path(path);
        url.set_query(None);
        self.call(self.client.get(url)).await
    }

    /// Sends a change, with a JSON body if there is one, and waits until it is applied or the server gives up waiting.
    pub(crate) async fn change(&self, method: Method, path: &[&str], body: Option<&Value>) -> Result<Reply, Failure> {
        let mut request = self.client.request(method, self.url(path));
        if let Some(body) = body {
            request = request.json(body);
        }
        self.call(request).await
    }

    /// Begins to read a monkey's log from a position; only silence, not length, makes it time out.
    pub(crate) async fn log(&self, flock: &str, monkey: &str, offset: u64) -> Result<Stream<'_>, Failure> {
        let mut url = self.url(&["flocks", flock, "monkeys", monkey, "log"]);
        if offset > 0 {
            url.query_pairs_mut().append_pair("offset", &offset.to_string());
        }
        let response = self
            .client
            .get(url)
            .send()
            .await
            .map_err(|error| self.transport(error))?;
        let response = self.accepted(response).await?;
        let log_end = header(&response, LOG_END).and_then(|text| text.parse().ok());
        Ok(Stream {
            log_end,
            response,
            server: self,
        })
    }

    async fn call(&self, request: RequestBuilder) -> Result<Reply, Failure> {
        let response = request
            .timeout(self.timeout)
            .send()
            .await
            .map_err(|error| self.transport(error))?;
        let response = self.accepted(response).await?;
        let status = response.status();
        let revision = header(&response, REVISION).and_then(|text| text.parse().ok());
        let missing = header(&response, MISSING).map(list).unwrap_or_default();
        let body = response.bytes().await.map_err(|error| self.transport(error))?.to_vec();
        Ok(Reply {
            status,
            revision,
            missing,
            body,
            origin: self.origin(),
        })
    }

    /// Lets 2xx pass and makes a failure of everything else.
    async fn accepted(&self, response: Response) -> Result<Response, Failure> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        if status.is_redirection() {
            let to = header(&response, LOCATION.as_str()).unwrap_or("nowhere");
            return Err(self.foreign(format!(
                "{status}, sending us to {to}; are --base-url, --path-prefix and --token right?"
            )));
        }
        let body = response.bytes().await.map_err(|error| self.transport(error))?;
        Err(Failure::Refused {
            status,
            problems: problems(&body),
        })
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.set_path("");
        url.path_segments_mut()
            .expect("an http address has a path")
            .pop_if_empty()
            .extend(self.prefix.split('/').filter(|part| !part.is_empty()))
            .extend(path);
        url
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn transport(&self, error: reqwest::Error) -> Failure {
        let origin = self.origin();
        if error.is_timeout() && !error.is_connect() {
            return Failure::TimedOut {
                origin,
                seconds: self.timeout.as_secs_f64(),
            };
        }
        Failure::Unreachable {
            origin,
            source: error.without_url().into(),
        }
    }

    fn foreign(&self, reason: String) -> Failure {
        Failure::Foreign {
            origin: self.origin(),
            reason,
        }
    }
}

impl Reply {
    /// Reads the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| Failure::Foreign {
            origin: self.origin.clone(),
            reason: error.to_string(),
        })
    }

    /// Reads the body as any JSON; `Null` if there is none.
    pub(crate) fn json(&self) -> Result<Value, Failure> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        self.read()
    }
}

impl Stream<'_> {
    /// Waits for the next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let piece = self
            .response
            .chunk()
            .await
            .map_err(|error| self.server.transport(error))?;
        Ok(piece.map(|bytes| bytes.to_vec()))
    }
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|id| !id.is_empty())
        .map(ToOwned::to_owned)
        .collect()
}
