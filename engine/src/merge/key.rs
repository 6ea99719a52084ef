//! Keys as bytes whose order is the order of rows.
//!
//! Invariant: bytes compare as the values do in the one total order (NULL lowest, NaN highest, −0 = +0), so
//! that equal keys have equal bytes.

use std::hash::Hasher;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float32Array, Float64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType as ArrowType, Float32Type, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use tessera_manifest::value::canonical_float;

use crate::sst::Error;

/// Encodes columns into one byte string per row.
#[derive(Debug)]
pub(crate) struct KeyEncoder {
    converter: RowConverter,
}

impl KeyEncoder {
    /// An encoder of columns of these types; at least one.
    pub(crate) fn new(types: impl IntoIterator<Item = ArrowType>) -> Result<Self, Error> {
        let options = SortOptions { descending: false, nulls_first: true };
        let fields = types.into_iter().map(|t| SortField::new_with_options(t, options)).collect();
        let converter = RowConverter::new(fields).map_err(Error::arrow("encode keys"))?;
        Ok(Self { converter })
    }

    /// The keys of rows.
    pub(crate) fn encode(&self, columns: &[ArrayRef]) -> Result<Rows, Error> {
        let columns: Vec<ArrayRef> = columns.iter().map(canonical).collect();
        self.converter.convert_columns(&columns).map_err(Error::arrow("encode keys"))
    }
}

/// The same column with one bit pattern per value of the total order.
fn canonical(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        ArrowType::Float64 => {
            let values: Float64Array = array.as_primitive::<Float64Type>().unary(canonical_float);
            Arc::new(values)
        }
        ArrowType::Float32 => {
            let values: Float32Array = array.as_primitive::<Float32Type>().unary(canonical_f32);
            Arc::new(values)
        }
        _ => Arc::clone(array),
    }
}

fn canonical_f32(value: f32) -> f32 {
    if value.is_nan() {
        f32::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// Hashes a key of some 100 bytes in some 10 ns, by multiplying 16 bytes at a time into 128 bits and folding them.
/// Keys come from rows; a series more in a bucket costs only time.
#[derive(Debug, Default)]
pub(crate) struct KeyHasher(u64);

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
