//! Figures for Prometheus. Never per monkey: there may be millions.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{Method, StatusCode};
use mobu_fleet::domain::messages::Report;
use mobu_fleet::domain::monkey::MonkeyState;

use super::error::ApiError;
use super::overview::count;
use super::{Api, snapshot};
use crate::fleet::replicas::ReplicaState;
use crate::fleet::state::Status;

/// Calls so far, by route, method and status: all of them from small fixed sets.
#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Guards the counts; held for one map operation.
    counts: Mutex<BTreeMap<Series, Calls>>,
}

/// Route, method and status.
type Series = (&'static str, &'static str, u16);

/// How many, and how many seconds they took together.
type Calls = (u64, f64);

impl Requests {
    pub(super) fn count(&self, route: &'static str, method: &Method, status: StatusCode, took: Duration) {
        let key = (route, known(method), status.as_u16());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (number, seconds) = counts.entry(key).or_default();
        *number += 1;
        *seconds += took.as_secs_f64();
    }
}

/// A client may invent methods; there are not to be as many series.
fn known(method: &Method) -> &'static str {
    let all = ["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    all.into_iter()
        .find(|known| *known == method.as_str())
        .unwrap_or("other")
}

/// Returns the coordinator's figures.
#[utoipa::path(get, path = "/metrics", tag = "internal", responses(
    (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
    (status = 503, description = "The coordinator ends", body = ref("#/components/schemas/Error"), content_type = "application/json"),
))]
pub(super) async fn metrics(State(api): State<Api>) -> Result<Response, ApiError> {
    let status = api.fleet.status().await?;
    let mut page = Page::default();
    fleet(&mut page, &status);
    replicas(&mut page, &status);
    flocks(&mut page, &status);
    requests(&mut page, &api.metrics);
    let headers = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((headers, page.0).into_response())
}

/// A page of figures.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        if labels.is_empty() {
            return self.line(format_args!("{name} {value}"));
        }
        let escape = |text: &str| text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
        let labels: Vec<_> = labels
            .iter()
            .map(|(key, text)| format!("{key}=\"{}\"", escape(text)))
            .collect();
        self.line(format_args!("{name}{{{}}} {value}", labels.join(",")));
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("writing to a String cannot fail");
    }
}

fn fleet(page: &mut Page, status: &Status) {
    page.family("fleet_build_info", "gauge", "This release.");
    page.sample("fleet_build_info", &[("version", &status.version)], 1);
    page.single("fleet_epoch", "gauge", "The highest epoch seen.", status.epoch);
    if let Some(standing) = &status.standing {
        page.single("fleet_revision", "gauge", "The newest revision.", standing.revision);
    }
    let converged = u8::from(status.converged);
    page.single(
        "fleet_converged",
        "gauge",
        "1 if every expected replica runs what it should.",
        converged,
    );
    let leading = u8::from(status.is_leading());
    page.single(
        "fleet_leading",
        "gauge",
        "1 if this coordinator accepts changes.",
        leading,
    );
    let connected = u8::from(status.stage != "offline");
    page.single(
        "fleet_connected",
        "gauge",
        "1 if there is a session with the broker.",
        connected,
    );
    let unusable = status.unusable_messages;
    page.single(
        "fleet_unusable_messages_total",
        "counter",
        "Messages that could not be read.",
        unusable,
    );
    let late = status.late_answers;
    page.single(
        "fleet_late_answers_total",
        "counter",
        "Answers that came too late or twice.",
        late,
    );
}

/// Name, kind and help of a family, and its value for one replica.
type Figure = (&'static str, &'static str, &'static str, fn(&Report) -> Option<f64>);

fn replicas(page: &mut Page, status: &Status) {
    page.family("fleet_replicas", "gauge", "Replicas by state.");
    for (state, label) in [
        (ReplicaState::Ready, "ready"),
        (ReplicaState::Behind, "behind"),
        (ReplicaState::Silent, "silent"),
        (ReplicaState::Missing, "missing"),
        (ReplicaState::Surplus, "surplus"),
    ] {
        page.sample("fleet_replicas", &[("state", label)], count(status, state));
    }
    page.family(
        "fleet_replica_report_age_seconds",
        "gauge",
        "Age of each replica's last report.",
    );
    for id in status.replicas.heard().keys() {
        let age = status.age(id).unwrap_or_default().as_secs_f64();
        page.sample("fleet_replica_report_age_seconds", &[("replica", id.as_str())], age);
    }
    let figures: [Figure; 7] = [
        (
            "fleet_replica_cpu_seconds_total",
            "counter",
            "Processor time of the replica's process.",
            |report| Some(report.process.cpu_seconds),
        ),
        (
            "fleet_replica_resident_memory_bytes",
            "gauge",
            "Resident memory of the replica's process.",
            |report| Some(as_float(report.process.rss_bytes)),
        ),
        (
            "fleet_replica_lag_seconds",
            "gauge",
            "How late timers were over the last report interval, at worst.",
            |report| Some(report.process.lag_ms / 1000.0),
        ),
        (
            "fleet_replica_lateness_seconds",
            "gauge",
            "How late monkeys woke from their pauses over the last ten seconds: the 99th percentile.",
            |report| Some(report.process.lateness?.p99_ms / 1000.0),
        ),
        (
            "fleet_replica_overloaded",
            "gauge",
            "1 if the replica is too slow itself, by its maxLateness.",
            |report| Some(f64::from(u8::from(report.process.overloaded))),
        ),
        (
            "fleet_replica_connections",
            "gauge",
            "Open sockets of the replica's process: connections to services under test, and a handful of its own.",
            |report| report.process.connections.map(as_float),
        ),
        (
            "fleet_replica_applied_revision",
            "gauge",
            "The revision that the replica acts on.",
            |report| Some(as_float(report.standing.as_ref()?.revision.0)),
        ),
    ];
    for (name, kind, help, figure) in figures {
        page.family(name, kind, help);
        for (id, replica) in snapshot::heard(status) {
            if let Some(value) = figure(&replica.report) {
                page.sample(name, &[("replica", id.as_str())], value);
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "Prometheus knows floats only, and these stay below 2^53"
)]
fn as_float(number: u64) -> f64 {
    number as f64
}

/// Sums over the replicas that report now: the others are unknown, not zero, and show in `fleet_replicas`.
fn flocks(page: &mut Page, status: &Status) {
    let sums = status.desired.flocks.values().map(|flock| {
        let (mut monkeys, mut successes, mut failures) = (BTreeMap::<MonkeyState, u64>::new(), 0, 0);
        for (_, report) in snapshot::reports(status, &flock.config.name, flock.generation) {
            for (state, number) in &report.monkeys {
                *monkeys.entry(*state).or_default() += number;
            }
            successes += report.success_count;
            failures += report.failure_count;
        }
        (flock, monkeys, successes, failures)
    });
    let sums: Vec<_> = sums.collect();
    page.family("fleet_flock_monkeys", "gauge", "Monkeys by state.");
    for (flock, monkeys, ..) in &sums {
        for (state, number) in monkeys {
            let state = format!("{state:?}").to_ascii_lowercase();
            let business = flock.config.business.kind().as_str();
            let labels = [
                ("flock", flock.config.name.as_str()),
                ("business", business),
                ("state", &state),
            ];
            page.sample("fleet_flock_monkeys", &labels, number);
        }
    }
    page.family(
        "fleet_flock_iterations_total",
        "counter",
        "Iterations by outcome, since the flock was started.",
    );
    for (flock, monkeys, successes, failures) in &sums {
        if monkeys.is_empty() && *successes + *failures == 0 {
            // No replica says anything of it, which is not the same as none.
            continue;
        }
        let business = flock.config.business.kind().as_str();
        for (outcome, number) in [("success", successes), ("failure", failures)] {
            let labels = [
                ("flock", flock.config.name.as_str()),
                ("business", business),
                ("outcome", outcome),
            ];
            page.sample("fleet_flock_iterations_total", &labels, number);
        }
    }
}

fn requests(page: &mut Page, requests: &Requests) {
    let counts = requests.counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    page.family("http_requests_total", "counter", "Calls of this API.");
    for ((route, method, status), (number, _)) in &counts {
        let labels = [("route", *route), ("method", *method), ("status", &status.to_string())];
        page.sample("http_requests_total", &labels, number);
    }
    page.family(
        "http_request_duration_seconds_total",
        "counter",
        "Time until the head of the answer.",
    );
    for ((route, method, status), (_, seconds)) in &counts {
        let labels = [("route", *route), ("method", *method), ("status", &status.to_string())];
        page.sample("http_request_duration_seconds_total", &labels, seconds);
    }
}
