//! The k-way merge of sorted runs, with dedup by (primary key, time).
//!
//! Invariants:
//! - A *run* is a stream of batches of one merging [`Layout`], ordered by (primary key, time, sequence
//!   descending) in the one total order of values, and holds each (primary key, time) once. Memtable snapshots
//!   and SSTs give such runs.
//! - Of all rows with one (primary key, time) the one with the highest sequence wins; if that is a delete, the
//!   key is gone.
//! - Memory: one batch per run, and one output batch.
//! - Rows may be left out of a run before the merge only by what is the same for all rows of a key: a predicate
//!   on tags and time index. Leaving out the newest row by its fields would bring an older one back.

mod cursor;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod key;
pub mod layout;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch, interleave_record_batch};
use arrow::datatypes::UInt8Type;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};

use cursor::{Cursor, Heap};
pub use layout::Layout;

use crate::sst::Error;

/// Rows of an output batch, about.
pub const BATCH_ROWS: usize = 8192;

/// From this many rows per piece on, pieces are copied as a whole rather than row by row.
const PIECE_ROWS_MIN: usize = 16;

/// A stream of batches.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, Error>>;

/// A sorted run.
pub struct Run {
    /// Its batches.
    pub stream: BatchStream,
    /// Whether it may hold deletes.
    pub deletes: bool,
}

/// What becomes of rows with the same (primary key, time).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedup {
    /// The newest wins.
    LastRow,
    /// All stay, in order of sequence descending.
    Keep,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Batches of the layout, internal columns and deletes included: for an SST.
    Storage,
    /// The wanted columns of visible rows.
    User,
}

/// How to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// About rows of one key.
    pub dedup: Dedup,
    /// What comes out.
    pub output: Output,
}

/// Merges runs into one stream in (primary key, time) order. Dropping the stream ends the work.
///
/// # Errors
/// [`Error::BatchShape`] for a plain layout; the stream gives the first error of any run and ends.
pub fn merge(layout: Arc<Layout>, runs: Vec<Run>, options: Options) -> Result<BatchStream, Error> {
    if layout.keys().is_none() {
        return Err(Error::BatchShape { detail: "runs without key columns cannot be merged".to_owned() });
    }
    let deletes = runs.iter().any(|run| run.deletes);
    let finish = Finish { layout: Arc::clone(&layout), output: options.output, deletes };
    let early = options.output == Output::User && !deletes && !layout.output().fields().is_empty();
    if runs.len() <= 1 {
        let stream = runs.into_iter().next().map_or_else(|| stream::empty().boxed(), |run| run.stream);
        let finished = stream.map(move |batch| finish.apply(&batch?));
        return Ok(finished.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed());
    }
    let merger =
        Merger { layout, waiting: runs, cursors: Vec::new(), heap: Heap::default(), chunk: Chunk::default(), last: None, options, early };
    let merged = stream::try_unfold((merger, finish), move |(mut merger, finish)| async move {
        while let Some(batch) = merger.next().await? {
            let batch = if early { batch } else { finish.apply(&batch)? };
            if batch.num_rows() > 0 {
                return Ok(Some((batch, (merger, finish))));
            }
        }
        Ok(None)
    });
    Ok(merged.boxed())
}

/// Groups inclusive time ranges (as positions into `ranges`) so that no two groups overlap in time, ordered by
/// time. A group of one needs no merge: no other run can hold its keys.
#[must_use]
pub fn group_by_time(ranges: &[(i64, i64)]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..ranges.len()).collect();
    order.sort_by_key(|i| ranges[*i]);
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut end = i64::MIN;
    for index in order {
        let (from, to) = ranges[index];
        match groups.last_mut() {
            Some(group) if from <= end => group.push(index),
            _ => groups.push(vec![index]),
        }
        end = end.max(to);
    }
    groups
}

struct Finish {
    layout: Arc<Layout>,
    output: Output,
    deletes: bool,
}

impl Finish {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        match (self.output, self.deletes) {
            (Output::Storage, _) => Ok(batch.clone()),
            (Output::User, false) => self.layout.finish(batch),
            (Output::User, true) => self.layout.finish(&without_deletes(&self.layout, batch)?),
        }
    }
}

fn without_deletes(layout: &Layout, batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let Some(keys) = layout.keys() else { return Ok(batch.clone()) };
    let ops = op_types(batch, keys.op_type)?;
    if ops.iter().all(|op| *op != layout::DELETE) {
        return Ok(batch.clone());
    }
    let puts = ops.iter().map(|op| Some(*op != layout::DELETE)).collect();
    filter_record_batch(batch, &puts).map_err(Error::arrow("drop deletes"))
}

/// The values of `__op_type`.
pub(crate) fn op_types(batch: &RecordBatch, position: usize) -> Result<&[u8], Error> {
    let array = batch.column(position).as_primitive_opt::<UInt8Type>();
    let array = array.ok_or_else(|| Error::BatchShape { detail: "__op_type is not uint8".to_owned() })?;
    Ok(array.values())
}

/// Pieces of input batches that make the next output batch.
#[derive(Default)]
struct Chunk {
    batches: Vec<RecordBatch>,
    /// (batch, first row, rows)
    pieces: Vec<(usize, usize, usize)>,
    rows: usize,
}

impl Chunk {
    fn push(&mut self, batch: usize, from: usize, rows: usize) {
        self.rows += rows;
        match self.pieces.last_mut() {
            Some((last, start, count)) if *last == batch && *start + *count == from => *count += rows,
            _ => self.pieces.push((batch, from, rows)),
        }
    }

    fn take(&mut self) -> Result<Option<RecordBatch>, Error> {
        let Self { batches, pieces, rows } = std::mem::take(self);
        let slice = |&(batch, from, rows): &(usize, usize, usize)| batches[batch].slice(from, rows);
        Ok(match pieces.as_slice() {
            [] => None,
            [piece] => Some(slice(piece)),
            many if rows >= many.len() * PIECE_ROWS_MIN => {
                let slices: Vec<RecordBatch> = many.iter().map(slice).collect();
                let schema = slices[0].schema();
                Some(concat_batches(&schema, &slices).map_err(Error::arrow("merge rows"))?)
            }
            many => {
                let places: Vec<(usize, usize)> = many.iter().flat_map(|&(b, from, n)| (from..from + n).map(move |row| (b, row))).collect();
                let batches: Vec<&RecordBatch> = batches.iter().collect();
                Some(interleave_record_batch(&batches, &places).map_err(Error::arrow("merge rows"))?)
            }
        })
    }
}

struct Merger {
    layout: Arc<Layout>,
    waiting: Vec<Run>,
    cursors: Vec<Cursor>,
    heap: Heap,
    chunk: Chunk,
    /// The (primary key, time) of the last row that was taken or passed over.
    last: Option<(Vec<u8>, i64)>,
    options: Options,
    /// Whether the columns that the user does not want are left out before rows are gathered.
    early: bool,
}

impl Merger {
    async fn next(&mut self) -> Result<Option<RecordBatch>, Error> {
        if !self.waiting.is_empty() {
            self.start().await?;
        }
        while let Some(top) = self.heap.first() {
            self.step(top)?;
            if self.cursors[top].is_drained() {
                if self.cursors[top].load().await? {
                    self.heap.sift_down(&self.cursors);
                } else {
                    self.heap.pop(&self.cursors);
                }
            } else {
                self.heap.sift_down(&self.cursors);
            }
            if self.chunk.rows >= BATCH_ROWS {
                break;
            }
        }
        self.cursors.iter_mut().for_each(|cursor| cursor.held = None);
        self.chunk.take()
    }

    async fn start(&mut self) -> Result<(), Error> {
        for run in std::mem::take(&mut self.waiting) {
            let mut cursor = Cursor::new(&self.layout, run.stream)?;
            if cursor.load().await? {
                self.cursors.push(cursor);
            }
        }
        self.heap.build(&self.cursors);
        Ok(())
    }

    /// Takes from the least run all rows that come before the least row of the others.
    fn step(&mut self, top: usize) -> Result<(), Error> {
        let limit = self.heap.second(&self.cursors);
        let end = match limit {
            Some(limit) => self.cursors[top].advance_before(&self.cursors[limit]),
            None => self.cursors[top].rows(),
        };
        let cursor = &mut self.cursors[top];
        let mut from = cursor.position;
        cursor.position = end;
        if self.options.dedup == Dedup::LastRow {
            if self.last.as_ref().is_some_and(|(tags, time)| cursor.key(from) == (tags.as_slice(), *time)) {
                from += 1;
            }
            let (key, at) = cursor.key(end - 1);
            let (tags, time) = self.last.get_or_insert_default();
            tags.clear();
            tags.extend_from_slice(key);
            *time = at;
        }
        if from < end {
            let held = match cursor.held {
                Some(held) => held,
                None => {
                    self.chunk.batches.push(if self.early { self.layout.finish(&cursor.batch)? } else { cursor.batch.clone() });
                    self.chunk.batches.len() - 1
                }
            };
            cursor.held = Some(held);
            self.chunk.push(held, from, end - from);
        }
        Ok(())
    }
}
