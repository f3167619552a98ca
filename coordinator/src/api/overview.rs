//! The fleet at a glance.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use mobu_fleet::domain::ids::{Epoch, FleetName, InstanceId, Revision, SessionId};
use mobu_fleet::domain::messages::FlockReport;
use mobu_fleet::link::SessionHealth;
use schemars::JsonSchema;
use serde::Serialize;

use super::auth::Caller;
use super::error::ApiError;
use super::{Api, json, snapshot};
use crate::fleet::replicas::ReplicaState;
use crate::fleet::state::Status;

/// The fleet at a glance. Null is unknown.
#[derive(Serialize, JsonSchema)]
pub(super) struct FleetOverview {
    fleet: FleetName,
    epoch: Epoch,
    revision: Option<Revision>,
    /// Whether every expected replica runs what it should.
    converged: bool,
    coordinator: CoordinatorBrief,
    /// Other coordinators.
    standbys: Vec<StandbyBrief>,
    /// How many replicas there should be.
    replica_count: u32,
    replicas: ReplicaCounts,
    /// Replicas that are too slow themselves, so that what their monkeys measure may be their own slowness; absent if none is.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(default)]
    overloaded: BTreeSet<InstanceId>,
    /// How many flocks shall run.
    flocks: Option<u64>,
    /// How many monkeys there are, on the replicas that report now; null while none does.
    monkeys: Option<u64>,
    link: LinkBrief,
}

/// The coordinator that answers.
#[derive(Serialize, JsonSchema)]
pub(super) struct CoordinatorBrief {
    session: SessionId,
    /// Whether it accepts changes.
    active: bool,
    /// `offline`, `reading`, `standby`, `claiming`, `asking`, `writing` or `leading`.
    stage: String,
    version: String,
}

/// Another coordinator.
#[derive(Serialize, JsonSchema)]
pub(super) struct StandbyBrief {
    session: SessionId,
    active: bool,
    version: String,
    /// In seconds.
    report_age: f64,
    revision: Option<Revision>,
}

/// Replicas by state.
#[derive(Serialize, JsonSchema)]
pub(super) struct ReplicaCounts {
    ready: usize,
    behind: usize,
    silent: usize,
    missing: usize,
    surplus: usize,
}

/// How the session with the broker is doing.
#[derive(Serialize, JsonSchema)]
pub(super) struct LinkBrief {
    /// `open`, `blocked` or `closed`.
    state: String,
    detail: Option<String>,
}

/// Returns where the fleet stands.
#[utoipa::path(get, path = "/fleet", tag = "fleet", responses(
    (status = 200, description = "Where the fleet stands", body = ref("#/components/schemas/FleetOverview"), content_type = "application/json"),
))]
pub(super) async fn fleet(_: Caller, State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    Ok(json::compact(StatusCode::OK, &overview(&status)))
}

/// Returns how many replicas are in a state.
pub(super) fn count(status: &Status, state: ReplicaState) -> usize {
    status.states.values().filter(|one| **one == state).count()
}

fn overview(status: &Status) -> FleetOverview {
    // Seen from a standby, the leader is among the others.
    let standbys = status
        .peers
        .values()
        .filter(|peer| !peer.report.active)
        .map(|peer| StandbyBrief {
            session: peer.report.session.clone(),
            active: peer.report.active,
            version: peer.report.version.clone(),
            report_age: json::seconds(status.at.saturating_duration_since(peer.heard_at)),
            revision: peer.report.standing.as_ref().map(|standing| standing.revision),
        });
    FleetOverview {
        fleet: status.fleet.clone(),
        epoch: status.epoch,
        revision: status.standing.as_ref().map(|standing| standing.revision),
        converged: status.converged,
        coordinator: CoordinatorBrief {
            session: status.session.clone(),
            active: status.is_leading(),
            stage: status.stage.to_owned(),
            version: status.version.clone(),
        },
        standbys: standbys.collect(),
        replica_count: status.replicas.expected(),
        replicas: ReplicaCounts {
            ready: count(status, ReplicaState::Ready),
            behind: count(status, ReplicaState::Behind),
            silent: count(status, ReplicaState::Silent),
            missing: count(status, ReplicaState::Missing),
            surplus: count(status, ReplicaState::Surplus),
        },
        overloaded: snapshot::overloaded(status),
        flocks: status.standing.as_ref().map(|_| status.desired.flocks.len() as u64),
        monkeys: monkeys(status),
        link: link(status),
    }
}

fn monkeys(status: &Status) -> Option<u64> {
    let reports = snapshot::heard(status).map(|(_, replica)| &replica.report);
    reports
        .map(|report| report.flocks.values().map(FlockReport::monkey_count).sum())
        .reduce(|all: u64, more: u64| all + more)
}

fn link(status: &Status) -> LinkBrief {
    let (state, detail) = match (&status.trouble, &status.link) {
        (Some(trouble), _) => ("closed", Some(trouble.clone())),
        (None, SessionHealth::Open) => ("open", None),
        (None, SessionHealth::Blocked { reason }) => ("blocked", Some(reason.clone())),
        (None, SessionHealth::Closed { reason }) => ("closed", Some(reason.clone())),
    };
    LinkBrief {
        state: state.to_owned(),
        detail,
    }
}
