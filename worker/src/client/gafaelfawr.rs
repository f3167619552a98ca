//! Gafaelfawr: makes a service token for a user, and says who the user is (`contracts/businesses.md` 2).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mobu_fleet::domain::flock::{Group, User};
use mobu_fleet::domain::ids::MonkeyName;
use mobu_fleet::link::BoxError;
use mobu_fleet::runtime::clock::{self, Instant};
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::http;
use super::repertoire::{DiscoveryError, Locator};
use super::shown::{excerpt, shown_url, without_token};
use crate::monkey::{AuthenticatedUser, UserOrigin};

/// How long a token is good for.
const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// How long a user's data is good for.
const FRESH: Duration = Duration::from_secs(300);
/// Of how many users data is remembered.
const REMEMBERED: usize = 1000;
/// What every such user is called.
const DISPLAY_NAME: &str = "Mobu Test User";

/// A client of Gafaelfawr, with a token that may make others.
#[derive(Debug)]
pub(crate) struct Gafaelfawr {
    client: Client,
    locator: Arc<Locator>,
    token: SecretString,
    timeout: Duration,
    /// Guards what is known of users, oldest first; held for a search or a push, never over an await.
    known: Mutex<VecDeque<Known>>,
}

#[derive(Debug)]
struct Known {
    at: Instant,
    token: SecretString,
    user: AuthenticatedUser,
}

/// Why there is no token for a user. Never says a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    /// It is not known where Gafaelfawr is.
    #[error("could not find Gafaelfawr")]
    Discovery(#[from] DiscoveryError),
    /// It cannot be reached, or broke off.
    #[error("could not {purpose} for user {username}")]
    Unreachable {
        /// What was wanted.
        purpose: &'static str,
        /// For whom.
        username: String,
        /// Where.
        url: String,
        /// What failed.
        source: BoxError,
    },
    /// It answered, and not as it should.
    #[error("could not {purpose} for user {username}: Gafaelfawr's answer cannot be read ({category:?} error)")]
    Answer {
        /// What was wanted.
        purpose: &'static str,
        /// For whom.
        username: String,
        /// Where.
        url: String,
        /// What is wrong with it. Only the kind of the mistake: a parser's message may repeat a part of the token.
        category: serde_json::error::Category,
    },
    /// It refuses.
    #[error("could not {purpose} for user {username}: Gafaelfawr answered {status} with {body}")]
    Status {
        /// What was wanted.
        purpose: &'static str,
        /// For whom.
        username: String,
        /// Where.
        url: String,
        /// Its answer's status.
        status: u16,
        /// Beginning of its answer.
        body: String,
    },
}

const CREATE: &str = "create a token";
const RESOLVE: &str = "get user information";

#[derive(Serialize)]
struct NewToken<'a> {
    username: &'a str,
    token_type: &'static str,
    scopes: &'a [String],
    expires: String,
    name: &'static str,
    email: Option<&'static str>,
    uid: Option<i64>,
    gid: Option<i64>,
    groups: &'a [Group],
}

#[derive(Deserialize)]
struct CreatedToken {
    token: SecretString,
}

#[derive(Deserialize)]
struct UserInfo {
    username: String,
    name: Option<String>,
    uid: Option<i64>,
    gid: Option<i64>,
    #[serde(default)]
    groups: Option<Vec<Group>>,
}

impl Gafaelfawr {
    pub(crate) fn new(locator: Arc<Locator>, token: SecretString, timeout: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: http::for_service()?,
            locator,
            token,
            timeout,
            known: Mutex::default(),
        })
    }

    /// Makes a token for a user and asks who that is.
    pub(crate) async fn authenticate(&self, user: &User, scopes: &[String]) -> Result<AuthenticatedUser, TokenError> {
        let token = self.create(user, scopes).await?;
        self.resolve(token, user.username.as_str()).await
    }

    async fn create(&self, user: &User, scopes: &[String]) -> Result<SecretString, TokenError> {
        let wish = NewToken {
            username: user.username.as_str(),
            token_type: "service",
            scopes,
            expires: expiry(clock::wall()),
            name: DISPLAY_NAME,
            email: None,
            uid: user.uidnumber,
            gid: user.gidnumber.filter(|gid| *gid != 0).or(user.uidnumber),
            groups: &user.groups,
        };
        let body = serde_json::to_vec(&wish).expect("texts and numbers serialize");
        let question = Question {
            purpose: CREATE,
            username: user.username.as_str(),
            token: &self.token,
        };
        let request = self.request(Method::POST, "tokens", &self.token).await?;
        let request = request.header("content-type", "application/json").body(body);
        let created: CreatedToken = question.answer(request).await?;
        Ok(created.token)
    }

    async fn resolve(&self, token: SecretString, username: &str) -> Result<AuthenticatedUser, TokenError> {
        if let Some(known) = self.known(&token) {
            return Ok(known);
        }
        let question = Question {
            purpose: RESOLVE,
            username,
            token: &token,
        };
        let request = self.request(Method::GET, "user-info", &token).await?;
        let info: UserInfo = question.answer(request).await?;
        let user = AuthenticatedUser {
            username: MonkeyName::new(info.username),
            uidnumber: info.uid,
            gidnumber: info.gid,
            groups: info.groups.unwrap_or_default().into(),
            token: token.clone(),
            origin: UserOrigin::Gafaelfawr {
                display_name: info.name.map(String::into_boxed_str),
            },
        };
        let mut known = self.lock();
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back(Known {
            at: clock::now(),
            token,
            user: user.clone(),
        });
        Ok(user)
    }

    async fn request(&self, method: Method, path: &str, token: &SecretString) -> Result<RequestBuilder, TokenError> {
        let base = self
            .locator
            .discover()
            .await?
            .gafaelfawr()
            .map_err(DiscoveryError::NotFound)?;
        let request = self.client.request(method, format!("{base}/{path}"));
        Ok(request.bearer_auth(token.expose_secret()).timeout(self.timeout))
    }

    fn known(&self, token: &SecretString) -> Option<AuthenticatedUser> {
        let known = self.lock();
        let mut fresh = known.iter().rev().take_while(|known| known.at.elapsed() < FRESH);
        let found = fresh.find(|known| known.token.expose_secret() == token.expose_secret());
        found.map(|known| known.user.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Known>> {
        self.known
            .lock()
            .expect("no code panics while it holds the known users")
    }
}

/// A request, and what its errors say.
struct Question<'a> {
    purpose: &'static str,
    username: &'a str,
    token: &'a SecretString,
}

impl Question<'_> {
    async fn answer<T: serde::de::DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, TokenError> {
        let (purpose, username) = (self.purpose, self.username.to_owned());
        let (client, request) = request.build_split();
        let request = request.map_err(|error| self.unreachable(String::new(), error.without_url()))?;
        let url = shown_url(request.url());
        let response = client
            .execute(request)
            .await
            .map_err(|error| self.unreachable(url.clone(), error.without_url()))?;
        let status = response.status();
        let body = response
            .bytes()
            .await
            .map_err(|error| self.unreachable(url.clone(), error.without_url()))?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| TokenError::Answer {
                purpose,
                username,
                url,
                category: error.classify(),
            });
        }
        Err(TokenError::Status {
            purpose,
            username,
            url,
            status: status.as_u16(),
            body: without_token(&excerpt(&body), self.token),
        })
    }

    fn unreachable(&self, url: String, source: reqwest::Error) -> TokenError {
        TokenError::Unreachable {
            purpose: self.purpose,
            username: self.username.to_owned(),
            url,
            source: source.into(),
        }
    }
}

/// Returns when a token made now ends: whole seconds, in UTC.
fn expiry(now: Timestamp) -> String {
    let end = now.saturating_add(LIFETIME).unwrap_or(now);
    end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing {
    //! See [`crate::fuzzing`].

    use super::{CreatedToken, UserInfo};

    pub(crate) fn created(bytes: &[u8]) -> Result<(), String> {
        read::<CreatedToken>(bytes)
    }

    pub(crate) fn user(bytes: &[u8]) -> Result<(), String> {
        read::<UserInfo>(bytes)
    }

    fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(), String> {
        let read = serde_json::from_slice::<T>(bytes);
        read.map(drop).map_err(|error| format!("{:?}", error.classify()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_a_wish_has_its_nulls() {
        let wish = NewToken {
            username: "bot-mobu-n1",
            token_type: "service",
            scopes: &["exec:notebook".to_owned()],
            expires: expiry("2026-11-22T19:35:10.9Z".parse().unwrap()),
            name: DISPLAY_NAME,
            email: None,
            uid: None,
            gid: None,
            groups: &[],
        };
        assert_eq!(
            serde_json::to_string(&wish).unwrap(),
            r#"{"username":"bot-mobu-n1","token_type":"service","scopes":["exec:notebook"],"expires":"2027-11-22T19:35:10Z","name":"Mobu Test User","email":null,"uid":null,"gid":null,"groups":[]}"#
        );
    }
}
