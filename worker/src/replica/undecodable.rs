//! Messages that cannot be read: counted, and shown once per kind.

use std::collections::BTreeMap;

use tracing::warn;

/// How many kinds are told apart; what comes beyond is counted together.
const KINDS: usize = 64;
/// How much of a message is shown, in bytes.
const SHOWN: usize = 256;

/// What could not be read so far.
#[derive(Debug, Default)]
pub(super) struct Undecodable {
    counts: BTreeMap<String, u64>,
    /// Those of kinds that came too late to be told apart.
    others: u64,
}

impl Undecodable {
    /// Takes note of a message. `kind` says what it was taken for, `reason` what is wrong with it.
    pub(super) fn note(&mut self, kind: &str, reason: &str, payload: &[u8]) {
        let kind: String = kind.chars().take(80).flat_map(char::escape_debug).collect();
        if let Some(count) = self.counts.get_mut(&kind) {
            *count += 1;
            return;
        }
        if self.counts.len() >= KINDS {
            self.others += 1;
            return;
        }
        let shown = payload[..payload.len().min(SHOWN)].escape_ascii();
        warn!(
            control.kind = kind,
            size_bytes = payload.len(),
            "cannot read a message of kind `{kind}` and ignore it and its like: {reason}; it begins with `{shown}`"
        );
        self.counts.insert(kind, 1);
    }

    /// How many there were.
    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum::<u64>() + self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_kinds_is_counted_in_bounded_room() {
        let mut undecodable = Undecodable::default();
        for number in 0..1000 {
            undecodable.note(&format!("kind-{number}"), "it is wrong", &[0xFF; 1000]);
            undecodable.note("kind-0", "it is wrong", b"");
        }
        assert_eq!(undecodable.total(), 2000);
        assert_eq!(undecodable.counts.len(), KINDS);
        assert_eq!(undecodable.counts["kind-0"], 1001);
    }
}
