//! What a monkey has to say, and how much of it stays readable: at least its last 256 KiB.
//!
//! The newest bytes wait in memory until there are enough for a write; the others lie in blocks of the
//! replica's [`Spool`]. Positions count from the beginning of the monkey's log and never change their meaning.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use mobu_fleet::domain::messages::LogPart;

use super::spool::{BLOCK, Spool};

/// How much of a log stays readable at least, in bytes, as long as the disk has room.
pub(crate) const KEPT: usize = 256 * 1024;

/// How many bytes wait in memory for their write. A dozen lines: few enough for a hundred thousand monkeys,
/// enough to make writes rare.
const TAIL: usize = 1536;
/// Room that is left in the tail when it is written: most lines are shorter.
const MARGIN: usize = 128;

/// Most bytes of one read: what an answer carries.
const MOST_READ: usize = 256 * 1024;

/// The log of one monkey.
#[derive(Debug)]
pub(crate) struct MonkeyLog {
    spool: Arc<Spool>,
    /// Guards the log's bytes: one writer, the monkey, and rare readers; never held over an await.
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// Position of the oldest byte that can be read.
    start: u64,
    /// Position of the first byte of `tail`; what lies between is in blocks.
    spilled: u64,
    tail: Vec<u8>,
    /// How much of the tail is left free when it is written for the first time, so that monkeys that begin together and say the same
    /// do not all write together ever after.
    head_start: u16,
    /// The block of position `start`, and those that follow it.
    blocks: VecDeque<u32>,
}

impl MonkeyLog {
    /// Makes an empty log. It takes memory and disk when it is first written to.
    pub(crate) fn new(spool: Arc<Spool>) -> Self {
        let kept = Kept {
            head_start: head_start(spool.next_log()),
            ..Kept::default()
        };
        Self {
            spool,
            kept: Mutex::new(kept),
        }
    }

    /// Appends what `write` puts into the buffer, whole characters.
    pub(crate) fn append(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut kept = self.lock();
        if kept.tail.capacity() == 0 {
            kept.tail.reserve_exact(TAIL);
        }
        write(&mut kept.tail);
        if kept.tail.len() + MARGIN + usize::from(kept.head_start) > TAIL {
            kept.head_start = 0;
            kept.spill(&self.spool);
        }
    }

    /// Reads at most `limit` bytes from a position on, and at least one character if there is one. What is not kept any
    /// more is skipped.
    pub(crate) fn read(&self, offset: u64, limit: u32) -> LogPart {
        let kept = self.lock();
        let end = kept.end();
        let mut from = offset.clamp(kept.start, end);
        // Room for a whole character behind the end of another, so that a reader always gets ahead.
        let limit = usize::try_from(limit).unwrap_or(MOST_READ).clamp(8, MOST_READ);
        let mut bytes = kept.bytes(from, limit, &self.spool);
        drop(kept);
        // A reader may ask from the middle of a character; the oldest kept byte may be one too.
        let middle = bytes.iter().take_while(|byte| **byte & 0xC0 == 0x80).count();
        bytes.drain(..middle);
        from += middle as u64;
        let whole = bytes.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len());
        bytes.truncate(whole);
        LogPart {
            offset: from,
            text: String::from_utf8(bytes).expect("cut to what is valid"),
            end,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no code panics while it holds a log")
    }
}

impl Drop for MonkeyLog {
    fn drop(&mut self) {
        let blocks = std::mem::take(&mut self.lock().blocks);
        self.spool.give_back(blocks);
    }
}

impl Kept {
    fn end(&self) -> u64 {
        self.spilled + self.tail.len() as u64
    }

    /// Moves the tail to the spool, or, if the disk does not want it, forgets all but its newest part.
    fn spill(&mut self, spool: &Spool) {
        let mut tail = std::mem::take(&mut self.tail);
        let mut rest = tail.as_slice();
        while !rest.is_empty() {
            let at = offset_in_block(self.spilled);
            let (now, later) = rest.split_at(rest.len().min(BLOCK - at));
            let Some(block) = self.block(spool) else { break };
            if spool.write(block, at, now).is_err() {
                break;
            }
            self.spilled += now.len() as u64;
            rest = later;
        }
        let left = rest.len();
        tail.drain(..tail.len() - left);
        if left > 0 {
            self.forget(&mut tail, spool);
        }
        // A long text passed through; most monkeys never write another.
        tail.shrink_to(TAIL);
        self.tail = tail;
        self.drop_old(spool);
    }

    /// Returns the block that position `spilled` belongs to: the last one, or a new one.
    fn block(&mut self, spool: &Spool) -> Option<u32> {
        if self.start == self.spilled {
            // Nothing is in blocks: begin anew here.
            spool.give_back(self.blocks.drain(..));
        }
        let first = block_of(self.start);
        let index = usize::try_from(block_of(self.spilled) - first).expect("a log keeps a few dozen blocks");
        if index == self.blocks.len() {
            let block = match spool.take() {
                Some(block) => block,
                // The file is full: the monkey's own oldest block makes room, if it has more than one.
                None if self.blocks.len() > 1 => {
                    self.start = (first + 1) * BLOCK as u64;
                    self.blocks.pop_front().expect("there are two")
                }
                None => return None,
            };
            self.blocks.push_back(block);
        }
        self.blocks.back().copied()
    }

    /// Gives up everything but the newest half of what should have been written.
    fn forget(&mut self, tail: &mut Vec<u8>, spool: &Spool) {
        spool.give_back(self.blocks.drain(..));
        let mut cut = tail.len().saturating_sub(TAIL / 2);
        while cut < tail.len() && tail[cut] & 0xC0 == 0x80 {
            cut += 1;
        }
        tail.drain(..cut);
        self.spilled += cut as u64;
        self.start = self.spilled;
    }

    fn drop_old(&mut self, spool: &Spool) {
        while self.spilled - self.start >= (KEPT + BLOCK) as u64 {
            let next = (block_of(self.start) + 1) * BLOCK as u64;
            spool.give_back(self.blocks.pop_front());
            self.start = next;
        }
    }

    /// Returns at most `limit` bytes from a position that is kept. Ends early where the disk cannot be read.
    fn bytes(&self, mut from: u64, limit: usize, spool: &Spool) -> Vec<u8> {
        let wanted = usize::try_from(self.end() - from).unwrap_or(limit).min(limit);
        let mut bytes = vec![0; wanted];
        let mut filled = 0;
        while filled < wanted && from < self.spilled {
            let index = usize::try_from(block_of(from) - block_of(self.start)).expect("a log keeps a few dozen blocks");
            let at = offset_in_block(from);
            let here = usize::try_from(self.spilled - from)
                .unwrap_or(BLOCK)
                .min(BLOCK - at)
                .min(wanted - filled);
            if spool
                .read(self.blocks[index], at, &mut bytes[filled..filled + here])
                .is_err()
            {
                bytes.truncate(filled);
                return bytes;
            }
            filled += here;
            from += here as u64;
        }
        if filled < wanted {
            let at = usize::try_from(from - self.spilled).expect("a tail is short");
            bytes[filled..].copy_from_slice(&self.tail[at..at + wanted - filled]);
        }
        bytes
    }
}

/// Returns by how much earlier than later ones the first write of a log comes, spread evenly whatever the number of logs.
fn head_start(number: u32) -> u16 {
    /// 2^32 by the golden ratio: its multiples fill a circle evenly.
    const STEP: u32 = 0x9E37_79B9;
    let part = u64::from(number.wrapping_mul(STEP));
    let early = (part * (TAIL - MARGIN) as u64) >> u32::BITS;
    u16::try_from(early).unwrap_or_default()
}

const fn block_of(position: u64) -> u64 {
    position / BLOCK as u64
}

#[expect(clippy::cast_possible_truncation, reason = "a remainder of BLOCK fits")]
const fn offset_in_block(position: u64) -> usize {
    (position % BLOCK as u64) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log(max_bytes: u64) -> MonkeyLog {
        MonkeyLog::new(Arc::new(Spool::create(None, max_bytes).unwrap()))
    }

    fn append(log: &MonkeyLog, text: &str) {
        log.append(|buffer| buffer.extend_from_slice(text.as_bytes()));
    }

    #[test]
    fn a_reader_that_follows_gets_every_byte_once() {
        let log = log(1 << 30);
        let mut expected = String::new();
        let mut read = String::new();
        for i in 0..3000 {
            let line = format!("line {i} with some tëxt\n");
            append(&log, &line);
            expected.push_str(&line);
            if i % 7 == 0 {
                let part = log.read(read.len() as u64, 500);
                assert_eq!(part.offset, read.len() as u64);
                read.push_str(&part.text);
            }
        }
        loop {
            let part = log.read(read.len() as u64, u32::MAX);
            if part.text.is_empty() {
                break;
            }
            read.push_str(&part.text);
        }
        assert_eq!(read, expected);
    }

    #[test]
    fn old_bytes_go_and_the_rest_keeps_its_positions() {
        let log = log(1 << 30);
        let line = format!("{}\n", "x".repeat(99));
        for _ in 0..10_000 {
            append(&log, &line);
        }
        let part = log.read(0, u32::MAX);
        assert_eq!(part.end, 1_000_000);
        assert!(
            part.offset > 0 && part.end - part.offset >= KEPT as u64,
            "{}",
            part.offset
        );
        assert!(part.end - part.offset <= (KEPT + 3 * BLOCK) as u64, "{}", part.offset);
        assert_eq!(
            log.read(part.end + 5, 10),
            LogPart {
                offset: part.end,
                text: String::new(),
                end: part.end
            }
        );
        assert_eq!(log.read(part.end - 3, 10).text, "xx\n");
    }

    #[test]
    fn monkeys_that_begin_together_do_not_write_together() {
        let spool = Arc::new(Spool::create(None, 1 << 30).unwrap());
        let logs: Vec<_> = (0..1000).map(|_| MonkeyLog::new(spool.clone())).collect();
        let written = || logs.iter().map(|log| log.lock().spilled).sum::<u64>();
        let line = "x".repeat(200);
        let mut rounds = Vec::new();
        for _ in 0..30 {
            let before = written();
            for log in &logs {
                append(log, &line);
            }
            rounds.push(written() - before);
        }
        // No round has much more to write than what is said in one.
        assert!(rounds.iter().all(|round| *round < 300_000), "{rounds:?}");
    }

    #[test]
    fn with_a_full_disk_the_newest_lines_stay() {
        for max_bytes in [0, 4096, 3 * 4096] {
            let log = log(max_bytes);
            for i in 0..1000 {
                append(&log, &format!("line {i} of a log on a small disk\n"));
            }
            let part = log.read(0, u32::MAX);
            assert!(
                part.text.ends_with("line 999 of a log on a small disk\n"),
                "{max_bytes}: {part:?}"
            );
            assert_eq!(part.offset + part.text.len() as u64, part.end);
            assert!(log.spool.size() <= max_bytes);
        }
    }

    #[test]
    fn the_blocks_of_a_dropped_log_are_free_again() {
        let spool = Arc::new(Spool::create(None, 1 << 30).unwrap());
        let log = MonkeyLog::new(spool.clone());
        append(&log, &"x".repeat(50_000));
        assert!(spool.size() > 40_000);
        drop(log);
        assert_eq!(spool.size(), 0);
    }

    proptest! {
        // Each case writes megabytes.
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn any_read_returns_what_was_written_there(
            texts in prop::collection::vec("[aé€😀\n]{0,700}", 1..120),
            reads in prop::collection::vec((0_u64..200_000, 1_u32..3_000), 1..20),
            max_blocks in prop_oneof![Just(0_u64), 1..40_u64, Just(1 << 20)],
        ) {
            let log = log(max_blocks * BLOCK as u64);
            let mut all = String::new();
            for text in &texts {
                append(&log, text);
                all.push_str(text);
            }
            for (offset, limit) in reads {
                let part = log.read(offset, limit);
                prop_assert_eq!(part.end, all.len() as u64);
                let from = usize::try_from(part.offset).unwrap();
                prop_assert!(from >= usize::try_from(offset).unwrap().min(all.len()));
                prop_assert_eq!(&all[from..from + part.text.len()], part.text.as_str());
                prop_assert!(!part.text.is_empty() || part.offset == part.end);
            }
        }
    }
}
