//! The AsyncAPI document: where every message goes, who sends it, and what it looks like.
//!
//! Made from [`Topology`] and the schemas of the messages, checked in as `docs/asyncapi.json`; a test compares. It is
//! written from the fleet's side: what outsiders send is an operation that receives. AMQP's properties appear among the
//! headers under their own names, because AsyncAPI has no other place that expressions can point to.

use serde_json::{Map, Value, json};

use super::topology::{Argument, Exchange, ExchangeKind, Lifetime, Queue, Topology};
use crate::domain::schema::{Document, MessageType, components, message_types};

/// Where the document belongs, from the root of the repository.
pub const PATH: &str = "docs/asyncapi.json";

/// Name of the fleet whose topology is described; replaced by [`FLEET`].
const FLEET_NAME: &str = "fleet";
/// What stands for the fleet's name in addresses.
const FLEET: &str = "{fleet}";
const INSTANCE_ID: &str = "instance_id";
const BINDING_VERSION: &str = "0.3.0";

/// Returns the document.
///
/// # Panics
///
/// Never: the names in it are constants that the tests read.
pub fn document() -> Document {
    let fleet = FLEET_NAME.parse().expect("a constant that is a name");
    let topology = Topology::new(fleet);
    let messages: Map<_, _> = message_types().iter().map(message).chain([dead_letter()]).collect();
    let value = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "mobu-fleet",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What a mobu fleet says and understands over RabbitMQ (AMQP 0.9.1). Outsiders need the channel \
                `requests` and the answers to it; all else is how coordinators and replicas work together, and may be \
                read but not written. Properties of AMQP are listed among the headers by their own names. See messages.md.",
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": { "broker": {
            "host": "{host}:{port}",
            "pathname": "/",
            "protocol": "amqp",
            "protocolVersion": "0.9.1",
            "description": "RabbitMQ, 3.10 or newer; the virtual host is the path of `MOBU_AMQP_URL`.",
            "variables": {
                "host": { "default": "localhost", "description": "Name or address of the broker." },
                "port": { "default": "5672", "description": "5671 for `amqps`." },
            },
            "security": [{ "$ref": "#/components/securitySchemes/user" }],
        } },
        "channels": channels(&topology),
        "operations": operations(),
        "components": {
            "messages": messages,
            "schemas": components(),
            "securitySchemes": { "user": {
                "type": "userPassword",
                "description": "A user of RabbitMQ with the permissions of its role; see messages.md.",
            } },
        },
    });
    Document::of_json(PATH, &value)
}

fn channels(topology: &Topology) -> Value {
    let replica = topology.replica(&INSTANCE_ID.parse().expect("a constant that is a name"));
    json!({
        "requests": exchange(
            &topology.requests(),
            "Requests from outside to the active coordinator. The routing key is empty, or the exchange's name.",
            &["Request"],
        ),
        "requestsQueue": queue(
            &topology.requests_queue(),
            "Requests that wait. The active coordinator takes them one by one and acknowledges each when it is durable.",
            &["Request"],
        ),
        "replies": exchange(
            &topology.replies(),
            "Answers to queues named `{fleet}.reply.<unique>`; the routing key is the queue's name, to which it is bound.",
            &["Answer", "RequestAnswer"],
        ),
        "reply": reply(&topology.reply("unique")),
        "dead": exchange(
            &topology.dead(),
            "Messages that nobody could use, as they came, with the reason in a header.",
            &["DeadLetter"],
        ),
        "deadQueue": queue(
            &topology.dead_queue(),
            "Dead letters, kept for people to look at: the newest 1000, for two weeks.",
            &["DeadLetter"],
        ),
        "state": queue(
            &topology.state(),
            "The state log, a stream: every change of the desired state, in the order that decides. Written by coordinators \
                through the default exchange; read by all, each from an offset of its own.",
            &["LogEntry"],
        ),
        "broadcast": exchange(
            &topology.broadcast(),
            "What the leading coordinator tells everybody who listens now.",
            &["Announcement", "Query"],
        ),
        "replica": queue(
            &replica,
            "A replica's inbox, bound to the broadcasts and written directly too. It is exclusive: its name is the lock \
                that keeps a second process with the same instance ID out.",
            &["Announcement", "Query"],
        ),
        "reports": exchange(
            &topology.reports(),
            "What replicas and coordinators tell every coordinator.",
            &["Report", "CoordinatorReport"],
        ),
        "events": exchange(
            &topology.events(),
            "What monkeys did, for whoever binds a queue. The routing key is `flock.business.event`.",
            &["Event"],
        ),
        "leader": queue(
            &topology.leader(),
            "A lock without messages: the coordinator that holds this exclusive queue may claim the state log.",
            &[],
        ),
    })
}

/// A channel that somebody publishes to.
fn exchange(exchange: &Exchange, description: &str, messages: &[&str]) -> Value {
    let kind = match exchange.kind {
        ExchangeKind::Direct => "direct",
        ExchangeKind::Fanout => "fanout",
        ExchangeKind::Topic => "topic",
    };
    let name = address(&exchange.name);
    let amqp = json!({
        "is": "routingKey",
        "exchange": { "name": name, "type": kind, "durable": true, "autoDelete": false, "vhost": "/" },
        "bindingVersion": BINDING_VERSION,
    });
    channel(Some(&name), description, messages, &amqp)
}

/// A channel that somebody consumes from.
fn queue(queue: &Queue, description: &str, messages: &[&str]) -> Value {
    let mut channel = channel(
        Some(&address(&queue.name)),
        description,
        messages,
        &queue_binding(queue),
    );
    channel["x-arguments"] = queue
        .arguments
        .iter()
        .map(|(key, value)| {
            let value = match value {
                Argument::Text(text) => json!(address(text)),
                Argument::Number(number) => json!(number),
            };
            ((*key).to_owned(), value)
        })
        .collect::<Map<_, _>>()
        .into();
    channel
}

/// The channel of a requester: its address is known only at run time, from `reply_to`.
fn reply(queue: &Queue) -> Value {
    let description = "The requester's own queue, named by `reply_to`. If it is called `{fleet}.reply.<unique>` it must be \
        bound to the exchange `{fleet}.replies` with its own name; any other is written through the default exchange.";
    channel(None, description, &["Answer", "RequestAnswer"], &queue_binding(queue))
}

fn queue_binding(queue: &Queue) -> Value {
    json!({
        "is": "queue",
        "queue": {
            "name": address(&queue.name),
            "durable": queue.lifetime == Lifetime::Durable,
            "exclusive": queue.lifetime != Lifetime::Durable,
            "autoDelete": queue.lifetime == Lifetime::ExclusiveAutoDelete,
            "vhost": "/",
        },
        "bindingVersion": BINDING_VERSION,
    })
}

fn channel(address: Option<&str>, description: &str, messages: &[&str], amqp: &Value) -> Value {
    let messages: Map<_, _> = messages
        .iter()
        .map(|name| {
            (
                (*name).to_owned(),
                json!({ "$ref": format!("#/components/messages/{name}") }),
            )
        })
        .collect();
    let mut parameters = Map::new();
    for (name, description) in [
        ("fleet", "Name of the fleet (`MOBU_FLEET`), `mobu` unless set."),
        (INSTANCE_ID, "Name of the replica (`MOBU_INSTANCE_ID`)."),
    ] {
        if address.is_some_and(|address| address.contains(&format!("{{{name}}}"))) {
            parameters.insert(name.to_owned(), json!({ "description": description }));
        }
    }
    json!({
        "address": address,
        "description": description,
        "messages": messages,
        "parameters": parameters,
        "bindings": { "amqp": amqp },
    })
}

/// Puts placeholders where this document's fleet and replica are named.
fn address(name: &str) -> String {
    let name = name
        .strip_prefix(FLEET_NAME)
        .map_or_else(|| name.to_owned(), |rest| format!("{FLEET}{rest}"));
    match name.strip_suffix(&format!(".{INSTANCE_ID}")) {
        Some(rest) => format!("{rest}.{{{INSTANCE_ID}}}"),
        None => name.replace(".reply.unique", ".reply.<unique>"),
    }
}

fn operations() -> Value {
    let answered = |mut operation: Value, channel: &str, message: &str| {
        operation["reply"] = json!({
            "address": {
                "description": "The requester's queue, if it wants an answer.",
                "location": "$message.header#/reply_to",
            },
            "channel": { "$ref": format!("#/channels/{channel}") },
            "messages": [{ "$ref": format!("#/channels/{channel}/messages/{message}") }],
        });
        operation
    };
    json!({
        "receiveRequest": answered(
            operation(
                "receive",
                "requests",
                &["Request"],
                "The active coordinator carries out a request and answers: `accepted` or `rejected` at once, and with \
                    `wait` later `applied` or `incomplete`.",
                &json!({ "ack": true }),
            ),
            "reply",
            "RequestAnswer",
        ),
        "takeRequest": operation(
            "receive",
            "requestsQueue",
            &["Request"],
            "How a request reaches the coordinator; it is acknowledged once its outcome is durable.",
            &json!({ "ack": true }),
        ),
        "buryMessage": operation(
            "send",
            "dead",
            &["DeadLetter"],
            "A message that cannot be used is kept as it came.",
            &json!({ "deliveryMode": 2 }),
        ),
        "appendEntry": operation(
            "send",
            "state",
            &["LogEntry"],
            "The leader claims the log, or writes a change. An entry counts only once its author reads it back in its place.",
            &json!({ "deliveryMode": 2, "mandatory": true }),
        ),
        "readLog": operation(
            "receive",
            "state",
            &["LogEntry"],
            "Everybody folds the entries by the same rule; see messages.md.",
            &json!({ "ack": true }),
        ),
        "announce": operation(
            "send",
            "broadcast",
            &["Announcement"],
            "The leader says every 2 s, and after each change, what is newest.",
            &json!({ "deliveryMode": 1 }),
        ),
        "ask": answered(
            operation(
                "send",
                "broadcast",
                &["Query"],
                "A coordinator asks every replica something.",
                &json!({ "deliveryMode": 1 }),
            ),
            "reply",
            "Answer",
        ),
        "askOne": answered(
            operation(
                "send",
                "replica",
                &["Query"],
                "A coordinator asks one replica something.",
                &json!({ "deliveryMode": 1, "mandatory": true }),
            ),
            "reply",
            "Answer",
        ),
        "report": operation(
            "send",
            "reports",
            &["Report"],
            "A replica says every second, and after each change, what it runs.",
            &json!({ "deliveryMode": 1 }),
        ),
        "reportCoordinator": operation(
            "send",
            "reports",
            &["CoordinatorReport"],
            "A coordinator says every second that it is there and what it knows.",
            &json!({ "deliveryMode": 1 }),
        ),
        "publishEvent": operation(
            "send",
            "events",
            &["Event"],
            "A replica says what a monkey did, at most `eventRate` times a second; what goes beyond is dropped and counted. While nobody is bound to a key, \
             one event of those that go on is sent in a second, to see whether that has changed.",
            &json!({ "deliveryMode": 1, "mandatory": true }),
        ),
    })
}

fn operation(action: &str, channel: &str, messages: &[&str], description: &str, binding: &Value) -> Value {
    let messages: Vec<_> = messages
        .iter()
        .map(|name| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") }))
        .collect();
    let mut amqp = binding.clone();
    amqp["bindingVersion"] = BINDING_VERSION.into();
    json!({
        "action": action,
        "channel": { "$ref": format!("#/channels/{channel}") },
        "summary": description,
        "messages": messages,
        "bindings": { "amqp": amqp },
    })
}

fn message(message: &MessageType) -> (String, Value) {
    let examples: Vec<_> = message
        .examples
        .iter()
        .map(|(name, payload)| json!({ "name": name, "payload": payload }))
        .collect();
    let mut value = json!({
        "name": message.kind,
        "title": message.name,
        "contentType": "application/json",
        "headers": headers(message),
        "payload": { "$ref": format!("#/components/schemas/{}", message.name) },
        "examples": examples,
        "bindings": { "amqp": { "messageType": message.kind, "bindingVersion": BINDING_VERSION } },
    });
    if matches!(message.name, "Request" | "RequestAnswer" | "Query" | "Answer") {
        value["correlationId"] = json!({
            "description": "Copied from the question into every answer to it.",
            "location": "$message.header#/correlation_id",
        });
    }
    (message.name.to_owned(), value)
}

/// The properties of AMQP that matter for a message.
fn headers(message: &MessageType) -> Value {
    let text = |description: &str| json!({ "type": "string", "maxLength": 255, "description": description });
    let mut properties = Map::new();
    let mut property = |name: &str, value: Value| properties.insert(name.to_owned(), value);
    let mut kind = text("What the message is, with its major version.");
    kind["const"] = message.kind.into();
    property("type", kind);
    property("content_type", json!({ "const": "application/json" }));
    match message.name {
        "Request" => {
            property(
                "message_id",
                text(
                    "Names the request over repetitions: a second one of the same name changes nothing. A UUID, for example.",
                ),
            );
            property("correlation_id", text("Anything; copied into the answers."));
            property("reply_to", text("The queue for the answers, if any are wanted."));
            property(
                "delivery_mode",
                json!({ "const": 2, "description": "Persistent, so that the request outlives the broker's restart." }),
            );
        }
        "Query" => {
            property("correlation_id", text("Tells the answers to this query from others."));
            property("reply_to", text("The coordinator's queue for answers."));
            property(
                "expiration",
                text("Milliseconds after which nobody waits for an answer any more."),
            );
        }
        "Answer" | "RequestAnswer" => {
            property("correlation_id", text("The question's."));
        }
        _ => {}
    }
    json!({ "type": "object", "properties": properties })
}

fn dead_letter() -> (String, Value) {
    let value = json!({
        "name": "dead letter",
        "title": "DeadLetter",
        "summary": "Any message, as it came, with its properties.",
        "headers": {
            "type": "object",
            "properties": { "x-fleet-reason": { "type": "string", "description": "Why it could not be used." } },
        },
        "payload": {},
    });
    ("DeadLetter".to_owned(), value)
}

#[cfg(test)]
mod tests;
