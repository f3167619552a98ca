//! Messages that cannot be used: counted, and told of once per kind.

use std::collections::BTreeMap;

use tracing::warn;

/// How many bytes of such a message are shown.
const SHOWN: usize = 256;

/// How many kinds are told apart; whatever comes after shares one count, so that a hostile sender cannot fill the memory.
const KINDS: usize = 64;

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
        self.total += 1;
        let mut kind = format!("{place}: {reason}");
        if !self.counts.contains_key(&kind) && self.counts.len() >= KINDS {
            "others".clone_into(&mut kind);
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count == 1 {
            let shown = payload[..payload.len().min(SHOWN)].escape_ascii();
            warn!(
                size_bytes = payload.len(),
                "a message on {place} cannot be used: {reason}; it begins with \"{shown}\""
            );
        }
        *count == 1
    }

    /// Returns how many there were.
    pub fn total(&self) -> u64 {
        self.total
    }
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
}
