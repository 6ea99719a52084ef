//! Runs of one group: a row-by-row reading is the judge.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimestampMillisecondType, UInt64Type};
use proptest::prelude::*;

use crate::buckets::Buckets;
use crate::request::run_ends;

use super::{Key, Reduce, Runs, mark_buckets};

/// Host, time in ms, a whole number that may be missing.
type Row = (Option<String>, i64, Option<i64>);

fn key_of(row: &Row, width: i64) -> (Option<&str>, i64) {
    (row.0.as_deref(), row.1 - row.1.rem_euclid(width))
}

fn columns(rows: &[Row]) -> Vec<ArrayRef> {
    vec![
        Arc::new(rows.iter().map(|row| row.0.as_deref()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| Some(row.1)).collect::<TimestampMillisecondArray>()),
        Arc::new(rows.iter().map(|row| row.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|row| row.2.map(|value| value as f64)).collect::<Float64Array>()),
    ]
}

/// The same values run-end encoded, as a part of a longer array.
fn in_runs(column: &ArrayRef) -> ArrayRef {
    let before: ArrayRef = Arc::new(StringArray::from(vec![Some("before"), Some("a"), None]));
    let whole = concat(&[&before, column]).unwrap();
    let runs = run_ends(&Field::new("host", DataType::Utf8, true));
    cast(&whole, runs.data_type()).unwrap().slice(before.len(), column.len())
}

fn keys(width: i64) -> [Key; 2] {
    [Key::Column(0), Key::Bucket { column: 1, buckets: Buckets::new(width).unwrap() }]
}

fn numbers(reduce: Reduce, column: &ArrayRef, runs: &Runs) -> Vec<Option<i64>> {
    let state = reduce.apply(column, runs).unwrap();
    let last = state.last().unwrap();
    match last.as_primitive_opt::<Float64Type>() {
        Some(floats) => floats.iter().map(|value| value.map(|value| value as i64)).collect(),
        None => last.as_primitive::<Int64Type>().iter().collect(),
    }
}

/// Rows that stand by host, each host many times, so that blocks of one host are among them.
fn rows() -> impl Strategy<Value = Vec<Row>> {
    let host = prop::option::weighted(0.95, "[ab]{0,2}|host_1[0-3]");
    let stretch = (host, 1..200_usize, -100_000..100_000_i64, 0..20_000_i64, prop::option::weighted(0.9, -50..50_i64));
    prop::collection::vec(stretch, 0..8).prop_map(|stretches| {
        let rows = stretches.into_iter().flat_map(|(host, rows, from, step, value)| {
            (0..rows as i64).map(move |n| (host.clone(), from + n * step, value.filter(|_| n % 7 != 3).map(|value| value + n % 11)))
        });
        rows.collect()
    })
}

proptest! {
    #[test]
    fn runs_are_those_of_a_row_by_row_reading(
        rows in rows(),
        encoded: bool,
        width in prop::sample::select(vec![1, 1_000, 60_000]),
    ) {
        let expected: Vec<&[Row]> = rows.chunk_by(|a, b| key_of(a, width) == key_of(b, width)).collect();
        let mut columns = columns(&rows);
        if encoded {
            columns[0] = in_runs(&columns[0]);
        }
        let keys = keys(width);
        let runs = Runs::find(&keys, &columns, rows.len()).unwrap();
        prop_assert_eq!(runs.len(), expected.len());
        let (hosts, times) = (runs.values(&keys[0], &columns).unwrap(), runs.values(&keys[1], &columns).unwrap());
        for (run, group) in expected.iter().enumerate() {
            let (host, time) = key_of(&group[0], width);
            let hosts = hosts.as_string::<i32>();
            prop_assert_eq!(hosts.is_valid(run).then(|| hosts.value(run)), host);
            prop_assert_eq!(times.as_primitive::<TimestampMillisecondType>().value(run), time);
        }
        let each = |of: fn(&[i64]) -> Option<i64>| -> Vec<Option<i64>> {
            expected.iter().map(|group| of(&group.iter().filter_map(|row| row.2).collect::<Vec<_>>())).collect()
        };
        for column in &columns[2..] {
            let sums = each(|values| (!values.is_empty()).then(|| values.iter().sum()));
            prop_assert_eq!(numbers(Reduce::Sum, column, &runs), sums.clone());
            prop_assert_eq!(numbers(Reduce::Min, column, &runs), each(|values| values.iter().min().copied()));
            prop_assert_eq!(numbers(Reduce::Max, column, &runs), each(|values| values.iter().max().copied()));
            let counts = each(|values| Some(values.len() as i64));
            prop_assert_eq!(numbers(Reduce::Count, column, &runs), counts.clone());
        }
        let average = Reduce::Average.apply(&columns[3], &runs).unwrap();
        let counted: Vec<i64> = average[0].as_primitive::<UInt64Type>().values().iter().map(|count| *count as i64).collect();
        prop_assert_eq!(counted, each(|values| Some(values.len() as i64)).into_iter().flatten().collect::<Vec<_>>());
    }
}

#[test]
fn the_ends_of_time_are_stretches_of_their_own() {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![i64::MIN, -1, 0, i64::MAX, i64::MAX]));
    let keys = [Key::Bucket { column: 0, buckets: Buckets::new(60_000).unwrap() }];
    let runs = Runs::find(&keys, std::slice::from_ref(&times), 5).unwrap();
    assert!(runs.len() >= 4, "rows of different stretches are apart");
}

#[test]
fn a_stretch_that_begins_before_all_time_ends_where_it_should() {
    let first_end = i64::MIN + (60_000 - i64::MIN.rem_euclid(60_000));
    let mut marks = [false; 4];
    mark_buckets(&[i64::MIN, first_end - 1, first_end, first_end + 59_999], 60_000, &mut marks);
    assert_eq!(marks, [true, false, true, false]);
}

#[test]
fn what_lies_in_no_bucket_is_a_run_of_its_own() {
    let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![24, 25, 26, 27, -5, -6]));
    let keys = [Key::Bucket { column: 0, buckets: Buckets::new(10).unwrap().within((-5, 25)) }];
    let runs = Runs::find(&keys, std::slice::from_ref(&times), times.len()).unwrap();
    let found = cast(&runs.values(&keys[0], &[times]).unwrap(), &DataType::Int64).unwrap();
    assert_eq!(found.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(20), None, Some(-10), None]);
}
