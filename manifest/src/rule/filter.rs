//! Rules over Arrow batches.
//!
//! Invariants:
//! - Bit `i` of a filter is what [`Expr::matches`] says of row `i`; it is never NULL.
//! - No value is allocated per row: each comparison is one loop over the array's own type, and a dictionary is
//!   compared once per entry.

use std::cmp::Ordering;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringArrayType};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{
    ArrowDictionaryKeyType, DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit as ArrowTimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::{CompareOp, Expr};
use crate::id::ColumnId;
use crate::schema::{Column, Schema};
use crate::value::{DataType, TimeUnit, Value, compare_floats};

/// Why a rule cannot be evaluated on a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The schema does not have the column that the rule names.
    #[error("the rule names column id {column}, which the schema does not have")]
    UnknownColumn {
        /// The id.
        column: ColumnId,
    },
    /// The batch does not have the column that the rule names.
    #[error("the rule needs column '{column}', which the batch does not have")]
    MissingColumn {
        /// Its name.
        column: String,
    },
    /// The array is not of the column's type.
    #[error("a column of type {expected} cannot be read from an array of type {found}")]
    ArrayType {
        /// The column's type.
        expected: DataType,
        /// The array's type.
        found: String,
    },
    /// A literal is not of the column's type.
    #[error("{literal:?} is no literal of type {expected}")]
    LiteralType {
        /// The column's type.
        expected: DataType,
        /// The literal.
        literal: Value,
    },
}

impl Expr {
    /// Which rows of the batch satisfy the rule. Columns are found by their names in `schema`; the batch may
    /// lack those that the rule does not name, and have others. Strings may come as `Utf8`, `LargeUtf8`,
    /// `Utf8View` or a dictionary of these; binaries as `Binary`, `LargeBinary` or `BinaryView`.
    ///
    /// # Errors
    /// A column that is missing or of another type, a literal that is not of its column's type.
    pub fn filter(&self, batch: &RecordBatch, schema: &Schema) -> Result<BooleanArray, EvalError> {
        Ok(BooleanArray::new(evaluate(self, batch, schema)?, None))
    }
}

fn evaluate(expr: &Expr, batch: &RecordBatch, schema: &Schema) -> Result<BooleanBuffer, EvalError> {
    let rows = batch.num_rows();
    match expr {
        Expr::And(parts) => {
            let mut all = BooleanBuffer::new_set(rows);
            for part in parts {
                all = &all & &evaluate(part, batch, schema)?;
            }
            Ok(all)
        }
        Expr::Or(parts) => {
            let mut any = BooleanBuffer::new_unset(rows);
            for part in parts {
                any = &any | &evaluate(part, batch, schema)?;
            }
            Ok(any)
        }
        Expr::Not(inner) => Ok(!&evaluate(inner, batch, schema)?),
        Expr::Compare { column, op, value } => {
            let (column, array) = column_array(*column, batch, schema)?;
            test_array(array, column.data_type, &Test::Compare(*op, value))
        }
        Expr::In { column, values } => {
            let (column, array) = column_array(*column, batch, schema)?;
            let mut sorted: Vec<&Value> = values.iter().collect();
            sorted.sort();
            test_array(array, column.data_type, &Test::In(sorted))
        }
    }
}

fn column_array<'b, 's>(id: ColumnId, batch: &'b RecordBatch, schema: &'s Schema) -> Result<(&'s Column, &'b ArrayRef), EvalError> {
    let column = schema.column(id).ok_or(EvalError::UnknownColumn { column: id })?;
    let array = batch.column_by_name(&column.name).ok_or_else(|| EvalError::MissingColumn { column: column.name.clone() })?;
    Ok((column, array))
}

/// What is asked of each value of an array.
enum Test<'e> {
    Compare(CompareOp, &'e Value),
    /// Whether it is among these, which are sorted.
    In(Vec<&'e Value>),
}

impl Test<'_> {
    /// The answer for NULL.
    fn of_null(&self) -> bool {
        match self {
            Self::Compare(op, value) => op.holds(Value::Null.cmp(value)),
            Self::In(values) => values.first().is_some_and(|v| v.is_null()),
        }
    }

    /// The test for values that are not NULL, its literals unwrapped by `unwrap`.
    fn unwrapped<'v, T>(&'v self, data_type: DataType, unwrap: impl Fn(&'v Value) -> Option<T>) -> Result<Typed<T>, EvalError> {
        let typed = |value: &'v Value| unwrap(value).ok_or_else(|| EvalError::LiteralType { expected: data_type, literal: value.clone() });
        match self {
            // Every value that is not NULL is above NULL.
            Self::Compare(op, Value::Null) => Ok(Typed::Constant(op.holds(Ordering::Greater))),
            Self::Compare(op, value) => Ok(Typed::Compare(*op, typed(value)?)),
            Self::In(values) => Ok(Typed::In(values.iter().filter(|v| !v.is_null()).map(|v| typed(v)).collect::<Result<_, _>>()?)),
        }
    }
}

/// A test of values of one native type.
enum Typed<T> {
    Constant(bool),
    Compare(CompareOp, T),
    In(Vec<T>),
}

impl<T> Typed<T> {
    /// The test for each of `rows` rows, whose values are ordered by `compare`.
    fn run<V: Copy>(&self, rows: usize, value: impl Fn(usize) -> V, compare: impl Fn(V, &T) -> Ordering) -> BooleanBuffer {
        match self {
            Self::Constant(answer) => BooleanBuffer::collect_bool(rows, |_| *answer),
            // One loop per operator, so that the operator is not looked at for each row.
            Self::Compare(CompareOp::Eq, t) => BooleanBuffer::collect_bool(rows, |i| compare(value(i), t).is_eq()),
            Self::Compare(CompareOp::NotEq, t) => BooleanBuffer::collect_bool(rows, |i| compare(value(i), t).is_ne()),
            Self::Compare(CompareOp::Lt, t) => BooleanBuffer::collect_bool(rows, |i| compare(value(i), t).is_lt()),
            Self::Compare(CompareOp::LtEq, t) => BooleanBuffer::collect_bool(rows, |i| compare(value(i), t).is_le()),
            Self::Compare(CompareOp::Gt, t) => BooleanBuffer::collect_bool(rows, |i| compare(value(i), t).is_gt()),
            Self::Compare(CompareOp::GtEq, t) => BooleanBuffer::collect_bool(rows, |i| compare(value(i), t).is_ge()),
            Self::In(literals) => BooleanBuffer::collect_bool(rows, |i| {
                let v = value(i);
                literals.binary_search_by(|t| compare(v, t).reverse()).is_ok()
            }),
        }
    }
}

/// Puts the answer for NULL where the array is NULL.
fn with_nulls(bits: BooleanBuffer, nulls: Option<&NullBuffer>, of_null: bool) -> BooleanBuffer {
    match nulls {
        None => bits,
        Some(nulls) if of_null => &bits | &!nulls.inner(),
        Some(nulls) => &bits & nulls.inner(),
    }
}

fn test_array(array: &ArrayRef, data_type: DataType, test: &Test<'_>) -> Result<BooleanBuffer, EvalError> {
    use DataType as T;
    let bits = match (data_type, array.data_type()) {
        (T::Boolean, ArrowType::Boolean) => {
            let values = array.as_boolean().values();
            test.unwrapped(data_type, boolean)?.run(array.len(), |i| values.value(i), |v, t| v.cmp(t))
        }
        (T::Int8, ArrowType::Int8) => primitive::<Int8Type, _>(array, test.unwrapped(data_type, int)?, |v, t| i64::from(v).cmp(t)),
        (T::Int16, ArrowType::Int16) => primitive::<Int16Type, _>(array, test.unwrapped(data_type, int)?, |v, t| i64::from(v).cmp(t)),
        (T::Int32, ArrowType::Int32) => primitive::<Int32Type, _>(array, test.unwrapped(data_type, int)?, |v, t| i64::from(v).cmp(t)),
        (T::Int64, ArrowType::Int64) => primitive::<Int64Type, _>(array, test.unwrapped(data_type, int)?, |v, t| v.cmp(t)),
        (T::UInt8, ArrowType::UInt8) => primitive::<UInt8Type, _>(array, test.unwrapped(data_type, uint)?, |v, t| u64::from(v).cmp(t)),
        (T::UInt16, ArrowType::UInt16) => primitive::<UInt16Type, _>(array, test.unwrapped(data_type, uint)?, |v, t| u64::from(v).cmp(t)),
        (T::UInt32, ArrowType::UInt32) => primitive::<UInt32Type, _>(array, test.unwrapped(data_type, uint)?, |v, t| u64::from(v).cmp(t)),
        (T::UInt64, ArrowType::UInt64) => primitive::<UInt64Type, _>(array, test.unwrapped(data_type, uint)?, |v, t| v.cmp(t)),
        (T::Float32, ArrowType::Float32) => {
            primitive::<Float32Type, _>(array, test.unwrapped(data_type, float)?, |v, t| compare_floats(f64::from(v), *t))
        }
        (T::Float64, ArrowType::Float64) => {
            primitive::<Float64Type, _>(array, test.unwrapped(data_type, float)?, |v, t| compare_floats(v, *t))
        }
        (T::Date, ArrowType::Date32) => primitive::<Date32Type, _>(array, test.unwrapped(data_type, date)?, |v, t| v.cmp(t)),
        (T::Decimal { scale, .. }, ArrowType::Decimal128(_, found)) if i16::from(*found) == i16::from(scale) => {
            primitive::<Decimal128Type, _>(array, test.unwrapped(data_type, decimal)?, |v, t| v.cmp(t))
        }
        (T::Timestamp(unit), ArrowType::Timestamp(found, _)) if unit.to_arrow() == *found => {
            timestamps(array, unit, &test.unwrapped(data_type, timestamp)?)
        }
        (T::String, ArrowType::Dictionary(key, _)) => return dictionary(array, key, test, data_type),
        (T::String, _) => test_strings(array, &test.unwrapped(data_type, string)?)?,
        (T::Binary, ArrowType::Binary) => run_bytes(array.as_binary::<i32>().iter(), &test.unwrapped(data_type, binary)?),
        (T::Binary, ArrowType::LargeBinary) => run_bytes(array.as_binary::<i64>().iter(), &test.unwrapped(data_type, binary)?),
        (T::Binary, ArrowType::BinaryView) => run_bytes(array.as_binary_view().iter(), &test.unwrapped(data_type, binary)?),
        _ => return Err(array_type(array, data_type)),
    };
    Ok(with_nulls(bits, array.nulls(), test.of_null()))
}

fn array_type(array: &dyn Array, expected: DataType) -> EvalError {
    EvalError::ArrayType { expected, found: array.data_type().to_string() }
}

fn primitive<A: ArrowPrimitiveType, T>(array: &ArrayRef, test: Typed<T>, compare: impl Fn(A::Native, &T) -> Ordering) -> BooleanBuffer {
    let values: &[A::Native] = array.as_primitive::<A>().values();
    test.run(values.len(), |i| values[i], compare)
}

fn timestamps(array: &ArrayRef, unit: TimeUnit, test: &Typed<i64>) -> BooleanBuffer {
    let values: &[i64] = match unit {
        TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
        TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
        TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
        TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
    };
    test.run(values.len(), |i| values[i], |v, t| v.cmp(t))
}

fn test_strings(array: &ArrayRef, test: &Typed<&str>) -> Result<BooleanBuffer, EvalError> {
    match array.data_type() {
        ArrowType::Utf8 => Ok(run_strings(array.as_string::<i32>(), test)),
        ArrowType::LargeUtf8 => Ok(run_strings(array.as_string::<i64>(), test)),
        ArrowType::Utf8View => Ok(run_strings(array.as_string_view(), test)),
        _ => Err(array_type(array, DataType::String)),
    }
}

fn run_strings<'a>(array: impl StringArrayType<'a> + Copy, test: &Typed<&str>) -> BooleanBuffer {
    // The value under a NULL is an empty or unused text; reading it is harmless, and its answer is masked.
    test.run(array.len(), |i| array.value(i), |v, t| v.cmp(t))
}

fn run_bytes<'a>(values: impl Iterator<Item = Option<&'a [u8]>>, test: &Typed<&[u8]>) -> BooleanBuffer {
    let values: Vec<&[u8]> = values.map(Option::unwrap_or_default).collect();
    test.run(values.len(), |i| values[i], |v, t| v.cmp(t))
}

fn dictionary(array: &ArrayRef, key: &ArrowType, test: &Test<'_>, data_type: DataType) -> Result<BooleanBuffer, EvalError> {
    match key {
        ArrowType::Int32 => dictionary_of::<Int32Type>(array, test, data_type, |key| usize::try_from(key).unwrap_or(usize::MAX)),
        ArrowType::UInt32 => dictionary_of::<UInt32Type>(array, test, data_type, |key| key as usize),
        _ => Err(array_type(array, data_type)),
    }
}

/// Answers each entry of the dictionary once, then looks the rows' answers up.
fn dictionary_of<K: ArrowDictionaryKeyType>(
    array: &ArrayRef,
    test: &Test<'_>,
    data_type: DataType,
    index: impl Fn(K::Native) -> usize,
) -> Result<BooleanBuffer, EvalError> {
    let dictionary = array.as_dictionary::<K>();
    if matches!(dictionary.values().data_type(), ArrowType::Dictionary(..)) {
        return Err(array_type(array, data_type));
    }
    let answers = test_array(dictionary.values(), data_type, test)?;
    let keys: &PrimitiveArray<K> = dictionary.keys();
    let values: &[K::Native] = keys.values();
    // Keys under a NULL may point anywhere.
    let answer = |i: usize| Some(index(values[i])).filter(|at| *at < answers.len()).is_some_and(|at| answers.value(at));
    let bits = BooleanBuffer::collect_bool(values.len(), answer);
    Ok(with_nulls(bits, keys.nulls(), test.of_null()))
}

/// The value of a row of an array, for a column of this type. For statistics and messages; filters do not
/// come through here.
///
/// # Errors
/// [`EvalError::ArrayType`] if the array is not one that [`Expr::filter`] takes for the type.
///
/// # Panics
/// If there is no such row.
pub fn value_at(array: &dyn Array, row: usize, data_type: DataType) -> Result<Value, EvalError> {
    use DataType as T;
    if array.is_null(row) {
        return Ok(Value::Null);
    }
    Ok(match (data_type, array.data_type()) {
        (T::Boolean, ArrowType::Boolean) => Value::Boolean(array.as_boolean().value(row)),
        (T::Int8, ArrowType::Int8) => Value::Int(array.as_primitive::<Int8Type>().value(row).into()),
        (T::Int16, ArrowType::Int16) => Value::Int(array.as_primitive::<Int16Type>().value(row).into()),
        (T::Int32, ArrowType::Int32) => Value::Int(array.as_primitive::<Int32Type>().value(row).into()),
        (T::Int64, ArrowType::Int64) => Value::Int(array.as_primitive::<Int64Type>().value(row)),
        (T::UInt8, ArrowType::UInt8) => Value::UInt(array.as_primitive::<UInt8Type>().value(row).into()),
        (T::UInt16, ArrowType::UInt16) => Value::UInt(array.as_primitive::<UInt16Type>().value(row).into()),
        (T::UInt32, ArrowType::UInt32) => Value::UInt(array.as_primitive::<UInt32Type>().value(row).into()),
        (T::UInt64, ArrowType::UInt64) => Value::UInt(array.as_primitive::<UInt64Type>().value(row)),
        (T::Float32, ArrowType::Float32) => Value::Float(array.as_primitive::<Float32Type>().value(row).into()),
        (T::Float64, ArrowType::Float64) => Value::Float(array.as_primitive::<Float64Type>().value(row)),
        (T::Date, ArrowType::Date32) => Value::Date(array.as_primitive::<Date32Type>().value(row)),
        (T::Decimal { scale, .. }, ArrowType::Decimal128(_, found)) if i16::from(*found) == i16::from(scale) => {
            Value::Decimal(array.as_primitive::<Decimal128Type>().value(row))
        }
        (T::Timestamp(unit), ArrowType::Timestamp(found, _)) if unit.to_arrow() == *found => {
            Value::Timestamp(timestamp_at(array, row, *found))
        }
        (T::String, ArrowType::Utf8) => Value::String(array.as_string::<i32>().value(row).into()),
        (T::String, ArrowType::LargeUtf8) => Value::String(array.as_string::<i64>().value(row).into()),
        (T::String, ArrowType::Utf8View) => Value::String(array.as_string_view().value(row).into()),
        (T::String, ArrowType::Dictionary(..)) => {
            let dictionary = array.as_any_dictionary();
            // A key of a valid dictionary array is in range; only the slot of a NULL need not be.
            return value_at(dictionary.values().as_ref(), dictionary_key(array, row)?, data_type);
        }
        (T::Binary, ArrowType::Binary) => Value::Binary(array.as_binary::<i32>().value(row).into()),
        (T::Binary, ArrowType::LargeBinary) => Value::Binary(array.as_binary::<i64>().value(row).into()),
        (T::Binary, ArrowType::BinaryView) => Value::Binary(array.as_binary_view().value(row).into()),
        _ => return Err(array_type(array, data_type)),
    })
}

fn dictionary_key(array: &dyn Array, row: usize) -> Result<usize, EvalError> {
    let fail = || array_type(array, DataType::String);
    match array.data_type() {
        ArrowType::Dictionary(key, _) if **key == ArrowType::Int32 => {
            usize::try_from(array.as_dictionary::<Int32Type>().keys().value(row)).map_err(|_| fail())
        }
        ArrowType::Dictionary(key, _) if **key == ArrowType::UInt32 => Ok(array.as_dictionary::<UInt32Type>().keys().value(row) as usize),
        _ => Err(fail()),
    }
}

fn timestamp_at(array: &dyn Array, row: usize, unit: ArrowTimeUnit) -> i64 {
    match unit {
        ArrowTimeUnit::Second => array.as_primitive::<TimestampSecondType>().value(row),
        ArrowTimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().value(row),
        ArrowTimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().value(row),
        ArrowTimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().value(row),
    }
}

fn boolean(value: &Value) -> Option<bool> {
    if let Value::Boolean(v) = value { Some(*v) } else { None }
}

fn int(value: &Value) -> Option<i64> {
    if let Value::Int(v) = value { Some(*v) } else { None }
}

fn uint(value: &Value) -> Option<u64> {
    if let Value::UInt(v) = value { Some(*v) } else { None }
}

fn float(value: &Value) -> Option<f64> {
    if let Value::Float(v) = value { Some(*v) } else { None }
}

fn date(value: &Value) -> Option<i32> {
    if let Value::Date(v) = value { Some(*v) } else { None }
}

fn timestamp(value: &Value) -> Option<i64> {
    if let Value::Timestamp(v) = value { Some(*v) } else { None }
}

fn decimal(value: &Value) -> Option<i128> {
    if let Value::Decimal(v) = value { Some(*v) } else { None }
}

fn string(value: &Value) -> Option<&str> {
    if let Value::String(v) = value { Some(v) } else { None }
}

fn binary(value: &Value) -> Option<&[u8]> {
    if let Value::Binary(v) = value { Some(v) } else { None }
}
