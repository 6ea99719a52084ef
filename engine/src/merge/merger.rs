//! The merge itself, in two levels: series by key, and within a series rows by time.
//!
//! Invariants:
//! - *Group*: the cursors whose present row is of the least series; all others wait, ordered by key. A cursor that
//!   leaves the series goes back to the waiting ones, so tags are compared once per series and not once per row.
//! - A stretch of rows that come before every other row of the group goes out as one piece.
//! - The two first cursors of a group go through their rows together up to the third, where each key is decided by its
//!   newest row alone: that is what overlapping files mostly are.
//! - Other rows of one (primary key, time) come by sequence descending and are decided one by one.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::collections::VecDeque;
use std::mem;

use arrow::array::RecordBatch;

use super::block::Need;
use super::cursor::{At, Cursor, Rest};
use super::gather::{Chunk, Place};
use super::pair::{Side, Tie, interleave, ties};
use super::{BATCH_ROWS, Dedup, Seen};
use crate::sst::Error;

/// Input blocks that one output batch may refer to.
const CHUNK_BLOCKS_MAX: usize = 256;
/// Bytes of the blocks that a chunk keeps from which on a fair number of rows is enough.
const CHUNK_BYTES_MAX: usize = 32 << 20;

/// In which order rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowOrder {
    /// By (primary key, time).
    Key,
    /// In any: rows of each input block stay together, and are not copied if all of them go out.
    Any,
}

/// How rows are chosen.
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) dedup: Dedup,
    pub(super) drop_deletes: bool,
    pub(super) order: RowOrder,
    /// Only the last row of each series goes out, of those that are not in `Seen` yet; needs the order by key.
    pub(super) last_rows: Option<Seen>,
}

/// The (primary key, time) that is being decided.
#[derive(Default)]
struct OpenKey {
    time: Option<i64>,
    /// Older rows do not count any more.
    done: bool,
    /// Of `LastNonNull`: the rows that count, newest first, and the delete below them.
    puts: Vec<Place>,
    delete: Option<Place>,
}

pub(super) struct Merger {
    need: Need,
    policy: Policy,
    cursors: Vec<Cursor>,
    started: bool,
    /// Cursors by key descending, each with whether the one before it has the same key.
    waiting: Vec<(usize, bool)>,
    /// (time of the present row, cursor): the later first, and of one time the older first.
    group: Vec<(i64, usize)>,
    group_key: Vec<u8>,
    open: OpenKey,
    chunk: Chunk,
    ready: VecDeque<RecordBatch>,
    /// Cursors of the group that need their next block.
    drained: Vec<usize>,
    /// The last row of the series so far, and its time.
    last: Option<(Place, i64)>,
    /// The series is not wanted.
    skip: bool,
}

impl Merger {
    pub(super) fn new(need: Need, policy: Policy, cursors: Vec<Cursor>) -> Self {
        let (waiting, group, group_key) = (Vec::new(), Vec::new(), Vec::new());
        let (open, chunk, ready, drained) = (OpenKey::default(), Chunk::default(), VecDeque::new(), Vec::new());
        Self { need, policy, cursors, started: false, waiting, group, group_key, open, chunk, ready, drained, last: None, skip: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        if !self.started {
            self.started = true;
            for cursor in 0..self.cursors.len() {
                if self.cursors[cursor].load().await? {
                    self.wait(cursor);
                }
            }
        }
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.is_full() {
                let batch = self.chunk.take(&self.need.assembly)?;
                self.cursors.iter_mut().for_each(|cursor| cursor.held = None);
                self.resume_series();
                self.ready.extend(batch);
                continue;
            }
            if !self.run()? {
                return self.chunk.take(&self.need.assembly);
            }
            while let Some(drained) = self.drained.pop() {
                self.reload(drained).await?;
            }
        }
    }

    /// Goes on until a block is needed or the chunk is full; `false` when there are no rows any more.
    fn run(&mut self) -> Result<bool, Error> {
        while self.drained.is_empty() && !self.is_full() {
            if self.group.is_empty() {
                // The last row of a series is kept from here on, so that the chunk may be full by it.
                self.end_series()?;
                if self.is_full() {
                    break;
                }
                if !self.next_series() {
                    return Ok(false);
                }
            }
            self.step();
        }
        Ok(true)
    }

    #[inline]
    fn is_full(&self) -> bool {
        let undecided = self.last.is_some() || !self.open.puts.is_empty() || self.open.delete.is_some();
        let large = self.chunk.bytes() >= CHUNK_BYTES_MAX && self.chunk.rows() >= BATCH_ROWS / 8;
        !undecided && (large || self.chunk.rows() >= BATCH_ROWS || self.chunk.blocks() >= CHUNK_BLOCKS_MAX)
    }

    /// Puts a cursor among the waiting ones.
    fn wait(&mut self, cursor: usize) {
        let Self { cursors, waiting, .. } = self;
        let key = cursors[cursor].key();
        // Files of one region mostly have the same series, so it mostly is one that is waited for already.
        let least = waiting.last().map_or(Less, |(least, _)| key.cmp(cursors[*least].key()));
        if least != Greater {
            waiting.push((cursor, least == Equal));
            return;
        }
        let at = waiting.partition_point(|(other, _)| cursors[*other].key() > key);
        if let Some((other, same)) = waiting.get_mut(at) {
            *same = cursors[*other].key() == key;
        }
        waiting.insert(at, (cursor, false));
    }

    /// Forms the group of the least series, when the one before it has ended; `false` when there are no rows any more.
    fn next_series(&mut self) -> bool {
        let Some((first, mut same)) = self.waiting.pop() else { return false };
        self.join(first);
        self.group_key.clear();
        self.group_key.extend_from_slice(self.cursors[first].key());
        while same && let Some((next, more)) = self.waiting.pop() {
            self.join(next);
            same = more;
        }
        self.skip = self.policy.last_rows.as_ref().is_some_and(|seen| seen.contains(&self.group_key));
        self.resume_series();
        true
    }

    /// Tells the chunk which series comes.
    fn resume_series(&mut self) {
        if self.need.assembly.has_tags()
            && let Some((_, first)) = self.group.first()
        {
            let (table, series) = self.cursors[*first].series();
            self.chunk.begin_series(table, series);
        }
    }

    fn end_series(&mut self) -> Result<(), Error> {
        self.close_key();
        self.skip = false;
        if let Some(((block, row), time)) = self.last.take() {
            self.chunk.push(block, row as usize, 1);
            if let Some(seen) = &self.policy.last_rows {
                seen.add(&self.group_key, time)?;
            }
        }
        Ok(())
    }

    /// Puts a cursor into the group.
    fn join(&mut self, cursor: usize) {
        let time = self.cursors[cursor].time();
        let sequence = |cursor: usize| self.cursors[cursor].sequence();
        let mut at = self.group.len();
        while at > 0 {
            let (other_time, other) = self.group[at - 1];
            if other_time > time || (other_time == time && sequence(other) < sequence(cursor)) {
                break;
            }
            at -= 1;
        }
        self.group.insert(at, (time, cursor));
    }

    /// Decides at least one row of the group, which is not empty.
    fn step(&mut self) {
        let Some((time, best)) = self.group.pop() else { return };
        if let Some((_, next)) = self.group.last().copied()
            && self.step_pair(time, best, next)
        {
            return;
        }
        let bound = self.group.last().map(|(time, _)| *time);
        let cursor = &self.cursors[best];
        let from = cursor.position;
        let mut end = from;
        if bound.is_none_or(|bound| time < bound) && self.open.time != Some(time) && !self.has_duplicates(cursor) {
            end = bound.map_or(cursor.series_end(), |bound| cursor.seek(bound));
            // The next block may go on with the same key.
            end -= usize::from(cursor.duplicates && end == cursor.block().rows());
        }
        if end > from {
            self.close_key();
            self.push(best, from, end);
        } else {
            self.decide(best, time);
            end = from + 1;
        }
        self.go(best, end);
    }

    /// Takes a cursor on, which is not in the group, and puts it where it belongs.
    fn go(&mut self, cursor: usize, position: usize) {
        match self.cursors[cursor].go(position) {
            At::SameSeries => self.join(cursor),
            At::NextSeries => self.wait(cursor),
            At::End => self.drained.push(cursor),
        }
    }

    /// Decides rows of the two first cursors of the group, of which `best` was taken out, up to the third; `false` if that
    /// is not possible.
    fn step_pair(&mut self, time: i64, best: usize, next: usize) -> bool {
        if self.policy.dedup != Dedup::LastRow || self.policy.last_rows.is_some() || self.open.time == Some(time) {
            return false;
        }
        let third = self.group.len().checked_sub(2).map(|at| self.group[at].0);
        // No row of the one goes out that lies behind all of the other, so one bound is enough for both, and none is needed where
        // the other ends before it.
        let third = third.filter(|third| self.cursors[next].last_time() >= *third);
        let Some(best_end) = self.cursors[best].single_until(third) else { return false };
        let Some(next_end) = self.cursors[next].single_until(None) else { return false };
        self.close_key();
        self.group.pop();
        let pair = [(best, best_end), (next, next_end)];
        let passed = if self.policy.order == RowOrder::Key { self.pass_in_order(pair) } else { self.pass_in_any_order(pair) };
        self.go(best, passed.0);
        self.go(next, passed.1);
        true
    }

    /// Hands the rows of two cursors up to an end each to the chunk, in order of time. Returns the rows behind those that are
    /// decided.
    fn pass_in_order(&mut self, pair: [(usize, usize); 2]) -> (usize, usize) {
        let Self { cursors, chunk, policy, .. } = self;
        let held = pair.map(|(cursor, _)| hold(&mut cursors[cursor], chunk));
        let (left, right) = (&cursors[pair[0].0], &cursors[pair[1].0]);
        let (l, r) = (left.position, right.position);
        let (left_times, right_times) = (&left.block().times[l..pair[0].1], &right.block().times[r..pair[1].1]);
        let left_wins = |a: usize, b: usize| left.sequence_at(l + a) > right.sequence_at(r + b);
        let (left_block, right_block, drop) = (left.block(), right.block(), policy.drop_deletes);
        let mut gaps = (left.gap, right.gap);
        let passed = interleave(left_times, right_times, &mut gaps, left_wins, |side, from, end| match side {
            Side::Left => left_block.live_pieces(l + from, l + end, drop, |from, rows| chunk.push(held[0], from, rows)),
            Side::Right => right_block.live_pieces(r + from, r + end, drop, |from, rows| chunk.push(held[1], from, rows)),
        });
        (cursors[pair[0].0].gap, cursors[pair[1].0].gap) = gaps;
        (l + passed.0, r + passed.1)
    }

    /// Adds the rows of two cursors up to an end each to what is kept of their blocks. Of two rows of a key the one that loses is
    /// left out, or, where it mostly has more neighbours that stay, is shown with the values of the other, which is left out then.
    /// Returns the rows behind those that are decided.
    fn pass_in_any_order(&mut self, pair: [(usize, usize); 2]) -> (usize, usize) {
        let Self { cursors, policy, need, .. } = self;
        let [left, right] = cursors.get_disjoint_mut([pair[0].0, pair[1].0]).expect("two cursors of a group");
        let (rank_above, drop) = (left.rank_above(right), policy.drop_deletes);
        let ((l, mut left), (r, mut right)) = (left.rest(), right.rest());
        let (left_times, right_times) = (&left.block.times[l..pair[0].1], &right.block.times[r..pair[1].1]);
        let overwrites = need.assembly.overwrites && left.block.op_types.is_none() && right.block.op_types.is_none();
        let mut gaps = (*left.gap, *right.gap);
        let (into_left, into_right) = (overwrites && gaps.0.is_wider(gaps.1), overwrites && gaps.1.is_wider(gaps.0));
        let mut number = None;
        let mut lose = |left: &mut Rest<'_>, right: &mut Rest<'_>, left_wins: bool, tie: Tie| {
            if left_wins {
                right.lose(tie.right, left, tie.left, tie.rows, into_right.then_some(&mut number), drop);
            } else {
                left.lose(tie.left, right, tie.right, tie.rows, into_left.then_some(&mut number), drop);
            }
        };
        let passed = ties(left_times, right_times, &mut gaps, |tie| {
            let tie = tie.behind(l, r);
            match rank_above {
                Some(left_wins) => lose(&mut left, &mut right, left_wins, tie),
                None => tie.singles().for_each(|tie| {
                    let left_wins = left.sequence_at(tie.left.0) > right.sequence_at(tie.right.0);
                    lose(&mut left, &mut right, left_wins, tie);
                }),
            }
        });
        let ends = (l + passed.0, r + passed.1);
        left.keep_until(ends.0, drop);
        right.keep_until(ends.1, drop);
        (*left.gap, *right.gap) = gaps;
        ends
    }

    /// Whether rows of the cursor's block must be decided one by one.
    fn has_duplicates(&self, cursor: &Cursor) -> bool {
        cursor.block_duplicates && (self.policy.dedup != Dedup::Keep || cursor.block().op_types.is_some())
    }

    /// Rows of which each is the only one of its key.
    fn push(&mut self, cursor: usize, from: usize, end: usize) {
        let Self { cursors, chunk, policy, last, skip, .. } = self;
        if *skip {
            return;
        }
        let cursor = &mut cursors[cursor];
        if policy.last_rows.is_none() && policy.order == RowOrder::Any {
            cursor.rest().1.keep(from, end, policy.drop_deletes);
            return;
        }
        let held = hold(cursor, chunk);
        let block = cursor.block();
        if policy.last_rows.is_some() {
            block.live_pieces(from, end, policy.drop_deletes, |from, rows| {
                let row = from + rows - 1;
                *last = Some(((held, row as u32), block.times[row]));
            });
        } else {
            block.live_pieces(from, end, policy.drop_deletes, |from, rows| chunk.push(held, from, rows));
        }
    }

    /// A row of a key that has others.
    fn decide(&mut self, cursor: usize, time: i64) {
        if self.open.time != Some(time) {
            self.close_key();
            self.open.time = Some(time);
        }
        if self.open.done {
            return;
        }
        let row = self.cursors[cursor].position;
        let delete = self.cursors[cursor].block().is_delete(row);
        match self.policy.dedup {
            Dedup::LastRow => {
                self.open.done = true;
                self.push(cursor, row, row + 1);
            }
            Dedup::Keep => {
                self.open.done = delete;
                self.push(cursor, row, row + 1);
            }
            Dedup::LastNonNull => {
                let place = (hold(&mut self.cursors[cursor], &mut self.chunk), row as u32);
                if delete {
                    self.open.done = true;
                    self.open.delete = Some(place);
                } else {
                    self.open.puts.push(place);
                }
            }
        }
    }

    /// No more rows of the open key come.
    fn close_key(&mut self) {
        let Some(time) = self.open.time else { return };
        let OpenKey { puts, delete, .. } = mem::take(&mut self.open);
        let put = match puts[..] {
            [] => None,
            [put] => Some(put),
            _ => Some(self.chunk.merged(puts)),
        };
        if self.policy.last_rows.is_some() {
            self.last = put.filter(|_| !self.skip).map(|put| (put, time)).or(self.last);
            return;
        }
        let delete = delete.filter(|_| !self.policy.drop_deletes);
        for (block, row) in put.into_iter().chain(delete) {
            self.chunk.push(block, row as usize, 1);
        }
    }

    /// Loads a cursor's next block and puts it where it belongs.
    async fn reload(&mut self, cursor: usize) -> Result<(), Error> {
        self.finish_block(cursor)?;
        let more = self.cursors[cursor].load().await?;
        if more && self.cursors[cursor].key() == self.group_key {
            self.join(cursor);
        } else if more {
            self.wait(cursor);
        }
        Ok(())
    }

    /// Hands out what goes out of a block in any order.
    fn finish_block(&mut self, cursor: usize) -> Result<(), Error> {
        let cursor = &mut self.cursors[cursor];
        if let Some(block) = cursor.block.take().filter(|_| !cursor.kept.is_empty()) {
            self.ready.push_back(block.into_batch(&self.need.assembly, &cursor.kept, &cursor.overwrites)?);
        }
        if self.policy.last_rows.is_some()
            && let Some(held) = cursor.held
            && !self.open.puts.iter().chain(self.last.iter().map(|(place, _)| place)).any(|(block, _)| *block == held)
        {
            self.chunk.release(held);
        }
        Ok(())
    }
}

fn hold(cursor: &mut Cursor, chunk: &mut Chunk) -> u32 {
    match cursor.held {
        Some(held) => held,
        None => {
            let held = chunk.hold(cursor.block());
            cursor.held = Some(held);
            held
        }
    }
}
