//! Positions in runs, and the heap that finds the least of them.
//!
//! Invariant: a run is sorted, so rows of a series stand together; its tags are encoded once per stretch of rows
//! with the same tags, not once per row, and times are compared as numbers.

use std::cmp::Ordering;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{partition, take};
use arrow::datatypes::UInt64Type;
use arrow::row::Rows;
use futures::StreamExt;

use super::BatchStream;
use super::key::KeyEncoder;
use super::layout::{KeyColumns, Layout};
use super::value;
use crate::sst::Error;

/// The tags, encoded, and the time of a row.
pub(super) type Key<'a> = (&'a [u8], i64);

/// A run and the next row of it.
pub(super) struct Cursor {
    stream: BatchStream,
    /// `None` without tags.
    encoder: Option<KeyEncoder>,
    columns: KeyColumns,
    pub(super) batch: RecordBatch,
    /// The tags of each stretch; `None` without tags.
    tags: Option<Rows>,
    /// The stretch of each row.
    stretches: Vec<u32>,
    times: Vec<i64>,
    sequences: ScalarBuffer<u64>,
    pub(super) position: usize,
    /// Which batch of the output chunk this one is, once rows of it were taken.
    pub(super) held: Option<usize>,
}

impl Cursor {
    pub(super) fn new(layout: &Layout, stream: BatchStream) -> Result<Self, Error> {
        let columns = layout.keys().cloned().ok_or_else(|| Error::BatchShape { detail: "a run without key columns".to_owned() })?;
        let types = columns.tags.iter().map(|p| layout.arrow().field(*p).data_type().clone());
        let encoder = if columns.tags.is_empty() { None } else { Some(KeyEncoder::new(types)?) };
        let batch = RecordBatch::new_empty(layout.arrow().clone());
        let (stretches, times, sequences) = (Vec::new(), Vec::new(), Vec::new().into());
        Ok(Self { stream, encoder, columns, batch, tags: None, stretches, times, sequences, position: 0, held: None })
    }

    /// Goes to the next batch that has rows; `false` at the end of the run.
    pub(super) async fn load(&mut self) -> Result<bool, Error> {
        while let Some(batch) = self.stream.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            self.load_tags(&batch)?;
            let times = value::times(batch.column(self.columns.time));
            let times = times.ok_or_else(|| Error::BatchShape { detail: "time index is not a timestamp".to_owned() })?;
            self.times.clear();
            self.times.extend_from_slice(times);
            let sequences = batch.column(self.columns.sequence).as_primitive_opt::<UInt64Type>();
            let sequences = sequences.ok_or_else(|| Error::BatchShape { detail: "__sequence is not uint64".to_owned() })?;
            self.sequences = sequences.values().clone();
            self.batch = batch;
            self.position = 0;
            self.held = None;
            return Ok(true);
        }
        Ok(false)
    }

    /// Finds the stretches of rows with the same tags and encodes the tags of each.
    fn load_tags(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.stretches.clear();
        let Some(encoder) = &self.encoder else { return Ok(()) };
        let columns: Vec<ArrayRef> = self.columns.tags.iter().map(|p| batch.column(*p).clone()).collect();
        let ranges = partition(&columns).map_err(Error::arrow("find rows of the same tags"))?.ranges();
        for (stretch, range) in ranges.iter().enumerate() {
            self.stretches.extend(std::iter::repeat_n(stretch as u32, range.len()));
        }
        let firsts = UInt32Array::from_iter_values(ranges.iter().map(|range| range.start as u32));
        let columns = columns.iter().map(|column| take(column, &firsts, None)).collect::<Result<Vec<_>, _>>();
        self.tags = Some(encoder.encode(&columns.map_err(Error::arrow("pick tags"))?)?);
        Ok(())
    }

    pub(super) fn rows(&self) -> usize {
        self.batch.num_rows()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.position >= self.rows()
    }

    /// The (primary key, time) of a row.
    pub(super) fn key(&self, row: usize) -> Key<'_> {
        let tags = self.tags.as_ref().map_or(&[][..], |tags| tags.row(self.stretches[row] as usize).data());
        (tags, self.times[row])
    }

    fn cmp_rows(&self, row: usize, other: &Self, other_row: usize) -> Ordering {
        let by_key = self.key(row).cmp(&other.key(other_row));
        by_key.then_with(|| other.sequences[other_row].cmp(&self.sequences[row]))
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.cmp_rows(self.position, other, other.position)
    }

    /// The first row, after the present one, that does not come before the other's present row.
    pub(super) fn advance_before(&self, other: &Self) -> usize {
        let before = |row: usize| self.cmp_rows(row, other, other.position) == Ordering::Less;
        let (mut low, mut step) = (self.position + 1, 1);
        let mut high = low;
        while high < self.rows() && before(high) {
            low = high + 1;
            step *= 2;
            high = high.saturating_add(step);
        }
        let mut high = high.min(self.rows());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

/// A binary heap of positions into a list of cursors, the least first.
#[derive(Default)]
pub(super) struct Heap {
    items: Vec<usize>,
}

impl Heap {
    pub(super) fn build(&mut self, cursors: &[Cursor]) {
        self.items = (0..cursors.len()).collect();
        self.items.sort_by(|a, b| cursors[*a].cmp(&cursors[*b]));
    }

    pub(super) fn first(&self) -> Option<usize> {
        self.items.first().copied()
    }

    /// The least but for the first.
    pub(super) fn second(&self, cursors: &[Cursor]) -> Option<usize> {
        match (self.items.get(1), self.items.get(2)) {
            (Some(a), Some(b)) if cursors[*b].cmp(&cursors[*a]) == Ordering::Less => Some(*b),
            (a, _) => a.copied(),
        }
    }

    /// Removes the first, whose run has ended.
    pub(super) fn pop(&mut self, cursors: &[Cursor]) {
        if !self.items.is_empty() {
            self.items.swap_remove(0);
            self.sift_down(cursors);
        }
    }

    /// Restores the order after the first one's row changed.
    pub(super) fn sift_down(&mut self, cursors: &[Cursor]) {
        let less = |a: usize, b: usize| cursors[a].cmp(&cursors[b]) == Ordering::Less;
        let mut at = 0;
        loop {
            let (left, right) = (2 * at + 1, 2 * at + 2);
            let mut least = at;
            if left < self.items.len() && less(self.items[left], self.items[least]) {
                least = left;
            }
            if right < self.items.len() && less(self.items[right], self.items[least]) {
                least = right;
            }
            if least == at {
                return;
            }
            self.items.swap(at, least);
            at = least;
        }
    }
}
