//! A TCP proxy in the test's process: each client gets its own network, which fails on demand.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Result;
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Ports above are the system's, for outgoing connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// What the network does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Pass,
    /// Bytes wait, connections stay open: what a dropped packet or a dead host looks like.
    BlackHole,
    /// Nobody listens: new connections are reset at once.
    Refuse,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// Connections of an older generation are reset.
    generation: u64,
}

/// A proxy before one server. Ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<watch::Sender<State>>,
    tasks: Tasks,
}

impl Proxy {
    /// Starts a proxy before a server on this machine.
    pub async fn start(upstream_port: u16) -> Result<Self> {
        let listener = listen().await?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(watch::Sender::new(State {
            mode: Mode::Pass,
            generation: 0,
        }));
        let tasks = Tasks::new();
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, upstream_port));
        let accepting = accept(listener, upstream, Arc::clone(&state), tasks.clone());
        tasks.spawn(TaskKind::Expendable, "proxy", accepting);
        Ok(Self { port, state, tasks })
    }

    /// The port that it listens at.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Swallows everything from now on, in both directions, on old and new connections.
    pub fn black_hole(&self) {
        self.state.send_modify(|state| state.mode = Mode::BlackHole);
    }

    /// Resets all connections that there are, and each new one at once.
    pub fn refuse(&self) {
        self.state.send_modify(|state| {
            state.mode = Mode::Refuse;
            state.generation += 1;
        });
    }

    /// Lets everything through again, what was held back included.
    pub fn pass(&self) {
        self.state.send_modify(|state| state.mode = Mode::Pass);
    }

    /// Resets all connections that there are.
    pub fn reset(&self) {
        self.state.send_modify(|state| state.generation += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

async fn listen() -> Result<TcpListener> {
    for _ in 0..1000 {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, fastrand::u16(PORTS))).await {
            return Ok(listener);
        }
    }
    anyhow::bail!("no free port in {PORTS:?}")
}

async fn accept(listener: TcpListener, upstream: SocketAddr, state: Arc<watch::Sender<State>>, tasks: Tasks) {
    while let Ok((client, _)) = listener.accept().await {
        let state = state.subscribe();
        if state.borrow().mode == Mode::Refuse {
            drop(client.set_zero_linger());
            continue;
        }
        tasks.spawn(TaskKind::Expendable, "proxied", async move {
            // A server that is down shows as a connection that closes at once.
            if let Ok(server) = TcpStream::connect(upstream).await {
                carry(client, server, state).await;
            }
        });
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut state: watch::Receiver<State>) {
    let born = state.borrow().generation;
    for stream in [&client, &server] {
        // Closing then resets instead of saying goodbye. It fails only for a socket that is gone.
        drop(stream.set_zero_linger());
        drop(stream.set_nodelay(true));
    }
    // Borrowed halves: owned ones say goodbye when they are dropped.
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    tokio::select! {
        () = copy(from_client, to_server, state.clone()) => {}
        () = copy(from_server, to_client, state.clone()) => {}
        _ = state.wait_for(|state| state.generation != born) => {}
    }
}

async fn copy(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if state.wait_for(|state| state.mode == Mode::Pass).await.is_err() {
            return;
        }
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        // What was read just as the hole opened waits in it too.
        if state.wait_for(|state| state.mode == Mode::Pass).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
