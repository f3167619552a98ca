//! Who this is, and how it feels.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ApiError;
use super::{Api, json};

pub(super) const DESCRIPTION: &str = "Simulate user load for Science Platform testing";

/// What mobu says of itself.
#[derive(Serialize, JsonSchema)]
pub(super) struct Metadata {
    name: String,
    version: String,
    description: String,
    repository_url: String,
    documentation_url: String,
}

/// The index of mobu's routes.
#[derive(Serialize, JsonSchema)]
pub(super) struct Index {
    metadata: Metadata,
}

/// A short answer of a health check.
#[derive(Serialize, JsonSchema)]
pub(super) struct Health {
    /// `ok` or `unavailable`.
    status: String,
    /// Why it is unavailable.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

fn metadata(api: &Api) -> Metadata {
    Metadata {
        name: api.config.name.clone(),
        version: api.config.version.clone(),
        description: DESCRIPTION.to_owned(),
        repository_url: "https://github.com/lsst-sqre/mobu".to_owned(),
        documentation_url: "https://mobu.lsst.io".to_owned(),
    }
}

/// Returns the service's metadata.
#[utoipa::path(get, path = "/", tag = "internal", responses(
    (status = 200, description = "Metadata of the service", body = ref("#/components/schemas/Metadata"), content_type = "application/json"),
))]
pub(super) async fn internal(State(api): State<Api>) -> Response {
    json::compact(StatusCode::OK, &metadata(&api))
}

/// Returns the service's metadata.
#[utoipa::path(get, path = "/", tag = "mobu", responses(
    (status = 200, description = "Metadata of the service", body = ref("#/components/schemas/Index"), content_type = "application/json"),
))]
pub(super) async fn external(State(api): State<Api>) -> Response {
    json::compact(
        StatusCode::OK,
        &Index {
            metadata: metadata(&api),
        },
    )
}

/// Says whether the process is alive.
#[utoipa::path(get, path = "/healthz", tag = "internal", responses(
    (status = 200, description = "The process is alive", body = ref("#/components/schemas/Health"), content_type = "application/json"),
))]
pub(super) async fn healthz() -> Response {
    let ok = Health {
        status: "ok".to_owned(),
        reason: None,
    };
    json::compact(StatusCode::OK, &ok)
}

/// Says whether this coordinator has a session with the broker, be it as leader or as standby.
#[utoipa::path(get, path = "/readyz", tag = "internal", responses(
    (status = 200, description = "Ready", body = ref("#/components/schemas/Health"), content_type = "application/json"),
    (status = 503, description = "Not ready", body = ref("#/components/schemas/Health"), content_type = "application/json"),
))]
pub(super) async fn readyz(State(api): State<Api>) -> Response {
    let status = match api.fleet.status().await {
        Ok(status) => status,
        Err(gone) => return ApiError::from(gone).into_response(),
    };
    if status.stage == "offline" {
        let unavailable = Health {
            status: "unavailable".to_owned(),
            reason: Some(status.trouble.unwrap_or_else(|| "not connected".to_owned())),
        };
        return json::compact(StatusCode::SERVICE_UNAVAILABLE, &unavailable);
    }
    healthz().await
}
