//! When a report says why monkeys failed: at once when that is new, now and then while it goes on, and not every second.

use std::collections::BTreeMap;
use std::time::Duration;

use mobu_fleet::domain::ids::{FlockName, Revision};
use mobu_fleet::domain::messages::Failures;
use mobu_fleet::runtime::clock::Instant;

use crate::measure::causes::Causes;

/// Shortest time between two tellings of one flock, while failures go on.
const GAP: Duration = Duration::from_secs(5);
/// After which time it is told again although nothing is new: a coordinator may have come since.
const REPEAT: Duration = Duration::from_secs(30);

/// What was told of each flock.
#[derive(Debug, Default)]
pub(super) struct Telling {
    told: BTreeMap<FlockName, Told>,
}

#[derive(Debug)]
struct Told {
    generation: Revision,
    total: u64,
    at: Instant,
}

impl Telling {
    /// Forgets what was told: it went into a session that has ended.
    pub(super) fn forget(&mut self) {
        self.told.clear();
    }

    /// Keeps what was told of flocks that are still there.
    pub(super) fn retain(&mut self, is_there: impl Fn(&FlockName) -> bool) {
        self.told.retain(|name, _| is_there(name));
    }

    /// Returns the failures of a flock if they are to be told now.
    pub(super) fn failures(
        &mut self,
        name: &FlockName,
        generation: Revision,
        causes: &Causes,
        now: Instant,
    ) -> Option<Failures> {
        let total = causes.total();
        if total == 0 {
            return None;
        }
        if let Some(told) = self.told.get(name)
            && told.generation == generation
        {
            let gap = if told.total == total { REPEAT } else { GAP };
            if now.saturating_duration_since(told.at) < gap {
                return None;
            }
        }
        let told = Told {
            generation,
            total,
            at: now,
        };
        self.told.insert(name.clone(), told);
        Some(causes.read())
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::business::IterationError;

    fn fail(causes: &Causes) {
        if let IterationError::Failed(failure) = IterationError::retry("test", "no") {
            causes.note(&failure, &failure.line(), Timestamp::UNIX_EPOCH);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_told_when_they_are_new_and_again_before_long() {
        let (mut telling, causes) = (Telling::default(), Causes::default());
        let (name, begun) = ("a".parse().unwrap(), tokio::time::Instant::now());
        let tells = |telling: &mut Telling, generation, second| {
            let now = begun + Duration::from_secs(second);
            telling.failures(&name, Revision(generation), &causes, now).is_some()
        };
        assert!(!tells(&mut telling, 1, 0), "there are none");
        fail(&causes);
        assert!(tells(&mut telling, 1, 1));
        assert!(!tells(&mut telling, 1, 2));
        fail(&causes);
        assert!(!tells(&mut telling, 1, 5));
        assert!(tells(&mut telling, 1, 6));
        assert!(!tells(&mut telling, 1, 35));
        assert!(tells(&mut telling, 1, 36));
        assert!(tells(&mut telling, 2, 36), "another generation");
        telling.forget();
        assert!(tells(&mut telling, 2, 36), "another session");
    }
}
