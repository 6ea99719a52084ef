//! Rows in order of time, and the first few of them.
//!
//! Groups do not overlap in time, so their order is the order of their rows; within a group rows are sorted in memory,
//! which counts against the scan's limit. Without a limit several streams have the groups in turn, each in order. With a
//! limit of k rows only k of a group are kept, and a group is not opened once k rows of earlier ones came out. Where k is
//! small the times of a group are read alone first, and then only rows up to the k-th, until k of them came.

use std::collections::BinaryHeap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, sort_to_indices, take_record_batch};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};

use super::pieces::{Piece, Source};
use super::reader::Reader;
use crate::merge::block::times_of;
use crate::merge::{BATCH_ROWS, BatchStream, Layout};
use crate::request::Order;
use crate::sst::{self, Reserved};

/// Rows beyond the limit that are gathered at least before the surplus is thrown away; as many as the limit where that is
/// more, so that a row is sorted a few times at most.
const SURPLUS_ROWS: usize = 4 * BATCH_ROWS;
/// Bytes that a row takes while it is sorted: its time and its place.
const PLACE_BYTES: usize = 16;
/// Rows of a group from which on it may pay to look for the first by their times alone; few in tests, so that the models
/// meet it.
const ROWS_MIN: u64 = if cfg!(test) { 2 } else { 4 * BATCH_ROWS as u64 };
/// Rows up to which the first are looked for by their times alone.
const FIRST_ROWS_MAX: usize = 64 * 1024;
/// It pays when the first are less than one in so many rows.
const FIRST_SHARE: u64 = 4;

impl Reader {
    /// The rows of pieces, which are in order of time.
    pub(super) fn read_by_time(self: Arc<Self>, pieces: Vec<Arc<Piece>>, limit: Option<usize>) -> BatchStream {
        let state = (self, pieces.into_iter(), limit);
        let groups = stream::try_unfold(state, |(reader, mut pieces, left)| async move {
            let Some(piece) = pieces.next().filter(|_| left != Some(0)) else { return Ok(None) };
            let batches = reader.sort_piece(&piece, left).await?;
            let rows: usize = batches.iter().map(|(batch, _)| batch.num_rows()).sum();
            let left = left.map(|left| left.saturating_sub(rows));
            Ok::<_, sst::Error>(Some((batches, (reader, pieces, left))))
        });
        let unwrapped = |batches: Vec<(RecordBatch, Reserved)>| stream::iter(batches.into_iter().map(|(batch, _counted)| Ok(batch)));
        groups.map_ok(unwrapped).try_flatten().boxed()
    }

    /// The rows of a piece in order of time, the first few if there is a limit, in batches.
    async fn sort_piece(&self, piece: &Piece, limit: Option<usize>) -> Result<Vec<(RecordBatch, Reserved)>, sst::Error> {
        let descending = self.order == Order::NewestFirst;
        let (wanted, time) = self.with_time(&self.layout.wanted())?;
        let mut first = match limit {
            Some(limit) => self.first_times(piece, limit).await?,
            None => None,
        };
        let reader = match (&first, limit) {
            (Some(first), Some(limit)) => first.reader(self, wanted, limit),
            _ => self.under(wanted),
        };
        let mut rows = reader.read_piece(piece, None).await?;
        let mut kept = Kept { batches: Vec::new(), rows: 0, reserved: Vec::new(), time, descending };
        while let Some(batch) = rows.try_next().await? {
            kept.rows += batch.num_rows();
            kept.reserved.push(self.memory.reserve(batch.get_array_memory_size())?);
            let found = first.as_mut().map(|first| Ok::<_, sst::Error>(first.found(&times_of(batch.column(time))?))).transpose()?;
            kept.batches.push(batch);
            if found == Some(true) {
                break;
            }
            if let Some(limit) = limit.filter(|limit| kept.rows > limit.saturating_add(SURPLUS_ROWS.max(*limit))) {
                kept.sort(Some(limit), self)?;
            }
        }
        kept.sort(limit, self)?;
        let wanted: Vec<usize> = (0..self.layout.output().fields().len()).collect();
        let projected = |batch: RecordBatch| batch.project(&wanted).map_err(sst::Error::arrow("sort rows by time"));
        kept.batches.into_iter().zip(kept.reserved).map(|(batch, counted)| Ok((projected(batch)?, counted))).collect()
    }

    /// The layout with the time index behind the wanted columns, and where it is.
    pub(super) fn with_time(&self, wanted: &[usize]) -> Result<(Arc<Layout>, usize), sst::Error> {
        let mut wanted = wanted.to_vec();
        let time = self.schema.columns().iter().position(|column| column.id == self.schema.time_index().id);
        wanted.extend(time);
        let last = wanted.len() - 1;
        Ok((Arc::new(Layout::merging(Arc::clone(&self.schema), Some(&wanted))?), last))
    }

    /// What of a piece the first `limit` rows by time are, found by reading times alone; `None` where that saves nothing.
    async fn first_times(&self, piece: &Piece, limit: usize) -> Result<Option<First>, sst::Error> {
        let rows: u64 = piece.sources.iter().map(Source::rows).sum();
        if limit == 0 || limit > FIRST_ROWS_MAX || rows < FIRST_SHARE * limit as u64 + ROWS_MIN {
            return Ok(None);
        }
        let time = self.with_time(&[])?;
        let descending = self.order == Order::NewestFirst;
        let _counted = self.memory.reserve(limit * size_of::<i128>())?;
        // The last of the first is on top.
        let mut first: BinaryHeap<i128> = BinaryHeap::with_capacity(limit + 1);
        let reader = Reader { rows_tested: Arc::default(), ..self.under(time.0) };
        let mut batches = reader.read_piece(piece, None).await?;
        while let Some(batch) = batches.try_next().await? {
            for time in times_of(batch.column(time.1))?.iter() {
                let rank = if descending { -i128::from(*time) } else { i128::from(*time) };
                if first.len() < limit {
                    first.push(rank);
                } else if let Some(mut last) = first.peek_mut()
                    && rank < *last
                {
                    *last = rank;
                }
            }
        }
        let Some(last) = first.peek().copied().filter(|_| first.len() == limit) else { return Ok(None) };
        let before = first.iter().filter(|rank| **rank < last).count();
        let last = (if descending { -last } else { last }) as i64;
        Ok(Some(First { last, before, ties: limit - before }))
    }
}

/// The first rows by time.
struct First {
    /// The time of the last of them.
    last: i64,
    /// How many lie before it in the order.
    before: usize,
    /// How many lie at it.
    ties: usize,
}

impl First {
    /// What a scan reads to find them.
    fn reader(&self, reader: &Reader, layout: Arc<Layout>, limit: usize) -> Reader {
        let descending = reader.order == Order::NewestFirst;
        let (from, to) = reader.time;
        let time = if descending { (from.max(self.last), to) } else { (from, to.min(self.last)) };
        Reader { batch_rows_max: limit.clamp(BATCH_ROWS / 128, BATCH_ROWS), ..reader.under(layout).within(time) }
    }

    /// Counts rows that came out; whether these are all.
    fn found(&mut self, times: &[i64]) -> bool {
        let ties = times.iter().filter(|time| **time == self.last).count();
        self.ties = self.ties.saturating_sub(ties);
        self.before = self.before.saturating_sub(times.len() - ties);
        self.ties == 0 && self.before == 0
    }
}

struct Kept {
    batches: Vec<RecordBatch>,
    rows: usize,
    /// What each batch is counted as.
    reserved: Vec<Reserved>,
    /// The column of the time.
    time: usize,
    descending: bool,
}

impl Kept {
    /// Puts all rows in order, and keeps the first if there is a limit. Each batch has its own memory afterwards: whoever
    /// holds one holds no more than it.
    fn sort(&mut self, limit: Option<usize>, reader: &Reader) -> Result<(), sst::Error> {
        let Some(schema) = self.batches.first().map(RecordBatch::schema) else { return Ok(()) };
        // All rows are there twice until they are one batch; then those that stay are, beside the places of all.
        let once = self.reserved.iter().map(Reserved::bytes).sum();
        let mut counted = reader.memory.reserve(once)?;
        let all = concat_batches(&schema, &self.batches).map_err(sst::Error::arrow("sort rows by time"))?;
        self.batches.clear();
        self.reserved.clear();
        let (rows, bytes) = (all.num_rows(), all.get_array_memory_size());
        counted.resize(bytes + rows * PLACE_BYTES)?;
        let times: &ArrayRef = all.column(self.time);
        let options = SortOptions { descending: self.descending, nulls_first: true };
        let places: UInt32Array = sort_to_indices(times, Some(options), limit).map_err(sst::Error::arrow("sort rows by time"))?;
        self.rows = places.len();
        for at in (0..self.rows).step_by(BATCH_ROWS) {
            let some = places.slice(at, BATCH_ROWS.min(self.rows - at));
            let mut counted = reader.memory.reserve(bytes / rows.max(1) * some.len())?;
            let sorted = take_record_batch(&all, &some).map_err(sst::Error::arrow("sort rows by time"))?;
            counted.resize(sorted.get_array_memory_size())?;
            self.reserved.push(counted);
            self.batches.push(sorted);
        }
        Ok(())
    }
}
