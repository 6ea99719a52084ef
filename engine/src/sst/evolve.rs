//! Rows of one version of a table's schema as rows of another.
//!
//! Invariants:
//! - Columns are matched by id: a dropped column whose name was given to another is not that other.
//! - Towards a later version nothing is lost: what is missing gets its default or NULL, what was widened is cast.
//! - Towards an earlier version, which a statement that was planned under it still reads, a value that the earlier
//!   type cannot hold is an error, never another value.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema};
use tessera_manifest::file::ColumnStats;
use tessera_manifest::schema::{Column, ColumnDefault, Schema};
use tessera_manifest::value::Value;

use super::Error;
use crate::memtable::columns_of;
use crate::merge::layout::new_batch;
use crate::merge::value;
use crate::request::OpType;

const EXACT: CastOptions<'static> = CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The column's array in the type that `column` has, or what stands for it in rows that were written without it.
///
/// # Errors
/// [`Error::NoValue`] when the column may not be NULL and has no default; [`Error::Narrowed`] when its type does not
/// hold a value.
pub(crate) fn conform_column(column: &Column, array: Option<&ArrayRef>, rows: usize) -> Result<ArrayRef, Error> {
    match (array, &column.default) {
        (Some(array), _) => convert(column, array),
        (None, Some(ColumnDefault::Value(value))) => value::repeat(value, column.data_type, rows),
        (None, _) if column.nullable => value::repeat(&Value::Null, column.data_type, rows),
        (None, _) => Err(Error::NoValue { column: column.name.clone() }),
    }
}

/// Rows that were made under `from` as rows of `to`: columns that only `to` has get their default or NULL, those that only
/// `from` has are left out. A batch of deletes has just the key columns.
///
/// # Errors
/// [`Error::NoValue`] when a column may not be NULL and has no default; [`Error::Narrowed`] when its type does not hold a
/// value. Towards a later version of a schema neither is.
pub fn conform_batch(batch: &RecordBatch, from: &Schema, to: &Schema, op: OpType) -> Result<RecordBatch, Error> {
    let ids: Vec<_> = columns_of(from, op).map(|position| from.columns()[position].id).collect();
    let (mut fields, mut arrays) = (Vec::new(), Vec::new());
    for position in columns_of(to, op) {
        let column = &to.columns()[position];
        let found = ids.iter().zip(batch.columns()).find(|(id, _)| **id == column.id).map(|(_, array)| array);
        arrays.push(conform_column(column, found, batch.num_rows())?);
        fields.push(column.to_arrow());
    }
    new_batch(&Arc::new(ArrowSchema::new(fields)), arrays, batch.num_rows())
}

/// What is known of the column's values in a file that was written without it.
#[must_use]
pub fn stats_of_absent(column: &Column) -> ColumnStats {
    let value = match &column.default {
        Some(ColumnDefault::Value(value)) => value.clone(),
        _ => Value::Null,
    };
    let has_nan = matches!(value, Value::Float(v) if v.is_nan());
    let has_null = value.is_null();
    let range = (!has_null && !has_nan).then(|| (value.clone(), value));
    ColumnStats { column: column.id, range, has_null, has_nan }
}

fn convert(column: &Column, array: &ArrayRef) -> Result<ArrayRef, Error> {
    let target = column.data_type.to_arrow();
    if *array.data_type() == target {
        return Ok(ArrayRef::clone(array));
    }
    let narrowed = |_| Error::Narrowed { column: column.name.clone(), from: array.data_type().clone(), to: column.data_type };
    let cast = cast_with_options(array, &target, &EXACT).map_err(narrowed)?;
    if matches!((array.data_type(), &target), (ArrowType::Float32, ArrowType::Float64)) {
        // Nothing is lost, and the way back may lead to other bits: those of a NaN that signals are not kept.
        return Ok(cast);
    }
    if matches!((array.data_type(), &target), (ArrowType::Date32, ArrowType::Timestamp(_, _))) {
        // A product that is exact for every date; the way back ends some 262,000 years from now.
        return Ok(cast);
    }
    // A cast may round where the type of the rows is the wider one: then the way back does not lead to the same values.
    let back = cast_with_options(&cast, array.data_type(), &EXACT).map_err(narrowed)?;
    let same = back.len() == array.len() && back.to_data() == array.to_data();
    if same {
        Ok(cast)
    } else {
        Err(Error::Narrowed { column: column.name.clone(), from: array.data_type().clone(), to: column.data_type })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Float32Array, Float64Array, Int16Array, Int64Array};
    use arrow::datatypes::Float64Type;
    use tessera_manifest::schema::SemanticType;
    use tessera_manifest::value::{DataType, TimeUnit};

    use super::*;
    use crate::merge::fixtures::{array, column, every_type};

    fn field(data_type: DataType) -> Column {
        column(7, "f", data_type, SemanticType::Field)
    }

    #[test]
    fn every_widening_gives_what_the_schema_promises() {
        let values = |data_type: DataType| {
            let all =
                [Value::Int(-7), Value::Int(100), Value::UInt(200), Value::Float(1.5), Value::Date(-3), Value::Decimal(-123), Value::Null];
            all.into_iter().filter(|value| data_type.accepts(value)).collect::<Vec<_>>()
        };
        for from in every_type() {
            for to in every_type().into_iter().filter(|to| from.widens_to(*to)) {
                let narrow = array(from, values(from));
                let wide =
                    conform_column(&field(to), Some(&narrow), narrow.len()).unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
                let back = conform_column(&field(from), Some(&wide), wide.len()).unwrap();
                assert_eq!(back.to_data(), narrow.to_data(), "{from} to {to}");
                assert_eq!(wide.null_count(), narrow.null_count());
            }
        }
    }

    #[test]
    fn a_nan_that_signals_is_widened_to_a_nan() {
        let signalling: ArrayRef = Arc::new(Float32Array::from(vec![f32::from_bits(0x7F80_0001), 1.5]));
        let wide = conform_column(&field(DataType::Float64), Some(&signalling), 2).unwrap();
        let wide = wide.as_primitive::<Float64Type>();
        assert!(wide.value(0).is_nan() && wide.value(1) == 1.5);
    }

    #[test]
    fn dates_that_no_calendar_reaches_are_widened_as_well() {
        let days = [i32::MIN, -100_000_000, 0, 100_000_000, i32::MAX];
        let dates = array(DataType::Date, days.map(Value::Date));
        for (unit, per_day) in [(TimeUnit::Second, 86_400), (TimeUnit::Millisecond, 86_400_000)] {
            let wide = conform_column(&field(DataType::Timestamp(unit)), Some(&dates), days.len()).unwrap();
            let expected = days.map(|days| Value::Timestamp(i64::from(days) * per_day));
            assert_eq!(wide.to_data(), array(DataType::Timestamp(unit), expected).to_data());
        }
    }

    #[test]
    fn an_earlier_type_never_gets_another_value() {
        let fits: ArrayRef = Arc::new(Int64Array::from(vec![Some(5), None]));
        assert_eq!(*conform_column(&field(DataType::Int16), Some(&fits), 2).unwrap(), Int16Array::from(vec![Some(5), None]));
        let large: ArrayRef = Arc::new(Int64Array::from(vec![70_000]));
        assert!(matches!(conform_column(&field(DataType::Int16), Some(&large), 1), Err(Error::Narrowed { .. })));
        let fraction: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
        assert!(matches!(conform_column(&field(DataType::Int32), Some(&fraction), 1), Err(Error::Narrowed { .. })));
    }

    #[test]
    fn a_column_that_was_not_there_has_its_default() {
        let with = |default| Column { default: Some(ColumnDefault::Value(default)), ..field(DataType::Int64) };
        assert_eq!(*conform_column(&with(Value::Int(4)), None, 2).unwrap(), Int64Array::from(vec![4, 4]));
        let stats = stats_of_absent(&with(Value::Int(4)));
        assert_eq!((stats.range, stats.has_null, stats.has_nan), (Some((Value::Int(4), Value::Int(4))), false, false));
        let stats = stats_of_absent(&field(DataType::Int64));
        assert_eq!((stats.range, stats.has_null, stats.has_nan), (None, true, false));
        let strict = Column { nullable: false, ..field(DataType::Int64) };
        assert!(matches!(conform_column(&strict, None, 1), Err(Error::NoValue { .. })));
    }
}
