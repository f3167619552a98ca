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
        let mut unheard = self.lock();
        match unheard.get_mut(key) {
            None => true,
            Some(entry) if now < entry.ask_at => false,
            Some(entry) if now < entry.ask_at + PAUSE => {
                *entry = Unheard {
                    ask_at: now + PAUSE,
                    is_asked: true,
                };
                true
            }
            // There was none for a while: what is known is old.
            Some(_) => {
                unheard.remove(key);
                true
            }
        }
    }

    /// Returns whether an event that has waited is still to be sent: others of its key may have come back meanwhile.
    pub(super) fn is_still_heard(&self, key: &str) -> bool {
        self.lock().get(key).is_none_or(|entry| entry.is_asked)
    }

    /// Takes note that an event was confirmed, and of the key of the one that came back with that. lapin hands what came back to any of the events
    /// that are confirmed at once: so this one did not come back, as far as is known, unless the keys are the same. If it did, its
    /// own key has come with another confirm, or will.
    pub(super) fn confirmed(&self, key: &str, returned: Option<&str>) {
        let mut unheard = self.lock();
        if returned != Some(key) && unheard.get(key).is_some_and(|entry| entry.is_asked) {
            unheard.remove(key);
        }
        let Some(returned) = returned else { return };
        if let Some(entry) = unheard.get_mut(returned) {
            entry.is_asked = false;
            return;
        }
        let now = now();
        if unheard.len() >= MOST {
            unheard.retain(|_, entry| now < entry.ask_at + PAUSE);
        }
        // Without room it is sent and comes back each time, as it was before.
        if unheard.len() < MOST {
            let entry = Unheard {
                ask_at: now + PAUSE,
                is_asked: false,
            };
            unheard.insert(returned.to_owned(), entry);
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

    /// An event of a key comes back, with its own confirm.
    fn came_back(interest: &Interest, key: &str) {
        interest.confirmed(key, Some(key));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_back_is_not_sent_any_more_but_for_one_that_asks_again() {
        let interest = Interest::default();
        assert!(
            interest.is_heard("a") && interest.is_heard("a"),
            "nothing came back yet"
        );
        came_back(&interest, "a");
        assert!(!interest.is_still_heard("a") && !interest.is_heard("a"));
        assert!(interest.is_still_heard("b") && interest.is_heard("b"));
        interest.confirmed("a", None);
        assert!(!interest.is_heard("a"), "that one was sent before");
        for _ in 0..2 {
            advance(PAUSE).await;
            assert!(interest.is_heard("a") && interest.is_still_heard("a"), "one asks");
            assert!(
                !interest.is_heard("a"),
                "the others wait, however long the answer takes"
            );
            came_back(&interest, "a");
            assert!(!interest.is_still_heard("a") && !interest.is_heard("a"));
        }
        advance(PAUSE).await;
        assert!(interest.is_heard("a"));
        interest.confirmed("a", None);
        assert!(
            interest.is_heard("a") && interest.is_heard("a"),
            "somebody has subscribed"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_return_that_comes_with_the_confirm_of_another_is_taken_for_its_own_key() {
        let interest = Interest::default();
        came_back(&interest, "heard");
        came_back(&interest, "unheard");
        advance(PAUSE).await;
        assert!(interest.is_heard("heard") && interest.is_heard("unheard"), "both ask");
        interest.confirmed("heard", Some("unheard"));
        interest.confirmed("unheard", None);
        assert!(interest.is_heard("heard") && interest.is_heard("heard"));
        assert!(!interest.is_heard("unheard"));
        advance(PAUSE).await;
        assert!(interest.is_heard("unheard"), "it asks again");
        interest.confirmed("unheard", None);
        interest.confirmed("heard", Some("unheard"));
        assert!(!interest.is_heard("unheard") && interest.is_heard("heard"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_is_not_believed() {
        let interest = Interest::default();
        came_back(&interest, "a");
        advance(2 * PAUSE).await;
        assert!(
            interest.is_heard("a") && interest.is_heard("a"),
            "there was none for a while"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_come_and_go_are_forgotten() {
        let interest = Interest::default();
        for key in 0..=MOST {
            came_back(&interest, &key.to_string());
        }
        assert_eq!(interest.lock().len(), MOST);
        assert!(interest.is_heard(&MOST.to_string()), "there is no room for it");
        advance(2 * PAUSE).await;
        came_back(&interest, "new");
        assert_eq!(interest.lock().len(), 1);
    }
}
