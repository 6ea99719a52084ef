//! The next row of a run.

use std::sync::Arc;

use futures::StreamExt;

use super::block::{Block, BlockStream};
use super::pair::{Gap, seek};
use super::series::{SeriesTable, Stretch};
use crate::sst::Error;

/// A run and its next row.
pub(super) struct Cursor {
    blocks: BlockStream,
    /// Whether a key may be there more than once.
    pub(super) duplicates: bool,
    /// Whether one is within the present block.
    pub(super) block_duplicates: bool,
    /// Stands for the sequence of rows whose own is not needed.
    rank: u64,
    pub(super) block: Option<Block>,
    pub(super) position: usize,
    stretch: usize,
    pub(super) gap: Gap,
    /// Where the present block is in the output chunk, once rows of it were taken.
    pub(super) held: Option<u32>,
    /// Rows of the present block that go out: (first, rows), ascending.
    pub(super) kept: Vec<(u32, u32)>,
}

impl Cursor {
    pub(super) fn new(blocks: BlockStream, duplicates: bool, rank: u64) -> Self {
        Self {
            blocks,
            duplicates,
            block_duplicates: false,
            rank,
            block: None,
            position: 0,
            stretch: 0,
            gap: Gap::default(),
            held: None,
            kept: Vec::new(),
        }
    }

    /// Goes to the next block that has rows; `false` at the end of the run.
    pub(super) async fn load(&mut self) -> Result<bool, Error> {
        (self.block, self.position, self.stretch, self.held) = (None, 0, 0, None);
        self.kept.clear();
        while let Some(block) = self.blocks.next().await {
            let block = block?;
            if block.rows() > 0 {
                debug_assert_eq!(block.stretches.rows() as usize, block.rows());
                // Equal times of different series are counted too: that costs time only.
                self.block_duplicates = self.duplicates && block.times.windows(2).any(|pair| pair[0] == pair[1]);
                self.block = Some(block);
                return Ok(true);
            }
        }
        Ok(false)
    }

    #[inline]
    pub(super) fn block(&self) -> &Block {
        self.block.as_ref().expect("a cursor in use has a block: it is dropped when load finds none")
    }

    #[inline]
    fn stretch(&self) -> Stretch {
        self.block().stretches.list[self.stretch]
    }

    pub(super) fn series(&self) -> (&Arc<SeriesTable>, u32) {
        (&self.block().stretches.table, self.stretch().series)
    }

    /// The tags of the present row.
    #[inline]
    pub(super) fn key(&self) -> &[u8] {
        self.block().stretches.table.key(self.stretch().series)
    }

    /// The row behind the last of the present series in this block.
    #[inline]
    pub(super) fn series_end(&self) -> usize {
        self.stretch().end as usize
    }

    #[inline]
    pub(super) fn time(&self) -> i64 {
        self.block().times[self.position]
    }

    #[inline]
    pub(super) fn sequence(&self) -> u64 {
        self.sequence_at(self.position)
    }

    /// The sequence of a row of the block.
    #[inline]
    pub(super) fn sequence_at(&self, row: usize) -> u64 {
        self.block().sequences.as_ref().map_or(self.rank, |sequences| sequences[row])
    }

    /// Whether all rows of this run are newer than those of another; `None` if that differs from row to row.
    #[inline]
    pub(super) fn rank_above(&self, other: &Self) -> Option<bool> {
        (self.block().sequences.is_none() && other.block().sequences.is_none()).then_some(self.rank > other.rank)
    }

    /// Goes to `position`, which is not behind the end of the series. Says what lies there.
    #[inline]
    pub(super) fn go(&mut self, position: usize) -> At {
        self.position = position;
        if position < self.series_end() {
            At::SameSeries
        } else if position < self.block().rows() {
            self.stretch += 1;
            At::NextSeries
        } else {
            At::End
        }
    }

    /// The first row of the series, from the present one on, whose time is not below `time`.
    pub(super) fn seek(&self, time: i64) -> usize {
        seek(&self.block().times[..self.series_end()], self.position, time)
    }

    /// The end of rows of the series, from the present one on, that lie before `time` and of which each is the only one of
    /// its key in this run; `None` if there are none.
    #[inline]
    pub(super) fn single_until(&self, time: Option<i64>) -> Option<usize> {
        if self.block_duplicates {
            return None;
        }
        let series_end = self.series_end();
        let end = match time {
            Some(time) if self.block().times[series_end - 1] >= time => self.seek(time),
            _ => series_end,
        };
        // The next block may go on with the same key.
        let end = end - usize::from(self.duplicates && end == self.block().rows());
        (end > self.position).then_some(end)
    }
}

/// Where a cursor came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    SameSeries,
    NextSeries,
    /// The end of the block.
    End,
}
