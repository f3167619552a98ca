//! Which entries of the state log count: one pure function, the same in every process.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::desired::{Change, DesiredState};
use super::ids::{Epoch, Owner, RequestId, Revision};
use super::line::Line;
use super::messages::{EntryKind, LogEntry, ReadEntry, Source, Standing};
use crate::simulation::{Bug, has};

/// How many accepted changes a view remembers.
pub const HISTORY_KEPT: usize = 100;

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It does not count: its coordinator had been replaced before the entry reached the log.
    Ignored,
    /// A coordinator claims the log under a new epoch.
    Claimed,
    /// The desired state, from here on.
    State,
}

/// An accepted change, as the log remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastChange {
    /// Its number.
    pub revision: Revision,
    /// The reign that it happened in.
    pub epoch: Epoch,
    /// What it changed.
    pub change: Change,
    /// Who asked for it.
    pub by: String,
    /// How they asked.
    pub source: Source,
    /// When it was accepted.
    pub at: Timestamp,
}

/// What a reader of the state log knows.
///
/// An entry counts if and only if its `(epoch, owner)`, compared as a pair, is not below that of the last entry that
/// counted (`amqp.md` b.4, rule 1). Everything that follows an entry that counted is seen in order, so a reader
/// may begin at any such entry and ends up knowing the same.
#[derive(Debug, Clone, Default)]
pub struct View {
    fence: Option<(Epoch, Owner)>,
    state: Option<Held>,
    /// The revision of the newest state that counts, if it cannot be read.
    unreadable: Option<Revision>,
    history: VecDeque<Arc<PastChange>>,
}

/// A state that somebody knows, and all that must not be forgotten with it.
#[derive(Debug, Clone)]
pub struct Known {
    /// The desired state.
    pub state: Arc<DesiredState>,
    /// Its epoch, revision, digest and author.
    pub standing: Standing,
    /// The states that it descends from, itself included.
    pub line: Arc<Line>,
    /// The last requests and the revision that each led to, oldest first: at most 256.
    pub request_ids: Arc<VecDeque<(RequestId, Revision)>>,
}

/// The state that a view holds, and where the log has it.
#[derive(Debug, Clone)]
pub struct Held {
    /// The state.
    pub known: Known,
    /// Its entry's offset in the log.
    pub offset: u64,
}

impl std::ops::Deref for Held {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl View {
    /// Takes the next entry of the log, as far as it could be read.
    pub fn fold_read(&mut self, offset: u64, entry: ReadEntry) -> Verdict {
        match entry {
            ReadEntry::Whole(entry) => self.fold(offset, entry),
            ReadEntry::Unreadable { header, .. } => {
                let fence = (header.epoch, header.owner);
                if self.fence.as_ref().is_some_and(|last| fence < *last) {
                    return Verdict::Ignored;
                }
                self.fence = Some(fence);
                if header.kind.is_some_and(|kind| kind == "claim") {
                    return Verdict::Claimed;
                }
                self.unreadable = Some(header.revision);
                Verdict::State
            }
        }
    }

    /// Takes the next entry of the log.
    pub fn fold(&mut self, offset: u64, entry: LogEntry) -> Verdict {
        let fence = (entry.epoch, entry.owner.clone());
        let is_below = |last: &(Epoch, Owner)| fence < *last && !(has(Bug::FoldWithoutOwner) && fence.0 == last.0);
        if self.fence.as_ref().is_some_and(is_below) {
            return Verdict::Ignored;
        }
        self.fence = Some(fence);
        match (entry.kind, entry.state) {
            (EntryKind::State, Some(state)) => {
                let digest = entry.digest.unwrap_or_else(|| state.digest());
                let standing = Standing {
                    epoch: entry.epoch,
                    revision: state.revision,
                    digest,
                    owner: Some(entry.owner),
                };
                // A version that does not tell the line breaks it off.
                let mut line = entry.line.unwrap_or_else(|| Line::of(&standing));
                line.add(&standing);
                self.remember(PastChange {
                    revision: state.revision,
                    epoch: entry.epoch,
                    change: entry.change.unwrap_or(Change::Takeover),
                    by: entry.by,
                    source: entry.source,
                    at: entry.at,
                });
                self.unreadable = None;
                self.state = Some(Held {
                    known: Known {
                        state: Arc::new(state),
                        standing,
                        line: Arc::new(line),
                        request_ids: Arc::new(entry.request_ids),
                    },
                    offset,
                });
                Verdict::State
            }
            _ => Verdict::Claimed,
        }
    }

    /// The `(epoch, owner)` of the last entry that counted.
    pub fn fence(&self) -> Option<&(Epoch, Owner)> {
        self.fence.as_ref()
    }

    /// The highest epoch seen; 0 before any.
    pub fn epoch(&self) -> Epoch {
        self.fence.as_ref().map_or(Epoch(0), |(epoch, _)| *epoch)
    }

    /// The state that counts, if the log has one.
    pub fn held(&self) -> Option<&Held> {
        self.state.as_ref()
    }

    /// The revision of the newest state that counts, if this version cannot read it. Then [`Self::held`] is older: nobody may
    /// act on it, or lead from it.
    pub fn unreadable(&self) -> Option<Revision> {
        self.unreadable
    }

    /// The last changes, oldest first: at most [`HISTORY_KEPT`].
    pub fn history(&self) -> &VecDeque<Arc<PastChange>> {
        &self.history
    }

    fn remember(&mut self, past: PastChange) {
        // A takeover, or the leader's regular rewriting of the state, is no change. Nor is an entry that a cluster has stored twice, as it may
        // when the node that leads the log dies under it.
        let is_same = |last: &Arc<PastChange>| {
            last.revision == past.revision && (past.change == Change::Takeover || last.epoch == past.epoch)
        };
        if self.history.back().is_some_and(is_same) {
            return;
        }
        if self.history.len() == HISTORY_KEPT {
            self.history.pop_front();
        }
        self.history.push_back(Arc::new(past));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(epoch: u64, owner: u8, revision: Option<u64>) -> LogEntry {
        let state = revision.map(|revision| DesiredState {
            revision: Revision(revision),
            ..DesiredState::default()
        });
        LogEntry {
            schema: super::super::messages::SCHEMA,
            epoch: Epoch(epoch),
            owner: Owner::new(format!("{owner:032x}")),
            seq: 0,
            kind: if state.is_some() {
                EntryKind::State
            } else {
                EntryKind::Claim
            },
            revision: Revision(revision.unwrap_or(0)),
            state,
            digest: None,
            change: None,
            request_ids: VecDeque::new(),
            line: None,
            by: "test".to_owned(),
            source: Source::Takeover,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn fold(entries: &[LogEntry]) -> View {
        let mut view = View::default();
        for (offset, entry) in entries.iter().enumerate() {
            view.fold(offset as u64, entry.clone());
        }
        view
    }

    fn known(view: &View) -> (Option<(Epoch, Owner)>, Option<Standing>) {
        (view.fence().cloned(), view.held().map(|held| held.standing.clone()))
    }

    #[test]
    fn what_a_replaced_coordinator_appends_counts_for_nobody() {
        let mut view = View::default();
        assert_eq!(view.fold(0, entry(1, 1, None)), Verdict::Claimed);
        assert_eq!(view.fold(1, entry(1, 1, Some(1))), Verdict::State);
        assert_eq!(view.fold(2, entry(2, 2, None)), Verdict::Claimed);
        assert_eq!(view.fold(3, entry(1, 1, Some(2))), Verdict::Ignored);
        assert_eq!(view.held().unwrap().standing.revision, Revision(1));
        assert_eq!(view.fold(4, entry(2, 2, Some(2))), Verdict::State);
    }

    #[test]
    fn an_entry_that_was_stored_twice_is_one_change() {
        let changed = |revision| LogEntry {
            change: Some(Change::Begin),
            ..entry(1, 1, Some(revision))
        };
        let view = fold(&[entry(1, 1, None), changed(1), changed(1), changed(2)]);
        let revisions: Vec<_> = view.history().iter().map(|past| past.revision.0).collect();
        assert_eq!(revisions, [1, 2]);
    }

    #[test]
    fn of_two_claims_of_one_epoch_the_higher_owner_stays() {
        let mut view = View::default();
        view.fold(0, entry(2, 9, None));
        assert_eq!(view.fold(1, entry(2, 3, None)), Verdict::Ignored);
        assert_eq!(view.fold(2, entry(2, 3, Some(7))), Verdict::Ignored);
        assert_eq!(view.fold(3, entry(2, 9, Some(1))), Verdict::State);
    }

    #[test]
    fn an_entry_of_a_newer_version_counts_though_it_cannot_be_read() {
        let mut view = View::default();
        view.fold(0, entry(1, 1, Some(1)));
        let newer =
            br#"{"schema": 2, "epoch": 2, "owner": "0", "kind": "state", "revision": 2, "state": {"flocks": 7}}"#;
        let verdict = view.fold_read(1, LogEntry::read(newer).unwrap());
        assert_eq!((verdict, view.unreadable()), (Verdict::State, Some(Revision(2))));
        assert_eq!(view.fold(2, entry(1, 1, Some(3))), Verdict::Ignored, "its fence holds");
        assert_eq!(view.fold(3, entry(3, 1, Some(3))), Verdict::State);
        assert_eq!(view.unreadable(), None);
        assert!(LogEntry::read(b"{}").is_err());
    }

    /// A log as coordinators write it that depose each other all the time: anybody may append a claim above any
    /// epoch it has seen, or a state under an epoch that it claimed before, at any moment.
    fn logs() -> impl Strategy<Value = Vec<LogEntry>> {
        prop::collection::vec((1_u64..6, 0_u8..4, prop::option::of(0_u64..20)), 1..60).prop_map(|entries| {
            entries
                .into_iter()
                .map(|(epoch, owner, state)| entry(epoch, owner, state))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn a_reader_that_begins_at_any_entry_that_counted_knows_the_same_in_the_end(log in logs()) {
            let whole = fold(&log);
            let mut view = View::default();
            for (offset, entry) in log.iter().enumerate() {
                if view.fold(offset as u64, entry.clone()) == Verdict::State {
                    prop_assert_eq!(known(&fold(&log[offset..])), known(&whole), "begun at {}", offset);
                }
            }
        }

        #[test]
        fn the_fence_never_falls(log in logs()) {
            let mut view = View::default();
            let mut last = None;
            for (offset, entry) in log.iter().enumerate() {
                view.fold(offset as u64, entry.clone());
                prop_assert!(view.fence().cloned() >= last);
                last = view.fence().cloned();
            }
        }
    }
}
