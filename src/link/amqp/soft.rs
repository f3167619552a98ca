//! Sends what may be lost: without confirms, and from the task of whoever sends.
//!
//! A confirm for a message that nobody waits for costs the broker, the connection's thread and a task of ours a wake-up each, and
//! so does a hop through a task. What is left is what bounds it: lapin says when a message was written to the socket,
//! and as many as a lane keeps may wait for that.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use lapin::{BasicProperties, Channel};

use super::declare::Declarations;
use super::envelope::Route;
use super::publisher::{WAITING, write};
use crate::link::LinkError;

/// A message that lapin's thread has yet to write.
type Writing = Pin<Box<dyn Future<Output = lapin::Result<()>> + Send>>;

/// Asks lapin without waiting, so that nobody is woken when the answer changes.
fn is_written(writing: &mut Writing) -> bool {
    writing
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
        .is_ready()
}

/// The channel of what may be lost.
#[derive(Default)]
pub(super) struct Soft {
    /// Never held over an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Opened by the lane, when its first message comes.
    channel: Option<Channel>,
    /// Oldest first. lapin writes them in this order.
    writing: VecDeque<Writing>,
    /// Messages that the lane has yet to hand to lapin: none may overtake them.
    with_lane: usize,
}

impl fmt::Debug for Soft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Soft").finish_non_exhaustive()
    }
}

impl Inner {
    /// Forgets what was written. That something could not be written is the connection's or the channel's end, which says so itself.
    fn collect(&mut self) {
        while let Some(oldest) = self.writing.front_mut() {
            if !is_written(oldest) {
                break;
            }
            self.writing.pop_front();
        }
    }
}

impl Soft {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message to lapin at once. `None` if the lane has to: to open the channel, to declare something, or because others wait there.
    pub(super) fn send(
        &self,
        declarations: &Declarations,
        route: &Route,
        properties: &BasicProperties,
        payload: &Bytes,
    ) -> Option<Result<(), LinkError>> {
        let mut inner = self.lock();
        if inner.with_lane > 0 || !declarations.has(&route.needs) {
            return None;
        }
        let channel = inner
            .channel
            .as_ref()
            .filter(|channel| channel.status().connected())?
            .clone();
        inner.collect();
        if inner.writing.len() >= WAITING {
            return Some(Err(LinkError::Full));
        }
        let (route, properties, payload) = (route.clone(), properties.clone(), payload.clone());
        let mut writing: Writing = Box::pin(async move {
            // Resolves at once, and a confirm that is dropped instead stays in lapin's memory.
            write(&channel, &route, properties, &payload).await?.await.map(drop)
        });
        if !is_written(&mut writing) {
            inner.writing.push_back(writing);
        }
        Some(Ok(()))
    }

    /// Takes note that a message goes through the lane.
    pub(super) fn queue(&self) {
        self.lock().with_lane += 1;
    }

    /// Takes note that the lane is done with a message.
    pub(super) fn unqueue(&self) {
        let mut inner = self.lock();
        inner.with_lane = inner.with_lane.saturating_sub(1);
    }

    /// Returns the channel, if it is open as far as is known.
    pub(super) fn channel(&self) -> Option<Channel> {
        self.lock().channel.clone()
    }

    /// Takes the channel that the lane opened.
    pub(super) fn set_channel(&self, channel: Channel) {
        self.lock().channel = Some(channel);
    }

    /// Returns whether there is a channel, and the broker has closed it.
    pub(super) fn is_closed(&self) -> bool {
        self.channel().is_some_and(|channel| !channel.status().connected())
    }

    /// Waits until everything was written, and gives up the channel.
    pub(super) async fn take(&self) -> Option<Channel> {
        let (writing, channel) = {
            let mut inner = self.lock();
            (std::mem::take(&mut inner.writing), inner.channel.take())
        };
        for one in writing {
            // As above: its failure is told elsewhere.
            drop(one.await);
        }
        channel
    }
}
