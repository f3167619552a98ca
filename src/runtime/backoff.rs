//! How long to wait before the next try.

use std::time::Duration;

/// Exponential backoff with full jitter and a cap: try n waits between half and all of `first * 2^n`, at most `cap`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    tries: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Makes a backoff; `seed` decides the jitter, so that a simulation repeats itself.
    pub fn new(first: Duration, cap: Duration, seed: u64) -> Self {
        Self {
            first,
            cap,
            tries: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// The backoff of a session with the broker: 100 ms to 5 s.
    pub fn for_sessions(seed: u64) -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(5), seed)
    }

    /// Returns how long to wait now, and waits longer next time.
    pub fn next_wait(&mut self) -> Duration {
        let full = self
            .first
            .saturating_mul(2_u32.saturating_pow(self.tries))
            .min(self.cap);
        self.tries = self.tries.saturating_add(1).min(31);
        full.mul_f64(0.5 + 0.5 * self.random.f64())
    }

    /// Begins anew: the last try went well.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_start_over_after_a_reset() {
        let mut backoff = Backoff::for_sessions(7);
        let waits: Vec<_> = (0..12).map(|_| backoff.next_wait()).collect();
        assert!(
            waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(100),
            "{waits:?}"
        );
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(5)), "{waits:?}");
        assert!(waits[11] >= Duration::from_millis(2500), "{waits:?}");
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(100));
    }
}
