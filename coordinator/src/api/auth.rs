//! Who calls, and whether they may.
//!
//! Handlers ask by taking a [`Caller`]; whatever path led to them, nobody gets past it. Secrets are compared by their
//! digests in constant time, so neither content nor length shows in how long that takes.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use mobu_fleet::domain::validation::ValidationItem;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::error::ApiError;
use super::{Api, Auth};

/// The header in which the ingress names the user.
pub(super) const USER: HeaderName = HeaderName::from_static("x-auth-request-user");

/// What browsers say about where a request comes from.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Longest name that is kept of a caller, in characters: it becomes part of the state log.
const NAME_LENGTH: usize = 256;

/// Who calls: recorded beside every change, never used to decide anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller(pub(super) String);

/// Where the caller's name is left for the line that is logged of each call.
#[derive(Debug, Clone, Default)]
pub(super) struct Who(pub(super) Arc<OnceLock<String>>);

impl FromRequestParts<Api> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        caller(parts, &api.config.auth)
    }
}

/// Returns who calls.
pub(super) fn caller(parts: &Parts, auth: &Auth) -> Result<Caller, ApiError> {
    let name = match auth {
        Auth::Header => named_by_ingress(&parts.headers)?,
        Auth::Token(tokens) => {
            check_token(&parts.headers, tokens)?;
            "token".to_owned()
        }
        Auth::None => {
            check_host(&parts.headers)?;
            named_by_ingress(&parts.headers).unwrap_or_else(|_| "anonymous".to_owned())
        }
    };
    check_origin(parts)?;
    if let Some(who) = parts.extensions.get::<Who>() {
        // The first name stands; there is one call and one caller.
        drop(who.0.set(name.clone()));
    }
    Ok(Caller(name))
}

fn named_by_ingress(headers: &HeaderMap) -> Result<String, ApiError> {
    let loc = || vec!["header".into(), "x-auth-request-user".into()];
    let mut given = headers.get_all(USER).iter();
    let Some(user) = given.next() else {
        let item = ValidationItem::new("missing", loc(), "Field required", Value::Null);
        return Err(ApiError::invalid(item));
    };
    if given.next().is_some() {
        // An ingress sets the header once; a second one was smuggled past it.
        let item = ValidationItem::value_error(loc(), "the header must be given exactly once", Value::Null);
        return Err(ApiError::invalid(item));
    }
    let name = latin1(user);
    if name.trim().is_empty() {
        let msg = "String should have at least 1 character";
        let item = ValidationItem::new("string_too_short", loc(), msg, Value::String(name));
        return Err(ApiError::invalid(item.with_ctx(json!({ "min_length": 1 }))));
    }
    Ok(name.chars().take(NAME_LENGTH).collect())
}

fn latin1(value: &HeaderValue) -> String {
    value.as_bytes().iter().map(|byte| char::from(*byte)).collect()
}

fn check_token(headers: &HeaderMap, tokens: &[SecretString]) -> Result<(), ApiError> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (given.next(), given.next()) else {
        return Err(ApiError::Unauthenticated("A bearer token is required"));
    };
    let token = match only.as_bytes().split_at_checked(7) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"bearer ") => token.trim_ascii(),
        _ => return Err(ApiError::Unauthenticated("A bearer token is required")),
    };
    let digest = Sha256::digest(token);
    // Every token is compared, whichever matches.
    let known = tokens.iter().filter(|known| !known.expose_secret().is_empty());
    let matches = known.fold(Choice::from(0), |found, known| {
        found | Sha256::digest(known.expose_secret().as_bytes()).ct_eq(&digest)
    });
    if bool::from(matches) {
        Ok(())
    } else {
        Err(ApiError::Unauthenticated("The bearer token is not valid"))
    }
}

/// Refuses what a page of another site makes a browser send: its user did not ask for that.
fn check_origin(parts: &Parts) -> Result<(), ApiError> {
    if matches!(parts.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    let foreign = match parts.headers.get(FETCH_SITE) {
        Some(site) => !matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => parts.headers.get(ORIGIN).is_some_and(|origin| {
            let origin = latin1(origin);
            let host = parts.headers.get(HOST).map(latin1);
            origin.split_once("://").map(|(_, origin)| origin.to_owned()) != host
        }),
    };
    if foreign {
        return Err(ApiError::Forbidden("Requests from pages of other sites are refused"));
    }
    Ok(())
}

/// Refuses hosts that are names of others: without any other check, a page whose name was pointed at this machine
/// could do everything.
fn check_host(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_ours = |host: &HeaderValue| {
        let host = latin1(host);
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => &host,
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
    };
    if headers.get_all(HOST).iter().all(is_ours) {
        Ok(())
    } else {
        Err(ApiError::Forbidden(
            "Without authentication, only localhost and IP addresses are served",
        ))
    }
}
