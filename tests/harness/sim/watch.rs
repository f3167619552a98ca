//! The link as the processes see it: the hub, a lock that may be given away, and a record of who reads the log from where.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_lite::stream;
use mobu_fleet::domain::ids::InstanceId;
use mobu_fleet::domain::messages::{Announcement, Wire};
use mobu_fleet::link::memory::Hub;
use mobu_fleet::link::{
    Address, Inbox, Link, LinkError, LogRecord, LogStart, Message, ReplyAddress, RequestDelivery, Session,
    SessionHealth,
};
use mobu_fleet::runtime::clock::{Instant, now};
use tokio::sync::watch;

use super::fault::Plan;
use super::oracle::Oracle;

/// How long the log must be silent for a replica that nobody told where its end is.
const SILENCE: Duration = Duration::from_millis(990);

/// How a session reads the log.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The newest revision that the log had when the session began to read from its first entry.
    pub(super) head: u64,
    last: Instant,
    /// Whether there was so long a silence, or an announcement, that the reader may take itself for caught up.
    pub(super) may_act: bool,
}

#[derive(Debug)]
struct Inner {
    hub: Hub,
    plan: Arc<Plan>,
    oracle: Arc<Mutex<Oracle>>,
    /// By the session's name. Guards leaf data.
    readings: Mutex<BTreeMap<String, Reading>>,
}

/// The link.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    inner: Arc<Inner>,
}

impl Watched {
    pub(super) fn new(hub: Hub, plan: Arc<Plan>, oracle: Arc<Mutex<Oracle>>) -> Self {
        let readings = Mutex::default();
        Self {
            inner: Arc::new(Inner {
                hub,
                plan,
                oracle,
                readings,
            }),
        }
    }

    /// Returns how the session of that name reads, if it began at the first entry.
    pub(super) fn reading(&self, name: &str) -> Option<Reading> {
        let mut reading = self.readings().get(name).cloned()?;
        reading.may_act |= reading.last.elapsed() >= SILENCE;
        Some(reading)
    }

    fn readings(&self) -> MutexGuard<'_, BTreeMap<String, Reading>> {
        self.inner
            .readings
            .lock()
            .expect("no code panics while it holds the readings")
    }

    fn delivered(&self, name: &str) {
        if let Some(reading) = self.readings().get_mut(name) {
            reading.may_act |= reading.last.elapsed() >= SILENCE;
            reading.last = now();
        }
    }

    fn announced(&self, name: &str) {
        let mut readings = self.readings();
        let reading = readings.entry(name.to_owned()).or_insert(Reading {
            head: 0,
            last: now(),
            may_act: true,
        });
        reading.may_act = true;
    }
}

#[async_trait]
impl Link for Watched {
    async fn open(&self, name: &str) -> Result<Box<dyn Session>, LinkError> {
        let session = self.inner.hub.open(name).await?;
        self.readings().remove(name);
        Ok(Box::new(WatchedSession {
            link: self.clone(),
            name: name.to_owned(),
            session,
        }))
    }

    fn describe(&self) -> String {
        self.inner.hub.describe()
    }
}

#[derive(Debug)]
struct WatchedSession {
    link: Watched,
    name: String,
    session: Box<dyn Session>,
}

impl WatchedSession {
    /// An inbox of a replica, with a note of each announcement that comes.
    fn heard(&self, inbox: Inbox<Message>) -> Inbox<Message> {
        let (link, name) = (self.link.clone(), self.name.clone());
        Inbox::new(Box::pin(stream::unfold(inbox, move |mut inbox| {
            let (link, name) = (link.clone(), name.clone());
            async move {
                let message = inbox.recv().await?;
                if message.kind == Announcement::KIND {
                    link.announced(&name);
                }
                Some((message, inbox))
            }
        })))
    }
}

#[async_trait]
impl Session for WatchedSession {
    async fn read_log(&self, from: LogStart) -> Result<Inbox<LogRecord>, LinkError> {
        let inner = &self.link.inner;
        if from == LogStart::First {
            let mut oracle = inner.oracle.lock().expect("no code panics while it holds the oracle");
            oracle.absorb(&inner.hub.log());
            let head = oracle.newest.as_ref().map_or(0, |(standing, _)| standing.revision.0);
            let mut readings = self.link.readings();
            // An announcement that waits in the replica may come to its notice after this.
            let may_act = readings.get(&self.name).is_some_and(|reading| reading.may_act);
            let reading = Reading {
                head,
                last: now(),
                may_act,
            };
            readings.insert(self.name.clone(), reading);
        }
        let inbox = self.session.read_log(from).await?;
        let (link, name) = (self.link.clone(), self.name.clone());
        Ok(Inbox::new(Box::pin(stream::unfold(inbox, move |mut inbox| {
            let (link, name) = (link.clone(), name.clone());
            async move {
                let record = inbox.recv().await?;
                link.delivered(&name);
                Some((record, inbox))
            }
        }))))
    }

    async fn append(&self, entry: Bytes) -> Result<(), LinkError> {
        self.session.append(entry).await
    }

    async fn try_lead(&self) -> Result<bool, LinkError> {
        Ok(self.session.try_lead().await? || self.link.inner.plan.is_lockless())
    }

    async fn replica_inbox(&self, id: &InstanceId) -> Result<Inbox<Message>, LinkError> {
        Ok(self.heard(self.session.replica_inbox(id).await?))
    }

    async fn spare_inbox(&self, id: &InstanceId, number: u8) -> Result<Inbox<Message>, LinkError> {
        Ok(self.heard(self.session.spare_inbox(id, number).await?))
    }

    async fn broadcasts(&self) -> Result<Inbox<Message>, LinkError> {
        self.session.broadcasts().await
    }

    async fn reports(&self) -> Result<Inbox<Message>, LinkError> {
        self.session.reports().await
    }

    async fn events(&self, pattern: &str) -> Result<Inbox<Message>, LinkError> {
        self.session.events(pattern).await
    }

    async fn replies(&self) -> Result<(ReplyAddress, Inbox<Message>), LinkError> {
        self.session.replies().await
    }

    async fn requests(&self) -> Result<Inbox<RequestDelivery>, LinkError> {
        self.session.requests().await
    }

    async fn publish(&self, to: Address, message: Message) -> Result<(), LinkError> {
        self.session.publish(to, message).await
    }

    fn post(&self, to: Address, message: Message) -> Result<(), LinkError> {
        self.session.post(to, message)
    }

    fn is_heard(&self, key: &str) -> bool {
        self.session.is_heard(key)
    }

    fn health(&self) -> watch::Receiver<SessionHealth> {
        self.session.health()
    }

    async fn close(&self) {
        self.session.close().await;
    }
}
