//! One connection's worth of messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::{Stream, StreamExt};
use lapin::{Connection, Event};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use super::connect::Socket;
use super::declare::Declarations;
use super::envelope::{self, Route};
use super::fate::Fate;
use super::inbox::Inboxes;
use super::publisher::Publisher;
use crate::domain::ids::InstanceId;
use crate::link::topology::{Object, Queue, Role, Topology};
use crate::link::{
    Address, Inbox, LinkError, LogRecord, LogStart, Message, ReplyAddress, RequestDelivery, Session, SessionHealth,
};
use crate::runtime::tasks::{TaskKind, Tasks};

/// How often in a row the question for the lock may go wrong before the session is given up.
const MISHAPS: u8 = 20;

/// A session over one connection. Dropping it closes the connection in the background.
#[derive(Debug)]
pub(super) struct AmqpSession {
    topology: Topology,
    fate: Fate,
    declarations: Arc<Declarations>,
    publisher: Arc<Publisher>,
    inboxes: Inboxes,
    socket: Socket,
    limit: Duration,
    /// How often in a row the question for the lock went wrong.
    mishaps: AtomicU8,
    /// Cancelled when the connection is closed.
    gone: CancellationToken,
}

impl AmqpSession {
    pub(super) fn start(
        connection: Connection,
        socket: Socket,
        topology: Topology,
        role: Role,
        limit: Duration,
    ) -> Self {
        let fate = Fate::new();
        let tasks = Tasks::new();
        let events = connection.events_listener();
        let connection = Arc::new(connection);
        let declarations = Arc::new(Declarations::new(connection.clone(), role, limit));
        let gone = CancellationToken::new();
        let publisher = Arc::new(Publisher::start(&declarations, &fate, limit, &tasks));
        let keeper = Keeper {
            connection,
            publisher: Arc::clone(&publisher),
            socket: socket.clone(),
            fate: fate.clone(),
            limit,
            tasks: tasks.clone(),
            gone: gone.clone(),
        };
        // Not one of `tasks`, which it aborts when it is done.
        Tasks::new().spawn(TaskKind::Expendable, "amqp-connection", keeper.run(events));
        Self {
            topology,
            publisher,
            inboxes: Inboxes {
                declarations: Arc::clone(&declarations),
                fate: fate.clone(),
                limit,
                tasks,
            },
            fate,
            declarations,
            socket,
            limit,
            mishaps: AtomicU8::new(0),
            gone,
        }
    }

    /// Declares what an operation uses; whatever fails there fails the operation.
    async fn ensure(&self, objects: &[Object]) -> Result<(), LinkError> {
        self.fate.check()?;
        self.spoil(self.declarations.ensure(objects).await)
    }

    async fn own_queue(&self, exchange: crate::link::topology::Exchange, queue: &Queue) -> Result<(), LinkError> {
        self.ensure(&[Object::Exchange(exchange), Object::Queue(queue.clone())])
            .await
    }

    /// Ends the session with an error that leaves it in doubt.
    fn spoil<T>(&self, outcome: Result<T, LinkError>) -> Result<T, LinkError> {
        if let Err(error @ (LinkError::Closed { .. } | LinkError::TimedOut { .. })) = &outcome
            && !self.fate.is_blocked()
        {
            self.fate.end(match error {
                LinkError::Closed { reason } => reason.clone(),
                other => other.to_string(),
            });
        }
        outcome
    }
}

#[async_trait]
impl Session for AmqpSession {
    async fn read_log(&self, from: LogStart) -> Result<Inbox<LogRecord>, LinkError> {
        let state = self.topology.state();
        self.ensure(&[Object::Queue(state.clone())]).await?;
        self.spoil(self.inboxes.log(&state.name, from).await)
    }

    async fn append(&self, entry: Bytes) -> Result<(), LinkError> {
        let route = Route::log(&self.topology);
        let message = Message::new("fleet.state.v1", entry);
        match self
            .publisher
            .publish("an append to the state log", route, &message)
            .await
        {
            Err(error @ (LinkError::Unroutable { .. } | LinkError::Full)) => {
                // Deleted under us, or refused: what a reader of it saw is no longer what we append to.
                let reason = format!("the state log takes no entries: {error}");
                self.fate.end(reason.clone());
                Err(LinkError::Closed { reason })
            }
            outcome => outcome,
        }
    }

    async fn try_lead(&self) -> Result<bool, LinkError> {
        self.fate.check()?;
        match self.declarations.ensure(&[Object::Queue(self.topology.leader())]).await {
            Ok(()) => Ok(true),
            Err(LinkError::NameInUse { .. }) => {
                self.mishaps.store(0, Ordering::Relaxed);
                Ok(false)
            }
            // Each refusal closes a channel, and now and then the client library lets the next channel suffer for it. That says
            // nothing about the session; who asks again learns whether it has the lock.
            Err(error @ LinkError::Closed { .. })
                if self.declarations.is_connected() && self.mishaps.fetch_add(1, Ordering::Relaxed) < MISHAPS =>
            {
                debug!(error = %error, "whether the lock is held is not known");
                Ok(false)
            }
            Err(error) => self.spoil(Err(error)),
        }
    }

    async fn replica_inbox(&self, id: &InstanceId) -> Result<Inbox<Message>, LinkError> {
        let queue = self.topology.replica(id);
        self.ensure(&[Object::Exchange(self.topology.replies())]).await?;
        self.own_queue(self.topology.broadcast(), &queue).await?;
        self.spoil(self.inboxes.messages(&queue).await)
    }

    async fn spare_inbox(&self, id: &InstanceId, number: u8) -> Result<Inbox<Message>, LinkError> {
        let queue = self.topology.spare(id, number);
        self.ensure(&[Object::Exchange(self.topology.replies())]).await?;
        self.own_queue(self.topology.broadcast(), &queue).await?;
        self.spoil(self.inboxes.messages(&queue).await)
    }

    async fn broadcasts(&self) -> Result<Inbox<Message>, LinkError> {
        let queue = self.topology.broadcast_listener(&unique());
        self.own_queue(self.topology.broadcast(), &queue).await?;
        self.spoil(self.inboxes.messages(&queue).await)
    }

    async fn reports(&self) -> Result<Inbox<Message>, LinkError> {
        // Replicas publish events there and may not make it. Every coordinator comes by here.
        self.ensure(&[Object::Exchange(self.topology.events())]).await?;
        let queue = self.topology.reports_listener(&unique());
        self.own_queue(self.topology.reports(), &queue).await?;
        self.spoil(self.inboxes.messages(&queue).await)
    }

    async fn events(&self, pattern: &str) -> Result<Inbox<Message>, LinkError> {
        let queue = self.topology.events_listener(&unique(), pattern);
        self.own_queue(self.topology.events(), &queue).await?;
        self.spoil(self.inboxes.messages(&queue).await)
    }

    async fn replies(&self) -> Result<(ReplyAddress, Inbox<Message>), LinkError> {
        let queue = self.topology.reply(&unique());
        self.own_queue(self.topology.replies(), &queue).await?;
        let inbox = self.spoil(self.inboxes.unacknowledged(&queue.name).await)?;
        Ok((ReplyAddress(queue.name), inbox))
    }

    async fn requests(&self) -> Result<Inbox<RequestDelivery>, LinkError> {
        self.ensure(&envelope::requests(&self.topology)).await?;
        let queue = self.topology.requests_queue();
        self.spoil(self.inboxes.requests(&queue.name).await)
    }

    async fn publish(&self, to: Address, message: Message) -> Result<(), LinkError> {
        let route = Route::to(&self.topology, to)?;
        self.publisher.publish("a publish", route, &message).await
    }

    fn post(&self, to: Address, message: Message) -> Result<(), LinkError> {
        self.publisher.post(Route::to(&self.topology, to)?, &message)
    }

    fn is_heard(&self, key: &str) -> bool {
        self.publisher.is_heard(key)
    }

    fn health(&self) -> watch::Receiver<SessionHealth> {
        self.fate.subscribe()
    }

    async fn close(&self) {
        let orderly = async {
            if !self.fate.is_blocked() && self.fate.check().is_ok() {
                self.publisher.flush().await;
            }
            self.fate.end("closed by its owner");
            self.gone.cancelled().await;
        };
        if tokio::time::timeout(self.limit, orderly).await.is_err() {
            self.fate.end("closed by its owner");
            self.socket.cut();
        }
    }
}

impl Drop for AmqpSession {
    fn drop(&mut self) {
        self.fate.end("dropped by its owner");
    }
}

/// What tells this session's queues from others'.
fn unique() -> String {
    Uuid::new_v4().simple().to_string()
}

/// Owns the connection: learns how it does, and closes it before anything that lives on it is dropped.
struct Keeper {
    connection: Arc<Connection>,
    publisher: Arc<Publisher>,
    socket: Socket,
    fate: Fate,
    limit: Duration,
    tasks: Tasks,
    gone: CancellationToken,
}

impl Keeper {
    async fn run(self, mut events: impl Stream<Item = Event> + Unpin) {
        loop {
            let event = tokio::select! {
                biased;
                () = self.fate.ended() => break,
                event = events.next() => event,
            };
            match event {
                Some(Event::ConnectionBlocked(reason)) => self.fate.block(reason),
                Some(Event::ConnectionUnblocked) => self.fate.unblock(),
                // Of one channel: a refused declaration, perhaps. Whoever uses the channel knows what it means, unless it is the one
                // on which nobody waits for anything.
                Some(Event::Error(error)) if error.is_amqp_soft_error() && !self.publisher.is_soft_channel_closed() => {
                }
                Some(Event::Error(error)) => self.fate.end(super::errors::words(&error)),
                Some(_) => {}
                None => self.fate.end("the connection is gone"),
            }
        }
        let closing = self.connection.close(200, "the session ended".into());
        // While the broker blocks publishers lapin would write this only afterwards, hence the cut in any case.
        drop(tokio::time::timeout(self.limit, closing).await);
        self.socket.cut();
        self.tasks.abort_token().cancel();
        self.gone.cancel();
    }
}
