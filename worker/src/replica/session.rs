//! Keeps a session with the link open, as long as the replica lives: any error drops it whole and begins anew.
//!
//! # Which inbox
//!
//! Whoever has the replica's own inbox open has its name. A cluster of RabbitMQ 4.3 keeps that inbox when its node dies, and nobody
//! could have the name until the node is back. There is proof of it, though: the broker refuses to take a message for an inbox
//! that it cannot reach, and takes one for an inbox that is merely slow. With this proof the next spare inbox will do. Never are two
//! processes at it: whoever has opened one asks at all others before it goes on, so of any two at least one sees the other.

use std::sync::Arc;
use std::time::Duration;

use mobu_fleet::domain::ids::{InstanceId, Owner};
use mobu_fleet::domain::messages::{Answer, Ask, Query, SCHEMA, Wire};
use mobu_fleet::link::{
    self, Address, Inbox, Link, LinkError, LogRecord, LogStart, Message, SPARES, Session, SessionHealth,
};
use mobu_fleet::runtime::backoff::Backoff;
use mobu_fleet::runtime::clock;
use mobu_fleet::runtime::process::chain;
use mobu_fleet::simulation::{Bug, has};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

/// How long a session must last so that the next one is tried for at once.
const GOOD_SESSION: Duration = Duration::from_secs(10);

/// How long whoever holds the instance ID may take to answer.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// How often a replica with a spare inbox looks whether its own one is to be had again.
const HOME: Duration = Duration::from_secs(5);

/// What a session brings.
#[derive(Debug)]
pub(super) enum SessionEvent {
    /// It is open, and the instance ID is ours: what arrives for it comes in this inbox.
    Opened(Arc<dyn Session>, Inbox<Message>),
    /// The instance ID is in use; whether by a process that lives and says so, or by nobody that answers, which may be our
    /// own last connection that the broker has not given up yet.
    NameTaken { by_another: bool },
    /// It has ended, or could not be opened.
    Lost(String),
    /// The broker holds back, or does not any more.
    Health(SessionHealth),
    /// The log is being read: its entries come in this inbox.
    Attached(Inbox<LogRecord>),
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
            Ok(Entry::Held(session, inbox, number)) => self.serve(session, inbox, number).await,
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

    async fn serve(&mut self, session: Arc<dyn Session>, inbox: Inbox<Message>, number: u8) -> End {
        let (link, id) = (self.link.describe(), &self.instance_id);
        info!(replica.id = %id, "replica {id} is connected to {link}");
        if number > 0 {
            warn!(
                replica.id = %id,
                "the queue of replica {id} is on a node of the broker that is down: it uses spare {number} until that is back"
            );
        }
        let mut health = session.health();
        let opened = SessionEvent::Opened(session.clone(), inbox);
        if self.events.send(opened).await.is_err() {
            return End::Closed;
        }
        let ended = link::ended(session.health());
        let home = home_again(&*session, id, number);
        tokio::pin!(ended, home);
        let lost = loop {
            let event = tokio::select! {
                biased;
                reason = &mut ended => break End::Lost(reason),
                command = self.commands.recv() => match command {
                    Some(SessionCommand::Read(start)) => match session.read_log(start).await {
                        Ok(reader) => SessionEvent::Attached(reader),
                        Err(error) => break End::Lost(chain(&error)),
                    },
                    Some(SessionCommand::End(reason)) => break End::Lost(reason.to_owned()),
                    None => break End::Closed,
                },
                () = &mut home => break End::Lost("its own queue may be had again".to_owned()),
                Ok(()) = health.changed() => SessionEvent::Health(health.borrow_and_update().clone()),
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
    /// With the inbox and its number.
    Held(Arc<dyn Session>, Inbox<Message>, u8),
    Taken {
        by_another: bool,
    },
}

async fn open(link: &dyn Link, name: &str, id: &InstanceId) -> Result<Entry, LinkError> {
    let session: Arc<dyn Session> = Arc::from(link.open(name).await?);
    let sign = match enter(&*session, id).await {
        Ok(Place::Held(inbox, number)) => return Ok(Entry::Held(session, inbox, number)),
        Ok(Place::Taken(sign)) => Ok(Entry::Taken {
            by_another: sign == Sign::Life,
        }),
        Err(failure) => Err(failure),
    };
    session.close().await;
    sign
}

/// Whether a session has one of the replica's inboxes.
enum Place {
    Held(Inbox<Message>, u8),
    Taken(Sign),
}

/// Opens the replica's own inbox, or the first spare all before which are stranded.
async fn enter(session: &dyn Session, id: &InstanceId) -> Result<Place, LinkError> {
    let mut last = Sign::Silence;
    for number in 0..=SPARES {
        let opened = match number {
            0 => session.replica_inbox(id).await,
            spare => session.spare_inbox(id, spare).await,
        };
        match opened {
            Ok(inbox) => {
                return Ok(match others(session, id, number).await? {
                    Some(sign) => Place::Taken(sign),
                    None => Place::Held(inbox, number),
                });
            }
            Err(LinkError::NameInUse { .. }) => last = holder(session, id, number).await,
            Err(failure) => return Err(failure),
        }
        let is_free = last == Sign::Stranded || (last == Sign::Silence && has(Bug::TakeSpareOnSilence));
        if !is_free {
            break;
        }
    }
    Ok(Place::Taken(last))
}

/// Asks who has an inbox open that is taken. That the question itself goes wrong proves nothing.
async fn holder(session: &dyn Session, id: &InstanceId, number: u8) -> Sign {
    let sign = ask(session, Address::Inbox(id.clone(), number)).await;
    let sign = match sign {
        // Releases before spares were there are to be had by the replica's name alone.
        Ok(Sign::Nobody) if number == 0 => match ask(session, Address::Replica(id.clone())).await {
            Ok(Sign::Stranded) => Ok(Sign::Silence),
            sign => sign,
        },
        sign => sign,
    };
    sign.unwrap_or(Sign::Silence)
}

/// Asks at all inboxes but `number`, which is ours, whether somebody is there.
async fn others(session: &dyn Session, id: &InstanceId, number: u8) -> Result<Option<Sign>, LinkError> {
    if has(Bug::TakeSpareOnSilence) {
        return Ok(None);
    }
    for other in (0..=SPARES).filter(|other| *other != number) {
        let sign = ask(session, Address::Inbox(id.clone(), other)).await?;
        if matches!(sign, Sign::Life | Sign::Silence) {
            return Ok(Some(sign));
        }
    }
    Ok(None)
}

/// What is known of who has an inbox open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It answers.
    Life,
    /// It does not answer. So does our own last connection, if the broker still holds it.
    Silence,
    /// Nobody can be there: the broker has lost the inbox.
    Stranded,
    /// Nobody has it open.
    Nobody,
}

/// Asks whoever has an inbox of the replica open for a sign of life.
async fn ask(session: &dyn Session, at: Address) -> Result<Sign, LinkError> {
    // Whether the broker takes a message that nobody is to answer is an answer already, and mostly the only one.
    match session.publish(at.clone(), question()).await {
        Ok(()) => {}
        Err(LinkError::Stranded { .. }) => return Ok(Sign::Stranded),
        Err(LinkError::Unroutable { .. }) => return Ok(Sign::Nobody),
        Err(failure) => return Err(failure),
    }
    let asking = async {
        let (reply_to, mut replies) = session.replies().await?;
        let mut message = question();
        message.reply_to = Some(reply_to);
        session.publish(at, message).await?;
        let answer = replies.recv().await;
        Ok::<_, LinkError>(match answer {
            Some(answer) if answer.kind == Answer::KIND => Sign::Life,
            _ => Sign::Silence,
        })
    };
    match tokio::time::timeout(SIGN_OF_LIFE, asking).await {
        Ok(Err(failure)) => {
            debug!(error = chain(&failure), "no sign of life could be asked for");
            Ok(Sign::Silence)
        }
        Ok(sign) => sign,
        Err(_) => Ok(Sign::Silence),
    }
}

/// A question that every replica answers, if it is told whom.
fn question() -> Message {
    let query = Query {
        schema: SCHEMA,
        owner: Owner::new(""),
        ask: Ask::State {
            above: None,
            line: None,
        },
    };
    let mut message = Message::new(Query::KIND, query.encode());
    message.expires = Some(SIGN_OF_LIFE);
    message
}

/// Waits until the replica's own inbox is not stranded any more; for ever if it is the one in use.
async fn home_again(session: &dyn Session, id: &InstanceId, number: u8) {
    if number == 0 {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(HOME).await;
        // Nobody is to answer: whether the broker takes it is the answer.
        match session.publish(Address::Inbox(id.clone(), 0), question()).await {
            Ok(()) | Err(LinkError::Unroutable { .. }) => return,
            Err(error) => debug!(replica.id = %id, error = chain(&error), "the replica's own queue is not to be had"),
        }
    }
}
