//! Rows that are acknowledged but not yet in an SST.
//!
//! Invariants:
//! - A memtable keeps Arrow batches as they came and sorts when it is read. It has one schema for its life; a
//!   change of schema starts the next memtable.
//! - A snapshot is a pointer copy and never changes; the lock is held for pointer work and for the copy of
//!   small batches only, never across an await.
//! - Small batches are joined as they come, each row at most log₂ times, so that their number does not grow
//!   with the number of writes.
//! - `bytes` counts every buffer once, whole: a slice of a much larger buffer is copied first.

mod number;
mod sort;
#[cfg(test)]
mod tests;
mod weigh;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt8Array, UInt64Array, new_null_array};
use arrow::compute::concat_batches;
use tessera_manifest::id::Sequence;
use tessera_manifest::schema::{Schema, SemanticType};

use crate::merge::layout::{self, Layout, Source};
use crate::merge::value;
use crate::request::OpType;
use crate::sst::Error;

pub use sort::{Rows, SortedRun};

/// Batches below this many rows are joined with their neighbours.
const JOIN_ROWS_MAX: usize = 1024;

/// A batch as it was written, or several joined.
#[derive(Debug)]
struct Entry {
    batch: RecordBatch,
    op: OpType,
    sequences: UInt64Array,
    time_range: (i64, i64),
    bytes: usize,
}

#[derive(Debug, Clone, Default)]
struct State {
    entries: imbl::Vector<Arc<Entry>>,
    rows: usize,
    bytes: usize,
    deletes: usize,
    time_range: Option<(i64, i64)>,
    max_sequence: Option<Sequence>,
}

/// Rows of one region and schema, appended by many writers and read by many readers.
#[derive(Debug)]
pub struct Memtable {
    schema: Arc<Schema>,
    state: Mutex<State>,
}

impl Memtable {
    /// An empty one.
    #[must_use]
    pub fn new(schema: Arc<Schema>) -> Self {
        Self { schema, state: Mutex::default() }
    }

    /// The schema of its rows.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Appends rows: for a put all columns, for a delete the key columns, in display order. The rows take
    /// consecutive sequences from `first_sequence` on. Returns by how many bytes the memtable grew.
    ///
    /// # Errors
    /// [`Error::BatchShape`] when the columns are not these; nothing is appended.
    pub fn insert(&self, batch: RecordBatch, op: OpType, first_sequence: Sequence) -> Result<usize, Error> {
        if batch.num_rows() == 0 {
            return Ok(0);
        }
        check_shape(&self.schema, &batch, op)?;
        let first = first_sequence.as_u64();
        let last = first.saturating_add(batch.num_rows() as u64 - 1);
        let entry = Entry::new(&self.schema, batch, op, UInt64Array::from_iter_values(first..=last))?;
        let mut state = self.lock();
        let before = state.bytes;
        state.rows += entry.batch.num_rows();
        state.deletes += if op == OpType::Delete { entry.batch.num_rows() } else { 0 };
        state.bytes += entry.bytes;
        state.time_range = Some(union(state.time_range, entry.time_range));
        state.max_sequence = state.max_sequence.max(Some(Sequence::from_u64(last)));
        state.entries.push_back(Arc::new(entry));
        join_small(&self.schema, &mut state)?;
        Ok(state.bytes.saturating_sub(before))
    }

    /// Bytes of memory that its rows hold.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Rows, deletes and overwritten rows included.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.lock().rows
    }

    /// Least and greatest time, both inclusive; `None` when empty.
    #[must_use]
    pub fn time_range(&self) -> Option<(i64, i64)> {
        self.lock().time_range
    }

    /// The newest row's sequence; `None` when empty.
    #[must_use]
    pub fn max_sequence(&self) -> Option<Sequence> {
        self.lock().max_sequence
    }

    /// Its rows as of now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot { schema: Arc::clone(&self.schema), state: self.lock().clone() }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // State is changed only after everything that can fail has been done, so a poisoned one is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rows of a memtable at one time; never changes.
#[derive(Debug, Clone)]
pub struct Snapshot {
    schema: Arc<Schema>,
    state: State,
}

impl Snapshot {
    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.rows == 0
    }

    /// Rows, deletes and overwritten rows included.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.state.rows
    }

    /// Least and greatest time, both inclusive; `None` when empty.
    #[must_use]
    pub fn time_range(&self) -> Option<(i64, i64)> {
        self.state.time_range
    }

    /// The newest row's sequence; `None` when empty.
    #[must_use]
    pub fn max_sequence(&self) -> Option<Sequence> {
        self.state.max_sequence
    }

    /// Whether there are deletes.
    #[must_use]
    pub fn has_deletes(&self) -> bool {
        self.state.deletes > 0
    }

    /// The schema under which the rows were written.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The rows within the inclusive `time` range (all, if `None`), sorted, each (primary key, time) once, as
    /// batches of a merging layout of this or a later schema.
    ///
    /// CPU-bound: some 100 ns per row.
    ///
    /// # Errors
    /// [`Error::BatchShape`] for a plain layout, [`Error::NoValue`] when the layout's schema has a column that
    /// these rows cannot have.
    pub fn sorted(&self, layout: &Arc<Layout>, time: Option<(i64, i64)>) -> Result<SortedRun, Error> {
        self.sorted_rows(layout, time, Rows::Newest)
    }

    /// [`sorted`](Self::sorted), with a choice of what stays of each (primary key, time): merge modes other than
    /// the newest row need all rows.
    ///
    /// # Errors
    /// As [`sorted`](Self::sorted).
    pub fn sorted_rows(&self, layout: &Arc<Layout>, time: Option<(i64, i64)>, rows: Rows) -> Result<SortedRun, Error> {
        let wanted = time.unwrap_or((i64::MIN, i64::MAX));
        let overlaps = |entry: &&Arc<Entry>| entry.time_range.0 <= wanted.1 && wanted.0 <= entry.time_range.1;
        let entries: Vec<&Arc<Entry>> = self.state.entries.iter().filter(overlaps).collect();
        let sources = entries.iter().map(|entry| layout.conform(&entry.source(&self.schema)));
        let sources = sources.collect::<Result<Vec<_>, _>>()?;
        SortedRun::new(layout, sources, wanted, rows)
    }
}

impl Entry {
    fn new(schema: &Schema, batch: RecordBatch, op: OpType, sequences: UInt64Array) -> Result<Self, Error> {
        let (batch, held) = weigh::compact(&batch)?;
        let shape = || Error::BatchShape { detail: "time index is missing or NULL".to_owned() };
        let position = columns_of(schema, op).position(|p| schema.columns()[p].semantic == SemanticType::TimeIndex).ok_or_else(shape)?;
        let times = batch.column(position);
        if times.null_count() > 0 {
            return Err(shape());
        }
        let times = value::times(times).ok_or_else(shape)?;
        let time_range = times.iter().fold((i64::MAX, i64::MIN), |(low, high), t| (low.min(*t), high.max(*t)));
        let bytes = held + sequences.len() * size_of::<u64>() + size_of::<Self>();
        Ok(Self { batch, op, sequences, time_range, bytes })
    }

    /// Its columns by id; those that a delete does not have are NULL.
    fn source(&self, schema: &Schema) -> Source {
        let rows = self.batch.num_rows();
        let mut columns: HashMap<_, ArrayRef> = HashMap::with_capacity(schema.columns().len());
        for (array, position) in self.batch.columns().iter().zip(columns_of(schema, self.op)) {
            columns.insert(schema.columns()[position].id, Arc::clone(array));
        }
        if self.op == OpType::Delete {
            for column in schema.columns().iter().filter(|c| c.semantic == SemanticType::Field) {
                columns.insert(column.id, new_null_array(&column.data_type.to_arrow(), rows));
            }
        }
        let op = if self.op == OpType::Delete { layout::DELETE } else { layout::PUT };
        let op_type: ArrayRef = Arc::new(UInt8Array::from_value(op, rows));
        Source { columns, sequence: Some(Arc::new(self.sequences.clone())), op_type: Some(op_type), rows }
    }
}

/// The display positions of the columns that a write of this kind has.
pub(crate) fn columns_of(schema: &Schema, op: OpType) -> impl Iterator<Item = usize> {
    let has = move |semantic| op == OpType::Put || semantic != SemanticType::Field;
    schema.columns().iter().enumerate().filter(move |(_, c)| has(c.semantic)).map(|(position, _)| position)
}

fn check_shape(schema: &Schema, batch: &RecordBatch, op: OpType) -> Result<(), Error> {
    let expected = columns_of(schema, op).count();
    if batch.num_columns() != expected {
        return Err(Error::BatchShape { detail: format!("{} columns, expected {expected}", batch.num_columns()) });
    }
    for (array, position) in batch.columns().iter().zip(columns_of(schema, op)) {
        let column = &schema.columns()[position];
        if *array.data_type() != column.data_type.to_arrow() {
            let detail = format!("column '{}' is {}, expected {}", column.name, array.data_type(), column.data_type);
            return Err(Error::BatchShape { detail });
        }
    }
    Ok(())
}

/// Joins the last two entries while both are small and the earlier is not much the larger.
fn join_small(schema: &Schema, state: &mut State) -> Result<(), Error> {
    while state.entries.len() >= 2 {
        let (earlier, later) = (&state.entries[state.entries.len() - 2], &state.entries[state.entries.len() - 1]);
        let (a, b) = (earlier.batch.num_rows(), later.batch.num_rows());
        if earlier.op != later.op || a + b > JOIN_ROWS_MAX || a > 2 * b {
            return Ok(());
        }
        let batch = concat_batches(&earlier.batch.schema(), [&earlier.batch, &later.batch]).map_err(Error::arrow("join batches"))?;
        let sequences = earlier.sequences.values().iter().chain(later.sequences.values()).copied();
        let joined = Entry::new(schema, batch, earlier.op, UInt64Array::from_iter_values(sequences))?;
        state.bytes = state.bytes + joined.bytes - earlier.bytes - later.bytes;
        state.entries.pop_back();
        state.entries.pop_back();
        state.entries.push_back(Arc::new(joined));
    }
    Ok(())
}

fn union(a: Option<(i64, i64)>, b: (i64, i64)) -> (i64, i64) {
    a.map_or(b, |a| (a.0.min(b.0), a.1.max(b.1)))
}
