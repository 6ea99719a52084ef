//! A column by runs of rows with one value, without a value for each row: for tags, which sorted rows repeat.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, StringArray};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::DataType as ArrowType;
use parquet::basic::{Encoding, Type};
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::file::serialized_reader::SerializedPageReader;

use super::fetched::Fetched;
use super::page::{self, Parts};
use super::word::Word;
use super::{RowGroup, damaged};

/// A column of a row group.
#[derive(Debug)]
pub(in crate::sst) struct ColumnRuns {
    /// Its dictionary.
    pub(in crate::sst) values: ArrayRef,
    /// The runs.
    pub(in crate::sst) list: Vec<Run>,
}

/// Rows with one value; the next has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sst) struct Run {
    /// Where it is in the dictionary; `None` for NULL.
    pub(in crate::sst) value: Option<u32>,
    /// The row behind the last.
    pub(in crate::sst) end: u32,
}

impl RowGroup<'_> {
    /// Whether a column may be decoded by [`runs`](Self::runs): whether it has a dictionary of texts, bytes or numbers.
    pub(in crate::sst) fn has_dictionary(&self, leaf: usize) -> bool {
        let chunk = self.metadata.row_group(self.index).column(leaf);
        let column = chunk.column_descr();
        let is_flat = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        let mut encodings = chunk.encodings();
        let of_dictionary = encodings.any(|encoding| matches!(encoding, Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY));
        let is_text = self.schema.fields().get(leaf).is_some_and(|field| matches!(field.data_type(), ArrowType::Utf8 | ArrowType::Binary));
        let all = chunk.page_encoding_stats_mask().is_none_or(|pages| !pages.is_set(Encoding::PLAIN));
        is_flat && of_dictionary && all && (is_text || self.numbers(leaf).is_some()) && self.locations(leaf).is_some()
    }

    /// A column that [`has_dictionary`](Self::has_dictionary), by runs; `None` if some of its pages do without. All of its bytes
    /// were fetched.
    pub(in crate::sst) fn runs(&self, leaf: usize, bytes: &Arc<Fetched>) -> Result<Option<ColumnRuns>, ParquetError> {
        let group = self.metadata.row_group(self.index);
        let (chunk, rows) = (group.column(leaf), u32::try_from(group.num_rows()).map_err(|_| damaged("a row group is too large"))?);
        let locations = self.locations(leaf).ok_or_else(|| damaged("a column has no page index"))?;
        let nullable = chunk.column_descr().max_def_level() > 0;
        let mut pages = SerializedPageReader::new(Arc::clone(bytes), chunk, rows as usize, Some(locations.to_vec()))?;
        // Where all are NULL there may be none.
        let (dictionary, count) = page::dictionary(&mut pages)?.unwrap_or_default();
        let values = self.values(leaf, &dictionary, count)?;
        let (mut list, mut at) = (List { runs: Vec::new(), values: values.len() }, 0);
        while at < rows {
            let page = pages.get_next_page()?.ok_or_else(|| damaged("a column ends before its last row"))?;
            let count = page.num_values().min(rows - at);
            let parts = Parts::new(page, count, nullable)?;
            let found = match (parts.numbers()?, parts.valid) {
                (None, Some(valid)) if valid.count_set_bits() == 0 => list.push(None, count),
                (None, _) => return Ok(None),
                (Some(mut numbers), None) => numbers.each(count as usize, |number, rows| list.push(Some(number), rows)),
                (Some(mut numbers), Some(valid)) => {
                    let mut row = 0;
                    for (start, end) in valid.set_slices() {
                        list.push(None, (start - row) as u32)?;
                        numbers.each(end - start, |number, rows| list.push(Some(number), rows))?;
                        row = end;
                    }
                    list.push(None, count - row as u32)
                }
            };
            found?;
            at += count;
        }
        Ok(Some(ColumnRuns { values, list: list.runs }))
    }

    /// The values of a dictionary.
    fn values(&self, leaf: usize, bytes: &[u8], count: usize) -> Result<ArrayRef, ParquetError> {
        fn words<T: Word>(bytes: &[u8], count: usize, to: &ArrowType) -> Result<ArrayRef, ParquetError> {
            if bytes.len() / T::BYTES < count {
                return Err(damaged("a dictionary ends before its last value"));
            }
            T::array(bytes.chunks_exact(T::BYTES).take(count).map(T::from_bytes).collect(), None, to)
        }
        match self.numbers(leaf) {
            Some((Type::INT32 | Type::FLOAT, to)) => words::<u32>(bytes, count, to),
            Some((_, to)) => words::<u64>(bytes, count, to),
            None => texts(bytes, count, self.schema.field(leaf).data_type()),
        }
    }
}

/// Runs of a column of which the dictionary has so many values.
struct List {
    runs: Vec<Run>,
    values: usize,
}

impl List {
    fn push(&mut self, value: Option<u32>, rows: u32) -> Result<(), ParquetError> {
        if value.is_some_and(|value| value as usize >= self.values) {
            return Err(damaged("a dictionary lacks a value"));
        }
        let end = self.runs.last().map_or(0, |run| run.end) + rows;
        match self.runs.last_mut() {
            Some(last) if last.value == value => last.end = end,
            _ if rows == 0 => {}
            _ => self.runs.push(Run { value, end }),
        }
        Ok(())
    }
}

/// Texts or bytes, each behind its length.
fn texts(bytes: &[u8], count: usize, to: &ArrowType) -> Result<ArrayRef, ParquetError> {
    let cut = || damaged("a dictionary ends before its last value");
    let (mut values, mut offsets, mut rest) = (Vec::with_capacity(bytes.len()), vec![0_i32], bytes);
    for _ in 0..count {
        let (length, behind) = rest.split_first_chunk().ok_or_else(cut)?;
        let (value, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
        values.extend_from_slice(value);
        offsets.push(i32::try_from(values.len()).map_err(|_| damaged("a dictionary is too large"))?);
        rest = behind;
    }
    let (offsets, values) = (OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(values));
    Ok(match to {
        ArrowType::Utf8 => Arc::new(StringArray::try_new(offsets, values, None)?),
        _ => Arc::new(BinaryArray::try_new(offsets, values, None)?),
    })
}
