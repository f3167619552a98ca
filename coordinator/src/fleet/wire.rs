//! The coordinator's sessions with the broker: two connections that live and die together, and one for requests.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use mobu_fleet::link::{
    Address, Inbox, Link, LinkError, LogRecord, LogStart, Message, ReplyAddress, RequestDelivery, Session,
    SessionHealth, ended,
};
use tokio::sync::watch;

/// What arrives over a wire.
#[derive(Debug)]
pub(super) enum Arrival {
    Entry(LogRecord),
    Report(Message),
    Broadcast(Message),
    Reply(Message),
    Request(RequestDelivery),
    RequestsEnded(String),
    Ended(String),
}

/// The session of the requests.
///
/// What foreigners publish may break a connection: lapin gives one up over a property that is no text, and the broker delivers such a request
/// again and again before it drops it. Nobody else should have to suffer for that.
#[derive(Debug)]
pub(super) struct Requests {
    /// Kept for as long as requests may wait to be settled.
    session: Arc<dyn Session>,
    /// `None` once no further ones are taken.
    inbox: Option<Inbox<RequestDelivery>>,
    ended: Ended,
}

impl Requests {
    pub(super) async fn open(link: Arc<dyn Link>, name: String) -> Result<Self, LinkError> {
        let session: Arc<dyn Session> = Arc::from(link.open(&format!("{name} requests")).await?);
        let inbox = session.requests().await?;
        Ok(Self {
            ended: Ended::of(&session.health()),
            inbox: Some(inbox),
            session,
        })
    }

    /// # Cancel safety
    ///
    /// Safe.
    async fn next(&mut self) -> Arrival {
        let Some(inbox) = &mut self.inbox else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            reason = &mut self.ended.0 => Arrival::RequestsEnded(reason),
            request = inbox.recv() => request.map_or_else(
                || Arrival::RequestsEnded(why(&self.session.health(), "requests")),
                Arrival::Request,
            ),
        }
    }
}

/// The sessions and their inboxes.
///
/// The log and the lock share one connection, so that a coordinator that cannot write does not keep the lock.
/// Reports and answers have another: a flood of them never delays the log.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) log: Arc<dyn Session>,
    pub(super) side: Arc<dyn Session>,
    pub(super) reply_to: ReplyAddress,
    entries: Inbox<LogRecord>,
    reports: Inbox<Message>,
    broadcasts: Inbox<Message>,
    replies: Inbox<Message>,
    requests: Option<Requests>,
    log_health: watch::Receiver<SessionHealth>,
    side_health: watch::Receiver<SessionHealth>,
    /// Kept from one arrival to the next: to begin waiting anew for each costs more than the wait.
    log_ended: Ended,
    side_ended: Ended,
}

/// Waits for the end of a session; says why it came.
struct Ended(Pin<Box<dyn Future<Output = String> + Send>>);

impl Ended {
    fn of(health: &watch::Receiver<SessionHealth>) -> Self {
        Self(Box::pin(ended(health.clone())))
    }
}

impl fmt::Debug for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ended").finish_non_exhaustive()
    }
}

impl Wire {
    /// Connects and opens everything but the requests, which only a leader takes.
    pub(super) async fn open(link: Arc<dyn Link>, name: String) -> Result<Self, LinkError> {
        let side: Arc<dyn Session> = Arc::from(link.open(&format!("{name} side")).await?);
        let reports = side.reports().await?;
        let broadcasts = side.broadcasts().await?;
        let (reply_to, replies) = side.replies().await?;
        let log: Arc<dyn Session> = Arc::from(link.open(&format!("{name} log")).await?);
        let entries = log.read_log(LogStart::First).await?;
        let (log_health, side_health) = (log.health(), side.health());
        Ok(Self {
            log,
            side,
            reply_to,
            entries,
            reports,
            broadcasts,
            replies,
            requests: None,
            log_ended: Ended::of(&log_health),
            side_ended: Ended::of(&side_health),
            log_health,
            side_health,
        })
    }

    /// Begins to take requests.
    pub(super) fn take_requests(&mut self, requests: Requests) {
        self.requests = Some(requests);
    }

    /// Takes no further requests: they wait for the next leader. Those that were taken can still be settled.
    pub(super) fn leave_requests(&mut self) {
        if let Some(requests) = &mut self.requests {
            requests.inbox = None;
        }
    }

    /// Gives up the session of the requests, which has ended.
    pub(super) fn lose_requests(&mut self) {
        self.requests = None;
    }

    /// Waits for the next thing that arrives. What comes from the log goes before all else. The end is the last thing.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(super) async fn next(&mut self) -> Arrival {
        let requests = async {
            match &mut self.requests {
                Some(requests) => requests.next().await,
                None => std::future::pending().await,
            }
        };
        let of_log = |reason: String| Arrival::Ended(format!("the connection of the log: {reason}"));
        let of_side = |reason: String| Arrival::Ended(format!("the connection of the reports: {reason}"));
        let no_side = |stream| of_side(why(&self.side_health, stream));
        tokio::select! {
            biased;
            reason = &mut self.log_ended.0 => of_log(reason),
            reason = &mut self.side_ended.0 => of_side(reason),
            entry = self.entries.recv() => entry.map_or_else(|| of_log(why(&self.log_health, "the state log")), Arrival::Entry),
            reply = self.replies.recv() => reply.map_or_else(|| no_side("answers"), Arrival::Reply),
            message = self.broadcasts.recv() => message.map_or_else(|| no_side("broadcasts"), Arrival::Broadcast),
            report = self.reports.recv() => report.map_or_else(|| no_side("reports"), Arrival::Report),
            arrival = requests => arrival,
        }
    }

    /// Returns how the worse of the two sessions is doing.
    pub(super) fn health(&self) -> SessionHealth {
        let log = self.log_health.borrow().clone();
        if log == SessionHealth::Open {
            self.side_health.borrow().clone()
        } else {
            log
        }
    }

    /// Hands over a message whose loss is allowed. Returns whether it was taken.
    pub(super) fn post(&self, to: Address, message: Message) -> bool {
        self.side.post(to, message).is_ok()
    }

    /// Ends all sessions in an orderly way: the lock first, so that a standby need not wait.
    pub(super) async fn close(self) {
        self.log.close().await;
        if let Some(requests) = self.requests {
            requests.session.close().await;
        }
        self.side.close().await;
    }
}

/// Returns why a stream has ended: mostly its session has, and knows more. Otherwise its queue was deleted, or the broker cancelled the consumer.
fn why(health: &watch::Receiver<SessionHealth>, stream: &str) -> String {
    match &*health.borrow() {
        SessionHealth::Closed { reason } => reason.clone(),
        SessionHealth::Open | SessionHealth::Blocked { .. } => format!("the stream of {stream} ended"),
    }
}
