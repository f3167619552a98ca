//! The two forms of a message to and from a kernel (`contracts/businesses.md` 4.7, 4.8).

use jiff::Timestamp;
use serde_json::{Value, json};

/// Name of the newer sub-protocol.
pub(super) const V1: &str = "v1.kernel.websocket.jupyter.org";

/// How messages are written on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// One JSON object per message.
    Json,
    /// [`V1`]: a table of offsets, then the parts.
    V1,
}

/// A message from the kernel, or something that is none.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    /// A message.
    Message(KernelMessage),
    /// Nobody can say what.
    Garbage,
}

/// A message from the kernel: what matters of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KernelMessage {
    /// What it is about.
    pub(super) kind: String,
    /// ID of the request that it belongs to.
    pub(super) parent: Option<String>,
    /// What it says.
    pub(super) content: Value,
}

/// A request to run code.
#[derive(Debug)]
pub(super) struct ExecuteRequest<'a> {
    pub(super) username: &'a str,
    pub(super) session: &'a str,
    pub(super) id: &'a str,
    pub(super) at: Timestamp,
    pub(super) code: &'a str,
}

const EXECUTE: &str = "execute_request";
const CHANNEL: &str = "shell";

impl ExecuteRequest<'_> {
    fn header(&self) -> Value {
        json!({
            "username": self.username,
            "version": "5.4",
            "session": self.session,
            "date": self.at.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00").to_string(),
            "msg_id": self.id,
            "msg_type": EXECUTE,
        })
    }

    fn content(&self) -> Value {
        json!({
            "code": self.code,
            "silent": false,
            "store_history": false,
            "user_expressions": {},
            "allow_stdin": false,
        })
    }

    /// Returns the message as one JSON object.
    pub(super) fn to_json(&self) -> String {
        let message = json!({
            "header": self.header(),
            "parent_header": {},
            "channel": CHANNEL,
            "content": self.content(),
            "metadata": {},
            "buffers": [],
        });
        message.to_string()
    }

    /// Returns the message in the form of [`V1`].
    pub(super) fn to_v1(&self) -> Vec<u8> {
        let (header, content) = (self.header().to_string(), self.content().to_string());
        frame(&[CHANNEL.as_bytes(), header.as_bytes(), b"{}", b"{}", content.as_bytes()])
    }
}

/// What labs call the state of a kernel that has died, whether or not they start another one in its place.
const DEAD: [&str; 3] = ["restarting", "autorestarting", "dead"];

/// Size of a number in the table of offsets.
const NUMBER: usize = size_of::<u64>();

/// Puts the table of offsets before the parts: how many there are, where each begins, and where the last one ends.
fn frame(parts: &[&[u8]]) -> Vec<u8> {
    let count = parts.len() + 1;
    let mut at = (1 + count) * NUMBER;
    let mut out = Vec::with_capacity(at + parts.iter().map(|part| part.len()).sum::<usize>());
    let number = |number: usize| u64::try_from(number).expect("sizes have 64 bits at most").to_le_bytes();
    out.extend_from_slice(&number(count));
    for part in parts {
        out.extend_from_slice(&number(at));
        at += part.len();
    }
    out.extend_from_slice(&number(at));
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Takes the parts apart again. `None` if the table does not fit to what follows.
fn parts(bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let number = |index: usize| {
        let at = index.checked_mul(NUMBER)?;
        let number = bytes.get(at..at.checked_add(NUMBER)?)?;
        usize::try_from(u64::from_le_bytes(number.try_into().ok()?)).ok()
    };
    let count = number(0)?;
    if count > bytes.len() / NUMBER {
        return None;
    }
    let offsets = (1..=count).map(number).collect::<Option<Vec<_>>>()?;
    offsets.windows(2).map(|pair| bytes.get(pair[0]..pair[1])).collect()
}

impl Incoming {
    /// Reads one JSON object, whatever frame it came in.
    pub(super) fn from_json(bytes: &[u8]) -> Self {
        let message = || {
            let mut message: Value = serde_json::from_slice(bytes).ok()?;
            let content = message.get_mut("content").map(Value::take)?;
            let header = message.get("header").unwrap_or(&Value::Null);
            KernelMessage::of(header, message.get("msg_type"), message.get("parent_header")?, content)
        };
        message().map_or(Self::Garbage, Self::Message)
    }

    /// Reads a message of [`V1`]. Binary buffers at its end do not matter.
    pub(super) fn from_v1(bytes: &[u8]) -> Self {
        let message = || {
            let parts = parts(bytes)?;
            let [_, header, parent, _, content, ..] = parts.as_slice() else {
                return None;
            };
            let read = |part: &[u8]| serde_json::from_slice::<Value>(part).ok();
            KernelMessage::of(&read(header)?, None, &read(parent)?, read(content)?)
        };
        message().map_or(Self::Garbage, Self::Message)
    }
}

impl KernelMessage {
    fn of(header: &Value, kind: Option<&Value>, parent: &Value, content: Value) -> Option<Self> {
        let kind = kind.or_else(|| header.get("msg_type"))?.as_str()?.to_owned();
        let parent = parent.get("msg_id").and_then(Value::as_str).map(str::to_owned);
        content.is_object().then_some(Self { kind, parent, content })
    }

    /// What it is about.
    pub(crate) fn kind(&self) -> &str {
        &self.kind
    }

    /// Returns the state of a kernel that has died, as the lab tells it. A kernel cannot say so itself: it is no answer to anything.
    pub(super) fn death(&self) -> Option<&'static str> {
        if self.kind != "status" || self.parent.is_some() {
            return None;
        }
        let state = self.content.get("execution_state")?.as_str()?;
        DEAD.into_iter().find(|dead| *dead == state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ExecuteRequest<'static> {
        ExecuteRequest {
            username: "bob",
            session: "s",
            id: "m",
            at: "2026-11-22T19:35:12.08093Z".parse().unwrap(),
            code: "print(1)",
        }
    }

    const JSON: &str = concat!(
        r#"{"header":{"username":"bob","version":"5.4","session":"s","date":"2026-11-22T19:35:12.080930+00:00","#,
        r#""msg_id":"m","msg_type":"execute_request"},"parent_header":{},"channel":"shell","content":{"code":"print(1)","#,
        r#""silent":false,"store_history":false,"user_expressions":{},"allow_stdin":false},"metadata":{},"buffers":[]}"#
    );

    #[test]
    fn a_request_has_the_form_of_the_contract() {
        assert_eq!(request().to_json(), JSON);
    }

    #[test]
    fn the_binary_form_says_the_same_as_the_other() {
        let bytes = request().to_v1();
        assert_eq!(bytes[..16], [6, 0, 0, 0, 0, 0, 0, 0, 56, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[48..56], u64::try_from(bytes.len()).unwrap().to_le_bytes());
        let split = parts(&bytes).unwrap();
        assert_eq!(split[0], b"shell");
        let json: Value = serde_json::from_str(JSON).unwrap();
        let read = |part: &[u8]| serde_json::from_slice::<Value>(part).unwrap();
        assert_eq!(
            (read(split[1]), read(split[4])),
            (json["header"].clone(), json["content"].clone())
        );
        assert_eq!(Incoming::from_v1(&bytes), Incoming::from_json(JSON.as_bytes()));
    }

    #[test]
    fn the_type_is_read_wherever_it_is() {
        let kind = |text: &str| match Incoming::from_json(text.as_bytes()) {
            Incoming::Message(message) => message.kind,
            Incoming::Garbage => "garbage".to_owned(),
        };
        assert_eq!(kind(r#"{"msg_type": "a", "parent_header": {}, "content": {}}"#), "a");
        assert_eq!(
            kind(r#"{"header": {"msg_type": "b"}, "parent_header": {}, "content": {}}"#),
            "b"
        );
        for garbage in [
            "",
            "1",
            "{}",
            r#"{"msg_type": "a", "content": {}}"#,
            r#"{"msg_type": "a", "parent_header": {}}"#,
        ] {
            assert_eq!(kind(garbage), "garbage", "{garbage}");
        }
    }

    #[test]
    fn tables_that_do_not_fit_are_garbage_and_nothing_worse() {
        let good = request().to_v1();
        for end in 0..good.len() {
            assert_eq!(Incoming::from_v1(&good[..end]), Incoming::Garbage, "{end}");
        }
        for (at, byte) in [(0, 0xff), (7, 0xff), (8, 0xff), (15, 0x80), (16, 0), (48, 0xff)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(Incoming::from_v1(&bad), Incoming::Garbage, "{at}");
        }
    }
}
