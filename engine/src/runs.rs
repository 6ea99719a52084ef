//! Runs of neighbouring rows of a scan that belong to one group of an aggregation, and what becomes of each.
//!
//! Invariants:
//! - Two neighbours of one run agree in every key; two runs may be of one group.
//! - A run becomes what DataFusion's partial aggregation keeps of a group, so that its final one goes on from there.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Float64Array, Int64Array, PrimitiveArray, RunArray, StringArray, UInt32Array, UInt64Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, partition, take};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use arrow::error::ArrowError;

use crate::buckets::Buckets;

/// Rows that are compared at a time.
const BLOCK_ROWS: usize = 64;
/// Numbers from which on a sum is made of several.
const LANES_MIN: usize = 32;

/// What tells groups apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The value of a column, which may be run-end encoded.
    Column(usize),
    /// The bucket of time in which a column without NULLs lies; NULL if it lies in none.
    Bucket {
        /// The column.
        column: usize,
        /// In units of the column.
        buckets: Buckets,
    },
}

impl Key {
    /// The column that it is made of.
    #[must_use]
    pub fn column(&self) -> usize {
        match self {
            Self::Column(column) | Self::Bucket { column, .. } => *column,
        }
    }

    /// Marks each row that differs from the one before it.
    fn mark(&self, array: &ArrayRef, marks: &mut [bool]) -> Result<(), ArrowError> {
        if let Self::Bucket { buckets, .. } = self {
            let times = cast(array, &DataType::Int64)?;
            let times = times.as_primitive::<Int64Type>().values();
            mark_buckets(times, buckets.width(), marks);
            if !buckets.hold((i64::MIN, i64::MAX)) {
                mark_ends(times, buckets, marks);
            }
            return Ok(());
        }
        if let Some(runs) = array.as_run_opt::<Int32Type>() {
            for end in runs.run_ends().sliced_values() {
                // The last run ends behind the last row.
                marks.get_mut(end as usize).into_iter().for_each(|mark| *mark = true);
            }
            return Ok(());
        }
        match array.as_string_opt::<i32>().filter(|text| text.null_count() == 0) {
            Some(text) => mark_text(text, marks),
            None => partition(std::slice::from_ref(array))?.ranges().iter().for_each(|range| marks[range.start] = true),
        }
        Ok(())
    }

    /// Its value at `rows`.
    fn values(&self, array: &ArrayRef, rows: &UInt32Array) -> Result<ArrayRef, ArrowError> {
        if let Some(runs) = array.as_run_opt::<Int32Type>() {
            return take(runs.values(), &places_in_runs(runs, rows), None);
        }
        let taken = take(array, rows, None)?;
        let Self::Bucket { buckets, .. } = self else { return Ok(taken) };
        let times = cast(&taken, &DataType::Int64)?;
        let starts = times.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(|time| buckets.start(time));
        cast(&starts, array.data_type())
    }
}

/// The places among the values of ascending rows.
fn places_in_runs(runs: &RunArray<Int32Type>, rows: &UInt32Array) -> UInt32Array {
    let first = runs.get_start_physical_index();
    let mut ends = (first as u32..).zip(runs.run_ends().sliced_values()).peekable();
    let place = |row: &u32| {
        while ends.next_if(|(_, end)| *end as u32 <= *row).is_some() {}
        ends.peek().map_or(first as u32, |(place, _)| *place)
    };
    UInt32Array::from_iter_values(rows.values().iter().map(place))
}

fn mark_buckets(times: &[i64], width: i64, marks: &mut [bool]) {
    // From a time on, so many units: no time lies in it yet.
    let (mut from, mut units) = (0_i64, 0_u64);
    let within = |time: i64, from: i64, units: u64| (time.wrapping_sub(from) as u64) < units;
    for (marks, times) in marks.chunks_mut(BLOCK_ROWS).zip(times.chunks(BLOCK_ROWS)) {
        // Mostly all of them lie in the present one, which is told without a branch for each.
        if times.iter().fold(true, |all, time| all & within(*time, from, units)) {
            continue;
        }
        for (mark, time) in marks.iter_mut().zip(times) {
            if !within(*time, from, units) {
                *mark = true;
                // Either end may lie beyond all times, so that neither is computed from the other.
                let since = time.rem_euclid(width);
                from = time.saturating_sub(since);
                units = time.saturating_add(width - since).wrapping_sub(from) as u64;
            }
        }
    }
}

/// Marks where one of two neighbours lies in no bucket.
fn mark_ends(times: &[i64], buckets: &Buckets, marks: &mut [bool]) {
    let held = |time: i64| buckets.hold((time, time));
    for (mark, pair) in marks.iter_mut().skip(1).zip(times.windows(2)) {
        *mark |= held(pair[0]) != held(pair[1]);
    }
}

fn mark_text(text: &StringArray, marks: &mut [bool]) {
    let (offsets, bytes) = (text.value_offsets(), text.value_data());
    let part = |from: usize, to: usize| &bytes[offsets[from] as usize..offsets[to] as usize];
    for from in (1..text.len()).step_by(BLOCK_ROWS) {
        let to = text.len().min(from + BLOCK_ROWS);
        // Text of one length is the same in all rows just if it is the same when it is moved by one row.
        let length = offsets[from] - offsets[from - 1];
        let alike = offsets[from..=to].windows(2).fold(true, |alike, pair| alike & (pair[1] - pair[0] == length));
        if !alike || part(from - 1, to - 1) != part(from, to) {
            (from..to).for_each(|row| marks[row] |= part(row - 1, row) != part(row, row + 1));
        }
    }
}

/// The runs of some rows.
pub struct Runs {
    starts: UInt32Array,
    rows: usize,
}

impl Runs {
    /// Those of `columns` by these keys.
    ///
    /// # Errors
    /// Columns that cannot be compared.
    pub fn find(keys: &[Key], columns: &[ArrayRef], rows: usize) -> Result<Self, ArrowError> {
        let mut marks = vec![false; rows];
        if let Some(first) = marks.first_mut() {
            *first = true;
        }
        for key in keys {
            key.mark(&columns[key.column()], &mut marks)?;
        }
        let mut starts: Vec<u32> = Vec::new();
        for (block, marks) in (0..).step_by(BLOCK_ROWS).zip(marks.chunks(BLOCK_ROWS)) {
            if marks.iter().fold(false, |any, mark| any | mark) {
                starts.extend((block..).zip(marks).filter(|(_, mark)| **mark).map(|(row, _)| row));
            }
        }
        Ok(Self { starts: starts.into(), rows })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The value of a key in each run.
    ///
    /// # Errors
    /// A column that is not of a time where one is meant.
    pub fn values(&self, key: &Key, columns: &[ArrayRef]) -> Result<ArrayRef, ArrowError> {
        key.values(&columns[key.column()], &self.starts)
    }

    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let starts = self.starts.values().iter().map(|start| *start as usize);
        starts.clone().zip(starts.skip(1).chain([self.rows])).map(|(from, to)| from..to)
    }

    /// Values of each run that are not NULL.
    fn counts(&self, nulls: Option<&NullBuffer>) -> Vec<u64> {
        let valid = |range: Range<usize>| match nulls {
            None => range.len(),
            Some(nulls) => range.filter(|row| nulls.is_valid(*row)).count(),
        };
        self.ranges().map(|range| valid(range) as u64).collect()
    }

    /// Folds the values of each run that are not NULL; NULL if there is none.
    fn fold<T: ArrowPrimitiveType>(&self, array: &PrimitiveArray<T>, all: impl Fn(&[T::Native]) -> T::Native) -> PrimitiveArray<T> {
        let values = array.values();
        let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) else {
            return PrimitiveArray::from_iter_values(self.ranges().map(|range| all(&values[range])));
        };
        let mut present = Vec::new();
        let folded = self.ranges().map(|range| {
            present.clear();
            present.extend(range.filter(|row| nulls.is_valid(*row)).map(|row| values[row]));
            (!present.is_empty()).then(|| all(&present))
        });
        folded.collect::<Vec<_>>().into_iter().collect()
    }
}

/// How the values of a run become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduce {
    /// The number that are not NULL.
    Count,
    /// Their sum.
    Sum,
    /// Their number and their sum.
    Average,
    /// The least.
    Min,
    /// The greatest.
    Max,
}

/// How a column of the states of two runs becomes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// NULL counts as nothing, unless both are.
    Add,
    /// The least.
    Least,
    /// The greatest.
    Greatest,
}

impl Reduce {
    /// How states are merged, column by column.
    #[must_use]
    pub fn merged_by(self) -> &'static [Merge] {
        match self {
            Self::Count | Self::Sum => &[Merge::Add],
            Self::Average => &[Merge::Add, Merge::Add],
            Self::Min => &[Merge::Least],
            Self::Max => &[Merge::Greatest],
        }
    }

    /// The types of its state for values of this type, if it is done here.
    #[must_use]
    pub fn state(self, values: &DataType) -> Option<Vec<DataType>> {
        match (self, values) {
            (Self::Count, _) => Some(vec![DataType::Int64]),
            (Self::Average, DataType::Float64) => Some(vec![DataType::UInt64, DataType::Float64]),
            (Self::Sum | Self::Min | Self::Max, DataType::Float64 | DataType::Int64)
            | (Self::Min | Self::Max, DataType::Timestamp(_, _)) => Some(vec![values.clone()]),
            _ => None,
        }
    }

    /// The state of each run of values whose type [`state`](Self::state) knows.
    ///
    /// # Errors
    /// Values of another type.
    pub fn apply(self, array: &ArrayRef, runs: &Runs) -> Result<Vec<ArrayRef>, ArrowError> {
        match self {
            Self::Count => {
                let counts = runs.counts(array.logical_nulls().as_ref());
                let counts = counts.into_iter().map(|count| i64::try_from(count).unwrap_or(i64::MAX));
                Ok(vec![Arc::new(Int64Array::from_iter_values(counts))])
            }
            Self::Average => {
                let sums = self.fold(array, runs)?;
                let counts = runs.counts(array.nulls());
                Ok(vec![Arc::new(UInt64Array::new(counts.into(), sums.nulls().cloned())), sums])
            }
            _ => Ok(vec![self.fold(array, runs)?]),
        }
    }

    fn fold(self, array: &ArrayRef, runs: &Runs) -> Result<ArrayRef, ArrowError> {
        if let Some(numbers) = array.as_primitive_opt::<Float64Type>() {
            // As DataFusion has it: a NaN takes the place of a number, and a number that of a NaN.
            let folded: Float64Array = match self {
                Self::Min => runs.fold(numbers, |values| least(values, |new, least| new >= least)),
                Self::Max => runs.fold(numbers, |values| least(values, |new, greatest| new <= greatest)),
                _ => runs.fold(numbers, sum),
            };
            return Ok(Arc::new(folded));
        }
        let numbers = cast(array, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        let folded = match self {
            Self::Min => runs.fold(numbers, |values| least(values, |new, least| new >= least)),
            Self::Max => runs.fold(numbers, |values| least(values, |new, greatest| new <= greatest)),
            _ => runs.fold(numbers, |values| values.iter().fold(0, |sum: i64, value| sum.wrapping_add(*value))),
        };
        cast(&folded, array.data_type())
    }
}

/// The value that others do not take the place of; `stays(new, present)`.
fn least<T: Copy + Default>(values: &[T], stays: impl Fn(T, T) -> bool) -> T {
    let Some((first, others)) = values.split_first() else { return T::default() };
    others.iter().fold(*first, |present, new| if stays(*new, present) { present } else { *new })
}

/// Four sums at a time, for an addition waits for the one before it.
fn sum(values: &[f64]) -> f64 {
    if values.len() < LANES_MIN {
        return values.iter().fold(0.0, |sum, value| sum + value);
    }
    let (fours, rest) = values.as_chunks::<4>();
    // Plain additions: an iterator over the lanes is called four times a number where it is not inlined.
    let [mut a, mut b, mut c, mut d] = [0.0; 4];
    for [first, second, third, fourth] in fours {
        a += first;
        b += second;
        c += third;
        d += fourth;
    }
    rest.iter().fold((a + b) + (c + d), |sum, value| sum + value)
}

#[cfg(test)]
mod tests;
