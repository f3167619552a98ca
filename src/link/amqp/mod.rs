//! The link over RabbitMQ.
//!
//! A session is one connection and ends as a whole: there is no recovery of a part of it, neither lapin's nor ours. Whoever
//! opened it opens the next one. Only this folder knows lapin.

use async_trait::async_trait;

use self::config::BrokerUrl;
use self::session::AmqpSession;
use super::topology::Topology;
use super::{Link, LinkError, Session};

pub mod client;
mod config;
mod connect;
mod declare;
mod envelope;
mod errors;
mod fate;
mod inbox;
mod interest;
mod publisher;
mod session;
mod soft;
mod tls;

pub use self::config::{AmqpConfig, InvalidBrokerUrl};
pub use self::tls::{IdentityFiles, TlsFileError, TlsFiles};

/// A broker that sessions can be opened on.
#[derive(Debug)]
pub struct AmqpLink {
    config: AmqpConfig,
    brokers: Vec<BrokerUrl>,
    topology: Topology,
}

impl AmqpLink {
    /// Takes a configuration; nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`InvalidBrokerUrl`] names the URL by its position and what is wrong with it.
    pub fn new(config: AmqpConfig) -> Result<Self, InvalidBrokerUrl> {
        Ok(Self {
            brokers: config.brokers()?,
            topology: Topology::new(config.fleet.clone()),
            config,
        })
    }

    /// The brokers in the order in which to try them: the first, then the others shuffled.
    fn order(&self) -> Vec<&BrokerUrl> {
        let mut brokers: Vec<_> = self.brokers.iter().collect();
        if let Some((_, others)) = brokers.split_first_mut() {
            fastrand::shuffle(others);
        }
        brokers
    }
}

#[async_trait]
impl Link for AmqpLink {
    async fn open(&self, name: &str) -> Result<Box<dyn Session>, LinkError> {
        let mut failure = None;
        for broker in self.order() {
            let connecting = connect::connect(broker, &self.config.tls, name, self.config.connect_timeout);
            match connecting.await {
                Ok((connection, socket)) => {
                    return Ok(Box::new(AmqpSession::start(
                        connection,
                        socket,
                        self.topology.clone(),
                        self.config.role,
                        self.config.operation_timeout,
                    )));
                }
                // Of several failures the one that somebody must look at is the one to tell.
                Err(error)
                    if failure
                        .as_ref()
                        .is_none_or(|known: &LinkError| !known.needs_attention()) =>
                {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        Err(failure.expect("there is at least one URL, and each failed"))
    }

    fn describe(&self) -> String {
        let hosts: Vec<_> = self.brokers.iter().map(BrokerUrl::host).collect();
        format!("RabbitMQ at {}", hosts.join(", "))
    }
}
