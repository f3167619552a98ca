//! The replicas, as they last reported.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use mobu_fleet::domain::ids::{FlockName, InstanceId, Revision, SessionId};
use mobu_fleet::domain::messages::{Failures, FlockPhase, FlockReport, ProcessFigures, ReplicaPhase};
use mobu_fleet::domain::monkey::MonkeyState;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Caller;
use super::error::ApiError;
use super::flocks::Names;
use super::{Api, json, snapshot};
use crate::fleet::replicas::ReplicaState;
use crate::fleet::state::Status;

/// A replica as it last reported. Null is unknown.
#[derive(Serialize, JsonSchema)]
pub(super) struct ReplicaView {
    instance_id: InstanceId,
    /// `ready`, `behind`, `silent`, `missing` or `surplus`.
    #[schemars(with = "String")]
    state: ReplicaState,
    session: Option<SessionId>,
    version: Option<String>,
    phase: Option<ReplicaPhase>,
    applied_revision: Option<Revision>,
    /// Age of the report that all this comes from, in seconds.
    report_age: Option<f64>,
    /// When its process started.
    started_at: Option<String>,
    flocks: Option<BTreeMap<FlockName, FlockView>>,
    process: Option<ProcessFigures>,
    /// What is wrong with it, if anything.
    error: Option<String>,
}

/// A flock on one replica.
#[derive(Serialize, JsonSchema)]
pub(super) struct FlockView {
    business: String,
    phase: FlockPhase,
    generation: Revision,
    refresh_generation: Revision,
    /// Monkeys by state.
    monkeys: BTreeMap<MonkeyState, u64>,
    monkey_count: u64,
    success_count: u64,
    failure_count: u64,
    start_time: Option<String>,
    error: Option<String>,
    /// Why its monkeys failed, by cause; absent if none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<Failures>,
}

impl FlockView {
    fn new(report: &FlockReport) -> Self {
        Self {
            business: report.business.clone(),
            phase: report.phase,
            generation: report.generation,
            refresh_generation: report.refresh_generation,
            monkeys: report.monkeys.clone(),
            monkey_count: report.monkey_count(),
            success_count: report.success_count,
            failure_count: report.failure_count,
            start_time: report.start_time.map(json::timestamp),
            error: report.error.clone(),
            failures: report.failures.clone(),
        }
    }
}

fn view(status: &Status, id: &InstanceId, state: ReplicaState) -> ReplicaView {
    let report = status.replica(id).map(|replica| &*replica.report);
    let flocks = report.map(|report| {
        let flocks = report.flocks.iter();
        flocks
            .map(|(name, flock)| (name.clone(), FlockView::new(flock)))
            .collect()
    });
    ReplicaView {
        instance_id: id.clone(),
        state,
        session: report.map(|report| report.session.clone()),
        version: report.map(|report| report.version.clone()),
        phase: report.map(|report| report.phase),
        applied_revision: report.and_then(|report| Some(report.standing.as_ref()?.revision)),
        report_age: status.age(id).map(json::seconds),
        started_at: report.map(|report| json::timestamp(report.started_at)),
        flocks,
        process: report.map(|report| report.process),
        error: error(status, id),
    }
}

/// Returns the first thing that is wrong with a replica.
fn error(status: &Status, id: &InstanceId) -> Option<String> {
    let report = &status.replica(id)?.report;
    let expected = status.replicas.expected();
    // Only this number decides what users are called. How many more replicas there are is nothing to a replica: the state says among
    // how many users are dealt out, and those that stay while a fleet is scaled need not be restarted to learn it.
    if (report.replica_count > 1) != (expected > 1) {
        return Some(format!(
            "it is configured for a fleet of {}, and the coordinator for {}",
            report.replica_count, expected
        ));
    }
    let failed = |flock: &FlockReport| (flock.phase == FlockPhase::Failed).then(|| flock.error.clone())?;
    report
        .flocks
        .iter()
        .find_map(|(name, flock)| Some(format!("flock `{name}`: {}", failed(flock)?)))
}

/// Lists every replica that is expected or was heard of.
#[utoipa::path(get, path = "/replicas", tag = "fleet", responses(
    (status = 200, description = "By instance ID", body = ref("#/components/schemas/ReplicaList"), content_type = "application/json"),
))]
pub(super) async fn list(_: Caller, State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    let replicas = snapshot::replicas(&status).into_iter();
    let views: Vec<_> = replicas.map(|(id, state)| view(&status, id, state)).collect();
    Ok(json::compact(StatusCode::OK, &views))
}

/// Returns one replica.
#[utoipa::path(get, path = "/replicas/{instance_id}", tag = "fleet", params(("instance_id" = String, Path)), responses(
    (status = 200, description = "The replica", body = ref("#/components/schemas/ReplicaView"), content_type = "application/json"),
    (status = 404, description = "Neither expected nor heard of", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn get(_: Caller, State(api): State<Api>, Names(id): Names<String>) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    let found = status.states.get_key_value(id.as_str());
    let (id, state) = found.ok_or_else(|| ApiError::missing("Replica", &id, "replica_not_found", "instance_id"))?;
    Ok(json::compact(StatusCode::OK, &view(&status, id, *state)))
}
