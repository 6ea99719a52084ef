//! The k-way merge of sorted runs, with dedup by (primary key, time).
//!
//! Invariants:
//! - A *run* is a stream of batches of one merging [`Layout`], ordered by (primary key, time, sequence
//!   descending) in the one total order of values. Memtable snapshots and SSTs give such runs.
//! - Only rows newer than the newest delete of their (primary key, time) count. What becomes of them is the
//!   [`Dedup`]: `LastRow` keeps the newest, `LastNonNull` makes one row of them, `Keep` keeps all.
//! - A row's sequence decides, never the run that it comes from: rows of a later generation win, whichever region
//!   wrote them.
//! - Merging some runs for storage and the result with the others gives what merging all at once gives:
//!   always for `LastRow` and `Keep`; for `LastNonNull` if no other run has a row of the same key with a sequence
//!   between those that are merged, since one merged row cannot be both older and newer than a third.
//! - Storage keeps, of each key, what older rows elsewhere must still meet: the newest delete with its own sequence,
//!   beside the row that stands for the newer puts. So a delete followed by a partial put is two rows; dropping
//!   either would bring older fields back or lose newer ones.
//! - Memory: one block per run, few more of which rows overwrite its own, and what one output batch refers to.
//! - Rows may be left out of a run before the merge only by what is the same for all rows of a key: a predicate
//!   on tags and time index. Leaving out the newest row by its fields would bring an older one back.

pub(crate) mod block;
mod cursor;
#[cfg(test)]
pub(crate) mod fixtures;
pub(crate) mod gather;
pub(crate) mod key;
pub mod layout;
mod merger;
#[cfg(test)]
mod mode_tests;
mod overwrite;
mod pair;
pub(crate) mod series;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod tests;
pub(crate) mod value;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::UInt8Type;
use futures::stream::{self, BoxStream, StreamExt};

use block::{Assembly, Block, BlockStream, Need};
use cursor::Cursor;
use key::KeyEncoder;
pub use layout::Layout;
pub(crate) use merger::RowOrder;
use merger::{Merger, Policy};

use crate::options::MergeMode;
use crate::sst::{Error, Memory, Reserved};

/// Rows of an output batch, about.
pub const BATCH_ROWS: usize = 8192;

/// A stream of batches.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, Error>>;

/// A sorted run.
pub struct Run {
    source: Source,
    traits: RunTraits,
}

enum Source {
    /// Batches of the merging layout.
    Batches(BatchStream),
    /// Makes blocks of what the merge needs.
    Blocks(Box<dyn FnOnce(&Need) -> BlockStream + Send>),
}

/// What is known of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunTraits {
    /// Whether it may hold deletes.
    pub deletes: bool,
    /// Whether it may hold a (primary key, time) more than once.
    pub duplicates: bool,
    /// Bounds of its rows' sequences, inclusive; `None` if unknown.
    pub sequences: Option<(u64, u64)>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("traits", &self.traits).finish_non_exhaustive()
    }
}

impl Run {
    /// A run of batches of the merging layout.
    #[must_use]
    pub fn new(batches: BatchStream, traits: RunTraits) -> Self {
        Self { source: Source::Batches(batches), traits }
    }

    /// A run that makes blocks of what a merge needs.
    pub(crate) fn of_blocks(open: impl FnOnce(&Need) -> BlockStream + Send + 'static, traits: RunTraits) -> Self {
        Self { source: Source::Blocks(Box::new(open)), traits }
    }

    fn open(self, layout: &Arc<Layout>, need: &Need) -> Result<BlockStream, Error> {
        match self.source {
            Source::Blocks(open) => Ok(open(need)),
            Source::Batches(batches) => {
                let keys = layout.keys().ok_or_else(no_keys)?;
                let types = keys.tags.iter().map(|p| layout.arrow().field(*p).data_type().clone());
                let encoder = if keys.tags.is_empty() { None } else { Some(KeyEncoder::new(types)?) };
                let (layout, need) = (Arc::clone(layout), need.clone());
                Ok(batches.map(move |batch| Block::new(&layout, &need, encoder.as_ref(), &batch?)).boxed())
            }
        }
    }
}

fn no_keys() -> Error {
    Error::BatchShape { detail: "runs without key columns cannot be merged".to_owned() }
}

/// What becomes of the rows of one (primary key, time) that are newer than its newest delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dedup {
    /// The newest wins.
    LastRow,
    /// One row, of which each field is the newest that is not NULL.
    LastNonNull,
    /// All stay, in order of sequence descending.
    Keep,
}

impl From<MergeMode> for Dedup {
    fn from(mode: MergeMode) -> Self {
        match mode {
            MergeMode::LastRow => Self::LastRow,
            MergeMode::LastNonNull => Self::LastNonNull,
            MergeMode::Append => Self::Keep,
        }
    }
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Batches of the layout, internal columns and deletes included.
    Storage,
    /// What [`Storage`](Self::Storage) gives, with tags of text as dictionaries with numbers of 32 bits: for an SST.
    Coded,
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

/// Series that are done, by key, and the time of the last row of each.
#[derive(Debug, Clone)]
pub(crate) struct Seen(Arc<Mutex<Series>>);

#[derive(Debug)]
struct Series {
    times: HashMap<Box<[u8]>, i64>,
    /// About what they take.
    bytes: usize,
    /// At least that.
    counted: Reserved,
}

/// Bytes that a series takes beside its key: its place in the map, of which up to half is free, and what the allocator adds.
const SERIES_BYTES: usize = 64;
/// Bytes of series that are counted at a time.
const SERIES_STEP_BYTES: usize = 64 << 10;

impl Seen {
    /// None yet; what they take counts against `memory`.
    pub(crate) fn new(memory: &Arc<Memory>) -> Self {
        Self(Arc::new(Mutex::new(Series { times: HashMap::new(), bytes: 0, counted: memory.none() })))
    }

    fn series(&self) -> MutexGuard<'_, Series> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, key: &[u8], time: i64) -> Result<(), Error> {
        let mut series = self.series();
        series.bytes += key.len() + SERIES_BYTES;
        if series.bytes > series.counted.bytes() {
            let wanted = series.bytes + SERIES_STEP_BYTES;
            series.counted.resize(wanted)?;
        }
        series.times.insert(key.into(), time);
        Ok(())
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.time(key).is_some()
    }

    /// The time of the last row of a series.
    pub(crate) fn time(&self, key: &[u8]) -> Option<i64> {
        self.series().times.get(key).copied()
    }
}

/// Which rows of a merge go out, and in which order.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub(crate) order: RowOrder,
    /// Only the last row of each series that is not seen yet, which then is; in order of key.
    pub(crate) last_rows: Option<Seen>,
}

/// Merges runs into one stream in (primary key, time) order. Dropping the stream ends the work.
///
/// # Errors
/// [`Error::BatchShape`] for a plain layout; the stream gives the first error of any run and ends.
pub fn merge(layout: Arc<Layout>, runs: Vec<Run>, options: Options) -> Result<BatchStream, Error> {
    merge_selected(&layout, runs, options, Selection { order: RowOrder::Key, last_rows: None })
}

/// [`merge`], with a choice of rows and order.
pub(crate) fn merge_selected(layout: &Arc<Layout>, runs: Vec<Run>, options: Options, select: Selection) -> Result<BatchStream, Error> {
    if layout.keys().is_none() {
        return Err(no_keys());
    }
    let assembly = Arc::new(Assembly::new(layout, options.output));
    let drop_deletes = options.output == Output::User;
    let alone = runs.len() <= 1;
    let deletes = runs.iter().any(|run| run.traits.deletes);
    let decides =
        select.last_rows.is_some() || runs.iter().any(|run| run.traits.duplicates && (run.traits.deletes || options.dedup != Dedup::Keep));
    let need = Need { assembly, times: !alone || decides, sequences: !alone && !are_disjoint(&runs), op_types: deletes };
    if alone && !decides {
        let Some(run) = runs.into_iter().next() else { return Ok(stream::empty().boxed()) };
        let blocks = run.open(layout, &need)?;
        let finished = blocks.filter_map(move |block| std::future::ready(finish(&need, drop_deletes, block).transpose()));
        return Ok(finished.boxed());
    }
    let mut cursors = Vec::with_capacity(runs.len());
    for run in runs {
        let RunTraits { duplicates, sequences, .. } = run.traits;
        let rank = sequences.map_or(0, |(least, _)| least);
        cursors.push(Cursor::new(run.open(layout, &need)?, duplicates, rank));
    }
    let policy = Policy { dedup: options.dedup, drop_deletes, order: select.order, last_rows: select.last_rows };
    let merger = Merger::new(need, policy, cursors);
    let merged = stream::try_unfold(merger, |mut merger| async move { Ok(merger.next().await?.map(|batch| (batch, merger))) });
    Ok(merged.boxed())
}

fn finish(need: &Need, drop_deletes: bool, block: Result<Block, Error>) -> Result<Option<RecordBatch>, Error> {
    let block = block?;
    let pieces = block.pieces(drop_deletes);
    if pieces.is_empty() { Ok(None) } else { block.finish(&need.assembly, &pieces).map(Some) }
}

/// Whether every run is as a whole newer or older than every other, so that no row's own sequence is needed.
fn are_disjoint(runs: &[Run]) -> bool {
    let Some(mut ranges) = runs.iter().map(|run| run.traits.sequences).collect::<Option<Vec<_>>>() else { return false };
    ranges.sort_unstable();
    ranges.windows(2).all(|pair| pair[0].1 < pair[1].0)
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

/// The values of `__op_type`.
pub(crate) fn op_types(batch: &RecordBatch, position: usize) -> Result<&[u8], Error> {
    let array = batch.column(position).as_primitive_opt::<UInt8Type>();
    let array = array.ok_or_else(|| Error::BatchShape { detail: "__op_type is not uint8".to_owned() })?;
    Ok(array.values())
}
