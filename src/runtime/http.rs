//! Serves HTTP: how many connections there may be, how patient we are with each, and how they end.

mod stall;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use self::stall::StallGuard;

/// Where a connection comes from: an extension of every request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// How long the head of a request may take, the wait for the next one on an open connection included.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// How long a client may take nothing of an answer that waits for it.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// Size in bytes above which a request's head is refused; what came with the last read may exceed it.
const HEAD_SIZE: usize = 32 * 1024;

/// How long to wait after the system had no more file descriptors.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Serves until `drain` is cancelled, then lets the calls that are under way come to their end. At most `connections` are open; further ones
/// wait in the system's queue, where they cost nothing of ours.
///
/// # Cancel safety
///
/// Dropped, it cuts every connection.
pub async fn serve(listener: TcpListener, router: Router, connections: usize, drain: CancellationToken) {
    let permits = Arc::new(Semaphore::new(connections));
    let mut connections = JoinSet::new();
    while let Some((stream, peer, permit)) = accept(&listener, &permits, &drain).await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, peer, permit, router.clone(), drain.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
    drain: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let accepted = async {
        let permit = permits
            .clone()
            .acquire_owned()
            .await
            .expect("this semaphore is never closed");
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, permit),
                Err(error) => {
                    warn!(error = %error, "cannot accept a connection: {error}");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
    };
    tokio::select! {
        biased;
        () = drain.cancelled() => None,
        accepted = accepted => Some(accepted),
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
    router: Router,
    drain: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("answers to {peer} may be delayed: {error}");
    }
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Peer(peer));
        router.clone().oneshot(request)
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_SIZE);
    let io = TokioIo::new(StallGuard::new(stream, READ_PATIENCE));
    let mut serving = std::pin::pin!(server.serve_connection(io, service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        debug!("the connection with {peer} broke off: {error}");
    }
}
