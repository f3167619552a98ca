//! Which events nobody subscribes to.
//!
//! A topic exchange does not say who is bound to it; but it returns a mandatory message that it could not route. So events are
//! mandatory, and when one comes back, those of its key are not sent for a while. Then one is sent again: somebody may
//! have subscribed meanwhile.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::clock::{Instant, now};

/// How long events of a key are not sent after one of them came back.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a first one may take to come back before the others are sent, too.
const RETURN: Duration = Duration::from_millis(300);
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
    until: Instant,
    /// One has been sent since, and has yet to come back.
    is_asked: bool,
}

impl Interest {
    /// Returns whether an event of a key is to be sent.
    pub(super) fn is_heard(&self, key: &str) -> bool {
        let now = now();
        let mut unheard = self.lock();
        let Some(entry) = unheard.get_mut(key) else {
            return true;
        };
        if now < entry.until {
            return false;
        }
        if entry.is_asked {
            unheard.remove(key);
        } else {
            *entry = Unheard {
                until: now + RETURN,
                is_asked: true,
            };
        }
        true
    }

    /// Takes note that an event came back.
    pub(super) fn came_back(&self, key: &str) {
        let now = now();
        let mut unheard = self.lock();
        if unheard.len() >= MOST && !unheard.contains_key(key) {
            unheard.retain(|_, entry| now < entry.until);
            if unheard.len() >= MOST {
                return;
            }
        }
        let entry = Unheard {
            until: now + PAUSE,
            is_asked: false,
        };
        unheard.insert(key.to_owned(), entry);
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
    async fn what_comes_back_is_not_sent_for_a_while_and_then_one_asks_again() {
        let interest = Interest::default();
        assert!(
            interest.is_heard("a") && interest.is_heard("a"),
            "nothing came back yet"
        );
        interest.came_back("a");
        assert!(!interest.is_heard("a") && interest.is_heard("b"));
        advance(PAUSE).await;
        assert!(
            interest.is_heard("a") && !interest.is_heard("a"),
            "one asks, the others wait"
        );
        interest.came_back("a");
        advance(PAUSE - RETURN).await;
        assert!(!interest.is_heard("a"));
        advance(RETURN).await;
        assert!(interest.is_heard("a"));
        advance(RETURN).await;
        assert!(interest.is_heard("a") && interest.is_heard("a"), "it did not come back");
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
