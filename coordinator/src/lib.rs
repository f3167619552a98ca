//! The coordinator of a mobu fleet: holds the desired state, broadcasts it, and answers for all replicas.

pub mod api;
pub mod config;
pub mod fleet;

use std::net::SocketAddr;
use std::sync::Arc;

use mobu_fleet::link::Link;
use mobu_fleet::runtime::http;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::net::TcpListener;
use tracing::info;

pub use self::config::CoordinatorConfig;
pub use self::fleet::handle::Fleet;

/// How many connections of HTTP may be open.
const CONNECTIONS: usize = 1024;

/// Why a coordinator cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The address is taken, or not one of this machine's.
    #[error("cannot listen for HTTP on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A coordinator that knows its address and does nothing yet.
#[derive(Debug)]
pub struct Coordinator {
    config: CoordinatorConfig,
    link: Arc<dyn Link>,
    listener: TcpListener,
    address: SocketAddr,
}

impl Coordinator {
    /// Binds the HTTP address.
    ///
    /// # Errors
    ///
    /// [`CoordinatorError::Bind`].
    pub async fn build(config: CoordinatorConfig, link: Arc<dyn Link>) -> Result<Self, CoordinatorError> {
        let at = |source| CoordinatorError::Bind {
            address: config.http_bind,
            source,
        };
        let listener = TcpListener::bind(config.http_bind).await.map_err(at)?;
        let address = listener.local_addr().map_err(at)?;
        Ok(Self {
            config,
            link,
            listener,
            address,
        })
    }

    /// Where it serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts its tasks. They end when the drain token of `tasks` is cancelled: the API first, then the lock is given up.
    pub fn spawn(self, tasks: &Tasks) -> Fleet {
        let random = fastrand::Rng::with_seed(self.config.seed);
        let fleet = fleet::actor::start(self.config.rules, self.link, tasks, random);
        let router = api::router(fleet.clone(), self.config.api, tasks);
        let server = http::serve(self.listener, router, CONNECTIONS, tasks.drain_token());
        drop(tasks.spawn(TaskKind::Vital, "http", server));
        info!(http.address = %self.address, "serving HTTP on {}", self.address);
        fleet
    }
}
