//! The three businesses that run the notebooks of a repository (`contracts/businesses.md` 6). They differ in nothing but how many
//! notebooks one session runs.

mod glob;
mod queue;
mod selection;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::business::{
    LogLevel, NotebookOptions, NotebookRunnerCountingOptions, NotebookRunnerOptions, NubladoOptions, shown_repo_url,
};
use mobu_fleet::domain::events::{Act, NotebookSource};
use mobu_fleet::runtime::clock::{self, Instant};

use self::glob::GlobError;
use self::queue::Queue;
use self::selection::Selection;
use super::nublado::{CodeError, LOGGED, LabSession, LabWork, Ran};
use super::{IterationError, Phase};
use crate::client::git;
use crate::client::repertoire::DiscoveryError;
use crate::client::repository::{
    Catalog, CatalogError, Cell, CloneError, Listed, NotebookError, Repository, WorkingCopy,
};
use crate::monkey::{Event, Field, Monkey};

/// How long a session is kept alive at a time while nothing runs in it.
const KEPT_ALIVE: Duration = Duration::from_secs(60);

/// A monkey that runs notebooks.
#[derive(Debug)]
pub(super) struct NotebookRunner {
    options: Options,
    repository: Repository,
    random: fastrand::Rng,
    /// Its share of the clone, and what it runs of it. Kept over failures, so that a restart goes on where the failure was.
    stock: Option<Stock>,
    /// Base name of the notebook that ran last.
    last: Option<String>,
}

/// What it was told, and with that how many notebooks it runs in one session.
#[derive(Debug, Clone)]
pub(super) enum Options {
    /// So many as the options say.
    Counting(Arc<NotebookRunnerCountingOptions>),
    /// As many as there are.
    List(Arc<NotebookRunnerOptions>),
    /// One after the other, without end.
    Infinite(Arc<NotebookRunnerOptions>),
}

/// A clone, and what is run of it.
#[derive(Debug)]
struct Stock {
    copy: Arc<WorkingCopy>,
    catalog: Arc<Catalog>,
    /// Positions in the catalog of what the rules leave.
    runnable: Vec<usize>,
    queue: Queue,
}

/// Why notebooks could not be run. The texts of the notebook and of the cell are mobu's.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error(transparent)]
    Clone(#[from] Arc<CloneError>),
    #[error(transparent)]
    Catalog(#[from] Arc<CatalogError>),
    #[error("a collection rule cannot be followed")]
    Rule(#[from] GlobError),
    #[error("cannot learn which applications there are")]
    Discovery(#[from] DiscoveryError),
    #[error("there is no notebook to run: the rules leave none of the {listed} in {repository}")]
    Nothing { listed: usize, repository: String },
    #[error("Invalid notebook {name}: {cause}")]
    Notebook { name: String, cause: NotebookError },
    #[error("{path}: Error executing cell")]
    Cell { path: String, source: CodeError },
    #[error("the run has not been started up")]
    NotStarted,
}

impl From<RunError> for IterationError {
    fn from(error: RunError) -> Self {
        let kind = match &error {
            RunError::Clone(_) => "clone",
            RunError::Catalog(_) | RunError::Rule(_) | RunError::Nothing { .. } => "repository",
            RunError::Discovery(_) => "discovery",
            RunError::Notebook { .. } | RunError::NotStarted => "notebook",
            RunError::Cell {
                source: CodeError::Stopped(stopped),
                ..
            } => return Self::Stopped(*stopped),
            RunError::Cell { source, .. } => source.kind(),
        };
        let reason = match &error {
            RunError::Clone(error) => git::reason(&**error),
            _ => None,
        };
        Self::retry(kind, error).because(&reason.unwrap_or_default())
    }
}

impl Options {
    fn notebooks(&self) -> &NotebookOptions {
        match self {
            Self::Counting(options) => &options.notebooks,
            Self::List(options) | Self::Infinite(options) => &options.notebooks,
        }
    }

    fn nublado(&self) -> &NubladoOptions {
        match self {
            Self::Counting(options) => &options.nublado,
            Self::List(options) | Self::Infinite(options) => &options.nublado,
        }
    }

    /// Returns how many notebooks a session runs, if `runnable` are left to run; `None` is without end.
    fn size(&self, runnable: usize) -> Option<u64> {
        match self {
            Self::Counting(options) => Some(options.max_executions),
            Self::List(_) => Some(runnable as u64),
            Self::Infinite(_) => None,
        }
    }

    /// Whether a session without any notebook is one that was asked for.
    const fn may_run_nothing(&self) -> bool {
        matches!(self, Self::List(_))
    }
}

impl NotebookRunner {
    pub(super) fn new(options: Options, monkey: &Monkey) -> Self {
        let notebooks = options.notebooks();
        Self {
            repository: Repository {
                url: notebooks.repo_url.clone(),
                reference: notebooks.repo_ref.clone(),
            },
            options,
            random: monkey.random(),
            stock: None,
            last: None,
        }
    }

    /// Takes a share of a clone that is not older than `since`, and chooses from it. If it is the one that is held already, its
    /// round of notebooks goes on.
    async fn restock(&mut self, monkey: &Monkey, since: Option<Instant>) -> Result<(), IterationError> {
        monkey.enter(Phase::CloneRepo);
        let clones = &monkey.surroundings().clones;
        let copy = monkey.unless_stopped(clones.get(&self.repository, since)).await?;
        let copy = copy.map_err(RunError::from)?;
        monkey.enter(Phase::FindNotebooks);
        let catalog = monkey.unless_stopped(copy.catalog()).await?.map_err(RunError::from)?;
        let selection = Selection::new(self.options.notebooks(), &catalog).map_err(RunError::from)?;
        let runnable = selection.of(&catalog, &applications(monkey, &catalog).await?);
        if runnable.is_empty() {
            monkey.warn("No notebooks to run after filtering!");
        }
        monkey.leave();
        let held = self.stock.take();
        let goes_on = held.filter(|held| Arc::ptr_eq(&held.copy, &copy) && held.runnable == runnable);
        if goes_on.is_none() {
            self.last = None;
            monkey.show(|activity| activity.notebook = None);
        }
        self.stock = Some(Stock {
            queue: goes_on.map(|held| held.queue).unwrap_or_default(),
            copy,
            catalog,
            runnable,
        });
        Ok(())
    }

    /// Does what was asked for with a refresh, if one was. Returns whether one was.
    async fn refresh(&mut self, monkey: &Monkey, session: &mut LabSession<'_>) -> Result<bool, IterationError> {
        let Some(asked) = monkey.refresh_asked() else {
            return Ok(false);
        };
        monkey.info("Refreshing notebooks...");
        let mut restocking = Box::pin(self.restock(monkey, Some(asked)));
        loop {
            tokio::select! {
                biased;
                restocked = &mut restocking => break restocked?,
                // A repository may take long, and the session is to be there for its own end. A stop ends the other branch.
                _ = session.pause(KEPT_ALIVE) => {}
            }
        }
        drop(restocking);
        self.ready(monkey);
        monkey.refreshed(asked);
        Ok(true)
    }

    fn ready(&self, monkey: &Monkey) {
        let hash = self.stock.as_ref().map(|stock| stock.copy.hash()).unwrap_or_default();
        let repository = self.repository.to_string();
        monkey.say(&Event {
            level: LogLevel::Info,
            text: "Repository cloned and ready",
            fields: &[("repo", Field::Text(&repository)), ("repo_hash", Field::Text(hash))],
            exception: None,
        });
    }

    /// Refuses to begin what has nothing to run, and lets go of the clone: the next start-up may find a better one.
    fn check(&mut self) -> Result<(), RunError> {
        let stock = self.stock.as_ref().ok_or(RunError::NotStarted)?;
        if !stock.runnable.is_empty() || self.options.may_run_nothing() {
            return Ok(());
        }
        let listed = stock.catalog.notebooks.len();
        self.stock = None;
        Err(RunError::Nothing {
            listed,
            repository: self.repository.to_string(),
        })
    }

    /// Runs the next notebook, which is number `k` of `size`.
    async fn run_next(
        &mut self,
        monkey: &Monkey,
        session: &mut LabSession<'_>,
        (k, size): (u64, Option<u64>),
    ) -> Result<(), IterationError> {
        self.check()?;
        let stock = self.stock.as_mut().ok_or(RunError::NotStarted)?;
        let Some(position) = stock.queue.next(&stock.runnable, &mut self.random) else {
            return Ok(());
        };
        let (copy, catalog) = (stock.copy.clone(), stock.catalog.clone());
        let is_last = stock.queue.is_over();
        let listed = &catalog.notebooks[position];
        let name = listed.base_name().to_owned();
        self.last = Some(name.clone());
        monkey.show(|activity| activity.notebook = Some(name.clone()));
        let size = size.map_or_else(|| "infinite".to_owned(), |size| size.to_string());
        monkey.info(&format!("Notebook {name} iteration {k}/{size}"));
        let source = NotebookSource {
            notebook: listed.path.clone(),
            repo: shown_repo_url(&self.repository.url),
            repo_ref: self.repository.reference.clone(),
            repo_hash: copy.hash().to_owned(),
        };
        let pause = self.options.nublado().execution_idle_time.to_std();
        let begun = clock::now();
        let ran = run_notebook(monkey, session, (listed, &copy), &source, pause).await;
        if !matches!(ran, Err(IterationError::Stopped(_))) {
            monkey.emit(Act::NotebookExecution {
                notebook: source,
                duration: Some(begun.elapsed().as_secs_f64()),
                success: ran.is_ok(),
            });
        }
        ran?;
        monkey.info(&format!("Success running notebook {name}"));
        if is_last {
            monkey.info("Done with this cycle of notebooks");
        }
        Ok(())
    }
}

impl LabWork for NotebookRunner {
    fn options(&self) -> &NubladoOptions {
        self.options.nublado()
    }

    async fn startup(&mut self, monkey: &Monkey) -> Result<(), IterationError> {
        // Whoever begins anew may as well begin with what a refresh would bring.
        let asked = monkey.refresh_asked();
        self.restock(monkey, asked).await?;
        self.ready(monkey);
        if let Some(asked) = asked {
            monkey.refreshed(asked);
        }
        Ok(self.check()?)
    }

    fn notebook_name(&self) -> Option<String> {
        self.last.clone()
    }

    async fn execute_code(&mut self, monkey: &Monkey, session: &mut LabSession<'_>) -> Result<(), IterationError> {
        let runnable = self.stock.as_ref().map_or(0, |stock| stock.runnable.len());
        let size = self.options.size(runnable);
        let idle = self.options.notebooks().notebook_idle_time.to_std();
        let mut k = 0;
        loop {
            // Also after the last one: what came meanwhile need not cost a lab of its own.
            if self.refresh(monkey, session).await? {
                return Ok(());
            }
            if size == Some(k) {
                return Ok(());
            }
            k += 1;
            self.run_next(monkey, session, (k, size)).await?;
            session.pause(idle).await.unless_stopped()?;
        }
    }

    async fn shutdown(&mut self, _: &Monkey) -> Result<(), IterationError> {
        self.stock = None;
        Ok(())
    }
}

/// Returns which applications there are, if any notebook asks.
async fn applications(monkey: &Monkey, catalog: &Catalog) -> Result<BTreeSet<String>, IterationError> {
    let is_asked = catalog
        .notebooks
        .iter()
        .any(|listed| !listed.required_applications.is_empty());
    match monkey.surroundings().locator.as_deref() {
        Some(locator) if is_asked => {
            let discovered = monkey.unless_stopped(locator.discover()).await?;
            Ok(discovered.map_err(RunError::from)?.applications.clone())
        }
        _ => Ok(BTreeSet::new()),
    }
}

/// Runs all cells of a notebook, with a pause after each.
async fn run_notebook(
    monkey: &Monkey,
    session: &mut LabSession<'_>,
    (listed, copy): (&Listed, &Arc<WorkingCopy>),
    source: &NotebookSource,
    pause: Duration,
) -> Result<(), IterationError> {
    monkey.enter(Phase::ReadNotebook);
    let notebook = monkey.unless_stopped(copy.notebook(listed)).await?;
    let notebook = notebook.map_err(|cause| {
        let name = listed.base_name().to_owned();
        IterationError::from(RunError::Notebook { name, cause }).notebook(&listed.path)
    })?;
    monkey.leave();
    if notebook.cells.is_empty() {
        monkey.warn("empty notebook");
        session.pause(pause).await.unless_stopped()?;
    }
    for cell in &notebook.cells {
        run_cell(monkey, session, source, cell).await?;
        session.pause(pause).await.unless_stopped()?;
    }
    Ok(())
}

async fn run_cell(
    monkey: &Monkey,
    session: &mut LabSession<'_>,
    notebook: &NotebookSource,
    cell: &Cell,
) -> Result<(), IterationError> {
    let shown = |text: &str| monkey.shown(text, LOGGED);
    monkey.info(&format!("Executing cell {}:\n{}\n", cell.id, shown(&cell.code)));
    // Boxed, because it needs more room than all the rest of a monkey, and only while it is under way.
    monkey.enter(Phase::ExecuteCell);
    let begun = clock::now();
    let ran = Box::pin(session.run(&cell.code)).await;
    if !ran.is_stopped() {
        monkey.emit(Act::NotebookCellExecution {
            notebook: notebook.clone(),
            duration: Some(begun.elapsed().as_secs_f64()),
            cell_id: cell.id.clone(),
            success: ran.ended.is_ok(),
        });
    }
    let Ran { printed, ended } = ran;
    if ended.is_err() && !printed.is_empty() {
        monkey.info(&format!("Printed before it ended:\n{}\n", shown(&printed)));
    }
    ended.map_err(|source| {
        let path = notebook.notebook.clone();
        let error = source.explained(|source| RunError::Cell { path, source }.into());
        error.notebook(&notebook.notebook).cell(&cell.id)
    })?;
    monkey.leave();
    monkey.info(&format!("Result:\n{}\n", shown(&printed)));
    Ok(())
}

/// See [`crate::fuzzing::glob`].
#[cfg(feature = "fuzzing")]
pub(crate) fn glob_finds(pattern: &str, path: &str) -> Result<bool, String> {
    let glob = glob::Glob::parse(pattern).map_err(|error| error.to_string())?;
    let names: Vec<_> = path.split('/').collect();
    Ok(glob.matches(&names, crate::client::repository::EntryKind::File))
}
