//! The `OpenAPI` 3.1 document: operations from the handlers, schemas from the types, and what all operations share.

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use mobu_fleet::domain::flock::FlockConfig;
use mobu_fleet::domain::monkey::MonkeyData;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::{
    Api, ApiConfig, Auth, docs, error, events, flock_data, flocks, github, index, log, metrics, monkeys, overview,
    replicas, revisions, summary, wishes,
};

/// Paths that need nobody's name: the index, what describes the API, and the webhook, which is signed. Those outside the
/// prefix need none either.
pub(super) const NO_AUTH: [&str; 5] = ["/", "/openapi.json", "/docs", "/redoc", WEBHOOK];

const WEBHOOK: &str = "/github/refresh/webhook";

/// The documents, made once.
#[derive(Debug)]
pub(super) struct Documents {
    /// The `OpenAPI` document.
    json: Bytes,
    /// The page that shows it.
    pub(super) page: String,
}

impl Documents {
    pub(super) fn new(config: &ApiConfig, prefix: &str) -> Self {
        let document = document(config, prefix);
        Self {
            page: docs::render(&document),
            json: document.to_string().into(),
        }
    }
}

/// Returns this document.
#[utoipa::path(get, path = "/openapi.json", tag = "mobu", responses(
    (status = 200, description = "OpenAPI 3.1", body = serde_json::Value, content_type = "application/json"),
))]
pub(super) async fn openapi(State(api): State<Api>) -> Response {
    super::json::response(StatusCode::OK, api.documents.json.clone())
}

#[derive(OpenApi)]
#[openapi(paths(
    index::external,
    openapi,
    docs::docs,
    docs::redoc,
    flocks::list,
    flocks::put,
    flocks::get,
    flocks::delete,
    flocks::refresh,
    monkeys::list,
    monkeys::get,
    log::log,
    summary::flock,
    summary::all,
    wishes::stop,
    wishes::refresh,
    overview::fleet,
    replicas::list,
    replicas::get,
    revisions::list,
    revisions::get,
    events::events,
    github::webhook,
))]
struct Prefixed;

#[derive(OpenApi)]
#[openapi(paths(index::internal, index::healthz, index::readyz, metrics::metrics))]
struct Root;

fn operations(document: &utoipa::openapi::OpenApi) -> Map<String, Value> {
    let value = serde_json::to_value(document).expect("a document serializes");
    value["paths"].as_object().cloned().unwrap_or_default()
}

fn document(config: &ApiConfig, prefix: &str) -> Value {
    let mut paths = Map::new();
    for (path, mut methods) in operations(&Prefixed::openapi()) {
        if (path == WEBHOOK && config.github_refresh.is_none()) || (path == "/" && prefix.is_empty()) {
            continue;
        }
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            share(operation, method, &path, &config.auth);
        }
        paths.insert(format!("{prefix}{path}"), methods);
    }
    for (path, mut methods) in operations(&Root::openapi()) {
        for operation in methods
            .as_object_mut()
            .into_iter()
            .flatten()
            .map(|(_, operation)| operation)
        {
            answer(operation, "500", "Something went wrong", None);
        }
        paths.insert(path, methods);
    }
    for (path, methods) in &mut paths {
        for (method, operation) in methods.as_object_mut().into_iter().flatten() {
            operation["operationId"] = Value::String(operation_id(method, path));
        }
    }
    let mut components = Map::from_iter([("schemas".to_owned(), schemas())]);
    if let Auth::Token(_) = config.auth {
        components.insert(
            "securitySchemes".to_owned(),
            json!({ "token": {"type": "http", "scheme": "bearer"} }),
        );
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "mobu", "description": index::DESCRIPTION, "version": config.version},
        "paths": paths,
        "components": components,
    })
}

/// Names of handlers repeat over files; the path tells them apart.
fn operation_id(method: &str, path: &str) -> String {
    let words = path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    std::iter::once(method).chain(words).collect::<Vec<_>>().join("_")
}

/// Adds what an operation has in common with the others: who may call, and how it can fail.
fn share(operation: &mut Value, method: &str, path: &str, auth: &Auth) {
    answer(operation, "500", "Something went wrong", None);
    answer(
        operation,
        "503",
        "Not now; `Retry-After` says when to try again",
        Some(ERROR),
    );
    if NO_AUTH.contains(&path) && path != WEBHOOK {
        return;
    }
    answer(operation, "422", "Something about the call breaks a rule", Some(ERROR));
    if method != "get" {
        answer(operation, "400", "The call cannot be read", Some(ERROR));
        answer(operation, "408", "The body did not arrive in time", Some(ERROR));
        answer(operation, "413", "Too large", Some(ERROR));
    }
    if path == WEBHOOK {
        return;
    }
    answer(operation, "403", "From a page of another site", Some(ERROR));
    match auth {
        Auth::Header => parameter(operation, true),
        Auth::Token(_) => {
            answer(operation, "401", "No bearer token, or a wrong one", Some(ERROR));
            operation["security"] = json!([{"token": []}]);
        }
        Auth::None => parameter(operation, false),
    }
}

const ERROR: &str = "#/components/schemas/Error";

fn answer(operation: &mut Value, status: &str, description: &str, schema: Option<&str>) {
    let content = match schema {
        Some(schema) => json!({ "application/json": {"schema": {"$ref": schema}} }),
        None => json!({ "text/plain": {"schema": {"type": "string"}} }),
    };
    let responses = operation["responses"].as_object_mut();
    let responses = responses.expect("every operation says how it answers");
    responses
        .entry(status)
        .or_insert_with(|| json!({ "description": description, "content": content }));
}

fn parameter(operation: &mut Value, required: bool) {
    let user = json!({
        "name": "X-Auth-Request-User", "in": "header", "required": required,
        "description": "Who calls; set by the ingress", "schema": {"type": "string", "minLength": 1},
    });
    match operation["parameters"].as_array_mut() {
        Some(parameters) => parameters.push(user),
        None => operation["parameters"] = json!([user]),
    }
}

fn schemas() -> Value {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    let mut generator = settings.into_generator();
    macro_rules! include {
        ($($type:ty),* $(,)?) => { $( drop(generator.subschema_for::<$type>()); )* };
    }
    include!(
        FlockConfig,
        MonkeyData,
        error::ErrorSchema,
        index::Metadata,
        index::Index,
        index::Health,
        flock_data::FlockData,
        flocks::IncompleteStart,
        flocks::DryRun,
        wishes::Incomplete,
        wishes::Stopped,
        wishes::Refreshed,
        wishes::RefreshBody,
        summary::FlockSummary,
        summary::CombinedSummary,
        overview::FleetOverview,
        replicas::ReplicaView,
        revisions::RevisionView,
    );
    let mut schemas = generator.take_definitions(true);
    for (name, element) in [("ReplicaList", "ReplicaView"), ("RevisionList", "RevisionView")] {
        let element = format!("#/components/schemas/{element}");
        schemas.insert(name.to_owned(), json!({ "type": "array", "items": {"$ref": element} }));
    }
    Value::Object(schemas)
}
