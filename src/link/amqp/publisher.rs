//! Sends: one task and one channel for each kind of promise.
//!
//! A task of its own makes a send whole: whoever waits for it may give up at any await, and the next send still
//! begins where the last ended. One at a time, because lapin hands a returned message to whichever confirm
//! comes next. What may be lost needs neither, once its channel is open: see [`Soft`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};

use super::declare::Declarations;
use super::envelope::{Promise, Route, check_size};
use super::errors::{self, within};
use super::fate::Fate;
use super::interest::Interest;
use super::soft::Soft;
use crate::link::{LinkError, Message};
use crate::runtime::tasks::{TaskKind, Tasks};

/// Messages that wait to be written, per lane. Enough for a burst of a thousand replicas' worth of queries; when it
/// is full, who posts is told [`LinkError::Full`], and who publishes waits up to the operation timeout.
pub(super) const WAITING: usize = 1024;

/// One message on its way out.
struct Outgoing {
    route: Route,
    properties: BasicProperties,
    payload: Bytes,
    answer: Option<oneshot::Sender<Result<(), LinkError>>>,
}

/// What to do next.
enum Order {
    Send(Box<Outgoing>),
    /// Tell when all before it was sent.
    Flush(oneshot::Sender<()>),
}

/// The sending half of a session.
#[derive(Debug)]
pub(super) struct Publisher {
    /// By [`Promise`], in its order.
    lanes: BTreeMap<u8, mpsc::Sender<Order>>,
    soft: Arc<Soft>,
    interest: Arc<Interest>,
    declarations: Arc<Declarations>,
    fate: Fate,
    limit: Duration,
    /// Posts dropped because too many waited or the broker blocked.
    dropped: AtomicU64,
}

/// Messages of which there is plenty that may be on their way at once. When the broker has more to do than it can, they come late, the lane
/// is full, and the rest is dropped here; written to the socket all at once, they would keep reports waiting behind them.
const PLENTY: usize = 32;

const PROMISES: [Promise; 5] = [
    Promise::Kept,
    Promise::Heard,
    Promise::Soft,
    Promise::Plenty,
    Promise::Stray,
];

impl Publisher {
    /// Starts the lanes; a lane's channel is opened when its first message comes.
    pub(super) fn start(declarations: &Arc<Declarations>, fate: &Fate, limit: Duration, tasks: &Tasks) -> Self {
        let (soft, interest) = (Arc::new(Soft::default()), Arc::new(Interest::default()));
        let lanes = PROMISES
            .into_iter()
            .map(|promise| {
                let (tx, rx) = mpsc::channel(WAITING);
                let lane = Lane {
                    promise,
                    soft: Arc::clone(&soft),
                    interest: Arc::clone(&interest),
                    declarations: Arc::clone(declarations),
                    fate: fate.clone(),
                    limit,
                    channel: None,
                    pending: VecDeque::new(),
                };
                tasks.spawn(TaskKind::Expendable, "amqp-publisher", lane.run(rx));
                (promise as u8, tx)
            })
            .collect();
        Self {
            lanes,
            soft,
            interest,
            declarations: Arc::clone(declarations),
            fate: fate.clone(),
            limit,
            dropped: AtomicU64::new(0),
        }
    }

    fn lane(&self, promise: Promise) -> &mpsc::Sender<Order> {
        self.lanes.get(&(promise as u8)).expect("every promise has a lane")
    }

    /// Sends and waits as long as the route promises.
    pub(super) async fn publish(
        &self,
        operation: &'static str,
        route: Route,
        message: &Message,
    ) -> Result<(), LinkError> {
        self.fate.check()?;
        let (answer, answered) = oneshot::channel();
        let (lane, is_soft) = (self.lane(route.promise), route.promise == Promise::Soft);
        let order = Order::Send(Box::new(outgoing(route, message, Some(answer))?));
        let sending = async {
            // Both fail only when the lane is gone, and the lane goes with the session.
            let place = lane.reserve().await.ok()?;
            if is_soft {
                self.soft.queue();
            }
            place.send(order);
            answered.await.ok()
        };
        match within(self.limit, operation, sending).await? {
            Some(outcome) => outcome,
            None => Err(self.fate.check().err().unwrap_or_else(|| LinkError::Closed {
                reason: "the session ended".to_owned(),
            })),
        }
    }

    /// Hands over without waiting.
    pub(super) fn post(&self, route: Route, message: &Message) -> Result<(), LinkError> {
        self.fate.check()?;
        let posted = if route.promise != Promise::Kept && self.fate.is_blocked() {
            Err(LinkError::Full)
        } else {
            self.hand_over(route, message)
        };
        if matches!(posted, Err(LinkError::Full)) {
            self.fate.check()?;
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                warn!(dropped, "the broker takes no messages: {dropped} dropped so far");
            }
        }
        posted
    }

    fn hand_over(&self, route: Route, message: &Message) -> Result<(), LinkError> {
        let is_soft = route.promise == Promise::Soft;
        let lane = self.lane(route.promise);
        let outgoing = outgoing(route, message, None)?;
        if is_soft
            && let Some(sent) = self.soft.send(
                &self.declarations,
                &outgoing.route,
                &outgoing.properties,
                &outgoing.payload,
            )
        {
            return sent;
        }
        let place = lane.try_reserve().map_err(|_| LinkError::Full)?;
        if is_soft {
            self.soft.queue();
        }
        place.send(Order::Send(Box::new(outgoing)));
        Ok(())
    }

    /// Returns whether the broker has closed the channel of what may be lost.
    pub(super) fn is_soft_channel_closed(&self) -> bool {
        self.soft.is_closed()
    }

    /// Returns whether an event of a key is to be sent.
    pub(super) fn is_heard(&self, key: &str) -> bool {
        self.interest.is_heard(key)
    }

    /// Waits until what was handed over so far is sent. The caller bounds it.
    pub(super) async fn flush(&self) {
        for lane in self.lanes.values() {
            let (done, is_done) = oneshot::channel();
            if lane.send(Order::Flush(done)).await.is_ok() {
                // A lane that ended has nothing left to send.
                drop(is_done.await);
            }
        }
    }
}

fn outgoing(
    route: Route,
    message: &Message,
    answer: Option<oneshot::Sender<Result<(), LinkError>>>,
) -> Result<Outgoing, LinkError> {
    check_size(&message.payload)?;
    Ok(Outgoing {
        properties: route.properties(message)?,
        payload: message.payload.clone(),
        route,
        answer,
    })
}

/// A confirm that nobody waits for, and what it is about.
struct Pending {
    target: String,
    key: String,
    confirm: PublisherConfirm,
}

/// The task behind one promise.
struct Lane {
    promise: Promise,
    soft: Arc<Soft>,
    interest: Arc<Interest>,
    declarations: Arc<Declarations>,
    fate: Fate,
    limit: Duration,
    /// Open, unless the promise is soft: that channel is shared.
    channel: Option<Channel>,
    /// Confirms that nobody waits for, oldest first. They tell why a channel was closed, and one that is dropped early stays in lapin's
    /// memory.
    pending: VecDeque<Pending>,
}

impl Lane {
    /// Returns false for an event that has waited while others of its kind came back.
    fn is_worth_it(&self, outgoing: &Outgoing) -> bool {
        self.promise != Promise::Plenty
            || outgoing.answer.is_some()
            || self.interest.is_still_heard(&outgoing.route.key)
    }

    fn waits(&self) -> bool {
        matches!(self.promise, Promise::Kept | Promise::Heard)
    }

    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let room = if self.promise == Promise::Plenty {
                PLENTY
            } else {
                WAITING
            };
            let has_room = self.pending.len() < room;
            let oldest = async {
                match self.pending.front_mut() {
                    Some(oldest) => (&mut oldest.confirm).await,
                    None => std::future::pending().await,
                }
            };
            let order = tokio::select! {
                biased;
                confirmed = oldest => {
                    self.confirmed(confirmed);
                    continue;
                }
                order = orders.recv(), if has_room => order,
            };
            match order {
                None => break,
                Some(Order::Send(outgoing)) => {
                    self.fate.unblocked().await;
                    // Whoever gave up meanwhile has made other plans.
                    let is_given_up = outgoing.answer.as_ref().is_some_and(oneshot::Sender::is_closed);
                    if !is_given_up && self.is_worth_it(&outgoing) {
                        self.handle(*outgoing).await;
                    }
                    if self.promise == Promise::Soft {
                        self.soft.unqueue();
                    }
                }
                Some(Order::Flush(done)) => {
                    self.settle().await;
                    // Nobody waits any more: fine.
                    done.send(()).ok();
                }
            }
        }
    }

    /// Takes the outcome of the oldest pending confirm.
    fn confirmed(&mut self, outcome: lapin::Result<Confirmation>) {
        let Some(Pending { target, key, .. }) = self.pending.pop_front() else {
            return;
        };
        match outcome {
            Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) if self.promise == Promise::Plenty => {
                let returned = returned.as_ref().map(|message| message.delivery.routing_key.as_str());
                self.interest.confirmed(&key, returned);
            }
            Ok(_) => {}
            Err(error) => {
                self.channel = None;
                self.pending.clear();
                let error = errors::of_publish(&target, &error);
                if self.promise == Promise::Stray {
                    debug!(%error, "no answer to {target}: {error}");
                } else {
                    self.fate.end(error.to_string());
                }
            }
        }
    }

    async fn handle(&mut self, outgoing: Outgoing) {
        let Outgoing {
            route,
            properties,
            payload,
            answer,
        } = outgoing;
        let declared = self.declarations.ensure(&route.needs).await;
        let is_declared = declared.is_ok();
        let mut outcome = match declared {
            Ok(()) => self.send(&route, properties.clone(), &payload).await,
            Err(error) => Err(error),
        };
        if self.promise == Promise::Stray && is_declared && outcome.is_err() {
            // An earlier stray address may have closed the channel; that is not this one's fault.
            self.channel = None;
            self.pending.clear();
            outcome = self.send(&route, properties, &payload).await;
        }
        if let Err(error) = &outcome {
            let spoilt = match error {
                LinkError::Unroutable { .. }
                | LinkError::Stranded { .. }
                | LinkError::Full
                | LinkError::TooLarge { .. } => false,
                LinkError::Refused { .. } => self.promise != Promise::Stray,
                LinkError::TimedOut { .. } => !self.fate.is_blocked(),
                _ => true,
            };
            if spoilt && is_declared && self.promise == Promise::Soft {
                // Nothing is confirmed there, so the reason comes by another way.
                drop(tokio::time::timeout(self.limit, self.fate.ended()).await);
            }
            if spoilt {
                self.fate.end(error.to_string());
            }
        }
        if let Some(answer) = answer {
            // Whoever asked may have given up.
            drop(answer.send(outcome));
        }
    }

    async fn send(&mut self, route: &Route, properties: BasicProperties, payload: &[u8]) -> Result<(), LinkError> {
        let channel = self.open().await?;
        let waits = self.waits();
        let sending = async {
            let confirm = write(&channel, route, properties, payload).await?;
            if waits {
                confirm
                    .await
                    .map(|confirmation| Sent::Confirmed(Box::new(confirmation)))
            } else if self.promise == Promise::Soft {
                // Resolves at once, and a confirm that is dropped instead stays in lapin's memory.
                confirm.await.map(|_| Sent::Unconfirmed)
            } else {
                Ok(Sent::Written(confirm))
            }
        };
        let sent = self
            .patiently(sending)
            .await?
            .map_err(|error| self.why(route, &error))?;
        match sent {
            Sent::Unconfirmed => Ok(()),
            Sent::Written(confirm) => {
                self.pending.push_back(Pending {
                    target: route.target.clone(),
                    key: route.key.clone(),
                    confirm,
                });
                Ok(())
            }
            Sent::Confirmed(confirmation) => {
                let outcome = verdict(&confirmation, route);
                if matches!(outcome, Err(LinkError::Unroutable { .. })) {
                    self.declarations.forget(&route.needs);
                }
                outcome
            }
        }
    }

    /// An error's meaning. That the channel is closed says little: the confirms that it owed know the reason.
    fn why(&mut self, route: &Route, error: &lapin::Error) -> LinkError {
        for Pending { target, confirm, .. } in &mut self.pending {
            if let Some(Err(reason)) = future::block_on(future::poll_once(confirm)) {
                return errors::of_publish(target, &reason);
            }
        }
        errors::of_publish(&route.target, error)
    }

    async fn open(&mut self) -> Result<Channel, LinkError> {
        if self.promise == Promise::Soft {
            return self.open_soft().await;
        }
        if let Some(channel) = &self.channel {
            return Ok(channel.clone());
        }
        let channel = self.declarations.channel().await?;
        select_confirms(&channel, self.limit).await?;
        self.channel = Some(channel.clone());
        Ok(channel)
    }

    async fn open_soft(&self) -> Result<Channel, LinkError> {
        if let Some(channel) = self.soft.channel() {
            return Ok(channel);
        }
        let channel = self.declarations.channel().await?;
        self.soft.set_channel(channel.clone());
        Ok(channel)
    }

    /// Awaits with the operation timeout, which stands still while the broker blocks publishers: that alone must not end a
    /// session, and with it a leadership.
    async fn patiently<T>(&self, future: impl Future<Output = T>) -> Result<T, LinkError> {
        let mut future = std::pin::pin!(future);
        loop {
            match within(self.limit, "basic.publish", &mut future).await {
                Err(_) if self.fate.is_blocked() => self.fate.unblocked().await,
                outcome => return outcome,
            }
        }
    }

    /// Closes the channel, so that the broker has taken all that was written to it.
    async fn settle(&mut self) {
        let channel = if self.promise == Promise::Soft {
            self.soft.take().await
        } else {
            self.channel.take()
        };
        if let Some(channel) = channel {
            // If that fails the session ends anyway; it is what a flush comes before.
            drop(within(self.limit, "channel.close", channel.close(200, "done".into())).await);
        }
    }
}

/// Makes a channel confirm what is published on it.
pub(super) async fn select_confirms(channel: &Channel, limit: Duration) -> Result<(), LinkError> {
    let selecting = channel.confirm_select(ConfirmSelectOptions::default());
    within(limit, "confirm.select", selecting)
        .await?
        .map_err(|error| errors::closed(&error))
}

/// Writes a message to the broker; what that came to is in the confirm.
pub(super) async fn write(
    channel: &Channel,
    route: &Route,
    properties: BasicProperties,
    payload: &[u8],
) -> lapin::Result<PublisherConfirm> {
    let options = BasicPublishOptions {
        mandatory: matches!(route.promise, Promise::Kept | Promise::Heard | Promise::Plenty),
        immediate: false,
    };
    let exchange = route.exchange.as_str().into();
    channel
        .basic_publish(exchange, route.key.as_str().into(), options, payload, properties)
        .await
}

/// What a confirm says about the message.
pub(super) fn verdict(confirmation: &Confirmation, route: &Route) -> Result<(), LinkError> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(LinkError::Unroutable {
            address: route.target.clone(),
        }),
        // These queues drop their oldest message when they are full. One that did not take it has no process behind it.
        Confirmation::Nack(_) if route.promise == Promise::Heard => Err(LinkError::Stranded {
            name: route.target.clone(),
        }),
        // A full queue that refuses further messages.
        Confirmation::Nack(_) => Err(LinkError::Full),
        Confirmation::NotRequested => Err(LinkError::Closed {
            reason: "the channel does not confirm".to_owned(),
        }),
    }
}

/// How far a message got.
enum Sent {
    Unconfirmed,
    Written(PublisherConfirm),
    Confirmed(Box<Confirmation>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_promise_has_its_own_lane() {
        let numbers: std::collections::BTreeSet<_> = PROMISES.iter().map(|promise| *promise as u8).collect();
        assert_eq!(numbers.len(), PROMISES.len());
    }
}
