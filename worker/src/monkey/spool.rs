//! One temporary file in which all monkey logs of a replica keep what does not stay in memory.
//!
//! The file has no name any more by the time anything is written to it, so that it vanishes with the process, and one
//! descriptor serves all monkeys. It is cut into blocks; who holds a block's number alone writes and reads it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use tracing::warn;

/// Size of a block in bytes.
pub(crate) const BLOCK: usize = 4096;

/// The shared file.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    /// Guards which blocks are free; held for a push or a pop, never over an await.
    blocks: Mutex<Blocks>,
    /// Most blocks that the file may have.
    limit: u32,
    /// How many logs have begun.
    logs: AtomicU32,
    failures: AtomicU64,
    has_warned: AtomicBool,
}

#[derive(Debug, Default)]
struct Blocks {
    free: Vec<u32>,
    /// How many blocks the file has had at most since it was last emptied.
    made: u32,
}

impl Spool {
    /// Makes the file in a directory, or in the system's directory for temporary files. It takes at most
    /// `max_bytes` of the disk; beyond, monkeys keep less of their logs.
    pub(crate) fn create(directory: Option<&Path>, max_bytes: u64) -> io::Result<Self> {
        let file = match directory {
            Some(directory) => tempfile::tempfile_in(directory)?,
            None => tempfile::tempfile()?,
        };
        Ok(Self {
            file,
            blocks: Mutex::default(),
            limit: u32::try_from(max_bytes / BLOCK as u64).unwrap_or(u32::MAX),
            logs: AtomicU32::new(0),
            failures: AtomicU64::new(0),
            has_warned: AtomicBool::new(false),
        })
    }

    /// Numbers a log that begins.
    pub(crate) fn next_log(&self) -> u32 {
        self.logs.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a block, or nothing if the file is as large as it may get.
    pub(crate) fn take(&self) -> Option<u32> {
        let mut blocks = self.lock();
        if let Some(block) = blocks.free.pop() {
            return Some(block);
        }
        (blocks.made < self.limit).then(|| {
            blocks.made += 1;
            blocks.made - 1
        })
    }

    /// Gives blocks back. Once all are back, the disk gets its room back too.
    pub(crate) fn give_back(&self, returned: impl IntoIterator<Item = u32>) {
        let mut blocks = self.lock();
        blocks.free.extend(returned);
        if blocks.made > 0 && blocks.free.len() == blocks.made as usize && self.file.set_len(0).is_ok() {
            *blocks = Blocks::default();
        }
    }

    /// Writes into a block; `at + bytes.len()` is at most [`BLOCK`]. A failure is counted, and logged the first time.
    pub(crate) fn write(&self, block: u32, at: usize, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all_at(bytes, position(block, at));
        if let Err(error) = &written {
            self.failures.fetch_add(1, Ordering::Relaxed);
            if !self.has_warned.swap(true, Ordering::Relaxed) {
                warn!(error = %error, "cannot write monkey logs to the temporary file: only their newest lines are kept");
            }
        }
        written
    }

    /// Reads from a block; `at + into.len()` is at most [`BLOCK`], all of it written before.
    pub(crate) fn read(&self, block: u32, at: usize, into: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(into, position(block, at))
    }

    /// How many writes failed so far.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How many bytes the file has.
    pub(crate) fn size(&self) -> u64 {
        u64::from(self.lock().made) * BLOCK as u64
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks
            .lock()
            .expect("no code panics while it holds the free blocks")
    }
}

fn position(block: u32, at: usize) -> u64 {
    u64::from(block) * BLOCK as u64 + at as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_used_again_and_an_empty_file_gives_its_room_back() {
        let spool = Spool::create(None, 1 << 20).unwrap();
        let (one, two) = (spool.take().unwrap(), spool.take().unwrap());
        spool.write(two, 10, b"hello").unwrap();
        let mut read = [0; 5];
        spool.read(two, 10, &mut read).unwrap();
        assert_eq!(&read, b"hello");
        spool.give_back([two]);
        assert_eq!(spool.take(), Some(two));
        spool.give_back([one, two]);
        assert_eq!((spool.size(), spool.file.metadata().unwrap().len()), (0, 0));
    }

    #[test]
    fn the_file_never_outgrows_its_limit() {
        let spool = Spool::create(None, 2 * BLOCK as u64 + 1).unwrap();
        assert_eq!([spool.take(), spool.take(), spool.take()], [Some(0), Some(1), None]);
    }
}
