//! Tests of memtables alone; those with SSTs and merge are in `merge::tests`.

use std::sync::Arc;

use arrow::array::RecordBatch;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::{JOIN_ROWS_MAX, Memtable};
use crate::merge::Layout;
use crate::merge::fixtures::{MS, batch, column, rows_of, sequence};
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
