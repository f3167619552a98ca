//! Every way in which a call can fail, in mobu's shapes (`contracts/rest-api.md` 8).

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use mobu_fleet::domain::desired::CommandError;
use mobu_fleet::domain::validation::{Loc, ValidationErrors, ValidationItem};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::error;

use super::json;
use crate::fleet::change::ChangeError;
use crate::fleet::handle::Gone;

/// Why a call is not answered as the caller hoped.
#[derive(Debug)]
pub(super) enum ApiError {
    /// Something about the call breaks a rule: 422.
    Invalid(Vec<ValidationItem>),
    /// There is no such thing: 404, in the shape of mobu's own errors.
    Missing(DomainItem),
    /// There is no such path: 404, in the shape of the router's errors.
    NoRoute,
    /// The path has no such method: 405.
    WrongMethod {
        /// The method to name in `Allow`.
        allow: &'static str,
    },
    /// It is not known who calls: 401.
    Unauthenticated(&'static str),
    /// Whoever calls may not: 403.
    Forbidden(&'static str),
    /// The call cannot be read: 400.
    Unreadable(String),
    /// The body did not come in time: 408.
    TooSlow,
    /// The body, or what it would lead to, is too large: 413.
    TooLarge(String),
    /// Not now: 503.
    Unavailable {
        /// Why, for programs.
        kind: &'static str,
        /// Why, for people.
        msg: String,
        /// When trying again may help.
        retry_after: Duration,
    },
    /// What should not happen; the reason is logged and never told: 500.
    Internal(String),
}

/// An element of `detail` in errors other than validation's; its keys come in this order.
#[derive(Debug, Clone, Serialize)]
pub(super) struct DomainItem {
    pub(super) msg: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) loc: Option<[&'static str; 2]>,
}

/// The body of an error.
#[derive(Serialize)]
struct Body<T> {
    detail: T,
}

/// How long a client should wait unless something better is known.
const RETRY: Duration = Duration::from_secs(2);

impl ApiError {
    pub(super) fn missing(what: &str, name: &str, kind: &'static str, parameter: &'static str) -> Self {
        let msg = format!("{what} {name} not found");
        let loc = Some(["path", parameter]);
        Self::Missing(DomainItem { msg, kind, loc })
    }

    pub(super) fn flock_not_found(name: &str) -> Self {
        Self::missing("Flock", name, "flock_not_found", "flock")
    }

    pub(super) fn monkey_not_found(name: &str) -> Self {
        Self::missing("Monkey", name, "monkey_not_found", "monkey")
    }

    pub(super) fn unavailable(kind: &'static str, msg: impl Into<String>) -> Self {
        let msg = msg.into();
        Self::Unavailable {
            kind,
            msg,
            retry_after: RETRY,
        }
    }

    pub(super) fn invalid(item: ValidationItem) -> Self {
        Self::Invalid(vec![item])
    }
}

impl From<Gone> for ApiError {
    fn from(gone: Gone) -> Self {
        Self::unavailable("coordinator_not_active", gone.to_string())
    }
}

impl From<ValidationErrors> for ApiError {
    fn from(errors: ValidationErrors) -> Self {
        Self::Invalid(errors.0)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let kind = match error {
            ChangeError::Rules(errors) => return errors.into(),
            ChangeError::Command(CommandError::FlockNotFound(name)) => return Self::flock_not_found(name.as_str()),
            ChangeError::TooLarge { .. } => return Self::TooLarge(error.to_string()),
            ChangeError::NotLeading { .. } => "coordinator_not_active",
            ChangeError::Unknown { .. } => "outcome_unknown",
            ChangeError::Overloaded => "overloaded",
        };
        Self::Unavailable {
            kind,
            msg: error.to_string(),
            retry_after: error.retry_after().unwrap_or(RETRY),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(detail) => json::compact(StatusCode::UNPROCESSABLE_ENTITY, &Body { detail }),
            Self::Missing(item) => json::compact(StatusCode::NOT_FOUND, &Body { detail: [item] }),
            Self::NoRoute => text(StatusCode::NOT_FOUND, "Not Found"),
            Self::WrongMethod { allow } => {
                let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
            Self::Unauthenticated(detail) => {
                let mut response = text(StatusCode::UNAUTHORIZED, detail);
                let scheme = HeaderValue::from_static("Bearer");
                response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                response
            }
            Self::Forbidden(detail) => text(StatusCode::FORBIDDEN, detail),
            Self::Unreadable(detail) => text(StatusCode::BAD_REQUEST, &detail),
            Self::TooSlow => closing(text(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")),
            Self::TooLarge(detail) => closing(text(StatusCode::PAYLOAD_TOO_LARGE, &detail)),
            Self::Unavailable { kind, msg, retry_after } => {
                let item = DomainItem { msg, kind, loc: None };
                let mut response = json::compact(StatusCode::SERVICE_UNAVAILABLE, &Body { detail: [item] });
                let seconds = HeaderValue::from(retry_after.as_secs().max(1));
                response.headers_mut().insert(RETRY_AFTER, seconds);
                response
            }
            Self::Internal(reason) => {
                error!(error = reason, "a call failed: {reason}");
                internal()
            }
        }
    }
}

/// mobu's answer to whatever it did not expect.
pub(super) fn internal() -> Response {
    let headers = [(CONTENT_TYPE, "text/plain; charset=utf-8")];
    (StatusCode::INTERNAL_SERVER_ERROR, headers, "Internal Server Error").into_response()
}

fn text(status: StatusCode, detail: &str) -> Response {
    json::compact(status, &Body { detail })
}

/// The rest of the body will not be read, so the connection cannot be used again.
fn closing(mut response: Response) -> Response {
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}

/// The body of every error, as the `OpenAPI` document describes it.
#[derive(JsonSchema)]
#[schemars(rename = "Error")]
#[expect(dead_code, reason = "a schema; what is sent is built above")]
pub(super) struct ErrorSchema {
    /// A text, or one element per mistake.
    detail: ErrorDetail,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "a schema; what is sent is built above")]
enum ErrorDetail {
    Text(String),
    Items(Vec<ErrorItem>),
}

/// One mistake.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "a schema; what is sent is built above")]
struct ErrorItem {
    /// Stable name of the kind of mistake.
    #[schemars(rename = "type")]
    kind: String,
    /// For people.
    msg: String,
    /// The way to what is wrong.
    loc: Option<Vec<Loc>>,
    /// What was given there.
    input: Option<serde_json::Value>,
    /// Numbers and names in `msg`.
    ctx: Option<serde_json::Value>,
}
