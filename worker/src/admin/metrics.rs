//! A worker's figures for Prometheus. By flock, business and outcome, never by monkey: there may be a hundred thousand.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use mobu_fleet::domain::ids::FlockName;

use super::Admin;
use crate::flock::Status;
use crate::measure::histogram::Reading;
use crate::monkey::state_name;
use crate::replica::{LinkStatus, WorkerStatus};

impl Admin {
    /// Returns the page.
    pub(super) fn text(&self) -> String {
        let mut text = Text::default();
        let status = self.handle.status.borrow().clone();
        let is_ready = u64::from(status.ready().is_ok());
        text.one(
            "mobu_worker_ready",
            "gauge",
            "Whether the worker runs what the state log says.",
            is_ready,
        );
        let is_connected = u64::from(!matches!(status.link, LinkStatus::Closed(_)));
        text.one(
            "mobu_worker_connected",
            "gauge",
            "Whether the worker has a session with the broker.",
            is_connected,
        );
        if let Some(standing) = &status.standing {
            text.one(
                "mobu_worker_revision",
                "gauge",
                "Newest revision that the worker acts on.",
                standing.revision,
            );
        }
        let dropped = status.dropped_messages;
        text.one(
            "mobu_worker_dropped_messages_total",
            "counter",
            "Reports and answers that were not sent.",
            dropped,
        );
        let unreadable = status.undecodable_messages;
        text.one(
            "mobu_worker_undecodable_messages_total",
            "counter",
            "Messages that could not be read.",
            unreadable,
        );
        text.one(
            "process_cpu_seconds_total",
            "counter",
            "Processor time used so far.",
            status.process.cpu_seconds,
        );
        text.one(
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            status.process.rss_bytes,
        );
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            text.one(
                "mobu_worker_tasks",
                "gauge",
                "Tasks of the runtime that are alive: monkeys, connections and whatever else.",
                runtime.metrics().num_alive_tasks(),
            );
        }
        text.one(
            "mobu_worker_lag_seconds",
            "gauge",
            "How late timers were at worst between the last two reports.",
            status.process.lag_ms / 1000.0,
        );
        if let Some(spool) = &self.spool {
            text.one(
                "mobu_worker_log_spool_bytes",
                "gauge",
                "Size of the monkeys' log file.",
                spool.size(),
            );
            let failures = spool.failures();
            text.one(
                "mobu_worker_log_spool_failures_total",
                "counter",
                "Failed writes to the monkeys' log file.",
                failures,
            );
        }
        self.generator(&mut text, &status);
        flocks(&mut text, &self.handle.flocks.statuses());
        text.0
    }

    /// How the replica itself is doing as a generator of load.
    fn generator(&self, text: &mut Text, status: &WorkerStatus) {
        text.one(
            "mobu_worker_overloaded",
            "gauge",
            "Whether monkeys have woken later than maxLateness for a while.",
            u64::from(status.process.overloaded),
        );
        if let Some(lateness) = status.process.lateness {
            let name = "mobu_worker_lateness_seconds";
            text.head(
                name,
                "gauge",
                "How late monkeys woke from their pauses over the last ten seconds.",
            );
            for (quantile, millis) in [
                ("0.5", lateness.p50_ms),
                ("0.99", lateness.p99_ms),
                ("1", lateness.max_ms),
            ] {
                text.line(name, &format!("quantile=\"{quantile}\""), millis / 1000.0);
            }
        }
        let outlet = &self.surroundings.outlet;
        text.one(
            "mobu_worker_events_published_total",
            "counter",
            "Events handed to the session with the broker.",
            outlet.published(),
        );
        text.one(
            "mobu_worker_events_unheard_total",
            "counter",
            "Events that were not, because nobody subscribes to them.",
            outlet.unheard(),
        );
        text.one(
            "mobu_worker_events_dropped_total",
            "counter",
            "Events that were not: beyond eventRate, or without a session.",
            outlet.dropped(),
        );
    }
}

/// What the monkeys of each flock do.
fn flocks(text: &mut Text, flocks: &BTreeMap<FlockName, Status>) {
    let runs = || {
        flocks.iter().filter_map(|(name, status)| {
            let labels = format!("flock=\"{name}\",business=\"{}\"", status.business);
            Some((labels, &status.monkeys.as_ref()?.run))
        })
    };
    text.head("mobu_monkeys", "gauge", "Monkeys by state.");
    for (labels, run) in runs() {
        for (state, count) in run.counts.by_state() {
            text.line(
                "mobu_monkeys",
                &format!("{labels},state=\"{}\"", state_name(state)),
                count,
            );
        }
    }
    text.head("mobu_iterations_total", "counter", "Iterations that ended, by outcome.");
    for (labels, run) in runs() {
        for (outcome, count) in [("success", run.counts.success()), ("failure", run.counts.failure())] {
            text.line(
                "mobu_iterations_total",
                &format!("{labels},outcome=\"{outcome}\""),
                count,
            );
        }
    }
    let name = "mobu_iteration_duration_seconds";
    text.head(
        name,
        "histogram",
        "How long iterations took, without the pauses between them.",
    );
    for (labels, run) in runs() {
        for (outcome, reading) in run.tally.iterations() {
            text.histogram(name, &format!("{labels},outcome=\"{outcome}\""), &reading);
        }
    }
    text.head("mobu_events_total", "counter", "What monkeys did, published or not.");
    for (labels, run) in runs() {
        for act in run.tally.acts() {
            let labels = format!("{labels},event=\"{}\",outcome=\"{}\"", act.name, act.outcome);
            text.line("mobu_events_total", &labels, act.count);
        }
    }
    let name = "mobu_event_duration_seconds";
    text.head(name, "histogram", "How long that took, where it has a duration.");
    for (labels, run) in runs() {
        for act in run.tally.acts() {
            if let Some(reading) = &act.durations {
                let labels = format!("{labels},event=\"{}\",outcome=\"{}\"", act.name, act.outcome);
                text.histogram(name, &labels, reading);
            }
        }
    }
}

/// Prometheus' text format. Names of flocks and businesses need no escaping: both are checked where they are parsed.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes everything");
    }

    fn line(&mut self, name: &str, labels: &str, value: impl Display) {
        writeln!(self.0, "{name}{{{labels}}} {value}").expect("a String takes everything");
    }

    fn histogram(&mut self, name: &str, labels: &str, reading: &Reading) {
        for (bound, count) in &reading.cumulative {
            self.line(&format!("{name}_bucket"), &format!("{labels},le=\"{bound}\""), count);
        }
        self.line(
            &format!("{name}_bucket"),
            &format!("{labels},le=\"+Inf\""),
            reading.count,
        );
        self.line(&format!("{name}_sum"), labels, reading.sum_seconds);
        self.line(&format!("{name}_count"), labels, reading.count);
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        writeln!(self.0, "{name} {value}").expect("a String takes everything");
    }
}
