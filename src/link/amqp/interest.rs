//! Which events nobody subscribes to.
//!
//! A topic exchange does not say who is bound to it; but it returns a mandatory message that it could not route. So events are
//! mandatory, and when one comes back, those of its key are not sent any more, but for one every second: once that
//! does not come back, somebody has subscribed.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::clock::{Instant, now};

/// How often one event is sent of a key whose events come back.
const PAUSE: Duration = Duration::from_secs(1);
/// Most keys that are remembered, so that flocks that come and go under new names do not fill the memory.
const MOST: usize = 1024;

/// What is known of those who subscribe to a session's events.
#[derive(Debug, Default)]
pub(super) struct Interest {
    /// By key. Guards only itself, never held over an await.
    unheard: Mutex<HashMap<String, Unheard>>,
}

/// A key whose events came back.
#[derive(Debug)]
struct Unheard {
    /// When one is sent to see whether that has changed.
    ask_at: Instant,
    /// One has been sent, and has yet to be confirmed or to come back.
    is_asked: bool,
}

impl Interest {
    /// Returns whether an event of a key is to be sent. To be asked once for each event.
    pub(super) fn is_heard(&self, key: &str) -> bool {
        let now = now();
        match self.lock().get_mut(key) {
            None => true,
            Some(entry) if now < entry.ask_at => false,
            Some(entry) => {
                *entry = Unheard {
                    ask_at: now + PAUSE,
                    is_asked: true,
                };
                true
            }
        }
    }

    /// Returns whether an event that has waited is still to be sent: others of its key may have come back meanwhile.
    pub(super) fn is_still_heard(&self, key: &str) -> bool {
        self.lock().get(key).is_none_or(|entry| entry.is_asked)
    }

    /// Takes note that an event did not come back. What did is to be told before.
    pub(super) fn was_taken(&self, key: &str) {
        let mut unheard = self.lock();
        if unheard.get(key).is_some_and(|entry| entry.is_asked) {
            unheard.remove(key);
        }
    }

    /// Takes note that an event came back.
    pub(super) fn came_back(&self, key: &str) {
        let now = now();
        let mut unheard = self.lock();
        if let Some(entry) = unheard.get_mut(key) {
            entry.is_asked = false;
            return;
        }
        if unheard.len() >= MOST {
            // Of flocks that are gone nobody asks any more.
            unheard.retain(|_, entry| now < entry.ask_at);
        }
        if unheard.len() < MOST {
            let entry = Unheard {
                ask_at: now + PAUSE,
                is_asked: false,
            };
            unheard.insert(key.to_owned(), entry);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Unheard>> {
        self.unheard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_is_not_sent_any_more_but_for_one_that_asks_again() {
        let interest = Interest::default();
        assert!(
            interest.is_heard("a") && interest.is_heard("a"),
            "nothing came back yet"
        );
        interest.came_back("a");
        assert!(!interest.is_still_heard("a") && !interest.is_heard("a"));
        assert!(interest.is_still_heard("b") && interest.is_heard("b"));
        interest.was_taken("a");
        assert!(!interest.is_heard("a"), "that one was sent before");
        for _ in 0..2 {
            advance(PAUSE).await;
            assert!(interest.is_heard("a") && interest.is_still_heard("a"), "one asks");
            assert!(
                !interest.is_heard("a"),
                "the others wait, however long the answer takes"
            );
            interest.came_back("a");
            assert!(!interest.is_still_heard("a") && !interest.is_heard("a"));
        }
        advance(PAUSE).await;
        assert!(interest.is_heard("a"));
        interest.was_taken("a");
        assert!(
            interest.is_heard("a") && interest.is_heard("a"),
            "somebody has subscribed"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_come_and_go_are_forgotten() {
        let interest = Interest::default();
        for key in 0..=MOST {
            interest.came_back(&key.to_string());
        }
        assert_eq!(interest.lock().len(), MOST);
        assert!(interest.is_heard(&MOST.to_string()), "there is no room for it");
        advance(PAUSE).await;
        interest.came_back("new");
        assert_eq!(interest.lock().len(), 1);
    }
}
