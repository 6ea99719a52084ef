//! Values between DataFusion's scalars and the engine's.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use datafusion::common::ScalarValue;
use tessera_manifest::value::{DataType, TimeUnit, Value};

/// The value of a scalar for a column of this type; `None` if the type cannot hold exactly that.
#[must_use]
pub fn from_scalar(scalar: &ScalarValue, data_type: DataType) -> Option<Value> {
    if scalar.is_null() {
        return Some(Value::Null);
    }
    let value = match (scalar, data_type) {
        (ScalarValue::Dictionary(_, inner), _) => return from_scalar(inner, data_type),
        (ScalarValue::Boolean(Some(v)), DataType::Boolean) => Value::Boolean(*v),
        (ScalarValue::Utf8(Some(v)) | ScalarValue::Utf8View(Some(v)) | ScalarValue::LargeUtf8(Some(v)), DataType::String) => {
            Value::String(v.clone())
        }
        (ScalarValue::Binary(Some(v)) | ScalarValue::BinaryView(Some(v)) | ScalarValue::LargeBinary(Some(v)), DataType::Binary) => {
            Value::Binary(v.clone())
        }
        (ScalarValue::Float32(Some(v)), DataType::Float32 | DataType::Float64) => Value::Float(f64::from(*v)),
        (ScalarValue::Float64(Some(v)), DataType::Float32 | DataType::Float64) => Value::Float(*v),
        (ScalarValue::Date32(Some(v)), DataType::Date) => Value::Date(*v),
        (ScalarValue::Decimal128(Some(v), _, scale), DataType::Decimal { scale: wanted, .. }) if i16::from(*scale) == i16::from(wanted) => {
            Value::Decimal(*v)
        }
        (_, DataType::Timestamp(unit)) => Value::Timestamp(exact_time(scalar, unit)?),
        _ => integer(scalar, data_type)?,
    };
    data_type.accepts(&value).then_some(value)
}

/// A timestamp as (value, unit), without regard to a time zone: all count from the same instant in UTC.
#[must_use]
pub fn timestamp(scalar: &ScalarValue) -> Option<(i64, TimeUnit)> {
    match scalar {
        ScalarValue::TimestampSecond(Some(v), _) => Some((*v, TimeUnit::Second)),
        ScalarValue::TimestampMillisecond(Some(v), _) => Some((*v, TimeUnit::Millisecond)),
        ScalarValue::TimestampMicrosecond(Some(v), _) => Some((*v, TimeUnit::Microsecond)),
        ScalarValue::TimestampNanosecond(Some(v), _) => Some((*v, TimeUnit::Nanosecond)),
        _ => None,
    }
}

fn exact_time(scalar: &ScalarValue, unit: TimeUnit) -> Option<i64> {
    let (value, from) = timestamp(scalar)?;
    let (from, to) = (from.per_second(), unit.per_second());
    if to >= from {
        value.checked_mul(to / from)
    } else {
        let step = from / to;
        (value % step == 0).then_some(value / step)
    }
}

fn integer(scalar: &ScalarValue, data_type: DataType) -> Option<Value> {
    let wide: i128 = match scalar {
        ScalarValue::Int8(Some(v)) => i128::from(*v),
        ScalarValue::Int16(Some(v)) => i128::from(*v),
        ScalarValue::Int32(Some(v)) => i128::from(*v),
        ScalarValue::Int64(Some(v)) => i128::from(*v),
        ScalarValue::UInt8(Some(v)) => i128::from(*v),
        ScalarValue::UInt16(Some(v)) => i128::from(*v),
        ScalarValue::UInt32(Some(v)) => i128::from(*v),
        ScalarValue::UInt64(Some(v)) => i128::from(*v),
        _ => return None,
    };
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => i64::try_from(wide).ok().map(Value::Int),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => u64::try_from(wide).ok().map(Value::UInt),
        _ => None,
    }
}

/// The scalar of a value of a column of this type; NULL if the value is not of the type.
#[must_use]
pub fn to_scalar(value: &Value, data_type: DataType) -> ScalarValue {
    let wide = match value {
        Value::Boolean(v) => ScalarValue::Boolean(Some(*v)),
        Value::Int(v) => ScalarValue::Int64(Some(*v)),
        Value::UInt(v) => ScalarValue::UInt64(Some(*v)),
        Value::Float(v) => ScalarValue::Float64(Some(*v)),
        Value::String(v) => ScalarValue::Utf8(Some(v.clone())),
        Value::Binary(v) => ScalarValue::Binary(Some(v.clone())),
        Value::Date(v) => ScalarValue::Date32(Some(*v)),
        Value::Timestamp(v) => ScalarValue::Int64(Some(*v)),
        Value::Decimal(v) => match data_type {
            DataType::Decimal { precision, scale } => ScalarValue::Decimal128(Some(*v), precision, i8::try_from(scale).unwrap_or(0)),
            _ => ScalarValue::Null,
        },
        Value::Null => ScalarValue::Null,
    };
    let null = || ScalarValue::try_from(&data_type.to_arrow()).unwrap_or(ScalarValue::Null);
    if wide.is_null() { null() } else { wide.cast_to(&data_type.to_arrow()).unwrap_or_else(|_| null()) }
}

/// One value of an array whose column has this type, for messages.
#[must_use]
pub fn value_at(array: &ArrayRef, row: usize, data_type: DataType) -> Value {
    let scalar = ScalarValue::try_from_array(&Arc::clone(array), row).unwrap_or(ScalarValue::Null);
    if array.is_null(row) { Value::Null } else { from_scalar(&scalar, data_type).unwrap_or(Value::Null) }
}
