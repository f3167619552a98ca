//! Looks at processes, and at the API as somebody who has nothing to do with the pressure would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};
use reqwest::Client;
use serde_json::Value;

/// How often.
const LOOK: Duration = Duration::from_millis(200);

/// What a process uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Open file descriptors.
    pub files: u64,
    /// Threads.
    pub threads: u64,
}

impl Usage {
    /// The larger one of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            resident_kib: self.resident_kib.max(other.resident_kib),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
        }
    }
}

/// Returns what a process uses now.
///
/// # Errors
///
/// If it has ended.
pub fn usage(process: u32) -> Result<Usage> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let figure = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let figure = line.and_then(|line| line.split_whitespace().next());
        anyhow::Ok(figure.with_context(|| format!("no {name} in {status}"))?.parse()?)
    };
    Ok(Usage {
        resident_kib: figure("VmRSS:")?,
        files: std::fs::read_dir(format!("/proc/{process}/fd"))?.count() as u64,
        threads: figure("Threads:")?,
    })
}

/// What was seen of one process.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Course {
    pub(super) start: Usage,
    pub(super) peak: Usage,
    pub(super) now: Usage,
}

/// What was seen so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) processes: BTreeMap<String, Course>,
    /// The oldest report that anybody was shown, in seconds.
    pub(super) oldest_report: f64,
    /// How long the API took to answer.
    pub(super) answers: Vec<f64>,
    /// What the API answered that it should not, and that it did not.
    pub(super) trouble: Vec<String>,
}

/// Looks until it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    /// Guards what was seen; held for an update or a copy.
    seen: Arc<Mutex<Seen>>,
    tasks: Tasks,
}

impl Watch {
    /// Looks at processes by name, and asks the API at `base`, which must answer within `patience`.
    pub(super) fn start(processes: Vec<(String, u32)>, base: &str, patience: Duration) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        for (name, process) in &processes {
            let now = usage(*process)?;
            let course = Course {
                start: now,
                peak: now,
                now,
            };
            lock(&seen).processes.insert(name.clone(), course);
        }
        let tasks = Tasks::new();
        let bystander = Bystander {
            client: Client::builder().timeout(patience).build()?,
            url: format!("{base}/mobu/replicas"),
            seen: seen.clone(),
        };
        drop(tasks.spawn(TaskKind::Expendable, "bystander", bystander.ask()));
        drop(tasks.spawn(TaskKind::Expendable, "watch", look(processes, seen.clone())));
        Ok(Self { seen, tasks })
    }

    /// Returns what was seen so far.
    pub(super) fn seen(&self) -> Seen {
        lock(&self.seen).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("no code panics while it holds what was seen")
}

async fn look(processes: Vec<(String, u32)>, seen: Arc<Mutex<Seen>>) {
    loop {
        for (name, process) in &processes {
            let mut seen = lock(&seen);
            match (usage(*process), seen.processes.get_mut(name)) {
                (Ok(now), Some(course)) => {
                    course.now = now;
                    course.peak = course.peak.max(now);
                }
                (Err(error), _) => {
                    seen.trouble.push(format!("{name} cannot be looked at: {error}"));
                    return;
                }
                (Ok(_), None) => {}
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Somebody who asks how the replicas are.
struct Bystander {
    client: Client,
    url: String,
    seen: Arc<Mutex<Seen>>,
}

impl Bystander {
    async fn ask(self) {
        loop {
            let begun = Instant::now();
            let asked = async {
                let request = self.client.get(&self.url).header("X-Auth-Request-User", "bystander");
                anyhow::Ok(request.send().await?.error_for_status()?.json::<Value>().await?)
            };
            match asked.await {
                Ok(replicas) => {
                    let replicas = replicas.as_array().map_or(&[][..], Vec::as_slice);
                    let ages = replicas.iter().filter_map(|replica| replica["report_age"].as_f64());
                    let mut seen = lock(&self.seen);
                    seen.answers.push(begun.elapsed().as_secs_f64());
                    seen.oldest_report = ages.fold(seen.oldest_report, f64::max);
                }
                Err(error) => lock(&self.seen)
                    .trouble
                    .push(format!("a bystander was not answered: {error:#}")),
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
