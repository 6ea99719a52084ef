//! Column types and single values, with the one total order that rules everywhere.
//!
//! Invariants:
//! - One total order over the values of a column, used by row evaluation, batch filters, pruning and rule
//!   validation alike: NULL is lowest, NaN is highest, −0 equals +0.
//! - All non-null values of a column are of the variant that its [`DataType`] names; [`DataType::accepts`]
//!   says so. Integers of every width share a variant, so that widening a column keeps its literals.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use arrow::datatypes::{DataType as ArrowType, TimeUnit as ArrowTimeUnit};
use serde::{Deserialize, Serialize};

/// The unit in which a timestamp counts from 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeUnit {
    /// `TIMESTAMP(0)`.
    Second,
    /// `TIMESTAMP(3)`, the default.
    Millisecond,
    /// `TIMESTAMP(6)`.
    Microsecond,
    /// `TIMESTAMP(9)`.
    Nanosecond,
}

impl TimeUnit {
    /// How many of the unit make a second.
    #[must_use]
    pub const fn per_second(self) -> i64 {
        match self {
            Self::Second => 1,
            Self::Millisecond => 1_000,
            Self::Microsecond => 1_000_000,
            Self::Nanosecond => 1_000_000_000,
        }
    }

    /// The same unit in Arrow's terms.
    #[must_use]
    pub const fn to_arrow(self) -> ArrowTimeUnit {
        match self {
            Self::Second => ArrowTimeUnit::Second,
            Self::Millisecond => ArrowTimeUnit::Millisecond,
            Self::Microsecond => ArrowTimeUnit::Microsecond,
            Self::Nanosecond => ArrowTimeUnit::Nanosecond,
        }
    }
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DataType {
    /// True or false; false is lower.
    Boolean,
    /// Signed, 8 bits.
    Int8,
    /// Signed, 16 bits.
    Int16,
    /// Signed, 32 bits.
    Int32,
    /// Signed, 64 bits.
    Int64,
    /// Unsigned, 8 bits.
    UInt8,
    /// Unsigned, 16 bits.
    UInt16,
    /// Unsigned, 32 bits.
    UInt32,
    /// Unsigned, 64 bits.
    UInt64,
    /// IEEE 754, 32 bits.
    Float32,
    /// IEEE 754, 64 bits.
    Float64,
    /// UTF-8, ordered by bytes.
    String,
    /// Bytes, ordered by value.
    Binary,
    /// Days since 1970-01-01.
    Date,
    /// A point in time, without a zone.
    Timestamp(TimeUnit),
    /// A decimal of `precision` digits (1 to 38), `scale` of them (0 to `precision`) after the point.
    Decimal {
        /// Total digits.
        precision: u8,
        /// Digits after the point.
        scale: u8,
    },
}

impl DataType {
    /// The Arrow type of arrays of this column.
    #[must_use]
    pub fn to_arrow(self) -> ArrowType {
        match self {
            Self::Boolean => ArrowType::Boolean,
            Self::Int8 => ArrowType::Int8,
            Self::Int16 => ArrowType::Int16,
            Self::Int32 => ArrowType::Int32,
            Self::Int64 => ArrowType::Int64,
            Self::UInt8 => ArrowType::UInt8,
            Self::UInt16 => ArrowType::UInt16,
            Self::UInt32 => ArrowType::UInt32,
            Self::UInt64 => ArrowType::UInt64,
            Self::Float32 => ArrowType::Float32,
            Self::Float64 => ArrowType::Float64,
            Self::String => ArrowType::Utf8,
            Self::Binary => ArrowType::Binary,
            Self::Date => ArrowType::Date32,
            Self::Timestamp(unit) => ArrowType::Timestamp(unit.to_arrow(), None),
            Self::Decimal { precision, scale } => ArrowType::Decimal128(precision, scale as i8),
        }
    }

    /// Whether `value` may stand in a column of this type. NULL may stand in any.
    #[must_use]
    pub fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (_, Value::Null)
            | (Self::Boolean, Value::Boolean(_))
            | (Self::UInt64, Value::UInt(_))
            | (Self::Int64, Value::Int(_))
            | (Self::Float64, Value::Float(_))
            | (Self::String, Value::String(_))
            | (Self::Binary, Value::Binary(_))
            | (Self::Date, Value::Date(_))
            | (Self::Timestamp(_), Value::Timestamp(_)) => true,
            (Self::Int8, Value::Int(v)) => i8::try_from(*v).is_ok(),
            (Self::Int16, Value::Int(v)) => i16::try_from(*v).is_ok(),
            (Self::Int32, Value::Int(v)) => i32::try_from(*v).is_ok(),
            (Self::UInt8, Value::UInt(v)) => u8::try_from(*v).is_ok(),
            (Self::UInt16, Value::UInt(v)) => u16::try_from(*v).is_ok(),
            (Self::UInt32, Value::UInt(v)) => u32::try_from(*v).is_ok(),
            (Self::Float32, Value::Float(v)) => v.is_nan() || f64::from(*v as f32) == *v,
            (Self::Decimal { precision, .. }, Value::Decimal(v)) => v.unsigned_abs() < 10_u128.pow(u32::from(precision.min(38))),
            _ => false,
        }
    }

    /// Whether the type counts in whole steps, so that nothing lies between a value and its successor.
    #[must_use]
    pub fn is_discrete(self) -> bool {
        !matches!(self, Self::Float32 | Self::Float64 | Self::String | Self::Binary)
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean => f.write_str("boolean"),
            Self::Int8 => f.write_str("int8"),
            Self::Int16 => f.write_str("int16"),
            Self::Int32 => f.write_str("int32"),
            Self::Int64 => f.write_str("int64"),
            Self::UInt8 => f.write_str("uint8"),
            Self::UInt16 => f.write_str("uint16"),
            Self::UInt32 => f.write_str("uint32"),
            Self::UInt64 => f.write_str("uint64"),
            Self::Float32 => f.write_str("float32"),
            Self::Float64 => f.write_str("float64"),
            Self::String => f.write_str("string"),
            Self::Binary => f.write_str("binary"),
            Self::Date => f.write_str("date"),
            Self::Timestamp(TimeUnit::Second) => f.write_str("timestamp_second"),
            Self::Timestamp(TimeUnit::Millisecond) => f.write_str("timestamp_millisecond"),
            Self::Timestamp(TimeUnit::Microsecond) => f.write_str("timestamp_microsecond"),
            Self::Timestamp(TimeUnit::Nanosecond) => f.write_str("timestamp_nanosecond"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
        }
    }
}

/// A text that names no column type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a column type")]
pub struct ParseTypeError(pub String);

impl FromStr for DataType {
    type Err = ParseTypeError;
    fn from_str(text: &str) -> Result<Self, ParseTypeError> {
        let fail = || ParseTypeError(text.to_owned());
        Ok(match text {
            "boolean" => Self::Boolean,
            "int8" => Self::Int8,
            "int16" => Self::Int16,
            "int32" => Self::Int32,
            "int64" => Self::Int64,
            "uint8" => Self::UInt8,
            "uint16" => Self::UInt16,
            "uint32" => Self::UInt32,
            "uint64" => Self::UInt64,
            "float32" => Self::Float32,
            "float64" => Self::Float64,
            "string" => Self::String,
            "binary" => Self::Binary,
            "date" => Self::Date,
            "timestamp_second" => Self::Timestamp(TimeUnit::Second),
            "timestamp_millisecond" => Self::Timestamp(TimeUnit::Millisecond),
            "timestamp_microsecond" => Self::Timestamp(TimeUnit::Microsecond),
            "timestamp_nanosecond" => Self::Timestamp(TimeUnit::Nanosecond),
            other => {
                let inner = other.strip_prefix("decimal(").and_then(|rest| rest.strip_suffix(')')).ok_or_else(fail)?;
                let (precision, scale) = inner.split_once(',').ok_or_else(fail)?;
                let (precision, scale): (u8, u8) = (precision.parse().map_err(|_| fail())?, scale.parse().map_err(|_| fail())?);
                if precision == 0 || precision > 38 || scale > precision {
                    return Err(fail());
                }
                Self::Decimal { precision, scale }
            }
        })
    }
}

impl TryFrom<String> for DataType {
    type Error = ParseTypeError;
    fn try_from(text: String) -> Result<Self, ParseTypeError> {
        text.parse()
    }
}

impl From<DataType> for String {
    fn from(data_type: DataType) -> Self {
        data_type.to_string()
    }
}

/// One value of a column.
///
/// `Eq`, `Ord` and `Hash` follow the total order of the module: values of different variants are ordered by
/// variant, which never happens within one column.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// The absent value, below every other.
    Null,
    /// Of a boolean column.
    Boolean(bool),
    /// Of a signed column of any width.
    Int(i64),
    /// Of an unsigned column of any width.
    UInt(u64),
    /// Of a float column of either width (every `f32` is an `f64`).
    Float(#[serde(with = "float_text")] f64),
    /// Of a string column.
    String(String),
    /// Of a binary column.
    Binary(Vec<u8>),
    /// Days since 1970-01-01.
    Date(i32),
    /// In the unit of the column.
    Timestamp(i64),
    /// Unscaled: the number without its decimal point.
    Decimal(#[serde(with = "i128_text")] i128),
}

impl Value {
    /// Whether this is NULL.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Boolean(_) => 1,
            Self::Int(_) => 2,
            Self::UInt(_) => 3,
            Self::Float(_) => 4,
            Self::String(_) => 5,
            Self::Binary(_) => 6,
            Self::Date(_) => 7,
            Self::Timestamp(_) => 8,
            Self::Decimal(_) => 9,
        }
    }
}

/// The order of floats within the total order: −0 equals +0, and every NaN is one value above +∞.
#[must_use]
pub fn compare_floats(a: f64, b: f64) -> Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Boolean(a), Self::Boolean(b)) => a.cmp(b),
            (Self::Int(a), Self::Int(b)) | (Self::Timestamp(a), Self::Timestamp(b)) => a.cmp(b),
            (Self::UInt(a), Self::UInt(b)) => a.cmp(b),
            (Self::Float(a), Self::Float(b)) => compare_floats(*a, *b),
            (Self::String(a), Self::String(b)) => a.cmp(b),
            (Self::Binary(a), Self::Binary(b)) => a.cmp(b),
            (Self::Date(a), Self::Date(b)) => a.cmp(b),
            (Self::Decimal(a), Self::Decimal(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.rank().hash(state);
        match self {
            Self::Null => {}
            Self::Boolean(v) => v.hash(state),
            Self::Int(v) | Self::Timestamp(v) => v.hash(state),
            Self::UInt(v) => v.hash(state),
            Self::Float(v) => canonical_float(*v).to_bits().hash(state),
            Self::String(v) => v.hash(state),
            Self::Binary(v) => v.hash(state),
            Self::Date(v) => v.hash(state),
            Self::Decimal(v) => v.hash(state),
        }
    }
}

/// One bit pattern per value of the total order: every NaN becomes the same NaN, −0 becomes +0.
#[must_use]
pub fn canonical_float(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// JSON has no NaN and no infinity, so floats are written as their shortest round-trip text.
mod float_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&super::canonical_float(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("'{text}' is not a float")))
    }
}

/// JSON numbers of 128 bits do not survive most readers, so they are written as text.
mod i128_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|_| D::Error::custom(format!("'{text}' is not an integer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_lowest_nan_is_highest_and_zeros_are_one() {
        let mut values =
            [Value::Float(f64::NAN), Value::Float(1.0), Value::Float(f64::INFINITY), Value::Null, Value::Float(f64::NEG_INFINITY)];
        values.sort();
        assert!(values[0].is_null());
        assert_eq!(values[1], Value::Float(f64::NEG_INFINITY));
        assert_eq!(values[4], Value::Float(-f64::NAN));
        assert_eq!(Value::Float(-0.0), Value::Float(0.0));
    }

    #[test]
    fn every_value_survives_json() {
        let values = [
            Value::Null,
            Value::Boolean(true),
            Value::Int(i64::MIN),
            Value::UInt(u64::MAX),
            Value::Float(f64::NAN),
            Value::Float(f64::NEG_INFINITY),
            Value::Float(0.1),
            Value::String("ü\"\n".into()),
            Value::Binary(vec![0, 255]),
            Value::Date(-1),
            Value::Timestamp(i64::MAX),
            Value::Decimal(i128::MIN),
        ];
        for value in values {
            let text = serde_json::to_string(&value).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn type_names_round_trip() {
        for name in ["boolean", "int8", "uint64", "float32", "string", "date", "timestamp_nanosecond", "decimal(38,10)"] {
            assert_eq!(name.parse::<DataType>().unwrap().to_string(), name);
        }
        for name in ["", "int128", "decimal(39,0)", "decimal(3,4)", "decimal(0,0)", "decimal(1)", "String"] {
            assert!(name.parse::<DataType>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_type_accepts_only_what_fits() {
        assert!(DataType::Int8.accepts(&Value::Int(127)));
        assert!(!DataType::Int8.accepts(&Value::Int(128)));
        assert!(!DataType::Int64.accepts(&Value::UInt(1)));
        assert!(DataType::Float32.accepts(&Value::Float(0.5)));
        assert!(!DataType::Float32.accepts(&Value::Float(0.1)));
        assert!(DataType::String.accepts(&Value::Null));
        assert!(!DataType::Decimal { precision: 2, scale: 0 }.accepts(&Value::Decimal(100)));
    }
}
