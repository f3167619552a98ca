//! Requests from outside the fleet: the command line, scripts, publishers of events.
//!
//! Connections come from a pool. Nothing that must be held, a lock, a name or a place in the log, may live on one of them:
//! that is what a [`Session`](crate::link::Session) is for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use deadpool_lapin::{Manager, Object as Loan, Pool, PoolError, Runtime, Timeouts};
use lapin::{Connection, ConnectionProperties};
use uuid::Uuid;

use super::config::{AmqpConfig, BrokerUrl, InvalidBrokerUrl};
use super::declare::{Connected, Declarations};
use super::envelope::{Route, check_size};
use super::errors::{self, within};
use super::fate::Fate;
use super::inbox::Inboxes;
use super::publisher::{select_confirms, verdict, write};
use super::tls::TlsFiles;
use crate::link::topology::{Object, Role, Topology};
use crate::link::{Address, BoxError, Inbox, LinkError, Message, ReplyAddress};
use crate::runtime::clock::{self, Instant};
use crate::runtime::tasks::Tasks;

/// Connections per broker: each is a thread, and side jobs come a few at a time.
const POOL_SIZE: usize = 4;

/// Why a client cannot be made from a configuration that a link accepts.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClient {
    /// A URL is wrong.
    #[error(transparent)]
    Url(#[from] InvalidBrokerUrl),
    /// The pool cannot be given files for TLS.
    #[error(
        "a pool of connections can use neither a private certificate authority nor a client's certificate: add the \
         authority to the system's store instead"
    )]
    TlsFiles,
    /// The pool cannot be given an IPv6 address.
    #[error("a pool of connections cannot reach {host} by its IPv6 address: use a host name")]
    Ipv6 {
        /// Host and port.
        host: String,
    },
    /// The pool could not be made.
    #[error("could not make a pool of connections")]
    Pool(#[source] BoxError),
}

/// Talks to a fleet from outside, over pooled connections.
pub struct AmqpClient {
    pools: Vec<(BrokerUrl, Pool)>,
    topology: Topology,
    limit: Duration,
}

impl fmt::Debug for AmqpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A pool's debug form holds the URL, and with it the password.
        let hosts: Vec<_> = self.pools.iter().map(|(broker, _)| broker.host()).collect();
        f.debug_struct("AmqpClient")
            .field("hosts", &hosts)
            .finish_non_exhaustive()
    }
}

impl Connected for Loan {
    fn connection(&self) -> &Connection {
        self
    }
}

impl AmqpClient {
    /// Makes a client; connections are opened when they are needed.
    ///
    /// # Errors
    ///
    /// [`InvalidClient`]; see there what a pool cannot do.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(config: &AmqpConfig) -> Result<Self, InvalidClient> {
        if config.tls != TlsFiles::default() {
            return Err(InvalidClient::TlsFiles);
        }
        let mut pools = Vec::new();
        for broker in config.brokers()? {
            if broker.is_ipv6() {
                return Err(InvalidClient::Ipv6 { host: broker.host() });
            }
            let runtime = lapin::runtime::default_runtime().map_err(|error| InvalidClient::Pool(error.into()))?;
            let properties = || ConnectionProperties::default().with_connection_name("mobu-client".into());
            let pool = Pool::builder(Manager::new(broker.uri().to_string(), properties, runtime))
                .max_size(POOL_SIZE)
                .runtime(Runtime::Tokio1)
                .timeouts(Timeouts {
                    wait: Some(config.connect_timeout),
                    create: Some(config.connect_timeout),
                    recycle: Some(config.operation_timeout),
                })
                .build()
                .map_err(|error| InvalidClient::Pool(error.into()))?;
            pools.push((broker, pool));
        }
        Ok(Self {
            pools,
            topology: Topology::new(config.fleet.clone()),
            limit: config.operation_timeout,
        })
    }

    /// Sends a request to the active coordinator and returns its answers: one, or two if the request asked to wait.
    /// It is stored when this returns; `patience` is how long answers are waited for. A message without
    /// `message_id` or `correlation_id` is given one.
    ///
    /// # Errors
    ///
    /// [`LinkError`]. With [`LinkError::TimedOut`] and [`LinkError::Closed`] the request may have been stored: sent again with the
    /// same `message_id`, it still counts once.
    pub async fn request(&self, mut message: Message, patience: Duration) -> Result<Answers, LinkError> {
        let deadline = clock::now() + patience;
        let declarations = self.borrow().await?;
        let queue = self.topology.reply(&Uuid::new_v4().simple().to_string());
        declarations
            .ensure(&[Object::Exchange(self.topology.replies()), Object::Queue(queue.clone())])
            .await?;
        let inboxes = Inboxes {
            declarations: Arc::clone(&declarations),
            fate: Fate::new(),
            limit: self.limit,
            tasks: Tasks::new(),
        };
        let inbox = inboxes.unacknowledged(&queue.name).await?;
        let correlation_id = message
            .correlation_id
            .get_or_insert_with(|| Uuid::new_v4().to_string())
            .clone();
        message.reply_to = Some(ReplyAddress(queue.name));
        self.send(&declarations, Address::Requests, message).await?;
        Ok(Answers {
            inbox,
            correlation_id,
            deadline,
            patience,
            fate: inboxes.fate,
            _connection: declarations,
        })
    }

    /// Sends a message that no answer is wanted to; returns when the broker has confirmed it.
    ///
    /// # Errors
    ///
    /// [`LinkError`], as for [`AmqpClient::request`].
    pub async fn publish_only(&self, to: Address, message: Message) -> Result<(), LinkError> {
        let declarations = self.borrow().await?;
        self.send(&declarations, to, message).await
    }

    async fn send(&self, declarations: &Declarations, to: Address, mut message: Message) -> Result<(), LinkError> {
        check_size(&message.payload)?;
        message.message_id.get_or_insert_with(|| Uuid::now_v7().to_string());
        let route = Route::to(&self.topology, to)?;
        let properties = route.properties(&message)?;
        declarations.ensure(&route.needs).await?;
        let channel = declarations.channel().await?;
        select_confirms(&channel, self.limit).await?;
        let sending = async { write(&channel, &route, properties, &message.payload).await?.await };
        let confirmation = within(self.limit, "basic.publish", sending)
            .await?
            .map_err(|error| errors::of_publish(&route.target, &error))?;
        verdict(&confirmation, &route)
    }

    /// Takes a connection to the first broker that has one.
    async fn borrow(&self) -> Result<Arc<Declarations>, LinkError> {
        let mut failure = None;
        for (broker, pool) in &self.pools {
            match pool.get().await {
                Ok(loan) => return Ok(Arc::new(Declarations::new(Arc::new(loan), Role::Publisher, self.limit))),
                Err(PoolError::Backend(error)) => {
                    failure = Some(errors::of_connect(broker, error));
                }
                Err(error) => {
                    failure = Some(LinkError::Unreachable {
                        host: broker.host(),
                        source: error.into(),
                    });
                }
            }
        }
        Err(failure.expect("there is at least one URL, and each failed"))
    }
}

/// The answers to one request. Holds its connection until it is dropped.
pub struct Answers {
    // Dropped first: with its consumer the queue goes, and then the connection may serve somebody else.
    inbox: Inbox<Message>,
    correlation_id: String,
    deadline: Instant,
    patience: Duration,
    fate: Fate,
    _connection: Arc<Declarations>,
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("correlation_id", &self.correlation_id)
            .finish_non_exhaustive()
    }
}

impl Answers {
    /// Waits for the next answer.
    ///
    /// # Errors
    ///
    /// [`LinkError::TimedOut`] when the patience given to [`AmqpClient::request`] is over, [`LinkError::Closed`] if the connection ended.
    ///
    /// # Cancel safety
    ///
    /// Safe: no answer is lost.
    pub async fn next(&mut self) -> Result<Message, LinkError> {
        loop {
            let received = tokio::time::timeout_at(self.deadline, self.inbox.recv()).await;
            match received {
                Ok(Some(message)) if message.correlation_id.as_ref() == Some(&self.correlation_id) => {
                    return Ok(message);
                }
                // Somebody guessed the queue's name, or answers what was not asked.
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.fate.check()?;
                    return Err(LinkError::Closed {
                        reason: "no more answers come".to_owned(),
                    });
                }
                Err(_) => {
                    return Err(LinkError::TimedOut {
                        operation: "a request",
                        after: self.patience,
                    });
                }
            }
        }
    }
}
