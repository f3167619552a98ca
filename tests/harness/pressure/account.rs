//! What came of a part, and what must not have.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::watch::{Course, Seen, Usage};

/// What must not be exceeded.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// By how many KiB the memory of a process may grow while there is pressure.
    pub peak_kib: u64,
    /// How many KiB it may have more than at the start, once the pressure is gone.
    pub rest_kib: u64,
    /// How many files it may have open more than at the start, once the pressure is gone: connections that are kept for a while.
    pub rest_files: u64,
    /// How many threads more than at the start.
    pub threads: u64,
    /// How old a report may get.
    pub report_age: Duration,
    /// How long the API may take to answer somebody who has nothing to do with the pressure.
    pub answer: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            peak_kib: 160 * 1024,
            rest_kib: 64 * 1024,
            rest_files: 4,
            // The runtime's own for what blocks; it ends them when they were idle for 10 s.
            threads: 32,
            report_age: Duration::from_secs(3),
            answer: Duration::from_secs(10),
        }
    }
}

impl Bounds {
    /// Returns what of it is broken now that the pressure is gone.
    pub(super) fn at_rest(&self, seen: &Seen) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, Course { start, now, .. }) in &seen.processes {
            if now.resident_kib > start.resident_kib + self.rest_kib {
                broken.push(format!(
                    "{name} keeps {} KiB, and had {} KiB",
                    now.resident_kib, start.resident_kib
                ));
            }
            if now.files > start.files + self.rest_files {
                broken.push(format!(
                    "{name} keeps {} files open, and had {}",
                    now.files, start.files
                ));
            }
        }
        broken
    }

    /// Returns what of it was broken while there was pressure.
    fn under_pressure(&self, seen: &Seen) -> Vec<String> {
        let mut broken = seen.trouble.clone();
        for (name, Course { start, peak, .. }) in &seen.processes {
            if peak.resident_kib > start.resident_kib + self.peak_kib {
                broken.push(format!(
                    "{name} grew from {} KiB to {} KiB",
                    start.resident_kib, peak.resident_kib
                ));
            }
            if peak.threads > start.threads + self.threads {
                broken.push(format!(
                    "{name} came from {} to {} threads",
                    start.threads, peak.threads
                ));
            }
        }
        if seen.oldest_report > self.report_age.as_secs_f64() {
            broken.push(format!("a report was {:.2} s old", seen.oldest_report));
        }
        broken
    }
}

/// What came of a part.
#[derive(Debug)]
pub struct Account {
    /// What was done.
    pub title: String,
    seen: Seen,
    /// How long answers took, in seconds, by what was asked and what came of it.
    pub answers: BTreeMap<String, Vec<f64>>,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// Every bound that was broken.
    pub breaches: Vec<String>,
}

impl Account {
    pub(super) fn new(title: String, mut seen: Seen, bounds: &Bounds) -> Self {
        let mut breaches = bounds.under_pressure(&seen);
        breaches.extend(bounds.at_rest(&seen));
        let bystander = std::mem::take(&mut seen.answers);
        Self {
            title,
            seen,
            answers: BTreeMap::from([("bystander".to_owned(), bystander)]),
            notes: Vec::new(),
            breaches,
        }
    }

    /// The tables of documents and terminals.
    pub fn to_markdown(&self) -> String {
        let mut text = format!("**{}**\n\n", self.title);
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            writeln!(text, "{arguments}").expect("writing to a String cannot fail");
        };
        line(format_args!(
            "| process | memory MiB: start, peak, end | files | threads |"
        ));
        line(format_args!("|---|---|---|---|"));
        for (name, Course { start, peak, now }) in &self.seen.processes {
            let three = |figure: fn(&Usage) -> u64| format!("{}, {}, {}", figure(start), figure(peak), figure(now));
            let mebibytes = |usage: &Usage| usage.resident_kib.div_ceil(1024);
            line(format_args!(
                "| {name} | {} | {} | {} |",
                three(mebibytes),
                three(|usage| usage.files),
                three(|usage| usage.threads)
            ));
        }
        line(format_args!("\n| answers | number | p50 ms | p99 ms | max ms |"));
        line(format_args!("|---|---|---|---|---|"));
        for (what, times) in &self.answers {
            let mut times = times.clone();
            times.sort_by(f64::total_cmp);
            let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
            let shown = |time: Option<&f64>| time.map_or("-".to_owned(), |time| format!("{:.1}", time * 1000.0));
            line(format_args!(
                "| {what} | {} | {} | {} | {} |",
                times.len(),
                shown(at(50)),
                shown(at(99)),
                shown(times.last())
            ));
        }
        line(format_args!("\nOldest report: {:.2} s.", self.seen.oldest_report));
        for note in &self.notes {
            line(format_args!("{note}"));
        }
        for breach in &self.breaches {
            line(format_args!("BROKEN: {breach}"));
        }
        text
    }
}
