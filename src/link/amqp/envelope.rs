//! Between our messages and AMQP's: where each goes and which properties it carries.

use std::time::Duration;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::link::topology::{Object, Topology};
use crate::link::{Address, LinkError, MAX_PAYLOAD, Message, ReplyAddress};
use crate::runtime::clock;

/// Why a message became a dead letter.
const REASON_HEADER: &str = "x-fleet-reason";
/// Longest reason that is sent, in bytes.
const MAX_REASON: usize = 512;
/// Longest text in an AMQP property, in bytes.
const MAX_PROPERTY: usize = 255;
/// AMQP's mark for messages that survive the broker, if their queue does.
const PERSISTENT: u8 = 2;
const TRANSIENT: u8 = 1;

/// How much an address promises, and with it on which channel its messages go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Promise {
    /// Stored and confirmed, or an error.
    Kept,
    /// Delivered if somebody listens, else an error.
    Heard,
    /// Loss is allowed.
    Soft,
    /// Loss is allowed, and there is plenty of it: few are on their way at once, so that they hold up nothing else, and none where
    /// nobody listens.
    Plenty,
    /// Loss is allowed, and so is that the broker closes the channel over it: an address from outside chose the target.
    Stray,
}

/// Where a message goes on the broker.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub(super) exchange: String,
    pub(super) key: String,
    pub(super) promise: Promise,
    /// To be declared first.
    pub(super) needs: Vec<Object>,
    /// For errors.
    pub(super) target: String,
    reason: Option<String>,
}

impl Route {
    fn exchange(exchange: crate::link::topology::Exchange, key: String, promise: Promise) -> Self {
        Self {
            exchange: exchange.name.clone(),
            key,
            promise,
            target: exchange.name.clone(),
            needs: vec![Object::Exchange(exchange)],
            reason: None,
        }
    }

    fn queue(name: String, promise: Promise) -> Self {
        Self {
            exchange: String::new(),
            key: name.clone(),
            promise,
            target: name,
            needs: Vec::new(),
            reason: None,
        }
    }

    /// The state log's.
    pub(super) fn log(topology: &Topology) -> Self {
        let state = topology.state();
        Self {
            needs: vec![Object::Queue(state.clone())],
            ..Self::queue(state.name, Promise::Kept)
        }
    }

    /// Finds the way to an address.
    pub(super) fn to(topology: &Topology, address: Address) -> Result<Self, LinkError> {
        Ok(match address {
            Address::Everyone => Self::exchange(topology.broadcast(), String::new(), Promise::Soft),
            Address::Coordinators => Self::exchange(topology.reports(), String::new(), Promise::Soft),
            Address::Events { key } => {
                short(&key)?;
                Self::exchange(topology.events(), key, Promise::Plenty)
            }
            Address::Replica(id) => {
                let name = topology.replica_name(&id);
                Self {
                    target: name.clone(),
                    ..Self::exchange(topology.replies(), name, Promise::Heard)
                }
            }
            Address::Inbox(id, number) => {
                let name = topology.inbox_key(&id, number);
                Self {
                    target: name.clone(),
                    ..Self::exchange(topology.replies(), name, Promise::Heard)
                }
            }
            Address::Reply(ReplyAddress(to)) => {
                short(&to)?;
                if topology.is_reply(&to) {
                    Self::exchange(topology.replies(), to, Promise::Soft)
                } else if topology.owns(&to) {
                    // A requester must not make us write to the log or to somebody's inbox.
                    return Err(LinkError::Unroutable { address: to });
                } else {
                    Self::queue(to, Promise::Stray)
                }
            }
            Address::Requests => Self {
                needs: requests(topology),
                ..Self::exchange(topology.requests(), String::new(), Promise::Kept)
            },
            Address::Dead { reason } => Self {
                needs: dead(topology),
                reason: Some(reason),
                ..Self::exchange(topology.dead(), String::new(), Promise::Kept)
            },
        })
    }

    /// The properties of a message that goes this way.
    pub(super) fn properties(&self, message: &Message) -> Result<BasicProperties, LinkError> {
        let timestamp = u64::try_from(clock::wall().as_second()).unwrap_or_default();
        let mut properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_type(short(&message.kind)?)
            .with_app_id("mobu-fleet".into())
            .with_timestamp(timestamp)
            .with_delivery_mode(if self.promise == Promise::Kept {
                PERSISTENT
            } else {
                TRANSIENT
            });
        if let Some(id) = &message.message_id {
            properties = properties.with_message_id(short(id)?);
        }
        if let Some(id) = &message.correlation_id {
            properties = properties.with_correlation_id(short(id)?);
        }
        if let Some(ReplyAddress(to)) = &message.reply_to {
            properties = properties.with_reply_to(short(to)?);
        }
        if let Some(expires) = message.expires {
            // A text in AMQP 0.9.1. 0 would mean: only if it can be delivered at once.
            properties = properties.with_expiration(expires.as_millis().max(1).to_string().as_str().into());
        }
        if let Some(reason) = &self.reason {
            let mut headers = FieldTable::default();
            headers.insert(REASON_HEADER.into(), AMQPValue::LongString(beginning(reason).into()));
            properties = properties.with_headers(headers);
        }
        Ok(properties)
    }
}

/// The objects behind [`Address::Requests`], in the order in which they need each other.
pub(super) fn requests(topology: &Topology) -> Vec<Object> {
    let mut objects = dead(topology);
    objects.push(Object::Exchange(topology.requests()));
    objects.push(Object::Queue(topology.requests_queue()));
    objects
}

fn dead(topology: &Topology) -> Vec<Object> {
    vec![Object::Exchange(topology.dead()), Object::Queue(topology.dead_queue())]
}

/// Refuses a payload that would close the channel, or worse, reach every replica.
pub(super) fn check_size(payload: &Bytes) -> Result<(), LinkError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(LinkError::TooLarge {
            size: payload.len(),
            limit: MAX_PAYLOAD,
        });
    }
    Ok(())
}

/// A text that AMQP counts the bytes of in one byte.
fn short(text: &str) -> Result<ShortString, LinkError> {
    ShortString::try_new(text).map_err(|_| LinkError::TooLarge {
        size: text.len(),
        limit: MAX_PROPERTY,
    })
}

/// As many whole characters of a reason as are sent.
fn beginning(reason: &str) -> &str {
    let end = (0..=MAX_REASON.min(reason.len()))
        .rev()
        .find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or_default()]
}

/// The message in a delivery, whoever sent it.
pub(super) fn message(delivery: &mut Delivery) -> Message {
    let text = |field: &Option<ShortString>| field.as_ref().map(ToString::to_string);
    let properties = &delivery.properties;
    Message {
        kind: text(properties.kind()).unwrap_or_default(),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        reply_to: text(properties.reply_to()).map(ReplyAddress),
        expires: properties
            .expiration()
            .as_ref()
            .and_then(|millis| millis.as_str().parse().ok())
            .map(Duration::from_millis),
        payload: Bytes::from(std::mem::take(&mut delivery.data)),
    }
}

/// The offset that a stream's delivery carries.
pub(super) fn offset(delivery: &Delivery) -> Option<u64> {
    match delivery.properties.headers().as_ref()?.inner().get("x-stream-offset")? {
        AMQPValue::LongLongInt(offset) => u64::try_from(*offset).ok(),
        _ => None,
    }
}
