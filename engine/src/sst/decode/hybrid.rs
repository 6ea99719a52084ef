//! Parquet's RLE and bit-packed hybrid, which [`encode`](super::super::encode) describes: of the numbers of a dictionary, and of single
//! bits, which say where NULLs are.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use parquet::errors::ParquetError;

use super::bits::{self, GROUP};
use super::dictionary::{Dictionary, Numbers};
use super::word::Word;
use super::{damaged, varint};

/// Rows of a place that are looked up one by one.
const FEW: u32 = 2 * GROUP as u32;

#[derive(Debug, Clone, Copy)]
enum Run {
    /// So many times the value.
    Same { value: u32, left: usize },
    /// Groups of packed values from `at` on, of which `done` values of the first are used up.
    Packed { at: usize, done: usize, left: usize },
}

/// The runs of a page.
#[derive(Debug)]
pub(super) struct Runs {
    bytes: Bytes,
    width: usize,
    /// Where the next run begins.
    at: usize,
    run: Run,
}

impl Runs {
    pub(super) fn new(bytes: Bytes, width: usize) -> Result<Self, ParquetError> {
        if width > 31 {
            return Err(damaged("numbers of a dictionary have more than 31 bits"));
        }
        Ok(Self { bytes, width, at: 0, run: Run::Same { value: 0, left: 0 } })
    }

    /// Goes on to a run that has values.
    fn next_run(&mut self) -> Result<(), ParquetError> {
        while matches!(self.run, Run::Same { left: 0, .. } | Run::Packed { left: 0, .. }) {
            let header = varint(&self.bytes, &mut self.at)?;
            let count = usize::try_from(header >> 1).map_err(|_| damaged("a run is too long"))?;
            if header & 1 == 0 {
                let bytes = self.width.div_ceil(8);
                let end = self.at.saturating_add(bytes);
                let stored = self.bytes.get(self.at..end).ok_or_else(|| damaged("a run has no value"))?;
                let mut value = [0; 4];
                value[..bytes].copy_from_slice(stored);
                self.run = Run::Same { value: u32::from_le_bytes(value), left: count };
                self.at = end;
            } else {
                let bytes = count.checked_mul(self.width).ok_or_else(|| damaged("a run is too long"))?;
                let left = count.checked_mul(GROUP).ok_or_else(|| damaged("a run is too long"))?;
                self.run = Run::Packed { at: self.at, done: 0, left };
                self.at = self.at.saturating_add(bytes).min(self.bytes.len());
            }
        }
        Ok(())
    }

    /// That packed values are there; some writers cut the last group behind its last value.
    fn check(&self, at: usize, values: usize) -> Result<(), ParquetError> {
        let end = values.checked_mul(self.width).and_then(|bits| at.checked_add(bits.div_ceil(8)));
        end.filter(|end| *end <= self.bytes.len()).map(|_| ()).ok_or_else(|| damaged("a run of packed values is cut"))
    }

    pub(super) fn skip(&mut self, mut rows: usize) -> Result<(), ParquetError> {
        while rows > 0 {
            self.next_run()?;
            match &mut self.run {
                Run::Same { left, .. } => {
                    let count = rows.min(*left);
                    *left -= count;
                    rows -= count;
                }
                Run::Packed { at, done, left } => {
                    let count = rows.min(*left);
                    *at += (*done + count) / GROUP * self.width;
                    *done = (*done + count) % GROUP;
                    *left -= count;
                    rows -= count;
                }
            }
        }
        Ok(())
    }

    /// The next numbers as runs (number, rows); neighbours may be equal.
    pub(super) fn each(&mut self, mut rows: usize, mut add: impl FnMut(u32, u32) -> Result<(), ParquetError>) -> Result<(), ParquetError> {
        while rows > 0 {
            self.next_run()?;
            let count = match self.run {
                Run::Same { value, left } => {
                    let count = rows.min(left);
                    add(value, count as u32)?;
                    count
                }
                Run::Packed { at, done, left } => {
                    let count = rows.min(left);
                    self.check(at, done + count)?;
                    let bytes = self.bytes.get(at..).unwrap_or_default();
                    (done..done + count).try_for_each(|number| add(bits::get(bytes, self.width, number) as u32, 1))?;
                    count
                }
            };
            self.skip(count)?;
            rows -= count;
        }
        Ok(())
    }

    /// The next values of a dictionary.
    pub(super) fn look_up<T: Word>(&mut self, dictionary: &Dictionary<T>, mut rows: usize, out: &mut Vec<T>) -> Result<(), ParquetError> {
        while rows > 0 {
            self.next_run()?;
            match self.run {
                Run::Same { value, ref mut left } => {
                    let count = rows.min(*left);
                    out.resize(out.len() + count, dictionary.get(value)?);
                    *left -= count;
                    rows -= count;
                }
                Run::Packed { at, done, left } => {
                    let count = rows.min(left);
                    self.check(at, done + count)?;
                    let bytes = self.bytes.get(at..).unwrap_or_default();
                    dictionary.look_up(Numbers { bytes, width: self.width, first: done, count }, out)?;
                    self.run =
                        Run::Packed { at: at + (done + count) / GROUP * self.width, done: (done + count) % GROUP, left: left - count };
                    rows -= count;
                }
            }
        }
        Ok(())
    }

    /// The values of places (first row, rows), as many of them as are short and lie in the present run of packed numbers and before
    /// `end`; `at` is the row of the next value. Gives how many places these are.
    pub(super) fn look_up_places<T: Word>(
        &mut self,
        dictionary: &Dictionary<T>,
        at: &mut u32,
        end: u32,
        places: &[(u32, u32)],
        out: &mut Vec<T>,
    ) -> Result<usize, ParquetError> {
        let Run::Packed { at: start, done, left } = self.run else { return Ok(0) };
        let end = end.min(at.saturating_add(u32::try_from(left).unwrap_or(u32::MAX)));
        let bytes = self.bytes.get(start..).unwrap_or_default();
        let (mut next, mut found) = (*at, 0);
        for &(from, rows) in places {
            let stop = from.checked_add(rows).filter(|stop| from >= next && *stop <= end && rows <= FEW);
            let Some(stop) = stop else { break };
            let first = done + (from - *at) as usize;
            dictionary.look_up_few(Numbers { bytes, width: self.width, first, count: rows as usize }, out)?;
            (next, found) = (stop, found + 1);
        }
        if found > 0 {
            let passed = done + (next - *at) as usize;
            self.check(start, passed)?;
            let left = left - (next - *at) as usize;
            self.run = Run::Packed { at: start + passed / GROUP * self.width, done: passed % GROUP, left };
            *at = next;
        }
        Ok(found)
    }

    /// So many bits; `None` if all are set.
    pub(super) fn bits(mut self, rows: usize) -> Result<Option<BooleanBuffer>, ParquetError> {
        self.next_run()?;
        if matches!(self.run, Run::Same { value: 1, left } if left >= rows) {
            return Ok(None);
        }
        let mut bits = BooleanBufferBuilder::new(rows);
        while bits.len() < rows {
            self.next_run()?;
            let wanted = rows - bits.len();
            match &mut self.run {
                Run::Same { value, left } => {
                    bits.append_n(wanted.min(*left), *value != 0);
                    *left = 0;
                }
                Run::Packed { at, left, .. } => {
                    let count = wanted.min(*left);
                    let packed = self.bytes.get(*at..).filter(|packed| packed.len() * 8 >= count);
                    bits.append_packed_range(0..count, packed.ok_or_else(|| damaged("a run of packed values is cut"))?);
                    *left = 0;
                }
            }
        }
        let bits = bits.finish();
        Ok((bits.count_set_bits() < rows).then_some(bits))
    }
}
