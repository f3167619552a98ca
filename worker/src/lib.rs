//! A replica of a mobu fleet: reads the state log, and runs the flocks that it says.

mod admin;
mod business;
mod client;
mod config;
mod flock;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod measure;
mod monkey;
mod replica;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use mobu_fleet::domain::ids::SessionId;
use mobu_fleet::link::Link;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::config::ServiceDiscovery;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use crate::config::{MonkeyLogs, TokenSource, WorkerConfig};
pub use crate::replica::{LinkStatus, WorkerHandle, WorkerStatus};

use crate::admin::Admin;
pub use crate::business::query_sets::own::QuerySetMistakes;
use crate::business::query_sets::own::QuerySets;
use crate::client::gafaelfawr::Gafaelfawr;
use crate::client::repertoire::Locator;
use crate::client::repository::Clones;
use crate::client::tokens::Tokens;
use crate::flock::Pasture;
use crate::measure::lateness::LatenessGauge;
use crate::measure::outlet::Outlet;
use crate::monkey::Surroundings;
use crate::monkey::spool::Spool;
use crate::replica::actor::{Parts, Replica};

/// A worker that is ready to run: it has its ports and files, and has not spoken to anybody yet.
#[derive(Debug)]
pub struct Worker {
    config: WorkerConfig,
    link: Arc<dyn Link>,
    surroundings: Surroundings,
    tokens: Tokens,
    spool: Option<Arc<Spool>>,
    admin: Option<(TcpListener, SocketAddr)>,
}

/// Why a worker cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The address for health and metrics cannot be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// There is no room for the monkeys' logs.
    #[error("cannot make a temporary file for the monkeys' logs")]
    Spool(#[source] std::io::Error),
    /// The query sets of one's own are not right.
    #[error(transparent)]
    QuerySets(#[from] QuerySetMistakes),
    /// HTTP clients cannot be made.
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    /// Tokens are to come from Gafaelfawr, and nothing says where that is.
    #[error("tokens come from Gafaelfawr, but neither `discovery` nor REPERTOIRE_BASE_URL says where it is")]
    NoDiscovery,
}

impl Worker {
    /// Takes what the worker needs of this machine.
    ///
    /// # Errors
    ///
    /// [`WorkerError`], each variant of it.
    pub fn build(config: WorkerConfig, link: Arc<dyn Link>) -> Result<Self, WorkerError> {
        let locator = match &config.discovery {
            None => None,
            Some(ServiceDiscovery::Static(discovery)) => Some(Locator::fixed(discovery.clone())),
            Some(ServiceDiscovery::Repertoire(base_url)) => {
                Some(Locator::repertoire(base_url).map_err(WorkerError::Client)?)
            }
        };
        let locator = locator.map(Arc::new);
        let tokens = match &config.tokens {
            TokenSource::Local => Tokens::local(config.seed),
            TokenSource::Gafaelfawr { token, timeout } => {
                let locator = locator.clone().ok_or(WorkerError::NoDiscovery)?;
                let gafaelfawr = Gafaelfawr::new(locator, token.clone(), *timeout);
                Tokens::Gafaelfawr(Box::new(gafaelfawr.map_err(WorkerError::Client)?))
            }
        };
        let query_sets = match &config.query_set_dir {
            None => QuerySets::default(),
            Some(directory) => QuerySets::read(directory)?,
        };
        let logs = &config.monkey_logs;
        let spool = if logs.to_file {
            let spool = Spool::create(logs.directory.as_deref(), logs.max_bytes).map_err(WorkerError::Spool)?;
            Some(Arc::new(spool))
        } else {
            None
        };
        let surroundings = Surroundings {
            instance_id: config.instance_id.clone(),
            is_one_of_many: config.replica_count > 1,
            spool: spool.clone(),
            profile: logs.profile,
            seed: config.seed,
            query_sets: Arc::new(query_sets),
            locator,
            git_environment: config.git_environment.clone(),
            // None are made before the worker has its tasks.
            clones: clones(&config, &Tasks::new()),
            lateness: LatenessGauge::default(),
            outlet: Outlet::new(config.event_rate),
        };
        let admin = config.http_bind.map(bind).transpose()?;
        Ok(Self {
            config,
            link,
            surroundings,
            tokens,
            spool,
            admin,
        })
    }

    /// Starts the worker. It ends when the tasks drain; its own end drains them.
    pub fn spawn(self, tasks: &Tasks) -> WorkerHandle {
        let mut random = fastrand::Rng::with_seed(self.config.seed);
        let session = SessionId::new(format!("{:016x}", random.u64(..)));
        let (status, status_rx) = watch::channel(WorkerStatus::default());
        let (contact, contact_rx) = watch::channel(clock::now());
        let (stop_limit, stop_limit_rx) = watch::channel(self.config.stop_timeout);
        let (ended_tx, flocks_ended) = mpsc::unbounded_channel();
        let pasture = Arc::new(Pasture {
            surroundings: Arc::new(Surroundings {
                clones: clones(&self.config, tasks),
                ..self.surroundings
            }),
            tokens: self.tokens,
            identity: self.config.identity(),
            stop_limit: stop_limit_rx,
            contact: contact_rx,
            changed: Arc::new(Notify::new()),
            ended: ended_tx,
        });
        let handle = WorkerHandle {
            instance_id: self.config.instance_id.clone(),
            session,
            status: status_rx,
            flocks: replica::handle::Flocks::default(),
            admin: self.admin.as_ref().map(|(_, address)| *address),
        };
        let ended = CancellationToken::new();
        if let Some((listener, address)) = self.admin {
            info!(http.address = %address, "health and metrics are served on http://{address}");
            let admin = Admin {
                handle: handle.clone(),
                spool: self.spool,
                surroundings: pasture.surroundings.clone(),
            };
            drop(tasks.spawn(TaskKind::Expendable, "admin", admin.serve(listener, ended.clone())));
        }
        let replica = Replica::new(Parts {
            config: self.config,
            handle: handle.clone(),
            status,
            tasks: tasks.clone(),
            pasture,
            contact,
            stop_limit,
            flocks_ended,
            ended,
        });
        drop(tasks.spawn(TaskKind::Vital, "replica", replica.run(self.link)));
        handle
    }
}

fn clones(config: &WorkerConfig, tasks: &Tasks) -> Clones {
    let home = config.git_home.clone().map(|home| ("HOME".into(), home));
    let environment = config.git_environment.iter().cloned().chain(home).collect();
    Clones::new(tasks.clone(), config.clone_directory.clone(), environment)
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), WorkerError> {
    let bound = || {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound().map_err(|source| WorkerError::Bind { address, source })
}
