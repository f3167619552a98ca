//! A small HTTP service for tests, on a port of its own.

use std::net::SocketAddr;

use axum::Router;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};

/// Serves until the tasks are aborted; returns the base URL.
pub(crate) async fn serve(router: Router) -> (String, Tasks) {
    let tasks = Tasks::new();
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    drop(tasks.spawn(TaskKind::Expendable, "service", async move {
        axum::serve(listener, router).await.unwrap();
    }));
    (format!("http://{address}"), tasks)
}
