//! Keys as bytes whose order is the order of rows.
//!
//! Invariant: bytes compare as the values do in the one total order (NULL lowest, NaN highest, −0 = +0), so
//! that equal keys have equal bytes.

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
