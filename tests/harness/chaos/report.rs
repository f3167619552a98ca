//! What a run was like, in figures.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// How one round went.
#[derive(Debug, Clone)]
pub struct Round {
    /// The kinds of its faults.
    pub kinds: Vec<String>,
    /// From the heal of its last fault until the fleet had converged.
    pub convergence: Duration,
}

/// How a run went.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// All rounds that went well.
    pub rounds: Vec<Round>,
    /// Operations of clients: accepted, of unknown outcome, not found, not done.
    pub operations: [usize; 4],
    /// Entries of the log that did not count.
    pub ignored: usize,
    /// Lines of level `ERROR` in the logs of the processes, by what they say, without what differs each time.
    pub errors: BTreeMap<String, usize>,
}

impl Report {
    /// How many faults there were.
    pub fn faults(&self) -> usize {
        self.rounds.iter().map(|round| round.kinds.len()).sum()
    }

    /// Takes another lane's figures.
    pub fn add(&mut self, other: Self) {
        self.rounds.extend(other.rounds);
        for (sum, more) in self.operations.iter_mut().zip(other.operations) {
            *sum += more;
        }
        self.ignored += other.ignored;
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for round in &self.rounds {
            for kind in &round.kinds {
                kinds.entry(kind).or_default().push(round.convergence);
            }
        }
        writeln!(f, "| fault | times | p50 s | p99 s | max s |\n|---|---|---|---|---|")?;
        for (kind, mut times) in kinds {
            writeln!(f, "| {kind} | {} | {} |", times.len(), quantiles(&mut times))?;
        }
        let mut all: Vec<_> = self.rounds.iter().map(|round| round.convergence).collect();
        writeln!(
            f,
            "| all {} rounds | {} | {} |",
            all.len(),
            self.faults(),
            quantiles(&mut all)
        )?;
        let [accepted, unknown, not_found, not_done] = self.operations;
        writeln!(
            f,
            "\nOperations: {accepted} accepted, {not_found} not found, {not_done} not done, {unknown} of unknown outcome; 0 accepted ones lost. \
             {} entries in the log did not count.",
            self.ignored
        )?;
        for (error, count) in &self.errors {
            writeln!(f, "ERROR {count} times: {error}")?;
        }
        Ok(())
    }
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| {
        let index = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(index).map_or(0.0, Duration::as_secs_f64)
    };
    format!("{:.1} | {:.1} | {:.1}", at(50), at(99), at(100))
}
