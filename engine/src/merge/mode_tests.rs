//! The three merge modes against a naive model, in whatever order and grouping runs are merged.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int32Type;
use futures::stream::{self, StreamExt};
use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::fixtures::{MS, batch, block_on, collect, column, rows_of, sequence};
use super::{Dedup, Layout, Options, Output, RowOrder, Run, RunTraits, Seen, Selection, merge, merge_selected};
use crate::memtable::{Memtable, Rows};
use crate::request::{Memory, OpType};

/// The time first, so that key order is not display order.
fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "ts", MS, SemanticType::TimeIndex),
        column(1, "a", DataType::Int64, SemanticType::Field),
        column(2, "host", DataType::String, SemanticType::Tag),
        column(3, "b", DataType::String, SemanticType::Field),
        column(4, "c", DataType::Float64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(2)]).unwrap())
}

#[derive(Debug, Clone)]
struct Write {
    op: OpType,
    /// In display order.
    row: Vec<Value>,
}

fn write() -> impl Strategy<Value = Write> {
    let host = prop::sample::select(vec![Value::Null, Value::String(String::new()), Value::String("a".into()), Value::String("ü".into())]);
    let a = prop_oneof![Just(Value::Null), (0..9_i64).prop_map(Value::Int)];
    let b = prop::sample::select(vec![Value::Null, Value::String(String::new()), Value::String("x".into())]);
    let c = prop::sample::select(vec![Value::Null, Value::Float(f64::NAN), Value::Float(-0.0), Value::Float(1.5)]);
    let op = prop::sample::select(vec![OpType::Put, OpType::Put, OpType::Put, OpType::Delete]);
    let row = (0..4_i64, a, host, b, c).prop_map(|(ts, a, host, b, c)| vec![Value::Timestamp(ts), a, host, b, c]);
    (op, row).prop_map(|(op, row)| Write { op, row })
}

/// What a reader sees, in (primary key, time) order.
fn model(writes: &[Write], dedup: Dedup) -> Vec<Vec<Value>> {
    let mut keys: BTreeMap<(Value, Value), Vec<Vec<Value>>> = BTreeMap::new();
    for Write { op, row } in writes {
        let rows = keys.entry((row[2].clone(), row[0].clone())).or_default();
        match (op, dedup, rows.first_mut()) {
            (OpType::Delete, _, _) => rows.clear(),
            (OpType::Put, Dedup::Keep, _) => rows.insert(0, row.clone()),
            (OpType::Put, Dedup::LastNonNull, Some(last)) => {
                for (old, new) in last.iter_mut().zip(row).filter(|(_, new)| **new != Value::Null) {
                    *old = new.clone();
                }
            }
            (OpType::Put, _, _) => *rows = vec![row.clone()],
        }
    }
    keys.into_values().flatten().collect()
}

/// A run of consecutive writes, in blocks of a few rows.
fn run(writes: &[Write], first: u64, dedup: Dedup, block_rows: usize) -> Run {
    let memtable = Memtable::new(schema());
    for (Write { op, row }, number) in writes.iter().zip(first..) {
        memtable.insert(batch(&schema(), *op, std::slice::from_ref(row)), *op, sequence(number)).unwrap();
    }
    let rows = if dedup == Dedup::LastRow { Rows::Newest } else { Rows::All };
    let layout = Arc::new(Layout::merging(schema(), None).unwrap());
    let batches: Vec<RecordBatch> = memtable.snapshot().sorted_rows(&layout, None, rows).unwrap().map(Result::unwrap).collect();
    of_batches(&batches, (first, first + writes.len() as u64), block_rows, true)
}

fn of_batches(batches: &[RecordBatch], sequences: (u64, u64), block_rows: usize, known: bool) -> Run {
    let pieces: Vec<_> = batches
        .iter()
        .flat_map(|b| (0..b.num_rows()).step_by(block_rows).map(|at| b.slice(at, block_rows.min(b.num_rows() - at))))
        .collect();
    let sequences = known.then(|| (sequence(sequences.0).as_u64(), sequence(sequences.1).as_u64() - 1));
    Run::new(stream::iter(pieces.into_iter().map(Ok)).boxed(), RunTraits { deletes: true, duplicates: true, sequences })
}

fn merged(runs: Vec<Run>, dedup: Dedup, output: Output) -> Vec<RecordBatch> {
    let layout = Arc::new(Layout::merging(schema(), None).unwrap());
    block_on(collect(merge(layout, runs, Options { dedup, output }).unwrap())).unwrap()
}

/// Merges neighbours for storage, as compactions do, until `left` runs are left.
fn compacted(
    parts: &[(usize, usize)],
    writes: &[Write],
    dedup: Dedup,
    choices: &[prop::sample::Index],
    block_rows: usize,
) -> Vec<Vec<RecordBatch>> {
    let mut runs: Vec<Vec<RecordBatch>> = parts
        .iter()
        .map(|(from, to)| merged(vec![run(&writes[*from..*to], *from as u64, dedup, block_rows)], dedup, Output::Storage))
        .collect();
    for choice in choices {
        if runs.len() < 2 {
            break;
        }
        let at = choice.index(runs.len() - 1);
        let newer = runs.remove(at + 1);
        // The order in which they are given does not count.
        let two = [&newer, &runs[at]].map(|batches| of_batches(batches, (0, 0), block_rows, false));
        runs[at] = merged(two.into(), dedup, Output::Storage);
    }
    runs
}

fn parts(cuts: &[prop::sample::Index], length: usize) -> Vec<(usize, usize)> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).chain([0, length]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    cuts.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

const MODES: [Dedup; 3] = [Dedup::LastRow, Dedup::LastNonNull, Dedup::Keep];

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn any_bracketing_of_merges_equals_merging_all_at_once(
        writes in prop::collection::vec(write(), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        choices in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        block_rows in 1..6_usize,
    ) {
        let parts = parts(&cuts, writes.len());
        for dedup in MODES {
            let expected = model(&writes, dedup);
            let all = || parts.iter().rev().map(|(from, to)| run(&writes[*from..*to], *from as u64, dedup, block_rows)).collect::<Vec<_>>();
            prop_assert_eq!(rows_of(&merged(all(), dedup, Output::User)), expected.clone(), "{:?} at once", dedup);

            let runs = compacted(&parts, &writes, dedup, &choices, block_rows);
            let runs = || runs.iter().map(|batches| of_batches(batches, (0, 0), block_rows, false)).collect::<Vec<_>>();
            prop_assert_eq!(rows_of(&merged(runs(), dedup, Output::User)), expected.clone(), "{:?} compacted", dedup);
            let (once, twice) = (merged(all(), dedup, Output::Storage), merged(runs(), dedup, Output::Storage));
            prop_assert_eq!(rows_of(&once), rows_of(&twice), "{:?} for storage", dedup);
            let coded = merged(all(), dedup, Output::Coded);
            prop_assert_eq!(rows_of(&coded.iter().map(decoded).collect::<Vec<_>>()), rows_of(&once), "{:?} with coded tags", dedup);

            let layout = Arc::new(Layout::merging(schema(), None).unwrap());
            let any = Selection { order: RowOrder::Any, last_rows: None };
            let options = Options { dedup, output: Output::User };
            let mut rows = rows_of(&block_on(collect(merge_selected(&layout, runs(), options, any).unwrap())).unwrap());
            let mut sorted = expected.clone();
            rows.sort();
            sorted.sort();
            prop_assert_eq!(rows, sorted, "{:?} in any order", dedup);

            let last = Selection { order: RowOrder::Key, last_rows: Some(Seen::new(&Memory::new(1 << 20))) };
            let rows = rows_of(&block_on(collect(merge_selected(&layout, all(), options, last).unwrap())).unwrap());
            let mut newest: BTreeMap<Value, Vec<Value>> = BTreeMap::new();
            for row in &expected {
                if newest.get(&row[2]).is_none_or(|last| last[0] <= row[0]) {
                    newest.insert(row[2].clone(), row.clone());
                }
            }
            if dedup == Dedup::Keep {
                // Of several rows of the last time any will do.
                let times = |rows: Vec<Vec<Value>>| rows.into_iter().map(|row| (row[2].clone(), row[0].clone())).collect::<Vec<_>>();
                prop_assert_eq!(times(rows), times(newest.into_values().collect()), "{:?} last rows", dedup);
            } else {
                prop_assert_eq!(rows, newest.into_values().collect::<Vec<_>>(), "{:?} last rows", dedup);
            }
        }
    }
}

/// A batch whose tag is a dictionary as one whose tag is text.
fn decoded(batch: &RecordBatch) -> RecordBatch {
    let layout = Layout::merging(schema(), None).unwrap();
    assert!(batch.column(2).as_dictionary_opt::<Int32Type>().is_some(), "the tag is coded");
    let columns = batch.columns().iter().zip(layout.arrow().fields());
    let columns = columns.map(|(column, field)| arrow::compute::cast(column, field.data_type()).unwrap()).collect();
    RecordBatch::try_new(Arc::clone(layout.arrow()), columns).unwrap()
}

#[test]
fn a_delete_below_a_partial_put_keeps_older_fields_away() {
    let row = |a: Value, b: Value| vec![Value::Timestamp(1), a, Value::String("h".into()), b, Value::Null];
    let writes = [
        Write { op: OpType::Put, row: row(Value::Int(1), Value::String("old".into())) },
        Write { op: OpType::Delete, row: row(Value::Null, Value::Null) },
        Write { op: OpType::Put, row: row(Value::Int(2), Value::Null) },
        Write { op: OpType::Put, row: row(Value::Int(3), Value::Null) },
    ];
    let newer = merged(vec![run(&writes[1..], 1, Dedup::LastNonNull, 1)], Dedup::LastNonNull, Output::Storage);
    let stored = rows_of(&newer);
    assert_eq!(stored.len(), 2, "the put and the delete below it are both kept: {stored:?}");
    let older = run(&writes[..1], 0, Dedup::LastNonNull, 1);
    let seen = merged(vec![older, of_batches(&newer, (0, 0), 8, false)], Dedup::LastNonNull, Output::User);
    assert_eq!(rows_of(&seen), vec![row(Value::Int(3), Value::Null)]);
}
