//! The WAL payload of one write; its bytes are specified in `docs/formats/wal-payload.md`.
//!
//! Invariants:
//! - Encoding copies no column data but bitmaps and string offsets that do not start at zero; decoding copies
//!   only buffers that are not aligned for their type.
//! - Any bytes decode to rows or to an error, never to a panic, and nothing larger than the payload is
//!   allocated. Checksums are the WAL's.
//!
//! Change log of the format: 1, the first.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, StringArray, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema};
use bytes::{BufMut, Bytes, BytesMut};
use tessera_manifest::id::{ColumnId, Sequence};
use tessera_manifest::limits::COLUMNS_MAX;
use tessera_manifest::schema::Schema;
use tessera_manifest::value::{DataType, TimeUnit};

use crate::memtable::columns_of;
use crate::merge::layout::new_batch;
use crate::request::OpType;
use crate::sst::Error as RowError;
use crate::sst::evolve::conform_column;

/// The format number that is written.
pub const FORMAT: u8 = 1;
/// The least reader that can read it.
const MIN_READER: u8 = 1;
const HEADER_BYTES: usize = 24;
const COLUMN_BYTES: usize = 16;
/// Every buffer starts at a multiple of this from the payload's start.
const ALIGN: usize = 16;

/// Why a write could not be encoded or a payload not be decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The payload was written by a later release.
    #[error("wal payload needs a reader of format {needed}, this one reads up to {FORMAT}; upgrade this node")]
    NewerFormat {
        /// The least format number that can read it.
        needed: u8,
    },
    /// The payload ends before what its header announces.
    #[error("wal payload of {actual} bytes ends early, expected at least {expected}")]
    Truncated {
        /// Bytes needed.
        expected: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The payload holds what no writer writes.
    #[error("wal payload is not sound: {detail}")]
    Unsound {
        /// What is wrong.
        detail: String,
    },
    /// A batch does not fit the schema that it is written under.
    #[error("batch cannot be encoded: {detail}")]
    BatchShape {
        /// What is wrong.
        detail: String,
    },
}

/// A decoded write.
#[derive(Debug, Clone)]
pub struct Payload {
    /// What it does to the rows' keys.
    pub op: OpType,
    /// The sequence of the first row; the others follow on.
    pub first_sequence: Sequence,
    /// The version of the schema under which it was written.
    pub schema_version: u32,
    /// How many rows.
    pub rows: usize,
    /// The columns as written.
    pub columns: Vec<(ColumnId, ArrayRef)>,
}

impl Payload {
    /// The rows as a write under `schema`, this or a later one: a put has all columns, a delete the key columns.
    ///
    /// # Errors
    /// [`NoValue`](RowError::NoValue) when the schema has a column that these rows cannot have.
    pub fn to_batch(&self, schema: &Schema) -> Result<RecordBatch, RowError> {
        let mut fields = Vec::new();
        let mut arrays = Vec::new();
        for position in columns_of(schema, self.op) {
            let column = &schema.columns()[position];
            let found = self.columns.iter().find(|(id, _)| *id == column.id).map(|(_, array)| array);
            arrays.push(conform_column(column, found, self.rows)?);
            fields.push(column.to_arrow());
        }
        new_batch(&Arc::new(ArrowSchema::new(fields)), arrays, self.rows)
    }
}

/// Encodes one write: the parts, one after the other, are the payload. The batch has all columns for a put, the
/// key columns for a delete, in display order.
///
/// # Errors
/// [`Error::BatchShape`] when it has not.
pub fn encode(schema: &Schema, op: OpType, first_sequence: Sequence, batch: &RecordBatch) -> Result<Vec<Bytes>, Error> {
    let positions: Vec<usize> = columns_of(schema, op).collect();
    let too_much = |detail: &str| Error::BatchShape { detail: detail.to_owned() };
    if positions.len() != batch.num_columns() {
        return Err(Error::BatchShape { detail: format!("{} columns, expected {}", batch.num_columns(), positions.len()) });
    }
    let rows = u32::try_from(batch.num_rows()).map_err(|_| too_much("more than 2^32 rows"))?;
    let mut header = BytesMut::with_capacity(HEADER_BYTES + COLUMN_BYTES * positions.len() + ALIGN);
    header.put_u8(FORMAT);
    header.put_u8(MIN_READER);
    header.put_u8(u8::from(op == OpType::Put));
    header.put_u8(0);
    header.put_u32_le(schema.version());
    header.put_u64_le(first_sequence.as_u64());
    header.put_u32_le(rows);
    header.put_u32_le(positions.len() as u32);
    let mut buffers = Vec::new();
    for (position, array) in positions.iter().zip(batch.columns()) {
        let column = &schema.columns()[*position];
        if *array.data_type() != column.data_type.to_arrow() {
            let detail = format!("column '{}' is {}, expected {}", column.name, array.data_type(), column.data_type);
            return Err(Error::BatchShape { detail });
        }
        let (code, precision, scale) = type_code(column.data_type);
        let data_bytes = push_buffers(array, &mut buffers);
        header.put_u32_le(column.id.0);
        header.put_slice(&[code, precision, scale, u8::from(has_nulls(array))]);
        header.put_u64_le(data_bytes);
    }
    let mut parts = Vec::with_capacity(1 + 2 * buffers.len());
    push_aligned(&mut parts, header.freeze());
    for buffer in buffers {
        push_aligned(&mut parts, Bytes::from_owner(Owned(buffer)));
    }
    Ok(parts)
}

struct Owned(Buffer);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn push_aligned(parts: &mut Vec<Bytes>, part: Bytes) {
    const ZEROS: [u8; ALIGN] = [0; ALIGN];
    let padding = part.len().next_multiple_of(ALIGN) - part.len();
    if !part.is_empty() {
        parts.push(part);
    }
    if padding > 0 {
        parts.push(Bytes::from_static(&ZEROS[..padding]));
    }
}

fn has_nulls(array: &ArrayRef) -> bool {
    array.null_count() > 0
}

/// Pushes the array's buffers (validity if there are NULLs, then offsets or none, then values) and returns the
/// bytes of the last.
fn push_buffers(array: &ArrayRef, out: &mut Vec<Buffer>) -> u64 {
    let data = array.to_data();
    let (offset, rows) = (data.offset(), data.len());
    if let Some(nulls) = data.nulls().filter(|nulls| nulls.null_count() > 0) {
        out.push(bitmap(nulls.inner()));
    }
    let values = match data.data_type() {
        ArrowType::Boolean => bitmap(&BooleanBuffer::new(data.buffers()[0].clone(), offset, rows)),
        ArrowType::Utf8 | ArrowType::Binary if rows == 0 => {
            out.push(Buffer::from_slice_ref([0_i32]));
            Buffer::from_slice_ref::<u8, _>([])
        }
        ArrowType::Utf8 | ArrowType::Binary => {
            let offsets = &data.buffers()[0].typed_data::<i32>()[offset..=offset + rows];
            let (from, to) = (offsets[0], offsets[rows]);
            out.push(if from == 0 {
                data.buffers()[0].slice_with_length(offset * size_of::<i32>(), (rows + 1) * size_of::<i32>())
            } else {
                offsets.iter().map(|o| o - from).collect::<Vec<i32>>().into()
            });
            data.buffers()[1].slice_with_length(from as usize, (to - from) as usize)
        }
        other => {
            let width = other.primitive_width().expect("every column type but these is of fixed width");
            data.buffers()[0].slice_with_length(offset * width, rows * width)
        }
    };
    let bytes = values.len() as u64;
    out.push(values);
    bytes
}

fn bitmap(bits: &BooleanBuffer) -> Buffer {
    let bytes = bits.len().div_ceil(8);
    let buffer = bits.sliced();
    if buffer.len() == bytes { buffer } else { buffer.slice_with_length(0, bytes) }
}

/// Decodes a payload; the arrays share its memory where alignment allows.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(payload: &Bytes) -> Result<Payload, Error> {
    let mut reader = Reader { payload, at: 0 };
    let head = reader.take(HEADER_BYTES as u64)?;
    if head[1] > FORMAT {
        return Err(Error::NewerFormat { needed: head[1] });
    }
    let op = match (head[0], head[2], head[3]) {
        (1.., 0, 0) => OpType::Delete,
        (1.., 1, 0) => OpType::Put,
        _ => return Err(unsound("unknown operation or format 0")),
    };
    let (schema_version, first, rows, count) = (u32_at(&head, 4), u64_at(&head, 8), u32_at(&head, 16) as usize, u32_at(&head, 20) as usize);
    if count == 0 || count > COLUMNS_MAX {
        return Err(unsound("no columns, or more than a table may have"));
    }
    let entries = reader.take((count * COLUMN_BYTES) as u64)?;
    reader.align();
    let mut columns = Vec::with_capacity(count);
    for entry in entries.chunks_exact(COLUMN_BYTES) {
        let data_type = type_of(entry[4], entry[5], entry[6]).ok_or_else(|| unsound("unknown column type"))?;
        if entry[7] > 1 {
            return Err(unsound("unknown column flags"));
        }
        let spec = ColumnSpec { arrow: data_type.to_arrow(), nulls: entry[7] == 1, data_bytes: u64_at(entry, 8) };
        columns.push((ColumnId(u32_at(entry, 0)), reader.column(&spec, rows)?));
    }
    let sound = first.checked_add(rows as u64).is_some();
    if !sound {
        return Err(unsound("sequences run over"));
    }
    Ok(Payload { op, first_sequence: Sequence::from_u64(first), schema_version, rows, columns })
}

struct ColumnSpec {
    arrow: ArrowType,
    nulls: bool,
    data_bytes: u64,
}

struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, bytes: u64) -> Result<Bytes, Error> {
        let end = (self.at as u64).saturating_add(bytes);
        if end > self.payload.len() as u64 {
            return Err(Error::Truncated { expected: end, actual: self.payload.len() as u64 });
        }
        let taken = self.payload.slice(self.at..end as usize);
        self.at = end as usize;
        Ok(taken)
    }

    fn align(&mut self) {
        self.at = self.at.next_multiple_of(ALIGN).min(self.payload.len());
    }

    fn buffer(&mut self, bytes: u64) -> Result<Buffer, Error> {
        let buffer = Buffer::from(self.take(bytes)?);
        self.align();
        Ok(buffer)
    }

    fn column(&mut self, spec: &ColumnSpec, rows: usize) -> Result<ArrayRef, Error> {
        let bits = rows.div_ceil(8) as u64;
        let nulls = if spec.nulls { Some(NullBuffer::new(BooleanBuffer::new(self.buffer(bits)?, 0, rows))) } else { None };
        let mut buffers = Vec::with_capacity(2);
        let expected = match &spec.arrow {
            ArrowType::Boolean => bits,
            ArrowType::Utf8 => return self.text(spec.data_bytes, rows, nulls),
            ArrowType::Binary => {
                buffers.push(self.buffer((rows as u64 + 1) * size_of::<i32>() as u64)?);
                spec.data_bytes
            }
            other => rows as u64 * other.primitive_width().unwrap_or_default() as u64,
        };
        if expected != spec.data_bytes {
            return Err(unsound("a column's size does not fit its rows"));
        }
        buffers.push(self.buffer(expected)?);
        let mut builder = ArrayData::builder(spec.arrow.clone()).len(rows).buffers(buffers).nulls(nulls);
        builder = builder.align_buffers(true);
        let data = builder.build().map_err(|error| unsound(&error.to_string()))?;
        data.validate_full().map_err(|error| unsound(&error.to_string()))?;
        Ok(make_array(data))
    }

    /// A column of text. Its bytes are checked as one text, which is several times as fast as value by value.
    fn text(&mut self, data_bytes: u64, rows: usize, nulls: Option<NullBuffer>) -> Result<ArrayRef, Error> {
        let offsets = self.buffer((rows as u64 + 1) * size_of::<i32>() as u64)?;
        // Arrow takes the memory as it is only where it is aligned.
        let aligned = offsets.as_ptr().align_offset(align_of::<i32>()) == 0;
        let offsets = if aligned { offsets } else { Buffer::from_slice_ref(offsets.as_slice()) };
        let offsets: ScalarBuffer<i32> = ScalarBuffer::new(offsets, 0, rows + 1);
        let bytes = self.buffer(data_bytes)?;
        let (first, last) = (offsets[0], offsets[rows]);
        // Without a branch, so that several are compared at a time.
        let ascend = offsets.windows(2).fold(true, |ascend, pair| ascend & (pair[0] <= pair[1]));
        if first < 0 || !ascend || last as usize > bytes.len() {
            return Err(unsound("the offsets of a text column are out of order"));
        }
        let text = StringArray::try_new(OffsetBuffer::new(offsets), bytes, nulls).map_err(|error| unsound(&error.to_string()))?;
        Ok(Arc::new(text))
    }
}

fn unsound(detail: &str) -> Error {
    Error::Unsound { detail: detail.to_owned() }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes make a u32"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes make a u64"))
}

fn type_code(data_type: DataType) -> (u8, u8, u8) {
    let code = match data_type {
        DataType::Boolean => 1,
        DataType::Int8 => 2,
        DataType::Int16 => 3,
        DataType::Int32 => 4,
        DataType::Int64 => 5,
        DataType::UInt8 => 6,
        DataType::UInt16 => 7,
        DataType::UInt32 => 8,
        DataType::UInt64 => 9,
        DataType::Float32 => 10,
        DataType::Float64 => 11,
        DataType::String => 12,
        DataType::Binary => 13,
        DataType::Date => 14,
        DataType::Timestamp(TimeUnit::Second) => 15,
        DataType::Timestamp(TimeUnit::Millisecond) => 16,
        DataType::Timestamp(TimeUnit::Microsecond) => 17,
        DataType::Timestamp(TimeUnit::Nanosecond) => 18,
        DataType::Decimal { precision, scale } => return (19, precision, scale),
    };
    (code, 0, 0)
}

fn type_of(code: u8, precision: u8, scale: u8) -> Option<DataType> {
    Some(match code {
        1 => DataType::Boolean,
        2 => DataType::Int8,
        3 => DataType::Int16,
        4 => DataType::Int32,
        5 => DataType::Int64,
        6 => DataType::UInt8,
        7 => DataType::UInt16,
        8 => DataType::UInt32,
        9 => DataType::UInt64,
        10 => DataType::Float32,
        11 => DataType::Float64,
        12 => DataType::String,
        13 => DataType::Binary,
        14 => DataType::Date,
        15 => DataType::Timestamp(TimeUnit::Second),
        16 => DataType::Timestamp(TimeUnit::Millisecond),
        17 => DataType::Timestamp(TimeUnit::Microsecond),
        18 => DataType::Timestamp(TimeUnit::Nanosecond),
        19 if (1..=38).contains(&precision) && scale <= precision => DataType::Decimal { precision, scale },
        _ => return None,
    })
}
