//! A flock with all its monkeys, asked of the replicas live.

use std::collections::BTreeSet;

use futures_lite::future;
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::ids::{FlockName, InstanceId};
use mobu_fleet::domain::messages::{AnswerBody, Ask, Failures};
use mobu_fleet::domain::monkey::MonkeyData;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::error::ApiError;
use super::snapshot::{self, ReplicaBrief};
use crate::fleet::gather::Gathered;
use crate::fleet::handle::From as Asked;
use crate::fleet::state::Status;

/// A flock as mobu shows it, and in a fleet of several replicas how each is doing.
#[derive(Serialize, JsonSchema)]
pub(super) struct FlockData {
    name: FlockName,
    /// As it was given, but without what opens the repository of its notebooks.
    #[schemars(with = "FlockConfig")]
    config: Value,
    /// By replica, then in the order of their users.
    monkeys: Vec<MonkeyData>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Vec<ReplicaBrief>>,
    /// Why its monkeys failed, by cause; not in a fleet of one replica, nor if none has.
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<Failures>,
    /// Replicas whose monkeys are missing from the answer.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    #[schemars(default)]
    missing: BTreeSet<InstanceId>,
}

/// Returns what is known now, and what every replica says of a flock's monkeys; nothing if there is no such flock.
///
/// Both are asked for at once: to ask for one after the other costs a caller a way to the coordinator's loop and back. The question goes
/// first, so that what is known is put together while the replicas answer.
pub(super) async fn survey(api: &Api, flock: FlockName) -> Result<(Box<Status>, Gathered), ApiError> {
    let asked = api
        .fleet
        .gather(Ask::Flock { flock }, Asked::All, api.config.gather_timeout);
    let (gathered, status) = future::zip(asked, api.fleet.status()).await;
    Ok((status?, gathered?))
}

/// Puts the answers of all replicas together.
pub(super) fn flock_data(api: &Api, status: &Status, config: &FlockConfig, gathered: Gathered) -> FlockData {
    let (answers, missing) = answers(status, gathered);
    let mut monkeys = Vec::new();
    for (id, bodies) in answers {
        for body in bodies {
            let AnswerBody::Flock { monkeys: part } = body else {
                continue;
            };
            monkeys.extend(part.into_iter().map(|monkey| placed(api, monkey, &id)));
        }
    }
    FlockData {
        name: config.name.clone(),
        replicas: snapshot::briefs(api, status, Some(&config.name)),
        failures: status
            .desired
            .flocks
            .get(&config.name)
            .and_then(|flock| snapshot::failures(api, status, flock)),
        config: config.shown(),
        monkeys,
        missing,
    }
}

/// Says on which replica a monkey is, unless there is only one.
pub(super) fn placed(api: &Api, mut monkey: MonkeyData, id: &InstanceId) -> MonkeyData {
    monkey.replica = (api.config.replica_count > 1).then(|| id.clone());
    monkey
}

/// The parts of each replica's answer, in the order of instance IDs.
pub(super) type Answers = Vec<(InstanceId, Vec<AnswerBody>)>;

/// Asks every replica; returns the answers, and the replicas that none came from.
pub(super) async fn gather(api: &Api, status: &Status, ask: Ask) -> Result<(Answers, BTreeSet<InstanceId>), ApiError> {
    let gathered = api.fleet.gather(ask, Asked::All, api.config.gather_timeout).await?;
    Ok(answers(status, gathered))
}

fn answers(status: &Status, gathered: Gathered) -> (Answers, BTreeSet<InstanceId>) {
    let mut missing = snapshot::unheard(status);
    missing.extend(gathered.missing);
    let mut answers = Answers::new();
    for (id, bodies) in gathered.answers {
        if bodies.contains(&AnswerBody::Unknown) {
            // A replica of another version does not know the question, so it is not known what it runs.
            missing.insert(id);
        } else {
            missing.remove(&id);
            answers.push((id, bodies));
        }
    }
    answers.sort_by(|(one, _), (other, _)| snapshot::rank(one).cmp(&snapshot::rank(other)));
    (answers, missing)
}
