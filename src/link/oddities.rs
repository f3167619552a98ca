//! Messages that cannot be used: counted, and told of once per kind.

use std::collections::BTreeMap;

use tracing::warn;

/// How many bytes of such a message are shown.
const SHOWN: usize = 256;

/// How many kinds are told apart; whatever comes after shares one count, so that a hostile sender cannot fill the memory.
const KINDS: usize = 64;

/// How much of a reason is kept and shown, in characters: it may repeat keys of the message, which are as long as that.
const REASON: usize = 300;

/// Counts messages that cannot be used.
#[derive(Debug, Default)]
pub struct Oddities {
    counts: BTreeMap<String, u64>,
    total: u64,
}

impl Oddities {
    /// Takes note of a message on `place` that cannot be used, and logs the first of its kind with its beginning.
    /// Returns whether it is the first.
    pub fn note(&mut self, place: &'static str, reason: &dyn std::fmt::Display, payload: &[u8]) -> bool {
        let is_first = self.count(place, reason);
        if is_first {
            let (shown, reason) = (payload[..payload.len().min(SHOWN)].escape_ascii(), cut(reason));
            warn!(
                size_bytes = payload.len(),
                "a message on {place} cannot be used: {reason}; it begins with \"{shown}\""
            );
        }
        is_first
    }

    /// As [`Oddities::note`], of a message that could be read and breaks rules: nothing of it is shown, because what is right
    /// in it may be secret.
    pub fn note_refused(&mut self, place: &'static str, reason: &dyn std::fmt::Display, payload: &[u8]) -> bool {
        let is_first = self.count(place, reason);
        if is_first {
            let reason = cut(reason);
            warn!(size_bytes = payload.len(), "a message on {place} is refused: {reason}");
        }
        is_first
    }

    fn count(&mut self, place: &'static str, reason: &dyn std::fmt::Display) -> bool {
        self.total += 1;
        let mut kind = format!("{place}: {}", cut(reason));
        if !self.counts.contains_key(&kind) && self.counts.len() >= KINDS {
            "others".clone_into(&mut kind);
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        *count == 1
    }

    /// Returns how many there were.
    pub fn total(&self) -> u64 {
        self.total
    }
}

fn cut(reason: &dyn std::fmt::Display) -> String {
    reason.to_string().chars().take(REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_of_ever_new_nonsense_cannot_fill_the_memory() {
        let mut oddities = Oddities::default();
        for number in 0..1000 {
            oddities.note("reports", &std::io::Error::other(number.to_string()), b"\xff\x00");
        }
        assert_eq!(oddities.total(), 1000);
        assert_eq!(oddities.counts.len(), KINDS + 1);
        assert_eq!(oddities.counts["others"], 1000 - 64);
    }

    #[test]
    fn a_reason_as_long_as_a_message_is_kept_in_part() {
        let mut oddities = Oddities::default();
        oddities.note_refused("requests", &"x".repeat(1 << 20), b"{}");
        assert!(oddities.counts.keys().all(|kind| kind.len() < 400));
    }
}
