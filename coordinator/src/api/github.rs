//! The webhook of the GitHub refresh app (`contracts/integrations.md` 1): a push refreshes the flocks that run notebooks of
//! that repository and branch.
//!
//! Mended against mobu: a bad signature is 401 and a payload that cannot be read 400, not 500; the second that GitHub
//! needs to become consistent passes after the answer; branches with slashes count.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use mobu_fleet::domain::desired::Command;
use mobu_fleet::domain::ids::RequestId;
use mobu_fleet::domain::messages::Source;
use mobu_fleet::runtime::tasks::TaskKind;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha1::Sha1;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::error::ApiError;
use super::flocks::null;
use super::{Api, GithubRefresh, snapshot};
use crate::fleet::change::{ChangeError, Wish};
use crate::fleet::handle::Fleet;

/// How long GitHub is given to show the pushed commit everywhere.
const CONSISTENCY: Duration = Duration::from_secs(1);

/// How often a refresh is tried that GitHub was told is on its way.
const TRIES: u32 = 10;

/// How many deliveries may be on their way at once; further ones are refused, and GitHub shows that.
const DELIVERIES: usize = 256;

/// Longest delivery ID: it becomes part of the state log.
const ID_LENGTH: usize = 128;

/// Room for deliveries that are on their way.
#[derive(Debug, Clone)]
pub(super) struct Deliveries(Arc<Semaphore>);

impl Default for Deliveries {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DELIVERIES)))
    }
}

/// Takes a delivery of the GitHub refresh app.
#[utoipa::path(post, path = "/github/refresh/webhook", tag = "mobu",
    params(
        ("X-Hub-Signature-256" = Option<String>, Header, description = "`sha256=` and the HMAC of the body"),
        ("X-GitHub-Event" = Option<String>, Header), ("X-GitHub-Delivery" = Option<String>, Header),
    ),
    request_body(content = serde_json::Value, content_type = "application/json"), responses(
    (status = 202, description = "Accepted, or nothing to do", body = serde_json::Value, content_type = "application/json"),
    (status = 400, description = "Not a delivery", body = ref("#/components/schemas/Error"), content_type = "application/json"),
    (status = 401, description = "Not signed by GitHub", body = ref("#/components/schemas/Error"), content_type = "application/json"),
    (status = 403, description = "Of another organization", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn webhook(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let Some(app) = &api.config.github_refresh else {
        return Err(ApiError::NoRoute);
    };
    let payload = api.bodies.read(&parts.headers, body, api.config.webhook_limit).await?;
    if let Some((wish, delivery)) = wish(app, &parts.headers, &payload.bytes)? {
        accept(&api, wish, delivery).await?;
    }
    Ok(null(StatusCode::ACCEPTED))
}

/// Returns what a delivery asks for, and its ID; `None` if that is nothing of ours.
fn wish<'a>(app: &GithubRefresh, headers: &'a HeaderMap, body: &[u8]) -> Result<Option<(Wish, &'a str)>, ApiError> {
    check_signature(headers, body, &app.webhook_secret)?;
    let value = read_payload(headers, body)?;
    let event = only(headers, "x-github-event")?;
    let delivery = only(headers, "x-github-delivery")?;
    let organization = value.pointer("/organization/login").and_then(Value::as_str);
    if !organization.is_some_and(|login| app.accepted_orgs.iter().any(|accepted| accepted == login)) {
        return Err(ApiError::Forbidden(
            "Mobu is not configured to accept webhooks from this GitHub org.",
        ));
    }
    if event != "push" {
        debug!(
            github_app = "refresh",
            github_delivery = delivery,
            "ignored: not a push"
        );
        return Ok(None);
    }
    let push = Push::deserialize(&value).map_err(|error| unreadable(format!("Not a push: {error}")))?;
    let Some(branch) = push.branch() else {
        debug!(
            github_app = "refresh",
            github_delivery = delivery,
            r#ref = push.reference,
            "ignored: not a branch"
        );
        return Ok(None);
    };
    let wish = Wish {
        command: Command::RefreshRepository {
            repo_url: format!("{}.git", push.repository.html_url),
            repo_ref: branch.to_owned(),
        },
        by: push.sender.map_or_else(
            || "github".to_owned(),
            |sender| sender.login.chars().take(100).collect(),
        ),
        source: Source::Github,
        request_id: Some(RequestId::new(format!("github:{delivery}"))),
        wait: false,
        dry_run: false,
    };
    Ok(Some((wish, delivery)))
}

/// Takes a refresh on, if it can be carried out at all: what GitHub is told to be accepted should come about.
async fn accept(api: &Api, wish: Wish, delivery: &str) -> Result<(), ApiError> {
    let status = snapshot::known(api).await?;
    if !status.is_leading() {
        let reason = match status.trouble {
            Some(trouble) => trouble,
            None => format!("it is {}", status.stage),
        };
        return Err(ChangeError::NotLeading { reason }.into());
    }
    let Ok(room) = api.deliveries.0.clone().try_acquire_owned() else {
        return Err(ChangeError::Overloaded.into());
    };
    let (fleet, delivery) = (api.fleet.clone(), delivery.to_owned());
    let drain = api.tasks.drain_token();
    let refreshing = async move {
        tokio::select! {
            () = refresh(&fleet, wish, &delivery) => {}
            // Whoever leads next knows nothing of it: only GitHub can bring it back.
            () = drain.cancelled() => give_up(&delivery),
        }
        drop(room);
    };
    drop(api.tasks.spawn(TaskKind::Expendable, "github refresh", refreshing));
    Ok(())
}

async fn refresh(fleet: &Fleet, wish: Wish, delivery: &str) {
    tokio::time::sleep(CONSISTENCY).await;
    for _ in 0..TRIES {
        let error = match fleet.change(wish.clone()).await {
            Ok(outcome) => {
                let revision = outcome.revision.0;
                info!(
                    github_app = "refresh",
                    github_delivery = delivery,
                    revision,
                    "github refresh webhook handled"
                );
                return;
            }
            Err(error) => error,
        };
        // Its ID makes a refresh that came through after all harmless.
        let Some(wait) = error.retry_after() else {
            warn!(github_app = "refresh", github_delivery = delivery, error = %error, "refused: {error}");
            return;
        };
        debug!(
            github_app = "refresh",
            github_delivery = delivery,
            "trying again: {error}"
        );
        tokio::time::sleep(wait).await;
    }
    give_up(delivery);
}

fn give_up(delivery: &str) {
    warn!(
        github_app = "refresh",
        github_delivery = delivery,
        "given up: redeliver it from GitHub's page of the app"
    );
}

fn unreadable(detail: impl Into<String>) -> ApiError {
    ApiError::Unreadable(detail.into())
}

/// Returns a header that must be there exactly once, as short visible text.
fn only<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, ApiError> {
    let mut given = headers.get_all(name).iter();
    let (Some(value), None) = (given.next(), given.next()) else {
        return Err(unreadable(format!("Header {name} must be given exactly once")));
    };
    let is_id = |text: &&str| (1..=ID_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let value = value.to_str().ok().filter(is_id);
    value.ok_or_else(|| unreadable(format!("Header {name} is not a short text")))
}

/// Checks who sent the body, by its raw bytes and in constant time.
///
/// With a SHA-256 signature only that counts; SHA-1 is accepted where it is the only one, as the contract asks: an HMAC
/// with SHA-1 still cannot be made without the secret.
fn check_signature(headers: &HeaderMap, body: &[u8], secret: &SecretString) -> Result<(), ApiError> {
    let secret = secret.expose_secret().as_bytes();
    let wrong = || ApiError::Unauthenticated("The signature does not match the payload");
    if secret.is_empty() {
        // Anybody could sign with an empty secret.
        return Err(wrong());
    }
    let single = |name: &str| {
        let mut given = headers.get_all(name).iter();
        match (given.next(), given.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => Ok(Some(value.as_bytes())),
            _ => Err(wrong()),
        }
    };
    let sha256 = single("x-hub-signature-256")?;
    let sha1 = if sha256.is_some() {
        None
    } else {
        single("x-hub-signature")?
    };
    let matches = match (sha256, sha1) {
        (Some(given), _) => given.strip_prefix(b"sha256=").and_then(unhex).is_some_and(|given| {
            let mac = Hmac::<Sha256>::new_from_slice(secret).expect("an HMAC takes keys of any length");
            mac.chain_update(body).verify_slice(&given).is_ok()
        }),
        (None, Some(given)) => given.strip_prefix(b"sha1=").and_then(unhex).is_some_and(|given| {
            let mac = Hmac::<Sha1>::new_from_slice(secret).expect("an HMAC takes keys of any length");
            mac.chain_update(body).verify_slice(&given).is_ok()
        }),
        (None, None) => return Err(ApiError::Unauthenticated("The signature is missing")),
    };
    if matches { Ok(()) } else { Err(wrong()) }
}

fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_chunks::<2>() else {
        return None;
    };
    pairs
        .iter()
        .map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?))
        .collect()
}

fn read_payload(headers: &HeaderMap, body: &[u8]) -> Result<Value, ApiError> {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let read = match essence.as_str() {
        "application/json" => serde_json::from_slice(body),
        "application/x-www-form-urlencoded" => {
            let mut fields = url::form_urlencoded::parse(body);
            let payload = fields.find(|(name, _)| name == "payload");
            let (_, payload) = payload.ok_or_else(|| unreadable("The form has no field payload"))?;
            serde_json::from_str(&payload)
        }
        _ => return Err(unreadable("The content type is neither JSON nor a form")),
    };
    read.map_err(|error| unreadable(format!("The payload is not JSON: {error}")))
}

/// What mobu asks of a push, and what we use of it.
#[derive(Deserialize)]
struct Push {
    #[serde(rename = "ref")]
    reference: String,
    repository: Repository,
    sender: Option<Sender>,
    #[serde(rename = "before")]
    _before: String,
    #[serde(rename = "after")]
    _after: String,
    #[serde(rename = "installation")]
    _installation: Installation,
}

#[derive(Deserialize)]
struct Sender {
    login: String,
}

#[derive(Deserialize)]
struct Installation {
    #[serde(rename = "id")]
    _id: i64,
}

#[derive(Deserialize)]
struct Owner {
    #[serde(rename = "login")]
    _login: String,
}

#[derive(Deserialize)]
struct Repository {
    html_url: String,
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "full_name")]
    _full_name: String,
    #[serde(rename = "owner")]
    _owner: Owner,
    #[serde(rename = "default_branch")]
    _default_branch: String,
    #[serde(rename = "branches_url")]
    _branches_url: String,
    #[serde(rename = "contents_url")]
    _contents_url: String,
    #[serde(rename = "trees_url")]
    _trees_url: String,
    #[serde(rename = "blobs_url")]
    _blobs_url: String,
}

impl Push {
    /// Returns the branch, slashes included; `None` for tags and whatever else can be pushed.
    fn branch(&self) -> Option<&str> {
        self.reference
            .strip_prefix("refs/heads/")
            .filter(|branch| !branch.is_empty())
    }
}

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing {
    //! See [`super::super::fuzzing`].

    use axum::response::IntoResponse as _;
    use http::HeaderMap;
    use mobu_fleet::domain::desired::Command;

    use super::super::GithubRefresh;

    /// Reads a delivery; returns repository and branch to refresh, or the status of the refusal.
    pub fn webhook(app: &GithubRefresh, headers: &HeaderMap, body: &[u8]) -> Result<Option<(String, String)>, u16> {
        match super::wish(app, headers, body) {
            Ok(Some((wish, _))) => match wish.command {
                Command::RefreshRepository { repo_url, repo_ref } => Ok(Some((repo_url, repo_ref))),
                _ => Ok(None),
            },
            Ok(None) => Ok(None),
            Err(error) => Err(error.into_response().status().as_u16()),
        }
    }
}
