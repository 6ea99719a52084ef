//! Late sorting: the rows of a snapshot in key order.
//!
//! Primary keys repeat, so they are not compared row by row. Each distinct key (series) gets a number by
//! hashing, the distinct keys alone are sorted, and rows go to their series by counting. Within a series rows
//! mostly come in time order; a series where they do not is sorted by itself.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::UInt64Type;
use futures::stream::{self, StreamExt};

use crate::merge::key::KeyEncoder;
use crate::merge::layout::{KeyColumns, Layout};
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
    at: usize,
    deletes: bool,
    duplicates: bool,
    sequences: Option<(u64, u64)>,
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
        let (order, duplicates) = sort(layout, keys, &sources, time, rows)?;
        let (mut deletes, mut sequences) = (false, None);
        for source in &sources {
            deletes |= merge::op_types(source, keys.op_type)?.contains(&merge::layout::DELETE);
            let own = source.column(keys.sequence).as_primitive::<UInt64Type>().values();
            sequences = own.iter().fold(sequences, |bounds: Option<(u64, u64)>, sequence| {
                Some(bounds.map_or((*sequence, *sequence), |(low, high)| (low.min(*sequence), high.max(*sequence))))
            });
        }
        Ok(Self { layout: Arc::clone(layout), sources, order, at: 0, deletes, duplicates, sequences })
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

/// The places of the rows within the time range, in key order, and whether a key is there more than once.
fn sort(
    layout: &Layout,
    keys: &KeyColumns,
    sources: &[RecordBatch],
    time: (i64, i64),
    rows: Rows,
) -> Result<(Vec<(u32, u32)>, bool), Error> {
    let mut numbers = number_series(layout, keys, sources)?;
    let ranks = numbers.ranks();
    let mut starts = vec![0_usize; ranks.len() + 1];
    let mut columns = Vec::with_capacity(sources.len());
    for (source, series) in sources.iter().zip(&numbers.of_rows) {
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
    for (source, (series, (times, sequences))) in numbers.of_rows.drain(..).zip(columns).enumerate() {
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

/// Sorts each series by time, the newest row of each time first, and keeps that row or all. Says whether several
/// rows of one time are kept.
fn sort_each(placed: &mut [Placed], bounds: &[usize], rows: Rows) -> (Vec<(u32, u32)>, bool) {
    let (mut order, mut duplicates) = (Vec::with_capacity(placed.len()), false);
    for bound in bounds.windows(2) {
        let series = &mut placed[bound[0]..bound[1]];
        if series.windows(2).all(|pair| pair[0].time < pair[1].time) {
            order.extend(series.iter().map(|p| (p.source, p.row)));
            continue;
        }
        series.sort_unstable_by_key(|p| (p.time, Reverse(p.sequence)));
        let mut last = None;
        for p in series.iter() {
            let again = last.replace(p.time) == Some(p.time);
            if !again || rows == Rows::All {
                order.push((p.source, p.row));
                duplicates |= again;
            }
        }
    }
    (order, duplicates)
}

#[derive(Default)]
struct SeriesNumbers {
    /// By first appearance.
    numbers: HashMap<Box<[u8]>, u32, BuildHasherDefault<KeyHasher>>,
    /// For each source, the series of each row.
    of_rows: Vec<Vec<u32>>,
}

impl SeriesNumbers {
    /// For each series number, its place among all in key order.
    fn ranks(&self) -> Vec<u32> {
        let mut keys: Vec<(&[u8], u32)> = self.numbers.iter().map(|(key, number)| (key.as_ref(), *number)).collect();
        keys.sort_unstable();
        let mut ranks = vec![0; keys.len()];
        for (rank, (_, number)) in keys.iter().enumerate() {
            ranks[*number as usize] = rank as u32;
        }
        ranks
    }
}

fn number_series(layout: &Layout, keys: &KeyColumns, sources: &[RecordBatch]) -> Result<SeriesNumbers, Error> {
    let mut out = SeriesNumbers::default();
    if keys.tags.is_empty() {
        out.numbers.insert(Box::default(), 0);
        out.of_rows = sources.iter().map(|source| vec![0; source.num_rows()]).collect();
        return Ok(out);
    }
    let encoder = KeyEncoder::new(keys.tags.iter().map(|p| layout.arrow().field(*p).data_type().clone()))?;
    for source in sources {
        let columns: Vec<_> = keys.tags.iter().map(|p| source.column(*p).clone()).collect();
        let rows = encoder.encode(&columns)?;
        let mut series = Vec::with_capacity(source.num_rows());
        let mut previous: Option<(&[u8], u32)> = None;
        for row in rows.iter() {
            let key = row.data();
            let number = match previous {
                Some((last, number)) if last == key => number,
                _ => out.number(key),
            };
            previous = Some((key, number));
            series.push(number);
        }
        out.of_rows.push(series);
    }
    Ok(out)
}

impl SeriesNumbers {
    fn number(&mut self, key: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(key) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(key.into(), number);
        number
    }
}

/// Hashes a key of some 100 bytes in some 10 ns, by multiplying 16 bytes at a time into 128 bits and folding them.
/// Keys come from rows; a series more in a bucket costs only time.
#[derive(Default)]
struct KeyHasher(u64);

impl KeyHasher {
    fn mix(&mut self, low: u64, high: u64) {
        let product = u128::from(low ^ self.0 ^ 0x9E37_79B9_7F4A_7C15) * u128::from(high ^ 0xD6E8_FEB8_6659_FD93);
        self.0 = (product as u64) ^ ((product >> 64) as u64);
    }
}

/// Up to eight bytes as a number.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (pairs, rest) = bytes.as_chunks::<16>();
        for pair in pairs {
            self.mix(word(&pair[..8]), word(&pair[8..]));
        }
        let (low, high) = rest.split_at(rest.len().min(8));
        // The length tells keys apart that differ in trailing zeros only.
        self.mix(word(low), word(high) ^ (bytes.len() as u64).rotate_left(32));
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
