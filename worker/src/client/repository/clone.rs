//! One clone: how git makes it, and how it goes.

use std::ffi::OsString;
use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::runtime::clock::Instant;
use tempfile::TempDir;
use tokio::sync::{OnceCell, Semaphore};
use tracing::{debug, warn};

use super::catalog::{Catalog, CatalogError, Listed};
use super::login::Login;
use super::notebook::{Notebook, NotebookError};
use super::root::Root;
use super::{Repository, Workshop};
use crate::client::git::{GitError, Job, prepared, run};
use crate::client::shown::{Secrets, UrlSecrets};

/// Settings with which git leaves nothing running in a directory that is about to be used, and gives up a server that sends nothing.
const SETTINGS: [&str; 10] = [
    "-c",
    "gc.auto=0",
    "-c",
    "maintenance.auto=false",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "http.lowSpeedLimit=1",
    "-c",
    "http.lowSpeedTime=60",
];

/// What git gets of the process that it runs for.
#[derive(Debug, Clone)]
pub(crate) struct GitSurroundings {
    /// Its environment. With the user's home, in which git finds how to reach a private repository.
    pub(crate) environment: Vec<(OsString, OsString)>,
}

/// How long commands may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// To get everything from elsewhere.
    pub(crate) clone: Duration,
    /// To work with what is there.
    pub(crate) local: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clone: Duration::from_secs(600),
            local: Duration::from_secs(120),
        }
    }
}

/// Why there is no clone. Never says a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CloneError {
    /// The name of the branch, tag or commit would be an option to git.
    #[error("`{0}` is no branch, tag or commit")]
    Reference(String),
    /// There is no room for it.
    #[error("cannot make a directory for {repository}")]
    Directory {
        /// What is to be cloned.
        repository: String,
        /// What the system says.
        source: io::Error,
    },
    /// Git cannot make it.
    #[error("cannot clone {repository}")]
    Git {
        /// What is to be cloned.
        repository: String,
        /// What git says.
        source: GitError,
    },
    /// The process ends.
    #[error("the clone was abandoned")]
    Abandoned,
}

/// A clone with the wanted commit checked out. It is there until the last one lets go of it; nobody writes to it.
#[derive(Debug)]
pub(crate) struct WorkingCopy {
    begun: Instant,
    hash: String,
    catalog: OnceCell<Result<Arc<Catalog>, Arc<CatalogError>>>,
    readers: Arc<Semaphore>,
    /// Always there until it is dropped.
    directory: Option<Directory>,
}

/// The directory of a clone. Dropped first, so that the root finds nothing left of it.
#[derive(Debug)]
struct Directory {
    own: TempDir,
    _root: Arc<Root>,
}

impl WorkingCopy {
    /// A moment before git asked the repository for anything.
    pub(crate) const fn begun(&self) -> Instant {
        self.begun
    }

    /// The commit.
    pub(crate) fn hash(&self) -> &str {
        &self.hash
    }

    /// Where its files are.
    pub(crate) fn path(&self) -> &Path {
        self.directory.as_ref().expect("it is there until the end").own.path()
    }

    /// Returns what there is to run in it, read once for all who share it.
    pub(crate) async fn catalog(self: &Arc<Self>) -> Result<Arc<Catalog>, Arc<CatalogError>> {
        let read = || async {
            let read = self.read(|copy| Catalog::read(copy.path())).await;
            let read = read.unwrap_or_else(|ended| Err(CatalogError::Unread(ended)));
            read.map(Arc::new).map_err(Arc::new)
        };
        self.catalog.get_or_init(read).await.clone()
    }

    /// Returns a notebook of its catalog, read once for all who share it, unless that failed.
    pub(crate) async fn notebook(self: &Arc<Self>, listed: &Listed) -> Result<Arc<Notebook>, NotebookError> {
        let read = || async {
            let file = listed.file.clone();
            let read = self.read(move |copy| Notebook::read(copy.path(), &file)).await;
            let read = read.unwrap_or_else(|ended| Err(NotebookError::Unread(ended)));
            read.map(Arc::new)
        };
        listed.content.get_or_try_init(read).await.cloned()
    }

    /// Reads something where that may block, as one of a few who do. Neither its turn nor the clone goes before it is done, also if
    /// nobody waits for it any more.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> io::Result<T> {
        let turn = self.readers.clone().acquire_owned().await.map_err(io::Error::other)?;
        let copy = self.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let read = read(&copy);
            drop((copy, turn));
            read
        });
        reading.await.map_err(io::Error::other)
    }
}

impl Drop for WorkingCopy {
    fn drop(&mut self) {
        if let Some(directory) = self.directory.take() {
            aside(move || directory.remove());
        }
    }
}

impl Directory {
    fn remove(self) {
        let path = self.own.path().to_owned();
        if let Err(error) = self.own.close() {
            warn!(error = %error, "cannot remove the clone {}", path.display());
        }
    }
}

/// Does what keeps a thread waiting for the disk on a thread for that, if there is one.
fn aside(job: impl FnOnce() + Send + 'static) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(job)),
        Err(_) => job(),
    }
}

/// Makes a clone, or leaves nothing. It ends with `unneeded`.
pub(super) async fn make(
    workshop: &Arc<Workshop>,
    repository: &Repository,
    begun: Instant,
    unneeded: impl Future<Output = ()>,
) -> Result<WorkingCopy, CloneError> {
    if repository.reference.starts_with('-') {
        return Err(CloneError::Reference(repository.reference.clone()));
    }
    let workshop_for_root = workshop.clone();
    let made = tokio::task::spawn_blocking(move || {
        let root = workshop_for_root.root()?;
        let own = tempfile::Builder::new().prefix("clone-").tempdir_in(root.path())?;
        Ok(Directory { own, _root: root })
    });
    let made = made.await.unwrap_or_else(|ended| Err(io::Error::other(ended)));
    let directory = made.map_err(|source| CloneError::Directory {
        repository: repository.to_string(),
        source,
    })?;
    let cloned = fill(workshop, repository, directory.own.path(), unneeded).await;
    match cloned {
        Ok(hash) => {
            debug!("cloned {repository} at {hash}");
            Ok(WorkingCopy {
                begun,
                hash,
                catalog: OnceCell::new(),
                readers: workshop.readers.clone(),
                directory: Some(directory),
            })
        }
        Err(source) => {
            // Git is gone by now. Awaited, so that a failure leaves nothing by the time it is known.
            if let Err(ended) = tokio::task::spawn_blocking(move || directory.remove()).await {
                debug!(error = %ended, "a clone that failed was not removed");
            }
            Err(CloneError::Git {
                repository: repository.to_string(),
                source,
            })
        }
    }
}

/// Has git fill a directory; returns the commit.
async fn fill(
    workshop: &Workshop,
    repository: &Repository,
    directory: &Path,
    unneeded: impl Future<Output = ()>,
) -> Result<String, GitError> {
    let secrets = UrlSecrets::of(&repository.url);
    let login = Login::of(&repository.url);
    let mut unneeded = std::pin::pin!(unneeded);
    let path = directory.to_string_lossy();
    // Without a checkout: that of the repository's own branch would be for nothing.
    let clone = ["clone", "--quiet", "--no-checkout", "--", &login.url, &path];
    let checkout = ["checkout", "--quiet", &repository.reference, "--"];
    let hash = ["rev-parse", "HEAD"];
    let mut last = None;
    for (arguments, limit) in [
        (&clone[..], workshop.limits.clone),
        (&checkout[..], workshop.limits.local),
        (&hash[..], workshop.limits.local),
    ] {
        let login_settings = login.settings.iter().map(String::as_str);
        let settings = SETTINGS.into_iter().chain(login_settings);
        let with_settings: Vec<&str> = settings.chain(arguments.iter().copied()).collect();
        let mut command = prepared(&with_settings, directory, &workshop.git.environment);
        command.envs(login.variables.iter().map(|(name, value)| (name, value)));
        let job = Job {
            command,
            arguments,
            directory,
            limit,
            secrets: Secrets::Url(&secrets),
        };
        last = Some(run(job, unneeded.as_mut()).await?);
    }
    Ok(last.map(|output| output.stdout().to_owned()).unwrap_or_default())
}
