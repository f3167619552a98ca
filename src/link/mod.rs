//! How messages travel between the processes of a fleet.
//!
//! One interface, two carriers: [`amqp`] over RabbitMQ, and [`memory`] inside one process. A carrier moves
//! bytes and knows nothing of what they say. Whoever opens a
//! [`Session`] supervises it: any error ends the whole session, and the next one starts from nothing.

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::{Stream, StreamExt};
use tokio::sync::watch;

use crate::domain::ids::InstanceId;

pub mod amqp;
pub mod asyncapi;
pub mod memory;
pub mod oddities;
pub mod topology;

/// Largest payload that a link carries, in bytes. RabbitMQ 4 closes the channel above 16 MiB.
pub const MAX_PAYLOAD: usize = 12 * 1024 * 1024;

/// Largest state log entry that a change may lead to, in bytes: every replica reads each of them. What two such states become
/// when they are brought together after a loss, and what answers say around a state, fits [`MAX_PAYLOAD`] all the same.
pub const MAX_STATE: usize = 4 * 1024 * 1024;

/// How many further queues may stand for a replica's name, beside its own. A cluster of RabbitMQ 4.3 keeps an exclusive queue whose
/// node died, and with it the name, until the node is back; a cluster of five goes on without two.
pub const SPARES: u8 = 2;

/// Where answers to a query or a request go: the name of its sender's reply queue.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyAddress(pub String);

impl fmt::Display for ReplyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One message on its way, whatever carries it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What the payload is, for example `fleet.report.v1`: AMQP's `type` property. Empty if the sender set none.
    pub kind: String,
    /// JSON, at most [`MAX_PAYLOAD`] bytes when we send it; anything at all when we receive it.
    pub payload: Bytes,
    /// Names the message over redeliveries; required of requests.
    pub message_id: Option<String>,
    /// Copied from a query or request into its answers.
    pub correlation_id: Option<String>,
    /// Where answers are wanted, if any.
    pub reply_to: Option<ReplyAddress>,
    /// How long the message is worth delivering; `None` is for ever.
    pub expires: Option<Duration>,
}

impl Message {
    /// Makes a message of the given kind that nobody answers and that never expires.
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            kind: kind.into(),
            payload: payload.into(),
            message_id: None,
            correlation_id: None,
            reply_to: None,
            expires: None,
        }
    }
}

/// Who a message is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Every replica and every coordinator that listens now (`{fleet}.broadcast`). Loss is allowed.
    Everyone,
    /// One replica, whichever of its inboxes it has open (`{fleet}.replica.<id>`). [`LinkError::Unroutable`] if none is,
    /// [`LinkError::Stranded`] if one of them is stranded; another one may have got the message then.
    Replica(InstanceId),
    /// One particular inbox of a replica: 0 is its own, 1 to [`SPARES`] are its spares (`{fleet}.replica.<id>+<number>`).
    /// [`LinkError::Unroutable`] if nobody has it open, [`LinkError::Stranded`] if it is open and nobody can be behind it.
    Inbox(InstanceId, u8),
    /// Every coordinator (`{fleet}.reports`). Loss is allowed.
    Coordinators,
    /// The sender of a query or request. Loss is allowed: it may be gone.
    Reply(ReplyAddress),
    /// The active coordinator, now or later (`{fleet}.requests`): durable and confirmed.
    Requests,
    /// The dead letters (`{fleet}.dead`): durable and confirmed, with the reason in header `x-fleet-reason`.
    Dead {
        /// Why the message could not be used, for people; at most a few hundred bytes.
        reason: String,
    },
    /// Whoever subscribed to such events (`{fleet}.events`). Loss is allowed.
    Events {
        /// `flock.business.event`.
        key: String,
    },
}

/// Where a log reader begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStart {
    /// The oldest entry that is still kept.
    First,
    /// The entry of this offset, or the next one that is still kept. One past the end is waited for, in silence: what is appended
    /// before it is not delivered.
    Offset(u64),
}

/// One entry of the state log as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Position in the log: grows, with gaps.
    pub offset: u64,
    /// The entry's bytes, as appended.
    pub payload: Bytes,
}

/// Why a message could not be moved.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The broker cannot be reached or refused the connection; trying again may help.
    #[error("could not connect to the broker at {host}")]
    Unreachable {
        /// Host and port, never with credentials.
        host: String,
        /// What the transport said.
        source: BoxError,
    },
    /// The session has ended; everything it held is gone.
    #[error("the session with the broker ended: {reason}")]
    Closed {
        /// What ended it.
        reason: String,
    },
    /// The broker did not answer in time: the outcome is unknown.
    #[error("the broker did not answer {operation} within {after:?}")]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// Nobody has the address open.
    #[error("nobody listens at {address}")]
    Unroutable {
        /// The queue or exchange.
        address: String,
    },
    /// Another process holds the exclusive name.
    #[error("{name} is in use by another process")]
    NameInUse {
        /// The queue that stands for the name.
        name: String,
    },
    /// The broker has a queue and cannot reach it, because the node where it is died: whoever had it open has it no more.
    #[error("{name} is on a node of the broker that is down")]
    Stranded {
        /// The queue, or the address that leads there.
        name: String,
    },
    /// The payload exceeds [`MAX_PAYLOAD`]; it was not sent.
    #[error("a message of {size} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// Size of the payload in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More messages wait to be sent than the session keeps; this one was dropped.
    #[error("too many messages wait to be sent")]
    Full,
    /// There is no such exchange or queue, and it is not this role's to make it: a coordinator of the fleet does.
    #[error("{object} does not exist on the broker: is this the fleet's name, and has a coordinator of it run?")]
    Absent {
        /// The exchange or queue.
        object: String,
    },
    /// The broker refuses an object or an operation on grounds that will not change by trying again:
    /// other arguments than ours, or missing permissions.
    #[error("the broker refuses {object}: {reason}")]
    Refused {
        /// Exchange, queue or virtual host.
        object: String,
        /// The broker's own words.
        reason: String,
    },
}

/// Any error, as the source of another.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl LinkError {
    /// Returns whether a person must change something before trying again can help.
    pub const fn needs_attention(&self) -> bool {
        matches!(self, Self::Absent { .. } | Self::Refused { .. } | Self::TooLarge { .. })
    }
}

/// How a session is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SessionHealth {
    /// Everything flows.
    #[default]
    Open,
    /// The broker holds back publishers, for example while it is low on memory or disk.
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// The session has ended.
    Closed {
        /// What ended it.
        reason: String,
    },
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// A stream of what arrives; its end is the end of the session, never a clean close.
pub struct Inbox<T> {
    stream: BoxStream<T>,
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl<T> Inbox<T> {
    /// Wraps a carrier's stream.
    pub fn new(stream: impl Stream<Item = T> + Send + 'static) -> Self {
        Self {
            stream: Box::pin(stream),
        }
    }

    /// Waits for the next one; `None` once the session has ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if the wait is given up.
    pub async fn recv(&mut self) -> Option<T> {
        self.stream.next().await
    }
}

/// A request that must be settled: dropped unsettled, it comes again.
pub struct RequestDelivery {
    /// The request.
    pub message: Message,
    /// Whether the broker thinks that somebody may have seen it before.
    pub redelivered: bool,
    settle: Box<dyn Settle>,
}

impl fmt::Debug for RequestDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestDelivery")
            .field("message", &self.message)
            .finish_non_exhaustive()
    }
}

impl RequestDelivery {
    /// Wraps a delivery with its carrier's way to settle it.
    pub fn new(message: Message, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self {
            message,
            redelivered,
            settle,
        }
    }

    /// Tells the carrier that the request is done with, so that it never comes again.
    ///
    /// # Errors
    ///
    /// [`LinkError`] if the session ended first: the request will come again.
    pub async fn done(self) -> Result<(), LinkError> {
        self.settle.done().await
    }
}

/// A carrier's way to settle one delivery.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Acknowledges the delivery; see [`RequestDelivery::done`].
    async fn done(self: Box<Self>) -> Result<(), LinkError>;
}

/// Something that sessions can be opened on: a broker, or a hub in this process.
#[async_trait]
pub trait Link: fmt::Debug + Send + Sync + 'static {
    /// Opens a session: connects and declares the topology. `name` shows up in the broker's list of connections.
    ///
    /// # Errors
    ///
    /// [`LinkError::Unreachable`], [`LinkError::TimedOut`], or [`LinkError::Refused`] if the broker's objects differ from ours.
    async fn open(&self, name: &str) -> Result<Box<dyn Session>, LinkError>;

    /// Says where this link leads, without credentials: for logs and health.
    fn describe(&self) -> String;
}

/// One connection's worth of messages; all of it ends together.
///
/// Every method fails with [`LinkError::Closed`] once the session has ended, and with [`LinkError::TimedOut`] if the broker
/// is silent for longer than the link's operation timeout. Both mean: the outcome is unknown, start a new session.
#[async_trait]
pub trait Session: fmt::Debug + Send + Sync {
    /// Reads the state log from a position; what is appended later follows without end.
    async fn read_log(&self, from: LogStart) -> Result<Inbox<LogRecord>, LinkError>;

    /// Appends an entry to the state log and waits until the broker has it. That does not make it count:
    /// only reading it back does.
    async fn append(&self, entry: Bytes) -> Result<(), LinkError>;

    /// Tries to become the one that may claim the log. Returns whether this session holds the lock now; it is held until the session ends.
    /// Liveness only: nothing is safe because of it.
    async fn try_lead(&self) -> Result<bool, LinkError>;

    /// Opens the inbox of a replica: broadcasts, and what is addressed to it alone. Held until the session ends.
    ///
    /// # Errors
    ///
    /// [`LinkError::NameInUse`] while another session has it open.
    async fn replica_inbox(&self, id: &InstanceId) -> Result<Inbox<Message>, LinkError>;

    /// Opens a spare inbox of a replica, numbered from 1 to [`SPARES`]: it gets what [`Session::replica_inbox`] would. Only for who
    /// has proof that those before it are stranded. Held until the session ends.
    ///
    /// # Errors
    ///
    /// [`LinkError::NameInUse`] while another session has it open.
    async fn spare_inbox(&self, id: &InstanceId, number: u8) -> Result<Inbox<Message>, LinkError>;

    /// Opens an inbox of broadcasts alone: what coordinators listen to.
    async fn broadcasts(&self) -> Result<Inbox<Message>, LinkError>;

    /// Opens an inbox of what replicas and coordinators tell all coordinators.
    async fn reports(&self) -> Result<Inbox<Message>, LinkError>;

    /// Opens an inbox of the events whose key matches `pattern`, as topic exchanges match: `*` stands for one word, `#` for any
    /// number of them. Loss is allowed.
    async fn events(&self, pattern: &str) -> Result<Inbox<Message>, LinkError>;

    /// Opens an inbox for answers, and names the address to give.
    async fn replies(&self) -> Result<(ReplyAddress, Inbox<Message>), LinkError>;

    /// Takes requests from outside, one at a time: the next comes when the last is settled.
    async fn requests(&self) -> Result<Inbox<RequestDelivery>, LinkError>;

    /// Sends a message and waits as long as its address promises: see [`Address`].
    ///
    /// # Errors
    ///
    /// [`LinkError::Unroutable`], [`LinkError::Stranded`] and [`LinkError::TooLarge`] besides the common ones; these do not
    /// end the session.
    async fn publish(&self, to: Address, message: Message) -> Result<(), LinkError>;

    /// Hands a message over without waiting; meant for addresses where loss is allowed.
    ///
    /// # Errors
    ///
    /// [`LinkError::Full`] if too many wait already: the message is dropped.
    fn post(&self, to: Address, message: Message) -> Result<(), LinkError>;

    /// Returns whether an event of this key is worth sending: false if, as far as is known, nobody subscribes to it. Whoever
    /// has just subscribed may miss what is sent within a second or two. To be asked once for each event.
    fn is_heard(&self, key: &str) -> bool;

    /// Follows how the session is doing.
    fn health(&self) -> watch::Receiver<SessionHealth>;

    /// Ends the session in an orderly way: what was handed over is sent, then channel and connection are closed.
    /// Bounded by the operation timeout.
    async fn close(&self);
}

/// Waits until a session has ended and returns why.
///
/// # Cancel safety
///
/// Safe.
pub async fn ended(mut health: watch::Receiver<SessionHealth>) -> String {
    loop {
        if let SessionHealth::Closed { reason } = &*health.borrow_and_update() {
            return reason.clone();
        }
        if health.changed().await.is_err() {
            return "the session is gone".to_owned();
        }
    }
}
