//! How a lab comes: the hub's stream of events (`contracts/businesses.md` 4.4).

use http::header::CONTENT_TYPE;
use reqwest::Response;
use serde::Deserialize;

use super::browser::Answer;
use super::error::{NubladoError, Request};

/// Longest line, and longest event, that is read.
const LONGEST: usize = 256 * 1024;

/// A stream of events.
#[derive(Debug)]
pub(crate) struct Progress {
    request: Request,
    limit: std::time::Duration,
    response: Response,
    events: Events,
}

/// What the hub says about a lab that comes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct SpawnEvent {
    /// Percent.
    pub(crate) progress: i64,
    /// What happened.
    pub(crate) message: String,
    /// Whether the lab is there.
    #[serde(default)]
    pub(crate) ready: bool,
}

impl Progress {
    pub(super) async fn open(answer: Answer) -> Result<Self, NubladoError> {
        let kind = answer.header(CONTENT_TYPE).unwrap_or_default();
        if !kind.to_ascii_lowercase().contains("text/event-stream") {
            let what = format!("its content type is `{}`, not text/event-stream", kind.escape_debug());
            return Err(answer.unexpected(what).await);
        }
        let limit = answer.limit();
        let (request, response) = answer.into_parts();
        Ok(Self {
            request,
            limit,
            response,
            events: Events::default(),
        })
    }

    /// Returns the next event, or the text of something that is none; `None` at the end.
    ///
    /// # Cancel safety
    ///
    /// Safe: what has come stays in the buffer.
    pub(crate) async fn next(&mut self) -> Result<Option<Result<SpawnEvent, String>>, NubladoError> {
        loop {
            if let Some(data) = self.events.next() {
                return Ok(Some(serde_json::from_str(&data).map_err(|_| data)));
            }
            match self.response.chunk().await {
                Ok(Some(chunk)) => self.events.push(&chunk),
                Ok(None) => return Ok(None),
                Err(error) => return Err(NubladoError::of(self.request.clone(), self.limit, error)),
            }
        }
    }
}

/// Cuts a stream into events, of which only the data matter.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// What has come of the current line.
    line: Vec<u8>,
    /// The data of the current event.
    data: Option<String>,
    /// Whether the last byte was a carriage return, so that a line feed belongs to it.
    was_return: bool,
    ready: std::collections::VecDeque<String>,
}

impl Events {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            let was_return = std::mem::replace(&mut self.was_return, byte == b'\r');
            match byte {
                b'\n' if was_return => {}
                b'\n' | b'\r' => self.end_line(),
                _ if self.line.len() < LONGEST => self.line.push(byte),
                _ => {}
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<String> {
        self.ready.pop_front()
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.ready.extend(self.data.take());
            return;
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        if field.trim_start_matches('\u{feff}') != "data" {
            return;
        }
        let value = value.strip_prefix(' ').unwrap_or(value);
        match &mut self.data {
            Some(data) if data.len() + value.len() < LONGEST => {
                data.push('\n');
                data.push_str(value);
            }
            Some(_) => {}
            none => *none = Some(value.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(text: &str, size: usize) -> Vec<String> {
        let mut events = Events::default();
        for chunk in text.as_bytes().chunks(size) {
            events.push(chunk);
        }
        std::iter::from_fn(|| events.next()).collect()
    }

    #[test]
    fn events_are_found_however_they_are_cut() {
        let text = ": keep-alive\n\n\ndata: one\n\nevent: x\r\ndata:two\r\ndata\rdata:  three é\r\r: no\nid: 3\n\ndata: cut off\n";
        for size in [1, 2, 7, 1000] {
            assert_eq!(events(text, size), ["one", "two\n\n three é"], "{size}");
        }
    }

    #[test]
    fn an_event_needs_progress_and_message_and_is_otherwise_free() {
        let event = |text| serde_json::from_str::<SpawnEvent>(text).ok();
        let ready = event(r#"{"progress": 100, "message": "there", "ready": true, "url": "/x", "failed": false}"#);
        assert!(ready.is_some_and(|event| event.ready && event.message == "there"));
        assert!(event(r#"{"progress": 0, "message": "comes"}"#).is_some_and(|event| !event.ready));
        for garbage in [
            "",
            "[]",
            r#"{"progress": 1}"#,
            r#"{"message": "m"}"#,
            r#"{"progress": "x", "message": "m"}"#,
        ] {
            assert_eq!(event(garbage), None, "{garbage}");
        }
    }
}
