//! What becomes of one piece of code, from the kernel's messages about it (`contracts/businesses.md` 4.7).

use std::fmt::Write as _;

use serde_json::Value;

use super::message::KernelMessage;

/// Most bytes of output that are kept.
const OUTPUT: usize = 1024 * 1024;

/// How code ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Well.
    Printed(String),
    /// With an exception, or not at all: what the kernel says about it, without colours.
    Raised(String),
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
    raised: Option<String>,
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
    pub(super) const fn new(id: String) -> Self {
        Self {
            id,
            output: String::new(),
            dropped: 0,
            raised: None,
            has_answered: false,
            is_idle: false,
        }
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
                self.raised.get_or_insert_with(|| traceback(content));
            }
            "execute_reply" => {
                self.has_answered = true;
                if text("status") != Some("ok") {
                    self.raised.get_or_insert_with(|| traceback(content));
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

    /// Returns how it ended.
    pub(crate) fn outcome(self) -> Outcome {
        if let Some(traceback) = self.raised {
            return Outcome::Raised(traceback);
        }
        let mut output = self.output;
        if self.dropped > 0 {
            write!(output, "… ({} more bytes)", self.dropped).expect("a String takes everything");
        }
        Outcome::Printed(output)
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

/// Returns what a kernel says about an exception; never nothing.
fn traceback(content: &Value) -> String {
    let lines = content.get("traceback").and_then(Value::as_array);
    let lines: Vec<_> = lines.into_iter().flatten().filter_map(Value::as_str).collect();
    let text = plain(&lines.join("\n"));
    if !text.trim().is_empty() {
        return text;
    }
    let said = |key: &str| content.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (said("ename"), said("evalue")) {
        (Some(name), Some(value)) => format!("{name}: {value}"),
        (Some(text), None) | (None, Some(text)) => text.to_owned(),
        (None, None) => format!("the kernel gave the status `{}`", said("status").unwrap_or("error")),
    }
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
        assert_eq!(execution.outcome(), Outcome::Printed("ab".to_owned()));
        let (execution, _) = run(&[idle(), stream("c"), reply("ok")]);
        assert!(execution.has_ended());
        assert_eq!(execution.outcome(), Outcome::Printed("c".to_owned()));
    }

    #[test]
    fn an_exception_is_told_once_and_without_colours() {
        let error = (
            "error",
            json!({"ename": "E", "evalue": "v", "traceback": ["\x1b[0;31mE\x1b[0m", ": v"]}),
        );
        let other = ("execute_reply", json!({"status": "error", "traceback": ["another"]}));
        let (execution, _) = run(&[stream("a"), error.clone(), other.clone(), idle()]);
        assert!(execution.has_ended());
        assert_eq!(execution.outcome(), Outcome::Raised("E\n: v".to_owned()));
        assert_eq!(run(&[other]).0.outcome(), Outcome::Raised("another".to_owned()));
        assert!(run(&[error]).0.is_decided());
        assert_eq!(
            run(&[reply("aborted")]).0.outcome(),
            Outcome::Raised("the kernel gave the status `aborted`".to_owned())
        );
        let bare = ("error", json!({"ename": "KeyError", "evalue": "'x'", "traceback": []}));
        assert_eq!(run(&[bare]).0.outcome(), Outcome::Raised("KeyError: 'x'".to_owned()));
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
        let Outcome::Printed(output) = execution.outcome() else {
            panic!("it printed")
        };
        assert!(
            output.ends_with("éx… (3 more bytes)"),
            "{}",
            &output[output.len() - 40..]
        );
    }
}
