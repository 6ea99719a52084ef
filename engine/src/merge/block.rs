//! What a merge works on: rows without their tags, beside what orders them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::ScalarBuffer;
use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema, SchemaRef, UInt8Type, UInt64Type};
use futures::stream::BoxStream;

use super::gather::{compact, gather};
use super::key::KeyEncoder;
use super::layout::{DELETE, Layout, coded, new_batch};
use super::overwrite::Overwrites;
use super::series::{Form, Stretches, repeat_rows, tags_of};
use super::{Output, value};
use crate::sst::{Error, Reserved};

/// A stream of blocks, sorted like a run.
pub(crate) type BlockStream = BoxStream<'static, Result<Block, Error>>;

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// From this column of the payload.
    Payload(usize),
    /// From this tag, counted in key order.
    Tag(usize),
}

/// How rows are put together for the output: *payload* is what is copied row by row, tags are repeated.
#[derive(Debug, Clone)]
pub(crate) struct Assembly {
    /// The output.
    pub(crate) schema: SchemaRef,
    parts: Vec<Part>,
    /// Positions of the payload's columns in batches of the merging layout.
    payload: Vec<usize>,
    payload_schema: SchemaRef,
    tags: Form,
    /// The payload's column of times.
    time: Option<usize>,
    /// Whether rows of one key may take the place of each other: tags that come out are equal in all bits.
    pub(super) overwrites: bool,
}

impl Assembly {
    /// For what comes out of a merge in a merging layout.
    pub(crate) fn new(layout: &Layout, output: Output) -> Self {
        let tags: &[usize] = layout.keys().map_or(&[], |keys| &keys.tags);
        let (schema, wanted): (SchemaRef, Vec<usize>) = match output {
            Output::User => (Arc::clone(layout.output()), layout.picks().to_vec()),
            Output::Storage => (Arc::clone(layout.arrow()), (0..layout.arrow().fields().len()).collect()),
            Output::Coded => (coded(layout), (0..layout.arrow().fields().len()).collect()),
        };
        let mut payload: Vec<usize> = Vec::new();
        let parts = wanted.iter().map(|position| match tags.iter().position(|tag| tag == position) {
            Some(tag) => Part::Tag(tag),
            None => Part::Payload(payload.iter().position(|known| known == position).unwrap_or_else(|| {
                payload.push(*position);
                payload.len() - 1
            })),
        });
        let parts = parts.collect();
        let fields: Vec<_> = payload.iter().map(|p| Arc::clone(&layout.arrow().fields()[*p])).collect();
        let form = match output {
            Output::User => layout.tags().into(),
            Output::Storage => Form::Values,
            Output::Coded => Form::Coded,
        };
        let payload_schema = Arc::new(ArrowSchema::new(fields));
        let time = layout.keys().and_then(|keys| payload.iter().position(|position| *position == keys.time));
        let is_float = |tag: &usize| layout.arrow().field(*tag).data_type().is_floating();
        let overwrites = !tags.iter().any(is_float);
        Self { schema, parts, payload, payload_schema, tags: form, time, overwrites }
    }

    /// Positions of the payload's columns in batches of the merging layout.
    pub(crate) fn payload(&self) -> &[usize] {
        &self.payload
    }

    pub(crate) fn payload_schema(&self) -> &SchemaRef {
        &self.payload_schema
    }

    /// Whether tags come out.
    pub(crate) fn has_tags(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Tag(_)))
    }

    /// Whether this tag comes out.
    pub(crate) fn has_tag(&self, tag: usize) -> bool {
        self.parts.contains(&Part::Tag(tag))
    }

    /// How tags come out.
    pub(crate) fn tags(&self) -> Form {
        self.tags
    }

    /// A batch of the output; `tag` makes the column of a tag.
    pub(crate) fn batch(&self, payload: &RecordBatch, mut tag: impl FnMut(usize) -> Result<ArrayRef, Error>) -> Result<RecordBatch, Error> {
        let columns = self.parts.iter().map(|part| match part {
            Part::Payload(column) => Ok(Arc::clone(payload.column(*column))),
            Part::Tag(number) => tag(*number),
        });
        new_batch(&self.schema, columns.collect::<Result<_, _>>()?, payload.num_rows())
    }
}

/// What a merge needs of its inputs.
#[derive(Debug, Clone)]
pub(crate) struct Need {
    pub(crate) assembly: Arc<Assembly>,
    /// Whether rows are compared by time.
    pub(crate) times: bool,
    /// Whether rows of one key are compared by sequence.
    pub(crate) sequences: bool,
    /// Whether deletes are told from puts.
    pub(crate) op_types: bool,
}

/// Sorted rows.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) payload: RecordBatch,
    /// Empty if not needed.
    pub(crate) times: ScalarBuffer<i64>,
    /// `None` if not needed.
    pub(crate) sequences: Option<ScalarBuffer<u64>>,
    /// `None` if there are only puts.
    pub(crate) op_types: Option<ScalarBuffer<u8>>,
    pub(crate) stretches: Stretches,
    /// Counts it while it lives.
    pub(crate) memory: Option<Arc<Reserved>>,
}

impl Block {
    /// A batch of a merging layout as a block.
    pub(crate) fn new(layout: &Layout, need: &Need, encoder: Option<&KeyEncoder>, batch: &RecordBatch) -> Result<Self, Error> {
        let shape = |detail: &str| Error::BatchShape { detail: detail.to_owned() };
        let keys = layout.keys().ok_or_else(|| shape("a run without key columns"))?;
        let payload = need.assembly.payload.iter().map(|p| Arc::clone(batch.column(*p))).collect();
        let payload = payload_batch(&need.assembly, payload, batch.num_rows())?;
        let stretches = Stretches::find(encoder, &tags_of(batch, &keys.tags), batch.num_rows())?;
        Ok(Self {
            payload,
            times: times_of(batch.column(keys.time))?,
            sequences: Some(sequences_of(batch.column(keys.sequence))?),
            op_types: Some(op_types_of(batch.column(keys.op_type))?).filter(|ops| ops.contains(&DELETE)),
            stretches,
            memory: None,
        })
    }

    /// The rows in `pieces` (first row, rows), which ascend.
    pub(crate) fn select(&self, pieces: &[(u32, u32)]) -> Result<Self, Error> {
        let places: Vec<(u32, u32, u32)> = pieces.iter().map(|(from, rows)| (0, *from, *rows)).collect();
        let rows = || pieces.iter().flat_map(|(from, rows)| *from as usize..(*from + *rows) as usize);
        Ok(Self {
            payload: gather(self.payload.schema_ref(), &[&self.payload], &places)?,
            times: if self.times.is_empty() { self.times.clone() } else { rows().map(|row| self.times[row]).collect() },
            sequences: self.sequences.as_ref().map(|sequences| rows().map(|row| sequences[row]).collect()),
            op_types: self.op_types.as_ref().map(|ops| rows().map(|row| ops[row]).collect()),
            stretches: self.stretches.select(pieces),
            memory: self.memory.clone(),
        })
    }

    /// The rows within the inclusive `time` range; its times must be there.
    pub(crate) fn within(self, time: (i64, i64)) -> Result<Self, Error> {
        if self.times.iter().all(|t| time.0 <= *t && *t <= time.1) {
            return Ok(self);
        }
        // Without all tags a stretch may be of several series, in which times go up and down.
        let mut pieces: Vec<(u32, u32)> = Vec::new();
        for (row, t) in (0..).zip(self.times.iter()) {
            if time.0 <= *t && *t <= time.1 {
                match pieces.last_mut() {
                    Some((from, rows)) if *from + *rows == row => *rows += 1,
                    _ => pieces.push((row, 1)),
                }
            }
        }
        self.select(&pieces)
    }

    #[inline]
    pub(crate) fn rows(&self) -> usize {
        self.payload.num_rows()
    }

    pub(crate) fn is_delete(&self, row: usize) -> bool {
        self.op_types.as_ref().is_some_and(|ops| ops[row] == DELETE)
    }

    /// Bytes that it keeps in memory, slices of shared buffers counted by their part.
    pub(crate) fn bytes(&self) -> usize {
        let columns: usize = self.payload.columns().iter().map(slice_bytes).sum();
        columns + self.times.len() * 8 + self.stretches.list.len() * 8
    }

    /// The rows of `pieces` (first row, rows), which ascend, as a batch of the output.
    pub(crate) fn finish(&self, assembly: &Assembly, pieces: &[(u32, u32)]) -> Result<RecordBatch, Error> {
        let payload = match pieces {
            [(from, rows)] => self.payload.slice(*from as usize, *rows as usize),
            many => {
                let pieces: Vec<(u32, u32, u32)> = many.iter().map(|(from, rows)| (0, *from, *rows)).collect();
                gather(self.payload.schema_ref(), &[&self.payload], &pieces)?
            }
        };
        let runs = if assembly.has_tags() { self.stretches.runs(pieces) } else { Vec::new() };
        assembly.batch(&payload, |tag| repeat_rows(&self.stretches.table.tags()[tag], &runs, assembly.tags))
    }

    /// The same of a block that is not needed any more: its own memory is used where nobody else has it. Some of the rows have
    /// the values of others.
    pub(super) fn into_batch(self, assembly: &Assembly, pieces: &[(u32, u32)], overwrites: &Overwrites) -> Result<RecordBatch, Error> {
        let Self { payload, times, sequences, stretches, .. } = self;
        drop((times, sequences));
        let payload = overwrites.apply(payload, assembly.time)?;
        let payload = match pieces {
            [(from, rows)] => payload.slice(*from as usize, *rows as usize),
            many => compact(payload, many)?,
        };
        let runs = if assembly.has_tags() { stretches.runs(pieces) } else { Vec::new() };
        assembly.batch(&payload, |tag| repeat_rows(&stretches.table.tags()[tag], &runs, assembly.tags))
    }

    /// The pieces of all rows, but for deletes if they are dropped.
    pub(crate) fn pieces(&self, drop_deletes: bool) -> Vec<(u32, u32)> {
        let mut pieces = Vec::new();
        self.live_pieces(0, self.rows(), drop_deletes, |from, rows| pieces.push((from as u32, rows as u32)));
        pieces
    }

    /// Calls `push` (first row, rows) for the parts of `from..end` without deletes, or for all of it.
    #[inline(always)]
    pub(crate) fn live_pieces(&self, from: usize, end: usize, drop_deletes: bool, mut push: impl FnMut(usize, usize)) {
        match self.op_types.as_ref().filter(|_| drop_deletes) {
            Some(ops) => puts(ops, from, end, push),
            None if from < end => push(from, end - from),
            None => {}
        }
    }
}

/// Calls `push` (first row, rows) for the parts of `from..end` without deletes.
fn puts(ops: &[u8], from: usize, end: usize, mut push: impl FnMut(usize, usize)) {
    let mut start = from;
    for (row, op) in ops.iter().enumerate().take(end).skip(from) {
        if *op == DELETE {
            if start < row {
                push(start, row - start);
            }
            start = row + 1;
        }
    }
    if start < end {
        push(start, end - start);
    }
}

fn slice_bytes(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_else(|_| column.get_array_memory_size())
}

/// A batch of payload columns.
pub(crate) fn payload_batch(assembly: &Assembly, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, Error> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(&assembly.payload_schema), columns, &options).map_err(Error::arrow("form a batch"))
}

/// The values of a time index, shared with the array.
pub(crate) fn times_of(array: &ArrayRef) -> Result<ScalarBuffer<i64>, Error> {
    let wrong = || Error::BatchShape { detail: "time index is not a timestamp".to_owned() };
    if !matches!(array.data_type(), ArrowType::Timestamp(_, _)) || array.null_count() > 0 {
        return Err(wrong());
    }
    let data = array.to_data();
    let buffer = data.buffers().first().cloned().ok_or_else(wrong)?;
    debug_assert!(value::times(array).is_some_and(|times| times.len() == array.len()));
    Ok(ScalarBuffer::new(buffer, data.offset(), data.len()))
}

/// The values of `__sequence`, shared with the array.
pub(crate) fn sequences_of(array: &ArrayRef) -> Result<ScalarBuffer<u64>, Error> {
    let sequences = array.as_primitive_opt::<UInt64Type>();
    Ok(sequences.ok_or_else(|| Error::BatchShape { detail: "__sequence is not uint64".to_owned() })?.values().clone())
}

/// The values of `__op_type`, shared with the array.
pub(crate) fn op_types_of(array: &ArrayRef) -> Result<ScalarBuffer<u8>, Error> {
    let ops = array.as_primitive_opt::<UInt8Type>();
    Ok(ops.ok_or_else(|| Error::BatchShape { detail: "__op_type is not uint8".to_owned() })?.values().clone())
}
