//! Walks the frames of one segment file.
//!
//! Invariants:
//! - Read-only, and bounded memory: a window over the file and one block.
//! - Says what it saw, valid frames and gaps between them; what a gap means (a torn tail or damage) is for
//!   [`recover`](super::recover) to decide, which knows the other segments.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::frame::{ALIGN, BLOCK_HEADER_BYTES, Block, Side, block_bytes};
use super::header::{HEADER_BYTES, SegmentHeader};
use crate::limits::wal as limits;

/// What there is between the header and the end of a segment, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// A frame of which at least one block is unharmed.
    Frame { offset: u64, block: Block, healed: bool },
    /// Where frame `expected` should be there is none, but something later is known to exist.
    Gap { offset: u64, expected: u64 },
    /// Where frame `expected` should be there is nothing, nor anything after it.
    End { offset: u64, expected: u64 },
}

impl Item {
    /// The frame, if it is one.
    pub(super) fn block(&self) -> Option<&Block> {
        if let Self::Frame { block, .. } = self { Some(block) } else { None }
    }
}

/// A window over a file, moved by reading.
pub(super) struct Window<'a> {
    file: &'a File,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    /// The bytes from `offset` on, `len` of them or as many as the file has.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        let end = offset.saturating_add(len as u64);
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.fill(offset, len.max(limits::SCAN_WINDOW_BYTES))?;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX).min(self.bytes.len());
        let to = from.saturating_add(len).min(self.bytes.len());
        Ok(&self.bytes[from..to])
    }

    fn fill(&mut self, offset: u64, len: usize) -> io::Result<()> {
        let left = self.file.metadata()?.len().saturating_sub(offset);
        let len = len.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.start = offset;
        self.bytes.resize(len, 0);
        let mut done = 0;
        while done < len {
            match self.file.read_at(&mut self.bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.bytes.clear();
                    return Err(e);
                }
            }
        }
        self.bytes.truncate(done);
        Ok(())
    }

    /// The valid block at `offset`, if there is one.
    fn block(&mut self, offset: u64, side: Side, salt: u64, file_bytes: u64) -> io::Result<Option<Block>> {
        let Some(len) = Block::peek(self.get(offset, BLOCK_HEADER_BYTES)?, side, salt) else { return Ok(None) };
        // A damaged count must not make us read (and allocate) beyond the file.
        if offset.saturating_add(len as u64) > file_bytes {
            return Ok(None);
        }
        Ok(Block::decode(self.get(offset, len)?, side, salt))
    }

    /// The first valid block after `offset` of a frame in `wanted`: the frame's offset, the frame, whether only
    /// its tail is unharmed.
    fn find(&mut self, offset: u64, wanted: std::ops::Range<u64>, salt: u64, end: u64) -> io::Result<Option<(u64, Block, bool)>> {
        let mut at = offset;
        let salt_bytes = salt.to_le_bytes();
        while at + BLOCK_HEADER_BYTES as u64 <= end {
            let step = self.get(at, limits::SCAN_WINDOW_BYTES)?;
            if step.len() < BLOCK_HEADER_BYTES {
                break;
            }
            // The salt is the second word of a block; words before the last few of this step are looked at here.
            let words = (step.len() - BLOCK_HEADER_BYTES) / ALIGN + 1;
            let hit = step[8..].chunks_exact(ALIGN).take(words).position(|word| word == salt_bytes);
            let Some(hit) = hit else {
                at += (words * ALIGN) as u64;
                continue;
            };
            at += (hit * ALIGN) as u64;
            for side in [Side::Head, Side::Tail] {
                let Some(block) = self.block(at, side, salt, end)? else { continue };
                let before = if side == Side::Head { 0 } else { block.payload_bytes() + block_bytes(block.directory.len()) as u64 };
                let start = at.checked_sub(before).filter(|start| *start >= offset);
                if let (Some(start), true) = (start, wanted.contains(&block.number)) {
                    return Ok(Some((start, block, side == Side::Tail)));
                }
            }
            at += ALIGN as u64;
        }
        Ok(None)
    }
}

/// Everything in the segment `file` up to frame `next_first` (exclusive), which is where the next segment begins.
///
/// The last item is a `Gap` or an `End` unless all frames up to `next_first` are there.
pub(super) fn walk(file: &File, header: &SegmentHeader, next_first: Option<u64>) -> io::Result<Vec<Item>> {
    let file_bytes = file.metadata()?.len();
    let mut window = Window::new(file);
    let mut items = Vec::new();
    let (mut offset, mut expected) = (HEADER_BYTES as u64, header.first_frame);
    let limit = next_first.unwrap_or(u64::MAX);
    while expected < limit {
        let head = window.block(offset, Side::Head, header.salt, file_bytes)?.filter(|b| b.number == expected);
        let (block, healed) = match head {
            Some(block) => (block, false),
            None => match window.find(offset, expected..limit, header.salt, file_bytes)? {
                Some((start, block, healed)) => {
                    if start != offset || block.number != expected {
                        items.push(Item::Gap { offset, expected });
                    }
                    offset = start;
                    (block, healed)
                }
                None => {
                    items.push(match next_first {
                        Some(_) => Item::Gap { offset, expected },
                        None => Item::End { offset, expected },
                    });
                    return Ok(items);
                }
            },
        };
        let next = offset + block.frame_bytes();
        expected = block.number + 1;
        items.push(Item::Frame { offset, block, healed });
        offset = next;
    }
    Ok(items)
}
