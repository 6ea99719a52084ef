//! Tests of memtables alone; those with SSTs and merge are in `merge::tests`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::{JOIN_ROWS_MAX, Memtable, Rows};
use crate::merge::fixtures::{MS, batch, column, rows_of, sequence};
use crate::merge::{Layout, layout};
use crate::request::OpType;
use crate::sst::Error;

fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "v", DataType::Int64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap())
}

fn rows(range: std::ops::Range<i64>) -> RecordBatch {
    let rows: Vec<_> = range.map(|i| vec![Value::String(format!("h{}", i % 3)), Value::Timestamp(i), Value::Int(i)]).collect();
    batch(&schema(), OpType::Put, &rows)
}

#[test]
fn many_small_writes_make_few_entries_and_lose_no_row() {
    let memtable = Memtable::new(schema());
    for i in 0..6_000 {
        memtable.insert(rows(i..i + 1), OpType::Put, sequence(i as u64)).unwrap();
    }
    let snapshot = memtable.snapshot();
    assert!(snapshot.state.entries.len() < 40, "{} entries", snapshot.state.entries.len());
    assert!(snapshot.state.entries.iter().all(|entry| entry.batch.num_rows() <= JOIN_ROWS_MAX));
    assert_eq!((memtable.rows(), memtable.time_range(), memtable.max_sequence()), (6_000, Some((0, 5_999)), Some(sequence(5_999))));
    let held: usize = snapshot.state.entries.iter().map(|entry| entry.bytes).sum();
    assert_eq!(memtable.bytes(), held);
    assert!(held < 6_000 * 100, "{held} bytes for 6000 rows of about 30");
    let layout = Arc::new(Layout::merging(schema(), None).unwrap());
    let sorted: Result<Vec<_>, _> = snapshot.sorted(&layout, Some((100, 199))).unwrap().collect();
    assert_eq!(rows_of(&sorted.unwrap()).len(), 100);
}

#[test]
fn a_slice_of_a_large_batch_does_not_hold_it() {
    let large = rows(0..50_000);
    let memtable = Memtable::new(schema());
    memtable.insert(large.slice(10, 5), OpType::Put, sequence(1)).unwrap();
    assert!(memtable.bytes() < 4_096, "{} bytes for 5 rows", memtable.bytes());
    let whole = Memtable::new(schema());
    whole.insert(large.clone(), OpType::Put, sequence(1)).unwrap();
    let needed: usize = large.columns().iter().map(|c| c.to_data().get_slice_memory_size().unwrap()).sum();
    assert!(whole.bytes() >= needed && whole.bytes() < 3 * needed);
}

#[test]
fn a_snapshot_does_not_see_later_writes() {
    let memtable = Memtable::new(schema());
    memtable.insert(rows(0..3), OpType::Put, sequence(1)).unwrap();
    let snapshot = memtable.snapshot();
    memtable.insert(rows(3..6), OpType::Put, sequence(4)).unwrap();
    assert_eq!((snapshot.rows(), memtable.snapshot().rows()), (3, 6));
    assert_eq!(snapshot.time_range(), Some((0, 2)));
}

#[test]
fn a_batch_of_another_shape_is_refused_and_nothing_is_kept() {
    let memtable = Memtable::new(schema());
    let refused = memtable.insert(rows(0..3).project(&[0, 1]).unwrap(), OpType::Put, sequence(1));
    assert!(matches!(refused, Err(Error::BatchShape { .. })));
    let refused = memtable.insert(rows(0..3).project(&[0, 2, 1]).unwrap(), OpType::Put, sequence(1));
    assert!(matches!(refused, Err(Error::BatchShape { .. })));
    assert_eq!((memtable.rows(), memtable.bytes()), (0, 0));
    memtable.insert(rows(0..3).project(&[0, 1]).unwrap(), OpType::Delete, sequence(1)).unwrap();
    assert!(memtable.snapshot().has_deletes());
}

/// Tags of text, of a number, and of a type that is compared only when it is encoded.
fn tagged() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "rack", DataType::Int64, SemanticType::Tag),
        column(2, "load", DataType::Float64, SemanticType::Tag),
        column(3, "ts", MS, SemanticType::TimeIndex),
        column(4, "v", DataType::Int64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(1), ColumnId(0), ColumnId(2)]).unwrap())
}

/// A row of a series; `float`: one of its tags has two forms, and NULL.
fn tagged_row(series: u8, float: bool, ts: i64, v: i64) -> Vec<Value> {
    let host = if series % 7 == 6 { Value::Null } else { Value::String("x".repeat(usize::from(series % 5))) };
    let load = match (float, series % 3) {
        (false, _) => Value::Float(1.0),
        (true, 0) => Value::Float(if v % 2 == 0 { 0.0 } else { -0.0 }),
        (true, 1) => Value::Null,
        (true, _) => Value::Float(f64::NAN),
    };
    vec![host, Value::Int(i64::from(series / 10)), load, Value::Timestamp(ts), Value::Int(v)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn rows_are_sorted_whatever_order_series_come_in(
        order in prop::collection::vec(0_u8..25, 1..40),
        float in any::<bool>(),
        lengths in prop::collection::vec(1_usize..90, 1..12),
        swaps in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..20),
        all in any::<bool>(),
        time in prop::option::of((0_i64..200, 0_i64..400)),
    ) {
        let schema = tagged();
        // Series come in turn, as from a collector, but for some rows that changed places.
        let total: usize = lengths.iter().sum();
        let mut rows: Vec<(u8, i64)> = (0..total).map(|row| (order[row % order.len()], (row / order.len()) as i64 * 10)).collect();
        for (a, b) in swaps {
            rows.swap(a.index(total), b.index(total));
        }
        let rows: Vec<Vec<Value>> = rows.into_iter().zip(0..).map(|((series, ts), v)| tagged_row(series, float, ts, v)).collect();
        let memtable = Memtable::new(Arc::clone(&schema));
        let mut at = 0;
        for length in lengths {
            memtable.insert(batch(&schema, OpType::Put, &rows[at..at + length]), OpType::Put, sequence(at as u64)).unwrap();
            at += length;
        }
        let time = time.map(|(from, span)| (from, from + span));
        let keep = if all { Rows::All } else { Rows::Newest };
        let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
        let sort = || memtable.snapshot().sorted_rows(&layout, time, keep).unwrap();
        let sorted: Vec<RecordBatch> = sort().map(Result::unwrap).collect();

        // Newest first within a key; the number of a row is its sequence and its field.
        let key = |row: &Vec<Value>| (row[1].clone(), row[0].clone(), row[2].clone(), row[3].clone());
        let mut expected = rows;
        expected.retain(|row| time.is_none_or(|(from, to)| Value::Timestamp(from) <= row[3] && row[3] <= Value::Timestamp(to)));
        expected.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| b[4].cmp(&a[4])));
        if !all {
            expected.dedup_by(|later, earlier| key(later) == key(earlier));
        }
        let user = |batches: &[RecordBatch]| rows_of(&batches.iter().map(|b| layout.finish(b).unwrap()).collect::<Vec<_>>());
        prop_assert_eq!(user(&sorted), expected);

        let coded: Vec<RecordBatch> = sort().into_coded().unwrap().map(Result::unwrap).collect();
        prop_assert!(coded.iter().all(|batch| batch.schema() == layout::coded(&layout)));
        let plain = |batch: &RecordBatch| {
            let columns = batch.columns().iter().zip(layout.arrow().fields()).map(|(c, field)| cast(c, field.data_type()).unwrap());
            RecordBatch::try_new(Arc::clone(layout.arrow()), columns.collect()).unwrap()
        };
        prop_assert_eq!(user(&coded.iter().map(plain).collect::<Vec<_>>()), user(&sorted));
    }
}
