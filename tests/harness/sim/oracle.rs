//! What the state log says, worked out apart from the product: what counts, what ever counted, what requests led to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mobu_fleet::domain::desired::{Change, DesiredState};
use mobu_fleet::domain::fold::{Verdict, View};
use mobu_fleet::domain::messages::{EntryKind, LogEntry, Standing, Wire};
use mobu_fleet::link::LogRecord;

use super::model::Accepted;

/// The log, as the harness reads it.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Of the log as it is now: every entry without its state, and whether it counts.
    entries: Vec<(u64, LogEntry, bool)>,
    fence: Option<(u64, String)>,
    /// The newest state that counts now.
    pub(super) newest: Option<(Standing, Arc<DesiredState>)>,
    /// Every state that ever counted, by revision and digest.
    pub(super) counted: BTreeMap<(u64, String), Arc<DesiredState>>,
    /// Every generation that a state ever asked for.
    pub(super) asked: BTreeSet<(String, u64)>,
    /// The changes that requests led to, by request and revision.
    pub(super) changes: BTreeMap<(String, u64), Change>,
    /// Every change that ever counted: a client may yet hear of it.
    pub(super) all: Accepted,
    /// The revision of each request.
    revisions: BTreeMap<String, u64>,
    /// The requests that the newest state that counts now knows.
    requests: BTreeSet<String>,
    /// Whether the log lost something and does not have it again: until then a repeated request may be carried out a second
    /// time.
    pub(super) has_forgotten: bool,
    /// What was wrong with the log itself.
    pub(super) wrong: Option<String>,
}

impl Oracle {
    /// Reads what is new.
    pub(super) fn absorb(&mut self, log: &[LogRecord]) {
        for record in log.iter().skip(self.entries.len()) {
            let entry = LogEntry::decode("", &record.payload).expect("only coordinators append");
            self.take(record.offset, entry);
        }
    }

    /// The log lost something: what is left is read anew.
    pub(super) fn lose(&mut self, log: &[LogRecord]) {
        self.check_fold();
        self.has_forgotten = true;
        self.entries.clear();
        (self.fence, self.newest) = (None, None);
        self.requests.clear();
        self.absorb(log);
    }

    fn take(&mut self, offset: u64, mut entry: LogEntry) {
        let fence = (entry.epoch.0, entry.owner.as_str().to_owned());
        let counts = self.fence.as_ref().is_none_or(|last| fence >= *last);
        let state = entry.state.take();
        if counts {
            self.fence = Some(fence);
            if let Some(state) = state {
                self.count(&entry, state);
            }
        }
        self.entries.push((offset, entry, counts));
    }

    fn count(&mut self, entry: &LogEntry, state: DesiredState) {
        let digest = entry.digest.clone().expect("coordinators of this version give it");
        let standing = Standing {
            epoch: entry.epoch,
            revision: state.revision,
            digest: digest.clone(),
            owner: Some(entry.owner.clone()),
        };
        if let Some((before, _)) = &self.newest
            && before.revision > standing.revision
        {
            self.wrong = Some(format!(
                "revision {} of epoch {} follows revision {} in the log",
                standing.revision, standing.epoch, before.revision
            ));
        }
        for (name, flock) in &state.flocks {
            self.asked.insert((name.as_str().to_owned(), flock.generation.0));
        }
        self.requests.clear();
        for (request, revision) in &entry.request_ids {
            let request = request.as_str().to_owned();
            self.requests.insert(request.clone());
            if self.has_forgotten {
                self.revisions.remove(&request);
            }
            let known = *self.revisions.entry(request.clone()).or_insert(revision.0);
            if known != revision.0 {
                self.wrong = Some(format!("request {request} made revisions {known} and {revision}"));
            }
            if *revision == state.revision
                && let Some(change) = entry.change.clone().filter(|change| *change != Change::Takeover)
            {
                self.changes.entry((request, revision.0)).or_insert(change);
            }
        }
        if let Some(change) = &entry.change {
            self.all.take(state.revision, change);
        }
        let state = Arc::new(state);
        self.counted.insert((state.revision.0, digest), state.clone());
        self.newest = Some((standing, state));
    }

    /// Returns whether the newest state knows every request that ever counted.
    pub(super) fn knows_requests(&self) -> bool {
        self.revisions.keys().all(|request| self.requests.contains(request))
    }

    /// Returns the log in lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let line = |(offset, entry, counts): &(u64, LogEntry, bool)| {
            let (kind, epoch, revision) = (entry.kind, entry.epoch, entry.revision);
            let owner: String = entry.owner.as_str().chars().take(6).collect();
            format!("log {offset}: {kind:?} of epoch {epoch}, owner {owner}, revision {revision}, counts: {counts}")
        };
        self.entries.iter().map(line).collect()
    }

    /// Whoever begins at an entry that counts must come to know the same as who read everything.
    pub(super) fn check_fold(&mut self) {
        for (start, _) in self.entries.iter().enumerate().filter(|(_, (_, _, counts))| *counts) {
            let mut view = View::default();
            for (offset, entry, counts) in &self.entries[start..] {
                let mut entry = entry.clone();
                if entry.kind == EntryKind::State {
                    entry.state = Some(DesiredState::default());
                }
                if (view.fold(*offset, entry) != Verdict::Ignored) != *counts {
                    self.wrong = Some(format!(
                        "a reader that began at entry {start} takes entry {offset} for another thing"
                    ));
                    return;
                }
            }
        }
    }
}
