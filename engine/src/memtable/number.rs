//! Which series each row of some batches is of.
//!
//! Rows of a time series table come again in the order in which they came before: collectors report their hosts in
//! turn. So the key of one row is looked up, and the rows behind it are compared, column by column and many at a
//! time, with those behind an earlier row of that key. Where the order is another, keys are encoded and looked up in
//! blocks that double.
//!
//! Invariants:
//! - Rows that are taken for the same as earlier ones have the same bytes in every tag. Other bytes may still be the
//!   same key (0 and −0), which the encoded key decides.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::DataType as ArrowType;

use crate::merge::key::{KeyEncoder, KeyHasher};
use crate::merge::layout::{KeyColumns, Layout};
use crate::sst::Error;

/// Rows whose keys are encoded at once, at most.
const BLOCK_ROWS_MAX: usize = 4096;
/// Rows that are compared at once, at first and at most.
const COMPARED_ROWS: (usize, usize) = (16, 4096);

/// The series of some batches, by first appearance.
#[derive(Debug, Default)]
pub(super) struct SeriesNumbers {
    numbers: HashMap<Box<[u8]>, u32, BuildHasherDefault<KeyHasher>>,
    /// For each series, a row of it: (batch, row).
    places: Vec<(u32, u32)>,
    /// For each batch, the series of each row.
    of_rows: Vec<Vec<u32>>,
}

impl SeriesNumbers {
    /// Numbers the series of `sources`, batches of the layout.
    pub(super) fn find(layout: &Layout, keys: &KeyColumns, sources: &[RecordBatch]) -> Result<Self, Error> {
        let mut out = Self::default();
        if keys.tags.is_empty() {
            out.numbers.insert(Box::default(), 0);
            out.places.push((0, 0));
            out.of_rows = sources.iter().map(|source| vec![0; source.num_rows()]).collect();
            return Ok(out);
        }
        let encoder = KeyEncoder::new(keys.tags.iter().map(|p| layout.arrow().field(*p).data_type().clone()))?;
        let tags = |source: &RecordBatch| keys.tags.iter().map(|p| source.column(*p).clone()).collect::<Vec<ArrayRef>>();
        let tags: Vec<Vec<ArrayRef>> = sources.iter().map(tags).collect();
        let columns: Vec<Option<Vec<Plain<'_>>>> = tags.iter().map(|tags| tags.iter().map(Plain::of).collect()).collect();
        for (source, batch) in sources.iter().enumerate() {
            out.of_rows.push(Vec::with_capacity(batch.num_rows()));
            out.number_batch(&encoder, &tags[source], &columns, batch.num_rows())?;
        }
        Ok(out)
    }

    /// The series of each row of each batch.
    pub(super) fn of_rows(&self) -> &[Vec<u32>] {
        &self.of_rows
    }

    /// For each series number, its place among all in key order.
    pub(super) fn ranks(&self) -> Vec<u32> {
        let mut keys: Vec<(&[u8], u32)> = self.numbers.iter().map(|(key, number)| (key.as_ref(), *number)).collect();
        keys.sort_unstable();
        let mut ranks = vec![0; keys.len()];
        for (rank, (_, number)) in keys.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        ranks
    }

    /// Numbers the rows of the last of the batches.
    fn number_batch(
        &mut self,
        encoder: &KeyEncoder,
        tags: &[ArrayRef],
        columns: &[Option<Vec<Plain<'_>>>],
        rows: usize,
    ) -> Result<(), Error> {
        let source = self.of_rows.len() - 1;
        let (mut row, mut block) = (0, 1);
        while row < rows {
            let taken = block.min(rows - row);
            let slices: Vec<ArrayRef> = tags.iter().map(|tag| tag.slice(row, taken)).collect();
            let mut last = 0;
            for key in encoder.encode(&slices)?.iter() {
                last = self.number(key.data(), (source as u32, self.of_rows[source].len() as u32));
                self.of_rows[source].push(last);
            }
            row += taken;
            let again = self.again(columns, last, row, rows);
            block = if again == 0 { (block * 2).min(BLOCK_ROWS_MAX) } else { 1 };
            row += again;
        }
        Ok(())
    }

    /// Takes the rows of the last batch from `row` on that come as they came behind the known row of `series`, and
    /// says how many.
    fn again(&mut self, columns: &[Option<Vec<Plain<'_>>>], series: u32, row: usize, rows: usize) -> usize {
        let source = self.of_rows.len() - 1;
        let (from, known) = self.places[series as usize];
        let (from, known) = (from as usize, known as usize + 1);
        let most = (rows - row).min(self.of_rows[from].len().saturating_sub(known));
        let (Some(old), Some(new)) = (&columns[from], &columns[source]) else { return 0 };
        if (from, known) == (source, row) {
            return 0;
        }
        let (mut same, mut step) = (0, COMPARED_ROWS.0);
        while same < most && step > 0 {
            let next = step.min(most - same);
            let equal = old.iter().zip(new).all(|(old, new)| old.equals(known + same, new, row + same, next));
            if equal {
                same += next;
                step = (step * 2).min(COMPARED_ROWS.1);
            } else {
                step = next / 2;
            }
        }
        if from == source {
            self.of_rows[source].extend_from_within(known..known + same);
        } else {
            let (before, now) = self.of_rows.split_at_mut(source);
            now[0].extend_from_slice(&before[from][known..known + same]);
        }
        same
    }

    fn number(&mut self, key: &[u8], place: (u32, u32)) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(key.into(), number);
        self.places.push(place);
        number
    }
}

/// A column without NULLs whose bytes can be compared.
enum Plain<'a> {
    Text { offsets: &'a [i32], bytes: &'a [u8] },
    Fixed { width: usize, bytes: &'a [u8] },
}

impl<'a> Plain<'a> {
    fn of(array: &'a ArrayRef) -> Option<Self> {
        if array.null_count() > 0 {
            return None;
        }
        match array.data_type() {
            ArrowType::Utf8 => {
                let text = array.as_string::<i32>();
                Some(Self::Text { offsets: text.value_offsets(), bytes: text.value_data() })
            }
            ArrowType::Int64 => {
                Some(Self::Fixed { width: 8, bytes: array.as_primitive::<arrow::datatypes::Int64Type>().values().inner().as_slice() })
            }
            ArrowType::UInt64 => {
                Some(Self::Fixed { width: 8, bytes: array.as_primitive::<arrow::datatypes::UInt64Type>().values().inner().as_slice() })
            }
            ArrowType::Int32 => {
                Some(Self::Fixed { width: 4, bytes: array.as_primitive::<arrow::datatypes::Int32Type>().values().inner().as_slice() })
            }
            ArrowType::UInt32 => {
                Some(Self::Fixed { width: 4, bytes: array.as_primitive::<arrow::datatypes::UInt32Type>().values().inner().as_slice() })
            }
            _ => None,
        }
    }

    /// Whether so many values from `at` on are those of `other` from `there` on.
    fn equals(&self, at: usize, other: &Self, there: usize, rows: usize) -> bool {
        match (self, other) {
            (Self::Text { offsets: a, bytes: text }, Self::Text { offsets: b, bytes: other }) => {
                let (a, b) = (&a[at..=at + rows], &b[there..=there + rows]);
                // Without a branch, so that several are compared at a time.
                let differ = a.iter().zip(b).fold(0, |differ, (x, y)| differ | (x - a[0]) ^ (y - b[0]));
                differ == 0 && text[a[0] as usize..a[rows] as usize] == other[b[0] as usize..b[rows] as usize]
            }
            (Self::Fixed { width, bytes: a }, Self::Fixed { bytes: b, .. }) => {
                a[at * width..(at + rows) * width] == b[there * width..(there + rows) * width]
            }
            _ => false,
        }
    }
}
