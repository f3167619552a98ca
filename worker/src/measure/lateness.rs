//! How late this generator is: whether slow answers may be its own doing.
//!
//! Whatever pauses says, when its timer woke it, by how much later that was than it had asked for. What it did before the pause is
//! not part of that, so that a slow service makes nobody late.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mobu_fleet::domain::messages::Lateness;
use mobu_fleet::runtime::clock::Instant;

/// Length of the shortest window. One ends at the first report after that.
const WINDOW: Duration = Duration::from_millis(800);
/// How many windows the figures are about.
const WINDOWS: usize = 10;
/// How many windows in a row must be late before the replica counts as overloaded, and calm before it does not any more.
const LATE_WINDOWS: u32 = 3;
const CALM_WINDOWS: u32 = 5;
/// Buckets for each doubling: a figure is at most an eighth too high.
const STEPS: usize = 8;
/// More than an hour and a half is counted as that.
const DOUBLINGS: usize = 33;
const BUCKETS: usize = DOUBLINGS * STEPS;

/// Where whoever pauses says how late it woke.
#[derive(Debug)]
pub(crate) struct LatenessGauge {
    /// By the logarithm of microseconds.
    buckets: [AtomicU64; BUCKETS],
    max_micros: AtomicU64,
}

impl Default for LatenessGauge {
    fn default() -> Self {
        Self {
            buckets: std::array::from_fn(|_| AtomicU64::new(0)),
            max_micros: AtomicU64::new(0),
        }
    }
}

impl LatenessGauge {
    /// Takes note of somebody that woke so much later than it should.
    pub(crate) fn record(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        // Nearly always it is not the worst, and then there is nothing to write.
        if micros > self.max_micros.load(Ordering::Relaxed) {
            self.max_micros.fetch_max(micros, Ordering::Relaxed);
        }
    }

    /// Takes out what has come together.
    fn take(&self) -> Window {
        Window {
            buckets: self
                .buckets
                .iter()
                .map(|count| count.swap(0, Ordering::Relaxed))
                .collect(),
            max_micros: self.max_micros.swap(0, Ordering::Relaxed),
        }
    }
}

/// Returns the bucket of a value: the first ones are of one value each, then there are [`STEPS`] for each doubling.
fn bucket(micros: u64) -> usize {
    const STEP_BITS: u32 = STEPS.trailing_zeros();
    let bits = u64::BITS - micros.leading_zeros();
    let shift = bits.saturating_sub(STEP_BITS + 1);
    let bucket = (u64::from(shift) * STEPS as u64).saturating_add(micros >> shift);
    usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
}

/// Returns the largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    let top = bucket - shift * STEPS;
    ((top as u64 + 1) << shift) - 1
}

/// All that was recorded within one window, or several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    buckets: Vec<u64>,
    max_micros: u64,
}

impl Window {
    fn empty() -> Self {
        Self {
            buckets: vec![0; BUCKETS],
            max_micros: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        for (sum, count) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += count;
        }
        self.max_micros = self.max_micros.max(other.max_micros);
    }

    /// Returns the value that so many of a hundred do not exceed; `None` if there is none.
    fn percentile(&self, percent: u64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        let rank = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(|bucket| Duration::from_micros(upper(bucket).min(self.max_micros)))
    }
}

/// Watches the gauge, window by window.
#[derive(Debug)]
pub(crate) struct LatenessWatch {
    windows: VecDeque<Window>,
    /// Over all of them; reports come more often than windows end.
    figures: Option<Lateness>,
    began: Instant,
    load: Load,
}

impl LatenessWatch {
    /// Begins the first window now. A p99 above `bound` is too late.
    pub(crate) fn new(bound: Duration, now: Instant) -> Self {
        Self {
            windows: VecDeque::with_capacity(WINDOWS),
            figures: None,
            began: now,
            load: Load::new(bound),
        }
    }

    /// Ends the window if it is over. Returns what changed.
    pub(crate) fn look(&mut self, gauge: &LatenessGauge, now: Instant) -> Option<Change> {
        if now.saturating_duration_since(self.began) < WINDOW {
            return None;
        }
        self.began = now;
        let window = gauge.take();
        let p99 = window.percentile(99);
        if self.windows.len() == WINDOWS {
            self.windows.pop_front();
        }
        self.windows.push_back(window);
        self.figures = self.summed();
        self.load.window(p99)
    }

    /// Whether monkeys are late for a reason that lies here.
    pub(crate) const fn is_overloaded(&self) -> bool {
        self.load.is_over
    }

    /// Returns the figures over the last windows; `None` if nobody has paused.
    pub(crate) const fn figures(&self) -> Option<Lateness> {
        self.figures
    }

    fn summed(&self) -> Option<Lateness> {
        let mut all = Window::empty();
        for window in &self.windows {
            all.add(window);
        }
        let millis = |late: Duration| late.as_secs_f64() * 1000.0;
        Some(Lateness {
            p50_ms: millis(all.percentile(50)?),
            p99_ms: millis(all.percentile(99)?),
            max_ms: millis(Duration::from_micros(all.max_micros)),
        })
    }
}

/// What a window changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The replica is overloaded from now on.
    Overloaded,
    /// It is not any more.
    Recovered,
}

/// Decides, window by window. Slow to say so and slower to take it back, so that it does not flicker.
#[derive(Debug)]
struct Load {
    bound: Duration,
    late: u32,
    calm: u32,
    is_over: bool,
}

impl Load {
    const fn new(bound: Duration) -> Self {
        Self {
            bound,
            late: 0,
            calm: 0,
            is_over: false,
        }
    }

    /// Takes a window by its p99. One in which nobody woke says nothing.
    fn window(&mut self, p99: Option<Duration>) -> Option<Change> {
        let p99 = p99?;
        self.late = if p99 > self.bound { self.late + 1 } else { 0 };
        self.calm = if p99 <= self.bound / 2 { self.calm + 1 } else { 0 };
        if !self.is_over && self.late >= LATE_WINDOWS {
            self.is_over = true;
            return Some(Change::Overloaded);
        }
        if self.is_over && self.calm >= CALM_WINDOWS {
            self.is_over = false;
            return Some(Change::Recovered);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUND: Duration = Duration::from_millis(250);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    proptest! {
        #[test]
        fn a_value_is_in_a_bucket_that_ends_at_most_an_eighth_above_it(micros in 0_u64..4_000_000_000) {
            let bucket = bucket(micros);
            prop_assert!(upper(bucket) >= micros && upper(bucket) <= micros + micros / 8 + 1, "{bucket} {}", upper(bucket));
            prop_assert!(bucket == 0 || upper(bucket - 1) < micros);
        }
    }

    #[test]
    fn the_largest_values_have_a_bucket_too() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert_eq!(bucket(0), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn figures_are_about_the_last_windows_only() {
        let (gauge, begun) = (LatenessGauge::default(), tokio::time::Instant::now());
        let mut watch = LatenessWatch::new(BOUND, begun);
        assert_eq!(watch.figures(), None);
        gauge.record(ms(1000));
        for late in 0..99 {
            gauge.record(ms(late / 10));
        }
        assert_eq!(watch.look(&gauge, begun + ms(799)), None);
        assert_eq!(watch.figures(), None, "the window goes on");
        watch.look(&gauge, begun + ms(1000));
        let figures = watch.figures().unwrap();
        assert!(
            (4.0..5.0).contains(&figures.p50_ms) && (9.0..10.2).contains(&figures.p99_ms),
            "{figures:?}"
        );
        assert!((figures.max_ms - 1000.0).abs() < 1e-9);
        for second in 2..=11 {
            gauge.record(ms(1));
            watch.look(&gauge, begun + Duration::from_secs(second));
        }
        assert!(watch.figures().unwrap().max_ms < 1.1, "the first window is forgotten");
    }

    #[test]
    fn a_replica_is_overloaded_after_three_late_windows_and_recovers_after_five_calm_ones() {
        let mut load = Load::new(BOUND);
        for p99 in [300, 300, 200, 300, 300] {
            assert_eq!(load.window(Some(ms(p99))), None, "never three in a row");
        }
        assert_eq!(load.window(None), None, "nobody woke");
        assert_eq!(load.window(Some(ms(251))), Some(Change::Overloaded));
        for p99 in [100, 100, 100, 100, 200, 100, 100, 100, 100] {
            assert_eq!(load.window(Some(ms(p99))), None, "between the bounds it stays");
            assert!(load.is_over);
        }
        assert_eq!(load.window(Some(ms(125))), Some(Change::Recovered));
        assert!(!load.is_over);
    }
}
