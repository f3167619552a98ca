//! Which states a state descends from: how a log is recognized that lost entries and went another way.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ids::{Epoch, Owner, Revision};
use super::messages::Standing;
use crate::simulation::{Bug, has};

/// How many stretches a line remembers: takeovers, not changes.
const STRETCHES_KEPT: usize = 64;

/// The states that a state descends from, itself included.
///
/// What one owner writes is a line by construction, so it is enough to remember how far each owner came. The revision alone
/// does not do: a log that lost its newest entries counts on from a lower one, and soon passes what was lost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Every stretch of this epoch, or of a later one, is listed; of earlier ones nothing is known.
    pub since: Epoch,
    /// What each owner wrote, by epoch and owner.
    pub stretches: Vec<Stretch>,
}

/// What one owner wrote of a line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Stretch {
    /// Its reign.
    pub epoch: Epoch,
    /// Who it was.
    pub owner: Owner,
    /// The last revision that it wrote.
    pub revision: Revision,
    /// Digest of that state.
    pub digest: String,
}

impl Line {
    /// A line of which nothing is known before an epoch.
    pub fn unknown_before(epoch: Epoch) -> Self {
        Self {
            since: epoch,
            stretches: Vec::new(),
        }
    }

    /// A line of which one state is known, and none before it.
    pub fn of(standing: &Standing) -> Self {
        let mut line = Self::unknown_before(standing.epoch.next());
        line.add(standing);
        line
    }

    /// Returns whether the state that stands there is one of the line; `None` if that cannot be told any more, or if
    /// whoever stands there is of a version that does not say who wrote the state.
    pub fn holds(&self, standing: &Standing) -> Option<bool> {
        if has(Bug::ForgetTheLine) {
            return None;
        }
        let is_same = |stretch: &&Stretch| stretch.revision == standing.revision && stretch.digest == standing.digest;
        if self.stretches.iter().any(|stretch| is_same(&stretch)) {
            return Some(true);
        }
        let owner = standing.owner.as_ref()?;
        let theirs = |stretch: &&Stretch| stretch.epoch == standing.epoch && stretch.owner == *owner;
        match self.stretches.iter().find(theirs) {
            Some(stretch) => Some(stretch.revision > standing.revision),
            None => (standing.epoch >= self.since).then_some(false),
        }
    }

    /// Takes a state that follows all others.
    pub fn add(&mut self, standing: &Standing) {
        let Some(owner) = standing.owner.clone() else { return };
        self.join_one(Stretch {
            epoch: standing.epoch,
            owner,
            revision: standing.revision,
            digest: standing.digest.clone(),
        });
        self.forget();
    }

    /// Takes all that another line holds: the next state will descend from both.
    pub fn join(&mut self, other: &Self) {
        self.since = self.since.max(other.since);
        for stretch in &other.stretches {
            self.join_one(stretch.clone());
        }
        self.forget();
    }

    fn join_one(&mut self, stretch: Stretch) {
        let place = |known: &Stretch| (known.epoch, &known.owner).cmp(&(stretch.epoch, &stretch.owner));
        match self.stretches.binary_search_by(place) {
            Ok(index) if self.stretches[index].revision > stretch.revision => {}
            Ok(index) => self.stretches[index] = stretch,
            Err(index) => self.stretches.insert(index, stretch),
        }
    }

    fn forget(&mut self) {
        while self.stretches.len() > STRETCHES_KEPT {
            let forgotten = self.stretches.remove(0);
            self.since = self.since.max(forgotten.epoch.next());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, owner: &str, revision: u64) -> Standing {
        Standing {
            epoch: Epoch(epoch),
            revision: Revision(revision),
            digest: format!("{owner}{revision}"),
            owner: Some(Owner::new(owner)),
        }
    }

    fn line(standings: &[Standing]) -> Line {
        let mut line = Line::default();
        for standing in standings {
            line.add(standing);
        }
        line
    }

    #[test]
    fn a_state_of_another_line_is_told_from_an_ancestor_of_any_age() {
        let line = line(&[at(1, "a", 3), at(2, "b", 3), at(2, "b", 900)]);
        for ancestor in [at(1, "a", 1), at(2, "b", 4), at(2, "b", 900)] {
            assert_eq!(line.holds(&ancestor), Some(true), "{ancestor:?}");
        }
        for stranger in [at(1, "a", 4), at(2, "c", 4), at(1, "c", 2)] {
            assert_eq!(line.holds(&stranger), Some(false), "{stranger:?}");
        }
    }

    #[test]
    fn a_state_that_was_merely_written_again_is_no_other_state() {
        let mut again = at(2, "z", 3);
        again.digest = at(1, "a", 3).digest;
        assert_eq!(line(&[at(1, "a", 3), at(3, "b", 9)]).holds(&again), Some(true));
    }

    #[test]
    fn what_was_forgotten_and_what_nobody_signed_is_unknown() {
        let all: Vec<_> = (1..=100).map(|epoch| at(epoch, "a", epoch)).collect();
        let line = line(&all);
        assert_eq!(line.stretches.len(), STRETCHES_KEPT);
        assert_eq!(line.holds(&at(36, "b", 1)), None);
        assert_eq!(line.holds(&at(37, "b", 1)), Some(false));
        assert_eq!(line.holds(&at(37, "a", 1)), Some(true));
        let unsigned = Standing {
            owner: None,
            ..at(50, "b", 1)
        };
        assert_eq!(line.holds(&unsigned), None);
    }

    #[test]
    fn a_merge_descends_from_both_and_knows_as_little_as_the_one_that_knows_less() {
        let mut joined = line(&[at(1, "a", 3), at(2, "b", 7)]);
        joined.join(&Line::of(&at(4, "c", 5)));
        for ancestor in [at(1, "a", 3), at(2, "b", 5), at(4, "c", 5)] {
            assert_eq!(joined.holds(&ancestor), Some(true), "{ancestor:?}");
        }
        assert_eq!(joined.holds(&at(4, "d", 5)), None);
        assert_eq!(joined.holds(&at(5, "d", 5)), Some(false));
    }
}
