//! Why the monkeys of a flock failed, grouped: so many causes, however many monkeys and however many failures.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use mobu_fleet::domain::messages::{FailureCause, Failures};

use crate::business::{Failure, Phase};

/// How many causes are told apart.
const CAUSES: usize = Failures::CAUSES;
/// Most bytes of a text of a cause.
const TEXT: usize = 256;

/// The causes of one flock, kept over its restarts of monkeys.
#[derive(Debug, Default)]
pub(crate) struct Causes {
    /// How many failures there were: another number means that there is something new to tell.
    total: AtomicU64,
    /// Guards the causes; held for a search or a copy, never over an await.
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    /// The one with the latest failure last.
    causes: Vec<FailureCause>,
    /// Failures of causes that are not kept any more.
    forgotten: u64,
}

impl Causes {
    /// Takes note of a failure, which is told of by `line`: the failure in one line, without any token.
    pub(crate) fn note(&self, failure: &Failure, line: &str, at: Timestamp) {
        let url = failure.url().map(|url| text(without_query(url)));
        let mut cause = FailureCause {
            kind: failure.kind().to_owned(),
            phase: failure.phase().map(|phase| Phase::as_str(phase).to_owned()),
            url,
            status: failure.http_status(),
            notebook: failure.notebook().map(text),
            cell: failure.cell().map(text),
            count: 1,
            last_at: at,
            example: text(line),
        };
        let mut ledger = self.lock();
        if let Some(known) = ledger.causes.iter().position(|known| known.is_like(&cause)) {
            let known = ledger.causes.remove(known);
            cause.count = known.count + 1;
        } else if ledger.causes.len() == CAUSES {
            let oldest = ledger.causes.remove(0);
            ledger.forgotten += oldest.count;
        }
        ledger.causes.push(cause);
        drop(ledger);
        self.total.fetch_add(1, Ordering::Release);
    }

    /// How many failures were noted.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Acquire)
    }

    /// Returns the causes, the one with the latest failure first.
    pub(crate) fn read(&self) -> Failures {
        let ledger = self.lock();
        Failures {
            causes: ledger.causes.iter().rev().cloned().collect(),
            others: ledger.forgotten,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no code panics while it holds the causes")
    }
}

fn without_query(url: &str) -> &str {
    url.split('?').next().unwrap_or(url)
}

/// Returns the beginning of a text.
fn text(whole: &str) -> String {
    if whole.len() <= TEXT {
        return whole.to_owned();
    }
    let end = (0..TEXT).rfind(|end| whole.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &whole[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::business::IterationError;

    fn note(causes: &Causes, second: i64, error: IterationError) {
        let IterationError::Failed(failure) = error else {
            panic!("it failed")
        };
        causes.note(&failure, &failure.line(), Timestamp::from_second(second).unwrap());
    }

    fn get(url: &str) -> IterationError {
        IterationError::retry("status", format!("{url} said no"))
            .at_shown(url)
            .status(503)
    }

    #[test]
    fn failures_of_one_cause_are_counted_together_whatever_they_asked() {
        let causes = Causes::default();
        note(&causes, 1, get("http://x/a?one=***"));
        note(&causes, 2, get("http://y/a"));
        note(&causes, 3, get("http://x/a?two=***"));
        let read = causes.read();
        let seen: Vec<_> = read
            .causes
            .iter()
            .map(|cause| (cause.url.as_deref().unwrap(), cause.count, cause.last_at.as_second()))
            .collect();
        assert_eq!(seen, [("http://x/a", 2, 3), ("http://y/a", 1, 2)]);
        assert_eq!(read.causes[0].example, "http://x/a?two=*** said no");
        assert_eq!((causes.total(), read.others), (3, 0));
    }

    #[test]
    fn any_number_of_causes_takes_bounded_room_and_none_is_lost_from_the_count() {
        let causes = Causes::default();
        for number in 0..1000 {
            note(&causes, number, get(&format!("http://x/{number}/{}", "é".repeat(1000))));
        }
        let read = causes.read();
        assert_eq!(read.causes.len(), CAUSES);
        let counted: u64 = read.causes.iter().map(|cause| cause.count).sum();
        assert_eq!(counted + read.others, 1000);
        assert_eq!(read.causes[0].last_at.as_second(), 999);
        let size = serde_json::to_vec(&read).unwrap().len();
        assert!(size < CAUSES * 1200, "{size}");
    }
}
