//! Changes of the desired state: what all of them share, and those that concern no single flock.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode};
use mobu_fleet::domain::desired::{Change, Command};
use mobu_fleet::domain::ids::{FlockName, InstanceId, RequestId, Revision};
use mobu_fleet::domain::messages::Source;
use mobu_fleet::domain::validation::{Extra, Input, Parsed, ValidationErrors, ValidationItem};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::auth::{Caller, caller};
use super::body::{self, Mistakes};
use super::error::ApiError;
use super::{Api, json};
use crate::fleet::change::{Outcome, Wish};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REVISION: HeaderName = HeaderName::from_static("x-fleet-revision");
const MISSING: HeaderName = HeaderName::from_static("x-fleet-missing");

/// Longest `Idempotency-Key`, in bytes: it becomes part of the state log.
const KEY_LENGTH: usize = 128;

/// Answer to a change that some replicas have not applied in time; they will when they can.
#[derive(Serialize, JsonSchema)]
pub(super) struct Incomplete {
    /// `incomplete`.
    status: String,
    revision: Revision,
    /// Replicas that have not applied the change yet.
    missing: Vec<InstanceId>,
    /// Flocks that stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<Vec<FlockName>>,
    /// Flocks that refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    refreshed: Option<Vec<FlockName>>,
}

impl Incomplete {
    pub(super) fn new(outcome: &Outcome) -> Self {
        Self {
            status: "incomplete".to_owned(),
            revision: outcome.revision,
            missing: outcome.missing(),
            stopped: None,
            refreshed: None,
        }
    }
}

/// Flocks that were stopped, in one revision.
#[derive(Serialize, JsonSchema)]
pub(super) struct Stopped {
    revision: Revision,
    stopped: Vec<FlockName>,
}

/// Flocks that were told to refresh, in one revision.
#[derive(Serialize, JsonSchema)]
pub(super) struct Refreshed {
    revision: Revision,
    refreshed: Vec<FlockName>,
}

/// The repository and branch to refresh.
#[derive(JsonSchema)]
pub(super) struct RefreshBody {
    /// As in the flocks' `repo_url`.
    repo_url: String,
    /// As in the flocks' `repo_ref`.
    repo_ref: String,
}

impl RefreshBody {
    fn parse(value: &Value) -> Result<Self, ValidationErrors> {
        let read = |input: &Input<'_>| {
            let mut fields = input.document()?;
            let (repo_url, repo_ref) = (fields.required("repo_url"), fields.required("repo_ref"));
            let echo = fields.close(Extra::Ignored)?;
            let read = Self {
                repo_url: repo_url?,
                repo_ref: repo_ref?,
            };
            Some(Parsed::new(read, echo))
        };
        Input::read(value, &["body".into()], read).map(|parsed| parsed.value)
    }
}

/// Makes the wish of a caller.
pub(super) fn wish(command: Command, by: Caller, request_id: Option<RequestId>) -> Wish {
    Wish {
        command,
        by: by.0,
        source: Source::Http,
        request_id,
        wait: true,
        dry_run: false,
    }
}

/// Returns the name of a call over repetitions, if the caller gave one.
///
/// What is asked is part of the name: a key that was used for something else does not make a new wish disappear.
pub(super) fn request_id(parts: &Parts, body: &[u8]) -> Result<Option<RequestId>, ApiError> {
    let Some(key) = parts.headers.get(KEY) else {
        return Ok(None);
    };
    let is_key =
        |text: &&str| (1..=KEY_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    let Some(key) = key.to_str().ok().filter(is_key) else {
        let loc = vec!["header".into(), "idempotency-key".into()];
        let text = format!("a key has 1 to {KEY_LENGTH} visible ASCII characters");
        return Err(ApiError::invalid(ValidationItem::value_error(loc, text, Value::Null)));
    };
    let mut hash = Sha256::new();
    for part in [parts.method.as_str(), parts.uri.path()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.update(body);
    let digest: [u8; 32] = hash.finalize().into();
    let digest = digest
        .iter()
        .take(8)
        .fold(0_u64, |digest, byte| digest << 8 | u64::from(*byte));
    Ok(Some(RequestId::new(format!("http:{key}:{digest:016x}"))))
}

/// Returns whether a change is under way and has not come to its end everywhere.
pub(super) fn is_incomplete(outcome: &Outcome) -> bool {
    outcome.change.is_some() && !outcome.is_settled()
}

/// Names the revision of a change, and who has not applied it.
pub(super) fn mark(response: &mut Response, outcome: &Outcome) {
    let revision = HeaderValue::from(outcome.revision.0);
    response.headers_mut().insert(REVISION, revision);
    if outcome.change.is_some() {
        mark_missing(response, &outcome.missing());
    }
}

/// Names replicas that an answer lacks.
pub(super) fn mark_missing<'a>(response: &mut Response, missing: impl IntoIterator<Item = &'a InstanceId>) {
    let ids: Vec<_> = missing.into_iter().map(InstanceId::as_str).collect();
    if let Ok(ids) = HeaderValue::from_str(&ids.join(","))
        && !ids.is_empty()
    {
        response.headers_mut().insert(MISSING, ids);
    }
}

/// Stops every flock, in one revision.
#[utoipa::path(post, path = "/stop", tag = "fleet", params(("Idempotency-Key" = Option<String>, Header)), responses(
    (status = 200, description = "Every replica has stopped them", body = ref("#/components/schemas/Stopped"), content_type = "application/json"),
    (status = 202, description = "Some replicas have not yet", body = ref("#/components/schemas/Incomplete"), content_type = "application/json"),
))]
pub(super) async fn stop(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let mut mistakes = Mistakes::default();
    let by = mistakes.note(caller(&parts, &api.config.auth))?;
    let request_id = mistakes.note(request_id(&parts, b""))?;
    let (Some(by), Some(request_id)) = (by, request_id) else {
        return Err(mistakes.into());
    };
    let outcome = api.fleet.change(wish(Command::StopAll, by, request_id)).await?;
    let stopped = match &outcome.change {
        Some(Change::Stop { flocks }) => flocks.clone(),
        _ => Vec::new(),
    };
    let mut response = if is_incomplete(&outcome) {
        let mut incomplete = Incomplete::new(&outcome);
        incomplete.stopped = Some(stopped);
        json::compact(StatusCode::ACCEPTED, &incomplete)
    } else {
        let revision = outcome.revision;
        json::compact(StatusCode::OK, &Stopped { revision, stopped })
    };
    mark(&mut response, &outcome);
    Ok(response)
}

/// Refreshes every flock that uses a repository and branch, in one revision.
#[utoipa::path(post, path = "/refresh", tag = "fleet", params(("Idempotency-Key" = Option<String>, Header)),
    request_body(content = ref("#/components/schemas/RefreshBody"), content_type = "application/json"), responses(
    (status = 200, description = "Every replica has told its monkeys", body = ref("#/components/schemas/Refreshed"), content_type = "application/json"),
    (status = 202, description = "Some replicas have not yet", body = ref("#/components/schemas/Incomplete"), content_type = "application/json"),
))]
pub(super) async fn refresh(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let (by, request_id, read) = read(&api, &parts, body, RefreshBody::parse).await?;
    let command = Command::RefreshRepository {
        repo_url: read.repo_url,
        repo_ref: read.repo_ref,
    };
    let outcome = api.fleet.change(wish(command, by, request_id)).await?;
    let refreshed = match &outcome.change {
        Some(Change::Refresh { flocks, .. }) => flocks.clone(),
        _ => Vec::new(),
    };
    let mut response = if is_incomplete(&outcome) {
        let mut incomplete = Incomplete::new(&outcome);
        incomplete.refreshed = Some(refreshed);
        json::compact(StatusCode::ACCEPTED, &incomplete)
    } else {
        let revision = outcome.revision;
        json::compact(StatusCode::OK, &Refreshed { revision, refreshed })
    };
    mark(&mut response, &outcome);
    Ok(response)
}

/// Reads a call that carries JSON: who calls, its name, and what it says; every mistake at once.
pub(super) async fn read<T>(
    api: &Api,
    parts: &Parts,
    body: Body,
    parse: impl FnOnce(&Value) -> Result<T, ValidationErrors>,
) -> Result<(Caller, Option<RequestId>, T), ApiError> {
    let mut mistakes = Mistakes::default();
    let by = mistakes.note(caller(parts, &api.config.auth))?;
    let payload = api.bodies.read(&parts.headers, body, api.config.body_limit).await?;
    let request_id = mistakes.note(request_id(parts, &payload.bytes))?;
    let parsed = body::json(&parts.headers, &payload.bytes).and_then(|value| Ok(parse(&value)?));
    let parsed = mistakes.note(parsed)?;
    match (by, request_id, parsed) {
        (Some(by), Some(request_id), Some(parsed)) => Ok((by, request_id, parsed)),
        _ => Err(mistakes.into()),
    }
}
