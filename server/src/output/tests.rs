//! Tests of the writers: exact texts.

use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, Field, Int32Type, Schema, TimeUnit};

use super::*;
use crate::config::limits;

fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

/// The rows as they are written: a JSON parser might round.
fn json_text(array: ArrayRef) -> String {
    let batch = batch(vec![("c", array)]);
    let mut document = json::Document::new();
    document.begin_rows(&batch.schema());
    document.rows(&batch).unwrap();
    document.end_rows();
    let bytes = document.finish(0);
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (_, rows) = text.split_once("\"rows\":").unwrap();
    rows.split_once(",\"total_rows\"").unwrap().0.to_owned()
}

#[test]
fn several_outputs_have_the_shape_that_clients_know() {
    let batch = batch(vec![
        ("host", Arc::new(StringArray::from(vec![Some("a\"ü\n"), None])) as ArrayRef),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![1_000, -1]))),
    ]);
    let mut document = json::Document::new();
    document.begin_rows(&batch.schema());
    document.rows(&batch).unwrap();
    document.rows(&batch.slice(0, 1)).unwrap();
    document.end_rows();
    document.affected(3);
    let text = String::from_utf8(document.finish(7)).unwrap();
    let schema = r#"{"column_schemas":[{"name":"host","data_type":"String"},{"name":"ts","data_type":"TimestampMillisecond"}]}"#;
    let rows = r#"[["a\"ü\n",1000],[null,-1],["a\"ü\n",1000]]"#;
    let expected = format!(
        r#"{{"output":[{{"records":{{"schema":{schema},"rows":{rows},"total_rows":3}}}},{{"affectedrows":3}}],"execution_time_ms":7}}"#
    );
    assert_eq!(text, expected);
}

#[test]
fn an_empty_result_keeps_its_schema() {
    let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
    let mut document = json::Document::new();
    document.begin_rows(&schema);
    document.end_rows();
    let expected = r#"{"output":[{"records":{"schema":{"column_schemas":[{"name":"n","data_type":"Int64"}]},"rows":[],"total_rows":0}}],"execution_time_ms":0}"#;
    assert_eq!(String::from_utf8(document.finish(0)).unwrap(), expected);
}

#[test]
fn integers_of_64_bits_are_exact_in_json() {
    assert_eq!(json_text(Arc::new(UInt64Array::from(vec![u64::MAX]))), "[[18446744073709551615]]");
    assert_eq!(json_text(Arc::new(Int64Array::from(vec![i64::MIN]))), "[[-9223372036854775808]]");
}

#[test]
fn floats_without_a_json_form_become_null() {
    let values = Float64Array::from(vec![f64::NAN, f64::INFINITY, 0.1, 0.1 + 0.2]);
    assert_eq!(json_text(Arc::new(values)), "[[null],[null],[0.1],[0.30000000000000004]]");
    assert_eq!(json_text(Arc::new(Float32Array::from(vec![0.1]))), "[[0.1]]");
}

#[test]
fn other_types_have_greptimedb_s_json_form() {
    let decimals = Decimal128Array::from(vec![Some(-12345), None]).with_precision_and_scale(38, 2).unwrap();
    assert_eq!(json_text(Arc::new(decimals)), r#"[["-123.45"],[null]]"#);
    assert_eq!(json_text(Arc::new(Date32Array::from(vec![1]))), "[[1]]");
    assert_eq!(json_text(Arc::new(BinaryViewArray::from(vec![Some(&b"\x00\xff"[..]), None]))), "[[[0,255]],[null]]");
    assert_eq!(json_text(Arc::new(StringViewArray::from(vec!["v"]))), r#"[["v"]]"#);
    assert_eq!(json_text(Arc::new(NullArray::new(1))), "[[null]]");
    assert_eq!(json_text(Arc::new(BooleanArray::from(vec![Some(true), None]))), "[[true],[null]]");
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None, Some("x")].into_iter().collect();
    assert_eq!(json_text(Arc::new(dictionary)), r#"[["x"],[null],["x"]]"#);
    let lists = ListArray::from_iter_primitive::<Int32Type, _, _>(vec![Some(vec![Some(1), None]), None]);
    assert_eq!(json_text(Arc::new(lists)), "[[[1,null]],[null]]");
    let zoned = TimestampMicrosecondArray::from(vec![5]).with_timezone("+02:00");
    assert_eq!(json_text(Arc::new(zoned)), "[[5]]");
}

#[test]
fn type_names_are_those_that_clients_know() {
    let names = [
        (DataType::Utf8View, "String"),
        (DataType::Float64, "Float64"),
        (DataType::UInt32, "UInt32"),
        (DataType::Boolean, "Boolean"),
        (DataType::Date32, "Date"),
        (DataType::BinaryView, "Binary"),
        (DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), "TimestampNanosecond"),
        (DataType::Decimal128(10, 2), "Decimal128(10, 2)"),
        (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "String"),
        (DataType::List(Arc::new(Field::new("item", DataType::Int8, true))), "List<Int8>"),
    ];
    for (data_type, name) in names {
        assert_eq!(super::types::type_name(&data_type), name);
    }
}

#[test]
fn csv_quotes_where_needed_and_leaves_null_empty() {
    let batch = batch(vec![
        ("na,me", Arc::new(StringArray::from(vec![Some("a\"b"), None])) as ArrayRef),
        ("ts", Arc::new(TimestampMillisecondArray::from(vec![Some(1_357_020_000_000), Some(1)]))),
        ("v", Arc::new(Float64Array::from(vec![f64::NAN, 0.1]))),
        ("b", Arc::new(BinaryArray::from(vec![&b"\x01\xff"[..], b""]))),
        ("d", Arc::new(Date32Array::from(vec![0, -1]))),
    ]);
    let text = String::from_utf8(csv::to_bytes(Some(&batch.schema()), Some(&batch)).unwrap()).unwrap();
    let expected = "\"na,me\",ts,v,b,d\n\"a\"\"b\",2013-01-01T06:00:00Z,NaN,01ff,1970-01-01\n,1970-01-01T00:00:00.001Z,0.1,,1969-12-31\n";
    assert_eq!(text, expected);
}

#[test]
fn a_table_shows_null_and_counts_its_rows() {
    let batch = batch(vec![
        ("host", Arc::new(StringArray::from(vec![Some("a"), None])) as ArrayRef),
        ("n", Arc::new(Int64Array::from(vec![1, 200]))),
    ]);
    let mut rows = table::Rows::new(batch.schema());
    assert!(rows.push(&batch));
    let expected = "+------+-----+\n| host | n   |\n+------+-----+\n| a    |   1 |\n| NULL | 200 |\n+------+-----+\n(2 rows)\n";
    assert_eq!(rows.render(table::Layout::Horizontal).unwrap(), expected);
    let expected = "-[ row 1 ]----\nhost | a\nn    | 1\n-[ row 2 ]----\nhost | NULL\nn    | 200\n(2 rows)\n";
    assert_eq!(rows.render(table::Layout::Vertical).unwrap(), expected);
}

#[test]
fn a_long_table_is_cut_and_says_so() {
    let batch = batch(vec![("n", Arc::new(Int32Array::from_iter_values(0..6_000)) as ArrayRef)]);
    let mut rows = table::Rows::new(batch.schema());
    assert!(rows.push(&batch));
    assert!(!rows.push(&batch));
    let text = rows.render(table::Layout::Horizontal).unwrap();
    assert!(text.ends_with(&format!("(the first {} rows; use LIMIT, or format csv or arrow for all of them)\n", limits::TABLE_ROWS_MAX)));
}

#[test]
fn formats_are_known_by_name() {
    for format in [Format::Json, Format::Csv, Format::Table, Format::Vertical, Format::Arrow] {
        assert_eq!(format.to_string().parse::<Format>(), Ok(format));
    }
    assert_eq!("xml".parse::<Format>().unwrap_err().to_string(), "'xml' is not a format: use json, csv, table, vertical or arrow");
}

#[test]
fn a_plan_is_shown_in_full() {
    let long = "x".repeat(limits::TABLE_CELL_CHARS_MAX + 100);
    let cells = |name: &str| {
        let batch = batch(vec![
            ("plan_type", Arc::new(StringArray::from(vec!["physical_plan"])) as ArrayRef),
            (name, Arc::new(StringArray::from(vec![long.as_str()]))),
        ]);
        let mut rows = table::Rows::new(batch.schema());
        assert!(rows.push(&batch));
        rows.render(table::Layout::Horizontal).unwrap()
    };
    assert!(cells("plan").contains(&long));
    assert!(cells("other").contains('…'));
}
