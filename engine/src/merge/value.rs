//! Between Arrow arrays and single values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::compute::{cast, take};
use arrow::datatypes::{
    DataType as ArrowType, Float32Type, Float64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use tessera_manifest::rule;
use tessera_manifest::value::{DataType, Value};

use super::key::KeyEncoder;
use super::series::{plain, starts};
use crate::sst::Error;

/// `rows` times the value, as a column of the type.
pub(crate) fn repeat(value: &Value, data_type: DataType, rows: usize) -> Result<ArrayRef, Error> {
    let target = data_type.to_arrow();
    let array: ArrayRef = match value {
        Value::Null => return Ok(new_null_array(&target, rows)),
        Value::Boolean(v) => Arc::new(BooleanArray::from(vec![*v; rows])),
        Value::Int(v) | Value::Timestamp(v) => Arc::new(Int64Array::from_value(*v, rows)),
        Value::UInt(v) => Arc::new(UInt64Array::from_value(*v, rows)),
        Value::Float(v) => Arc::new(Float64Array::from_value(*v, rows)),
        Value::String(v) => Arc::new(StringArray::from_iter_values(std::iter::repeat_n(v, rows))),
        Value::Binary(v) => Arc::new(BinaryArray::from_iter_values(std::iter::repeat_n(v, rows))),
        Value::Date(v) => Arc::new(Date32Array::from_value(*v, rows)),
        Value::Decimal(v) => Arc::new(Decimal128Array::from_value(*v, rows).with_data_type(target.clone())),
    };
    if *array.data_type() == target { Ok(array) } else { cast(&array, &target).map_err(Error::arrow("form a column's default")) }
}

/// The value at a row of a column of the type.
pub(crate) fn value_at(array: &dyn Array, row: usize, data_type: DataType) -> Result<Value, Error> {
    rule::value_at(array, row, data_type).map_err(|error| Error::BatchShape { detail: error.to_string() })
}

/// The time index's values as plain integers, shared with the array; `None` if it is not a timestamp.
pub(crate) fn times(array: &dyn Array) -> Option<&[i64]> {
    Some(match array.data_type() {
        ArrowType::Timestamp(TimeUnit::Second, _) => array.as_primitive::<TimestampSecondType>().values(),
        ArrowType::Timestamp(TimeUnit::Millisecond, _) => array.as_primitive::<TimestampMillisecondType>().values(),
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => array.as_primitive::<TimestampMicrosecondType>().values(),
        ArrowType::Timestamp(TimeUnit::Nanosecond, _) => array.as_primitive::<TimestampNanosecondType>().values(),
        _ => return None,
    })
}

/// The least and the greatest value that is neither NULL nor NaN, and whether there are such.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extremes {
    pub(crate) range: Option<(Value, Value)>,
    pub(crate) has_null: bool,
    pub(crate) has_nan: bool,
}

/// Extremes of a column in the total order of values.
pub(crate) fn extremes(array: &ArrayRef, data_type: DataType) -> Result<Extremes, Error> {
    if array.as_any_dictionary_opt().is_some() {
        let firsts = UInt32Array::from(starts(std::slice::from_ref(array), array.len())?);
        let few = take(array, &firsts, None).and_then(|few| plain(&few)).map_err(Error::arrow("pick values"))?;
        return extremes(&few, data_type);
    }
    let mut out = Extremes { has_null: array.null_count() > 0, ..Extremes::default() };
    let keys = KeyEncoder::new([array.data_type().clone()])?.encode(std::slice::from_ref(array))?;
    let mut least: Option<usize> = None;
    let mut greatest: Option<usize> = None;
    for row in 0..array.len() {
        if array.is_null(row) {
            continue;
        }
        if is_nan(array, row) {
            out.has_nan = true;
            continue;
        }
        if least.is_none_or(|l| keys.row(row) < keys.row(l)) {
            least = Some(row);
        }
        if greatest.is_none_or(|g| keys.row(row) > keys.row(g)) {
            greatest = Some(row);
        }
    }
    if let (Some(least), Some(greatest)) = (least, greatest) {
        out.range = Some((value_at(array, least, data_type)?, value_at(array, greatest, data_type)?));
    }
    Ok(out)
}

fn is_nan(array: &ArrayRef, row: usize) -> bool {
    match array.data_type() {
        ArrowType::Float32 => array.as_primitive::<Float32Type>().value(row).is_nan(),
        ArrowType::Float64 => array.as_primitive::<Float64Type>().value(row).is_nan(),
        _ => false,
    }
}

impl Extremes {
    /// Extremes of both together.
    pub(crate) fn join(&mut self, other: Self) {
        self.has_null |= other.has_null;
        self.has_nan |= other.has_nan;
        self.range = match (self.range.take(), other.range) {
            (Some((a, b)), Some((c, d))) => Some((a.min(c), b.max(d))),
            (a, b) => a.or(b),
        };
    }
}
