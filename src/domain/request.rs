//! Reading requests from outside, with the same errors as the HTTP API.

use serde_json::Value;

use super::desired::Command;
use super::flock::{FlockConfig, flock_name};
use super::messages::{REQUEST_KIND, WireError};
use super::validation::{Extra, FromInput as _, Input, Parsed, ValidationErrors};

/// A request that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedRequest {
    /// What it asks.
    pub command: Command,
    /// Whether a second answer is wanted once every replica has applied the change.
    pub wait: bool,
}

/// Why a request cannot be carried out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// It is no request at all, or one of another version.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// It breaks rules.
    #[error(transparent)]
    Invalid(#[from] ValidationErrors),
}

/// The kinds of requests, as they are named on the wire.
const KINDS: [(&str, Kind); 3] = [("start", Kind::Start), ("stop", Kind::Stop), ("refresh", Kind::Refresh)];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Start,
    Stop,
    Refresh,
}

/// Reads a request: its AMQP `type`, which may be empty, and its JSON.
///
/// # Errors
///
/// [`RequestError`], with every mistake and its place below `body`.
pub fn parse(kind: &str, payload: &[u8]) -> Result<ParsedRequest, RequestError> {
    if !kind.is_empty() && kind != REQUEST_KIND {
        let theirs = kind.chars().take(80).collect();
        return Err(WireError::Kind {
            theirs,
            ours: REQUEST_KIND,
        }
        .into());
    }
    let read = serde_json::from_slice(payload);
    let value: Value = read.map_err(|error| WireError::malformed(REQUEST_KIND, &error))?;
    Ok(Input::read(&value, &["body".into()], request)?.value)
}

fn request(input: &Input<'_>) -> Option<Parsed<ParsedRequest>> {
    let mut fields = input.document()?;
    let kind = fields.required_by("kind", |input| input.choice("enum", &KINDS, false))?;
    let wait = fields.or("wait", false);
    let command = match kind {
        Kind::Start => fields
            .required::<FlockConfig>("flock")
            .map(|flock| Command::Start(Box::new(flock))),
        Kind::Stop => {
            let flock = fields.nullable_by("flock", flock_name);
            let all = fields.or("all", false);
            let is_unreadable = |all: &Value| Input::read(all, &[], bool::from_input).is_err();
            match (flock, all) {
                (None, _) if input.value().get("flock").is_some_and(|flock| !flock.is_null()) => None,
                // What is wrong with it is told already.
                (None, false) if input.value().get("all").is_some_and(is_unreadable) => None,
                (Some(flock), false) => Some(Command::Stop(flock)),
                (None, true) => Some(Command::StopAll),
                _ => input.value_error("a stop names one flock, or has all set to true"),
            }
        }
        Kind::Refresh => {
            let flock = fields.nullable_by("flock", flock_name);
            let repo_url = fields.nullable::<String>("repo_url");
            let repo_ref = fields.nullable::<String>("repo_ref");
            match (flock, repo_url, repo_ref) {
                (Some(flock), None, None) => Some(Command::Refresh(flock)),
                (None, Some(repo_url), Some(repo_ref)) => Some(Command::RefreshRepository { repo_url, repo_ref }),
                _ => input.value_error("a refresh names one flock, or both repo_url and repo_ref"),
            }
        }
    };
    // Versions of the wire may be mixed: what a newer client says beside this is ignored.
    let echo = fields.close(Extra::Ignored)?;
    Some(Parsed::new(
        ParsedRequest {
            command: command?,
            wait,
        },
        echo,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(payload: &str) -> String {
        parse("", payload.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn every_kind_is_read() {
        let stop = parse("fleet.request.v1", br#"{"kind": "stop", "flock": "a", "wait": true}"#).unwrap();
        assert_eq!(
            stop,
            ParsedRequest {
                command: Command::Stop("a".parse().unwrap()),
                wait: true
            }
        );
        let stop_all = parse("", br#"{"kind": "stop", "all": true, "from": "the future"}"#).unwrap();
        assert_eq!(stop_all.command, Command::StopAll);
        let push = parse("", br#"{"kind": "refresh", "repo_url": "u", "repo_ref": "r"}"#).unwrap();
        assert_eq!(
            push.command,
            Command::RefreshRepository {
                repo_url: "u".to_owned(),
                repo_ref: "r".to_owned()
            }
        );
        let start = parse(
            "",
            br#"{"kind": "start", "flock": {"name": "a", "count": 1, "user_spec": {"username_prefix": "bot-mobu-a"},
                "scopes": [], "business": {"type": "EmptyLoop"}}}"#,
        );
        assert!(matches!(start.unwrap().command, Command::Start(config) if config.name.as_str() == "a"));
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        insta::assert_snapshot!(mistakes("{}"), @"body.kind: Field required");
        insta::assert_snapshot!(mistakes(r#"{"kind": "explode"}"#), @"body.kind: Input should be 'start', 'stop' or 'refresh'");
        insta::assert_snapshot!(mistakes(r#"{"kind": "stop"}"#), @"body: Value error, a stop names one flock, or has all set to true");
        insta::assert_snapshot!(mistakes(r#"{"kind": "start", "flock": {"name": "a/b", "count": 1, "scopes": []}}"#), @r"
        body.flock.name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'
        body.flock.business: Field required
        ");
        insta::assert_snapshot!(mistakes("[1, 2"), @"not a `fleet.request.v1`: EOF while parsing a list at line 1 column 5");
        let error = parse("fleet.request.v2", b"{}").unwrap_err();
        insta::assert_snapshot!(error, @"a message of type `fleet.request.v2` came where `fleet.request.v1` is expected");
    }
}
