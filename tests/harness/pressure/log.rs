//! Follows the state log while the fleet works: under pressure it soon forgets its oldest entries.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use mobu_fleet::domain::desired::DesiredState;
use mobu_fleet::domain::messages::{LogEntry, Wire as _};
use mobu_fleet::link::amqp::AmqpLink;
use mobu_fleet::link::{Link as _, LogStart};
use mobu_fleet::runtime::tasks::{TaskKind, Tasks};

/// How long the log may take to get where the coordinator says that it is.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the log has so far. One coordinator writes it, so every entry counts.
#[derive(Debug, Default)]
struct Read {
    /// The revision of each request, by the name that the client gave it.
    requests: BTreeMap<String, u64>,
    newest: Option<DesiredState>,
    trouble: Option<String>,
}

/// The log, as it comes. Read until this is dropped.
#[derive(Debug)]
pub(super) struct Tail {
    /// Guards what was read; held for an update or a look.
    read: Arc<Mutex<Read>>,
    tasks: Tasks,
}

impl Tail {
    /// Begins at the first entry that is kept.
    pub(super) async fn follow(link: &AmqpLink) -> Result<Self> {
        let session = link.open("pressure log").await?;
        let mut inbox = session.read_log(LogStart::First).await?;
        let (read, tasks) = (Arc::new(Mutex::new(Read::default())), Tasks::new());
        let into = read.clone();
        drop(tasks.spawn(TaskKind::Expendable, "tail", async move {
            // Held, because the log ends with its session.
            let _session = session;
            while let Some(record) = inbox.recv().await {
                let entry = LogEntry::decode("", &record.payload);
                let mut read = lock(&into);
                match entry {
                    Ok(entry) => read.take(entry),
                    Err(error) => read.trouble = Some(error.to_string()),
                }
            }
            lock(&into).trouble = Some("the log's stream ended".to_owned());
        }));
        Ok(Self { read, tasks })
    }

    /// Waits until the log has this revision, and checks that every accepted request made the revision that its sender was told.
    pub(super) async fn check(&self, revision: u64, accepted: &[(String, u64)]) -> Result<DesiredState> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let newest = {
                let read = lock(&self.read);
                ensure!(read.trouble.is_none(), "{:?}", read.trouble);
                read.newest
                    .as_ref()
                    .filter(|newest| newest.revision.0 >= revision)
                    .cloned()
            };
            if let Some(newest) = newest {
                let read = lock(&self.read);
                for (id, told) in accepted {
                    let made = read.requests.get(id);
                    ensure!(
                        made == Some(told),
                        "request {id} was accepted as revision {told}, and the log has {made:?}"
                    );
                }
                return Ok(newest);
            }
            ensure!(
                Instant::now() < deadline,
                "the log does not come to revision {revision}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.tasks.abort_token().cancel();
    }
}

impl Read {
    fn take(&mut self, entry: LogEntry) {
        if let Some((request, revision)) = entry.request_ids.back() {
            // `http:{key}:{digest}` or `amqp:{id}`.
            let id = request.as_str().split(':').nth(1).unwrap_or_default();
            self.requests.insert(id.to_owned(), revision.0);
        }
        if let Some(state) = entry.state {
            self.newest = Some(state);
        }
    }
}

fn lock(read: &Mutex<Read>) -> MutexGuard<'_, Read> {
    read.lock().expect("no code panics while it holds what was read")
}
