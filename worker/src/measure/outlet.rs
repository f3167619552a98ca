//! From the monkeys to whoever listens to events: bounded, lossy, and never in a monkey's way.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use mobu_fleet::domain::events::{Act, Event};
use mobu_fleet::domain::ids::{FlockName, InstanceId, MonkeyName};
use mobu_fleet::domain::messages::{SCHEMA, Wire};
use mobu_fleet::link::{Address, Message, Session};
use mobu_fleet::runtime::clock;
use tokio::sync::Notify;

/// How often what has gathered is sent.
pub(crate) const BEAT: Duration = Duration::from_millis(100);
/// How many beats a second has.
const BEATS: usize = 10;

/// Gathers events until the replica sends them. Without a session there is nowhere to send them, and none are gathered.
#[derive(Debug)]
pub(crate) struct Outlet {
    /// Guards what waits; held for a push or to take all, never over an await.
    waiting: Mutex<Vec<Waiting>>,
    /// How many wait, so that a monkey need not take the lock to see that there is no room.
    length: AtomicUsize,
    /// Most that are sent at one beat.
    room: usize,
    is_open: AtomicBool,
    /// Told when there is something to send after there was nothing.
    filled: Notify,
    published: AtomicU64,
    unheard: AtomicU64,
    dropped: AtomicU64,
}

/// An event that waits to be sent.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) at: Timestamp,
    pub(crate) flock: FlockName,
    /// The configured type of business, and the name that monkeys show.
    pub(crate) business: (&'static str, &'static str),
    pub(crate) username: MonkeyName,
    pub(crate) act: Act,
}

impl Outlet {
    /// Makes one that lets `rate` events through in a second; none at all if that is 0.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            waiting: Mutex::default(),
            length: AtomicUsize::new(0),
            room: usize::try_from(rate).unwrap_or(usize::MAX).div_ceil(BEATS),
            is_open: AtomicBool::new(false),
            filled: Notify::new(),
            published: AtomicU64::new(0),
            unheard: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        }
    }

    /// Whether anything can ever come out.
    const fn is_used(&self) -> bool {
        self.room > 0
    }

    /// Says whether there is a session. Without one, what waits is dropped: an event is news, or nothing.
    pub(crate) fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
        if !is_open {
            let lost = self.take().len();
            self.count_dropped(lost);
        }
    }

    /// Takes an event if there is room, and counts it as dropped otherwise. `make` is called only if there is.
    pub(crate) fn offer(&self, act: Act, make: impl FnOnce(Act) -> Waiting) {
        if !self.is_used() {
            return;
        }
        if !self.is_open.load(Ordering::Relaxed) || self.length.load(Ordering::Relaxed) >= self.room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let event = make(act);
        let mut waiting = self.lock();
        waiting.push(event);
        let length = waiting.len();
        self.length.store(length, Ordering::Relaxed);
        drop(waiting);
        if length == 1 {
            self.filled.notify_one();
        }
    }

    /// Waits until there is something to send after there was nothing.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Hands everything that waits to a session, except what nobody listens to.
    pub(crate) fn send(&self, instance_id: &InstanceId, session: &dyn Session) {
        for waiting in self.take() {
            let Waiting {
                at,
                flock,
                business: (kind, business),
                username,
                act,
            } = waiting;
            let key = Event::key(Some(&flock), kind, &act);
            if !session.is_heard(&key) {
                self.unheard.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let event = Event {
                schema: SCHEMA,
                id: uuid::Uuid::new_v4(),
                at,
                instance_id: instance_id.clone(),
                flock: Some(flock),
                business: business.to_owned(),
                username,
                act,
            };
            let message = Message::new(Event::KIND, event.encode());
            match session.post(Address::Events { key }, message) {
                Ok(()) => drop(self.published.fetch_add(1, Ordering::Relaxed)),
                // The session takes no more, or has ended: the next beat will show.
                Err(_) => self.count_dropped(1),
            }
        }
    }

    /// How many events were handed to a session so far.
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// How many were not sent because nobody subscribes to them, as far as is known.
    pub(crate) fn unheard(&self) -> u64 {
        self.unheard.load(Ordering::Relaxed)
    }

    /// How many were not sent because there was no room or no session.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.lock();
        self.length.store(0, Ordering::Relaxed);
        std::mem::take(&mut *waiting)
    }

    fn count_dropped(&self, count: usize) {
        self.dropped
            .fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().expect("no code panics while it holds the events")
    }
}

impl Waiting {
    /// Notes an event of now.
    pub(crate) fn now(
        flock: &FlockName,
        business: (&'static str, &'static str),
        username: &MonkeyName,
        act: Act,
    ) -> Self {
        Self {
            at: clock::wall(),
            flock: flock.clone(),
            business,
            username: username.clone(),
            act,
        }
    }
}

#[cfg(test)]
mod tests {
    use mobu_fleet::link::Link as _;
    use mobu_fleet::link::memory::Hub;

    use super::*;

    fn offer(outlet: &Outlet, success: bool) {
        outlet.offer(Act::EmptyLoop { success }, |act| {
            let flock = "a.b".parse().unwrap();
            Waiting::now(&flock, ("Muster", "MusterRunner"), &MonkeyName::new("bot-mobu-a1"), act)
        });
    }

    #[tokio::test]
    async fn what_fits_is_sent_and_what_does_not_is_counted() {
        let hub = Hub::new();
        let (replica, listener) = (hub.open("replica").await.unwrap(), hub.open("listener").await.unwrap());
        let mut inbox = listener.events("a:b.Muster.*").await.unwrap();
        let outlet = Outlet::new(20);
        let id = "0".parse().unwrap();
        offer(&outlet, true);
        assert_eq!((outlet.published(), outlet.dropped()), (0, 1), "nobody is connected");
        outlet.set_open(true);
        for _ in 0..5 {
            offer(&outlet, true);
        }
        outlet.send(&id, &*replica);
        assert_eq!((outlet.published(), outlet.dropped()), (2, 4));
        let message = inbox.recv().await.unwrap();
        let event = Event::decode(&message.kind, &message.payload).unwrap();
        assert_eq!(
            (event.business.as_str(), event.act.name()),
            ("MusterRunner", "empty_loop")
        );
        offer(&outlet, true);
        outlet.set_open(false);
        outlet.send(&id, &*replica);
        assert_eq!((outlet.published(), outlet.dropped()), (2, 5));
        drop(inbox);
        outlet.set_open(true);
        offer(&outlet, true);
        outlet.send(&id, &*replica);
        assert_eq!(
            (outlet.published(), outlet.unheard()),
            (2, 1),
            "nobody listens any more"
        );
    }

    #[test]
    fn an_outlet_that_is_switched_off_counts_nothing() {
        let outlet = Outlet::new(0);
        outlet.set_open(true);
        offer(&outlet, true);
        assert_eq!((outlet.published(), outlet.dropped()), (0, 0));
    }
}
