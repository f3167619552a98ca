//! Health and metrics of a worker, over HTTP.

mod metrics;

use std::net::TcpListener;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use mobu_fleet::runtime::http;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::monkey::Surroundings;
use crate::monkey::spool::Spool;
use crate::replica::WorkerHandle;

/// How many connections may be open: of a probe, of a monitor, and of people.
const CONNECTIONS: usize = 64;

/// What is served.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) handle: WorkerHandle,
    pub(crate) spool: Option<Arc<Spool>>,
    pub(crate) surroundings: Arc<Surroundings>,
}

impl Admin {
    /// Serves until `ended`.
    pub(crate) async fn serve(self, listener: TcpListener, ended: CancellationToken) {
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                error!(error = %error, "health and metrics are not served");
                return;
            }
        };
        tokio::select! {
            () = http::serve(listener, self.router(), CONNECTIONS, ended.clone()) => {}
            // Somebody's open connection is no reason to stay.
            () = ended.cancelled() => {}
        }
    }

    fn router(self) -> Router {
        Router::new()
            .route("/", get(index))
            .route("/healthz", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(figures))
            .with_state(self)
    }
}

/// Says who this is.
async fn index(State(admin): State<Admin>) -> impl IntoResponse {
    let status = admin.handle.status.borrow();
    let ready = status.ready();
    Json(json!({
        "name": "mobu-worker",
        "version": env!("CARGO_PKG_VERSION"),
        "instance_id": admin.handle.instance_id(),
        "session": admin.handle.session(),
        "ready": ready.is_ok(),
        "reason": ready.err(),
        "revision": status.standing.as_ref().map(|standing| standing.revision),
    }))
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    match admin.handle.status.borrow().ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn figures(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        admin.text(),
    )
}
