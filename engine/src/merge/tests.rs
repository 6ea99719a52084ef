//! Memtable, flush and merge together against a naive map.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::fixtures::{MS, batch, block_on, collect, column, memory, new_file, reference, rows_of, sequence};
use super::{Dedup, Layout, Options, Output, group_by_time, merge};
use crate::memtable::{Memtable, Snapshot};
use crate::request::OpType;
use crate::sst::{ReadOptions, flush};

const LAST_ROW: Options = Options { dedup: Dedup::LastRow, output: Output::User };

/// Key order differs from display order, and a tag is a float.
fn first_schema() -> Arc<Schema> {
    let columns = vec![
        column(2, "ts", MS, SemanticType::TimeIndex),
        column(1, "load", DataType::Float64, SemanticType::Tag),
        column(3, "v", DataType::Float32, SemanticType::Field),
        column(0, "host", DataType::String, SemanticType::Tag),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0), ColumnId(1)]).unwrap())
}

/// `v` widened, and two columns more: one has a default, one has not.
fn second_schema() -> Arc<Schema> {
    let mut columns = first_schema().columns().to_vec();
    columns[2].data_type = DataType::Float64;
    let mut with_default = column(4, "n", DataType::Int32, SemanticType::Field);
    with_default.default = Some(ColumnDefault::Value(Value::Int(7)));
    columns.insert(0, with_default);
    columns.push(column(5, "b", DataType::Boolean, SemanticType::Field));
    Arc::new(Schema::new(columns, vec![ColumnId(0), ColumnId(1)]).unwrap())
}

#[derive(Debug, Clone)]
struct Row {
    host: Value,
    load: Value,
    ts: i64,
    v: i16,
}

#[derive(Debug, Clone)]
enum Step {
    Put(Vec<Row>),
    Delete(Vec<Row>),
    Flush,
    /// The memtable stays, and another takes the writes.
    Freeze,
    Alter,
}

fn row() -> impl Strategy<Value = Row> {
    let host = prop::sample::select(vec![None, Some(""), Some("a"), Some("a\0"), Some("ab"), Some("ü"), Some("日本")]);
    let host = host.prop_map(|h| h.map_or(Value::Null, |h| Value::String(h.into())));
    let load = prop::sample::select(vec![None, Some(f64::NAN), Some(-f64::NAN), Some(-0.0), Some(0.0), Some(-1.5), Some(f64::INFINITY)]);
    let load = load.prop_map(|l| l.map_or(Value::Null, Value::Float));
    let ts = prop::sample::select(vec![i64::MIN, i64::MIN + 1, -1, 0, 1, 2, i64::MAX]);
    (host, load, ts, any::<i16>()).prop_map(|(host, load, ts, v)| Row { host, load, ts, v })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let rows = || prop::collection::vec(row(), 1..12);
    let step = prop_oneof![
        5 => rows().prop_map(Step::Put),
        3 => rows().prop_map(Step::Delete),
        2 => Just(Step::Flush),
        1 => Just(Step::Freeze),
        1 => Just(Step::Alter),
    ];
    prop::collection::vec(step, 1..20)
}

/// A row's values in display order of either schema.
fn values(row: &Row, altered: bool) -> Vec<Value> {
    let (v, ts) = (Value::Float(f64::from(row.v)), Value::Timestamp(row.ts));
    let old = vec![ts, row.load.clone(), v, row.host.clone()];
    if !altered {
        return old;
    }
    let mut new = vec![Value::Int(i64::from(row.v))];
    new.extend(old);
    new.push(Value::Boolean(row.v > 0));
    new
}

type Model = BTreeMap<(Value, Value, i64), Vec<Value>>;

/// What the newest schema shows of a row written under either.
fn shown(row: &Row, altered: bool) -> Vec<Value> {
    let mut shown = values(row, true);
    if !altered {
        shown[0] = Value::Int(7);
        *shown.last_mut().unwrap() = Value::Null;
    }
    shown
}

struct World {
    access: crate::sst::Access,
    files: Vec<tessera_manifest::file::FileRef>,
    frozen: Vec<Snapshot>,
    memtable: Memtable,
    altered: bool,
    counter: u64,
    model: Model,
}

impl World {
    fn new() -> Self {
        let memtable = Memtable::new(first_schema());
        let access = memory(3).1;
        Self { access, files: vec![], frozen: vec![], memtable, altered: false, counter: 1, model: Model::new() }
    }

    fn write(&mut self, op: OpType, rows: &[Row]) {
        let schema = Arc::clone(self.memtable.schema());
        let whole: Vec<_> = rows.iter().map(|row| values(row, self.altered)).collect();
        self.memtable.insert(batch(&schema, op, &whole), op, sequence(self.counter)).unwrap();
        self.counter += rows.len() as u64;
        for row in rows {
            let key = (row.host.clone(), row.load.clone(), row.ts);
            match op {
                OpType::Put => drop(self.model.insert(key, shown(row, self.altered))),
                OpType::Delete => drop(self.model.remove(&key)),
            }
        }
    }

    fn renew(&mut self, schema: Arc<Schema>) -> Snapshot {
        std::mem::replace(&mut self.memtable, Memtable::new(schema)).snapshot()
    }

    async fn run(&mut self, step: &Step) {
        let schema = Arc::clone(self.memtable.schema());
        match step {
            Step::Put(rows) => self.write(OpType::Put, rows),
            Step::Delete(rows) => self.write(OpType::Delete, rows),
            Step::Freeze => {
                let frozen = self.renew(schema);
                self.frozen.push(frozen);
            }
            Step::Alter => {
                self.altered = true;
                let frozen = self.renew(second_schema());
                self.frozen.push(frozen);
            }
            Step::Flush => {
                let file = new_file(&schema);
                let snapshot = self.renew(schema);
                let rows = snapshot.rows() as u64;
                let meta = flush(&self.access, snapshot, file.clone(), Dedup::LastRow).await.unwrap();
                assert_eq!(meta.is_none(), rows == 0);
                if let Some(meta) = meta {
                    assert!(meta.rows <= rows);
                    self.files.push(reference(&file, meta));
                }
            }
        }
    }

    async fn scan(&self, wanted: Option<&[usize]>, filter: Expr, time: Option<(i64, i64)>) -> Vec<Vec<Value>> {
        let layout = Arc::new(Layout::merging(second_schema(), wanted).unwrap());
        let options = ReadOptions { layout: Arc::clone(&layout), filter: Arc::new(filter) };
        let mut runs = Vec::new();
        for file in &self.files {
            runs.push(self.access.scan(file, &options).await.unwrap().into_run());
        }
        for snapshot in self.frozen.iter().chain([&self.memtable.snapshot()]) {
            runs.push(snapshot.sorted(&layout, time).unwrap().into_run());
        }
        rows_of(&collect(merge(layout, runs, LAST_ROW).unwrap()).await.unwrap())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_scan_equals_the_naive_model(steps in steps(), seek in row()) {
        block_on(async {
            let mut world = World::new();
            for step in &steps {
                world.run(step).await;
            }
            let expected: Vec<_> = world.model.values().cloned().collect();
            prop_assert_eq!(world.scan(None, Expr::always(), None).await, expected.clone());

            // Wanted columns in any order, without the key.
            let some: Vec<Vec<Value>> = expected.iter().map(|row| vec![row[5].clone(), row[3].clone()]).collect();
            prop_assert_eq!(world.scan(Some(&[5, 3]), Expr::always(), None).await, some);

            // A predicate on the key leaves out only what it may.
            let host = Expr::Compare { column: ColumnId(0), op: CompareOp::LtEq, value: seek.host.clone() };
            let load = Expr::Compare { column: ColumnId(1), op: CompareOp::GtEq, value: seek.load.clone() };
            let when = Expr::Compare { column: ColumnId(2), op: CompareOp::Eq, value: Value::Timestamp(seek.ts) };
            let field = Expr::Compare { column: ColumnId(3), op: CompareOp::Gt, value: Value::Float(f64::from(seek.v)) };
            let holds = |row: &Vec<Value>| {
                row[4] <= seek.host && row[2] >= seek.load && row[1] == Value::Timestamp(seek.ts) && row[3] > Value::Float(f64::from(seek.v))
            };
            let filter = Expr::And(vec![host, load, when, field]);
            let mut found = world.scan(None, filter, Some((seek.ts, seek.ts))).await;
            found.retain(holds);
            let expected: Vec<_> = expected.into_iter().filter(holds).collect();
            prop_assert_eq!(found, expected);
            Ok(())
        })?;
    }
}

#[test]
fn a_merge_of_many_batches_is_ordered_and_complete() {
    let schema = first_schema();
    let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
    let mut runs = Vec::new();
    for writer in 0..3_u32 {
        let memtable = Memtable::new(Arc::clone(&schema));
        let rows: Vec<Vec<Value>> = (0..10_000)
            .map(|i| Row { host: Value::String(format!("h{}", i % 7)), load: Value::Null, ts: i64::from(i * 3 + writer), v: writer as i16 })
            .map(|row| values(&row, false))
            .collect();
        memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(u64::from(writer) * 10_000)).unwrap();
        runs.push(memtable.snapshot().sorted(&layout, None).unwrap().into_run());
    }
    let batches = block_on(collect(merge(layout, runs, LAST_ROW).unwrap())).unwrap();
    assert!(batches.len() <= 8, "output batches are large: {}", batches.len());
    let keys: Vec<(Value, Value)> = rows_of(&batches).into_iter().map(|row| (row[3].clone(), row[0].clone())).collect();
    assert_eq!(keys.len(), 30_000);
    assert!(keys.is_sorted_by(|a, b| a < b));
}

#[test]
fn overlapping_times_are_grouped_and_touching_ones_overlap() {
    let groups = group_by_time(&[(10, 20), (0, 5), (20, 30), (5, 6), (i64::MIN, i64::MIN), (40, i64::MAX)]);
    assert_eq!(groups, vec![vec![4], vec![1, 3], vec![0, 2], vec![5]]);
    assert!(group_by_time(&[]).is_empty());
}

#[test]
fn kept_duplicates_come_newest_first() {
    let schema = first_schema();
    let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
    let run = |v: i16| {
        let memtable = Memtable::new(Arc::clone(&schema));
        let row = Row { host: Value::Null, load: Value::Null, ts: 1, v };
        memtable.insert(batch(&schema, OpType::Put, &[values(&row, false)]), OpType::Put, sequence(v as u64)).unwrap();
        memtable.snapshot().sorted(&layout, None).unwrap().into_run()
    };
    let options = Options { dedup: Dedup::Keep, output: Output::User };
    let batches = block_on(collect(merge(Arc::clone(&layout), vec![run(1), run(3), run(2)], options).unwrap())).unwrap();
    let seen: Vec<Value> = rows_of(&batches).into_iter().map(|row| row[2].clone()).collect();
    assert_eq!(seen, [3.0, 2.0, 1.0].map(Value::Float));
}
