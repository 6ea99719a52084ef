//! Numbers of SSTs, decoded without the Parquet crate's own reader.
//!
//! Most of what a scan does is to look up dictionaries: fields are numbers of few values. The Parquet crate unpacks numbers into
//! one buffer, clears another, and copies each value into it; here a group of eight is one load of packed bits, and values go
//! from the dictionary to the batch. Pages, their headers, and what compresses them are that crate's ([`SerializedPageReader`]),
//! as are all columns that are not numbers.
//!
//! Invariants:
//! - What is decoded is what the Parquet crate decodes of a sound page; tests compare them.
//! - Of a damaged page there is an answer or an error, never a panic, and after an error nothing more.
//!
//! [`SerializedPageReader`]: parquet::file::serialized_reader::SerializedPageReader

mod bits;
mod by_runs;
#[cfg(test)]
mod by_runs_tests;
mod column;
mod delta;
mod dictionary;
mod fetched;
mod hybrid;
mod page;
#[cfg(test)]
mod tests;
mod word;

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::basic::{Encoding, Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::offset_index::PageLocation;

pub(super) use self::by_runs::ColumnRuns;
use self::column::{Column, Numbers};
pub(super) use self::fetched::Fetched;

fn damaged(detail: &str) -> ParquetError {
    ParquetError::General(detail.to_owned())
}

/// A number of up to 64 bits, seven to a byte, the least first.
fn varint(bytes: &[u8], at: &mut usize) -> Result<u64, ParquetError> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.get(*at).ok_or_else(|| damaged("a number is cut"))?;
        *at += 1;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(damaged("a number is too long"))
}

/// The bytes of the pages that have some of the rows, which ascend.
fn pages_of(pages: &[PageLocation], rows: &[Range<u32>]) -> Vec<Range<u64>> {
    let ends = pages.iter().skip(1).map(|page| page.first_row_index).chain([i64::MAX]);
    let with_ends = pages.iter().zip(ends).filter(|(page, end)| {
        let first = rows.partition_point(|range| i64::from(range.end) <= page.first_row_index);
        rows.get(first).is_some_and(|range| i64::from(range.start) < *end)
    });
    let bytes = |page: &PageLocation| Some((u64::try_from(page.offset).ok()?, u64::try_from(page.compressed_page_size).ok()?));
    with_ends.filter_map(|(page, _)| bytes(page)).map(|(start, bytes)| start..start + bytes).collect()
}

/// One row group of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowGroup<'a> {
    pub(super) metadata: &'a ParquetMetaData,
    pub(super) schema: &'a ArrowSchema,
    pub(super) index: usize,
}

impl RowGroup<'_> {
    fn locations(&self, leaf: usize) -> Option<&[PageLocation]> {
        let pages = self.metadata.offset_index()?.get(self.index)?.get(leaf)?.page_locations();
        (!pages.is_empty()).then_some(pages)
    }

    /// Whether this module decodes a column.
    pub(super) fn decodes(&self, leaf: usize) -> bool {
        let chunk = self.metadata.row_group(self.index).column(leaf);
        let known = |encoding| {
            use Encoding::{DELTA_BINARY_PACKED, PLAIN, PLAIN_DICTIONARY, RLE, RLE_DICTIONARY};
            matches!(encoding, PLAIN | PLAIN_DICTIONARY | RLE | RLE_DICTIONARY | DELTA_BINARY_PACKED)
        };
        let column = chunk.column_descr();
        let is_flat = column.max_rep_level() == 0 && column.max_def_level() <= 1;
        is_flat && self.numbers(leaf).is_some() && self.locations(leaf).is_some() && chunk.encodings().all(known)
    }

    /// The type of a column of numbers, which has as many bytes as it is stored in, or fewer.
    fn numbers(&self, leaf: usize) -> Option<(Type, &ArrowType)> {
        use ArrowType::{Date32, Float32, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32, UInt64};
        let stored = self.metadata.row_group(self.index).column(leaf).column_type();
        // Nothing is nested, so that fields are leaves.
        let to = self.schema.fields().get(leaf)?.data_type();
        let fits = match stored {
            Type::INT32 => matches!(to, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Date32),
            Type::INT64 => matches!(to, Int64 | UInt64 | Timestamp(_, _)),
            Type::FLOAT => *to == Float32,
            Type::DOUBLE => *to == Float64,
            _ => false,
        };
        fits.then_some((stored, to))
    }

    /// What must be fetched to decode these rows of a column: its dictionary and the pages that have some of them, or all of it.
    pub(super) fn ranges(&self, leaf: usize, rows: Option<&[Range<u32>]>) -> Vec<Range<u64>> {
        self.dictionary_and(leaf, rows.map(|rows| |pages: &[PageLocation]| pages_of(pages, rows)))
    }

    /// The same for the Parquet crate's reader, as it asks for it.
    pub(super) fn ranges_of_reader(&self, leaf: usize, rows: Option<&RowSelection>) -> Vec<Range<u64>> {
        self.dictionary_and(leaf, rows.map(|rows| |pages: &[PageLocation]| rows.scan_ranges(pages)))
    }

    fn dictionary_and(&self, leaf: usize, chosen: Option<impl Fn(&[PageLocation]) -> Vec<Range<u64>>>) -> Vec<Range<u64>> {
        let (start, bytes) = self.metadata.row_group(self.index).column(leaf).byte_range();
        let Some((chosen, pages)) = chosen.zip(self.locations(leaf)) else {
            return iter::once(start..start + bytes).collect();
        };
        let first = pages.first().and_then(|page| u64::try_from(page.offset).ok()).filter(|first| *first > start);
        first.map(|first| start..first).into_iter().chain(chosen(pages)).collect()
    }

    fn column(&self, leaf: usize, bytes: &Arc<Fetched>) -> Result<Box<dyn Numbers>, ParquetError> {
        let group = self.metadata.row_group(self.index);
        let (chunk, rows) = (group.column(leaf), usize::try_from(group.num_rows()).unwrap_or(0));
        let found = self.numbers(leaf).zip(self.locations(leaf));
        let ((stored, to), pages) = found.ok_or_else(|| damaged("a column is not of numbers"))?;
        Ok(match stored {
            Type::INT32 | Type::FLOAT => Box::new(Column::<u32>::new(bytes, chunk, pages, rows, to.clone())?),
            _ => Box::new(Column::<u64>::new(bytes, chunk, pages, rows, to.clone())?),
        })
    }
}

/// Decodes columns of a row group together.
pub(super) struct Decoder {
    columns: Vec<Box<dyn Numbers>>,
    /// Columns are not at the same row any more.
    failed: bool,
}

impl Decoder {
    /// Of columns that [`RowGroup::decodes`], whose bytes were fetched.
    pub(super) fn new(group: RowGroup<'_>, leaves: impl Iterator<Item = usize>, bytes: &Arc<Fetched>) -> Result<Self, ParquetError> {
        Ok(Self { columns: leaves.map(|leaf| group.column(leaf, bytes)).collect::<Result<_, _>>()?, failed: false })
    }

    /// The values of rows (first, rows), which ascend and lie behind those that were read before.
    pub(super) fn read(&mut self, places: &[(u32, u32)]) -> Result<Vec<ArrayRef>, ParquetError> {
        if self.failed {
            return Err(damaged("a column is read behind a page that could not be decoded"));
        }
        let rows = places.iter().map(|(_, rows)| *rows as usize).sum();
        let read = |column: &mut Box<dyn Numbers>| {
            column.reserve(rows);
            column.read(places)?;
            column.take()
        };
        let columns: Result<_, _> = self.columns.iter_mut().map(read).collect();
        self.failed = columns.is_err();
        columns
    }
}
