//! Regions on a real local WAL and an in-memory store.

mod alter;
mod crashes;
mod cuts;
mod doubt;
mod history;
mod take_over;
mod truncate;

use std::collections::BTreeMap;
use std::path::Path as FsPath;
use std::sync::Arc;

use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};
use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{CompareOp, Expr, RuleVersion};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::*;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::merge::fixtures::{MS, batch, column, rows_of};
use crate::request::{OpType, ScanRequest, WriteRequest};
use crate::wal::{LocalWal, LogStore, Options};

pub(super) const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));

fn schema() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "v", DataType::Float64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap())
}

pub(super) fn meta(rule: Expr) -> RegionMeta {
    RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "t".into(),
        schema: schema(),
        partition_columns: vec![ColumnId(0)],
        rule: Arc::new(rule.canonical()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    }
}

struct Node {
    dir: TempDir,
    store: Arc<InMemory>,
    config: Config,
}

impl Node {
    fn new(config: Config) -> Self {
        Self { dir: TempDir::new().unwrap(), store: Arc::new(InMemory::new()), config }
    }

    async fn start(&self) -> Engine {
        start(self.dir.path(), Arc::clone(&self.store) as Arc<dyn ObjectStore>, self.config.clone()).await
    }
}

pub(super) async fn start(wal: &FsPath, store: Arc<dyn ObjectStore>, config: Config) -> Engine {
    let options = Options { segment_bytes: 1 << 20, ..Options::new(NodeId(1)) };
    let wal: Arc<dyn LogStore> = Arc::new(LocalWal::open(wal, options, Env::system()).await.unwrap());
    Engine::start(Parts { store, wal, node: NodeId(1), env: Env::system(), config, read_set: None, reachable: None })
}

/// Ends an engine as a crash would: nothing is flushed. Waits until the log's lock is free.
pub(super) async fn crash(engine: Engine) {
    engine.stop_background().await;
}

pub(super) fn row(host: &str, ts: i64, v: f64) -> Vec<Value> {
    vec![Value::String(host.into()), Value::Timestamp(ts), Value::Float(v)]
}

pub(super) fn request(region: &Region, op: OpType, rows: &[Vec<Value>]) -> WriteRequest {
    let meta = region.meta();
    WriteRequest { generation: meta.generation, rule_version: meta.rule_version(), batch: batch(&meta.schema, op, rows), op }
}

pub(super) async fn put(region: &Arc<Region>, rows: &[Vec<Value>]) {
    region.write(request(region, OpType::Put, rows)).await.unwrap();
}

pub(super) fn everything() -> ScanRequest {
    ScanRequest::default()
}

pub(super) async fn read(region: &Region, request: ScanRequest) -> Vec<Vec<Value>> {
    let batches: Vec<_> = region.scan(request).await.unwrap().into_stream().try_collect().await.unwrap();
    let mut rows = rows_of(&batches);
    rows.sort();
    rows
}

#[tokio::test]
async fn acknowledged_rows_survive_a_crash_and_a_clean_close() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0), row("b", 1, 2.0)]).await;
    put(&region, &[row("a", 1, 3.0)]).await;
    let expected = vec![row("a", 1, 3.0), row("b", 1, 2.0)];
    assert_eq!(read(&region, everything()).await, expected);
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(read(&region, everything()).await, expected);
    assert_eq!(region.info().memtable_rows, 3);
    engine.close().await.unwrap();
    drop((engine, region));
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(region.info().memtable_rows, 0);
    assert_eq!(region.info().files, 1);
    assert_eq!(read(&region, everything()).await, expected);
}

#[tokio::test]
async fn a_write_after_a_restart_is_newer_than_any_before() {
    let node = Node::new(Config::default());
    for turn in 0..4 {
        let engine = node.start().await;
        let region = if turn == 0 { engine.create_region(meta(Expr::always())).await } else { engine.open_region(REGION).await }.unwrap();
        put(&region, &[row("a", 1, f64::from(turn))]).await;
        if turn % 2 == 0 {
            region.flush().await.unwrap();
        }
        assert_eq!(read(&region, everything()).await, [row("a", 1, f64::from(turn))]);
        drop(region);
        crash(engine).await;
    }
}

#[tokio::test]
async fn a_flush_moves_rows_and_releases_the_log() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    let wal = Arc::clone(&region.shared.parts.wal);
    region.flush().await.unwrap();
    let info = region.info();
    assert_eq!((info.files, info.file_rows, info.memtable_rows, info.memtable_bytes), (1, 1, 0, 0));
    assert_eq!(region.shared.budget.held(), 0);
    assert!(wal.regions().is_empty());
    region.flush().await.unwrap();
    assert_eq!(region.info().files, 1);
}

#[tokio::test]
async fn a_deleted_row_stays_gone_through_flushes_and_restarts() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0), row("a", 2, 2.0)]).await;
    region.flush().await.unwrap();
    region.write(request(&region, OpType::Delete, &[row("a", 1, 0.0)])).await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("a", 2, 2.0)]);
    region.flush().await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("a", 2, 2.0)]);
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("a", 2, 2.0)]);
}

#[tokio::test]
async fn a_row_outside_the_rule_refuses_the_batch_and_is_shown() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let below = Expr::Compare { column: ColumnId(0), op: CompareOp::Lt, value: Value::String("m".into()) };
    let region = engine.create_region(meta(below)).await.unwrap();
    let error = region.write(request(&region, OpType::Put, &[row("a", 1, 1.0), row("z", 1, 1.0)])).await.unwrap_err();
    assert!(matches!(&error, Error::OutsideRule { row, .. } if row.contains("host") && row.contains('z')), "{error}");
    assert!(read(&region, everything()).await.is_empty());
}

#[tokio::test]
async fn a_stale_route_is_refused_with_the_current_one() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    let mut stale = request(&region, OpType::Put, &[row("a", 1, 1.0)]);
    stale.rule_version = RuleVersion(tessera_manifest::id::Nonce(1));
    let current = region.meta().rule_version();
    assert!(matches!(region.write(stale).await, Err(Error::Stale { rule_version, .. }) if rule_version == current));
    assert!(region.shared.parts.wal.regions().is_empty());
}

#[tokio::test]
async fn files_outside_the_wanted_time_or_tag_are_skipped() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    for ts in 0..4 {
        put(&region, &[row(if ts < 2 { "a" } else { "b" }, ts * 1000, 1.0)]).await;
        region.flush().await.unwrap();
    }
    let by_time = Expr::Compare { column: ColumnId(1), op: CompareOp::GtEq, value: Value::Timestamp(2500) };
    let scan = region.scan(ScanRequest { filter: by_time, ..everything() }).await.unwrap();
    assert_eq!((scan.files.len(), scan.files_skipped), (1, 3));
    let by_tag = Expr::Compare { column: ColumnId(0), op: CompareOp::Eq, value: Value::String("a".into()) };
    let scan = region.scan(ScanRequest { filter: by_tag, ..everything() }).await.unwrap();
    assert_eq!((scan.files.len(), scan.files_skipped), (2, 2));
    let rows = read(&region, ScanRequest { limit: Some(3), ..everything() }).await;
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn a_dropped_region_is_gone_and_its_log_entries_too() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    engine.drop_region(REGION).await.unwrap();
    assert!(matches!(engine.region(REGION), Err(Error::RegionNotFound { .. })));
    assert!(matches!(region.write(request(&region, OpType::Put, &[row("a", 1, 1.0)])).await, Err(Error::Closed { .. })));
    engine.drop_region(REGION).await.unwrap();
    assert!(engine.open_region(REGION).await.is_err());
}

#[tokio::test]
async fn another_node_fences_the_old_one_at_its_next_commit() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    // Another opener with the same log, as after a fail-over that shares the disk.
    let context = region.shared.context.clone();
    tessera_manifest::log::Manifest::open(&context, REGION, region.shared.opener()).await.unwrap();
    assert!(matches!(region.flush().await, Err(Error::Fenced { .. })));
    assert!(matches!(region.scan(everything()).await, Err(Error::Fenced { .. })));
    assert!(matches!(region.write(request(&region, OpType::Put, &[row("a", 2, 1.0)])).await, Err(Error::Fenced { .. })));
}

#[tokio::test]
async fn a_region_whose_log_is_not_here_refuses_to_open_and_is_left_alone() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    drop(region);
    crash(engine).await;
    let elsewhere = TempDir::new().unwrap();
    let objects = |store: Arc<InMemory>| async move { store.list(None).try_collect::<Vec<_>>().await.unwrap().len() };
    let before = objects(Arc::clone(&node.store)).await;
    let engine = start(elsewhere.path(), Arc::clone(&node.store) as Arc<dyn ObjectStore>, Config::default()).await;
    let error = engine.open_region(REGION).await.unwrap_err();
    assert!(crate::error_chain(&error).contains("may have rows in the local wal"), "{}", crate::error_chain(&error));
    assert_eq!(objects(Arc::clone(&node.store)).await, before);
}

#[tokio::test]
async fn a_damaged_manifest_record_stops_its_region_only() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    let other = RegionId::new(TableId(1025), RegionNumber(0));
    engine.create_region(RegionMeta { region: other, ..meta(Expr::always()) }).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    drop(region);
    crash(engine).await;
    let path = Path::from("0000001024/0000000000/manifest/0000000001-00000000000000000000.json");
    let mut bytes = node.store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    node.store.put(&path, bytes.into()).await.unwrap();
    let engine = node.start().await;
    let opened = engine.open_regions(vec![REGION, other]).await;
    assert_eq!(opened.iter().filter(|(_, result)| result.is_ok()).count(), 1);
    let error = engine.region(REGION).unwrap_err();
    assert!(crate::error_chain(&error).contains(path.as_ref()), "{}", crate::error_chain(&error));
    assert!(engine.region(other).is_ok());
}

#[tokio::test]
async fn a_missing_sst_is_named() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    region.flush().await.unwrap();
    let sst = region.pin().state.files().keys().next().map(|key| region.shared.context.root.sst(key)).unwrap();
    node.store.delete(&sst).await.unwrap();
    let read: Result<Vec<_>, _> = region.scan(everything()).await.unwrap().into_stream().try_collect().await;
    assert!(crate::error_chain(&read.unwrap_err()).contains(sst.as_ref()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_beyond_the_budget_flushes_and_goes_on() {
    let config = Config { region_memtable_bytes: 64 << 10, memtable_bytes_max: 256 << 10, ..Config::default() };
    let node = Node::new(config);
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    let rows: Vec<_> = (0..500).map(|i| row(&format!("host_{i}"), 0, 1.0)).collect();
    for turn in 0..60 {
        let rows: Vec<_> = rows.iter().map(|r| vec![r[0].clone(), Value::Timestamp(turn), r[2].clone()]).collect();
        put(&region, &rows).await;
    }
    assert_eq!(read(&region, everything()).await.len(), 30_000);
    assert!(region.info().memtable_rows < 30_000, "nothing was flushed in the background");
    engine.close().await.unwrap();
    assert_eq!(region.shared.budget.held(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_flushes_and_scans_lose_nothing_and_double_nothing() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let region = Arc::clone(&region);
            tessera_manifest::env::spawn(async move {
                for ts in 0..50 {
                    put(&region, &[row(&format!("w{writer}"), ts, 1.0)]).await;
                    let seen = read(&region, everything()).await;
                    let own = seen.iter().filter(|row| row[0] == Value::String(format!("w{writer}"))).count();
                    assert_eq!(own as i64, ts + 1, "a scan missed or doubled an acknowledged row");
                }
            })
        })
        .collect();
    for _ in 0..20 {
        region.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(read(&region, everything()).await.len(), 200);
}

#[tokio::test]
async fn after_a_clean_close_the_log_is_not_needed() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    engine.close().await.unwrap();
    drop((engine, region));
    let elsewhere = TempDir::new().unwrap();
    let engine = start(elsewhere.path(), Arc::clone(&node.store) as Arc<dyn ObjectStore>, Config::default()).await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(read(&region, everything()).await, [row("a", 1, 1.0)]);
    put(&region, &[row("a", 1, 2.0)]).await;
    assert_eq!(read(&region, everything()).await, [row("a", 1, 2.0)]);
}

#[tokio::test]
async fn an_idle_region_does_not_keep_the_log_after_a_restart() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    region.flush().await.unwrap();
    drop(region);
    crash(engine).await;
    let engine = node.start().await;
    let region = engine.open_region(REGION).await.unwrap();
    assert!(region.shared.parts.wal.regions().is_empty());
    assert_eq!(read(&region, everything()).await, [row("a", 1, 1.0)]);
}

#[tokio::test]
async fn a_dropped_region_whose_log_entries_survived_is_forgotten_at_the_next_start() {
    let node = Node::new(Config::default());
    let engine = node.start().await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &[row("a", 1, 1.0)]).await;
    engine.drop_region(REGION).await.unwrap();
    let objects = |store: Arc<InMemory>| async move { store.list(None).try_collect::<Vec<_>>().await.unwrap().len() };
    drop(region);
    crash(engine).await;
    let before = objects(Arc::clone(&node.store)).await;
    let engine = node.start().await;
    assert!(matches!(engine.open_region(REGION).await, Err(Error::RegionNotFound { .. })));
    engine.forget_dropped().await;
    assert!(engine.wal().regions().is_empty());
    assert_eq!(objects(Arc::clone(&node.store)).await, before, "a dropped region was taken over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_whose_flush_failed_are_flushed_once_the_store_is_back() {
    let config = Config { region_memtable_bytes: 32 << 10, memtable_bytes_max: 128 << 10, ..Config::default() };
    let dir = TempDir::new().unwrap();
    let store = Arc::new(Outage::default());
    let engine = start(dir.path(), Arc::clone(&store) as Arc<dyn ObjectStore>, config).await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    store.down.store(true, Ordering::SeqCst);
    let rows: Vec<_> = (0..100).map(|i| row(&format!("host_{i}"), 0, 1.0)).collect();
    let writer = {
        let region = Arc::clone(&region);
        tessera_manifest::env::spawn(async move {
            for turn in 0..100 {
                let rows: Vec<_> = rows.iter().map(|r| vec![r[0].clone(), Value::Timestamp(turn), r[2].clone()]).collect();
                put(&region, &rows).await;
            }
        })
    };
    while region.shared.budget.held() < 128 << 10 {
        tokio::task::yield_now().await;
    }
    store.down.store(false, Ordering::SeqCst);
    writer.await.unwrap();
    assert_eq!(read(&region, everything()).await.len(), 10_000);
    engine.close().await.unwrap();
    assert_eq!(region.shared.budget.held(), 0);
}

/// A store that refuses writes while it is down, and does them without a word while it is mute.
#[derive(Debug, Default)]
struct Outage {
    inner: InMemory,
    down: std::sync::atomic::AtomicBool,
    mute: std::sync::atomic::AtomicBool,
}

fn no_answer() -> object_store::Error {
    object_store::Error::Generic { store: "Outage", source: "down".into() }
}

impl std::fmt::Display for Outage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outage")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Outage {
    async fn put_opts(
        &self,
        location: &Path,
        payload: object_store::PutPayload,
        opts: object_store::PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        if self.down.load(Ordering::SeqCst) {
            return Err(no_answer());
        }
        let done = self.inner.put_opts(location, payload, opts).await;
        if self.mute.load(Ordering::SeqCst) { Err(no_answer()) } else { done }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: object_store::GetOptions) -> object_store::Result<object_store::GetResult> {
        if self.mute.load(Ordering::SeqCst) {
            return Err(no_answer());
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<object_store::ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: object_store::CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Put(Vec<(u8, i64, i32)>),
    Delete(Vec<(u8, i64)>),
    Flush,
    Compact(bool),
    Crash,
    Close,
}

fn any_step() -> impl Strategy<Value = Step> {
    let key = (0_u8..5, 0_i64..6);
    prop_oneof![
        5 => proptest::collection::vec((0_u8..5, 0_i64..6, any::<i32>()), 1..8).prop_map(Step::Put),
        2 => proptest::collection::vec(key, 1..4).prop_map(Step::Delete),
        2 => Just(Step::Flush),
        2 => any::<bool>().prop_map(Step::Compact),
        1 => Just(Step::Crash),
        1 => Just(Step::Close),
    ]
}

/// Hosts with the awkward values among them.
fn host(index: u8) -> Value {
    match index {
        0 => Value::Null,
        1 => Value::String(String::new()),
        2 => Value::String("ü\u{1F600}".into()),
        other => Value::String(format!("host{other}")),
    }
}

async fn run_history(steps: Vec<Step>) {
    let node = Node::new(Config::default());
    let mut engine = node.start().await;
    let mut region = engine.create_region(meta(Expr::always())).await.unwrap();
    let mut model: BTreeMap<(Value, i64), Value> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Put(rows) => {
                let batch: Vec<_> =
                    rows.iter().map(|(h, ts, v)| vec![host(*h), Value::Timestamp(*ts), Value::Float(f64::from(*v))]).collect();
                put(&region, &batch).await;
                model.extend(rows.iter().map(|(h, ts, v)| ((host(*h), *ts), Value::Float(f64::from(*v)))));
            }
            Step::Delete(keys) => {
                let batch: Vec<_> = keys.iter().map(|(h, ts)| vec![host(*h), Value::Timestamp(*ts), Value::Null]).collect();
                region.write(request(&region, OpType::Delete, &batch)).await.unwrap();
                keys.iter().for_each(|(h, ts)| drop(model.remove(&(host(*h), *ts))));
            }
            Step::Flush => region.flush().await.unwrap(),
            Step::Compact(strict) => {
                let strategy = if strict { crate::compaction::Strategy::StrictWindow } else { crate::compaction::Strategy::Regular };
                engine.compact_region(REGION, strategy).await.unwrap();
            }
            Step::Crash | Step::Close => {
                drop(region);
                if matches!(step, Step::Close) {
                    engine.close().await.unwrap();
                    engine.open_region(REGION).await.unwrap();
                }
                crash(engine).await;
                engine = node.start().await;
                region = engine.open_region(REGION).await.unwrap();
            }
        }
        let expected: Vec<_> = model.iter().map(|((h, ts), v)| vec![h.clone(), Value::Timestamp(*ts), v.clone()]).collect();
        assert_eq!(read(&region, everything()).await, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        std::env::var("TESSERA_TEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(48)
    ))]

    /// Whatever is written, deleted, flushed, closed or crashed: a scan shows what a map would.
    #[test]
    fn a_region_behaves_like_a_map(steps in proptest::collection::vec(any_step(), 1..24)) {
        tokio::runtime::Runtime::new().unwrap().block_on(run_history(steps));
    }
}
