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

/// Values of a table at least, so that no byte is beyond it.
const VALUES_MIN: usize = 1 << 8;
/// Values of a table that is looked up group by group, at most.
const VALUES_MAX: usize = 1 << 16;
/// Values that are looked up before they are appended.
const BLOCK: usize = 32 * GROUP;

static ARCH: LazyLock<Arch> = LazyLock::new(Arch::new);

/// The values of a dictionary.
#[derive(Debug)]
pub(super) struct Dictionary<T> {
    /// With zeros behind them, so that no number of as many bits as the last one needs is beyond it.
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
        if count <= VALUES_MAX {
            table.resize(count.next_power_of_two().max(VALUES_MIN), T::low(0));
        }
        Ok(Self { table, len: count as u32 })
    }

    /// A value.
    #[inline]
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
        if values > 0 && self.look_up_groups(&bytes[from..], width, values / GROUP, out)? {
            numbers.first += values;
            numbers.count -= values;
        }
        let left = numbers.count;
        self.look_up_singly(&mut numbers, left, out)
    }

    /// Appends the values that a few numbers name; behind their bytes lie zeros.
    #[inline]
    pub(super) fn look_up_few(&self, numbers: Numbers<'_>, out: &mut Vec<T>) -> Result<(), ParquetError> {
        for number in numbers.first..numbers.first + numbers.count {
            out.push(self.get(bits::get(numbers.bytes, numbers.width, number) as u32)?);
        }
        Ok(())
    }

    fn look_up_singly(&self, numbers: &mut Numbers<'_>, count: usize, out: &mut Vec<T>) -> Result<(), ParquetError> {
        self.look_up_few(Numbers { count, ..*numbers }, out)?;
        numbers.first += count;
        numbers.count -= count;
        Ok(())
    }

    /// Appends the values of whole groups; false if there is no loop for numbers of this width and this table.
    fn look_up_groups(&self, bytes: &[u8], width: usize, groups: usize, out: &mut Vec<T>) -> Result<bool, ParquetError> {
        macro_rules! by_width {
            ($($width:literal)*) => {
                match width {
                    $($width => self.table.first_chunk::<{ values_of($width) }>().map(|table| {
                        ARCH.dispatch(Groups::<$width, { values_of($width) }, T> { bytes, table, len: self.len, groups, out })
                    }),)*
                    _ => None,
                }
            };
        }
        let all = by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
        match all {
            Some(false) => Err(damaged("a dictionary lacks a value")),
            all => Ok(all.is_some()),
        }
    }
}

/// Values of a table for numbers of so many bits.
const fn values_of(bits: usize) -> usize {
    if 1 << bits < VALUES_MIN { VALUES_MIN } else { 1 << bits }
}

/// The loop over groups of numbers of `W` bits; says whether the dictionary has them all.
struct Groups<'a, const W: usize, const N: usize, T> {
    bytes: &'a [u8],
    table: &'a [T; N],
    len: u32,
    groups: usize,
    out: &'a mut Vec<T>,
}

impl<const W: usize, const N: usize, T: Word> NullaryFnOnce for Groups<'_, W, N, T> {
    type Output = bool;

    /// Values go by way of a block that stays in the nearest cache: the column itself is written once, and not zeroed before.
    #[inline(always)]
    fn call(self) -> bool {
        let Self { bytes, table, len, groups, out } = self;
        // The sign of `last - number` is set where a number is too great: neither has more than 31 bits.
        let last = len.wrapping_sub(1);
        let mut beyond = 0;
        let mut block = [T::low(0); BLOCK];
        out.reserve(groups * GROUP);
        for first in (0..groups).step_by(BLOCK / GROUP) {
            let groups = (groups - first).min(BLOCK / GROUP);
            let bytes = &bytes[first * W..];
            for (group, found) in block.as_chunks_mut::<GROUP>().0.iter_mut().enumerate().take(groups) {
                let numbers = unpack::<W>(&bytes[group * W..group * W + W + SLACK]);
                for (number, found) in numbers.into_iter().zip(found) {
                    beyond |= last.wrapping_sub(number);
                    *found = table[number as usize];
                }
            }
            out.extend_from_slice(&block[..groups * GROUP]);
        }
        beyond as i32 >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both loops, whichever this machine takes, and what one value at a time gives.
    fn check<const W: usize, const N: usize>(values: usize) {
        let plain: Vec<u8> = (0..values as u64).flat_map(|value| (value * 3 + 1).to_le_bytes()).collect();
        let dictionary = Dictionary::<u64>::new(&plain, values).unwrap();
        let count = 40 * GROUP;
        let mut bytes = vec![0; count * W / 8 + SLACK];
        let number = |at: usize| at.wrapping_mul(2_654_435_761) % values;
        for at in 0..count {
            for bit in (0..W).filter(|bit| number(at) >> bit & 1 == 1) {
                bytes[(at * W + bit) / 8] |= 1 << ((at * W + bit) % 8);
            }
        }
        let wanted: Vec<u64> = (0..count).map(|at| number(at) as u64 * 3 + 1).collect();
        let mut found = Vec::new();
        let table = dictionary.table.first_chunk::<N>().unwrap();
        assert!(Groups::<W, N, u64> { bytes: &bytes, table, len: dictionary.len, groups: count / GROUP, out: &mut found }.call());
        assert_eq!(found, wanted, "{W} bits");
        for first in [0, 3, GROUP, 13] {
            let mut found = vec![7];
            let numbers = Numbers { bytes: &bytes, width: W, first, count: count - first };
            dictionary.look_up(numbers, &mut found).unwrap();
            assert_eq!(found[1..], wanted[first..], "{W} bits from {first}");
        }
        // One that the dictionary does not have.
        let fewer = Dictionary::<u64>::new(&plain, values - 1).unwrap();
        let lacks = (0..count).any(|at| number(at) == values - 1);
        let numbers = Numbers { bytes: &bytes, width: W, first: 0, count };
        assert_eq!(fewer.look_up(numbers, &mut Vec::new()).is_err(), lacks, "{W} bits");
    }

    #[test]
    fn every_loop_finds_what_a_look_at_single_numbers_finds() {
        check::<1, 256>(2);
        check::<2, 256>(3);
        check::<5, 256>(32);
        check::<7, 256>(101);
        check::<8, 256>(256);
        check::<9, 512>(300);
        check::<11, 2048>(1100);
        check::<13, 8192>(5000);
        check::<16, 65536>(65536);
    }
}
