//! The state log as the harness reads it, apart from the product: what counts, and whether it follows from what was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use mobu_fleet::domain::desired::{Change, DesiredState};
use mobu_fleet::domain::messages::{EntryKind, LogEntry, Standing, Wire as _};
use mobu_fleet::link::amqp::AmqpLink;
use mobu_fleet::link::{Link, LogStart};

use super::ledger::Action;

/// How long the log must be silent to be read to its end, if it does not yet have what it should.
const SILENCE: Duration = Duration::from_millis(1500);
/// How long the reader may take altogether.
const PATIENCE: Duration = Duration::from_secs(60);

/// A change that counts.
#[derive(Debug, Clone)]
pub(super) struct Made {
    /// Its request, as a client named it; empty for a coordinator's own.
    pub(super) request: String,
    /// What it did, and to which flock.
    pub(super) change: Change,
}

/// The log, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    fence: Option<(u64, String)>,
    offset: Option<u64>,
    /// The newest state that counts.
    pub(super) newest: Option<(Standing, Arc<DesiredState>)>,
    /// Every change that counts, by revision, since the log was last read from its first entry.
    pub(super) made: BTreeMap<u64, Made>,
    /// The revision of each request, by the name that the client gave it.
    pub(super) requests: BTreeMap<String, u64>,
    /// Entries that did not count.
    pub(super) ignored: usize,
    is_whole: bool,
}

impl Reading {
    /// Reads on until the log's newest state is at this epoch and revision.
    pub(super) async fn read_to(&mut self, link: &AmqpLink, epoch: u64, revision: u64) -> Result<()> {
        let read = async {
            let session = link.open("chaos reader").await?;
            let start = self.offset.map_or(LogStart::First, LogStart::Offset);
            let mut inbox = session.read_log(start).await?;
            loop {
                let is_there = self
                    .newest
                    .as_ref()
                    .is_some_and(|(standing, _)| (standing.epoch.0, standing.revision.0) == (epoch, revision));
                // What lies behind is read too, if there is anything.
                let wait = if is_there { Duration::from_millis(20) } else { SILENCE };
                match tokio::time::timeout(wait, inbox.recv()).await {
                    Ok(Some(record)) => {
                        if self.offset.is_none_or(|last| record.offset > last) {
                            self.offset = Some(record.offset);
                            self.take(LogEntry::decode("", &record.payload)?)?;
                        }
                    }
                    Ok(None) => bail!("the log's stream ended while it was read"),
                    Err(_) if is_there => break,
                    Err(_) => bail!(
                        "the log ends at {:?}, and the leader holds revision {revision} of epoch {epoch}",
                        self.newest.as_ref().map(|(standing, _)| standing)
                    ),
                }
            }
            session.close().await;
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, read).await?
    }

    fn take(&mut self, entry: LogEntry) -> Result<()> {
        let fence = (entry.epoch.0, entry.owner.as_str().to_owned());
        if self.fence.as_ref().is_some_and(|last| fence < *last) {
            self.ignored += 1;
            return Ok(());
        }
        self.fence = Some(fence);
        let (EntryKind::State, Some(state)) = (entry.kind, entry.state) else {
            return Ok(());
        };
        let change = entry.change.unwrap_or(Change::Takeover);
        let standing = Standing {
            epoch: entry.epoch,
            revision: state.revision,
            digest: entry.digest.unwrap_or_default(),
            owner: None,
        };
        ensure!(
            state.digest() == standing.digest,
            "revision {} has not the digest that its entry names",
            state.revision
        );
        if let Some((before, old)) = &self.newest {
            follows(before, old, &standing, &state, &change)?;
        }
        if let Some((request, revision)) = entry.request_ids.back()
            && *revision == state.revision
            && change != Change::Takeover
        {
            let request = client_id(request.as_str());
            if let Some(known) = self.requests.insert(request.clone(), revision.0) {
                bail!("request {request} made revision {known} and revision {revision}");
            }
            self.made.insert(revision.0, Made { request, change });
        } else if change != Change::Takeover {
            let request = String::new();
            self.made.insert(state.revision.0, Made { request, change });
        }
        if !self.is_whole {
            // What stands before the first entry that is still kept is known by its requests alone.
            for (request, revision) in &entry.request_ids {
                self.requests.insert(client_id(request.as_str()), revision.0);
            }
            self.is_whole = true;
        }
        self.newest = Some((standing, Arc::new(state)));
        Ok(())
    }
}

/// The name that the client gave a request: `http:{key}:{digest}` or `amqp:{id}` in the log.
fn client_id(request: &str) -> String {
    request.split(':').nth(1).unwrap_or(request).to_owned()
}

/// Checks that a state is the one before and the change, and nothing else.
fn follows(
    before: &Standing,
    old: &DesiredState,
    standing: &Standing,
    new: &DesiredState,
    change: &Change,
) -> Result<()> {
    let (from, to) = (before.revision.0, standing.revision.0);
    match change {
        Change::Takeover => {
            ensure!(from == to && old == new, "a takeover turned revision {from} into {to}");
            return Ok(());
        }
        Change::Recover => {
            ensure!(from < to, "a recovery turned revision {from} into {to}");
            return Ok(());
        }
        _ => ensure!(to == from + 1, "revision {to} follows revision {from}"),
    }
    let revision = standing.revision;
    for name in old.flocks.keys().chain(new.flocks.keys()) {
        let (was, is) = (old.flocks.get(name), new.flocks.get(name));
        let is_right = match change {
            Change::Start { flock } if flock == name => {
                is.is_some_and(|is| is.generation == revision && is.refresh_generation == revision)
            }
            Change::Stop { flocks } if flocks.contains(name) => is.is_none(),
            Change::Refresh { flocks, .. } if flocks.contains(name) => match (was, is) {
                (Some(was), Some(is)) => {
                    is.refresh_generation == revision && is.generation == was.generation && is.config == was.config
                }
                _ => false,
            },
            _ => was == is,
        };
        ensure!(
            is_right,
            "revision {revision} ({change:?}) left flock {name} as {is:?}, and it was {was:?}"
        );
    }
    Ok(())
}

/// Whether a change in the log is what an operation asked for.
pub(super) fn is_of(change: &Change, action: Action, flock: &str) -> bool {
    match change {
        Change::Start { flock: name } => action == Action::Start && name.as_str() == flock,
        Change::Stop { flocks } => action == Action::Stop && flocks.len() == 1 && flocks[0].as_str() == flock,
        Change::Refresh { flocks, .. } => action == Action::Refresh && flocks.len() == 1 && flocks[0].as_str() == flock,
        _ => false,
    }
}
