//! How a command can end, and the exit code that says so.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use mobu_fleet::domain::duration::HumanDuration;
use mobu_fleet::link::LinkError;
use serde_json::Value;

/// How a command that got its answers ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Everything was done: 0.
    Done,
    /// It was done in part; what failed has been said: 1.
    Failed,
    /// It was accepted, but not every replica has applied it in time: 4.
    Incomplete,
}

/// Why a command was given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The fleet answered with an error.
    #[error("the fleet answered {status}{}", Problems(.problems))]
    Refused {
        /// Status code and its name.
        status: reqwest::StatusCode,
        /// What is wrong, in the order of the answer.
        problems: Vec<Problem>,
    },
    /// The answer makes no sense.
    #[error("{origin} answered with something that is not mobu's: {reason}")]
    Foreign {
        /// Who was asked.
        origin: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Nobody answered.
    #[error("could not reach the fleet at {origin}")]
    Unreachable {
        /// Who was asked.
        origin: String,
        /// What the transport said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer did not come in time: whether the request was carried out is unknown.
    #[error("no answer from {origin} within {seconds} s; `mobu status` shows what became of it")]
    TimedOut {
        /// Who was asked.
        origin: String,
        /// How long was waited.
        seconds: f64,
    },
    /// A request could not be sent, or its answer not be heard.
    #[error("{}", not_sent(.id, .source))]
    Link {
        /// The request's ID.
        id: String,
        /// What the link said.
        source: LinkError,
    },
    /// A request is stored, and no coordinator has taken it yet.
    #[error("request {id} is stored, but no coordinator answered it within {seconds} s; one that leads later will")]
    Unanswered {
        /// The request's ID.
        id: String,
        /// How long was waited.
        seconds: f64,
    },
    /// What was typed, or the spec file, cannot be used.
    #[error("{0}")]
    Usage(String),
    /// A file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A report that was to be written before a change is not whole.
    #[error("the report is not whole, so nothing was changed")]
    Report,
    /// Nobody reads stdout any more, as in `mobu logs lambs | head`.
    #[error("nobody reads the output")]
    OutputClosed,
    /// The output cannot be written.
    #[error("cannot write the output")]
    Output(#[source] std::io::Error),
}

/// One thing that the fleet found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What is wrong, as in `business.EmptyLoop.options.idle_time`; empty if it has no place.
    pub place: String,
    /// What it is.
    pub message: String,
    /// The stable name of the error, as in `flock_not_found`; empty if it has none.
    pub kind: String,
}

impl Outcome {
    /// Returns the exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Incomplete => 4,
        }
    }
}

impl Failure {
    /// Returns the exit code.
    pub(crate) const fn code(&self) -> u8 {
        match self {
            // Whoever closed the pipe has what it wants.
            Self::OutputClosed => 0,
            Self::Refused { .. } | Self::Foreign { .. } | Self::File { .. } | Self::Report | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Link { source, .. } if source.needs_attention() => 1,
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::Link { .. } | Self::Unanswered { .. } => 3,
        }
    }

    /// Returns whether the fleet answered with an error of this stable name.
    pub(crate) fn is(&self, kind: &str) -> bool {
        matches!(self, Self::Refused { problems, .. } if problems.iter().any(|problem| problem.kind == kind))
    }

    /// Returns whether asking again later may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }

    /// Returns the error and all that caused it, as one text.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Several libraries repeat their cause in their own text.
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text
    }
}

fn not_sent(id: &str, source: &LinkError) -> String {
    match source {
        LinkError::Closed { .. } | LinkError::TimedOut { .. } => {
            format!("whether request {id} was stored is not known; sent again with `--message-id {id}` it counts once")
        }
        _ => "the request was not sent".to_owned(),
    }
}

/// Reads the body of an error: the three shapes that mobu gives, or any text.
pub(crate) fn problems(body: &[u8]) -> Vec<Problem> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(mut object)) => match object.remove("detail") {
            Some(Value::Array(items)) => items.iter().map(problem).collect(),
            Some(Value::String(text)) => vec![Problem::of_text(&text)],
            Some(other) => vec![Problem::of_text(&other.to_string())],
            None => vec![Problem::of_text(&String::from_utf8_lossy(body))],
        },
        Ok(_) | Err(_) => vec![Problem::of_text(&String::from_utf8_lossy(body))],
    }
    .into_iter()
    .filter(|problem| !problem.message.is_empty())
    .collect()
}

fn problem(item: &Value) -> Problem {
    let Some(message) = item.get("msg").and_then(Value::as_str) else {
        return Problem::of_text(&item.to_string());
    };
    Problem {
        place: item
            .get("loc")
            .and_then(Value::as_array)
            .map(|loc| place(loc))
            .unwrap_or_default(),
        message: with_hint(printable(message)),
        kind: item.get("type").and_then(Value::as_str).unwrap_or_default().to_owned(),
    }
}

/// Says how durations are written to whoever has written something else: mobu's words do not.
fn with_hint(message: String) -> String {
    if message.ends_with("as a time duration") {
        return format!("{message} (for example: {})", HumanDuration::EXAMPLES);
    }
    message
}

/// Writes a place as one would in a spec file; the part of the request is named only where it is not the body.
fn place(loc: &[Value]) -> String {
    let loc = match loc {
        [Value::String(part), rest @ ..] if !rest.is_empty() && matches!(part.as_str(), "body" | "path" | "query") => {
            rest
        }
        loc => loc,
    };
    let mut text = String::new();
    for part in loc {
        match part {
            Value::Number(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
            Value::String(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            other => text.push_str(&other.to_string()),
        }
    }
    printable(&text)
}

/// Most characters of a foreign error text that are shown.
const TEXT_SHOWN: usize = 400;

impl Problem {
    fn of_text(text: &str) -> Self {
        Self {
            place: String::new(),
            message: printable(text.trim()).chars().take(TEXT_SHOWN).collect(),
            kind: String::new(),
        }
    }
}

/// Keeps a server's text from moving the terminal's cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.place, self.message)
        }
    }
}

/// Problems as the end of a sentence: none, or one per line.
struct Problems<'a>(&'a [Problem]);

impl fmt::Display for Problems<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in self.0 {
            write!(f, "\n  {}", problem.to_string().replace('\n', "\n  "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;

    fn rendered(status: u16, body: &str) -> String {
        Failure::Refused {
            status: reqwest::StatusCode::from_u16(status).unwrap(),
            problems: problems(body.as_bytes()),
        }
        .to_string()
    }

    #[test]
    fn validation_errors_are_printed_with_their_place() {
        assert_snapshot!(rendered(422, r#"{"detail":[
            {"type":"value_error","loc":["body","business","EmptyLoop","options","idle_time"],"msg":"Value error, Could not parse '5 parsecs' as a time duration","input":"5 parsecs"},
            {"type":"string_pattern_mismatch","loc":["body","users",0,"username"],"msg":"String should match pattern '^bot-mobu'","input":"joe"},
            {"type":"value_error","loc":["body"],"msg":"Value error, both users and user_spec provided","input":{}},
            {"type":"missing","loc":["header","x-auth-request-user"],"msg":"Field required","input":null}]}"#), @r"
        the fleet answered 422 Unprocessable Entity
          business.EmptyLoop.options.idle_time: Value error, Could not parse '5 parsecs' as a time duration (for example: 90, 45s, 1m30s or 2 hours)
          users[0].username: String should match pattern '^bot-mobu'
          body: Value error, both users and user_spec provided
          header.x-auth-request-user: Field required
        ");
    }

    #[test]
    fn the_other_shapes_of_errors_are_printed_too() {
        assert_snapshot!(rendered(404, r#"{"detail":[{"msg":"Flock nope not found","type":"flock_not_found","loc":["path","flock"]}]}"#), @r"
        the fleet answered 404 Not Found
          flock: Flock nope not found
        ");
        assert_snapshot!(rendered(404, r#"{"detail":"Not Found"}"#), @r"
        the fleet answered 404 Not Found
          Not Found
        ");
        assert_snapshot!(rendered(500, "Internal Server Error"), @r"
        the fleet answered 500 Internal Server Error
          Internal Server Error
        ");
        assert_snapshot!(rendered(502, ""), @"the fleet answered 502 Bad Gateway");
    }

    #[test]
    fn an_error_text_cannot_move_the_cursor() {
        let problems = problems(b"{\"detail\":\"\\u001b[2Jgone\"}");
        assert_eq!(problems[0].message, " [2Jgone");
    }

    #[test]
    fn every_end_has_its_exit_code() {
        let unreachable = Failure::Unreachable {
            origin: "http://x".to_owned(),
            source: "refused".into(),
        };
        assert_eq!(unreachable.chain(), "could not reach the fleet at http://x: refused");
        assert_eq!(unreachable.code(), 3);
        assert_eq!(Failure::Usage(String::new()).code(), 2);
        assert_eq!(
            [Outcome::Done, Outcome::Failed, Outcome::Incomplete].map(Outcome::code),
            [0, 1, 4]
        );
    }
}
