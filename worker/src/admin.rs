//! Health and metrics of a worker, over HTTP.

use std::fmt::{Display, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use mobu_fleet::domain::messages::FlockReport;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::monkey::spool::Spool;
use crate::monkey::state_name;
use crate::replica::{LinkStatus, WorkerHandle};

/// What is served.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) handle: WorkerHandle,
    pub(crate) spool: Option<Arc<Spool>>,
}

impl Admin {
    /// Serves until `ended`.
    pub(crate) async fn serve(self, listener: TcpListener, ended: CancellationToken) {
        let served = async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            axum::serve(listener, self.router())
                .with_graceful_shutdown(ended.clone().cancelled_owned())
                .await
        };
        tokio::select! {
            served = served => {
                if let Err(error) = served {
                    error!(error = %error, "health and metrics are not served any more");
                }
            }
            // Somebody's open connection is no reason to stay.
            () = ended.cancelled() => {}
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.handle.status.borrow().ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        admin.text(),
    )
}

impl Admin {
    fn text(&self) -> String {
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
        let revision = status.standing.map_or(0, |standing| standing.revision.0);
        text.one(
            "mobu_worker_revision",
            "gauge",
            "Newest revision that the worker acts on.",
            revision,
        );
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
        let flocks = self.handle.flocks();
        text.head("mobu_monkeys", "gauge", "Monkeys by state.");
        for (name, flock) in &flocks {
            for (state, count) in &flock.monkeys {
                let labels = format!("{},state=\"{}\"", labels(name.as_str(), flock), state_name(*state));
                text.line("mobu_monkeys", &labels, *count);
            }
        }
        text.head("mobu_iterations_total", "counter", "Iterations that ended, by outcome.");
        for (name, flock) in &flocks {
            for (outcome, count) in [("success", flock.success_count), ("failure", flock.failure_count)] {
                let labels = format!("{},outcome=\"{outcome}\"", labels(name.as_str(), flock));
                text.line("mobu_iterations_total", &labels, count);
            }
        }
        text.0
    }
}

/// Names of flocks and businesses need no escaping: both are checked where they are parsed.
fn labels(name: &str, flock: &FlockReport) -> String {
    format!("flock=\"{name}\",business=\"{}\"", flock.business)
}

/// Prometheus' text format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("a String takes everything");
    }

    fn line(&mut self, name: &str, labels: &str, value: u64) {
        writeln!(self.0, "{name}{{{labels}}} {value}").expect("a String takes everything");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        writeln!(self.0, "{name} {value}").expect("a String takes everything");
    }
}
