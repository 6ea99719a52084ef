//! Parquet's RLE and bit-packed hybrid, fed with runs instead of values.
//!
//! ```text
//! run-length:  varint(times << 1)       | value, in as many bytes as its width needs
//! bit-packed:  varint(groups << 1 | 1)  | groups of 8 values, least significant bit first
//! ```

/// Values of a bit-packed group.
const GROUP: usize = 8;

/// Encodes values of `width` bits.
#[derive(Debug)]
pub(in crate::sst) struct Hybrid {
    width: u8,
    out: Vec<u8>,
    /// Values that are too few of a kind for a run of their own; whole groups but for the last.
    packed: Vec<u32>,
}

impl Hybrid {
    /// Appends to `out`.
    pub(in crate::sst) fn new(width: u8, out: Vec<u8>) -> Self {
        Self { width, out, packed: Vec::new() }
    }

    /// So many times the value.
    pub(in crate::sst) fn push(&mut self, value: u32, times: usize) {
        let open = (GROUP - self.packed.len() % GROUP) % GROUP;
        let filled = times.min(open);
        self.packed.extend(std::iter::repeat_n(value, filled));
        let left = times - filled;
        if left < GROUP {
            self.packed.extend(std::iter::repeat_n(value, left));
            return;
        }
        self.end_packed();
        varint(&mut self.out, (left as u64) << 1);
        let bytes = usize::from(self.width).div_ceil(8);
        self.out.extend_from_slice(&value.to_le_bytes()[..bytes]);
    }

    /// Values that are not known to come in runs.
    pub(in crate::sst) fn extend(&mut self, values: &[u32]) {
        let mut left = values;
        while let Some(first) = left.first() {
            let open = (GROUP - self.packed.len() % GROUP) % GROUP;
            let same = left.iter().take_while(|value| *value == first).count();
            let taken = match open {
                0 if same >= GROUP => {
                    self.push(*first, same);
                    same
                }
                0 => GROUP.min(left.len()),
                open => open.min(left.len()),
            };
            if open > 0 || same < GROUP {
                self.packed.extend_from_slice(&left[..taken]);
            }
            left = &left[taken..];
        }
    }

    /// What was encoded.
    pub(in crate::sst) fn finish(mut self) -> Vec<u8> {
        self.end_packed();
        self.out
    }

    fn end_packed(&mut self) {
        if self.packed.is_empty() {
            return;
        }
        let groups = self.packed.len().div_ceil(GROUP);
        self.packed.resize(groups * GROUP, 0);
        varint(&mut self.out, (groups as u64) << 1 | 1);
        self.out.reserve(groups * usize::from(self.width));
        for group in self.packed.as_chunks::<GROUP>().0 {
            pack(group, self.width, &mut self.out);
        }
        self.packed.clear();
    }
}

/// Appends a group: as many bytes as its values have bits.
#[inline]
fn pack(group: &[u32; GROUP], width: u8, out: &mut Vec<u8>) {
    let width = usize::from(width);
    if width <= 8 {
        let bits = group.iter().enumerate().fold(0, |bits, (at, value)| bits | u64::from(*value) << (at * width));
        out.extend_from_slice(&bits.to_le_bytes()[..width]);
    } else if width <= 16 {
        let bits = group.iter().enumerate().fold(0, |bits, (at, value)| bits | u128::from(*value) << (at * width));
        out.extend_from_slice(&bits.to_le_bytes()[..width]);
    } else {
        let (mut bits, mut held) = (0_u64, 0);
        for value in group {
            bits |= u64::from(*value) << held;
            held += width;
            while held >= 8 {
                out.push((bits & 0xFF) as u8);
                bits >>= 8;
                held -= 8;
            }
        }
    }
}

/// Bits that every value up to `max` fits into.
pub(in crate::sst) fn width_of(max: u32) -> u8 {
    (u32::BITS - max.leading_zeros()) as u8
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// After the specification, value by value.
    fn decode(mut bytes: &[u8], width: u8, count: usize) -> Vec<u32> {
        let mut values = Vec::new();
        while values.len() < count {
            let (mut head, mut shift) = (0_u64, 0);
            loop {
                let byte = bytes[0];
                bytes = &bytes[1..];
                head |= u64::from(byte & 0x7F) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            if head & 1 == 0 {
                let (value, rest) = bytes.split_at(usize::from(width).div_ceil(8));
                let value = value.iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
                values.extend(std::iter::repeat_n(value, (head >> 1) as usize));
                bytes = rest;
            } else {
                let groups = (head >> 1) as usize;
                let bit = |at: usize| u32::from(bytes[at / 8] >> (at % 8) & 1);
                for value in 0..groups * GROUP {
                    let at = value * usize::from(width);
                    values.push((0..usize::from(width)).map(|i| bit(at + i) << i).sum());
                }
                bytes = &bytes[groups * usize::from(width)..];
            }
        }
        assert!(bytes.is_empty());
        values.truncate(count);
        values
    }

    proptest! {
        #[test]
        fn runs_come_back_as_values(runs in prop::collection::vec((0_u32..300_000, 1_usize..40), 0..60), narrow in 1_u32..300_000) {
            let runs: Vec<(u32, usize)> = runs.into_iter().map(|(value, times)| (value % narrow, times)).collect();
            let width = width_of(narrow - 1);
            let mut hybrid = Hybrid::new(width, Vec::new());
            runs.iter().for_each(|(value, times)| hybrid.push(*value, *times));
            let expected: Vec<u32> = runs.iter().flat_map(|(value, times)| std::iter::repeat_n(*value, *times)).collect();
            prop_assert_eq!(&decode(&hybrid.finish(), width, expected.len()), &expected);
            let mut hybrid = Hybrid::new(width, Vec::new());
            expected.chunks(29).for_each(|values| hybrid.extend(values));
            prop_assert_eq!(decode(&hybrid.finish(), width, expected.len()), expected);
        }
    }

    #[test]
    fn widths_are_the_least_that_fit() {
        assert_eq!([0, 1, 2, 255, 256, u32::MAX].map(width_of), [0, 1, 2, 8, 9, 32]);
    }
}
