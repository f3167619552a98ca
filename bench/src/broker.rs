//! The broker of a measurement: one that is given, or a private node.

use std::sync::Arc;

use anyhow::Result;
use fleet_tests::broker::{Broker, Settings};
use mobu_fleet::domain::ids::FleetName;
use mobu_fleet::link::Link;
use mobu_fleet::link::amqp::{AmqpConfig, AmqpLink};

use crate::Scale;

/// A broker that fleets can be started on.
pub(crate) struct Host {
    pub(crate) url: String,
    /// The node, if it is ours.
    pub(crate) node: Option<Broker>,
    /// The other nodes of a cluster of ours.
    others: Vec<Broker>,
}

/// A node's URL. Fleets of tests want short heartbeats, and these the default.
fn url(node: &Broker) -> String {
    node.url().replace("heartbeat=2", "heartbeat=10")
}

impl Host {
    /// Takes the broker that is given, or starts a private one.
    pub(crate) async fn find(scale: &Scale) -> Result<Self> {
        if let Some(url) = &scale.broker {
            return Ok(Self {
                url: url.clone(),
                node: None,
                others: Vec::new(),
            });
        }
        let node = Broker::start().await?;
        Ok(Self {
            url: url(&node),
            node: Some(node),
            others: Vec::new(),
        })
    }

    /// Starts a private cluster of three nodes.
    pub(crate) async fn cluster() -> Result<Self> {
        let settings = Settings {
            nodes: 3,
            ..Settings::default()
        };
        let mut nodes = Broker::start_all(settings).await?;
        let node = nodes.remove(0);
        Ok(Self {
            url: url(&node),
            node: Some(node),
            others: nodes,
        })
    }

    /// Returns the URLs of all nodes, those of a given cluster included, beginning with another one for each number.
    pub(crate) fn urls(&self, number: usize) -> Vec<String> {
        let mut urls: Vec<_> = self.url.split(',').map(str::to_owned).collect();
        urls.extend(self.others.iter().map(url));
        let first = number % urls.len();
        urls.rotate_left(first);
        urls
    }

    /// Returns a link with the product's own time limits. Each number begins with another node.
    pub(crate) fn link(&self, fleet: &FleetName, number: usize) -> Result<Arc<dyn Link>> {
        link(&self.urls(number).join(","), fleet)
    }
}

/// Returns a link with the product's own time limits.
pub(crate) fn link(url: &str, fleet: &FleetName) -> Result<Arc<dyn Link>> {
    let config = AmqpConfig::new(AmqpConfig::parse_urls(url)?, fleet.clone());
    Ok(Arc::new(AmqpLink::new(config)?))
}
