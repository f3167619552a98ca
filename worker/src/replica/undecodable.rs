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
}

impl Undecodable {
    /// Takes note of a message. `kind` says what it was taken for, `reason` what is wrong with it.
    pub(super) fn note(&mut self, kind: &str, reason: &str, payload: &[u8]) {
        let kind: String = kind.chars().take(80).flat_map(char::escape_debug).collect();
        if let Some(count) = self.counts.get_mut(&kind) {
            *count += 1;
            return;
        }
        let kind = if self.counts.len() < KINDS {
            kind
        } else {
            "others".to_owned()
        };
        let shown = payload[..payload.len().min(SHOWN)].escape_ascii();
        warn!(
            control.kind = kind,
            size_bytes = payload.len(),
            "cannot read a message of kind `{kind}` and ignore it and its like: {reason}; it begins with `{shown}`"
        );
        *self.counts.entry(kind).or_default() += 1;
    }

    /// How many there were.
    pub(super) fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}
