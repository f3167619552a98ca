//! The ten requests of one iteration, and what each must be answered (`contracts/businesses.md` 9).

use std::collections::{BTreeMap, BTreeSet};

use http::header::WWW_AUTHENTICATE;
use serde_json::{Value, json};
use url::Url;

use crate::client::muster::{Credentials, Muster, MusterAnswer, MusterError};
use crate::client::shown::{plain, without_token};
use crate::monkey::Monkey;

/// How the challenge of an ingress must begin.
const CHALLENGE: &str = "Bearer realm=\"";
/// Of which the quota's headers begin, and which one comes with a refusal alone.
const RATE_LIMIT: &str = "x-ratelimit";
const RETRY_AFTER: &str = "retry-after";
/// What the quota's headers must say after the one request that it allows. When the minute ends is anybody's guess.
const QUOTA: [(&str, Option<&str>); 5] = [
    ("x-ratelimit-limit", Some("1")),
    ("x-ratelimit-remaining", Some("0")),
    ("x-ratelimit-reset", None),
    ("x-ratelimit-resource", Some("muster-quota")),
    ("x-ratelimit-used", Some("1")),
];

/// One iteration.
pub(super) struct Check<'a> {
    pub(super) monkey: &'a Monkey,
    pub(super) client: &'a Muster,
    pub(super) base: &'a Url,
    /// What the service must be told about the user.
    pub(super) expected: &'a Value,
}

/// What is not as it should be. The texts are mobu's; none holds the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum Deviation {
    #[error(transparent)]
    Unanswered(#[from] MusterError),
    #[error("Status {status} from GET {url}\nBody:\n{body}")]
    Status { status: u16, url: String, body: String },
    #[error("Anonymous ingress returned failure: {0}")]
    Anonymous(String),
    #[error("Auth redirect returned wrong status: {0}")]
    Redirect(u16),
    #[error("Auth failure returned wrong status: {0}")]
    Refusal(u16),
    #[error("Auth failure has no WWW-Authenticate header")]
    NoChallenge,
    #[error("Auth failure has bad WWW-Authenticate header: {0}")]
    Challenge(String),
    #[error("Malformed auth returned wrong status: {0}")]
    Malformed(u16),
    #[error("Bad response from authenticated request: {0}")]
    Authenticated(String),
    #[error("Bad headers from quota request: {0}")]
    QuotaHeaders(String),
    #[error("Bad response from quota rejection: {0}")]
    Rejection(u16),
    #[error("Bad headers from quota rejection: {0}")]
    RejectionHeaders(String),
    #[error("Bad response from delegation{how}: {got} != {expected}")]
    Delegation {
        how: &'static str,
        got: String,
        expected: String,
    },
}

impl Deviation {
    /// Returns which URL it is about, if that is known.
    pub(super) fn url(&self) -> Option<&str> {
        match self {
            Self::Unanswered(MusterError::TimedOut { url, .. } | MusterError::Transport { url, .. })
            | Self::Status { url, .. } => Some(url),
            _ => None,
        }
    }

    /// Returns the status that came instead of the right one.
    pub(super) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. }
            | Self::Redirect(status)
            | Self::Refusal(status)
            | Self::Malformed(status)
            | Self::Rejection(status) => Some(*status),
            _ => None,
        }
    }
}

impl Check<'_> {
    /// Sends the requests in order, until an answer is not as it should be.
    pub(super) async fn run(&self) -> Result<(), Deviation> {
        self.monkey.info("Checking anonymous access");
        self.anonymous().await?;
        self.monkey.info("Checking redirect for authentication");
        self.redirect().await?;
        self.monkey.info("Checking 401 challenge");
        self.challenge().await?;
        self.monkey.info("Checking 400 challenge");
        self.malformed().await?;
        self.monkey.info("Checking successful authentication");
        self.authenticated("auth/redirect").await?;
        self.authenticated("auth/fail").await?;
        self.monkey.info("Checking quota handling");
        self.quota().await?;
        self.monkey.info("Checking token delegation");
        self.delegated("delegated/header", "").await?;
        self.delegated("delegated/authorization", " (Authorization)").await
    }

    async fn anonymous(&self) -> Result<(), Deviation> {
        let answer = self.fetch("anonymous").await?;
        if json_of(&answer) == Some(json!({"ok": true})) {
            return Ok(());
        }
        Err(Deviation::Anonymous(self.body(&answer)))
    }

    async fn redirect(&self) -> Result<(), Deviation> {
        let answer = self.client.get(self.base, "auth/redirect", Credentials::None).await?;
        match answer.status {
            302 => Ok(()),
            other => Err(Deviation::Redirect(other)),
        }
    }

    async fn challenge(&self) -> Result<(), Deviation> {
        let answer = self.client.get(self.base, "auth/fail", Credentials::None).await?;
        if answer.status != 401 {
            return Err(Deviation::Refusal(answer.status));
        }
        let challenge = answer.headers.get(WWW_AUTHENTICATE).ok_or(Deviation::NoChallenge)?;
        if challenge.as_bytes().starts_with(CHALLENGE.as_bytes()) {
            return Ok(());
        }
        Err(Deviation::Challenge(plain(challenge.as_bytes(), self.token())))
    }

    async fn malformed(&self) -> Result<(), Deviation> {
        let answer = self.client.get(self.base, "auth/fail", Credentials::Malformed).await?;
        match answer.status {
            400 => Ok(()),
            other => Err(Deviation::Malformed(other)),
        }
    }

    async fn authenticated(&self, path: &str) -> Result<(), Deviation> {
        let answer = self.fetch(path).await?;
        if json_of(&answer) == Some(json!({"username": self.monkey.user().username.as_str()})) {
            return Ok(());
        }
        Err(Deviation::Authenticated(self.body(&answer)))
    }

    async fn quota(&self) -> Result<(), Deviation> {
        let headers = quota_headers(&self.fetch("auth/quota").await?);
        if !are_of_quota(&headers, false) {
            return Err(Deviation::QuotaHeaders(self.headers(&headers)));
        }
        let answer = self.client.get(self.base, "auth/quota", Credentials::Token).await?;
        if answer.status != 429 {
            return Err(Deviation::Rejection(answer.status));
        }
        let headers = quota_headers(&answer);
        if !are_of_quota(&headers, true) {
            return Err(Deviation::RejectionHeaders(self.headers(&headers)));
        }
        Ok(())
    }

    async fn delegated(&self, path: &str, how: &'static str) -> Result<(), Deviation> {
        let answer = self.fetch(path).await?;
        let got = json_of(&answer);
        if got.as_ref() == Some(self.expected) {
            return Ok(());
        }
        Err(Deviation::Delegation {
            how,
            got: self.body(&answer),
            expected: self.expected.to_string(),
        })
    }

    /// Asks with the token; every status but a success is an error.
    async fn fetch(&self, path: &str) -> Result<MusterAnswer, Deviation> {
        let answer = self.client.get(self.base, path, Credentials::Token).await?;
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(Deviation::Status {
            status: answer.status,
            body: self.body(&answer),
            url: answer.url,
        })
    }

    fn body(&self, answer: &MusterAnswer) -> String {
        plain(&answer.body, self.token())
    }

    fn headers(&self, headers: &BTreeMap<String, String>) -> String {
        without_token(&format!("{headers:?}"), self.token())
    }

    fn token(&self) -> &secrecy::SecretString {
        &self.monkey.user().token
    }
}

fn json_of(answer: &MusterAnswer) -> Option<Value> {
    serde_json::from_slice(&answer.body).ok()
}

/// Returns the headers that say something about a quota; the values of one that came several times are joined.
fn quota_headers(answer: &MusterAnswer) -> BTreeMap<String, String> {
    let names = answer.headers.keys().map(http::HeaderName::as_str);
    let names: BTreeSet<_> = names
        .filter(|name| name.starts_with(RATE_LIMIT) || *name == RETRY_AFTER)
        .collect();
    let value = |name: &str| {
        let values = answer.headers.get_all(name).iter();
        let values: Vec<_> = values.map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        values.join(", ")
    };
    names.into_iter().map(|name| (name.to_owned(), value(name))).collect()
}

fn are_of_quota(headers: &BTreeMap<String, String>, is_refused: bool) -> bool {
    let mut left = headers.clone();
    let said = QUOTA.iter().all(|(name, wanted)| {
        let value = left.remove(*name);
        value.is_some_and(|value| wanted.is_none_or(|wanted| value == wanted))
    });
    said && left.remove(RETRY_AFTER).is_some() == is_refused && left.is_empty()
}
