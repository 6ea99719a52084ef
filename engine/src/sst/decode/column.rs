//! The numbers of a column of a row group, page by page.

use std::mem;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::DataType as ArrowType;
use bytes::Bytes;
use parquet::basic::{Encoding, Type};
use parquet::column::page::{Page, PageReader};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::file::serialized_reader::SerializedPageReader;

use super::damaged;
use super::delta::Delta;
use super::dictionary::Dictionary;
use super::fetched::Fetched;
use super::hybrid::Runs;
use super::page::{self, Parts};
use super::word::Word;

/// A column that is read from its first row to its last.
pub(super) trait Numbers: Send {
    /// Makes room for so many values.
    fn reserve(&mut self, rows: usize);

    /// Adds the values of rows (first, rows) of the row group, which ascend and lie behind those that were read before.
    fn read(&mut self, places: &[(u32, u32)]) -> Result<(), ParquetError>;

    /// The values that were read since the last call.
    fn take(&mut self) -> Result<ArrayRef, ParquetError>;
}

/// The values of a page, NULLs left out.
#[derive(Debug)]
enum Values<T> {
    Plain { bytes: Bytes, at: usize },
    Dictionary(Runs),
    Delta(Delta<T>),
}

/// A page that is being read.
#[derive(Debug)]
struct Open<T> {
    values: Values<T>,
    /// Which rows have a value; `None` if all have.
    valid: Option<BooleanBuffer>,
    rows: Range<u32>,
    /// The next row.
    at: u32,
}

/// A column of numbers of as many bytes as `T`.
pub(super) struct Column<T: Word> {
    pages: SerializedPageReader<Fetched>,
    /// The rows of each page.
    ranges: Vec<Range<u32>>,
    /// Of the pages, the next that is read or skipped.
    next: usize,
    nullable: bool,
    /// Not floating point, which has no differences.
    whole: bool,
    to: ArrowType,
    dictionary: Option<Dictionary<T>>,
    page: Option<Open<T>>,
    out: Vec<T>,
    /// Which of `out` are values, if not all are.
    valid: Option<BooleanBufferBuilder>,
}

impl<T: Word> Column<T> {
    pub(super) fn new(
        bytes: &Arc<Fetched>,
        chunk: &ColumnChunkMetaData,
        locations: &[PageLocation],
        rows: usize,
        to: ArrowType,
    ) -> Result<Self, ParquetError> {
        let pages = SerializedPageReader::new(Arc::clone(bytes), chunk, rows, Some(locations.to_vec()))?;
        let first = |location: &PageLocation| u32::try_from(location.first_row_index).map_err(|_| damaged("a page has no first row"));
        let starts = locations.iter().map(first).collect::<Result<Vec<_>, _>>()?;
        let ends = starts.iter().skip(1).copied().chain([rows as u32]);
        let ranges: Vec<Range<u32>> = starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect();
        if ranges.iter().any(|range| range.start > range.end) {
            return Err(damaged("pages are not in the order of their rows"));
        }
        let nullable = chunk.column_descr().max_def_level() > 0;
        let whole = matches!(chunk.column_type(), Type::INT32 | Type::INT64);
        Ok(Self { pages, ranges, next: 0, nullable, whole, to, dictionary: None, page: None, out: Vec::new(), valid: None })
    }

    /// Opens the page that has a row.
    fn open(&mut self, row: u32) -> Result<(), ParquetError> {
        if self.next == 0 {
            self.read_dictionary()?;
        }
        while self.ranges.get(self.next).is_some_and(|range| range.end <= row) {
            self.pages.skip_next_page()?;
            self.next += 1;
        }
        let rows = self.ranges.get(self.next).cloned().ok_or_else(|| damaged("a column ends before its last row"))?;
        self.next += 1;
        let page = self.pages.get_next_page()?.ok_or_else(|| damaged("a column ends before its last row"))?;
        self.page = Some(self.parse(page, rows)?);
        Ok(())
    }

    /// Reads the dictionary, if there is one; it is before the first page.
    fn read_dictionary(&mut self) -> Result<(), ParquetError> {
        if let Some((bytes, count)) = page::dictionary(&mut self.pages)? {
            self.dictionary = Some(Dictionary::new(&bytes, count)?);
        }
        Ok(())
    }

    fn parse(&self, page: Page, rows: Range<u32>) -> Result<Open<T>, ParquetError> {
        let parts = Parts::new(page, rows.end - rows.start, self.nullable)?;
        let values = match (parts.numbers()?, parts.encoding) {
            (Some(numbers), _) => Values::Dictionary(numbers),
            // Without numbers all are NULL.
            (None, Encoding::PLAIN | Encoding::RLE_DICTIONARY | Encoding::PLAIN_DICTIONARY) => Values::Plain { bytes: parts.values, at: 0 },
            (None, Encoding::DELTA_BINARY_PACKED) if self.whole => Values::Delta(Delta::new(parts.values)?),
            (None, other) => return Err(damaged(&format!("encoding {other} was not expected"))),
        };
        let at = rows.start;
        Ok(Open { values, valid: parts.valid, rows, at })
    }
}

impl<T: Word> Open<T> {
    /// How many of the next rows have a value.
    fn values_in(&self, rows: u32) -> usize {
        let from = (self.at - self.rows.start) as usize;
        self.valid.as_ref().map_or(rows as usize, |valid| valid.slice(from, rows as usize).count_set_bits())
    }

    fn skip(&mut self, rows: u32) -> Result<(), ParquetError> {
        let count = self.values_in(rows);
        match &mut self.values {
            Values::Plain { at, .. } => *at += count * T::BYTES,
            Values::Dictionary(runs) => runs.skip(count)?,
            Values::Delta(delta) => delta.skip(count)?,
        }
        self.at += rows;
        Ok(())
    }

    /// Adds values, NULLs left out.
    fn read(&mut self, count: usize, dictionary: Option<&Dictionary<T>>, out: &mut Vec<T>) -> Result<(), ParquetError> {
        match &mut self.values {
            Values::Plain { bytes, at } => {
                let end = *at + count * T::BYTES;
                let plain = bytes.get(*at..end).ok_or_else(|| damaged("a page ends before its last value"))?;
                out.extend(plain.chunks_exact(T::BYTES).map(T::from_bytes));
                *at = end;
                Ok(())
            }
            Values::Dictionary(runs) => {
                let dictionary = dictionary.ok_or_else(|| damaged("there is no dictionary before the first page"))?;
                runs.look_up(dictionary, count, out)
            }
            Values::Delta(delta) => delta.read(count, out),
        }
    }
}

impl<T: Word> Numbers for Column<T> {
    fn reserve(&mut self, rows: usize) {
        self.out.reserve_exact(rows);
    }

    fn read(&mut self, mut places: &[(u32, u32)]) -> Result<(), ParquetError> {
        while let Some((from, rows)) = places.first() {
            let mut done = self.read_short(places)?;
            if done == 0 {
                self.read_range(*from..*from + *rows)?;
                done = 1;
            }
            places = &places[done..];
        }
        Ok(())
    }

    fn take(&mut self) -> Result<ArrayRef, ParquetError> {
        let values = mem::take(&mut self.out);
        let nulls = self.valid.take().map(|mut valid| NullBuffer::new(valid.finish())).filter(|nulls| nulls.null_count() > 0);
        T::array(values, nulls, &self.to)
    }
}

impl<T: Word> Column<T> {
    /// Reads short places of the open page, where that has numbers of a dictionary and no NULL; gives how many.
    fn read_short(&mut self, places: &[(u32, u32)]) -> Result<usize, ParquetError> {
        match (&mut self.page, &self.dictionary, &self.valid) {
            (Some(Open { values: Values::Dictionary(runs), valid: None, rows, at }), Some(dictionary), None) => {
                runs.look_up_places(dictionary, at, rows.end, places, &mut self.out)
            }
            _ => Ok(0),
        }
    }

    fn read_range(&mut self, rows: Range<u32>) -> Result<(), ParquetError> {
        let mut at = rows.start;
        while at < rows.end {
            if self.page.as_ref().is_none_or(|page| page.rows.end <= at) {
                self.open(at)?;
            }
            let Some(page) = &mut self.page else { return Err(damaged("a column ends before its last row")) };
            if at < page.at {
                return Err(damaged("rows are read that were read before"));
            }
            page.skip(at - page.at)?;
            let count = rows.end.min(page.rows.end) - at;
            let values = page.values_in(count);
            let before = self.out.len();
            page.read(values, self.dictionary.as_ref(), &mut self.out)?;
            if values == count as usize {
                if let Some(valid) = &mut self.valid {
                    valid.append_n(values, true);
                }
            } else if let Some(of_page) = &page.valid {
                let valid = self.valid.get_or_insert_with(|| {
                    let mut all = BooleanBufferBuilder::new(before + count as usize);
                    all.append_n(before, true);
                    all
                });
                let of_rows = of_page.slice((at - page.rows.start) as usize, count as usize);
                valid.append_buffer(&of_rows);
                spread(&mut self.out, before, &of_rows);
            }
            page.at += count;
            at += count;
        }
        Ok(())
    }
}

/// Moves the values from `from` on to the rows that have one, and puts zeros at the others.
fn spread<T: Word>(out: &mut Vec<T>, from: usize, valid: &BooleanBuffer) {
    let mut value = out.len();
    out.resize(from + valid.len(), T::low(0));
    for row in (0..valid.len()).rev() {
        if valid.value(row) {
            value -= 1;
            out[from + row] = out[value];
        } else {
            out[from + row] = T::low(0);
        }
    }
}
