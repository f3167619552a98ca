//! Reading what a caller sent: bodies of bounded size and patience, query parameters, and all mistakes at once.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_lite::StreamExt as _;
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use mobu_fleet::domain::validation::{FromInput, Input, Loc, Parsed, ValidationErrors, ValidationItem};
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use super::python_json;

/// How many bytes of bodies may be in memory at once, over all connections. A body beyond that is refused, so that
/// many callers who send slowly cannot fill the memory.
const BUDGET: usize = 64 * 1024 * 1024;

/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is left of the memory for bodies.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

/// A body, and its share of the budget.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl Budget {
    /// Reads a body of at most `limit` bytes.
    pub(super) async fn read(&self, headers: &HeaderMap, body: Body, limit: usize) -> Result<Payload, ApiError> {
        let announced = headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|announced: u64| announced > limit as u64) {
            return Err(too_large(limit));
        }
        let read = tokio::time::timeout(PATIENCE, self.collect(body, limit));
        read.await.unwrap_or(Err(ApiError::TooSlow))
    }

    async fn collect(&self, body: Body, limit: usize) -> Result<Payload, ApiError> {
        let mut chunks = body.into_data_stream();
        let mut bytes = BytesMut::new();
        let mut share: Option<OwnedSemaphorePermit> = None;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| ApiError::Unreadable("The body broke off".to_owned()))?;
            if bytes.len() + chunk.len() > limit {
                return Err(too_large(limit));
            }
            let more = u32::try_from(chunk.len()).ok();
            let more = more.and_then(|more| self.0.clone().try_acquire_many_owned(more).ok());
            let Some(more) = more else {
                return Err(ApiError::unavailable("overloaded", "too many bodies are being read"));
            };
            match &mut share {
                Some(share) => share.merge(more),
                None => share = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(Payload {
            bytes: bytes.freeze(),
            _share: share,
        })
    }
}

fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge(format!("The body is larger than {limit} bytes"))
}

/// Reads JSON as mobu does: only if the content type says that it is JSON, in Python's words if it is not.
pub(super) fn json(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, ApiError> {
    let body = || vec![Loc::from("body")];
    let missing = || ApiError::invalid(ValidationItem::new("missing", body(), "Field required", Value::Null));
    if bytes.is_empty() {
        return Err(missing());
    }
    if !is_json(headers) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let msg = "Input should be a valid dictionary or object to extract fields from";
        let item = ValidationItem::new("model_attributes_type", body(), msg, Value::String(text));
        return Err(ApiError::invalid(item));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(ApiError::Unreadable("There was an error parsing the body".to_owned()));
    };
    match serde_json::from_str(text) {
        Ok(Value::Null) => Err(missing()),
        Ok(value) => Ok(value),
        Err(error) => Err(ApiError::invalid(not_json(text, &error))),
    }
}

fn not_json(text: &str, error: &serde_json::Error) -> ValidationItem {
    // Depth first: the search for Python's words must not follow where the parser would not go.
    let ours = error.to_string();
    let ours = ours.split(" at line ").next().unwrap_or_default().to_owned();
    let found = if ours.starts_with("recursion limit") {
        None
    } else {
        python_json::flaw(text)
    };
    let (at, says) = match found {
        Some(flaw) => (flaw.at, flaw.text.to_owned()),
        None => (position(text, error), ours),
    };
    let loc = vec!["body".into(), at.into()];
    ValidationItem::new("json_invalid", loc, "JSON decode error", json!({})).with_ctx(json!({ "error": says }))
}

fn position(text: &str, error: &serde_json::Error) -> usize {
    let before = text.split_inclusive('\n').take(error.line().saturating_sub(1));
    before.map(|line| line.chars().count()).sum::<usize>() + error.column().saturating_sub(1)
}

fn is_json(headers: &HeaderMap) -> bool {
    let given = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.strip_prefix("application/");
    subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// Reads a query parameter; the last one if it is given several times.
pub(super) fn query<T: FromInput>(parts: &Parts, name: &'static str) -> Result<Option<T>, ApiError> {
    query_by(parts, name, T::from_input)
}

/// As [`query`], with a rule of its own.
pub(super) fn query_by<T>(
    parts: &Parts,
    name: &'static str,
    read: impl FnOnce(&Input<'_>) -> Option<Parsed<T>>,
) -> Result<Option<T>, ApiError> {
    let given = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
    let Some((_, text)) = given.filter(|(key, _)| key == name).last() else {
        return Ok(None);
    };
    let value = Value::String(text.into_owned());
    let parsed = Input::read(&value, &["query".into(), name.into()], read)?;
    Ok(Some(parsed.value))
}

/// Mistakes of one call, collected from all its parts so that they are told together.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<ValidationItem>);

impl Mistakes {
    /// Takes what was read, or notes what is wrong with it. Errors of other kinds end the call.
    pub(super) fn note<T, E: Into<ApiError>>(&mut self, read: Result<T, E>) -> Result<Option<T>, ApiError> {
        match read.map_err(Into::into) {
            Ok(value) => Ok(Some(value)),
            Err(ApiError::Invalid(items)) => {
                self.0.extend(items);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

impl From<Mistakes> for ApiError {
    fn from(mistakes: Mistakes) -> Self {
        Self::from(ValidationErrors(mistakes.0))
    }
}

#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing {
    //! See [`super::super::fuzzing`].

    use http::HeaderMap;
    use serde_json::Value;

    use super::super::error::ApiError;

    /// Reads a body of JSON; returns the place and the words of what is wrong with it, if anything is.
    pub fn json_body(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, String> {
        super::json(headers, bytes).map_err(|error| match error {
            ApiError::Invalid(items) => format!("{:?} {:?}", items, items.first().and_then(|item| item.ctx.as_ref())),
            other => format!("{other:?}"),
        })
    }
}
