//! Filters over Arrow batches.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array, Int8Array,
    Int32Array, Int64Array, LargeStringArray, RecordBatch, StringArray, StringViewArray, TimestampMillisecondArray, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{Int32Type, UInt32Type};

use super::*;

fn strings(rows: &[Row]) -> Vec<Option<String>> {
    rows.iter().map(|row| if let Value::String(v) = &row[2] { Some(v.clone()) } else { None }).collect()
}

/// The rows as a batch, its strings in the encoding that `encoding` picks.
fn batch(rows: &[Row], encoding: usize) -> RecordBatch {
    let ints: Int64Array = rows.iter().map(|row| if let Value::Int(v) = row[0] { Some(v) } else { None }).collect();
    let floats: Float64Array = rows.iter().map(|row| if let Value::Float(v) = row[1] { Some(v) } else { None }).collect();
    let bools: BooleanArray = rows.iter().map(|row| if let Value::Boolean(v) = row[3] { Some(v) } else { None }).collect();
    let owned = strings(rows);
    let texts = || owned.iter().map(Option::as_deref);
    let strings: ArrayRef = match encoding {
        0 => Arc::new(texts().collect::<StringArray>()),
        1 => Arc::new(texts().collect::<LargeStringArray>()),
        2 => Arc::new(texts().collect::<StringViewArray>()),
        3 => Arc::new(texts().collect::<DictionaryArray<Int32Type>>()),
        4 => Arc::new(texts().collect::<DictionaryArray<UInt32Type>>()),
        _ => {
            // NULL as an entry of the dictionary, not as a key.
            let entries = StringArray::from_iter(
                [None].into_iter().chain(points(S).iter().skip(1).map(|v| if let Value::String(v) = v { Some(v.clone()) } else { None })),
            );
            let keys = rows.iter().map(|row| points(S).iter().position(|v| *v == row[2]).unwrap() as u32);
            Arc::new(DictionaryArray::new(UInt32Array::from_iter_values(keys), Arc::new(entries)))
        }
    };
    let columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("__op", Arc::new(ints.clone()), true),
        ("Is", Arc::new(bools), true),
        ("s", strings, true),
        ("f", Arc::new(floats), true),
        ("i", Arc::new(ints), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

proptest! {
    #[test]
    fn a_filter_says_of_each_row_what_the_rule_says(expr in any_expr(), encoding in 0_usize..6, sliced in any::<bool>()) {
        let rows = rows_of(&[I, F]).into_iter().zip(rows_of(&[S, B]).into_iter().cycle());
        let rows: Vec<Row> = rows.map(|([i, f, ..], [_, _, s, b])| [i, f, s, b]).collect();
        let (rows, batch) = if sliced { (&rows[3..40], batch(&rows, encoding).slice(3, 37)) } else { (&rows[..], batch(&rows, encoding)) };
        let filter = expr.filter(&batch, &schema()).unwrap();
        prop_assert_eq!(filter.len(), rows.len());
        prop_assert_eq!(filter.null_count(), 0);
        for (i, row) in rows.iter().enumerate() {
            prop_assert_eq!(filter.value(i), holds(&expr, row), "{:?}", row);
            for column in [I, F, S, B] {
                let column = schema().column(column).unwrap().clone();
                let value = value_at(batch.column_by_name(&column.name).unwrap(), i, column.data_type).unwrap();
                prop_assert_eq!(&value, &row[column.id.0 as usize]);
            }
        }
    }
}

#[test]
fn every_other_type_is_filtered_and_read_too() {
    let cases: Vec<(&str, ArrayRef, &str)> = vec![
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![Some(0), Some(1000), None])), "ts >= '1970-01-01 00:00:01'"),
        ("tiny", Arc::new(Int8Array::from(vec![Some(-1), Some(5), None])), "tiny BETWEEN 0 AND 9"),
        ("u", Arc::new(UInt64Array::from(vec![Some(1), Some(u64::MAX), None])), "u > 1"),
        ("f32", Arc::new(Float32Array::from(vec![Some(0.2), Some(0.1), None])), "f32 IN (0.1, 7)"),
        ("bin", Arc::new(BinaryViewArray::from_iter([Some(&b"\x00"[..]), Some(&b"\x01"[..]), None])), "bin > X'00ff'"),
        ("date", Arc::new(Date32Array::from(vec![Some(0), Some(1), None])), "date = '1970-01-02'"),
        ("dec", Arc::new(Decimal128Array::from(vec![Some(1), Some(150), None]).with_precision_and_scale(10, 2).unwrap()), "dec = 1.5"),
        ("two words", Arc::new(UInt16Array::from(vec![Some(3), Some(9), None])), "\"two words\" >= 9"),
    ];
    for (name, array, text) in cases {
        let batch = RecordBatch::try_from_iter_with_nullable([(name, array.clone(), true)]).unwrap();
        let expr = rule(text);
        let filter = expr.filter(&batch, &schema()).unwrap();
        assert_eq!(filter.values().iter().collect::<Vec<_>>(), [false, true, false], "{text}");
        let negated = expr.clone().negated().filter(&batch, &schema()).unwrap();
        assert_eq!(negated.values().iter().collect::<Vec<_>>(), [true, false, true], "{text}");
        let data_type = schema().column_by_name(name).unwrap().data_type;
        for row in 0..3 {
            let value = value_at(&array, row, data_type).unwrap();
            assert_eq!(expr.matches(|_| &value), row == 1, "{text}");
        }
    }
}

#[test]
fn what_cannot_be_evaluated_is_an_error_and_not_a_panic() {
    let batch = RecordBatch::try_from_iter([("i", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap();
    assert!(matches!(rule("i = 1").filter(&batch, &schema()), Err(EvalError::ArrayType { .. })));
    assert_eq!(rule("s = 'a'").filter(&batch, &schema()), Err(EvalError::MissingColumn { column: "s".into() }));
    let unknown = Expr::Compare { column: ColumnId(77), op: CompareOp::Eq, value: Value::Null };
    assert_eq!(unknown.filter(&batch, &schema()), Err(EvalError::UnknownColumn { column: ColumnId(77) }));
    let batch = RecordBatch::try_from_iter([("i", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let mistyped = Expr::Compare { column: I, op: CompareOp::Eq, value: text("x") };
    assert!(matches!(mistyped.filter(&batch, &schema()), Err(EvalError::LiteralType { .. })));
    assert!(value_at(batch.column(0), 0, DataType::String).is_err());
}

#[test]
fn a_rule_without_columns_filters_a_batch_without_columns() {
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(2));
    let batch = RecordBatch::try_new_with_options(Arc::new(arrow::datatypes::Schema::empty()), vec![], &options).unwrap();
    assert_eq!(Expr::always().filter(&batch, &schema()).unwrap().true_count(), 2);
    assert_eq!(Expr::never().filter(&batch, &schema()).unwrap().true_count(), 0);
}
