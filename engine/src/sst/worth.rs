//! Whether compressing the numbers of a column is worth what it costs everyone who reads them.
//!
//! A dictionary's numbers are packed as bits already, and zstd finds little in them: of a random walk over whole numbers it
//! saves one byte in twenty, and undoing it is about a third of decoding.

use std::collections::HashMap;

use arrow::array::Array;
use parquet::basic::ZstdLevel;

use super::encode::hybrid::{Hybrid, width_of};

/// Rows that are tried: those of a page.
const SAMPLE_ROWS: usize = 8192;
/// Compression must save one byte in so many.
const SHARE: usize = 16;

/// Whether zstd makes a sample of a column fairly smaller; `few`, if its values will be in a dictionary. What cannot be
/// tried is taken to be worth it.
pub(super) fn worth_compressing(column: &dyn Array, few: bool, level: ZstdLevel) -> bool {
    let Some((values, width)) = sample_of(column) else { return true };
    let encoded = if few { numbers_of(values.chunks_exact(width)) } else { values };
    let Ok(compressed) = zstd::bulk::compress(&encoded, level.compression_level()) else { return true };
    compressed.len() + encoded.len() / SHARE <= encoded.len()
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
