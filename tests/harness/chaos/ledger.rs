//! What clients asked for and what they were told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What an operation does to its flock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Starts it, or starts it anew.
    Start,
    /// Stops it.
    Stop,
    /// Refreshes it.
    Refresh,
}

/// What a client knows of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was not sent, or certainly not carried out.
    NotDone,
    /// It may have been carried out, or may yet be.
    Unknown,
    /// It was acknowledged as this revision.
    Accepted(u64),
    /// There was no such flock.
    NotFound,
}

/// One operation of a client.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// Its name: the beginning of the request's ID in the log.
    pub(super) id: String,
    /// Who asked.
    pub(super) client: String,
    /// What for.
    pub(super) action: Action,
    /// Of which flock.
    pub(super) flock: String,
    /// How often it was sent without a clear answer.
    pub(super) unclear: u32,
    /// What became of it.
    pub(super) fate: Fate,
}

/// All operations, in the order in which they were begun; shared by clients and checks.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    // Leaf data; never held over an await.
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Ledger {
    /// An operation begins; returns its number.
    pub(super) fn begin(&self, client: &str, action: Action, flock: &str) -> (usize, String) {
        let mut operations = self.lock();
        let number = operations.len();
        let id = format!("{client}-{number}");
        operations.push(Operation {
            id: id.clone(),
            client: client.to_owned(),
            action,
            flock: flock.to_owned(),
            unclear: 0,
            fate: Fate::NotDone,
        });
        (number, id)
    }

    /// It was sent, and nothing clear came back.
    pub(super) fn unclear(&self, number: usize) {
        let operation = &mut self.lock()[number];
        operation.unclear += 1;
        operation.fate = Fate::Unknown;
    }

    /// It was answered.
    pub(super) fn settle(&self, number: usize, fate: Fate) {
        self.lock()[number].fate = fate;
    }

    /// Returns the operations from a number on.
    pub(super) fn since(&self, number: usize) -> Vec<Operation> {
        self.lock()[number..].to_vec()
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Counts operations by what became of them: accepted, unknown, not found, not done.
    pub(super) fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for operation in self.lock().iter() {
            counts[match operation.fate {
                Fate::Accepted(_) => 0,
                Fate::Unknown => 1,
                Fate::NotFound => 2,
                Fate::NotDone => 3,
            }] += 1;
        }
        counts
    }

    /// Returns the action of each operation by its ID.
    pub(super) fn by_id(&self) -> BTreeMap<String, (Action, String)> {
        let operations = self.lock();
        let all = operations.iter();
        all.map(|operation| (operation.id.clone(), (operation.action, operation.flock.clone())))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.operations
            .lock()
            .expect("no code panics while it holds the ledger")
    }
}
