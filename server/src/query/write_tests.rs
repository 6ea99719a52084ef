//! Tests of cutting and joining batches.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray};

use super::*;

fn batch(rows: impl Iterator<Item = (i64, usize)>) -> RecordBatch {
    let (numbers, texts): (Vec<i64>, Vec<String>) = rows.map(|(number, len)| (number, "x".repeat(len))).unzip();
    let columns: [(&str, ArrayRef); 2] = [("n", Arc::new(Int64Array::from(numbers))), ("s", Arc::new(StringArray::from(texts)))];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn batches_are_cut_to_what_the_log_takes_and_keep_their_order() {
    // One row is larger than the bound, and rows are of very different sizes.
    let whole = batch((0..500).map(|n| (n, if n == 77 { 5_000 } else { (n as usize % 7) * 10 })));
    let parts = coalesce(vec![whole.clone(), whole.clone()], 1_000).unwrap();
    for part in &parts {
        assert!(bytes_of(part) <= 1_000 || part.num_rows() == 1, "{} rows, {} bytes", part.num_rows(), bytes_of(part));
        assert!(part.get_array_memory_size() < 20_000, "a part must not keep the whole batch in memory");
    }
    let joined = concat_batches(&whole.schema(), &parts).unwrap();
    assert_eq!(joined, concat_batches(&whole.schema(), &[whole.clone(), whole]).unwrap());
}

#[test]
fn small_batches_are_joined() {
    let parts = coalesce((0..10).map(|n| batch([(n, 3)].into_iter())).collect(), 1 << 20).unwrap();
    assert_eq!(parts.len(), 1);
    assert_eq!(parts[0].num_rows(), 10);
}
