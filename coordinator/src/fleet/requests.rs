//! Requests from outside: from a message to a wish, and from its outcome to the answers.

use mobu_fleet::domain::desired::CommandError;
use mobu_fleet::domain::ids::RequestId;
use mobu_fleet::domain::messages::{RequestAnswer, RequestOutcome, SCHEMA, Source, Wire, WireError};
use mobu_fleet::domain::request::{self, RequestError};
use mobu_fleet::domain::validation::ValidationErrors;
use mobu_fleet::link::Message;
use serde_json::{Value, json};

use super::change::{ChangeError, Outcome, Wish};

/// How long a reason in a dead letter's header may be, in characters.
const REASON: usize = 300;

/// A request that is not carried out.
#[derive(Debug)]
pub(super) struct Rejection {
    /// For its sender.
    pub(super) reply: Message,
    /// For the dead letter's header.
    pub(super) reason: String,
}

/// Reads a request.
pub(super) fn wish(message: &Message) -> Result<Wish, RequestError> {
    let parsed = request::parse(&message.kind, &message.payload)?;
    Ok(Wish {
        command: parsed.command,
        by: "request".to_owned(),
        source: Source::Amqp,
        // The names of one source are none of the others' business. An empty one is what a script with a mistake sends, again and again: it names nothing.
        request_id: message
            .message_id
            .as_ref()
            .filter(|id| !id.is_empty())
            .map(|id| RequestId::new(format!("amqp:{id}"))),
        wait: parsed.wait,
        dry_run: false,
    })
}

/// Says that a request is durable.
pub(super) fn accepted(outcome: &Outcome) -> Message {
    answer(RequestOutcome::Accepted {
        revision: outcome.revision,
        changed: outcome.change.is_some(),
    })
}

/// Says what the replicas made of a request.
pub(super) fn applied(outcome: &Outcome) -> Message {
    let (revision, replicas) = (outcome.revision, outcome.replicas.clone());
    let settled = outcome.change.is_none() || outcome.is_settled();
    answer(if settled {
        RequestOutcome::Applied { revision, replicas }
    } else {
        RequestOutcome::Incomplete {
            revision,
            replicas,
            missing: outcome.missing(),
        }
    })
}

/// Says why a request cannot be read.
pub(super) fn rejection(error: &RequestError) -> Rejection {
    match error {
        RequestError::Invalid(errors) => invalid(errors),
        RequestError::Wire(wire) => {
            let kind = match wire {
                WireError::Kind { .. } => "unknown_kind",
                WireError::Schema { .. } => "unknown_schema",
                WireError::Malformed { .. } => "json_invalid",
            };
            rejected(
                422,
                &json!([{"msg": wire.to_string(), "type": kind, "loc": ["body"]}]),
                &wire.to_string(),
            )
        }
    }
}

/// Says why a request that could be read is not carried out.
pub(super) fn refusal(error: &ChangeError) -> Rejection {
    let text = error.to_string();
    match error {
        ChangeError::Rules(errors) => invalid(errors),
        ChangeError::Command(CommandError::FlockNotFound(_)) => rejected(
            404,
            &json!([{"msg": text, "type": "flock_not_found", "loc": ["body", "flock"]}]),
            &text,
        ),
        ChangeError::TooLarge { .. } => rejected(413, &json!([{"msg": text, "type": "state_too_large"}]), &text),
        ChangeError::NotLeading { .. } | ChangeError::Unknown { .. } | ChangeError::Overloaded => {
            rejected(503, &json!([{"msg": text, "type": "coordinator_not_active"}]), &text)
        }
    }
}

fn invalid(errors: &ValidationErrors) -> Rejection {
    let detail = serde_json::to_value(errors).unwrap_or_default();
    rejected(422, &detail, &errors.to_string())
}

fn rejected(code: u16, detail: &Value, reason: &str) -> Rejection {
    let reply = answer(RequestOutcome::Rejected {
        code,
        error: json!({"detail": detail}),
    });
    Rejection {
        reply,
        reason: reason.chars().take(REASON).collect(),
    }
}

fn answer(outcome: RequestOutcome) -> Message {
    Message::new(
        RequestAnswer::KIND,
        RequestAnswer {
            schema: SCHEMA,
            outcome,
        }
        .encode(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_message_id_names_no_request() {
        let mut message = Message::new("", r#"{"kind": "stop", "all": true}"#);
        message.message_id = Some(String::new());
        assert_eq!(wish(&message).unwrap().request_id, None);
        message.message_id = Some("a".to_owned());
        assert_eq!(wish(&message).unwrap().request_id, Some(RequestId::new("amqp:a")));
    }
}
