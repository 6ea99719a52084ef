//! Rows in order of time, and the first few of them.
//!
//! Groups do not overlap in time, so their order is the order of their rows; within a group rows are sorted in memory,
//! which counts against the scan's limit. With a limit of k rows only k of a group are kept, and a group is not opened
//! once k rows of earlier ones came out.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortOptions, concat_batches, sort_to_indices, take_record_batch};
use futures::TryStreamExt;
use futures::stream::{self, StreamExt};

use super::pieces::Piece;
use super::reader::Reader;
use crate::merge::{BATCH_ROWS, BatchStream, Layout};
use crate::request::Order;
use crate::sst::{self, Reserved};

/// Rows beyond the limit that are gathered before the surplus is thrown away.
const SURPLUS_ROWS: usize = 4 * BATCH_ROWS;

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
        groups.map_ok(|batches| stream::iter(batches.into_iter().map(|(batch, _counted)| Ok(batch)))).try_flatten().boxed()
    }

    /// The rows of a piece in order of time, the first few if there is a limit, in batches.
    async fn sort_piece(&self, piece: &Piece, limit: Option<usize>) -> Result<Vec<(RecordBatch, Arc<Reserved>)>, sst::Error> {
        let descending = self.order == Order::NewestFirst;
        let (wanted, time) = self.with_time()?;
        let reader = self.under(wanted);
        let mut rows = reader.read_piece(piece, None).await?;
        let mut kept = Kept { batches: Vec::new(), rows: 0, reserved: Vec::new(), time, descending };
        while let Some(batch) = rows.try_next().await? {
            kept.rows += batch.num_rows();
            kept.reserved.push(self.memory.reserve(batch.get_array_memory_size())?);
            kept.batches.push(batch);
            if let Some(limit) = limit.filter(|limit| kept.rows > limit + SURPLUS_ROWS) {
                kept.sort(Some(limit), self)?;
            }
        }
        kept.sort(limit, self)?;
        let Some(sorted) = kept.batches.pop() else { return Ok(Vec::new()) };
        let sorted = sorted.project(&(0..self.layout.output().fields().len()).collect::<Vec<_>>());
        let sorted = sorted.map_err(sst::Error::arrow("sort rows by time"))?;
        let reserved = Arc::new(self.memory.reserve(sorted.get_array_memory_size())?);
        let starts = (0..sorted.num_rows()).step_by(BATCH_ROWS);
        Ok(starts.map(|at| (sorted.slice(at, BATCH_ROWS.min(sorted.num_rows() - at)), Arc::clone(&reserved))).collect())
    }

    /// The layout with the time index behind the wanted columns, and where it is.
    fn with_time(&self) -> Result<(Arc<Layout>, usize), sst::Error> {
        let mut wanted = self.layout.wanted();
        let time = self.schema.columns().iter().position(|column| column.id == self.schema.time_index().id);
        wanted.extend(time);
        let last = wanted.len() - 1;
        Ok((Arc::new(Layout::merging(Arc::clone(&self.schema), Some(&wanted))?), last))
    }

    fn under(&self, layout: Arc<Layout>) -> Self {
        Self {
            access: self.access.clone(),
            schema: Arc::clone(&self.schema),
            layout,
            filter: Arc::clone(&self.filter),
            of_tags: self.of_tags.clone(),
            time: self.time,
            dedup: self.dedup,
            order: Order::Any,
            last_rows: false,
            memory: Arc::clone(&self.memory),
            rows_tested: Arc::clone(&self.rows_tested),
        }
    }
}

struct Kept {
    batches: Vec<RecordBatch>,
    rows: usize,
    reserved: Vec<Reserved>,
    /// The column of the time.
    time: usize,
    descending: bool,
}

impl Kept {
    /// Makes one sorted batch of all, and keeps the first rows if there is a limit.
    fn sort(&mut self, limit: Option<usize>, reader: &Reader) -> Result<(), sst::Error> {
        let Some(schema) = self.batches.first().map(RecordBatch::schema) else { return Ok(()) };
        let all = concat_batches(&schema, &self.batches).map_err(sst::Error::arrow("sort rows by time"))?;
        self.batches.clear();
        self.reserved.clear();
        let times: &ArrayRef = all.column(self.time);
        let options = SortOptions { descending: self.descending, nulls_first: true };
        let places: UInt32Array = sort_to_indices(times, Some(options), limit).map_err(sst::Error::arrow("sort rows by time"))?;
        let sorted = take_record_batch(&all, &places).map_err(sst::Error::arrow("sort rows by time"))?;
        self.rows = sorted.num_rows();
        self.reserved.push(reader.memory.reserve(sorted.get_array_memory_size())?);
        self.batches.push(sorted);
        Ok(())
    }
}
