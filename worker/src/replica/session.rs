//! Keeps a session with the link open, as long as the replica lives: any error drops it whole and begins anew.

use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::ids::{InstanceId, Owner};
use mobu_fleet::domain::messages::{Answer, Ask, Query, SCHEMA, Wire};
use mobu_fleet::link::{self, Address, Inbox, Link, LinkError, LogRecord, LogStart, Message, Session, SessionHealth};
use mobu_fleet::runtime::backoff::Backoff;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::process::chain;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

/// How long a session must last so that the next one is tried for at once.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// How long whoever holds the instance ID may take to answer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// What a session brings.
#[derive(Debug)]
pub(super) enum SessionEvent {
    /// It is open, and the instance ID is ours.
    Opened(Arc<dyn Session>),
    /// The instance ID is in use; whether by a process that lives and says so, or by nobody that answers, which may be our
    /// own last connection that the broker has not given up yet.
    NameTaken { by_another: bool },
    /// It has ended, or could not be opened.
    Lost(String),
    /// The broker holds back, or does not any more.
    Health(SessionHealth),
    /// Something for this replica.
    Message(Message),
    /// The log is being read.
    Attached,
    /// The next entry of the log.
    Record(LogRecord),
}

/// What the replica wants of its session. Once nobody can send any more, it is closed in an orderly way, and no other is opened.
#[derive(Debug)]
pub(super) enum SessionCommand {
    /// Read the log.
    Read(LogStart),
    /// Drop the session and open another one.
    End(&'static str),
}

/// Opens one session after another.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) link: Arc<dyn Link>,
    /// Shown by the broker.
    pub(super) name: String,
    pub(super) instance_id: InstanceId,
    pub(super) backoff: Backoff,
    pub(super) events: mpsc::Sender<SessionEvent>,
    pub(super) commands: mpsc::Receiver<SessionCommand>,
}

/// How a session ended.
enum End {
    Lost(String),
    /// The replica wants no other, or is gone.
    Closed,
}

impl Supervisor {
    /// Runs until the replica wants no session any more.
    pub(super) async fn run(mut self) {
        loop {
            let begun = clock::now();
            let reason = match self.session().await {
                End::Closed => return,
                End::Lost(reason) => reason,
            };
            if self.events.send(SessionEvent::Lost(reason)).await.is_err() {
                return;
            }
            if begun.elapsed() >= GOOD_SESSION {
                self.backoff.reset();
            }
            if !self.wait().await {
                return;
            }
        }
    }

    /// Waits before the next try. Returns false if there is to be none.
    async fn wait(&mut self) -> bool {
        let until = clock::now() + self.backoff.next_wait();
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    // They were meant for the last session.
                    Some(SessionCommand::Read(_) | SessionCommand::End(_)) => {}
                    None => return false,
                },
                () = tokio::time::sleep_until(until) => return true,
            }
        }
    }

    async fn session(&mut self) -> End {
        let opened = {
            let opening = open(&*self.link, &self.name, &self.instance_id);
            tokio::pin!(opening);
            loop {
                tokio::select! {
                    biased;
                    opened = &mut opening => break opened,
                    command = self.commands.recv() => match command {
                        Some(SessionCommand::Read(_) | SessionCommand::End(_)) => {}
                        None => return End::Closed,
                    },
                }
            }
        };
        match opened {
            Ok(Entry::Held(session, inbox)) => self.serve(session, inbox).await,
            Ok(Entry::Taken { by_another }) => {
                let id = &self.instance_id;
                let by = if by_another {
                    "another process"
                } else {
                    "a connection that does not answer"
                };
                warn!(replica.id = %id, "instance ID {id} is in use by {by} on {}", self.link.describe());
                if self.events.send(SessionEvent::NameTaken { by_another }).await.is_err() {
                    return End::Closed;
                }
                End::Lost(format!("instance ID {id} is in use by {by}"))
            }
            Err(failure) => {
                self.explain(&failure);
                End::Lost(failure.to_string())
            }
        }
    }

    fn explain(&self, failure: &LinkError) {
        let (link, id) = (self.link.describe(), &self.instance_id);
        match failure {
            failure if failure.needs_attention() => {
                error!(replica.id = %id, error = chain(failure), "{link} refuses replica {id}: {}", chain(failure));
            }
            failure => debug!(replica.id = %id, error = chain(failure), "no session with {link}"),
        }
    }

    async fn serve(&mut self, session: Arc<dyn Session>, mut inbox: Inbox<Message>) -> End {
        let (link, id) = (self.link.describe(), &self.instance_id);
        info!(replica.id = %id, "replica {id} is connected to {link}");
        let mut health = session.health();
        if self.events.send(SessionEvent::Opened(session.clone())).await.is_err() {
            return End::Closed;
        }
        let mut log: Option<Inbox<LogRecord>> = None;
        let ended = link::ended(session.health());
        tokio::pin!(ended);
        let lost = loop {
            let event = tokio::select! {
                biased;
                reason = &mut ended => break End::Lost(reason),
                command = self.commands.recv() => match command {
                    Some(SessionCommand::Read(start)) => match session.read_log(start).await {
                        Ok(reader) => {
                            log = Some(reader);
                            SessionEvent::Attached
                        }
                        Err(error) => break End::Lost(chain(&error)),
                    },
                    Some(SessionCommand::End(reason)) => break End::Lost(reason.to_owned()),
                    None => break End::Closed,
                },
                Ok(()) = health.changed() => SessionEvent::Health(health.borrow_and_update().clone()),
                message = inbox.recv() => match message {
                    Some(message) => SessionEvent::Message(message),
                    None => break End::Lost("the replica's queue is gone".to_owned()),
                },
                record = next(&mut log) => match record {
                    Some(record) => SessionEvent::Record(record),
                    None => break End::Lost("the state log is gone".to_owned()),
                },
            };
            if self.events.send(event).await.is_err() {
                break End::Closed;
            }
        };
        if let End::Lost(reason) = &lost {
            warn!(replica.id = %id, "replica {id} lost its session with {link} and goes on: {reason}");
        }
        session.close().await;
        lost
    }
}

/// What became of the try to take the replica's place.
enum Entry {
    Held(Arc<dyn Session>, Inbox<Message>),
    Taken { by_another: bool },
}

async fn open(link: &dyn Link, name: &str, id: &InstanceId) -> Result<Entry, LinkError> {
    let session: Arc<dyn Session> = Arc::from(link.open(name).await?);
    let failure = match session.replica_inbox(id).await {
        Ok(inbox) => return Ok(Entry::Held(session, inbox)),
        Err(failure) => failure,
    };
    let entry = match failure {
        LinkError::NameInUse { .. } => Ok(Entry::Taken {
            by_another: is_alive(&*session, id).await,
        }),
        failure => Err(failure),
    };
    session.close().await;
    entry
}

/// Asks whoever holds the instance ID for a sign of life. Our own last connection gives none, if the broker still holds it.
async fn is_alive(session: &dyn Session, id: &InstanceId) -> bool {
    let ask = async {
        let (reply_to, mut replies) = session.replies().await?;
        let query = Query {
            schema: SCHEMA,
            owner: Owner::new(""),
            ask: Ask::State {
                above: None,
                line: None,
            },
        };
        let mut message = Message::new(Query::KIND, query.encode());
        message.reply_to = Some(reply_to);
        message.expires = Some(SIGN_OF_LIFE);
        session.publish(Address::Replica(id.clone()), message).await?;
        Ok::<_, LinkError>(replies.recv().await.is_some_and(|answer| answer.kind == Answer::KIND))
    };
    matches!(tokio::time::timeout(SIGN_OF_LIFE, ask).await, Ok(Ok(true)))
}

/// Waits for the next entry, or for ever while nothing is read.
async fn next(log: &mut Option<Inbox<LogRecord>>) -> Option<LogRecord> {
    match log {
        Some(log) => log.recv().await,
        None => std::future::pending().await,
    }
}
