//! Rows of one series stand together in a sorted run; here is where each series begins and what its tags are.
//!
//! Invariants:
//! - Keys compare as the tags do in the one total order of values (see [`KeyEncoder`]), and neighbouring stretches
//!   have different keys.
//! - Tags are kept once per stretch and repeated when rows go out, never compared or copied row by row.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, RunArray, StringArray, UInt32Array};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::{interleave, partition, take};
use arrow::datatypes::DataType as ArrowType;
use arrow::error::ArrowError;

use super::key::KeyEncoder;
use crate::request::Tags;
use crate::sst::Error;

/// How tags come out of a merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A value in each row, of the column's type.
    Values,
    /// Run-end encoded.
    Runs,
    /// For what writes files; see [`code_tags`].
    Coded,
}

impl From<Tags> for Form {
    fn from(tags: Tags) -> Self {
        match tags {
            Tags::Values => Self::Values,
            Tags::Runs => Self::Runs,
        }
    }
}

/// The keys of some series, and their tags.
#[derive(Debug, Default)]
pub(crate) struct SeriesTable {
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    /// In key order; a row per series.
    tags: Vec<ArrayRef>,
}

impl SeriesTable {
    /// The table of a region without tags: one series.
    pub(crate) fn untagged() -> Self {
        Self { keys: Vec::new(), ends: vec![0], tags: Vec::new() }
    }

    /// A table of rows of tags, in key order; the rows differ from their neighbours.
    pub(crate) fn new(encoder: &KeyEncoder, tags: Vec<ArrayRef>) -> Result<Self, Error> {
        let rows = encoder.encode(&tags)?;
        let (mut keys, mut ends) = (Vec::with_capacity(rows.size()), Vec::with_capacity(rows.num_rows()));
        for row in &rows {
            keys.extend_from_slice(row.data());
            ends.push(u32::try_from(keys.len()).map_err(|_| Error::BatchShape { detail: "tags of one batch exceed 4 GiB".to_owned() })?);
        }
        Ok(Self { keys, ends, tags })
    }

    /// The key of a series.
    #[inline]
    pub(crate) fn key(&self, series: u32) -> &[u8] {
        let series = series as usize;
        let start = if series == 0 { 0 } else { self.ends[series - 1] as usize };
        &self.keys[start..self.ends[series] as usize]
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn tags(&self) -> &[ArrayRef] {
        &self.tags
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        let tags: usize = self.tags.iter().map(|tags| tags.get_array_memory_size()).sum();
        self.keys.capacity() + self.ends.capacity() * size_of::<u32>() + tags + size_of::<Self>()
    }
}

/// Neighbouring rows of one series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Its place in the table.
    pub(crate) series: u32,
    /// The row behind the last.
    pub(crate) end: u32,
}

/// The series of the rows of a batch.
#[derive(Debug, Clone)]
pub(crate) struct Stretches {
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) list: Vec<Stretch>,
}

impl Stretches {
    /// Of a batch without tags.
    pub(crate) fn untagged(rows: usize) -> Self {
        let list = if rows == 0 { Vec::new() } else { vec![Stretch { series: 0, end: rows as u32 }] };
        Self { table: Arc::new(SeriesTable::untagged()), list }
    }

    /// Of sorted rows with these tags, in key order.
    pub(crate) fn find(encoder: Option<&KeyEncoder>, tags: &[ArrayRef], rows: usize) -> Result<Self, Error> {
        let Some(encoder) = encoder else { return Ok(Self::untagged(rows)) };
        let starts = starts(tags, rows)?;
        let firsts = UInt32Array::from(starts.clone());
        let tags = tags.iter().map(|column| plain(&take(column, &firsts, None)?)).collect::<Result<Vec<_>, _>>();
        let tags = tags.map_err(Error::arrow("pick tags"))?;
        let table = SeriesTable::new(encoder, tags)?;
        let ends = starts.iter().skip(1).copied().chain([rows as u32]);
        let list = Self::join(&table, (0..).zip(ends).map(|(series, end)| Stretch { series, end }));
        Ok(Self { table: Arc::new(table), list })
    }

    /// Of rows of which only some tags are there, for output alone: keys of this table must not be compared.
    pub(crate) fn find_unkeyed(tags: Vec<Option<ArrayRef>>, rows: usize) -> Result<Self, Error> {
        let some: Vec<ArrayRef> = tags.iter().flatten().cloned().collect();
        let starts = starts(&some, rows)?;
        let firsts = UInt32Array::from(starts.clone());
        let missing = |count| arrow::array::new_null_array(&ArrowType::Null, count);
        let tags =
            tags.iter().map(|column| column.as_ref().map_or_else(|| Ok(missing(starts.len())), |column| take(column, &firsts, None)));
        let tags = tags.collect::<Result<Vec<_>, _>>().map_err(Error::arrow("pick tags"))?;
        let table = SeriesTable { keys: Vec::new(), ends: vec![0; starts.len()], tags };
        let ends = starts.iter().skip(1).copied().chain([rows as u32]);
        let list = if rows == 0 { Vec::new() } else { (0..).zip(ends).map(|(series, end)| Stretch { series, end }).collect() };
        Ok(Self { table: Arc::new(table), list })
    }

    /// Joins neighbours of one key: tags that differ in bits may be equal in the order of values, as 0 and −0.
    pub(crate) fn join(table: &SeriesTable, stretches: impl Iterator<Item = Stretch>) -> Vec<Stretch> {
        let mut list: Vec<Stretch> = Vec::with_capacity(table.len());
        for Stretch { series, end } in stretches {
            match list.last_mut() {
                Some(last) if table.key(last.series) == table.key(series) => last.end = end,
                _ => list.push(Stretch { series, end }),
            }
        }
        list
    }

    /// The series of the rows in `pieces` alone, as if nothing lay between them.
    pub(crate) fn select(&self, pieces: &[(u32, u32)]) -> Self {
        let mut end = 0;
        let runs = self.runs(pieces).into_iter();
        let list = runs.map(|(series, rows)| {
            end += rows;
            Stretch { series, end }
        });
        Self { table: Arc::clone(&self.table), list: list.collect() }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes() + self.list.capacity() * size_of::<Stretch>() + size_of::<Self>()
    }

    /// The runs (series, rows) of the rows in `pieces` (first row, rows), which ascend.
    pub(crate) fn runs(&self, pieces: &[(u32, u32)]) -> Vec<(u32, u32)> {
        let first = pieces.first().map_or(0, |(from, _)| *from);
        let mut at = self.list.partition_point(|stretch| stretch.end <= first);
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for &(from, rows) in pieces {
            let (mut from, end) = (from, from + rows);
            while from < end {
                while self.list[at].end <= from {
                    at += 1;
                }
                let Stretch { series, end: stop } = self.list[at];
                let taken = stop.min(end) - from;
                match runs.last_mut() {
                    Some((last, count)) if *last == series => *count += taken,
                    _ => runs.push((series, taken)),
                }
                from += taken;
            }
        }
        runs
    }

    /// The row behind the last.
    pub(crate) fn rows(&self) -> u32 {
        self.list.last().map_or(0, |stretch| stretch.end)
    }
}

/// The first row of each stretch of rows with the same tags.
pub(crate) fn starts(tags: &[ArrayRef], rows: usize) -> Result<Vec<u32>, Error> {
    if rows == 0 {
        return Ok(Vec::new());
    }
    let mut changes = vec![false; rows];
    changes[0] = true;
    for column in tags {
        match column.as_dictionary_opt::<arrow::datatypes::Int32Type>() {
            Some(column) if column.null_count() == 0 => {
                let keys = column.keys().values();
                for (change, pair) in changes[1..].iter_mut().zip(keys.windows(2)) {
                    *change |= pair[0] != pair[1];
                }
            }
            _ => {
                let column = plain(column).map_err(Error::arrow("decode tags"))?;
                let ranges = partition(&[column]).map_err(Error::arrow("find rows of the same tags"))?.ranges();
                ranges.iter().for_each(|range| changes[range.start] = true);
            }
        }
    }
    Ok((0..rows as u32).filter(|row| changes[*row as usize]).collect())
}

/// The same values without a dictionary.
pub(crate) fn plain(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match array.data_type() {
        ArrowType::Dictionary(_, values) => arrow::compute::cast(array, values),
        _ => Ok(Arc::clone(array)),
    }
}

/// A column that holds the value at `row` so many times, for each (row, times).
pub(crate) fn repeat_rows(array: &ArrayRef, runs: &[(u32, u32)], form: Form) -> Result<ArrayRef, Error> {
    match form {
        Form::Values => {}
        Form::Runs => return run_ends(array, runs).map_err(Error::arrow("repeat tags")),
        Form::Coded => {
            // Who keeps some of these rows does not keep the tags of all series.
            let few = array.len() > runs.len();
            let places = UInt32Array::from_iter_values(runs.iter().map(|(row, _)| *row));
            let values = if few { take(array, &places, None).map_err(Error::arrow("pick tags"))? } else { Arc::clone(array) };
            let numbers = runs.iter().zip(0..).map(|((row, times), run)| (if few { run } else { *row as i32 }, *times as usize));
            let rows = numbers.flat_map(|(number, times)| std::iter::repeat_n(number, times));
            return code_tags(&Int32Array::from_iter_values(rows), &values);
        }
    }
    if let Some(text) = array.as_string_opt::<i32>().filter(|text| text.null_count() == 0)
        && let Some(repeated) = repeat_text(text, runs)
    {
        return Ok(Arc::new(repeated));
    }
    let places = UInt32Array::from_iter_values(runs.iter().flat_map(|(row, times)| std::iter::repeat_n(*row, *times as usize)));
    take(array, &places, None).map_err(Error::arrow("repeat tags"))
}

/// The tag of the series of each row as what writes files takes it: text as a dictionary with a value per series, which an
/// encoder that goes by runs has next to nothing to do for.
pub(crate) fn code_tags(series: &Int32Array, values: &ArrayRef) -> Result<ArrayRef, Error> {
    if *values.data_type() != ArrowType::Utf8 {
        return take(values, series, None).map_err(Error::arrow("repeat tags"));
    }
    let coded = DictionaryArray::try_new(series.clone(), Arc::clone(values)).map_err(Error::arrow("code tags"))?;
    Ok(Arc::new(coded))
}

/// The same, run-end encoded.
fn run_ends(array: &ArrayRef, runs: &[(u32, u32)]) -> Result<ArrayRef, ArrowError> {
    let runs = || runs.iter().filter(|(_, times)| *times > 0);
    let ends = runs().scan(0, |end, (_, times)| {
        *end += *times as i32;
        Some(*end)
    });
    let values = take(array, &UInt32Array::from_iter_values(runs().map(|(row, _)| *row)), None)?;
    Ok(Arc::new(RunArray::try_new(&Int32Array::from_iter_values(ends), &values)?))
}

/// `None` if the result would be too long for an array.
fn repeat_text(text: &StringArray, runs: &[(u32, u32)]) -> Option<StringArray> {
    let (starts, bytes) = (text.value_offsets(), text.value_data());
    let value = |row: u32| &bytes[starts[row as usize] as usize..starts[row as usize + 1] as usize];
    let rows: usize = runs.iter().map(|(_, times)| *times as usize).sum();
    let total: usize = runs.iter().map(|(row, times)| value(*row).len() * *times as usize).sum();
    i32::try_from(total).ok()?;
    let (mut values, mut offsets) = (Vec::with_capacity(total), Vec::with_capacity(rows + 1));
    offsets.push(0_i32);
    let mut end = 0_i32;
    for &(row, times) in runs {
        let value = value(row);
        let length = value.len() as i32;
        offsets.extend((0..times as i32).map(|n| end + (n + 1) * length));
        end += length * times as i32;
        repeat_bytes(&mut values, value, times as usize);
    }
    // The bytes are whole values of an array of text, so they are text; the check costs little beside the copy.
    StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(values), None).ok()
}

/// Appends `value` so many times, by copies that become ever longer.
fn repeat_bytes(values: &mut Vec<u8>, value: &[u8], times: usize) {
    let (start, total) = (values.len(), value.len() * times);
    values.extend_from_slice(&value[..value.len().min(total)]);
    while values.len() - start < total {
        let present = values.len() - start;
        values.extend_from_within(start..start + present.min(total - present));
    }
}

/// The tags of so many rows of each series, one after the other.
pub(crate) fn repeat_tags(runs: &[(Arc<SeriesTable>, u32, u32)], tag: usize, form: Form) -> Result<ArrayRef, Error> {
    let mut tables: Vec<&Arc<SeriesTable>> = Vec::new();
    let mut places = Vec::with_capacity(runs.len());
    for (table, series, _) in runs {
        // Tables change seldom from one series to the next, and there are few.
        let known = tables.iter().rposition(|other| Arc::ptr_eq(other, table));
        let number = known.unwrap_or_else(|| {
            tables.push(table);
            tables.len() - 1
        });
        places.push((number, *series as usize));
    }
    if let [table] = tables[..] {
        let runs: Vec<(u32, u32)> = runs.iter().map(|(_, series, times)| (*series, *times)).collect();
        return repeat_rows(&table.tags[tag], &runs, form);
    }
    let columns: Vec<&dyn Array> = tables.iter().map(|table| table.tags[tag].as_ref()).collect();
    let each = interleave(&columns, &places).map_err(Error::arrow("gather tags"))?;
    let runs: Vec<(u32, u32)> = runs.iter().zip(0..).map(|((_, _, times), row)| (row, *times)).collect();
    repeat_rows(&each, &runs, form)
}

/// The tags of a batch, in key order.
pub(crate) fn tags_of(batch: &RecordBatch, positions: &[usize]) -> Vec<ArrayRef> {
    positions.iter().map(|p| Arc::clone(batch.column(*p))).collect()
}
