//! Numbers packed as bits, least significant bit first.

/// Values that are unpacked at a time; so many of `w` bits take `w` bytes.
pub(super) const GROUP: usize = 8;
/// Bytes behind a group that may be looked at, so that each value is found by one load.
pub(super) const SLACK: usize = 8;

/// The eight bytes at `at`, or zero where the slice ends before.
#[inline(always)]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The next group of values of `W` bits, at most 31, of at least `W + SLACK` bytes.
#[inline(always)]
pub(super) fn unpack<const W: usize>(bytes: &[u8]) -> [u32; GROUP] {
    let mask = (1 << W) - 1;
    let mut out = [0; GROUP];
    if W <= 8 {
        let packed = word(bytes, 0);
        for (value, out) in out.iter_mut().enumerate() {
            *out = ((packed >> (value * W)) & mask) as u32;
        }
    } else {
        for (value, out) in out.iter_mut().enumerate() {
            let bit = value * W;
            *out = ((word(bytes, bit / 8) >> (bit % 8)) & mask) as u32;
        }
    }
    out
}

/// The next group of values of `W` bits, at most 57, of at least `W + SLACK` bytes.
#[inline(always)]
fn unpack_wide<const W: usize>(bytes: &[u8]) -> [u64; GROUP] {
    let mask = (1 << W) - 1;
    let mut out = [0; GROUP];
    for (value, out) in out.iter_mut().enumerate() {
        // A value and the bits before it in its first byte fit into a word.
        let bit = value * W;
        *out = (word(bytes, bit / 8) >> (bit % 8)) & mask;
    }
    out
}

/// Adds up differences of `width` bits, at most 64, each with `least`, from `last` on: whole groups, as many as `out` has room for and
/// bytes are there for, with a word behind them. Gives how many values these are.
pub(super) fn add_up(bytes: &[u8], width: usize, last: u64, least: u64, out: &mut [u64]) -> usize {
    macro_rules! by_width {
        ($($width:literal)*) => {
            match width {
                $($width => add_groups::<$width>(bytes, last, least, out),)*
                _ => 0,
            }
        };
    }
    by_width!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44
        45 46 47 48 49 50 51 52 53 54 55 56 57)
}

fn add_groups<const W: usize>(bytes: &[u8], mut last: u64, least: u64, out: &mut [u64]) -> usize {
    let whole = (out.len() / GROUP).min(bytes.len().saturating_sub(SLACK) / W);
    for (group, out) in out.as_chunks_mut::<GROUP>().0.iter_mut().take(whole).enumerate() {
        let differences = unpack_wide::<W>(&bytes[group * W..group * W + W + SLACK]);
        for (difference, out) in differences.into_iter().zip(out) {
            last = last.wrapping_add(least.wrapping_add(difference));
            *out = last;
        }
    }
    whole * GROUP
}

/// A value of `width` bits, at most 64; bytes behind the last are zero.
#[inline]
pub(super) fn get(bytes: &[u8], width: usize, value: usize) -> u64 {
    let mask = if width >= 64 { u64::MAX } else { (1 << width) - 1 };
    let bit = value * width;
    if width <= 57 && bit / 8 + SLACK <= bytes.len() {
        return (word(bytes, bit / 8) >> (bit % 8)) & mask;
    }
    (wide_word(bytes, bit) as u64) & mask
}

/// At least 64 bits from a bit on; missing bytes are zero.
fn wide_word(bytes: &[u8], bit: usize) -> u128 {
    let mut held = [0; 16];
    let rest = bytes.get(bit / 8..).unwrap_or_default();
    let len = rest.len().min(held.len());
    held[..len].copy_from_slice(&rest[..len]);
    u128::from_le_bytes(held) >> (bit % 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(values: &[u64], width: usize) -> Vec<u8> {
        let mut out = vec![0; (values.len() * width).div_ceil(8)];
        for (at, value) in values.iter().enumerate() {
            for bit in (0..width).filter(|bit| value >> bit & 1 == 1) {
                out[(at * width + bit) / 8] |= 1 << ((at * width + bit) % 8);
            }
        }
        out
    }

    fn values(count: usize, width: usize) -> Vec<u64> {
        let mask = if width == 64 { u64::MAX } else { (1 << width) - 1 };
        (1..=count as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) & mask).collect()
    }

    fn group<const W: usize>() {
        let wanted = values(GROUP, W);
        let mut bytes = pack(&wanted, W);
        bytes.resize(W + SLACK, 0xFF);
        assert_eq!(unpack::<W>(&bytes).map(u64::from).to_vec(), wanted, "{W} bits");
    }

    #[test]
    fn groups_of_every_width() {
        group::<0>();
        group::<1>();
        group::<3>();
        group::<7>();
        group::<8>();
        group::<9>();
        group::<16>();
        group::<17>();
        group::<25>();
        group::<31>();
    }

    #[test]
    fn wide_values_of_every_width_with_and_without_bytes_behind_them() {
        for width in 0..=64 {
            let wanted = values(37, width);
            for behind in [0, 3, 64] {
                let mut bytes = pack(&wanted, width);
                bytes.resize(bytes.len() + behind, 0xFF);
                let mut found = vec![0; wanted.len()];
                let near = add_up(&bytes, width, 7, 1, &mut found);
                let sums = wanted.iter().scan(7_u64, |sum, value| {
                    *sum = sum.wrapping_add(*value).wrapping_add(1);
                    Some(*sum)
                });
                assert!(sums.take(near).eq(found.into_iter().take(near)), "{width} bits, {behind} bytes behind");
                assert!(near == 32 || behind < 64 || !(1..=57).contains(&width));
                let found: Vec<u64> = (0..wanted.len()).map(|value| get(&bytes, width, value)).collect();
                assert_eq!(found, wanted, "{width} bits, {behind} bytes behind");
            }
        }
    }
}
