//! Flocks: which there are, what they are, how they come and go.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_lite::stream;
use http::StatusCode;
use http::header::LOCATION;
use http::request::Parts;
use mobu_fleet::domain::desired::{Change, Command};
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::{FlockName, InstanceId, Revision};
use mobu_fleet::domain::messages::ReplicaOutcome;
use mobu_fleet::domain::users::{ReplicaIdentity, range_of};
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::auth::{Caller, caller};
use super::body::{Mistakes, query};
use super::error::{ApiError, internal};
use super::flock_data::{FlockData, flock_data, survey};
use super::forwarded::absolute;
use super::wishes::{self, Incomplete, is_incomplete, mark, wish};
use super::{Api, json, snapshot};
use crate::fleet::change::Outcome;

/// The names in a path.
#[derive(Debug)]
pub(super) struct Names<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Names<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        // What is not text names nothing.
        let Path(names) = Path::from_request_parts(parts, api)
            .await
            .map_err(|_| ApiError::NoRoute)?;
        Ok(Self(names))
    }
}

/// A start that some replicas have not carried out yet.
#[derive(Serialize, JsonSchema)]
pub(super) struct IncompleteStart {
    #[serde(flatten)]
    incomplete: Incomplete,
    flock: FlockData,
}

/// What a PUT would do.
#[derive(Serialize, JsonSchema)]
pub(super) struct DryRun {
    /// The revision that it would make.
    revision: Revision,
    change: Option<Change>,
    /// What would run where.
    replicas: BTreeMap<InstanceId, PlannedShare>,
}

/// The monkeys that a replica would run.
#[derive(Serialize, JsonSchema)]
pub(super) struct PlannedShare {
    monkeys: u64,
    first: Option<String>,
    last: Option<String>,
}

/// Lists the names of all flocks, sorted.
#[utoipa::path(get, path = "/flocks", tag = "mobu", responses(
    (status = 200, description = "Names", body = Vec<String>, content_type = "application/json"),
))]
pub(super) async fn list(_: Caller, State(api): State<Api>) -> Result<Response, ApiError> {
    let status = snapshot::known(&api).await?;
    let names: Vec<&FlockName> = status.desired.flocks.keys().collect();
    Ok(json::compact(StatusCode::OK, &names))
}

/// Starts a flock, or replaces the one of that name.
#[utoipa::path(put, path = "/flocks", tag = "mobu",
    params(
        ("dry_run" = Option<bool>, Query, description = "Only say what would happen"),
        ("Idempotency-Key" = Option<String>, Header, description = "A repeated call of the same key and body changes nothing"),
    ),
    request_body(content = ref("#/components/schemas/FlockConfig"), content_type = "application/json"),
    responses(
    (status = 200, description = "What would happen (`dry_run`)", body = ref("#/components/schemas/DryRun"), content_type = "application/json"),
    (status = 201, description = "Every replica runs it", body = ref("#/components/schemas/FlockData"), content_type = "application/json"),
    (status = 202, description = "Some replicas do not run it yet", body = ref("#/components/schemas/IncompleteStart"), content_type = "application/json"),
))]
pub(super) async fn put(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    let mut mistakes = Mistakes::default();
    let dry_run = mistakes.note(query::<bool>(&parts, "dry_run"))?;
    let read = wishes::read(&api, &parts, body, FlockConfig::parse).await;
    let read = mistakes.note(read)?;
    let (Some(dry_run), Some((by, request_id, config))) = (dry_run, read) else {
        return Err(mistakes.into());
    };
    let mut wish = wish(Command::Start(Box::new(config.clone())), by, request_id);
    if dry_run.unwrap_or(false) {
        wish.dry_run = true;
        wish.wait = false;
        let outcome = api.fleet.change(wish).await?;
        return planned(&api, &config, outcome).await;
    }
    let outcome = api.fleet.change(wish).await?;
    let mut response = started(&api, &parts, config, &outcome).await?;
    mark(&mut response, &outcome);
    Ok(response)
}

async fn started(api: &Api, parts: &Parts, config: FlockConfig, outcome: &Outcome) -> Result<Response, ApiError> {
    let failed = |outcome: &ReplicaOutcome| matches!(outcome, ReplicaOutcome::Failed { .. });
    if api.config.replica_count <= 1 && outcome.replicas.values().any(failed) {
        // As mobu: the flock is registered, and why it does not run shows elsewhere (`/replicas`).
        return Ok(internal());
    }
    let path = format!("{}/flocks/{}", api.prefix, config.name);
    let surveyed = survey(api, config.name.clone()).await;
    let (status, gathered) = surveyed.map_err(|_| {
        // Whoever is told that this coordinator is not active takes it that nothing was changed.
        let text = format!(
            "revision {} is accepted; the coordinator ends before it can say what runs",
            outcome.revision
        );
        ApiError::unavailable("outcome_unknown", text)
    })?;
    let flock = flock_data(api, &status, &config, gathered);
    if is_incomplete(outcome) {
        let incomplete = Incomplete::new(outcome);
        return Ok(json::pretty(
            StatusCode::ACCEPTED,
            &IncompleteStart { incomplete, flock },
        ));
    }
    let mut response = json::pretty(StatusCode::CREATED, &flock);
    if let Some(location) = absolute(&parts.headers, &path) {
        response.headers_mut().insert(LOCATION, location);
    }
    Ok(response)
}

async fn planned(api: &Api, config: &FlockConfig, outcome: Outcome) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    let mut replicas = BTreeMap::new();
    for id in status.replicas.expected_ids() {
        let replica = ReplicaIdentity {
            instance_id: Some(id.clone()),
            replica_count: api.config.replica_count,
        };
        let range = range_of(config, &replica);
        // The fleet's rules were checked before; what they let through has names.
        let range = range.map_err(|error| ApiError::Internal(error.to_string()))?;
        let share = PlannedShare {
            monkeys: range.count,
            first: range.first,
            last: range.last,
        };
        replicas.insert(id, share);
    }
    let dry_run = DryRun {
        revision: outcome.revision,
        change: outcome.change,
        replicas,
    };
    Ok(json::compact(StatusCode::OK, &dry_run))
}

/// Returns a flock and all its monkeys.
#[utoipa::path(get, path = "/flocks/{flock}", tag = "mobu", params(("flock" = String, Path)), responses(
    (status = 200, description = "The flock", body = ref("#/components/schemas/FlockData"), content_type = "application/json"),
    (status = 404, description = "Unknown flock", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn get(_: Caller, State(api): State<Api>, Names(flock): Names<String>) -> Result<Response, ApiError> {
    // What is no name of a flock names no flock, but whether any is known comes first.
    let Ok(name) = flock.parse() else {
        snapshot::known(&api).await?;
        return Err(ApiError::flock_not_found(&flock));
    };
    let (status, gathered) = survey(&api, name).await?;
    snapshot::check(&status)?;
    let config = &snapshot::flock(&status, &flock)?.config;
    let flock = flock_data(&api, &status, config, gathered);
    Ok(json::pretty(StatusCode::OK, &flock))
}

/// Stops a flock.
#[utoipa::path(delete, path = "/flocks/{flock}", tag = "mobu",
    params(("flock" = String, Path), ("Idempotency-Key" = Option<String>, Header)), responses(
    (status = 204, description = "Every replica has stopped it"),
    (status = 202, description = "Some replicas have not yet", body = ref("#/components/schemas/Incomplete"), content_type = "application/json"),
    (status = 404, description = "Unknown flock", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn delete(
    State(api): State<Api>,
    Names(flock): Names<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let outcome = change_one(&api, &flock, request, Command::Stop).await?;
    let mut response = if is_incomplete(&outcome) {
        json::compact(StatusCode::ACCEPTED, &Incomplete::new(&outcome))
    } else {
        // A body of known length would be announced, which mobu does not do here.
        let nothing = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
        json::response(StatusCode::NO_CONTENT, nothing)
    };
    mark(&mut response, &outcome);
    Ok(response)
}

/// Tells a flock's monkeys to refresh.
#[utoipa::path(post, path = "/flocks/{flock}/refresh", tag = "mobu",
    params(("flock" = String, Path), ("Idempotency-Key" = Option<String>, Header)), responses(
    (status = 202, description = "The refresh is decided; header `x-fleet-missing` names replicas that do not know yet",
        body = serde_json::Value, content_type = "application/json"),
    (status = 404, description = "Unknown flock", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn refresh(
    State(api): State<Api>,
    Names(flock): Names<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let outcome = change_one(&api, &flock, request, Command::Refresh).await?;
    let mut response = null(StatusCode::ACCEPTED);
    mark(&mut response, &outcome);
    Ok(response)
}

async fn change_one(
    api: &Api,
    flock: &str,
    request: Request,
    command: fn(FlockName) -> Command,
) -> Result<Outcome, ApiError> {
    let (parts, _) = request.into_parts();
    let mut mistakes = Mistakes::default();
    let by = mistakes.note(caller(&parts, &api.config.auth))?;
    let request_id = mistakes.note(wishes::request_id(&parts, b""))?;
    let (Some(by), Some(request_id)) = (by, request_id) else {
        return Err(mistakes.into());
    };
    // What is no name of a flock names no flock.
    let name: FlockName = flock.parse().map_err(|_| ApiError::flock_not_found(flock))?;
    Ok(api.fleet.change(wish(command(name), by, request_id)).await?)
}

/// mobu's body of an answer that says nothing.
pub(super) fn null(status: StatusCode) -> Response {
    json::response(status, "null")
}
