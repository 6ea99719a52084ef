//! Parquet's DELTA_BINARY_PACKED: what each value has more than the one before, less the least of its block, as packed bits.
//!
//! ```text
//! varint(values of a block) varint(miniblocks of a block) varint(values) zigzag(first value)
//! block:  zigzag(least difference) | a byte of width for each miniblock | the miniblocks
//! ```

use bytes::Bytes;
use parquet::errors::ParquetError;

use super::bits;
use super::word::Word;
use super::{damaged, varint};

/// Values of a miniblock, at most; writers have 32 or 64.
const MINIBLOCK_MAX: usize = 4096;
/// Miniblocks of a block, at most; writers have 4.
const MINIBLOCKS_MAX: usize = 512;

/// Differences unpacked at a time; so many of any width are whole bytes.
const CHUNK: usize = 64;

/// The values of a page.
#[derive(Debug)]
pub(super) struct Delta<T> {
    bytes: Bytes,
    at: usize,
    /// Values of a miniblock.
    mini: usize,
    /// Widths of the miniblocks of a block; those from `next` on are still to come.
    widths: Vec<u8>,
    miniblocks: usize,
    next: usize,
    least: u64,
    /// The value before the next one.
    last: u64,
    /// Values of the page beyond those in `held`.
    left: usize,
    /// Decoded values, of which the first `used` are used up.
    held: Vec<T>,
    used: usize,
    unpacked: Box<[u64; CHUNK]>,
}

fn unzigzag(value: u64) -> u64 {
    (value >> 1) ^ (value & 1).wrapping_neg()
}

impl<T: Word> Delta<T> {
    pub(super) fn new(bytes: Bytes) -> Result<Self, ParquetError> {
        let mut at = 0;
        let block = varint(&bytes, &mut at)?;
        let miniblocks = varint(&bytes, &mut at)?;
        let left = varint(&bytes, &mut at)?;
        let first = unzigzag(varint(&bytes, &mut at)?);
        let mini = block.checked_div(miniblocks).unwrap_or(0);
        let sound = block.is_multiple_of(128) && mini * miniblocks == block && mini.is_multiple_of(32);
        let size = |value: u64, most: usize| usize::try_from(value).ok().filter(|value| sound && (1..=most).contains(value));
        let sizes = size(miniblocks, MINIBLOCKS_MAX).zip(size(mini, MINIBLOCK_MAX));
        let (miniblocks, mini) = sizes.ok_or_else(|| damaged("blocks of differences have no possible size"))?;
        let left = usize::try_from(left).map_err(|_| damaged("a page has too many values"))?;
        let mut held = Vec::with_capacity(mini);
        held.extend((left > 0).then_some(T::low(first)));
        let left = left.saturating_sub(1);
        Ok(Self {
            bytes,
            at,
            mini,
            widths: Vec::new(),
            miniblocks,
            next: miniblocks,
            least: first,
            last: first,
            left,
            held,
            used: 0,
            unpacked: Box::new([0; CHUNK]),
        })
    }

    /// Decodes the next miniblock, once all that is held is used up.
    fn refill(&mut self) -> Result<(), ParquetError> {
        if self.left == 0 {
            return Err(damaged("a page has fewer values than it says"));
        }
        if self.next == self.miniblocks {
            self.least = unzigzag(varint(&self.bytes, &mut self.at)?);
            let widths = self.bytes.get(self.at..self.at.saturating_add(self.miniblocks));
            let widths = widths.ok_or_else(|| damaged("a block of differences has no widths"))?;
            self.widths.clear();
            self.widths.extend_from_slice(widths);
            self.at += self.miniblocks;
            self.next = 0;
        }
        let width = usize::from(self.widths[self.next]);
        if width > T::BYTES * 8 {
            return Err(damaged("differences are wider than their values"));
        }
        self.next += 1;
        let count = self.mini.min(self.left);
        let packed = self.bytes.get(self.at..).unwrap_or_default();
        // Some writers cut the last miniblock behind its last value.
        if packed.len() < (count * width).div_ceil(8) {
            return Err(damaged("a block of differences is cut"));
        }
        self.held.clear();
        self.used = 0;
        for from in (0..count).step_by(CHUNK) {
            let values = &mut self.unpacked[..CHUNK.min(count - from)];
            let packed = packed.get(from * width / 8..).unwrap_or_default();
            let done = bits::add_up(packed, width, self.last, self.least, values);
            let mut last = done.checked_sub(1).map_or(self.last, |last| values[last]);
            for (value, out) in values.iter_mut().enumerate().skip(done) {
                last = last.wrapping_add(self.least).wrapping_add(bits::get(packed, width, value));
                *out = last;
            }
            self.last = last;
            self.held.extend(values.iter().map(|value| T::low(*value)));
        }
        self.left -= count;
        self.at = self.at.saturating_add(self.mini * width / 8).min(self.bytes.len());
        Ok(())
    }

    /// Hands the next values on, as slices.
    fn each(&mut self, mut rows: usize, mut to: impl FnMut(&[T])) -> Result<(), ParquetError> {
        while rows > 0 {
            if self.used == self.held.len() {
                self.refill()?;
            }
            let count = rows.min(self.held.len() - self.used);
            to(&self.held[self.used..self.used + count]);
            self.used += count;
            rows -= count;
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, rows: usize) -> Result<(), ParquetError> {
        self.each(rows, |_| {})
    }

    pub(super) fn read(&mut self, rows: usize, out: &mut Vec<T>) -> Result<(), ParquetError> {
        self.each(rows, |values| out.extend_from_slice(values))
    }
}
