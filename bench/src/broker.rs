//! The broker of a measurement: one that is given, or a private node.

use std::sync::Arc;

use anyhow::Result;
use fleet_tests::broker::Broker;
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::link::Link;
use mobu_fleet::link::amqp::{AmqpConfig, AmqpLink};

use crate::Scale;

/// A broker that fleets can be started on.
pub(crate) struct Host {
    pub(crate) url: String,
    /// The node, if it is ours.
    pub(crate) node: Option<Broker>,
}

impl Host {
    /// Takes the broker that is given, or starts a private one.
    pub(crate) async fn find(scale: &Scale) -> Result<Self> {
        if let Some(url) = &scale.broker {
            return Ok(Self {
                url: url.clone(),
                node: None,
            });
        }
        let node = Broker::start().await?;
        // Fleets of tests want short heartbeats, and these the default.
        let url = node.url().replace("heartbeat=2", "heartbeat=10");
        Ok(Self { url, node: Some(node) })
    }

    /// Returns a link with the product's own time limits.
    pub(crate) fn link(&self, fleet: &FleetName) -> Result<Arc<dyn Link>> {
        link(&self.url, fleet)
    }
}

/// Returns a link with the product's own time limits.
pub(crate) fn link(url: &str, fleet: &FleetName) -> Result<Arc<dyn Link>> {
    let config = AmqpConfig::new(AmqpConfig::parse_urls(url)?, fleet.clone());
    Ok(Arc::new(AmqpLink::new(config)?))
}
