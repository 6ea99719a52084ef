//! Between Arrow arrays and single values.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, UInt64Array,
    new_null_array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use tessera_manifest::value::{DataType, Value};

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

/// The value at a row; `None` for a type that no column has.
pub(crate) fn value_at(array: &dyn Array, row: usize) -> Option<Value> {
    if array.is_null(row) {
        return Some(Value::Null);
    }
    Some(match array.data_type() {
        ArrowType::Boolean => Value::Boolean(array.as_boolean().value(row)),
        ArrowType::Int8 => Value::Int(array.as_primitive::<Int8Type>().value(row).into()),
        ArrowType::Int16 => Value::Int(array.as_primitive::<Int16Type>().value(row).into()),
        ArrowType::Int32 => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        ArrowType::Int64 => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        ArrowType::UInt8 => Value::UInt(array.as_primitive::<UInt8Type>().value(row).into()),
        ArrowType::UInt16 => Value::UInt(array.as_primitive::<UInt16Type>().value(row).into()),
        ArrowType::UInt32 => Value::UInt(array.as_primitive::<UInt32Type>().value(row).into()),
        ArrowType::UInt64 => Value::UInt(array.as_primitive::<UInt64Type>().value(row)),
        ArrowType::Float32 => Value::Float(array.as_primitive::<Float32Type>().value(row).into()),
        ArrowType::Float64 => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        ArrowType::Utf8 => Value::String(array.as_string::<i32>().value(row).to_owned()),
        ArrowType::Binary => Value::Binary(array.as_binary::<i32>().value(row).to_owned()),
        ArrowType::Date32 => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        ArrowType::Timestamp(unit, _) => Value::Timestamp(timestamp_at(array, *unit, row)),
        ArrowType::Decimal128(_, _) => Value::Decimal(array.as_primitive::<Decimal128Type>().value(row)),
        _ => return None,
    })
}

fn timestamp_at(array: &dyn Array, unit: TimeUnit, row: usize) -> i64 {
    match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
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

/// Positions of the least and the greatest value that is neither NULL nor NaN, and whether there are such.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Extremes {
    pub(crate) range: Option<(Value, Value)>,
    pub(crate) has_null: bool,
    pub(crate) has_nan: bool,
}

/// Extremes of a column in the total order of values.
pub(crate) fn extremes(array: &ArrayRef) -> Extremes {
    let mut out = Extremes { has_null: array.null_count() > 0, ..Extremes::default() };
    let Ok(converted) = super::key::KeyEncoder::new([array.data_type().clone()]).and_then(|e| e.encode(std::slice::from_ref(array))) else {
        return out;
    };
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
        if least.is_none_or(|l| converted.row(row) < converted.row(l)) {
            least = Some(row);
        }
        if greatest.is_none_or(|g| converted.row(row) > converted.row(g)) {
            greatest = Some(row);
        }
    }
    out.range = least.zip(greatest).and_then(|(l, g)| Some((value_at(array, l)?, value_at(array, g)?)));
    out
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
