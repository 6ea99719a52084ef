//! Late sorting: the rows of a snapshot in key order.
//!
//! Primary keys repeat, so they are not compared row by row. Each distinct key (series) gets a number by
//! hashing, the distinct keys alone are sorted, and rows go to their series by counting. Within a series rows
//! mostly come in time order; a series where they do not is sorted by itself.

use std::cmp::Reverse;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch};
use arrow::compute::{interleave, interleave_record_batch};
use arrow::datatypes::{SchemaRef, UInt64Type};
use futures::stream::{self, StreamExt};

use super::number::SeriesNumbers;
use crate::merge::layout::{KeyColumns, Layout, coded};
use crate::merge::series::code_tags;
use crate::merge::{self, BATCH_ROWS, BatchStream, Run, RunTraits, value};
use crate::sst::Error;

/// Which rows of a (primary key, time) stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The newest.
    Newest,
    /// All, the newest first.
    All,
}

/// Sorted rows; batches are formed as they are asked for.
#[derive(Debug)]
pub struct SortedRun {
    layout: Arc<Layout>,
    sources: Vec<RecordBatch>,
    /// (source, row) in key order.
    order: Vec<(u32, u32)>,
    /// Where each series ends in the order.
    ends: Vec<u32>,
    at: usize,
    tags: Option<Tags>,
    deletes: bool,
    duplicates: bool,
    sequences: Option<(u64, u64)>,
}

/// The tags of the series, for batches that say only which series each row is of.
#[derive(Debug)]
struct Tags {
    schema: SchemaRef,
    /// For each column of the layout that is a tag, a value per series.
    of_series: Vec<Option<ArrayRef>>,
    /// The series of the next row.
    next: usize,
}

/// A row on its way to its place.
#[derive(Debug, Clone, Copy, Default)]
struct Placed {
    time: i64,
    sequence: u64,
    source: u32,
    row: u32,
}

impl SortedRun {
    pub(super) fn new(layout: &Arc<Layout>, sources: Vec<RecordBatch>, time: (i64, i64), rows: Rows) -> Result<Self, Error> {
        let keys = layout.keys().ok_or_else(|| Error::BatchShape { detail: "sorting needs key columns".to_owned() })?;
        let Sorted { order, ends, duplicates } = sort(layout, keys, &sources, time, rows)?;
        let (mut deletes, mut sequences) = (false, None);
        for source in &sources {
            deletes |= merge::op_types(source, keys.op_type)?.contains(&merge::layout::DELETE);
            let own = source.column(keys.sequence).as_primitive::<UInt64Type>().values();
            sequences = own.iter().fold(sequences, |bounds: Option<(u64, u64)>, sequence| {
                Some(bounds.map_or((*sequence, *sequence), |(low, high)| (low.min(*sequence), high.max(*sequence))))
            });
        }
        Ok(Self { layout: Arc::clone(layout), sources, order, ends, at: 0, tags: None, deletes, duplicates, sequences })
    }

    /// The same rows, in batches whose tags of text are dictionaries with a value per series: an encoder that goes by
    /// runs has next to nothing to do for them, and their text is copied once per series. The schema is that of
    /// [`coded`].
    pub(crate) fn into_coded(mut self) -> Result<Self, Error> {
        let Some(keys) = self.layout.keys().filter(|_| self.at == 0 && !self.order.is_empty()) else { return Ok(self) };
        self.ends.dedup();
        if self.ends.first() == Some(&0) {
            self.ends.remove(0);
        }
        let starts = [0].into_iter().chain(self.ends.iter().copied()).take(self.ends.len());
        let places: Vec<(usize, usize)> = starts.map(|start| self.order[start as usize]).map(|(s, r)| (s as usize, r as usize)).collect();
        let columns = 0..self.layout.arrow().fields().len();
        let of_series = columns.map(|p| keys.tags.contains(&p).then(|| self.gather(p, &places)).transpose());
        let of_series = of_series.collect::<Result<_, _>>()?;
        self.tags = Some(Tags { schema: coded(&self.layout), of_series, next: 0 });
        Ok(self)
    }

    /// The values of a column at some places.
    fn gather(&self, column: usize, places: &[(usize, usize)]) -> Result<ArrayRef, Error> {
        let sources: Vec<&dyn Array> = self.sources.iter().map(|source| source.column(column).as_ref()).collect();
        interleave(&sources, places).map_err(Error::arrow("gather sorted rows"))
    }

    /// The next rows, with tags as they are per series.
    fn next_coded(&mut self, tags: &mut Tags) -> Option<Result<RecordBatch, Error>> {
        let from = self.at;
        self.at = self.order.len().min(from + BATCH_ROWS);
        let chunk = &self.order[from..self.at];
        let (source, row) = *chunk.first()?;
        let mut series = Vec::with_capacity(chunk.len());
        let mut at = from;
        while at < self.at {
            let end = (self.ends[tags.next] as usize).min(self.at);
            series.extend(std::iter::repeat_n(tags.next as i32, end - at));
            at = end;
            tags.next += usize::from(end == self.ends[tags.next] as usize);
        }
        let series = Int32Array::from(series);
        let in_a_row = chunk.iter().zip(row..).all(|(&(s, r), expected)| s == source && r == expected);
        let places: Vec<(usize, usize)> = chunk.iter().map(|&(source, row)| (source as usize, row as usize)).collect();
        let columns = tags.of_series.iter().enumerate().map(|(column, values)| match values {
            Some(values) => code_tags(&series, values),
            None if in_a_row => Ok(self.sources[source as usize].column(column).slice(row as usize, chunk.len())),
            None => self.gather(column, &places),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>();
        Some(columns.and_then(|columns| {
            RecordBatch::try_new(Arc::clone(&tags.schema), columns).map_err(Error::arrow("form a batch of coded tags"))
        }))
    }

    /// Rows not yet taken.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.order.len() - self.at
    }

    /// Whether there may be deletes.
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.deletes
    }

    /// The layout of its batches.
    #[must_use]
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// What is known of them.
    #[must_use]
    pub fn traits(&self) -> RunTraits {
        RunTraits { deletes: self.deletes, duplicates: self.duplicates, sequences: self.sequences }
    }

    /// Itself as an input of a merge.
    #[must_use]
    pub fn into_run(self) -> Run {
        let traits = self.traits();
        Run::new(self.into_stream(), traits)
    }

    /// Its batches.
    #[must_use]
    pub fn into_stream(self) -> BatchStream {
        stream::iter(self).boxed()
    }
}

impl Iterator for SortedRun {
    type Item = Result<RecordBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(mut tags) = self.tags.take() {
            let batch = self.next_coded(&mut tags);
            self.tags = Some(tags);
            return batch;
        }
        let chunk = &self.order[self.at..self.order.len().min(self.at + BATCH_ROWS)];
        let (source, row) = *chunk.first()?;
        self.at += chunk.len();
        let in_a_row = chunk.iter().zip(row..).all(|(&(s, r), expected)| s == source && r == expected);
        if in_a_row {
            return Some(Ok(self.sources[source as usize].slice(row as usize, chunk.len())));
        }
        let sources: Vec<&RecordBatch> = self.sources.iter().collect();
        let places: Vec<(usize, usize)> = chunk.iter().map(|&(source, row)| (source as usize, row as usize)).collect();
        Some(interleave_record_batch(&sources, &places).map_err(Error::arrow("gather sorted rows")))
    }
}

/// Places of rows in key order.
struct Sorted {
    order: Vec<(u32, u32)>,
    /// Where each series ends; one without rows ends where it begins.
    ends: Vec<u32>,
    /// Whether a (primary key, time) is there more than once.
    duplicates: bool,
}

/// The places of the rows within the time range.
fn sort(layout: &Layout, keys: &KeyColumns, sources: &[RecordBatch], time: (i64, i64), rows: Rows) -> Result<Sorted, Error> {
    let numbers = SeriesNumbers::find(layout, keys, sources)?;
    let ranks = numbers.ranks();
    let mut starts = vec![0_usize; ranks.len() + 1];
    let mut columns = Vec::with_capacity(sources.len());
    for (source, series) in sources.iter().zip(numbers.of_rows()) {
        let times = value::times(source.column(keys.time))
            .ok_or_else(|| Error::BatchShape { detail: "time index is not a timestamp".to_owned() })?;
        for (series, t) in series.iter().zip(times) {
            starts[ranks[*series as usize] as usize + 1] += usize::from(time.0 <= *t && *t <= time.1);
        }
        columns.push((times, source.column(keys.sequence).as_primitive::<UInt64Type>().values()));
    }
    for rank in 1..starts.len() {
        starts[rank] += starts[rank - 1];
    }
    let bounds = starts.clone();
    let mut placed = vec![Placed::default(); bounds.last().copied().unwrap_or(0)];
    for (source, (series, (times, sequences))) in numbers.of_rows().iter().zip(columns).enumerate() {
        for (row, (series, t)) in series.iter().zip(times).enumerate() {
            if time.0 <= *t && *t <= time.1 {
                let place = &mut starts[ranks[*series as usize] as usize];
                placed[*place] = Placed { time: *t, sequence: sequences[row], source: source as u32, row: row as u32 };
                *place += 1;
            }
        }
    }
    Ok(sort_each(&mut placed, &bounds, rows))
}

/// Sorts each series by time, the newest row of each time first, and keeps that row or all.
fn sort_each(placed: &mut [Placed], bounds: &[usize], rows: Rows) -> Sorted {
    let mut sorted = Sorted { order: Vec::with_capacity(placed.len()), ends: Vec::with_capacity(bounds.len()), duplicates: false };
    for bound in bounds.windows(2) {
        let series = &mut placed[bound[0]..bound[1]];
        if series.windows(2).all(|pair| pair[0].time < pair[1].time) {
            sorted.order.extend(series.iter().map(|p| (p.source, p.row)));
        } else {
            series.sort_unstable_by_key(|p| (p.time, Reverse(p.sequence)));
            let mut last = None;
            for p in series.iter() {
                let again = last.replace(p.time) == Some(p.time);
                if !again || rows == Rows::All {
                    sorted.order.push((p.source, p.row));
                    sorted.duplicates |= again;
                }
            }
        }
        sorted.ends.push(sorted.order.len() as u32);
    }
    sorted
}
