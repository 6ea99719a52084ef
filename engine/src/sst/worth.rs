//! How the numbers of a column are best stored: tried on a sample.
//!
//! Compression must be worth what it costs everyone who reads them. A dictionary's numbers are packed as bits already, and zstd finds little in them: of a random walk over whole numbers it
//! saves one byte in twenty, and undoing it is about a third of decoding. Whole numbers that grow, as counters do, are small as
//! differences of neighbours (Parquet's DELTA_BINARY_PACKED).

use std::collections::HashMap;

use arrow::array::Array;
use arrow::datatypes::DataType as ArrowType;
use parquet::basic::ZstdLevel;

use super::encode::hybrid::{Hybrid, width_of};

/// Rows that are tried: those of a page.
const SAMPLE_ROWS: usize = 8192;
/// Compression must save one byte in so many.
const SHARE: usize = 16;
/// Differences that have their least in common, and those that have as many bits each, as the Parquet crate writes them.
const DIFFERENCES_BLOCK: usize = 128;
const DIFFERENCES_PART: usize = 32;
/// Bytes of the least difference of a block and of the bits of its parts, about.
const BLOCK_HEAD_BYTES: usize = 8;

/// Whether zstd makes a sample of a column fairly smaller; `few`, if its values will be in a dictionary. What cannot be
/// tried is taken to be worth it.
pub(super) fn worth_compressing(column: &dyn Array, few: bool, level: ZstdLevel) -> bool {
    let Some((values, width)) = sample_of(column) else { return true };
    let encoded = if few { numbers_of(values.chunks_exact(width)) } else { values };
    let Ok(compressed) = zstd::bulk::compress(&encoded, level.compression_level()) else { return true };
    compressed.len() + encoded.len() / SHARE <= encoded.len()
}

/// Whether the differences of neighbours take fairly fewer bytes than the values, compressed: `Some` of whether it is worth
/// compressing the differences, too.
pub(super) fn worth_differences(column: &dyn Array, level: ZstdLevel) -> Option<bool> {
    use ArrowType::{Date32, Int32, Int64, Timestamp, UInt32, UInt64};
    let (bytes, width) = match column.data_type() {
        Int32 | UInt32 | Date32 | Int64 | UInt64 | Timestamp(_, _) => sample_of(column)?,
        _ => return None,
    };
    let compress = |bytes: &[u8]| zstd::bulk::compress(bytes, level.compression_level()).ok().map(|compressed| compressed.len());
    let plain = compress(&bytes)?.min(bytes.len());
    let values: Vec<i64> = match width {
        4 => bytes.as_chunks().0.iter().map(|value| i32::from_le_bytes(*value).into()).collect(),
        _ => bytes.as_chunks().0.iter().map(|value| i64::from_le_bytes(*value)).collect(),
    };
    let differences: Vec<i64> = values.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    let (mut packed, mut whole) = (0, Vec::with_capacity(differences.len() * width));
    for block in differences.chunks(DIFFERENCES_BLOCK) {
        let least = block.iter().copied().min().unwrap_or(0);
        packed += BLOCK_HEAD_BYTES;
        for part in block.chunks(DIFFERENCES_PART) {
            let above = |difference: &i64| difference.wrapping_sub(least) as u64;
            let bits = part.iter().map(|difference| u64::BITS - above(difference).leading_zeros()).max().unwrap_or(0) as usize;
            packed += DIFFERENCES_PART * bits / 8;
            whole.extend(part.iter().flat_map(|difference| above(difference).to_le_bytes().into_iter().take(bits.div_ceil(8))));
        }
    }
    let compressed = compress(&whole)?;
    let fewer = !differences.is_empty() && compressed.min(packed) + plain / SHARE <= plain;
    fewer.then_some(compressed + packed / SHARE <= packed)
}

/// The bytes of the first values, NULLs left out, and the bytes of each; `None` for types without a fixed width.
fn sample_of(column: &dyn Array) -> Option<(Vec<u8>, usize)> {
    let width = column.data_type().primitive_width()?;
    let data = column.to_data();
    let bytes = data.buffers().first()?.as_slice();
    let rows = column.len().min(SAMPLE_ROWS);
    let mut values = Vec::with_capacity(rows * width);
    for row in (0..rows).filter(|row| column.is_valid(*row)) {
        let from = (data.offset() + row) * width;
        values.extend_from_slice(bytes.get(from..from + width)?);
    }
    Some((values, width))
}

/// The values as a page with a dictionary has them.
fn numbers_of<'a>(values: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut known: HashMap<&[u8], u32> = HashMap::new();
    let mut number = |value| {
        let next = known.len() as u32;
        *known.entry(value).or_insert(next)
    };
    let numbers: Vec<u32> = values.map(&mut number).collect();
    let mut pages = Hybrid::new(width_of(known.len().saturating_sub(1) as u32), Vec::new());
    for run in numbers.chunk_by(|a, b| a == b) {
        pages.push(run[0], run.len());
    }
    pages.finish()
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Float64Array, Int64Array, StringArray};

    use super::*;

    /// A walk over whole numbers whose steps look random.
    fn walk() -> Vec<f64> {
        let mut state = 1_u64;
        let mut step = |now: &mut f64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *now = (*now + ((state >> 33) % 5) as f64 - 2.0).clamp(0.0, 100.0);
            Some(*now)
        };
        (0..20_000).scan(50.0, move |now, _| step(now)).collect()
    }

    #[test]
    fn a_walk_is_not_worth_it_and_a_pattern_is() {
        let level = ZstdLevel::default();
        assert!(!worth_compressing(&Float64Array::from(walk()), true, level), "bits of a walk hardly repeat");
        let pattern: Vec<f64> = (0..20_000).map(|n| f64::from(n % 24)).collect();
        assert!(worth_compressing(&Float64Array::from(pattern), true, level), "bits of a pattern do");
        let counter: Int64Array = (0..20_000_i64).map(|n| Some(n * 3)).collect();
        assert!(worth_compressing(&counter, false, level), "high bytes of a counter are the same");
        let long = Int64Array::from(vec![7; 20_000]);
        assert!(!worth_compressing(&long, true, level), "one run is a few bytes, of which nothing can be saved");
    }

    #[test]
    fn counters_are_stored_as_differences_and_noise_is_not() {
        let level = ZstdLevel::default();
        let step = |state: &mut u64| {
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Some((*state ^ (*state >> 29)).wrapping_mul(0x9e37_79b9_7f4a_7c15) as i64)
        };
        let noise: Vec<i64> = (0..9000).scan(1, |state, _| step(state)).collect();
        let sums = |steps: &mut dyn Iterator<Item = i64>| -> Vec<i64> {
            steps.scan(0_i64, |at, step| Some(std::mem::replace(at, at.wrapping_add(step)))).collect()
        };
        let counter = sums(&mut noise.iter().map(|n| 1000 + n.rem_euclid(700)));
        assert_eq!(worth_differences(&Int64Array::from(counter.clone()), level), Some(false), "ten bits of noise in place of eight bytes");
        let falling: Vec<i32> = counter.iter().map(|value| -(*value as i32)).collect();
        assert_eq!(worth_differences(&arrow::array::Int32Array::from(falling), level), Some(false));
        let nights = sums(&mut (0..9000).map(|n| n % 96 * 1_000_003));
        assert_eq!(worth_differences(&Int64Array::from(nights), level), Some(true), "what repeats is compressed");
        assert_eq!(worth_differences(&Int64Array::from(noise), level), None);
        let ends = Int64Array::from_iter((0..9000).map(|n| Some(if n % 2 == 0 { i64::MIN } else { i64::MAX })));
        let _differences_that_wrap = worth_differences(&ends, level);
        assert_eq!(worth_differences(&Float64Array::from(walk()), level), None);
        for few in [vec![], vec![None, None], vec![Some(7)]] {
            assert_eq!(worth_differences(&Int64Array::from(few), level), None);
        }
    }

    #[test]
    fn what_cannot_be_tried_is_compressed() {
        let level = ZstdLevel::default();
        assert!(worth_compressing(&StringArray::from(vec!["a"; 10]), true, level));
        assert!(worth_compressing(&BooleanArray::from(vec![true; 10]), false, level));
        let missing = Float64Array::from(vec![None, None]);
        let _either = worth_compressing(&missing, true, level);
        let sliced = Float64Array::from(walk()).slice(10_000, 5_000);
        assert!(!worth_compressing(&sliced, true, level));
    }
}
