//! Reading one moment's [`Status`]: what is known, and of whom nothing is known.

use std::collections::BTreeSet;

use mobu_fleet::domain::desired::DesiredFlock;
use mobu_fleet::domain::ids::{FlockName, InstanceId, Revision};
use mobu_fleet::domain::messages::{Failures, FlockReport};
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use super::{Api, json};
use crate::fleet::replicas::{Replica, ReplicaState};
use crate::fleet::state::Status;

/// Returns what is known now; an error if no desired state is known at all, which is not the same as an empty one.
pub(super) async fn known(api: &Api) -> Result<Box<Status>, ApiError> {
    let status = api.fleet.status().await?;
    check(&status)?;
    Ok(status)
}

/// Returns an error if no desired state is known at all.
pub(super) fn check(status: &Status) -> Result<(), ApiError> {
    if status.standing.is_some() {
        return Ok(());
    }
    let why = match &status.trouble {
        Some(trouble) => format!("no desired state is known yet: {trouble}"),
        None => format!("no desired state is known yet: the coordinator is {}", status.stage),
    };
    Err(ApiError::unavailable("state_unknown", why))
}

/// Returns a flock that shall run.
pub(super) fn flock<'a>(status: &'a Status, name: &str) -> Result<&'a DesiredFlock, ApiError> {
    status
        .desired
        .flocks
        .get(name)
        .ok_or_else(|| ApiError::flock_not_found(name))
}

/// Where instance IDs come in lists: numbers by value, before names.
pub(super) fn rank(id: &InstanceId) -> (u32, &str) {
    (id.as_str().parse().unwrap_or(u32::MAX), id.as_str())
}

/// Returns every replica that is expected or was heard of, in order.
pub(super) fn replicas(status: &Status) -> Vec<(&InstanceId, ReplicaState)> {
    let mut all: Vec<_> = status.states.iter().map(|(id, state)| (id, *state)).collect();
    all.sort_by(|(one, _), (other, _)| rank(one).cmp(&rank(other)));
    all
}

/// Returns the replicas of which nothing is known now: they were never heard of, or not for long.
pub(super) fn unheard(status: &Status) -> BTreeSet<InstanceId> {
    let unheard = |state: ReplicaState| matches!(state, ReplicaState::Silent | ReplicaState::Missing);
    let ids = status.states.iter().filter(|(_, state)| unheard(**state));
    ids.map(|(id, _)| id.clone()).collect()
}

/// Returns the replicas that report now.
pub(super) fn heard(status: &Status) -> impl Iterator<Item = (&InstanceId, &Replica)> {
    let unheard = unheard(status);
    let all = status.replicas.heard().iter();
    all.filter(move |(id, _)| !unheard.contains(*id))
}

/// Returns what the replicas that report now say of one generation of a flock.
pub(super) fn reports<'a>(
    status: &'a Status,
    name: &'a FlockName,
    generation: Revision,
) -> impl Iterator<Item = (&'a Replica, &'a FlockReport)> {
    let all = heard(status).filter_map(|(_, replica)| Some((replica, replica.report.flocks.get(name)?)));
    all.filter(move |(_, report)| report.generation == generation)
}

/// How one replica is doing, as far as a flock is concerned. Null is unknown.
#[derive(Serialize, JsonSchema)]
pub(super) struct ReplicaBrief {
    instance_id: InstanceId,
    /// `ready`, `behind`, `silent`, `missing` or `surplus`.
    #[schemars(with = "String")]
    state: ReplicaState,
    applied_revision: Option<Revision>,
    /// Age of its last report, in seconds.
    report_age: Option<f64>,
    /// Why the flock failed or ended there.
    error: Option<String>,
    /// How many monkeys of the flock failed there for good, and are not restarted; absent if none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_count: Option<u64>,
    /// Whether it is too slow itself, so that what its monkeys measure may be its own slowness; absent if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schemars(default)]
    overloaded: bool,
}

/// Returns why the monkeys of one generation of a flock failed, over the replicas that report now; `None` in a fleet of one, which
/// answers as mobu does, and if none has.
pub(super) fn failures(api: &Api, status: &Status, flock: &DesiredFlock) -> Option<Failures> {
    if api.config.replica_count <= 1 {
        return None;
    }
    let told = reports(status, &flock.config.name, flock.generation);
    let sum = Failures::sum(told.filter_map(|(_, report)| report.failures.as_ref()));
    (!sum.is_empty()).then_some(sum)
}

/// Returns the replicas that report now, and that they are overloaded.
pub(super) fn overloaded(status: &Status) -> BTreeSet<InstanceId> {
    let overloaded = heard(status).filter(|(_, replica)| replica.report.process.overloaded);
    overloaded.map(|(id, _)| id.clone()).collect()
}

/// Returns how every replica is doing with a flock; `None` in a fleet of one, which answers as mobu does.
pub(super) fn briefs(api: &Api, status: &Status, flock: Option<&FlockName>) -> Option<Vec<ReplicaBrief>> {
    if api.config.replica_count <= 1 {
        return None;
    }
    let overloaded = overloaded(status);
    let brief = |(id, state): (&InstanceId, ReplicaState)| {
        let report = status.replica(id).map(|replica| &replica.report);
        let runs = report.zip(flock).and_then(|(report, flock)| report.flocks.get(flock));
        ReplicaBrief {
            instance_id: id.clone(),
            state,
            applied_revision: report.and_then(|report| Some(report.standing.as_ref()?.revision)),
            report_age: status.age(id).map(json::seconds),
            error: runs.and_then(|runs| runs.error.clone()),
            ended_count: runs.map(FlockReport::ended_count).filter(|count| *count > 0),
            overloaded: overloaded.contains(id),
        }
    };
    Some(replicas(status).into_iter().map(brief).collect())
}
