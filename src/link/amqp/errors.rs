//! What lapin's errors mean to a caller of the link.

use std::io;
use std::time::Duration;

use lapin::ErrorKind;
use lapin::uri::AMQPScheme;

use super::config::BrokerUrl;
use super::tls::EndedAtHandshake;
use crate::link::{BoxError, LinkError};

/// The broker's reply codes that we tell apart.
pub(super) mod code {
    /// Missing permission, or a wrong password.
    pub(crate) const ACCESS_REFUSED: u16 = 403;
    /// No such exchange or queue.
    pub(crate) const NOT_FOUND: u16 = 404;
    /// Another connection has the exclusive queue.
    pub(crate) const RESOURCE_LOCKED: u16 = 405;
    /// Declared with other arguments.
    pub(crate) const PRECONDITION_FAILED: u16 = 406;
    /// A virtual host that does not exist or is not for this user.
    pub(crate) const NOT_ALLOWED: u16 = 530;
}

/// Returns the broker's reply code, if the broker spoke.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Returns the error's own words: the broker's without lapin's preface, if the broker spoke.
pub(super) fn words(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// An error that ends the session.
pub(super) fn closed(error: &lapin::Error) -> LinkError {
    LinkError::Closed { reason: words(error) }
}

/// An error of declaring, binding or consuming `object`.
pub(super) fn of_object(object: &str, error: &lapin::Error) -> LinkError {
    meaning(object, reply_code(error), words(error))
}

fn meaning(object: &str, code: Option<u16>, reason: String) -> LinkError {
    match code {
        // A stream whose nodes come back one after the other. It is as it should be, and nobody must do anything.
        Some(code::PRECONDITION_FAILED) if reason.contains("running replica") => LinkError::Closed { reason },
        Some(code::ACCESS_REFUSED | code::PRECONDITION_FAILED) => LinkError::Refused {
            object: object.to_owned(),
            reason,
        },
        Some(code::RESOURCE_LOCKED) => LinkError::NameInUse {
            name: object.to_owned(),
        },
        _ => LinkError::Closed { reason },
    }
}

/// An error of publishing to the exchange or queue `target`.
pub(super) fn of_publish(target: &str, error: &lapin::Error) -> LinkError {
    match reply_code(error) {
        Some(code::ACCESS_REFUSED) => LinkError::Refused {
            object: target.to_owned(),
            reason: words(error),
        },
        _ => closed(error),
    }
}

/// Says whether the peer ended the connection without a word, as a TCP stack sees it.
fn cut_off(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::IOError(error) if matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    ))
}

/// An error of connecting to `broker`.
pub(super) fn of_connect(broker: &BrokerUrl, error: lapin::Error) -> LinkError {
    let (host, user, vhost) = (broker.host(), broker.user(), broker.vhost());
    match reply_code(&error) {
        Some(code::ACCESS_REFUSED) => LinkError::Refused {
            object: format!("user `{user}` at {host}"),
            reason: words(&error),
        },
        Some(code::NOT_ALLOWED) => LinkError::Refused {
            object: format!("virtual host `{vhost}` at {host}"),
            reason: words(&error),
        },
        _ if broker.uri().scheme == AMQPScheme::AMQPS && cut_off(&error) => LinkError::Unreachable {
            host,
            source: EndedAtHandshake(error).into(),
        },
        _ => LinkError::Unreachable {
            host,
            source: BoxError::from(error),
        },
    }
}

/// Gives an operation of the broker `limit` to end.
pub(super) async fn within<T>(
    limit: Duration,
    operation: &'static str,
    future: impl Future<Output = T>,
) -> Result<T, LinkError> {
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_| LinkError::TimedOut {
            operation,
            after: limit,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_without_a_running_replica_is_waited_for_and_other_arguments_are_not() {
        let meaning = |reason: &str| meaning("f.state", Some(code::PRECONDITION_FAILED), reason.to_owned());
        for reason in [
            "PRECONDITION_FAILED - stream queue 'f.state' in vhost '/' does not have a running replica on the local node",
            "PRECONDITION_FAILED - stream queue 'f.state' in vhost '/' does not have any running replicas",
        ] {
            assert!(!meaning(reason).needs_attention(), "{reason}");
        }
        let reason = "PRECONDITION_FAILED - inequivalent arg 'x-max-length-bytes' for queue 'f.state' in vhost '/'";
        assert!(meaning(reason).needs_attention());
    }
}
