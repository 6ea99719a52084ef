//! Neighbours in the total order: what follows a value, what precedes it, what lies between two.
//!
//! Invariants:
//! - Nothing lies between a value and its successor, for every type: integers, dates, timestamps and decimals
//!   step by one, floats by one bit, and a string or binary is followed by itself with a zero byte appended.
//! - NULL precedes the least value of a type; NaN follows infinity.

use crate::value::{DataType, Value};

/// The widest type whose values are of `value`'s variant; none for NULL.
pub(super) fn widest_type(value: &Value) -> Option<DataType> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(_) => DataType::Boolean,
        Value::Int(_) => DataType::Int64,
        Value::UInt(_) => DataType::UInt64,
        Value::Float(_) => DataType::Float64,
        Value::String(_) => DataType::String,
        Value::Binary(_) => DataType::Binary,
        Value::Date(_) => DataType::Date,
        Value::Timestamp(_) => DataType::Timestamp(crate::value::TimeUnit::Nanosecond),
        Value::Decimal(_) => DataType::Decimal { precision: 38, scale: 0 },
    })
}

/// The least value of the type but for NULL.
pub(super) fn least(data_type: DataType) -> Value {
    match data_type {
        DataType::Boolean => Value::Boolean(false),
        DataType::Int8 => Value::Int(i8::MIN.into()),
        DataType::Int16 => Value::Int(i16::MIN.into()),
        DataType::Int32 => Value::Int(i32::MIN.into()),
        DataType::Int64 => Value::Int(i64::MIN),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => Value::UInt(0),
        DataType::Float32 | DataType::Float64 => Value::Float(f64::NEG_INFINITY),
        DataType::String => Value::String(String::new()),
        DataType::Binary => Value::Binary(Vec::new()),
        DataType::Date => Value::Date(i32::MIN),
        DataType::Timestamp(_) => Value::Timestamp(i64::MIN),
        DataType::Decimal { precision, .. } => Value::Decimal(-(10_i128.pow(u32::from(precision.min(38))) - 1)),
    }
}

/// The value after `value` in a column of this type; none after the greatest one.
pub(super) fn successor(value: &Value, data_type: DataType) -> Option<Value> {
    let next = match value {
        Value::Null => least(data_type),
        Value::Boolean(false) => Value::Boolean(true),
        Value::Boolean(true) => return None,
        Value::Int(v) => Value::Int(v.checked_add(1)?),
        Value::UInt(v) => Value::UInt(v.checked_add(1)?),
        Value::Float(v) if v.is_nan() => return None,
        Value::Float(f64::INFINITY) => Value::Float(f64::NAN),
        Value::Float(v) if data_type == DataType::Float32 => Value::Float(next_up_f32(*v)),
        Value::Float(v) => Value::Float(v.next_up()),
        Value::String(v) => Value::String(format!("{v}\0")),
        Value::Binary(v) => Value::Binary([v.as_slice(), &[0]].concat()),
        Value::Date(v) => Value::Date(v.checked_add(1)?),
        Value::Timestamp(v) => Value::Timestamp(v.checked_add(1)?),
        Value::Decimal(v) => Value::Decimal(v.checked_add(1)?),
    };
    data_type.accepts(&next).then_some(next)
}

/// The least `f32` above `value`, which need not be an `f32` itself.
fn next_up_f32(value: f64) -> f64 {
    let near = value as f32;
    if f64::from(near) > value { f64::from(near) } else { f64::from(near.next_up()) }
}

/// The value right before `value`, for the variants in which every value has one; NULL before the least.
/// `None` for NULL itself, and for strings and binaries, which have none, but for the empty ones.
pub(super) fn predecessor(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Null => return None,
        Value::Boolean(true) => Value::Boolean(false),
        Value::Boolean(false) | Value::Float(f64::NEG_INFINITY) => Value::Null,
        Value::Int(v) => v.checked_sub(1).map_or(Value::Null, Value::Int),
        Value::UInt(v) => v.checked_sub(1).map_or(Value::Null, Value::UInt),
        Value::Float(v) if v.is_nan() => Value::Float(f64::INFINITY),
        Value::Float(v) => Value::Float(v.next_down()),
        Value::String(v) if v.is_empty() => Value::Null,
        Value::Binary(v) if v.is_empty() => Value::Null,
        Value::String(_) | Value::Binary(_) => return None,
        Value::Date(v) => v.checked_sub(1).map_or(Value::Null, Value::Date),
        Value::Timestamp(v) => v.checked_sub(1).map_or(Value::Null, Value::Timestamp),
        Value::Decimal(v) => v.checked_sub(1).map_or(Value::Null, Value::Decimal),
    })
}

/// A value of the type above `low` and, if given, below `high`; the most readable one of a few. `None` if
/// there is none.
pub(super) fn between(low: &Value, high: Option<&Value>, data_type: DataType) -> Option<Value> {
    let fits = |v: &Value| low < v && high.is_none_or(|high| v < high) && data_type.accepts(v);
    let mut candidates = readable(low, high, data_type);
    candidates.extend(high.and_then(predecessor));
    candidates.extend(successor(low, data_type));
    candidates.into_iter().find(|v| !v.is_null() && fits(v))
}

fn readable(low: &Value, high: Option<&Value>, data_type: DataType) -> Vec<Value> {
    match (low, high) {
        (Value::Null, None) => match data_type {
            DataType::String => vec![Value::String("m".into())],
            DataType::Float32 | DataType::Float64 => vec![Value::Float(0.0)],
            DataType::Date => vec![Value::Date(0)],
            DataType::Timestamp(_) => vec![Value::Timestamp(0)],
            DataType::Decimal { .. } => vec![Value::Decimal(0)],
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => vec![Value::UInt(0)],
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => vec![Value::Int(0)],
            DataType::Boolean | DataType::Binary => Vec::new(),
        },
        (Value::Null, Some(Value::Float(high))) => [0.0, high.ceil() - 1.0].map(Value::Float).into(),
        (Value::Null, Some(Value::String(_))) => ["m", "a", "A", "0", " "].map(|s| Value::String(s.into())).into(),
        (Value::Float(low), Some(Value::Float(high))) => [low.floor() + 1.0, low + (high - low) / 2.0].map(Value::Float).into(),
        (Value::Float(low), None) => vec![Value::Float(low.floor() + 1.0)],
        (Value::String(low), _) => {
            let mut texts: Vec<String> = ["m", "a", "z"].map(Into::into).into();
            texts.extend(["m", "a", "0", " "].map(|end| format!("{low}{end}")));
            texts.into_iter().map(Value::String).collect()
        }
        (low, _) => successor(low, data_type).into_iter().collect(),
    }
}
