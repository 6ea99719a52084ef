//! The next row of a run.

use std::sync::Arc;

use futures::StreamExt;

use super::block::{Block, BlockStream};
use super::overwrite::Overwrites;
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
    /// Rows of those with the values of others.
    pub(super) overwrites: Overwrites,
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
            overwrites: Overwrites::default(),
        }
    }

    /// Goes to the next block that has rows; `false` at the end of the run.
    pub(super) async fn load(&mut self) -> Result<bool, Error> {
        (self.block, self.position, self.stretch, self.held) = (None, 0, 0, None);
        self.kept.clear();
        self.overwrites.clear();
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

    /// The present row, and what stays of the block from there on.
    #[inline]
    pub(super) fn rest(&mut self) -> (usize, Rest<'_>) {
        let Self { block, kept, overwrites, gap, rank, position, .. } = self;
        let block = block.as_ref().expect("a cursor in use has a block: it is dropped when load finds none");
        (*position, Rest { block, gap, overwrites, kept, rank: *rank, from: *position })
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

    /// The time of the last row of the series in this block.
    #[inline]
    pub(super) fn last_time(&self) -> i64 {
        self.block().times[self.series_end() - 1]
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
            Some(time) if self.last_time() >= time => self.seek(time),
            _ => series_end,
        };
        // The next block may go on with the same key.
        let end = end - usize::from(self.duplicates && end == self.block().rows());
        (end > self.position).then_some(end)
    }
}

/// What stays of a cursor's block.
pub(super) struct Rest<'a> {
    pub(super) block: &'a Block,
    pub(super) gap: &'a mut Gap,
    pub(super) overwrites: &'a mut Overwrites,
    kept: &'a mut Vec<(u32, u32)>,
    rank: u64,
    /// The first row that is not decided.
    from: usize,
}

impl Rest<'_> {
    /// As [`Cursor::sequence_at`].
    #[inline]
    pub(super) fn sequence_at(&self, row: usize) -> u64 {
        self.block.sequences.as_ref().map_or(self.rank, |sequences| sequences[row])
    }

    /// Keeps the rows of `from..end`, but for deletes if they are dropped.
    #[inline]
    pub(super) fn keep(&mut self, from: usize, end: usize, drop_deletes: bool) {
        if from >= end {
            return;
        }
        let kept = &mut *self.kept;
        self.block.live_pieces(from, end, drop_deletes, |from, rows| {
            let (from, rows) = (from as u32, rows as u32);
            match kept.last_mut() {
                Some((start, count)) if *start + *count == from => *count += rows,
                _ => kept.push((from, rows)),
            }
        });
    }

    /// Keeps the rows that are not decided up to `end`, but for deletes if they are dropped.
    #[inline]
    pub(super) fn keep_until(&mut self, end: usize, drop_deletes: bool) {
        self.keep(self.from, end, drop_deletes);
        self.from = end;
    }

    /// Keeps those up to some rows, and not these: every so-many-th from one on.
    #[inline]
    fn leave_out(&mut self, (first, step): (usize, usize), rows: usize, drop_deletes: bool) {
        if step == 1 {
            self.keep_until(first, drop_deletes);
            self.from = first + rows;
            return;
        }
        for row in (first..).step_by(step).take(rows) {
            self.keep_until(row, drop_deletes);
            self.from = row + 1;
        }
    }

    /// Rows (the first, and the step to the next) lose against as many of another block, which `overwrite`, if given, knows by its
    /// number once it was asked for: they are left out, or stay with the values of the others, which are left out then.
    #[inline(always)]
    pub(super) fn lose(
        &mut self,
        own: (usize, usize),
        to: &mut Rest<'_>,
        by: (usize, usize),
        rows: usize,
        overwrite: Option<&mut Option<Option<u32>>>,
        drop_deletes: bool,
    ) {
        let number = overwrite.and_then(|number| *number.get_or_insert_with(|| self.overwrites.block(to.block)));
        match number {
            Some(block) => {
                self.overwrites.push(own, block, by, rows);
                to.leave_out(by, rows, drop_deletes);
            }
            None => self.leave_out(own, rows, drop_deletes),
        }
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
