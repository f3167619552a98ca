//! Serves HTTP: how many connections there may be, how patient we are with each, and how they end.

mod seats;
mod stall;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::{debug, warn};

use self::seats::{Holding, Seat, Seats};
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

/// Serves until `drain` is cancelled, then lets the calls that are under way come to their end. At most `connections` are open; when there are
/// more, whoever has owed the rest of a request for longest is cut off. If nobody owes any, one waits here and the others in the system's
/// queue, where they cost nothing of ours.
///
/// # Cancel safety
///
/// Dropped, it cuts every connection.
pub async fn serve(listener: TcpListener, router: Router, connections: usize, drain: CancellationToken) {
    let seats = Seats::new(connections);
    let mut connections = JoinSet::new();
    while let Some((stream, peer, seat)) = accept(&listener, &seats, &drain).await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connection(stream, peer, seat, router.clone(), drain.clone()));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn accept(
    listener: &TcpListener,
    seats: &Seats,
    drain: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, Arc<Seat>)> {
    let accepted = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => return (stream, peer, seats.take().await),
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

async fn connection(stream: TcpStream, peer: SocketAddr, seat: Arc<Seat>, router: Router, drain: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!("answers to {peer} may be delayed: {error}");
    }
    let sitting = seat.clone();
    let service = service_fn(move |request: http::Request<Incoming>| {
        let owing = sitting.owing();
        let mut request = if request.body().is_end_stream() {
            sitting.pay();
            request.map(Body::new)
        } else {
            let paying = sitting.paying();
            request.map(|body| Body::new(Holding::new(body, paying)))
        };
        request.extensions_mut().insert(Peer(peer));
        let answered = router.clone().oneshot(request);
        async move { Ok::<_, Infallible>(answered.await?.map(|body| Body::new(Holding::new(body, owing)))) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_SIZE);
    let writing = seat.clone();
    let io = TokioIo::new(StallGuard::new(stream, READ_PATIENCE, move || writing.renew()));
    let mut serving = std::pin::pin!(server.serve_connection(io, service));
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = drain.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
        () = seat.evicted() => {
            if seat.owes() {
                debug!("{peer} has sent no whole request, and gives way to others");
                return;
            }
            // The rest has just come.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        debug!("the connection with {peer} broke off: {error}");
    }
}
