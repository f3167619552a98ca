//! Sums over a flock's monkeys, from what the replicas report.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::ids::{FlockName, InstanceId};
use mobu_fleet::domain::messages::Failures;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::auth::Caller;
use super::error::ApiError;
use super::flocks::Names;
use super::snapshot::{self, ReplicaBrief};
use super::{Api, json};
use crate::fleet::state::Status;

const AGE: HeaderName = HeaderName::from_static("x-fleet-report-age");

/// A flock's figures: sums over the replicas that report now.
#[derive(Serialize, JsonSchema)]
pub(super) struct FlockSummary {
    name: FlockName,
    /// The configured type.
    business: String,
    /// When the last monkey of the last batch was started on the first replica that got so far.
    start_time: Option<String>,
    monkey_count: u64,
    success_count: u64,
    failure_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Vec<ReplicaBrief>>,
    /// Why its monkeys failed, by cause; not in a fleet of one replica, nor if none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<Failures>,
    /// Replicas that are not part of the sums.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(default)]
    missing: BTreeSet<InstanceId>,
}

/// Everything at a glance.
#[derive(Serialize, JsonSchema)]
pub(super) struct CombinedSummary {
    /// The GitHub CI app's queue; null, since there is none.
    ci_manager: Option<Value>,
    flocks: Vec<FlockSummary>,
}

fn summary(api: &Api, status: &Status, flock: &DesiredFlock) -> FlockSummary {
    let name = &flock.config.name;
    let mut summary = FlockSummary {
        name: name.clone(),
        business: flock.config.business.kind().as_str().to_owned(),
        start_time: None,
        monkey_count: 0,
        success_count: 0,
        failure_count: 0,
        replicas: snapshot::briefs(api, status, Some(name)),
        failures: snapshot::failures(api, status, flock),
        missing: snapshot::unheard(status),
    };
    let mut start_time = None;
    for (_, report) in snapshot::reports(status, name, flock.generation) {
        summary.monkey_count += report.monkey_count();
        summary.success_count += report.success_count;
        summary.failure_count += report.failure_count;
        start_time = match (start_time, report.start_time) {
            (Some(one), Some(other)) => Some(std::cmp::min(one, other)),
            (one, other) => one.or(other),
        };
    }
    summary.start_time = start_time.map(json::timestamp);
    summary
}

/// Says how old the oldest report is that the figures come from.
fn aged(mut response: Response, status: &Status) -> Response {
    let ages = snapshot::heard(status).map(|(_, replica)| status.at.saturating_duration_since(replica.heard_at));
    let oldest: Option<Duration> = ages.max();
    let age = oldest.and_then(|age| HeaderValue::from_str(&json::seconds(age).to_string()).ok());
    if let Some(age) = age {
        response.headers_mut().insert(AGE, age);
    }
    response
}

/// Returns the figures of one flock.
#[utoipa::path(get, path = "/flocks/{flock}/summary", tag = "mobu", params(("flock" = String, Path)), responses(
    (status = 200, description = "The figures", body = ref("#/components/schemas/FlockSummary"), content_type = "application/json"),
    (status = 404, description = "Unknown flock", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn flock(
    _: Caller,
    State(api): State<Api>,
    Names(flock): Names<String>,
) -> Result<Response, ApiError> {
    let status = snapshot::known(&api).await?;
    let flock = snapshot::flock(&status, &flock)?;
    let response = json::pretty(StatusCode::OK, &summary(&api, &status, flock));
    Ok(aged(response, &status))
}

/// Returns the figures of all flocks.
#[utoipa::path(get, path = "/summary", tag = "mobu", responses(
    (status = 200, description = "The figures", body = ref("#/components/schemas/CombinedSummary"), content_type = "application/json"),
))]
pub(super) async fn all(_: Caller, State(api): State<Api>) -> Result<Response, ApiError> {
    let status = snapshot::known(&api).await?;
    let flocks = status.desired.flocks.values();
    let combined = CombinedSummary {
        ci_manager: None,
        flocks: flocks.map(|flock| summary(&api, &status, flock)).collect(),
    };
    Ok(aged(json::pretty(StatusCode::OK, &combined), &status))
}
