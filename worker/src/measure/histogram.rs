//! How often something took how long.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets in microseconds, from a quick request to a slow spawn; one bucket more takes the rest.
const BOUNDS: [u64; 19] = [
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    120_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
];

/// Durations, counted in fixed buckets by whoever measures them.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    pub(crate) fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < micros);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Returns each upper bound in seconds with how many were no longer, the count of all, and their sum in seconds.
    pub(crate) fn read(&self) -> Reading {
        let mut count = 0;
        let mut cumulative = Vec::with_capacity(BOUNDS.len());
        for (at, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Ordering::Relaxed);
            if let Some(bound) = BOUNDS.get(at) {
                cumulative.push((Duration::from_micros(*bound).as_secs_f64(), count));
            }
        }
        Reading {
            cumulative,
            count,
            sum_seconds: Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64(),
        }
    }
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    /// Upper bounds in seconds, each with how many were no longer.
    pub(crate) cumulative: Vec<(f64, u64)>,
    pub(crate) count: u64,
    pub(crate) sum_seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_every_bucket_that_is_long_enough() {
        let histogram = Histogram::default();
        for millis in [1, 2, 400, 10_000_000] {
            histogram.record(Duration::from_millis(millis));
        }
        let reading = histogram.read();
        let at = |bound: f64| {
            reading
                .cumulative
                .iter()
                .find(|(at, _)| at.total_cmp(&bound).is_eq())
                .unwrap()
                .1
        };
        assert_eq!((at(0.001), at(0.0025), at(0.5), at(1800.0)), (1, 2, 3, 3));
        assert_eq!(reading.count, 4);
        assert!((reading.sum_seconds - 10_000.403).abs() < 1e-9);
    }
}
