//! See [`crate::fuzzing`].

use http::header::{HeaderMap, HeaderValue, SET_COOKIE};
use mobu_fleet::runtime::clock;

use super::execution::Execution;
use super::message::{ExecuteRequest, Incoming};
use super::progress::{Events, SpawnEvent};
use super::xsrf;

/// Reads messages of a kernel in either form, as those of one execution; returns how it ended.
pub fn kernel_conversation(messages: &[&[u8]], is_v1: bool) -> Result<String, String> {
    let mut execution = Execution::new("id".to_owned());
    for message in messages {
        let incoming = if is_v1 {
            Incoming::from_v1(message)
        } else {
            Incoming::from_json(message)
        };
        match incoming {
            Incoming::Message(message) => drop(execution.take(&message)),
            Incoming::Garbage => {}
        }
    }
    let (printed, raised) = execution.into_parts();
    match raised {
        None => Ok(printed),
        Some(raised) => Err(raised.traceback),
    }
}

/// Writes a request in both forms and reads it back; returns the code that each says.
pub fn execute_request(code: &str) -> [Option<String>; 2] {
    let request = ExecuteRequest {
        username: code,
        session: "session",
        id: "id",
        at: clock::wall(),
        code,
    };
    let forms = [
        Incoming::from_json(request.to_json().as_bytes()),
        Incoming::from_v1(&request.to_v1()),
    ];
    forms.map(|form| match form {
        Incoming::Message(message) => Some(message.content.get("code")?.as_str()?.to_owned()),
        Incoming::Garbage => None,
    })
}

/// Cuts what comes in these pieces into events; returns how many say something of a lab, and how many do not.
pub fn progress(chunks: &[&[u8]]) -> (Vec<String>, usize) {
    let mut events = Events::default();
    let (mut said, mut others) = (Vec::new(), 0);
    for chunk in chunks {
        events.push(chunk);
        while let Some(data) = events.next() {
            match serde_json::from_str::<SpawnEvent>(&data) {
                Ok(event) => said.push(event.message),
                Err(_) => others += 1,
            }
        }
    }
    (said, others)
}

/// Reads the token that a cookie sets.
pub fn cookie(bytes: &[u8]) -> bool {
    let mut headers = HeaderMap::new();
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return false;
    };
    headers.insert(SET_COOKIE, value);
    xsrf::token(&headers).is_some()
}
