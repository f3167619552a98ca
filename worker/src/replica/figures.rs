//! What the process uses: read from the kernel, and measured by a timer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mobu_fleet::domain::messages::ProcessFigures;
use mobu_fleet::runtime::clock::{self, Instant};

use crate::monkey::Surroundings;

/// How often the timer looks how late it is.
const PROBE: Duration = Duration::from_millis(250);
/// Shortest time to measure over: the kernel counts processor time in units of 10 ms, and a report may follow at once on another.
const LEAST: Duration = Duration::from_millis(250);
/// For each second that it took to count the sockets, so many pass until they are counted again: with tens of thousands that is not done every second.
const SOCKETS_REST: u32 = 200;
/// Length of the kernel's unit of processor time, the same on every Linux.
const TICK_SECONDS: f64 = 0.01;

/// What the kernel said of this process last. Replicas that share a process share it: each would count the same sockets.
static PROCESS: Mutex<Process> = Mutex::new(Process {
    sample: None,
    sockets_due: None,
});

#[derive(Debug)]
struct Process {
    sample: Option<Sample>,
    sockets_due: Option<Instant>,
}

/// What the kernel says of a process. Unknown figures are zero.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    cpu_seconds: f64,
    rss_bytes: u64,
    sockets: Option<u64>,
}

impl Process {
    /// Measures, unless that was done a moment ago.
    fn sample(&mut self) -> Sample {
        let at = clock::now();
        if let Some(sample) = self.sample
            && at.saturating_duration_since(sample.at) < LEAST
        {
            return sample;
        }
        let sockets = if self.sockets_due.is_none_or(|due| due <= at) {
            let sockets = sockets();
            self.sockets_due = Some(at + at.elapsed() * SOCKETS_REST);
            sockets
        } else {
            self.sample.and_then(|sample| sample.sockets)
        };
        *self.sample.insert(Sample {
            at,
            cpu_seconds: cpu_seconds().unwrap_or_default(),
            rss_bytes: rss_bytes().unwrap_or_default(),
            sockets,
        })
    }
}

/// What the process used so far.
#[derive(Debug)]
pub(super) struct Figures {
    lag: Arc<AtomicU64>,
    last: Option<Sample>,
    taken: ProcessFigures,
    is_measuring: bool,
}

impl Figures {
    pub(super) fn new(is_measuring: bool) -> Self {
        Self {
            lag: Arc::default(),
            last: None,
            taken: ProcessFigures::default(),
            is_measuring,
        }
    }

    /// Returns a task that measures how late timers are, for as long as it runs.
    /// That goes into the gauge of the monkeys too, so that it says something also where few of them pause.
    pub(super) fn probe(&self, surroundings: Arc<Surroundings>) -> impl Future<Output = ()> + use<> {
        let lag = self.lag.clone();
        async move {
            loop {
                let due = clock::now() + PROBE;
                tokio::time::sleep_until(due).await;
                let late = clock::now().saturating_duration_since(due);
                surroundings.lateness.record(late);
                lag.fetch_max(u64::try_from(late.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        }
    }

    /// Returns the figures since they were last measured, or those again if that was a moment ago. Unknown ones are zero.
    pub(super) fn take(&mut self) -> ProcessFigures {
        if self.is_measuring {
            let sample = PROCESS.lock().unwrap_or_else(PoisonError::into_inner).sample();
            if self.last.is_none_or(|last| last.at < sample.at) {
                self.taken = self.since(sample);
            }
        }
        self.taken
    }

    /// Returns the figures from the last sample to this one.
    fn since(&mut self, sample: Sample) -> ProcessFigures {
        let before = self.last.replace(sample).unwrap_or(sample);
        let elapsed = sample.at.duration_since(before.at).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a lag is far below 2^52 microseconds")]
        let lag_micros = self.lag.swap(0, Ordering::Relaxed) as f64;
        ProcessFigures {
            cpu_seconds: sample.cpu_seconds,
            cpu: if elapsed > 0.0 {
                (sample.cpu_seconds - before.cpu_seconds) / elapsed
            } else {
                0.0
            },
            rss_bytes: sample.rss_bytes,
            lag_ms: lag_micros / 1000.0,
            connections: sample.sockets,
            lateness: None,
            overloaded: false,
        }
    }
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The program's name comes second, in brackets, and may hold anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(11).map(str::parse::<f64>);
    Some((fields.next()?.ok()? + fields.next()?.ok()?) * TICK_SECONDS)
}

fn rss_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Counts the sockets among the open files.
fn sockets() -> Option<u64> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?;
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets = targets.filter(|target| target.as_os_str().as_encoded_bytes().starts_with(b"socket:"));
    Some(sockets.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn open_sockets_are_counted() {
        let sockets: Vec<_> = (0..3)
            .map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
            .collect();
        // Other tests of this process have some too, and files that are none.
        let _file = tempfile::tempfile().unwrap();
        let taken = Figures::new(true).take();
        assert!(
            taken.connections.is_some_and(|count| count >= sockets.len() as u64),
            "{taken:?}"
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn replicas_of_one_process_share_what_was_measured_a_moment_ago() {
        let sample = Sample {
            // However long this test stands still in between.
            at: clock::now() + Duration::from_secs(3600),
            cpu_seconds: 1.0,
            rss_bytes: 1,
            sockets: Some(7),
        };
        let mut process = Process {
            sample: Some(sample),
            sockets_due: Some(clock::now() + Duration::from_secs(3600)),
        };
        assert_eq!(process.sample().rss_bytes, 1, "that was a moment ago");
        process.sample.as_mut().unwrap().at = clock::now().checked_sub(LEAST).unwrap();
        let measured = process.sample();
        assert!(measured.rss_bytes > 100_000, "{measured:?}");
        assert_eq!(measured.sockets, Some(7), "they are not due");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_knows_what_a_process_uses() {
        let mut figures = Figures::new(true);
        let taken = figures.take();
        assert!(taken.rss_bytes > 100_000 && taken.cpu_seconds >= 0.0, "{taken:?}");
        assert_eq!(Figures::new(false).take(), ProcessFigures::default());
    }
}
