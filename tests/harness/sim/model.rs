//! What clients were told, and whether a state honours it.

use std::collections::BTreeMap;

use mobu_fleet::domain::desired::{Change, DesiredState};
use mobu_fleet::domain::ids::{FlockName, Revision};

/// The last accepted changes of one flock.
#[derive(Debug, Clone, Copy, Default)]
struct Last {
    start: Option<Revision>,
    stop: Option<Revision>,
    refresh: Option<Revision>,
}

/// Every change that a client was told is accepted.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    flocks: BTreeMap<FlockName, Last>,
    pub(crate) newest: Revision,
    pub(crate) count: usize,
}

impl Accepted {
    pub(crate) fn take(&mut self, revision: Revision, change: &Change) {
        self.count += 1;
        self.newest = self.newest.max(revision);
        let note = |slot: &mut Option<Revision>| *slot = (*slot).max(Some(revision));
        match change {
            Change::Start { flock } => note(&mut self.flocks.entry(flock.clone()).or_default().start),
            Change::Stop { flocks } => flocks
                .iter()
                .for_each(|flock| note(&mut self.flocks.entry(flock.clone()).or_default().stop)),
            Change::Refresh { flocks, .. } => flocks
                .iter()
                .for_each(|flock| note(&mut self.flocks.entry(flock.clone()).or_default().refresh)),
            _ => {}
        }
    }

    /// Returns what a state has forgotten. A later change of unknown outcome may have replaced an accepted one; an earlier
    /// one may not. Where a log that lost its end went two ways, a merge keeps the higher revision of each flock.
    pub(crate) fn forgotten(&self, state: &DesiredState) -> Option<String> {
        for (name, last) in &self.flocks {
            let runs = state.flocks.get(name);
            let stopped = state.stopped.get(name).map(|stopped| stopped.revision);
            if last.start >= last.stop && last.start.is_some() {
                let holds = runs.is_some_and(|runs| Some(runs.generation) >= last.start) || stopped >= last.start;
                if !holds {
                    return Some(format!("flock {name} was started as of revision {:?}", last.start));
                }
            }
            if last.stop >= last.start && last.stop.is_some() {
                let holds = runs.is_none_or(|runs| Some(runs.generation) >= last.stop);
                if !holds {
                    return Some(format!("flock {name} was stopped as of revision {:?}", last.stop));
                }
            }
            if let (Some(runs), Some(refresh)) = (runs, last.refresh)
                && runs.generation <= refresh
                && runs.refresh_generation < refresh
            {
                return Some(format!("flock {name} was refreshed as of revision {refresh}"));
            }
        }
        None
    }
}
