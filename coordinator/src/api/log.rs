//! A monkey's log, streamed from its replica part by part: the next is asked for when the client has taken the last, so
//! nobody holds it whole.

use std::io;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use futures_lite::stream;
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use mobu_fleet::domain::ids::{FlockName, InstanceId, MonkeyName};
use mobu_fleet::domain::messages::{AnswerBody, Ask, LogPart};
use mobu_fleet::runtime::clock::wall;

use super::auth::caller;
use super::body::{Mistakes, query_by};
use super::error::{ApiError, DomainItem};
use super::flock_data::gather;
use super::flocks::Names;
use super::monkeys::not_found;
use super::{Api, snapshot};
use crate::fleet::handle::From as Asked;

/// Most bytes of a log that travel at once, as JSON: far below what a link carries.
const PART: u32 = 256 * 1024;

const BEGIN: HeaderName = HeaderName::from_static("x-log-offset");
const END: HeaderName = HeaderName::from_static("x-log-end");

/// Streams a monkey's log as it is now.
#[utoipa::path(get, path = "/flocks/{flock}/monkeys/{monkey}/log", tag = "mobu",
    params(
        ("flock" = String, Path), ("monkey" = String, Path),
        ("offset" = Option<u64>, Query, description = "First byte wanted; continue at the last answer's `x-log-end`"),
    ),
    responses(
    (status = 200, description = "The log: bytes `x-log-offset` to `x-log-end` of all that was ever logged", body = String, content_type = "text/plain"),
    (status = 404, description = "Logs are not kept, or unknown flock or monkey", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn log(
    State(api): State<Api>,
    Names((flock, monkey)): Names<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, _) = request.into_parts();
    let mut mistakes = Mistakes::default();
    let offset = mistakes.note(query_by(&parts, "offset", |input| input.integer(0, i64::MAX)))?;
    let by = mistakes.note(caller(&parts, &api.config.auth))?;
    let (Some(offset), Some(_)) = (offset, by) else {
        return Err(mistakes.into());
    };
    if !api.config.log_monkeys {
        return Err(ApiError::Missing(DomainItem {
            msg: "Mobu is not configured to retain monkey logs".to_owned(),
            kind: "mobu_not_retaining_logs",
            loc: None,
        }));
    }
    let status = snapshot::known(&api).await?;
    let flock = snapshot::flock(&status, &flock)?.config.name.clone();
    let wanted = Wanted {
        flock,
        monkey: MonkeyName::new(monkey.clone()),
    };
    let ask = wanted.from(offset.unwrap_or(0).unsigned_abs());
    let (answers, missing) = gather(&api, &status, ask).await?;
    let found = answers
        .into_iter()
        .find_map(|(id, bodies)| Some((id, log_part(bodies)?)));
    let Some((id, part)) = found else {
        return Err(not_found(&monkey, &missing));
    };
    Ok(streamed(api, wanted, id, part))
}

fn log_part(bodies: Vec<AnswerBody>) -> Option<LogPart> {
    bodies.into_iter().find_map(|body| match body {
        AnswerBody::Log(part) => Some(part),
        _ => None,
    })
}

#[derive(Debug)]
struct Wanted {
    flock: FlockName,
    monkey: MonkeyName,
}

impl Wanted {
    fn from(&self, offset: u64) -> Ask {
        Ask::Log {
            flock: self.flock.clone(),
            monkey: self.monkey.clone(),
            offset,
            limit: PART,
        }
    }
}

/// A log on its way to a client.
struct Reading {
    api: Api,
    wanted: Wanted,
    replica: InstanceId,
    /// The next byte to send.
    at: u64,
    /// Where the log ended when it was asked for; what comes later belongs to the next call.
    end: u64,
    /// A part that is here already.
    ahead: Option<LogPart>,
}

fn streamed(api: Api, wanted: Wanted, replica: InstanceId, part: LogPart) -> Response {
    let (begin, end) = (part.offset, part.end.max(part.offset));
    let disposition = disposition(&wanted);
    let reading = Reading {
        api,
        wanted,
        replica,
        at: begin,
        end,
        ahead: Some(part),
    };
    let parts = stream::try_unfold(reading, |mut reading| async move {
        let part = reading.next().await?;
        Ok::<_, io::Error>(part.map(|bytes| (bytes, reading)))
    });
    let mut response = Response::new(Body::from_stream(parts));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_DISPOSITION, disposition);
    headers.insert(BEGIN, HeaderValue::from(begin));
    headers.insert(END, HeaderValue::from(end));
    response
}

impl Reading {
    /// Returns the next bytes. An error cuts the connection, so that the client knows that something is missing.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let part = match self.ahead.take() {
            Some(part) => part,
            None => self.ask().await?,
        };
        if part.offset != self.at || part.text.is_empty() {
            // The client was so slow that the log moved on, or the monkey began anew.
            return Err(io::Error::other("the log is not kept from there any more"));
        }
        let mut text = part.text;
        let wanted = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        if wanted < text.len() {
            let boundary = (0..=wanted).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(boundary.unwrap_or(0));
            self.end = self.at + text.len() as u64;
        }
        self.at += text.len() as u64;
        Ok(Some(Bytes::from(text)))
    }

    async fn ask(&self) -> io::Result<LogPart> {
        let (ask, from) = (self.wanted.from(self.at), Asked::One(self.replica.clone()));
        let gathered = self.api.fleet.gather(ask, from, self.api.config.gather_timeout).await;
        let mut gathered = gathered.map_err(io::Error::other)?;
        let part = gathered.answers.remove(&self.replica).and_then(log_part);
        part.ok_or_else(|| io::Error::other("the replica does not answer any more"))
    }
}

/// mobu's file name; what could end the quoted text, or is not ASCII, becomes `_`.
fn disposition(wanted: &Wanted) -> HeaderValue {
    let safe = |c: char| {
        if (c == ' ' || c.is_ascii_graphic()) && !matches!(c, '"' | '\\' | '/') {
            c
        } else {
            '_'
        }
    };
    let monkey: String = wanted.monkey.as_str().chars().map(safe).collect();
    let now = wall().strftime("%Y-%m-%dT%H:%M:%S+00:00");
    let text = format!("attachment; filename=\"{}-{monkey}-{now}\"", wanted.flock);
    HeaderValue::from_str(&text).expect("every character was made safe")
}
