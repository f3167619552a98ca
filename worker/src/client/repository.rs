//! Clones of repositories, shared by all monkeys of a replica that run the same branch, tag or commit.
//!
//! Whoever needs a clone takes a share of it, and the last one to let go removes it: nothing is counted, and what a monkey
//! runs is never pulled from under it, whatever the others do. A clone is as new as the moment when git was started for
//! it. Who was told to refresh asks for one that is not older than that wish, and the first to ask has it made for all.

mod catalog;
mod clone;
mod flight;
mod inside;
mod login;
mod notebook;
mod root;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use mobu_fleet::runtime::clock::{self, Instant};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::sync::Semaphore;

pub(crate) use self::catalog::{Catalog, CatalogError, EntryKind, Listed};
pub(crate) use self::clone::{CloneError, GitSurroundings, Limits, WorkingCopy};
use self::flight::Flight;
pub(crate) use self::notebook::{Cell, NotebookError};
use self::root::Root;
#[cfg(feature = "fuzzing")]
pub(crate) use self::{catalog::parse_config, notebook::Notebook};
use super::shown::UrlSecrets;

/// Git's own directory. What has such a name in there, a branch for one, is no notebook.
const GIT: &str = ".git";

/// How many repositories are cloned at a time. Each takes a process or two, and much of a disk.
const AT_A_TIME: usize = 16;

/// How many files of repositories are read at a time. While one is, all of it is in memory, and it may be large.
const READERS: usize = 2;

/// What is cloned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Repository {
    /// Anything that git clones.
    pub(crate) url: String,
    /// Branch, tag or commit.
    pub(crate) reference: String,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = UrlSecrets::of(&self.url).hide(&self.url);
        write!(f, "`{}` of {url}", self.reference)
    }
}

/// All clones of a replica.
#[derive(Debug)]
pub(crate) struct Clones {
    tasks: Tasks,
    workshop: Arc<Workshop>,
}

/// What those who make clones share.
#[derive(Debug)]
struct Workshop {
    git: GitSurroundings,
    limits: Limits,
    /// Where clones are made; `None` for the system's choice.
    parent: Option<PathBuf>,
    /// Guards which clones there are; held for a look or a change, never over an await.
    slots: Mutex<BTreeMap<Repository, Slot>>,
    /// Guards the directory of all clones, which is there while any is; held while it is made.
    root: Mutex<Weak<Root>>,
    /// One permit for each clone that may be in the making.
    turns: Semaphore,
    /// One permit for each file that may be in memory.
    readers: Arc<Semaphore>,
}

/// What there is of one repository.
#[derive(Debug)]
struct Slot {
    /// The newest clone, as long as anybody uses it.
    newest: Weak<WorkingCopy>,
    /// The newest attempt to make one, as long as anybody waits for it.
    flight: Weak<Flight>,
    /// Taken while git makes a clone of this repository.
    turn: Arc<Semaphore>,
}

impl Default for Slot {
    fn default() -> Self {
        Self {
            newest: Weak::new(),
            flight: Weak::new(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Slot {
    fn is_used(&self) -> bool {
        self.newest.strong_count() > 0 || self.flight.strong_count() > 0 || Arc::strong_count(&self.turn) > 1
    }
}

impl Clones {
    /// Makes an empty set. Clones are made by tasks of their own, below `parent` or where the system keeps temporary files.
    pub(crate) fn new(tasks: Tasks, parent: Option<PathBuf>, environment: Vec<(OsString, OsString)>) -> Self {
        Self::with_limits(tasks, parent, GitSurroundings { environment }, Limits::default())
    }

    fn with_limits(tasks: Tasks, parent: Option<PathBuf>, git: GitSurroundings, limits: Limits) -> Self {
        Self {
            tasks,
            workshop: Arc::new(Workshop {
                git,
                limits,
                parent,
                slots: Mutex::default(),
                root: Mutex::default(),
                turns: Semaphore::new(AT_A_TIME),
                readers: Arc::new(Semaphore::new(READERS)),
            }),
        }
    }

    /// Returns a clone that is not older than `since`: one that is there, or one that is now made for all who ask meanwhile.
    ///
    /// # Errors
    ///
    /// [`CloneError`]; who asks again, has git try again.
    ///
    /// # Cancel safety
    ///
    /// Dropped by everybody who waits, it ends git and removes what there is of the clone.
    pub(crate) async fn get(
        &self,
        repository: &Repository,
        since: Option<Instant>,
    ) -> Result<Arc<WorkingCopy>, Arc<CloneError>> {
        let flight = {
            let mut slots = self
                .workshop
                .slots
                .lock()
                .expect("no code panics while it holds the slots");
            slots.retain(|_, slot| slot.is_used());
            let slot = slots.entry(repository.clone()).or_default();
            let is_new_enough = |begun| since.is_none_or(|since| begun >= since);
            if let Some(newest) = slot.newest.upgrade().filter(|copy| is_new_enough(copy.begun())) {
                return Ok(newest);
            }
            let under_way = slot.flight.upgrade();
            under_way
                .filter(|flight| is_new_enough(flight.begun()) && !flight.is_over())
                .unwrap_or_else(|| self.depart(repository, slot))
        };
        flight.wait().await
    }

    fn depart(&self, repository: &Repository, slot: &mut Slot) -> Arc<Flight> {
        let (flight, crew) = Flight::new(clock::now());
        slot.flight = Arc::downgrade(&flight);
        let making = crew.fly(self.workshop.clone(), repository.clone(), slot.turn.clone());
        // Its outcome goes to those who wait for the flight.
        drop(self.tasks.spawn(TaskKind::Expendable, "clone", making));
        flight
    }
}

impl Workshop {
    /// Returns the directory of all clones, and makes it if there is none. Blocks.
    fn root(&self) -> std::io::Result<Arc<Root>> {
        let mut root = self.root.lock().expect("no code panics while it makes the directory");
        if let Some(there) = root.upgrade().filter(|root| root.path().is_dir()) {
            return Ok(there);
        }
        let made = match &self.parent {
            Some(parent) => Root::create(parent),
            None => Root::create(&std::env::temp_dir()),
        };
        let made = Arc::new(made?);
        *root = Arc::downgrade(&made);
        Ok(made)
    }

    /// Lets others have a clone that was made, unless there is a newer one.
    fn put(&self, repository: &Repository, copy: &Arc<WorkingCopy>) {
        let mut slots = self.slots.lock().expect("no code panics while it holds the slots");
        let slot = slots.entry(repository.clone()).or_default();
        if slot.newest.upgrade().is_none_or(|newest| newest.begun() < copy.begun()) {
            slot.newest = Arc::downgrade(copy);
        }
    }
}

#[cfg(test)]
#[path = "repository/tests.rs"]
mod tests;
