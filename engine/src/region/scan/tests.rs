//! Scans of regions against a naive model: merge modes, deletes, overlapping files, orders, limits, streams.

mod blooms;
mod buckets;
mod estimate;
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType as ArrowType;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::*;
use tessera_manifest::env::Env;
use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::*;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::merge::fixtures::{MS, batch, block_on, column, in_values, rows_of};
use crate::options::MergeMode;
use crate::request::{AsOf, OpType, Tags, WriteRequest};
use crate::sst::sst_path;
use crate::wal::NoopWal;

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

/// Two tags, of which the second is a float, and fields around them.
fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "v", DataType::Float64, SemanticType::Field),
        column(1, "host", DataType::String, SemanticType::Tag),
        column(2, "ts", MS, SemanticType::TimeIndex),
        column(3, "s", DataType::String, SemanticType::Field),
        column(4, "load", DataType::Float64, SemanticType::Tag),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(1), ColumnId(4)]).unwrap())
}

struct World {
    store: Arc<InMemory>,
    engine: Engine,
    region: Arc<Region>,
}

impl World {
    async fn new(mode: MergeMode, config: Config) -> Self {
        let store = Arc::new(InMemory::new());
        let parts = Parts {
            store: Arc::clone(&store) as Arc<dyn ObjectStore>,
            wal: Arc::new(NoopWal::new(NodeId(1), &Env::system())),
            node: NodeId(1),
            env: Env::system(),
            config,
            read_set: None,
            reachable: None,
        };
        let engine = Engine::start(parts);
        let option = match mode {
            MergeMode::LastRow => ("merge_mode", "last_row"),
            MergeMode::LastNonNull => ("merge_mode", "last_non_null"),
            MergeMode::Append => ("append_mode", "true"),
        };
        let meta = RegionMeta {
            region: REGION,
            database: "public".into(),
            table: "t".into(),
            schema: schema(),
            partition_columns: vec![ColumnId(1)],
            rule: Arc::new(Expr::always()),
            generation: Generation::FIRST,
            options: BTreeMap::from([(option.0.to_owned(), option.1.to_owned())]),
        };
        let region = engine.create_region(meta).await.unwrap();
        Self { store, engine, region }
    }

    async fn write(&self, op: OpType, rows: &[Vec<Value>]) {
        let meta = self.region.meta();
        let batch = batch(&meta.schema, op, rows);
        let request = WriteRequest { generation: meta.generation, rule_version: meta.rule_version(), batch, op };
        self.region.write(request).await.unwrap();
    }

    async fn batches(&self, request: ScanRequest) -> Vec<RecordBatch> {
        let scan = self.region.scan(request).await.unwrap();
        scan.into_stream().try_collect::<Vec<_>>().await.unwrap()
    }

    async fn rows(&self, request: ScanRequest) -> Vec<Vec<Value>> {
        rows_of(&self.batches(request).await)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(OpType, Vec<Vec<Value>>),
    Flush,
}

fn row() -> impl Strategy<Value = Vec<Value>> {
    let host = prop::sample::select(vec![None, Some(""), Some("a"), Some("ab"), Some("日本")]);
    let host = host.prop_map(|host| host.map_or(Value::Null, |host| Value::String(host.into())));
    let load = prop::sample::select(vec![Value::Null, Value::Float(f64::NAN), Value::Float(-0.0), Value::Float(0.0), Value::Float(2.0)]);
    let field = prop::sample::select(vec![Value::Null, Value::Float(f64::NAN), Value::Float(1.0), Value::Float(7.0)]);
    let text = prop::sample::select(vec![Value::Null, Value::String(String::new()), Value::String("ü".into())]);
    let time = prop::sample::select(vec![i64::MIN, -1, 0, 1, 2, 3, i64::MAX]);
    (field, host, time, text, load).prop_map(|(v, host, ts, s, load)| vec![v, host, Value::Timestamp(ts), s, load])
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let op = prop::sample::select(vec![OpType::Put, OpType::Put, OpType::Put, OpType::Delete]);
    let write = (op, prop::collection::vec(row(), 1..20)).prop_map(|(op, rows)| Step::Write(op, rows));
    prop::collection::vec(prop_oneof![3 => write, 1 => Just(Step::Flush)], 1..14)
}

type Model = BTreeMap<(Value, Value, Value), Vec<Vec<Value>>>;

fn apply(model: &mut Model, mode: MergeMode, op: OpType, row: &[Value]) {
    let rows = model.entry((row[1].clone(), row[4].clone(), row[2].clone())).or_default();
    match (op, mode, rows.first_mut()) {
        (OpType::Delete, _, _) => rows.clear(),
        (OpType::Put, MergeMode::Append, _) => rows.insert(0, row.to_vec()),
        (OpType::Put, MergeMode::LastNonNull, Some(last)) => {
            for (old, new) in last.iter_mut().zip(row).filter(|(_, new)| !new.is_null()) {
                *old = new.clone();
            }
        }
        (OpType::Put, _, _) => *rows = vec![row.to_vec()],
    }
}

fn sorted(mut rows: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    rows.sort();
    rows
}

fn compare(column: u32, op: CompareOp, value: Value) -> Expr {
    Expr::Compare { column: ColumnId(column), op, value }
}

type Checked = Result<(), TestCaseError>;

fn times(rows: &[Vec<Value>]) -> Vec<Value> {
    rows.iter().map(|row| row[2].clone()).collect()
}

async fn check(world: &World, mode: MergeMode, model: &Model, seek: &[Value], limit: usize) -> Checked {
    let all: Vec<Vec<Value>> = model.values().flatten().cloned().collect();
    for streams in [1, 3] {
        let request = ScanRequest { streams, ..ScanRequest::default() };
        check_orders(world, &request, &all, limit).await?;
        check_filters(world, &request, &all, seek, limit).await?;
        buckets::check_first_buckets(world, &request, &all, seek, limit).await?;
        for bounded in [false, true] {
            check_last_rows(world, &request, &all, mode, bounded.then_some(seek)).await?;
        }
    }
    Ok(())
}

async fn check_orders(world: &World, request: &ScanRequest, all: &[Vec<Value>], limit: usize) -> Checked {
    let known = world.region.known();
    prop_assert!(known.rows.is_none_or(|rows| rows == all.len() as u64));
    if let Some((from, to)) = known.time {
        let all = times(all);
        prop_assert_eq!((all.iter().min(), all.iter().max()), (Some(&Value::Timestamp(from)), Some(&Value::Timestamp(to))));
    }
    prop_assert_eq!(sorted(world.rows(request.clone()).await), sorted(all.to_vec()), "any order");
    let by_key = world.rows(ScanRequest { order: Order::Key, ..request.clone() }).await;
    prop_assert_eq!(by_key, all.to_vec(), "by key");
    let some = world.rows(ScanRequest { projection: Some(vec![3, 0]), order: Order::Key, ..request.clone() }).await;
    prop_assert_eq!(some, all.iter().map(|row| vec![row[3].clone(), row[0].clone()]).collect::<Vec<_>>(), "some columns");
    let counted = world.batches(ScanRequest { projection: Some(vec![]), ..request.clone() }).await;
    prop_assert_eq!(counted.iter().map(RecordBatch::num_rows).sum::<usize>(), all.len());
    for (order, newest) in [(Order::Time, false), (Order::NewestFirst, true)] {
        let mut expected = times(all);
        expected.sort();
        if newest {
            expected.reverse();
        }
        let rows = world.rows(ScanRequest { order, ..request.clone() }).await;
        prop_assert_eq!(times(&rows), expected.clone(), "{:?}", order);
        prop_assert_eq!(sorted(rows), sorted(all.to_vec()), "{:?}", order);
        let scan = world.region.scan(ScanRequest { order, ..request.clone() }).await.unwrap();
        for stream in 0..scan.streams() {
            let rows = times(&rows_of(&scan.stream(stream).try_collect::<Vec<_>>().await.unwrap()));
            prop_assert!(if newest { rows.iter().rev().is_sorted() } else { rows.is_sorted() }, "{:?} in stream {}", order, stream);
        }
        let rows = world.rows(ScanRequest { order, limit: Some(limit), projection: Some(vec![2]), ..request.clone() }).await;
        let first: Vec<Value> = rows.into_iter().map(|row| row[0].clone()).collect();
        prop_assert_eq!(&first, &expected[..limit.min(expected.len())], "the first by {:?}", order);
        let rows = world.rows(ScanRequest { order, limit: Some(limit), ..request.clone() }).await;
        prop_assert_eq!(times(&rows), first, "the first whole rows by {:?}", order);
        prop_assert!(rows.iter().all(|row| all.contains(row)), "the first whole rows by {:?}", order);
    }
    let limited = world.rows(ScanRequest { limit: Some(limit), ..request.clone() }).await;
    prop_assert_eq!(limited.len(), limit.min(all.len()));
    prop_assert!(limited.iter().all(|row| all.contains(row)));
    Ok(())
}

/// Conditions on both tags and a bound of the time.
fn on_keys(seek: &[Value]) -> Vec<Expr> {
    vec![
        compare(1, CompareOp::Eq, seek[1].clone()),
        compare(4, CompareOp::GtEq, seek[4].clone()),
        compare(2, CompareOp::LtEq, seek[2].clone()),
    ]
}

async fn check_filters(world: &World, request: &ScanRequest, all: &[Vec<Value>], seek: &[Value], limit: usize) -> Checked {
    let of_key = |row: &Vec<Value>| row[1] == seek[1] && row[4] >= seek[4] && row[2] <= seek[2];
    let holds = |row: &Vec<Value>| of_key(row) && row[0] > seek[0];
    let keys = Expr::And(on_keys(seek));
    let filter = Expr::And(on_keys(seek).into_iter().chain([compare(0, CompareOp::Gt, seek[0].clone())]).collect());
    let mut found = world.rows(ScanRequest { filter, ..request.clone() }).await;
    prop_assert!(found.iter().all(of_key), "conditions on tags and bounds of the time are exact");
    found.retain(holds);
    prop_assert_eq!(sorted(found), sorted(all.iter().filter(|row| holds(row)).cloned().collect()), "filtered");
    let wanted = all.iter().filter(|row| of_key(row)).count();
    estimate::check(world, &keys, wanted)?;
    let count = world.batches(ScanRequest { filter: keys.clone(), projection: Some(vec![]), ..request.clone() }).await;
    prop_assert_eq!(count.iter().map(RecordBatch::num_rows).sum::<usize>(), wanted);
    let (order, projection) = (Order::NewestFirst, Some(vec![1, 2]));
    let first = world.rows(ScanRequest { filter: keys, order, limit: Some(limit), projection, ..request.clone() }).await;
    prop_assert_eq!(first.len(), limit.min(wanted));
    Ok(())
}

/// The last row of each series, of those that a filter on `seek` leaves.
async fn check_last_rows(world: &World, request: &ScanRequest, all: &[Vec<Value>], mode: MergeMode, seek: Option<&[Value]>) -> Checked {
    let wanted = |row: &&Vec<Value>| seek.is_none_or(|seek| row[1] == seek[1] && row[4] >= seek[4] && row[2] <= seek[2]);
    let mut newest: BTreeMap<(Value, Value), Vec<Value>> = BTreeMap::new();
    for row in all.iter().filter(wanted) {
        let last = newest.entry((row[1].clone(), row[4].clone())).or_insert_with(|| row.clone());
        if last[2] < row[2] {
            last.clone_from(row);
        }
    }
    let expected: Vec<Vec<Value>> = newest.into_values().collect();
    let filter = seek.map_or_else(Expr::always, |seek| Expr::And(on_keys(seek)));
    let rows = world.rows(ScanRequest { last_rows: true, filter, ..request.clone() }).await;
    if mode == MergeMode::Append {
        // Of several rows with the last time any one will do.
        let key = |row: &Vec<Value>| vec![row[1].clone(), row[4].clone(), row[2].clone()];
        let keys = |rows: &[Vec<Value>]| sorted(rows.iter().map(key).collect());
        prop_assert_eq!(keys(&rows), keys(&expected), "last rows of {:?}", seek);
    } else {
        prop_assert_eq!(sorted(rows), sorted(expected), "last rows of {:?}", seek);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_kind_of_scan_equals_the_naive_model(steps in steps(), seek in row(), limit in 0..9_usize) {
        block_on(async {
            for mode in [MergeMode::LastRow, MergeMode::LastNonNull, MergeMode::Append] {
                let world = World::new(mode, Config { row_group_rows: 5, ..Config::default() }).await;
                let mut model = Model::new();
                for step in &steps {
                    match step {
                        // A region that keeps every row takes no deletes.
                        Step::Write(OpType::Delete, _) if mode == MergeMode::Append => {}
                        Step::Flush => world.region.flush().await.unwrap(),
                        Step::Write(op, rows) => {
                            world.write(*op, rows).await;
                            rows.iter().for_each(|row| apply(&mut model, mode, *op, row));
                        }
                    }
                }
                check(&world, mode, &model, &seek, limit).await?;
                world.region.flush().await.unwrap();
                check(&world, mode, &model, &seek, limit).await?;
            }
            Ok::<(), TestCaseError>(())
        })?;
    }
}

#[test]
fn bounds_of_the_time_are_exact_where_no_tag_is_read() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        world.write(OpType::Put, &points(5, 0, 10, 1.0)).await;
        world.region.flush().await.unwrap();
        let filter = Expr::And(vec![compare(2, CompareOp::GtEq, Value::Timestamp(3)), compare(2, CompareOp::Lt, Value::Timestamp(5))]);
        // No series are known yet, and a stretch of rows without tags is of all of them.
        let rows = world.rows(ScanRequest { filter, projection: Some(vec![2]), ..ScanRequest::default() }).await;
        let expected: Vec<Vec<Value>> = (0..5).flat_map(|_| [3, 4]).map(|t| vec![Value::Timestamp(t)]).collect();
        assert_eq!(rows, expected);
    });
}

fn points(hosts: i64, from: i64, to: i64, v: f64) -> Vec<Vec<Value>> {
    let row = |host: i64, ts| vec![Value::Float(v), Value::String(format!("h{host:05}")), Value::Timestamp(ts), Value::Null, Value::Null];
    (0..hosts).flat_map(|host| (from..to).map(move |ts| row(host, ts))).collect()
}

#[test]
fn streams_share_the_work_and_no_row() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config { row_group_rows: 8_192, ..Config::default() }).await;
        for v in [1.0, 2.0] {
            world.write(OpType::Put, &points(3_000, 0, 50, v)).await;
            world.region.flush().await.unwrap();
        }
        let only_file = {
            let world = World::new(MergeMode::LastRow, Config { row_group_rows: 8_192, ..Config::default() }).await;
            world.write(OpType::Put, &points(6_000, 0, 50, 2.0)).await;
            world.region.flush().await.unwrap();
            world
        };
        for (world, rows, order) in [(&world, 150_000, Order::Any), (&world, 150_000, Order::Key), (&only_file, 300_000, Order::Any)] {
            let scan = world.region.scan(ScanRequest { streams: 2, order, ..ScanRequest::default() }).await.unwrap();
            assert_eq!(scan.streams(), 2);
            let mut counts = Vec::new();
            let mut seen = Vec::new();
            for number in 0..2 {
                let batches: Vec<RecordBatch> = scan.stream(number).try_collect().await.unwrap();
                counts.push(batches.iter().map(RecordBatch::num_rows).sum::<usize>());
                seen.extend(rows_of(&batches).into_iter().map(|row| (row[1].clone(), row[2].clone(), row[0].clone())));
            }
            assert_eq!(counts.iter().sum::<usize>(), rows);
            assert!(counts.iter().all(|count| *count > rows / 4), "{counts:?}");
            assert!(seen.iter().all(|(_, _, v)| *v == Value::Float(2.0)));
            if order == Order::Key {
                assert!(seen.is_sorted_by(|a, b| (&a.0, &a.1) < (&b.0, &b.1)));
            }
        }
    });
}

#[test]
fn the_newest_rows_are_found_without_reading_older_files() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        for part in 0..5 {
            world.write(OpType::Put, &points(10, part * 100, part * 100 + 100, part as f64)).await;
            world.region.flush().await.unwrap();
        }
        let scan = world.region.scan(ScanRequest::default()).await.unwrap();
        let mut files: Vec<_> = scan.files.clone();
        files.sort_by_key(|file| file.meta.time_range);
        // All but the newest file are taken away: whoever reads them fails.
        for file in &files[..4] {
            world.store.delete(&sst_path(file.key)).await.unwrap();
        }
        let newest = ScanRequest { order: Order::NewestFirst, limit: Some(25), ..ScanRequest::default() };
        let rows = world.rows(newest).await;
        assert_eq!(rows.len(), 25);
        assert!(rows.iter().all(|row| row[2] >= Value::Timestamp(497)));
        let scan = world.region.scan(ScanRequest { last_rows: true, limit: Some(10), ..ScanRequest::default() }).await.unwrap();
        let last: Vec<RecordBatch> = scan.stream(0).take(1).try_collect().await.unwrap();
        assert!(rows_of(&last).iter().all(|row| row[2] == Value::Timestamp(499)));
        let lost = world.region.scan(ScanRequest::default()).await.unwrap().into_stream().try_collect::<Vec<_>>().await.unwrap_err();
        assert!(matches!(lost, Error::Rows { .. }), "a listed file that is missing is damage, not age: {lost}");
    });
}

#[test]
fn the_newest_rows_of_overlapping_files_are_all_that_is_kept() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config { row_group_rows: 8_192, ..Config::default() }).await;
        for v in [1.0, 2.0] {
            world.write(OpType::Put, &points(200, 0, 40, v)).await;
            world.region.flush().await.unwrap();
        }
        let read = |limit, order| {
            let region = &world.region;
            async move {
                let scan = region.scan(ScanRequest { order, limit, ..ScanRequest::default() }).await.unwrap();
                let batches: Vec<RecordBatch> = scan.stream(0).try_collect().await.unwrap();
                (rows_of(&batches), scan.memory().1)
            }
        };
        for (order, ends) in [(Order::NewestFirst, [39, 38]), (Order::Time, [0, 1])] {
            let (all, whole) = read(None, order).await;
            let (first, peak) = read(Some(300), order).await;
            assert_eq!(times(&first), times(&all[..300]), "{order:?}");
            let expected = |at: usize| Value::Timestamp(ends[at / 200]);
            assert!(first.iter().enumerate().all(|(at, row)| row[2] == expected(at) && row[0] == Value::Float(2.0)), "{order:?}");
            assert!(peak * 3 < whole * 2, "{peak} bytes for a few rows, {whole} for all");
        }
    });
}

#[test]
fn conditions_on_fields_choose_rows_of_files_that_overlap_no_other() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config::default()).await;
        let mut rows = points(50, 0, 20, 1.0);
        rows.iter_mut().step_by(7).for_each(|row| row[0] = Value::Float(5.0));
        rows.iter_mut().step_by(11).for_each(|row| row[0] = Value::Null);
        world.write(OpType::Put, &rows).await;
        world.region.flush().await.unwrap();
        let rare = ScanRequest { filter: compare(0, CompareOp::Gt, Value::Float(2.0)), ..ScanRequest::default() };
        let high: Vec<Vec<Value>> = rows.iter().filter(|row| row[0] == Value::Float(5.0)).cloned().collect();
        assert_eq!(sorted(world.rows(rare.clone()).await), sorted(high.clone()), "few rows satisfy it, and nothing else is decoded");
        let common = ScanRequest { filter: compare(0, CompareOp::Lt, Value::Float(2.0)), ..ScanRequest::default() };
        assert_eq!(world.rows(common).await.len(), rows.len(), "so many satisfy it that all are decoded");
        // A newer file with low values: leaving out its rows would bring the high ones back.
        world.write(OpType::Put, &points(50, 0, 20, 0.0)).await;
        world.region.flush().await.unwrap();
        let rows = world.rows(rare).await;
        assert!(rows.iter().all(|row| row[0] == Value::Float(0.0)), "rows of several files are merged before they are tested");
    });
}

#[test]
fn conditions_on_fields_choose_rows_outside_of_the_instant_that_two_files_share() {
    block_on(async {
        for mode in [MergeMode::LastRow, MergeMode::LastNonNull] {
            let world = World::new(mode, Config::default()).await;
            // Files are cut in the middle of an instant, as loads in order of time have it; the second corrects the first there.
            let mut older = points(50, 0, 21, 1.0);
            older.iter_mut().step_by(7).for_each(|row| row[0] = Value::Float(5.0));
            let mut newer = points(50, 20, 41, 0.0);
            newer.iter_mut().filter(|row| row[2] > Value::Timestamp(20)).step_by(9).for_each(|row| row[0] = Value::Float(6.0));
            for rows in [&older, &newer] {
                world.write(OpType::Put, rows).await;
                world.region.flush().await.unwrap();
            }
            let apart = |row: &&Vec<Value>| row[0] > Value::Float(2.0) && row[2] != Value::Timestamp(20);
            let high = older.iter().chain(&newer).filter(apart).cloned();
            let shared = newer.iter().filter(|row| row[2] == Value::Timestamp(20)).cloned();
            let expected = sorted(high.chain(shared).collect());
            let rare = ScanRequest { filter: compare(0, CompareOp::Gt, Value::Float(2.0)), ..ScanRequest::default() };
            assert_eq!(sorted(world.rows(rare.clone()).await), expected, "{mode:?}: rows meet at one instant, and nothing else is decoded");
            let by_key = ScanRequest { order: Order::Key, ..rare };
            assert_eq!(sorted(world.rows(by_key).await), expected, "{mode:?}: in the order of keys");
        }
    });
}

/// A region whose six rows were written with 1, and since the version that is answered with 2.
async fn written_twice() -> (World, tessera_manifest::id::Slot) {
    let world = World::new(MergeMode::LastRow, Config::default()).await;
    world.write(OpType::Put, &points(2, 0, 3, 1.0)).await;
    world.region.flush().await.unwrap();
    let then = world.region.info().manifest_version;
    world.write(OpType::Put, &points(2, 0, 3, 2.0)).await;
    world.region.flush().await.unwrap();
    (world, then)
}

#[test]
fn a_past_version_is_read_as_it_was() {
    block_on(async {
        let (world, then) = written_twice().await;
        let past = ScanRequest { as_of: Some(AsOf::Version(then)), ..ScanRequest::default() };
        let rows = world.rows(past).await;
        assert_eq!(rows.len(), 6);
        assert!(rows.iter().all(|row| row[0] == Value::Float(1.0)));
        let now = ScanRequest { as_of: Some(AsOf::UnixMs(u64::MAX)), ..ScanRequest::default() };
        assert!(world.rows(now).await.iter().all(|row| row[0] == Value::Float(2.0)));
        let before = ScanRequest { as_of: Some(AsOf::UnixMs(1)), ..ScanRequest::default() };
        let error = world.region.scan(before).await.unwrap_err();
        assert!(
            matches!(&error, Error::Manifest { source, .. } if matches!(**source, tessera_manifest::error::Error::NoVersion { .. })),
            "{error}"
        );

        let past = ScanRequest { as_of: Some(AsOf::Version(then)), ..ScanRequest::default() };
        let scan = world.region.scan(past).await.unwrap();
        world.store.delete(&sst_path(scan.files[0].key)).await.unwrap();
        world.region.shared.access.forget(&scan.files[0].key);
        let gone = scan.into_stream().try_collect::<Vec<_>>().await;
        // What is in memory may still be read; if not, the error says what happened.
        assert!(gone.is_ok() || matches!(gone, Err(Error::SnapshotExpired { .. })), "{gone:?}");
        world.engine.close().await.unwrap();
    });
}

#[test]
fn a_past_version_that_was_loaded_is_read_without_the_manifest() {
    block_on(async {
        let (world, then) = written_twice().await;
        let past = world.region.version_as_of(AsOf::Version(then)).await.unwrap();
        assert_eq!((past.slot, &past.meta), (then, &world.region.meta()));
        let objects: Vec<_> = world.store.list(None).try_collect().await.unwrap();
        let records = objects.iter().filter(|object| object.location.as_ref().contains("/manifest/"));
        let deleted = records.map(|object| world.store.delete(&object.location));
        assert!(!futures::future::try_join_all(deleted).await.unwrap().is_empty());
        let scan = world.region.scan_past(&past, None, ScanRequest::default()).await.unwrap();
        let rows = rows_of(&scan.into_stream().try_collect::<Vec<_>>().await.unwrap());
        assert_eq!(rows.len(), 6);
        assert!(rows.iter().all(|row| row[0] == Value::Float(1.0)));
        assert!(world.region.version_as_of(AsOf::Version(then)).await.is_err(), "it cannot be loaded any more");
    });
}

#[test]
fn last_rows_of_many_row_groups_come_batch_by_batch() {
    block_on(async {
        let world = World::new(MergeMode::LastRow, Config { row_group_rows: 16, ..Config::default() }).await;
        world.write(OpType::Put, &points(600, 0, 16, 1.0)).await;
        // With a delete among them all rows of a series are read, not its last alone.
        world.write(OpType::Delete, &points(1, 0, 1, 1.0)).await;
        world.region.flush().await.unwrap();
        let batches = world.batches(ScanRequest { last_rows: true, ..ScanRequest::default() }).await;
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 600);
        assert!(batches.len() > 1, "what was found goes out before all blocks are held");
        assert!(rows_of(&batches).iter().all(|row| row[2] == Value::Timestamp(15)));
    });
}

#[test]
fn tags_in_runs_are_the_values_that_they_stand_for() {
    block_on(async {
        for mode in [MergeMode::LastRow, MergeMode::LastNonNull, MergeMode::Append] {
            let world = World::new(mode, Config { row_group_rows: 64, ..Config::default() }).await;
            world.write(OpType::Put, &points(20, 0, 30, 1.0)).await;
            world.region.flush().await.unwrap();
            world.write(OpType::Put, &points(10, 20, 40, 2.0)).await;
            if mode != MergeMode::Append {
                world.write(OpType::Delete, &points(3, 7, 9, 2.0)).await;
            }
            world.region.flush().await.unwrap();
            world.write(OpType::Put, &points(5, 39, 45, 3.0)).await;
            for (order, projection) in
                [(Order::Any, vec![0, 1, 2]), (Order::Key, vec![1, 4, 0]), (Order::Any, vec![1]), (Order::Key, vec![2])]
            {
                let plain = ScanRequest { order, projection: Some(projection), ..ScanRequest::default() };
                let runs = world.batches(ScanRequest { tags: Tags::Runs, ..plain.clone() }).await;
                let decoded = runs.iter().map(|batch| {
                    let tags =
                        batch.schema().fields().iter().filter(|field| matches!(field.data_type(), ArrowType::RunEndEncoded(_, _))).count();
                    assert_eq!(tags, plain.projection.iter().flatten().filter(|column| [1, 4].contains(*column)).count());
                    in_values(batch)
                });
                assert_eq!(rows_of(&decoded.collect::<Vec<_>>()), world.rows(plain.clone()).await, "{mode:?} {plain:?}");
            }
            let newest = ScanRequest { order: Order::NewestFirst, limit: Some(9), ..ScanRequest::default() };
            assert_eq!(world.rows(ScanRequest { tags: Tags::Runs, ..newest.clone() }).await, world.rows(newest).await);
        }
    });
}
