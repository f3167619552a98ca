//! What this process and others use: processor time, memory, files.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};

/// Processor time of this process so far, all threads, user and system.
pub(crate) fn process_cpu() -> Duration {
    of_clock(ClockId::ProcessCPUTime)
}

/// Processor time of the calling thread so far.
pub(crate) fn thread_cpu() -> Duration {
    of_clock(ClockId::ThreadCPUTime)
}

fn of_clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// What a process uses, as the kernel says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Processor time so far; its resolution is 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory in MiB.
    pub(crate) rss_mib: f64,
    /// The part of it that is the process's own: neither of the program's file nor shared.
    pub(crate) own_mib: f64,
    pub(crate) files: u32,
    pub(crate) threads: u32,
}

/// Looks at a process; `None` is this one.
///
/// # Errors
///
/// If there is no such process.
pub(crate) fn usage(pid: Option<u32>) -> Result<Usage> {
    let folder = pid.map_or_else(|| "/proc/self".to_owned(), |pid| format!("/proc/{pid}"));
    let status = fs::read_to_string(format!("{folder}/status")).with_context(|| format!("nothing at {folder}"))?;
    let field = |name: &str| -> f64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.unwrap_or_default()
    };
    let stat = fs::read_to_string(format!("{folder}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a stat line has brackets")?;
    let ticks: u64 = rest
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of threads"
    )]
    let threads = field("Threads:") as u32;
    Ok(Usage {
        cpu: Duration::from_millis(ticks * 10),
        rss_mib: field("VmRSS:") / 1024.0,
        own_mib: field("RssAnon:") / 1024.0,
        files: fs::read_dir(format!("{folder}/fd")).map_or(0, |files| files.map(|_| 1).sum()),
        threads,
    })
}
