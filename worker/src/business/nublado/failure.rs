//! What a failure at hub or lab says of itself.

use crate::business::IterationError;
use crate::client::nublado::{NubladoError, SocketError};
use crate::monkey::Monkey;

/// Returns the failure of a request.
pub(super) fn failed(error: NubladoError, monkey: &Monkey) -> IterationError {
    let url = error.request().url().to_owned();
    let answer = error.answer().map(|(status, body)| (status, body.to_vec()));
    let failure = IterationError::retry(error.kind(), error).at_shown(&url);
    match answer {
        Some((status, body)) => failure.status(status).excerpt(&body, &monkey.user().token),
        None => failure,
    }
}

/// Returns the failure of opening a connection to a kernel.
pub(super) fn unopened(error: SocketError, monkey: &Monkey) -> IterationError {
    match error {
        SocketError::Refused(error) => {
            let url = error.request().url().to_owned();
            let answer = error.answer().map(|(status, body)| (status, body.to_vec()));
            let failure = IterationError::retry("websocket", SocketError::Refused(error)).at_shown(&url);
            match answer {
                Some((status, body)) => failure.status(status).excerpt(&body, &monkey.user().token),
                None => failure,
            }
        }
        error => IterationError::retry("websocket", error),
    }
}

/// Says what the monkey is at, before it goes on to something else.
pub(super) fn noted(error: IterationError, monkey: &Monkey) -> IterationError {
    match monkey.phase() {
        Some(phase) => error.during(phase),
        None => error,
    }
}
