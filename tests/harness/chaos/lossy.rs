//! Makes a node that does not run forget the newest entries of a stream, as a machine does that lost its power.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// Bytes of an index file before its first record, of a record, and where in it the position in the segment lies.
const HEADER: u64 = 8;
const RECORD: u64 = 29;
const POSITION: usize = 24;

/// Cuts the last chunks off the only stream of a fleet; an entry or more is in each. Returns how many were cut.
///
/// A stream lies in segments of chunks, and beside each segment an index has the position of each chunk in it.
pub(super) fn cut_tail(data: &Path, fleet: &str, chunks: u64) -> Result<u64> {
    let streams = fs::read_dir(data.join("stream")).context("the node has streams")?;
    let mut folders = Vec::new();
    for entry in streams {
        let entry = entry?;
        if entry.file_name().to_string_lossy().contains(fleet) {
            folders.push(entry.path());
        }
    }
    ensure!(folders.len() == 1, "{} streams are called after {fleet}", folders.len());
    let mut indexes = Vec::new();
    for entry in fs::read_dir(&folders[0])? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "index") {
            indexes.push(path);
        }
    }
    indexes.sort();
    let index = indexes.last().context("a stream has a segment")?;
    let bytes = fs::read(index)?;
    let records = (bytes.len() as u64).saturating_sub(HEADER) / RECORD;
    // One chunk stays, so that the segment remains one.
    let cut = chunks.min(records.saturating_sub(1));
    if cut == 0 {
        return Ok(0);
    }
    let end = HEADER + (records - cut) * RECORD;
    let at = usize::try_from(end)? + POSITION;
    let position = u32::from_be_bytes(bytes[at..at + 4].try_into()?);
    truncate(&index.with_extension("segment"), u64::from(position))?;
    truncate(index, end)?;
    Ok(cut)
}

fn truncate(path: &Path, length: u64) -> Result<()> {
    let file: File = OpenOptions::new().write(true).open(path)?;
    ensure!(
        file.metadata()?.len() >= length,
        "{} is shorter than its index says",
        path.display()
    );
    file.set_len(length)?;
    Ok(())
}
