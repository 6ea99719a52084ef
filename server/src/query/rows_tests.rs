//! Rows cut by rules: a row-by-row reading is the judge.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;
use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};
use tessera_metaclient::catalog::{Route, TableInfo};

use super::rows::{conform, key_positions, nowhere, split};
use super::rules;
use crate::catalog::Table;
use crate::error::Code;
use crate::router::RouteTable;

fn table(texts: &[&str]) -> Table {
    let column = |id: u32, name: &str, data_type, semantic, nullable| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        semantic,
        nullable,
        default: None,
        comment: None,
    };
    let columns = vec![
        column(0, "v", DataType::Float64, SemanticType::Field, true),
        column(1, "host", DataType::String, SemanticType::Tag, true),
        column(2, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex, false),
        column(3, "dc", DataType::Int32, SemanticType::Tag, false),
    ];
    let schema = Schema::new(columns, vec![ColumnId(3), ColumnId(1)]).unwrap();
    let route = |(number, text): (u32, &&str)| Route {
        region: RegionId::new(TableId(1024), RegionNumber(number)),
        node: NodeId(0),
        generation: Generation::FIRST,
        rule: rules::parse(text, &schema).unwrap(),
    };
    let sets = RouteTable::settled((0..).zip(texts).map(route).collect());
    let info = TableInfo {
        id: TableId(1024),
        database: "public".into(),
        name: "t".into(),
        schema,
        partition_columns: vec![ColumnId(1), ColumnId(3)],
        options: BTreeMap::new(),
        created_unix_ms: 0,
        next_region_number: RegionNumber(9),
        next_generation: Generation::MAX,
    };
    Table { info: Arc::new(info), sets }
}

/// Rows of (host, dc); v is the row's number.
fn batch(rows: &[(Option<&str>, i32)]) -> RecordBatch {
    let numbers = 0..i64::try_from(rows.len()).unwrap();
    let arrays: Vec<(&str, ArrayRef)> = vec![
        ("v", Arc::new(numbers.clone().map(|v| Some(v as f64)).collect::<Float64Array>())),
        ("host", Arc::new(rows.iter().map(|row| row.0).collect::<StringArray>())),
        ("ts", Arc::new(numbers.map(Some).collect::<TimestampMillisecondArray>())),
        ("dc", Arc::new(rows.iter().map(|row| Some(row.1)).collect::<Int32Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(arrays.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

const RULES: [&str; 3] = ["dc < 2 AND host < 'h'", "dc < 2 AND host >= 'h'", "dc >= 2 AND dc < 5"];
const ALL: [usize; 4] = [0, 1, 2, 3];

proptest! {
    #[test]
    fn each_row_lands_once_in_the_region_whose_rule_it_satisfies(
        rows in prop::collection::vec((prop::option::of(prop::sample::select(&["", "a", "h", "z"][..])), -2_i32..5), 1..40)
    ) {
        let table = table(&RULES);
        let fitted = conform(&batch(&rows), &table, &ALL, &nowhere).unwrap();
        let parts = split(fitted, &table, &ALL, &nowhere).unwrap();
        let mut seen = vec![None; rows.len()];
        for part in &parts {
            let numbers = part.batch.column(0).as_primitive::<arrow::datatypes::Float64Type>().values();
            prop_assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "the order of rows is kept");
            for number in numbers {
                prop_assert_eq!(seen[*number as usize].replace(part.route), None, "row {} is written twice", number);
            }
        }
        for ((host, dc), route) in rows.iter().zip(seen) {
            let values = [Value::Null, host.map_or(Value::Null, |host| Value::String(host.into())), Value::Null, Value::Int(i64::from(*dc))];
            let expected = table.routes().iter().position(|route| route.rule.matches(|id| &values[id.0 as usize]));
            prop_assert_eq!(route, expected);
        }
    }
}

#[test]
fn a_batch_of_one_region_is_not_copied() {
    let table = table(&RULES);
    let fitted = conform(&batch(&[(Some("a"), 0), (None, 1)]), &table, &ALL, &nowhere).unwrap();
    let before = fitted.column(1).to_data().buffers()[0].as_ptr();
    let parts = split(fitted, &table, &ALL, &nowhere).unwrap();
    assert_eq!((parts.len(), parts[0].route), (1, 0));
    assert_eq!(parts[0].batch.column(1).to_data().buffers()[0].as_ptr(), before);
}

#[test]
fn an_uncovered_row_is_shown_with_its_place() {
    let table = table(&RULES);
    let fitted = conform(&batch(&[(Some("a"), 0), (None, 7)]), &table, &ALL, &nowhere).unwrap();
    let place = |row: usize| Some(format!("'f.csv', line {}", row + 2));
    let error = split(fitted, &table, &ALL, &place).unwrap_err();
    assert_eq!(error.code, Code::InvalidArguments);
    assert!(error.message.contains("(host = NULL, dc = 7) of 'f.csv', line 3"), "{}", error.message);
    assert!(error.message.contains("public.t"), "{}", error.message);
}

#[test]
fn types_are_cast_and_what_does_not_fit_is_named() {
    let table = table(&["dc < 100"]);
    let keys = key_positions(&table.info.schema);
    assert_eq!(keys, [1, 2, 3]);
    let make = |host: ArrayRef, dc: ArrayRef| {
        let ts: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![5]));
        RecordBatch::try_from_iter_with_nullable([("host", host, true), ("ts", ts, true), ("dc", dc, true)]).unwrap()
    };
    let host = || Arc::new(StringArray::from(vec!["a"])) as ArrayRef;
    let fitted = conform(&make(host(), Arc::new(StringArray::from(vec!["12"]))), &table, &keys, &nowhere).unwrap();
    assert_eq!(fitted.column(2).as_primitive::<Int32Type>().value(0), 12);
    let error = conform(&make(host(), Arc::new(StringArray::from(vec!["x"]))), &table, &keys, &nowhere).unwrap_err();
    assert!(error.code == Code::InvalidArguments && error.message.contains("column 'dc'"), "{}", error.message);
    let error = conform(&make(host(), Arc::new(Int32Array::from(vec![None]))), &table, &keys, &nowhere).unwrap_err();
    assert!(error.message.contains("'dc'") && error.message.contains("host = 'a'"), "{}", error.message);
    let error = conform(&batch(&[(None, 1)]), &table, &keys, &nowhere).unwrap_err();
    assert!(error.message.contains("3 columns, not 4"), "{}", error.message);
}
