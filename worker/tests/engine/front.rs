//! What stands between a monkey and a service that works, and breaks one request in a chosen way. It speaks just enough HTTP to
//! know where a request begins and to give every one a connection of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// What happens to the request.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The service's answer ends in the middle of its body.
    Cut,
    /// The connection ends without any answer.
    Closed,
    /// The service does not listen any more.
    Refused,
    /// This status, with this type and body.
    Answer(u16, &'static str, &'static str),
    /// A redirect to where nobody listens.
    RedirectToNowhere,
    /// A redirect to itself.
    RedirectInCircles,
    /// A redirect to what is no address.
    RedirectToGarbage,
    /// Bytes that are no HTTP.
    Garbage,
}

/// The front. Ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) base: String,
    state: Arc<State>,
    tasks: Tasks,
}

#[derive(Debug)]
struct State {
    base: String,
    upstream: SocketAddr,
    fault: Fault,
    /// How the request begins that the fault is for.
    request: &'static str,
    is_armed: AtomicBool,
    /// How often it had it.
    hits: AtomicUsize,
    /// Guards what was asked so far; held for a push, never over an await.
    asked: Mutex<Vec<String>>,
}

impl Front {
    /// Stands before a service; the first request that begins like this has the fault.
    pub(crate) async fn start(upstream: &str, request: &'static str, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            base: base.clone(),
            upstream: upstream.strip_prefix("http://").unwrap().parse().unwrap(),
            fault,
            request,
            is_armed: AtomicBool::new(true),
            hits: AtomicUsize::new(0),
            asked: Mutex::default(),
        });
        let tasks = Tasks::new();
        let (accepting, shared) = (tasks.clone(), state.clone());
        drop(tasks.spawn(TaskKind::Expendable, "front", async move {
            while let Ok((client, _)) = listener.accept().await {
                let served = shared.clone().serve(client);
                drop(accepting.spawn(TaskKind::Expendable, "connection", served));
            }
        }));
        Self { base, state, tasks }
    }

    /// Whether the fault has happened.
    pub(crate) fn has_happened(&self) -> bool {
        !self.state.is_armed.load(Ordering::SeqCst)
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().unwrap().clone()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

impl State {
    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        let Some(head) = head(&mut client).await else { return };
        let line = head.lines().next().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().push(line.clone());
        let is_hit = line.starts_with(self.request) && self.is_armed.swap(false, Ordering::SeqCst);
        if is_hit {
            self.fail(&mut client, &head).await;
        } else if let Some(mut service) = self.forward(&head).await {
            drop(copy_bidirectional(&mut client, &mut service).await);
        }
    }

    /// Sends a request on, in which the connection is said to be for it alone.
    async fn forward(&self, head: &str) -> Option<TcpStream> {
        let mut service = TcpStream::connect(self.upstream).await.ok()?;
        let (line, rest) = head.split_once("\r\n")?;
        let head = format!("{line}\r\nconnection: close\r\n{rest}");
        service.write_all(head.as_bytes()).await.ok()?;
        Some(service)
    }

    async fn fail(&self, client: &mut TcpStream, head: &str) {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let redirect = |to: &str| answer(302, "text/plain", "", &format!("location: {to}\r\n"));
        let said = match self.fault {
            Fault::Cut => {
                let Some(mut service) = self.forward(head).await else {
                    return;
                };
                let mut whole = Vec::new();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_service, mut to_service) = service.split();
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_service) => {}
                    _ = from_service.read_to_end(&mut whole) => {}
                }
                // The last byte is missing at least, and never the head.
                let body = whole.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0) + 4;
                let half = body + (whole.len() - body) / 2;
                drop(to_client.write_all(&whole[..half]).await);
                return;
            }
            Fault::Closed => return,
            // As a client sees it, whose connection is reset before it is used.
            Fault::Refused => {
                drop(client.set_zero_linger());
                return;
            }
            Fault::Answer(status, kind, body) => answer(status, kind, body, ""),
            Fault::RedirectToNowhere => redirect("http://127.0.0.1:9/nowhere"),
            Fault::RedirectInCircles => {
                let hits = self.hits.fetch_add(1, Ordering::SeqCst) + 1;
                // As many as the most patient client follows, so that the next try is for the service.
                self.is_armed.store(hits < 11, Ordering::SeqCst);
                answer(307, "text/plain", "", &format!("location: {}{path}\r\n", self.base))
            }
            Fault::RedirectToGarbage => redirect("http://[nothing"),
            Fault::Garbage => "\u{1}\u{2} this is no HTTP\r\n\r\n".to_owned(),
        };
        // What is not read would reset the connection, and with it the answer.
        drop(client.write_all(said.as_bytes()).await);
        drop(client.shutdown().await);
        drop(client.read_to_end(&mut Vec::new()).await);
    }
}

fn answer(status: u16, kind: &str, body: &str, headers: &str) -> String {
    format!(
        "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Reads the head of a request, to the byte, so that what follows can be passed on.
async fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
        if head.len() > 64 * 1024 {
            return None;
        }
    }
    String::from_utf8(head).ok()
}
