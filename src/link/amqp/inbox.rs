//! Receives: consumers turned into inboxes.
//!
//! A delivery is acknowledged after the inbox has handed it on, so that a slow reader holds back the broker and not our memory. The
//! acknowledgements travel through a task of their own: while the broker blocks publishers they wait, and
//! reading must not wait with them. That task is woken for a batch of deliveries, not for each of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_lite::{Stream, StreamExt, stream};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Consumer};
use tokio::sync::{Notify, mpsc};

use super::declare::Declarations;
use super::envelope;
use super::errors::{self, within};
use super::fate::Fate;
use crate::link::topology::Queue;
use crate::link::{Inbox, LinkError, LogRecord, LogStart, Message, RequestDelivery, Settle};
use crate::runtime::tasks::{TaskKind, Tasks};

/// Entries of the log on their way to one reader.
const LOG_PREFETCH: u16 = 200;
/// Messages on their way to one inbox. All replicas report at once after a change, and a few hundred of them need not wait for
/// acknowledgements.
const INBOX_PREFETCH: u16 = 400;
/// Acknowledgements wait this long for company. What is not acknowledged keeps nothing from coming, up to the prefetch.
const ACK_WAIT: Duration = Duration::from_millis(500);

/// How the kind of a message begins that came by a way that is none of its queue's.
const FOREIGN: &str = "foreign";

/// What every consumer of a session needs.
#[derive(Debug)]
pub(super) struct Inboxes {
    pub(super) declarations: Arc<Declarations>,
    pub(super) fate: Fate,
    pub(super) limit: Duration,
    pub(super) tasks: Tasks,
}

/// How a queue is read.
struct Reading {
    prefetch: u16,
    no_ack: bool,
    arguments: FieldTable,
}

impl Inboxes {
    /// Reads the stream that is the state log.
    pub(super) async fn log(&self, queue: &str, from: LogStart) -> Result<Inbox<LogRecord>, LinkError> {
        let offset = match from {
            LogStart::First => AMQPValue::LongString("first".into()),
            // The broker takes signed numbers only. Nobody has appended 2^63 entries.
            LogStart::Offset(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), offset);
        let reading = Reading {
            prefetch: LOG_PREFETCH,
            no_ack: false,
            arguments,
        };
        let deliveries = self.acknowledged(queue, reading).await?;
        let fate = self.fate.clone();
        let records = deliveries.map(move |delivery| {
            let offset = envelope::offset(&delivery);
            if offset.is_none() {
                fate.end("the broker delivered a log entry without its offset");
            }
            offset.map(|offset| LogRecord {
                offset,
                payload: delivery.data.into(),
            })
        });
        Ok(Inbox::new(
            records.take_while(Option::is_some).filter_map(|record| record),
        ))
    }

    /// Reads a queue of messages, each of which counts as received when it is handed on.
    ///
    /// The default exchange reaches every queue by its name. What did not come by an exchange that feeds this queue is of a
    /// kind that nobody expects, whatever it says of itself: it is counted, and nobody acts on it.
    pub(super) async fn messages(&self, queue: &Queue) -> Result<Inbox<Message>, LinkError> {
        let reading = Reading {
            prefetch: INBOX_PREFETCH,
            no_ack: false,
            arguments: FieldTable::default(),
        };
        let deliveries = self.acknowledged(&queue.name, reading).await?;
        let ways: Vec<_> = queue.bindings.iter().map(|binding| binding.exchange.clone()).collect();
        Ok(Inbox::new(deliveries.map(move |mut delivery| {
            let mut message = envelope::message(&mut delivery);
            let way = delivery.exchange.as_str();
            if !ways.iter().any(|known| known == way) {
                let way = if way.is_empty() { "the default exchange" } else { way };
                message.kind = format!("{FOREIGN} by {way}");
                // Nor is anybody made to answer it.
                message.reply_to = None;
            }
            message
        })))
    }

    /// Reads a queue whose messages nobody misses.
    pub(super) async fn unacknowledged(&self, queue: &str) -> Result<Inbox<Message>, LinkError> {
        let reading = Reading {
            prefetch: 0,
            no_ack: true,
            arguments: FieldTable::default(),
        };
        let consumer = self.consume(queue, reading).await?;
        Ok(Inbox::new(
            self.deliveries(consumer)
                .map(|mut delivery| envelope::message(&mut delivery)),
        ))
    }

    /// Reads a queue of requests, one at a time.
    pub(super) async fn requests(&self, queue: &str) -> Result<Inbox<RequestDelivery>, LinkError> {
        let reading = Reading {
            prefetch: 1,
            no_ack: false,
            arguments: FieldTable::default(),
        };
        let consumer = self.consume(queue, reading).await?;
        let (returns, returned) = mpsc::unbounded_channel();
        self.tasks.spawn(
            TaskKind::Expendable,
            "amqp-returns",
            give_back(returned, self.fate.clone()),
        );
        let (fate, limit) = (self.fate.clone(), self.limit);
        Ok(Inbox::new(self.deliveries(consumer).map(move |mut delivery| {
            let message = envelope::message(&mut delivery);
            let settle = Unsettled {
                acker: Some(delivery.acker),
                returns: returns.clone(),
                fate: fate.clone(),
                limit,
            };
            RequestDelivery::new(message, delivery.redelivered, Box::new(settle))
        })))
    }

    async fn consume(&self, queue: &str, reading: Reading) -> Result<Consumer, LinkError> {
        // A channel of its own: acknowledging several at once counts by channel, and dropping the inbox gives back what it held.
        let channel = self.declarations.channel().await?;
        if reading.prefetch > 0 {
            let qos = channel.basic_qos(reading.prefetch, BasicQosOptions::default());
            within(self.limit, "basic.qos", qos)
                .await?
                .map_err(|error| errors::of_object(queue, &error))?;
        }
        let options = BasicConsumeOptions {
            no_ack: reading.no_ack,
            ..BasicConsumeOptions::default()
        };
        let consuming = channel.basic_consume(queue.into(), "".into(), options, reading.arguments);
        within(self.limit, "basic.consume", consuming)
            .await?
            .map_err(|error| errors::of_object(queue, &error))
    }

    /// Deliveries that are acknowledged as they are handed on.
    async fn acknowledged(
        &self,
        queue: &str,
        reading: Reading,
    ) -> Result<impl Stream<Item = Delivery> + Send + use<>, LinkError> {
        let owed = Arc::new(Owed::new(reading.prefetch / 4));
        let consumer = self.consume(queue, reading).await?;
        self.tasks.spawn(
            TaskKind::Expendable,
            "amqp-acks",
            acknowledge(Arc::clone(&owed), self.fate.clone()),
        );
        let reader = Reader(owed);
        Ok(self
            .deliveries(consumer)
            .inspect(move |delivery| reader.0.add(&delivery.acker)))
    }

    /// The deliveries of a consumer until the session ends. That they end for another reason ends the session.
    fn deliveries(&self, consumer: Consumer) -> impl Stream<Item = Delivery> + Send + use<> {
        // Kept from one delivery to the next: to begin waiting anew for each costs more than the wait.
        let ended = Box::pin(self.fate.clone().into_ended());
        let state = (consumer, self.fate.clone(), ended);
        stream::unfold(state, async |(mut consumer, fate, mut ended)| {
            let next = tokio::select! {
                biased;
                () = &mut ended => return None,
                next = consumer.next() => next,
            };
            match next {
                Some(Ok(delivery)) => Some((delivery, (consumer, fate, ended))),
                Some(Err(error)) => {
                    fate.end(errors::words(&error));
                    None
                }
                None => {
                    fate.end(format!("the broker ended the delivery from {}", consumer.queue()));
                    None
                }
            }
        })
    }
}

/// Deliveries that were handed on and not yet acknowledged.
#[derive(Debug)]
struct Owed {
    /// How many are acknowledged together.
    batch: u16,
    state: Mutex<OwedState>,
    /// Told of the first one, of a batch, and of the end.
    changed: Notify,
}

#[derive(Debug, Default)]
struct OwedState {
    /// The newest: to acknowledge it is to acknowledge all before.
    last: Option<Acker>,
    count: u16,
    /// Whether no others come.
    is_over: bool,
}

impl Owed {
    fn new(batch: u16) -> Self {
        Self {
            batch,
            state: Mutex::default(),
            changed: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, OwedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, acker: &Acker) {
        let mut state = self.lock();
        state.last = Some(acker.clone());
        // The broker sends no more than the prefetch unacknowledged.
        state.count = state.count.saturating_add(1);
        let count = state.count;
        drop(state);
        if count == 1 || count == self.batch {
            self.changed.notify_one();
        }
    }

    /// Waits until something is owed; `None` once nothing will be.
    async fn something(&self) -> Option<()> {
        loop {
            {
                let state = self.lock();
                if state.count > 0 {
                    return Some(());
                }
                if state.is_over {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Waits until a batch is owed, or all that will be.
    async fn batch(&self) {
        loop {
            {
                let state = self.lock();
                if state.count >= self.batch || state.is_over {
                    return;
                }
            }
            self.changed.notified().await;
        }
    }

    fn take(&self) -> Option<Acker> {
        let mut state = self.lock();
        state.count = 0;
        state.last.take()
    }
}

/// The reading half: says when nothing more will be owed.
struct Reader(Arc<Owed>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.lock().is_over = true;
        self.0.changed.notify_one();
    }
}

/// Acknowledges in batches: when one is full, or after a moment.
async fn acknowledge(owed: Arc<Owed>, fate: Fate) {
    while owed.something().await.is_some() {
        // Either way what is owed then is acknowledged.
        tokio::time::timeout(ACK_WAIT, owed.batch()).await.ok();
        let Some(last) = owed.take() else { continue };
        // No time limit: it waits while the broker blocks publishers, and the session's end aborts it.
        match last.ack(BasicAckOptions { multiple: true }).await {
            Ok(true) => {}
            Ok(false) => return fate.end("a delivery could not be acknowledged: its channel is gone"),
            Err(error) => return fate.end(errors::words(&error)),
        }
    }
}

/// Gives back what was dropped unsettled.
async fn give_back(mut returned: mpsc::UnboundedReceiver<Acker>, fate: Fate) {
    while let Some(acker) = returned.recv().await {
        let options = BasicNackOptions {
            requeue: true,
            ..BasicNackOptions::default()
        };
        if let Err(error) = acker.nack(options).await {
            return fate.end(errors::words(&error));
        }
    }
}

/// A request that waits for its outcome.
struct Unsettled {
    acker: Option<Acker>,
    returns: mpsc::UnboundedSender<Acker>,
    fate: Fate,
    limit: Duration,
}

#[async_trait]
impl Settle for Unsettled {
    async fn done(mut self: Box<Self>) -> Result<(), LinkError> {
        self.fate.check()?;
        let acker = self
            .acker
            .take()
            .expect("only this method takes it, and it consumes self");
        let outcome = within(self.limit, "basic.ack", acker.ack(BasicAckOptions::default())).await?;
        match outcome {
            Ok(true) => Ok(()),
            Ok(false) => Err(LinkError::Closed {
                reason: "the request's channel is gone, so it will come again".to_owned(),
            }),
            Err(error) => Err(errors::closed(&error)),
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(acker) = self.acker.take() {
            // With the session gone the broker gives it back by itself.
            drop(self.returns.send(acker));
        }
    }
}
