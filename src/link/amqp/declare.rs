//! Declares what a session uses, before it uses it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};

use super::errors::{self, code, within};
use crate::link::LinkError;
use crate::link::topology::{Argument, ExchangeKind, Lifetime, Object, Queue, Role};

/// What holds a connection: a session, or a pool's loan.
pub(super) trait Connected: fmt::Debug + Send + Sync {
    /// The connection.
    fn connection(&self) -> &Connection;
}

impl Connected for Connection {
    fn connection(&self) -> &Connection {
        self
    }
}

/// How a durable object came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// Somebody else has made it.
    Found,
    /// It was declared with our arguments.
    Made,
}

/// Declares objects once per connection.
///
/// A refusal closes the channel it happened on, so each declaration has a channel of its own.
#[derive(Debug)]
pub(super) struct Declarations {
    connection: Arc<dyn Connected>,
    role: Role,
    limit: Duration,
    /// Names of what this connection has declared already.
    done: Mutex<BTreeSet<String>>,
}

impl Declarations {
    pub(super) fn new(connection: Arc<dyn Connected>, role: Role, limit: Duration) -> Self {
        Self {
            connection,
            role,
            limit,
            done: Mutex::default(),
        }
    }

    /// Whether the connection stands, as far as is known.
    pub(super) fn is_connected(&self) -> bool {
        self.connection.connection().status().connected()
    }

    /// Opens a channel.
    pub(super) async fn channel(&self) -> Result<Channel, LinkError> {
        within(
            self.limit,
            "channel.open",
            self.connection.connection().create_channel(),
        )
        .await?
        .map_err(|error| errors::closed(&error))
    }

    /// Declares what was not yet declared.
    pub(super) async fn ensure(&self, objects: &[Object]) -> Result<(), LinkError> {
        for object in objects {
            let key = key(object);
            let known = self.done.lock().unwrap_or_else(PoisonError::into_inner).contains(&key);
            if known {
                continue;
            }
            match object {
                Object::Exchange(_) => self.durable(object).await.map(drop)?,
                Object::Queue(queue) => self.queue(object, queue).await?,
            }
            self.done.lock().unwrap_or_else(PoisonError::into_inner).insert(key);
        }
        Ok(())
    }

    /// Returns whether all of these were declared.
    pub(super) fn has(&self, objects: &[Object]) -> bool {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        objects.iter().all(|object| done.contains(&key(object)))
    }

    /// Forgets that these were declared: one of them is gone.
    pub(super) fn forget(&self, objects: &[Object]) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        for object in objects {
            done.remove(&key(object));
        }
    }

    async fn queue(&self, object: &Object, queue: &Queue) -> Result<(), LinkError> {
        if queue.lifetime == Lifetime::Durable {
            if self.durable(object).await? == Durable::Found {
                // Whoever made the queue has bound it too.
                return Ok(());
            }
        } else {
            let declared = self.declare(object, false).await?;
            declared.map_err(|error| errors::of_object(&queue.name, &error))?;
        }
        for binding in &queue.bindings {
            let channel = self.channel().await?;
            let binds = channel.queue_bind(
                queue.name.as_str().into(),
                binding.exchange.as_str().into(),
                binding.key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            let bound = within(self.limit, "queue.bind", binds).await?;
            self.finish(bound, channel)
                .await?
                .map_err(|error| errors::of_object(&queue.name, &error))?;
        }
        Ok(())
    }

    /// Makes a durable object or finds it there.
    ///
    /// A coordinator makes what is not there, and is told if what is there is another thing. The other roles usually may not
    /// make anything, so they look first; a worker that has more rights makes what is not there all the same. A publisher does
    /// not: who mistypes the fleet's name would make one that nobody serves.
    async fn durable(&self, object: &Object) -> Result<Durable, LinkError> {
        let name = object.name();
        if self.role != Role::Coordinator {
            match self.declare(object, true).await? {
                Ok(()) => return Ok(Durable::Found),
                Err(error) if errors::reply_code(&error) == Some(code::NOT_FOUND) => {
                    if self.role == Role::Publisher {
                        return Err(LinkError::Absent {
                            object: name.to_owned(),
                        });
                    }
                }
                // RabbitMQ 4.3 does not even let look at what a user may not use. Who may not use it can do without knowing.
                Err(error) if errors::reply_code(&error) == Some(code::ACCESS_REFUSED) => return Ok(Durable::Found),
                Err(error) => return Err(errors::of_object(name, &error)),
            }
        }
        match self.declare(object, false).await? {
            Ok(()) => Ok(Durable::Made),
            Err(error) if errors::reply_code(&error) == Some(code::ACCESS_REFUSED) => {
                missing(name, self.declare(object, true).await?).map(|()| Durable::Found)
            }
            Err(error) => Err(errors::of_object(name, &error)),
        }
    }

    /// Declares an object, or only asks whether it is there.
    async fn declare(&self, object: &Object, passive: bool) -> Result<lapin::Result<()>, LinkError> {
        let channel = self.channel().await?;
        let name = object.name().into();
        let declared = match object {
            Object::Exchange(exchange) => {
                let options = ExchangeDeclareOptions {
                    passive,
                    durable: true,
                    ..ExchangeDeclareOptions::default()
                };
                let declaring = channel.exchange_declare(name, kind(exchange.kind), options, FieldTable::default());
                within(self.limit, "exchange.declare", declaring).await?
            }
            Object::Queue(queue) => {
                let options = QueueDeclareOptions {
                    passive,
                    durable: queue.lifetime == Lifetime::Durable,
                    exclusive: queue.lifetime != Lifetime::Durable,
                    auto_delete: queue.lifetime == Lifetime::ExclusiveAutoDelete,
                    nowait: false,
                };
                let declaring = channel.queue_declare(name, options, arguments(queue));
                within(self.limit, "queue.declare", declaring).await?.map(drop)
            }
        };
        self.finish(declared, channel).await
    }

    /// Closes a channel that served its purpose; after an error the broker has closed it.
    async fn finish(&self, outcome: lapin::Result<()>, channel: Channel) -> Result<lapin::Result<()>, LinkError> {
        if outcome.is_ok() {
            within(self.limit, "channel.close", channel.close(200, "done".into()))
                .await?
                .map_err(|error| errors::closed(&error))?;
        }
        Ok(outcome)
    }
}

/// An exchange and a queue may share a name.
fn key(object: &Object) -> String {
    match object {
        Object::Exchange(exchange) => format!("exchange {}", exchange.name),
        Object::Queue(queue) => format!("queue {}", queue.name),
    }
}

/// The outcome of looking for an object that this user may not create.
fn missing(name: &str, outcome: lapin::Result<()>) -> Result<(), LinkError> {
    outcome.map_err(|error| match errors::reply_code(&error) {
        // Not `Refused`: it will be there once a coordinator has run.
        Some(code::NOT_FOUND) => LinkError::Closed {
            reason: format!("{name} does not exist yet, and this user may not create it: has a coordinator run?"),
        },
        _ => errors::of_object(name, &error),
    })
}

fn kind(kind: ExchangeKind) -> lapin::ExchangeKind {
    match kind {
        ExchangeKind::Direct => lapin::ExchangeKind::Direct,
        ExchangeKind::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeKind::Topic => lapin::ExchangeKind::Topic,
    }
}

fn arguments(queue: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in &queue.arguments {
        let value = match value {
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Argument::Number(number) => AMQPValue::LongLongInt(*number),
        };
        table.insert((*key).into(), value);
    }
    table
}
