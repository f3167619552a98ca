//! The last accepted changes, and what became of each.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use mobu_fleet::domain::desired::Change;
use mobu_fleet::domain::fold::PastChange;
use mobu_fleet::domain::ids::{Epoch, InstanceId, Revision};
use mobu_fleet::domain::messages::{ReplicaOutcome, Source};
use mobu_fleet::domain::validation::Input;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::{Caller, caller};
use super::body::Mistakes;
use super::error::ApiError;
use super::flocks::Names;
use super::{Api, json};
use crate::fleet::state::Status;

/// An accepted change.
#[derive(Serialize, JsonSchema)]
pub(super) struct RevisionView {
    revision: Revision,
    epoch: Epoch,
    /// When it was accepted.
    at: String,
    change: Change,
    /// How it came in.
    source: Source,
    /// Who asked for it.
    by: String,
    /// What each replica that was heard of has made of it.
    replicas: BTreeMap<InstanceId, ReplicaOutcome>,
}

pub(super) fn view(status: &Status, past: &PastChange) -> RevisionView {
    RevisionView {
        revision: past.revision,
        epoch: past.epoch,
        at: json::timestamp(past.at),
        change: past.change.clone(),
        source: past.source,
        by: past.by.clone(),
        replicas: status.outcomes(past),
    }
}

/// Lists the last accepted changes, newest first.
#[utoipa::path(get, path = "/revisions", tag = "fleet", responses(
    (status = 200, description = "The last 100", body = ref("#/components/schemas/RevisionList"), content_type = "application/json"),
))]
pub(super) async fn list(_: Caller, State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    let views: Vec<_> = status.history.iter().rev().map(|past| view(&status, past)).collect();
    Ok(json::compact(StatusCode::OK, &views))
}

/// Returns one of the last accepted changes.
#[utoipa::path(get, path = "/revisions/{revision}", tag = "fleet", params(("revision" = u64, Path)), responses(
    (status = 200, description = "The change", body = ref("#/components/schemas/RevisionView"), content_type = "application/json"),
    (status = 404, description = "Not among the last 100", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn get(
    State(api): State<Api>,
    Names(text): Names<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let mut mistakes = Mistakes::default();
    let value = Value::String(text.clone());
    let loc = ["path".into(), "revision".into()];
    let number = mistakes.note(Input::read(&value, &loc, |input| input.integer(0, i64::MAX)))?;
    let by: Option<Caller> = mistakes.note(caller(&parts, &api.config.auth))?;
    let (Some(number), Some(_)) = (number, by) else {
        return Err(mistakes.into());
    };
    let status = api.fleet.status().await?;
    let wanted = Revision(number.value.unsigned_abs());
    let found = status.history.iter().rev().find(|past| past.revision == wanted);
    let past = found.ok_or_else(|| ApiError::missing("Revision", &text, "revision_not_found", "revision"))?;
    Ok(json::compact(StatusCode::OK, &view(&status, past)))
}
