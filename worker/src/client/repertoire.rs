//! Where services are: from Repertoire, or from a static document of the same shape (`contracts/businesses.md` 3).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mobu_fleet::domain::discovery::{Discovery, NotDiscovered};
use mobu_fleet::link::BoxError;
use mobu_fleet::runtime::clock::{self, Instant};
use reqwest::Client;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::warn;
use url::Url;

use super::http;

/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(300);
/// How long the service may take to answer.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Why it is not known where a service is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    /// Nothing says where to look.
    #[error("neither `discovery` nor REPERTOIRE_BASE_URL says where services are")]
    NotConfigured,
    /// The environment does not have it.
    #[error(transparent)]
    NotFound(#[from] NotDiscovered),
    /// Service discovery cannot be asked.
    #[error("service discovery did not answer")]
    Unreachable(#[source] BoxError),
    /// Service discovery answered something else.
    #[error("service discovery answered with status {status}")]
    Status {
        /// Which status.
        status: u16,
    },
    /// The same, for each of those who waited for the answer.
    #[error(transparent)]
    Shared(Arc<DiscoveryError>),
}

/// Finds services, and remembers where they are.
#[derive(Debug)]
pub(crate) struct Locator {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Static(Arc<Discovery>),
    Repertoire(Repertoire),
}

impl Locator {
    /// Always gives the same answer.
    pub(crate) fn fixed(discovery: Arc<Discovery>) -> Self {
        Self {
            source: Source::Static(discovery),
        }
    }

    /// Asks Repertoire at its base URL.
    pub(crate) fn repertoire(base_url: &Url) -> Result<Self, reqwest::Error> {
        Ok(Self {
            source: Source::Repertoire(Repertoire {
                url: format!("{}/discovery", base_url.as_str().trim_end_matches('/')),
                client: http::for_service()?,
                last: Mutex::default(),
                failed: Mutex::default(),
                asking: Semaphore::new(1),
            }),
        })
    }

    /// Returns what there is, at most five minutes old, or older if it cannot be asked for anew.
    pub(crate) async fn discover(&self) -> Result<Arc<Discovery>, DiscoveryError> {
        match &self.source {
            Source::Static(discovery) => Ok(discovery.clone()),
            Source::Repertoire(repertoire) => repertoire.discover().await,
        }
    }
}

#[derive(Debug)]
struct Repertoire {
    url: String,
    client: Client,
    /// Guards the last answer and when it came; held for a copy, never over an await.
    last: Mutex<Option<(Instant, Arc<Discovery>)>>,
    /// Guards why the last question failed, and when; held for a copy, never over an await.
    failed: Mutex<Option<(Instant, Arc<DiscoveryError>)>>,
    /// One question at a time; the others wait for its answer.
    asking: Semaphore,
}

impl Repertoire {
    async fn discover(&self) -> Result<Arc<Discovery>, DiscoveryError> {
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        let since = clock::now();
        let _turn = self
            .asking
            .acquire()
            .await
            .map_err(|closed| DiscoveryError::Unreachable(closed.into()))?;
        if let Some(fresh) = self.fresh() {
            return Ok(fresh);
        }
        // Who waited does not ask again what just failed: each of thousands would wait for its own time limit.
        let failed = self.failed().clone();
        if let Some((_, error)) = failed.filter(|(at, _)| *at > since) {
            return self.stale(error);
        }
        match self.ask().await {
            Ok(discovery) => {
                let discovery = Arc::new(discovery);
                *self.last() = Some((clock::now(), discovery.clone()));
                Ok(discovery)
            }
            Err(error) => {
                let error = Arc::new(error);
                *self.failed() = Some((clock::now(), error.clone()));
                if self.last().is_some() {
                    warn!("Failed to refresh service discovery information, returning cached data");
                }
                self.stale(error)
            }
        }
    }

    /// Returns the last answer, however old.
    fn stale(&self, error: Arc<DiscoveryError>) -> Result<Arc<Discovery>, DiscoveryError> {
        let last = self.last().clone();
        last.map(|(_, old)| old).ok_or(DiscoveryError::Shared(error))
    }

    async fn ask(&self) -> Result<Discovery, DiscoveryError> {
        let unreachable = |error: reqwest::Error| DiscoveryError::Unreachable(error.without_url().into());
        let response = self
            .client
            .get(&self.url)
            .timeout(TIMEOUT)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        if !status.is_success() {
            return Err(DiscoveryError::Status {
                status: status.as_u16(),
            });
        }
        let body = response.bytes().await.map_err(unreachable)?;
        let answer: Value = serde_json::from_slice(&body).map_err(|error| DiscoveryError::Unreachable(error.into()))?;
        Discovery::parse_at(&answer, &[]).map_err(|errors| DiscoveryError::Unreachable(errors.into()))
    }

    fn fresh(&self) -> Option<Arc<Discovery>> {
        let last = self.last();
        let (at, discovery) = last.as_ref()?;
        (at.elapsed() < FRESH).then(|| discovery.clone())
    }

    fn failed(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<DiscoveryError>)>> {
        self.failed
            .lock()
            .expect("no code panics while it holds the last failure")
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<Discovery>)>> {
        self.last.lock().expect("no code panics while it holds the last answer")
    }
}
