//! What becomes of one piece of code, from the kernel's messages about it (`contracts/businesses.md` 4.7).

use std::fmt::Write as _;

use serde_json::Value;

use super::message::KernelMessage;
use crate::client::shown::{first_bytes, last_bytes};

/// Most bytes of output that are kept.
const OUTPUT: usize = 1024 * 1024;
/// Most bytes of what a kernel says about an exception that are kept, those at its end.
const TRACEBACK: usize = 256 * 1024;
/// Most bytes of an exception in one line.
const REASON: usize = 1024;

/// What a kernel says about code that did not end well, without colours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raised {
    /// The exception in one line; never empty.
    pub(crate) reason: String,
    /// How the code came to it; may be empty.
    pub(crate) traceback: String,
}

/// Code that runs.
///
/// It has ended when the kernel has answered and is idle again, in whatever order it says so: what was printed last may come
/// after the answer.
#[derive(Debug)]
pub(crate) struct Execution {
    /// ID of the request.
    id: String,
    output: String,
    /// How many bytes of output were not kept.
    dropped: usize,
    raised: Option<Raised>,
    has_answered: bool,
    is_idle: bool,
}

/// What a message meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// It belongs to something else, or does not matter.
    Nothing,
    /// The code goes on.
    Progress,
    /// Nobody knows such messages.
    Unknown,
}

impl Execution {
    /// Makes one that is to run under this ID.
    pub(crate) const fn new(id: String) -> Self {
        Self {
            id,
            output: String::new(),
            dropped: 0,
            raised: None,
            has_answered: false,
            is_idle: false,
        }
    }

    /// ID of the request.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Takes a message of the kernel.
    pub(crate) fn take(&mut self, message: &KernelMessage) -> Meaning {
        if message.parent.as_ref() != Some(&self.id) {
            return Meaning::Nothing;
        }
        let content = &message.content;
        let text = |key: &str| content.get(key).and_then(Value::as_str);
        match message.kind.as_str() {
            "stream" => self.append(text("text").unwrap_or_default()),
            "error" => {
                self.raised.get_or_insert_with(|| raised(content));
            }
            "execute_reply" => {
                self.has_answered = true;
                if text("status") != Some("ok") {
                    self.raised.get_or_insert_with(|| raised(content));
                }
            }
            "status" if text("execution_state") == Some("idle") => self.is_idle = true,
            "comm_close"
            | "comm_msg"
            | "comm_open"
            | "display_data"
            | "execute_input"
            | "execute_result"
            | "status"
            | "clear_output"
            | "update_display_data" => return Meaning::Nothing,
            _ => return Meaning::Unknown,
        }
        Meaning::Progress
    }

    /// Returns whether nothing more can come.
    pub(crate) const fn has_ended(&self) -> bool {
        self.has_answered && self.is_idle
    }

    /// Returns whether the result is known, so that silence means the end.
    pub(crate) const fn is_decided(&self) -> bool {
        self.has_answered || self.raised.is_some()
    }

    /// Returns what it has printed so far, and what went wrong, if the kernel has said that anything did.
    pub(crate) fn into_parts(self) -> (String, Option<Raised>) {
        let mut output = self.output;
        if self.dropped > 0 {
            write!(output, "… ({} more bytes)", self.dropped).expect("a String takes everything");
        }
        (output, self.raised)
    }

    fn append(&mut self, text: &str) {
        let room = if self.dropped > 0 {
            0
        } else {
            OUTPUT - self.output.len()
        };
        let cut = (0..=room.min(text.len())).rfind(|end| text.is_char_boundary(*end));
        let (kept, dropped) = text.split_at(cut.unwrap_or_default());
        self.output.push_str(kept);
        self.dropped += dropped.len();
    }
}

/// Returns what a kernel says about an exception.
fn raised(content: &Value) -> Raised {
    let lines = content.get("traceback").and_then(Value::as_array);
    let lines: Vec<_> = lines.into_iter().flatten().filter_map(Value::as_str).collect();
    let text = plain(&lines.join("\n"));
    let traceback = last_bytes(text.trim_end(), TRACEBACK).to_owned();
    let said = |key: &str| {
        let text = plain(content.get(key).and_then(Value::as_str)?);
        let line = text.lines().map(str::trim).find(|line| !line.is_empty());
        line.map(|line| first_bytes(line, REASON).to_owned())
    };
    let reason = match (said("ename"), said("evalue")) {
        (Some(name), Some(value)) => format!("{name}: {value}"),
        (Some(text), None) => text,
        // Rulers are drawn below headings, and say nothing.
        (None, value) => {
            let mut lines = traceback.lines().rev().map(str::trim);
            let last = lines.find(|line| line.contains(|c: char| c != '-' && c != '='));
            let last = last.map(|line| first_bytes(line, REASON).to_owned());
            let status = || said("status").unwrap_or_else(|| "error".to_owned());
            value
                .or(last)
                .unwrap_or_else(|| format!("the kernel gave the status `{}`", status()))
        }
    };
    Raised { reason, traceback }
}

/// Returns a text without the sequences that colour it on a terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\x1b' {
            out.push(c);
            continue;
        }
        match rest.peek() {
            Some('[') => {
                rest.next();
                // Parameters, and then the letter that says what it does.
                while rest.next().is_some_and(|c| !('\x40'..='\x7e').contains(&c)) {}
            }
            Some(_) => drop(rest.next()),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(parent: &str, kind: &str, content: Value) -> KernelMessage {
        KernelMessage {
            kind: kind.to_owned(),
            parent: Some(parent.to_owned()),
            content,
        }
    }

    fn run(messages: &[(&str, Value)]) -> (Execution, Vec<Meaning>) {
        let mut execution = Execution::new("m".to_owned());
        let meanings = messages
            .iter()
            .map(|(kind, content)| execution.take(&message("m", kind, content.clone())))
            .collect();
        (execution, meanings)
    }

    fn stream(text: &str) -> (&'static str, Value) {
        ("stream", json!({"name": "stdout", "text": text}))
    }

    fn idle() -> (&'static str, Value) {
        ("status", json!({"execution_state": "idle"}))
    }

    fn reply(status: &str) -> (&'static str, Value) {
        ("execute_reply", json!({"status": status}))
    }

    #[test]
    fn output_is_kept_until_the_kernel_has_answered_and_is_idle() {
        let busy = ("status", json!({"execution_state": "busy"}));
        let messages = [busy, stream("a"), reply("ok"), stream("b"), idle()];
        let (mut execution, _) = run(&messages[..4]);
        assert!(execution.is_decided() && !execution.has_ended());
        execution.take(&message("other", "stream", json!({"text": "not ours"})));
        execution.take(&message("m", "status", json!({"execution_state": "idle"})));
        assert!(execution.has_ended());
        assert_eq!(execution.into_parts(), ("ab".to_owned(), None));
        let (execution, _) = run(&[idle(), stream("c"), reply("ok")]);
        assert!(execution.has_ended());
        assert_eq!(execution.into_parts(), ("c".to_owned(), None));
    }

    #[test]
    fn an_exception_is_told_once_and_without_colours() {
        let error = (
            "error",
            json!({"ename": "E", "evalue": "v", "traceback": ["\x1b[0;31mE\x1b[0m", ": v"]}),
        );
        let other = (
            "execute_reply",
            json!({"status": "error", "traceback": ["first", "last", "-----\n"]}),
        );
        let (execution, _) = run(&[stream("a"), error.clone(), other.clone(), idle()]);
        assert!(execution.has_ended());
        let raised = |reason: &str, traceback: &str| {
            let (reason, traceback) = (reason.to_owned(), traceback.to_owned());
            Some(Raised { reason, traceback })
        };
        assert_eq!(
            execution.into_parts(),
            ("a".to_owned(), raised("E: v", "E\n: v")),
            "what was printed before is kept"
        );
        let why = |message| run(&[message]).0.into_parts().1;
        assert_eq!(why(other), raised("last", "first\nlast\n-----"));
        assert!(run(&[error]).0.is_decided());
        assert_eq!(
            why(reply("aborted")),
            raised("the kernel gave the status `aborted`", "")
        );
        let bare = ("error", json!({"ename": "KeyError", "evalue": "'x'", "traceback": []}));
        assert_eq!(why(bare), raised("KeyError: 'x'", ""));
        let lines = ("error", json!({"ename": "\x1b[1mE", "evalue": "\n one\ntwo"}));
        assert_eq!(why(lines), raised("E: one", ""));
    }

    #[test]
    fn of_an_endless_traceback_the_end_is_kept_and_of_an_endless_reason_the_beginning() {
        let long = "x".repeat(2 * TRACEBACK);
        let error = (
            "error",
            json!({"ename": "E", "evalue": long, "traceback": [long, "the end"]}),
        );
        let raised = run(&[error]).0.into_parts().1.unwrap();
        assert!(raised.traceback.len() <= TRACEBACK && raised.traceback.ends_with("the end"));
        assert!(raised.reason.len() < REASON + 8 && raised.reason.starts_with("E: xx"));
    }

    #[test]
    fn messages_that_nobody_knows_are_told_from_those_that_do_not_matter() {
        let (_, meanings) = run(&[("display_data", json!({})), ("debug_event", json!({})), stream("a")]);
        assert_eq!(meanings, [Meaning::Nothing, Meaning::Unknown, Meaning::Progress]);
    }

    #[test]
    fn endless_output_is_counted_and_not_kept() {
        let (execution, _) = run(&[
            stream(&"é".repeat(OUTPUT / 2 - 1)),
            stream("xé"),
            stream("y"),
            reply("ok"),
            idle(),
        ]);
        let (output, _) = execution.into_parts();
        assert!(
            output.ends_with("éx… (3 more bytes)"),
            "{}",
            &output[output.len() - 40..]
        );
    }
}
