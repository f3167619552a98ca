//! Who holds a connection. When all are held, whoever has owed us the rest of a request for longest gives way: callers that
//! connect and say nothing keep nobody else out for long.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::runtime::clock::{Instant, now};

/// How long a caller has for a request before it may be made to give way: longer than a network and a busy machine need to bring one
/// that was sent.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked at whether somebody can be made to give way, while nobody leaves.
const LOOK: Duration = Duration::from_millis(100);

/// Says of a seat that its caller owes nothing.
const PAID: u64 = u64::MAX;

/// So many connections may be open.
#[derive(Debug)]
pub(super) struct Seats {
    began: Instant,
    limit: usize,
    permits: Arc<Semaphore>,
    /// Guards the seats that are or were taken, in that order; held for a look through them, never over an await.
    taken: Mutex<Vec<Weak<Seat>>>,
}

/// One open connection.
#[derive(Debug)]
pub(super) struct Seat {
    began: Instant,
    /// Since when its caller owes us the rest of a request, in microseconds after the beginning, or [`PAID`].
    owes_since: AtomicU64,
    evicted: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            began: now(),
            limit,
            permits: Arc::new(Semaphore::new(limit)),
            taken: Mutex::default(),
        }
    }

    /// Takes a seat; if there is none, the oldest debtor gives way, and if nobody owes anything, it waits.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn take(&self) -> Arc<Seat> {
        let permit = loop {
            if let Ok(permit) = self.permits.clone().try_acquire_owned() {
                break permit;
            }
            self.evict_one();
            let acquired = tokio::time::timeout(LOOK, self.permits.clone().acquire_owned()).await;
            if let Ok(permit) = acquired {
                break permit.expect("this semaphore is never closed");
            }
        };
        let seat = Arc::new(Seat {
            began: self.began,
            owes_since: AtomicU64::new(micros(self.began)),
            evicted: CancellationToken::new(),
            _permit: permit,
        });
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.len() > 2 * self.limit {
            taken.retain(|seat| seat.strong_count() > 0);
        }
        taken.push(Arc::downgrade(&seat));
        seat
    }

    fn evict_one(&self) {
        let patient = micros(self.began).saturating_sub(u64::try_from(GRACE.as_micros()).unwrap_or(PAID));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|seat| seat.strong_count() > 0);
        let debtors = taken
            .iter()
            .filter_map(Weak::upgrade)
            .filter(|seat| !seat.evicted.is_cancelled());
        let debtors = debtors.map(|seat| (seat.owes_since.load(Ordering::Relaxed), seat));
        let oldest = debtors
            .filter(|(since, _)| *since <= patient)
            .min_by_key(|(since, _)| *since);
        if let Some((_, seat)) = oldest {
            seat.evicted.cancel();
        }
    }
}

impl Seat {
    /// Waits until it has to be given up.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Lets go of the debt when what is returned is dropped: with a request's body, which has then come or is not wanted.
    pub(super) fn paying(self: &Arc<Self>) -> impl Send + Sync + use<> {
        OnDrop(self.clone(), Self::pay)
    }

    /// Notes that the whole request is there.
    pub(super) fn pay(&self) {
        self.owes_since.store(PAID, Ordering::Relaxed);
    }

    /// Whether its caller owes the rest of a request.
    pub(super) fn owes(&self) -> bool {
        self.owes_since.load(Ordering::Relaxed) != PAID
    }

    /// Gives whoever owes something time anew: he has just taken some of the last answer.
    pub(super) fn renew(&self) {
        let renewed = |since: u64| (since != PAID).then(|| micros(self.began));
        // Whoever owes nothing keeps that.
        self.owes_since
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, renewed)
            .ok();
    }

    /// Expects the next request when what is returned is dropped: with the body of an answer, which has then gone.
    pub(super) fn owing(self: &Arc<Self>) -> impl Send + Sync + use<> {
        OnDrop(self.clone(), Self::owe)
    }

    fn owe(&self) {
        self.owes_since.store(micros(self.began), Ordering::Relaxed);
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from((now() - since).as_micros()).unwrap_or(PAID - 1)
}

/// Says something to a seat when it is dropped.
struct OnDrop(Arc<Seat>, fn(&Seat));

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.1)(&self.0);
    }
}

/// A body, and something that is dropped with it.
pub(super) struct Holding<B, T> {
    body: B,
    _held: T,
}

impl<B, T> Holding<B, T> {
    pub(super) const fn new(body: B, held: T) -> Self {
        Self { body, _held: held }
    }
}

impl<B: Body + Unpin, T: Unpin> Body for Holding<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::super::serve;
    use super::*;
    use crate::runtime::tasks::{TaskKind, Tasks};

    const PATIENCE: Duration = Duration::from_secs(600);

    async fn answer(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
        // Whether a cut shows as an end or as a reset is the system's choice.
        drop(read.expect("the server answers or closes"));
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn silent_callers_give_way_and_those_who_wait_for_an_answer_do_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let go = Arc::new(Notify::new());
        let going = go.clone();
        let wait = || async move {
            going.notified().await;
            "waited"
        };
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/read", post(|body: String| async move { body }))
            .route("/wait", get(wait));
        let tasks = Tasks::new();
        let serving = serve(listener, router, 4, tasks.drain_token());
        let serving = tasks.spawn(TaskKind::Expendable, "http", serving);
        let mut streams = Vec::new();
        for text in [
            "GET /wait HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: ",
            "POST /read HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nx",
            "GET / HTTP/1.1\r\nhost: ",
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(text.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
            streams.push(stream);
        }
        let [mut waiting, mut no_head, mut no_body, mut newest] = streams.try_into().unwrap();
        for gone in [&mut no_head, &mut no_body] {
            let mut late = TcpStream::connect(address).await.unwrap();
            late.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
                .await
                .unwrap();
            assert!(answer(&mut late).await.ends_with("here"));
            assert_eq!(answer(gone).await, "", "whoever owed for longest gave way");
            // It has freed a seat, which is taken again by somebody silent.
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(b"GET").await.unwrap();
            tokio::time::sleep(LOOK).await;
            tasks.spawn(TaskKind::Expendable, "silent", async move {
                answer(&mut silent).await;
            });
        }
        newest.write_all(b"x\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(answer(&mut newest).await.ends_with("here"), "the others stay");
        go.notify_one();
        assert!(answer(&mut waiting).await.ends_with("waited"));
        tasks.drain_token().cancel();
        serving.await.unwrap();
    }
}
