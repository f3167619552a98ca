//! The monkeys of a flock.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use mobu_fleet::domain::ids::{InstanceId, MonkeyName};
use mobu_fleet::domain::messages::{AnswerBody, Ask};

use super::auth::Caller;
use super::error::ApiError;
use super::flock_data::{gather, placed};
use super::flocks::Names;
use super::wishes::mark_missing;
use super::{Api, json, snapshot};

/// Lists the names of a flock's monkeys, sorted.
#[utoipa::path(get, path = "/flocks/{flock}/monkeys", tag = "mobu", params(("flock" = String, Path)), responses(
    (status = 200, description = "Names; header `x-fleet-missing` names replicas that did not answer", body = Vec<String>, content_type = "application/json"),
    (status = 404, description = "Unknown flock", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn list(_: Caller, State(api): State<Api>, Names(flock): Names<String>) -> Result<Response, ApiError> {
    let status = snapshot::known(&api).await?;
    let flock = snapshot::flock(&status, &flock)?.config.name.clone();
    let (answers, missing) = gather(&api, &status, Ask::Monkeys { flock }).await?;
    let mut names = Vec::new();
    for body in answers.into_iter().flat_map(|(_, bodies)| bodies) {
        if let AnswerBody::Monkeys { monkeys } = body {
            names.extend(monkeys);
        }
    }
    names.sort_unstable();
    let mut response = json::pretty(StatusCode::OK, &names);
    mark_missing(&mut response, &missing);
    Ok(response)
}

/// Returns one monkey.
#[utoipa::path(get, path = "/flocks/{flock}/monkeys/{monkey}", tag = "mobu",
    params(("flock" = String, Path), ("monkey" = String, Path)), responses(
    (status = 200, description = "The monkey", body = ref("#/components/schemas/MonkeyData"), content_type = "application/json"),
    (status = 404, description = "Unknown flock or monkey", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn get(
    _: Caller,
    State(api): State<Api>,
    Names((flock, monkey)): Names<(String, String)>,
) -> Result<Response, ApiError> {
    let status = snapshot::known(&api).await?;
    let flock = snapshot::flock(&status, &flock)?.config.name.clone();
    let ask = Ask::Monkey {
        flock,
        monkey: MonkeyName::new(monkey.clone()),
    };
    let (answers, missing) = gather(&api, &status, ask).await?;
    for (id, bodies) in answers {
        for body in bodies {
            if let AnswerBody::Monkey { monkey } = body {
                return Ok(json::pretty(StatusCode::OK, &placed(&api, *monkey, &id)));
            }
        }
    }
    Err(not_found(&monkey, &missing))
}

/// A monkey that nobody has may still be one of a replica that did not answer.
pub(super) fn not_found<'a>(monkey: &str, missing: impl IntoIterator<Item = &'a InstanceId>) -> ApiError {
    let missing: Vec<_> = missing.into_iter().map(InstanceId::as_str).collect();
    if missing.is_empty() {
        return ApiError::monkey_not_found(monkey);
    }
    let msg = format!(
        "Monkey {monkey} not found, and these replicas did not answer: {}",
        missing.join(", ")
    );
    ApiError::unavailable("replicas_missing", msg)
}
