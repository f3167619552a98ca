//! Counts and durations of what the monkeys of one flock do, by kind and outcome.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mobu_fleet::domain::events::Act;

use super::histogram::{Histogram, Reading};

/// How something ended; also the position in a pair.
const OUTCOMES: [&str; 2] = ["failure", "success"];

/// All counts of one run of a flock. What never happens takes no room.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    iterations: [OnceLock<Box<Histogram>>; 2],
    acts: [[OnceLock<Box<Series>>; 2]; Act::KINDS],
}

/// One kind with one outcome. Not everything that is counted has a duration.
#[derive(Debug, Default)]
struct Series {
    count: AtomicU64,
    durations: OnceLock<Box<Histogram>>,
}

impl Tally {
    /// Counts an iteration that ended.
    pub(crate) fn iteration(&self, is_success: bool, duration: Duration) {
        self.iterations[usize::from(is_success)]
            .get_or_init(Box::default)
            .record(duration);
    }

    /// Counts an act.
    pub(crate) fn act(&self, act: &Act) {
        let series = self.acts[act.number()][usize::from(act.is_success())].get_or_init(Box::default);
        series.count.fetch_add(1, Ordering::Relaxed);
        if let Some(duration) = act.duration() {
            series.durations.get_or_init(Box::default).record(duration);
        }
    }

    /// Returns the durations of iterations by outcome.
    pub(crate) fn iterations(&self) -> impl Iterator<Item = (&'static str, Reading)> {
        let pairs = OUTCOMES.into_iter().zip(&self.iterations);
        pairs.filter_map(|(outcome, histogram)| Some((outcome, histogram.get()?.read())))
    }

    /// Returns the counts of acts by name and outcome, with the durations where there are any.
    pub(crate) fn acts(&self) -> impl Iterator<Item = ActCount> {
        Act::NAMES.into_iter().zip(&self.acts).flat_map(|(name, pair)| {
            OUTCOMES.into_iter().zip(pair).filter_map(move |(outcome, series)| {
                let series = series.get()?;
                Some(ActCount {
                    name,
                    outcome,
                    count: series.count.load(Ordering::Relaxed),
                    durations: series.durations.get().map(|histogram| histogram.read()),
                })
            })
        })
    }
}

/// How often one kind of act had one outcome.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ActCount {
    pub(crate) name: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) count: u64,
    pub(crate) durations: Option<Reading>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_duration_is_counted_and_not_measured() {
        let tally = Tally::default();
        for duration in [Some(0.2), None] {
            tally.act(&Act::TapQuery {
                success: duration.is_some(),
                duration,
                sync: true,
            });
        }
        tally.iteration(true, Duration::from_millis(3));
        let counts: Vec<_> = tally
            .acts()
            .map(|act| {
                (
                    act.name,
                    act.outcome,
                    act.count,
                    act.durations.map(|reading| reading.count),
                )
            })
            .collect();
        assert_eq!(
            counts,
            [("tap_query", "failure", 1, None), ("tap_query", "success", 1, Some(1))]
        );
        assert_eq!(
            tally.iterations().map(|(outcome, _)| outcome).collect::<Vec<_>>(),
            ["success"]
        );
    }
}
