//! The values of a dictionary, looked up by packed numbers.
//!
//! Where the processor has AVX-512, as most that were built for servers since 2017 have, eight values are looked up at a time:
//! [`pulp`] compiles the loop for it beside the one for any processor, and says at run time which to take.

use std::sync::LazyLock;

use parquet::errors::ParquetError;
use pulp::{Arch, NullaryFnOnce};

use super::bits::{self, GROUP, SLACK, unpack};
use super::damaged;
use super::word::Word;

/// Sizes of tables, so that no number of 8, 12 or 16 bits is beyond its table.
const SIZES: [usize; 3] = [1 << 8, 1 << 12, 1 << 16];

static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// The values of a dictionary.
#[derive(Debug)]
pub(super) struct Dictionary<T> {
    /// With zeros behind them, up to one of the sizes.
    table: Vec<T>,
    len: u32,
}

/// Packed numbers: `count` of them from the one at `first` on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) width: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl<T: Word> Dictionary<T> {
    /// From `count` plain values.
    pub(super) fn new(bytes: &[u8], count: usize) -> Result<Self, ParquetError> {
        if bytes.len() / T::BYTES < count || count > i32::MAX as usize {
            return Err(damaged("a dictionary ends before its last value"));
        }
        let mut table: Vec<T> = bytes.chunks_exact(T::BYTES).take(count).map(T::from_bytes).collect();
        table.resize(SIZES.into_iter().find(|size| count <= *size).unwrap_or(count), T::low(0));
        Ok(Self { table, len: count as u32 })
    }

    /// A value.
    pub(super) fn get(&self, number: u32) -> Result<T, ParquetError> {
        let found = self.table.get(number as usize).filter(|_| number < self.len);
        found.copied().ok_or_else(|| damaged("a dictionary lacks a value"))
    }

    /// Appends the values that the numbers name.
    pub(super) fn look_up(&self, mut numbers: Numbers<'_>, out: &mut Vec<T>) -> Result<(), ParquetError> {
        let Numbers { bytes, width, first, .. } = numbers;
        let ahead = numbers.count.min((GROUP - first % GROUP) % GROUP);
        self.look_up_singly(&mut numbers, ahead, out)?;
        let from = numbers.first / GROUP * width;
        let there = bytes.len().saturating_sub(from + SLACK).checked_div(width).unwrap_or(0);
        let values = there.min(numbers.count / GROUP) * GROUP;
        let before = out.len();
        out.resize(before + values, T::low(0));
        if values > 0 && self.look_up_groups(&bytes[from..], width, &mut out[before..])? {
            numbers.first += values;
            numbers.count -= values;
        } else {
            out.truncate(before);
        }
        let left = numbers.count;
        self.look_up_singly(&mut numbers, left, out)
    }

    fn look_up_singly(&self, numbers: &mut Numbers<'_>, count: usize, out: &mut Vec<T>) -> Result<(), ParquetError> {
        for number in numbers.first..numbers.first + count {
            out.push(self.get(bits::get(numbers.bytes, numbers.width, number) as u32)?);
        }
        numbers.first += count;
        numbers.count -= count;
        Ok(())
    }

    /// Looks up whole groups; false if there is no loop for numbers of this width and this table.
    fn look_up_groups(&self, bytes: &[u8], width: usize, found: &mut [T]) -> Result<bool, ParquetError> {
        macro_rules! by_width {
            ($($width:literal in $size:literal,)*) => {
                match width {
                    $($width => self.table.first_chunk::<{ SIZES[$size] }>().map(|table| {
                        ARCH.dispatch(Groups::<$width, { SIZES[$size] }, T> { bytes, table, len: self.len, found })
                    }),)*
                    _ => None,
                }
            };
        }
        let all = by_width!(
            1 in 0, 2 in 0, 3 in 0, 4 in 0, 5 in 0, 6 in 0, 7 in 0, 8 in 0, 9 in 1, 10 in 1, 11 in 1, 12 in 1, 13 in 2, 14 in 2, 15 in 2,
            16 in 2,
        );
        match all {
            Some(false) => Err(damaged("a dictionary lacks a value")),
            all => Ok(all.is_some()),
        }
    }
}

/// The loop over groups of numbers of `W` bits; says whether the dictionary has them all.
struct Groups<'a, const W: usize, const N: usize, T> {
    bytes: &'a [u8],
    table: &'a [T; N],
    len: u32,
    found: &'a mut [T],
}

impl<const W: usize, const N: usize, T: Word> NullaryFnOnce for Groups<'_, W, N, T> {
    type Output = bool;

    #[inline(always)]
    fn call(self) -> bool {
        // The sign of `last - number` is set where a number is too great: neither has more than 31 bits.
        let last = self.len.wrapping_sub(1);
        let mut beyond = 0;
        for (group, found) in self.found.as_chunks_mut::<GROUP>().0.iter_mut().enumerate() {
            let numbers = unpack::<W>(&self.bytes[group * W..group * W + W + SLACK]);
            for (number, found) in numbers.into_iter().zip(found) {
                beyond |= last.wrapping_sub(number);
                *found = self.table[number as usize];
            }
        }
        beyond as i32 >= 0
    }
}
