//! Every exchange, queue, binding and argument on the broker: what they are called and why they are so.
//!
//! This module only describes; the carrier declares. Names begin with the fleet's name, so that several fleets can share
//! a virtual host and permissions can be given by prefix. One consequence: no fleet's name may extend another's by a dot,
//! because `a` and `a.b` could then meet in one name.
//!
//! A queue's arguments are part of what it is: the broker refuses a second declaration that differs, and
//! to change one means a new name.
//!
//! # Queues of one session
//!
//! Inboxes without a name of their own are called `{fleet}.reply.<unique>` and the like. The broker could
//! make up names, but those begin with `amq.gen-` in every fleet, and a permission that allows one fleet's would allow all.
//!
//! # Answers
//!
//! RabbitMQ checks the right to publish at the exchange, and the default exchange reaches every queue by name, the state
//! log included. Who may publish there can write the log. Workers must not, so answers to queues named
//! `{fleet}.reply.…` go through the exchange `{fleet}.replies`, to which each of them is bound. Only a requester from outside
//! who brings a queue of another name is answered through the default exchange, and only coordinators do that.

use std::time::Duration;

use crate::domain::ids::{FleetName, InstanceId};

/// How an exchange chooses queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeKind {
    /// Those bound with the message's routing key.
    Direct,
    /// All that are bound.
    Fanout,
    /// Those whose binding's pattern matches the routing key.
    Topic,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: String,
    /// How it chooses queues.
    pub kind: ExchangeKind,
}

/// The value of an argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// A text.
    Text(String),
    /// A number, sent as a signed 64-bit one.
    Number(i64),
}

/// How long a queue lives and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// It survives the broker.
    Durable,
    /// It belongs to one connection and ends with it.
    Exclusive,
    /// As exclusive, and it ends with its last consumer too.
    ExclusiveAutoDelete,
}

/// A way from an exchange into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The exchange's name.
    pub exchange: String,
    /// The routing key, where the exchange's kind looks at it.
    pub key: String,
}

/// A queue with all that belongs to its declaration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// How long it lives.
    pub lifetime: Lifetime,
    /// Its arguments; part of its identity.
    pub arguments: Vec<(&'static str, Argument)>,
    /// What feeds it, besides the default exchange.
    pub bindings: Vec<Binding>,
}

/// Something to declare before it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// An exchange.
    Exchange(Exchange),
    /// A queue and its bindings.
    Queue(Queue),
}

impl Object {
    /// Returns its name; an exchange and a queue may share one.
    pub fn name(&self) -> &str {
        match self {
            Self::Exchange(exchange) => &exchange.name,
            Self::Queue(queue) => &queue.name,
        }
    }
}

/// Who a broker user stands for; each may do only what its work needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Declares and uses everything.
    Coordinator,
    /// Reads the log, takes commands and runs; writes reports, answers, events and dead letters, never the log.
    Worker,
    /// Writes requests and reads the answers.
    Publisher,
    /// Reads the log.
    Auditor,
}

/// A user's permissions in the fleet's virtual host, as regular expressions over names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What may be declared.
    pub configure: String,
    /// What may be published to, and which queues may be bound.
    pub write: String,
    /// What may be consumed, and which exchanges may be bound to.
    pub read: String,
}

/// Bytes of state log that the broker keeps. At 50 KiB an entry that is more than a thousand changes.
const LOG_BYTES: i64 = 64 * 1024 * 1024;
/// The log is cut in pieces of this size. Much smaller ones made a follower lose track under a burst (measured).
const LOG_SEGMENT_BYTES: i64 = 8 * 1024 * 1024;
/// A command or query that waited longer is noise: whoever sent it has given up.
const SOFT_TTL: Duration = Duration::from_secs(30);
/// Messages that wait for a replica that does not read; the oldest go first, because state comes from the log.
const REPLICA_LENGTH: i64 = 1000;
/// Reports that wait for a coordinator: ten seconds of a thousand replicas.
const REPORTS_LENGTH: i64 = 10_000;
/// Events that wait for a listener; the oldest go first.
const EVENTS_LENGTH: i64 = 10_000;
/// Requests that wait for a coordinator; further ones are refused to their publisher.
const REQUESTS_LENGTH: i64 = 10_000;
/// Deliveries of one request that may fail before it becomes a dead letter; the default of RabbitMQ 4 made explicit.
const REQUESTS_DELIVERIES: i64 = 20;
/// Runs that wait for a replica with room.
const RUN_LENGTH: i64 = 1000;
/// A run that has killed three replicas is not given to a fourth.
const RUN_DELIVERIES: i64 = 3;
/// Dead letters that are kept.
const DEAD_LENGTH: i64 = 1000;
/// How long a dead letter is kept: people look after a holiday, not after a year.
const DEAD_TTL: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// The names and arguments of one fleet's objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    fleet: FleetName,
}

impl Topology {
    /// Describes the objects of a fleet.
    pub const fn new(fleet: FleetName) -> Self {
        Self { fleet }
    }

    fn named(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.fleet)
    }

    /// The state log: a stream, because that keeps one copy however many read, and keeps it when it was read.
    /// The leader publishes to it by name, mandatory and confirmed.
    pub fn state(&self) -> Queue {
        Queue {
            name: self.named("state"),
            lifetime: Lifetime::Durable,
            arguments: vec![
                text("x-queue-type", "stream"),
                number("x-max-length-bytes", LOG_BYTES),
                number("x-stream-max-segment-size-bytes", LOG_SEGMENT_BYTES),
            ],
            bindings: Vec::new(),
        }
    }

    /// The lock that allows to claim the log: an exclusive queue that nobody ever reads.
    pub fn leader(&self) -> Queue {
        Queue {
            name: self.named("leader"),
            lifetime: Lifetime::ExclusiveAutoDelete,
            arguments: Vec::new(),
            bindings: Vec::new(),
        }
    }

    /// What everyone who listens now is told: announcements and queries.
    pub fn broadcast(&self) -> Exchange {
        self.exchange("broadcast", ExchangeKind::Fanout)
    }

    /// A replica's inbox. That it is exclusive makes its name the lock that keeps a second process with the same
    /// instance ID out; the broker frees it when it drops the connection.
    ///
    /// What is for this replica alone comes through the exchange of answers, under the queue's name: whoever may write to that, and
    /// not to the default exchange, can ask a replica something and still not touch the state log.
    pub fn replica(&self, id: &InstanceId) -> Queue {
        self.replica_inbox(self.replica_name(id), id, 0)
    }

    /// An inbox that stands in for [`Topology::replica`] while that is stranded: a cluster of RabbitMQ 4.3 keeps an exclusive queue
    /// whose node died. It gets the same messages; the name of none of them can be an instance ID's own queue.
    pub fn spare(&self, id: &InstanceId, number: u8) -> Queue {
        self.replica_inbox(self.inbox_key(id, number), id, number)
    }

    fn replica_inbox(&self, name: String, id: &InstanceId, number: u8) -> Queue {
        let mut queue = inbox(name, self.broadcast().name);
        let replies = self.replies().name;
        queue.bindings.push(binding(replies.clone(), &self.replica_name(id)));
        queue.bindings.push(binding(replies, &self.inbox_key(id, number)));
        queue
    }

    /// Routing key that leads to one inbox of a replica and to no other: 0 is its own, the others are its spares.
    /// No instance ID has a plus sign, so that none of these is another replica's.
    pub fn inbox_key(&self, id: &InstanceId, number: u8) -> String {
        self.named(&format!("replica.{id}+{number}"))
    }

    /// Name of a replica's inbox, for who only wants to write to it.
    pub fn replica_name(&self, id: &InstanceId) -> String {
        self.named(&format!("replica.{id}"))
    }

    /// A coordinator's inbox of broadcasts. `unique` tells sessions apart.
    pub fn broadcast_listener(&self, unique: &str) -> Queue {
        inbox(self.named(&format!("broadcast.{unique}")), self.broadcast().name)
    }

    /// What replicas and coordinators tell all coordinators, standbys included: those stay warm by it.
    pub fn reports(&self) -> Exchange {
        self.exchange("reports", ExchangeKind::Fanout)
    }

    /// A coordinator's inbox of reports. `unique` tells sessions apart.
    pub fn reports_listener(&self, unique: &str) -> Queue {
        Queue {
            name: self.named(&format!("reports.{unique}")),
            lifetime: Lifetime::Exclusive,
            arguments: vec![
                text("x-queue-type", "classic"),
                number("x-max-length", REPORTS_LENGTH),
                text("x-overflow", "drop-head"),
                number("x-message-ttl", millis(SOFT_TTL)),
            ],
            bindings: vec![binding(self.reports().name, "")],
        }
    }

    /// Where answers are published, by the name of the queue that wants them; see the module's text on answers.
    pub fn replies(&self) -> Exchange {
        self.exchange("replies", ExchangeKind::Direct)
    }

    /// A queue for answers. `unique` tells sessions apart. It also ends with its consumer, so that a pooled
    /// connection does not collect the queues of requests long answered.
    pub fn reply(&self, unique: &str) -> Queue {
        let name = self.named(&format!("reply.{unique}"));
        Queue {
            lifetime: Lifetime::ExclusiveAutoDelete,
            arguments: Vec::new(),
            bindings: vec![binding(self.replies().name, &name)],
            name,
        }
    }

    /// Returns whether a reply address names a queue of [`Topology::reply`].
    pub fn is_reply(&self, address: &str) -> bool {
        address
            .strip_prefix(self.fleet.as_str())
            .is_some_and(|rest| rest.starts_with(".reply."))
    }

    /// Returns whether a name is one of this fleet's.
    pub fn owns(&self, name: &str) -> bool {
        name.strip_prefix(self.fleet.as_str())
            .is_some_and(|rest| rest.starts_with('.'))
    }

    /// Where requests from outside are published, with an empty routing key or the exchange's own name.
    pub fn requests(&self) -> Exchange {
        self.exchange("requests", ExchangeKind::Direct)
    }

    /// The requests that wait for the active coordinator: a quorum queue, so that they survive a broker node.
    pub fn requests_queue(&self) -> Queue {
        let name = self.named("requests");
        let exchange = self.requests().name;
        Queue {
            lifetime: Lifetime::Durable,
            arguments: vec![
                text("x-queue-type", "quorum"),
                number("x-delivery-limit", REQUESTS_DELIVERIES),
                text("x-dead-letter-exchange", &self.dead().name),
                number("x-max-length", REQUESTS_LENGTH),
                text("x-overflow", "reject-publish"),
            ],
            bindings: vec![binding(exchange.clone(), ""), binding(exchange, &name)],
            name,
        }
    }

    /// Where messages go that nobody could use.
    pub fn dead(&self) -> Exchange {
        self.exchange("dead", ExchangeKind::Fanout)
    }

    /// The messages that nobody could use, kept for people to look at.
    pub fn dead_queue(&self) -> Queue {
        Queue {
            name: self.named("dead"),
            lifetime: Lifetime::Durable,
            arguments: vec![
                text("x-queue-type", "quorum"),
                number("x-max-length", DEAD_LENGTH),
                number("x-message-ttl", millis(DEAD_TTL)),
            ],
            bindings: vec![binding(self.dead().name, "")],
        }
    }

    /// Solitary runs, each for any one replica with room.
    pub fn run(&self) -> Queue {
        Queue {
            name: self.named("run"),
            lifetime: Lifetime::Durable,
            arguments: vec![
                text("x-queue-type", "quorum"),
                number("x-delivery-limit", RUN_DELIVERIES),
                text("x-dead-letter-exchange", &self.dead().name),
                number("x-max-length", RUN_LENGTH),
                text("x-overflow", "reject-publish"),
            ],
            bindings: Vec::new(),
        }
    }

    /// What happens to monkeys, for whoever subscribes, by the key `flock.business.event`.
    pub fn events(&self) -> Exchange {
        self.exchange("events", ExchangeKind::Topic)
    }

    /// An inbox of the events whose key matches `pattern`, as topic exchanges match. `unique` tells sessions apart.
    pub fn events_listener(&self, unique: &str, pattern: &str) -> Queue {
        Queue {
            name: self.named(&format!("events.{unique}")),
            lifetime: Lifetime::Exclusive,
            arguments: vec![
                text("x-queue-type", "classic"),
                number("x-max-length", EVENTS_LENGTH),
                text("x-overflow", "drop-head"),
                number("x-message-ttl", millis(SOFT_TTL)),
            ],
            bindings: vec![binding(self.events().name, pattern)],
        }
    }

    fn exchange(&self, suffix: &str, kind: ExchangeKind) -> Exchange {
        Exchange {
            name: self.named(suffix),
            kind,
        }
    }

    /// Returns the least that a broker user of this role needs. Who may not declare an object checks
    /// instead that it is there, so a coordinator has to come first in a new virtual host.
    pub fn permissions(&self, role: Role) -> Permissions {
        let fleet = self.fleet.as_str().replace('.', r"\.");
        let none = "^$".to_owned();
        match role {
            Role::Coordinator => Permissions {
                configure: format!(r"^{fleet}\."),
                write: format!(r"^({fleet}\..*|amq\.default)$"),
                read: format!(r"^{fleet}\."),
            },
            Role::Worker => Permissions {
                configure: format!(r"^{fleet}\.(replica|reply)\."),
                write: format!(r"^{fleet}\.((replica|reply)\..*|reports|replies|events|dead)$"),
                read: format!(r"^{fleet}\.((replica|reply)\..*|state|broadcast|replies|run)$"),
            },
            Role::Publisher => Permissions {
                configure: format!(r"^{fleet}\.reply\."),
                write: format!(r"^{fleet}\.(requests|reply\..*)$"),
                read: format!(r"^{fleet}\.(replies|reply\..*)$"),
            },
            Role::Auditor => Permissions {
                configure: none.clone(),
                write: none,
                read: format!(r"^{fleet}\.state$"),
            },
        }
    }
}

/// A queue of what replicas are told.
fn inbox(name: String, exchange: String) -> Queue {
    Queue {
        name,
        lifetime: Lifetime::Exclusive,
        arguments: vec![
            text("x-queue-type", "classic"),
            number("x-max-length", REPLICA_LENGTH),
            text("x-overflow", "drop-head"),
            number("x-message-ttl", millis(SOFT_TTL)),
        ],
        bindings: vec![binding(exchange, "")],
    }
}

fn text(key: &'static str, value: &str) -> (&'static str, Argument) {
    (key, Argument::Text(value.to_owned()))
}

fn number(key: &'static str, value: i64) -> (&'static str, Argument) {
    (key, Argument::Number(value))
}

fn binding(exchange: String, key: &str) -> Binding {
    Binding {
        exchange,
        key: key.to_owned(),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).expect("our durations are days at most")
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    fn topology() -> Topology {
        Topology::new("load.1".parse().unwrap())
    }

    #[test]
    fn every_name_begins_with_the_fleet() {
        let topology = topology();
        let id = "0".parse().unwrap();
        for queue in [
            topology.state(),
            topology.leader(),
            topology.replica(&id),
            topology.spare(&id, 1),
            topology.broadcast_listener("u"),
            topology.reports_listener("u"),
            topology.events_listener("u", "#"),
            topology.reply("u"),
            topology.requests_queue(),
            topology.dead_queue(),
            topology.run(),
        ] {
            assert!(queue.name.starts_with("load.1."), "{queue:?}");
            for binding in queue.bindings {
                assert!(binding.exchange.starts_with("load.1."), "{binding:?}");
            }
        }
    }

    #[test]
    fn a_worker_may_write_reports_but_neither_the_log_nor_requests() {
        let topology = topology();
        let (allowed, id) = (topology.permissions(Role::Worker), "7".parse().unwrap());
        let write = Regex::new(&allowed.write).unwrap();
        assert!(write.is_match(&topology.reports().name));
        let configure = Regex::new(&allowed.configure).unwrap();
        for inbox in [topology.replica(&id), topology.spare(&id, 1)] {
            assert!(configure.is_match(&inbox.name) && write.is_match(&inbox.name));
        }
        for forbidden in [
            "load.1.state",
            "load.1.requests",
            "load.1.broadcast",
            "amq.default",
            "loadX1.reports",
        ] {
            assert!(!write.is_match(forbidden), "{forbidden}");
        }
        assert!(Regex::new(&allowed.read).unwrap().is_match(&topology.state().name));
    }

    #[test]
    fn only_our_own_reply_queues_are_answered_through_the_replies_exchange() {
        let topology = topology();
        assert!(topology.is_reply(&topology.reply("u").name));
        assert!(!topology.is_reply("load.1.state"));
        assert!(!topology.is_reply("amq.gen-abc"));
        assert!(!topology.is_reply("load.12.reply.u"));
    }
}
