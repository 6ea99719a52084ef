//! Full disks, failing stores and too much load: what fails says why, reads go on, nothing acknowledged is lost, and
//! everything works again by itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload,
    PutResult,
};
use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{ColumnId, Epoch, NodeId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};
use tessera_manifest::wal::{WalId, WalPosition};

use super::tests::{REGION, crash, everything, meta, put, read, request, row, start};
use super::*;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::error_chain;
use crate::merge::fixtures::{MS, column};
use crate::request::{OpType, ScanRequest};
use crate::testing::{Fault, PlanStore};
use crate::wal::{EntryStream, LocalWal, LogStore, Options, Pending, WalError};

const OTHER: RegionId = RegionId::new(TableId(1025), RegionNumber(0));

fn small() -> Config {
    Config { region_memtable_bytes: 32 << 10, region_memtable_bytes_max: 96 << 10, memtable_bytes_max: 256 << 10, ..Config::default() }
}

fn rows_at(ts: i64) -> Vec<Vec<Value>> {
    (0..100).map(|i| row(&format!("host_{i}"), ts, 1.0)).collect()
}

/// Writes until a write is refused; how many batches went in, and the refusal.
async fn write_until_refused(region: &Arc<Region>, from: i64) -> (i64, Error) {
    let mut ts = from;
    loop {
        match region.write(request(region, OpType::Put, &rows_at(ts))).await {
            Ok(_) => ts += 1,
            Err(error) => return (ts, error),
        }
        assert!(ts < from + 10_000, "nothing is ever refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_region_whose_store_is_full_stalls_then_refuses_and_the_others_go_on() {
    let (dir, store) = (TempDir::new().unwrap(), PlanStore::new());
    let engine = start(dir.path(), Arc::new(store.clone()) as Arc<dyn ObjectStore>, small()).await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    let other = engine.create_region(RegionMeta { region: OTHER, ..meta(Expr::always()) }).await.unwrap();
    store.plan(|op| if op.verb == "put" && op.path.starts_with("0000001024/") { Fault::Refused } else { Fault::None });
    let (batches, error) = write_until_refused(&region, 0).await;
    assert!(matches!(error, Error::Overloaded { max, .. } if max == 96 << 10), "{error}");
    assert_eq!(error.class(), ErrorClass::Retry);
    assert_eq!(read(&region, everything()).await.len() as i64, batches * 100, "reads go on");
    for ts in 0..50 {
        put(&other, &rows_at(ts)).await;
    }
    assert!(other.info().memtable_rows < 5_000, "the other region is flushed");
    store.heal();
    put(&region, &rows_at(batches)).await;
    assert_eq!(read(&region, everything()).await.len() as i64, (batches + 1) * 100);
    engine.close().await.unwrap();
    assert_eq!((region.budget.held(), region.shared.budget.held()), (0, 0));
}

#[tokio::test]
async fn a_store_that_refuses_says_which_object_and_why() {
    let (dir, store) = (TempDir::new().unwrap(), PlanStore::new());
    let engine = start(dir.path(), Arc::new(store.clone()) as Arc<dyn ObjectStore>, Config::default()).await;
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &rows_at(0)).await;
    store.plan(|op| if op.verb == "put" && op.path.contains("/sst/") { Fault::Refused } else { Fault::None });
    let error = region.flush().await.unwrap_err();
    assert!(error_chain(&error).contains(".parquet") && error_chain(&error).contains("no space left"), "{}", error_chain(&error));
    assert_eq!(error.class(), ErrorClass::Unavailable);
    store.heal();
    region.flush().await.unwrap();
    store.plan(|op| if op.verb == "get" { Fault::Refused } else { Fault::None });
    let scan: Result<Vec<_>, _> = region.scan(everything()).await.unwrap().into_stream().try_collect().await;
    let error = scan.unwrap_err();
    assert!(error_chain(&error).contains(".parquet"), "{}", error_chain(&error));
    put(&region, &rows_at(1)).await;
    store.heal();
    assert_eq!(read(&region, everything()).await.len(), 200);
}

/// A log on a disk that is full now and then.
#[derive(Debug)]
struct FullWal {
    inner: LocalWal,
    full: AtomicBool,
}

#[async_trait]
impl LogStore for FullWal {
    fn id(&self) -> WalId {
        self.inner.id()
    }
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
    fn entry_bytes_max(&self) -> u64 {
        self.inner.entry_bytes_max()
    }
    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        if self.full.load(Ordering::SeqCst) {
            return Err(WalError::DiskFull { dir: PathBuf::from("/wal"), source: Arc::new(std::io::ErrorKind::StorageFull.into()) });
        }
        self.inner.submit(region, payload).await
    }
    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        self.inner.replay(region, after)
    }
    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        self.inner.regions()
    }
    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.inner.release(region, up_to);
    }
    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        self.inner.oldest_needed()
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
    async fn close(&self) -> Result<(), WalError> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn a_full_log_disk_refuses_writes_and_nothing_else() {
    let (dir, store) = (TempDir::new().unwrap(), PlanStore::new());
    let options = Options { segment_bytes: 1 << 20, ..Options::new(NodeId(1)) };
    let inner = LocalWal::open(dir.path(), options, Env::system()).await.unwrap();
    let wal = Arc::new(FullWal { inner, full: AtomicBool::new(false) });
    let parts = Parts {
        store: Arc::new(store.clone()),
        wal: Arc::clone(&wal) as Arc<dyn LogStore>,
        node: NodeId(1),
        env: Env::system(),
        config: Config::default(),
        read_set: None,
        reachable: None,
    };
    let engine = Engine::start(parts);
    let region = engine.create_region(meta(Expr::always())).await.unwrap();
    put(&region, &rows_at(0)).await;
    wal.full.store(true, Ordering::SeqCst);
    let error = region.write(request(&region, OpType::Put, &rows_at(1))).await.unwrap_err();
    assert!(matches!(&error, Error::Wal { source, .. } if matches!(**source, WalError::DiskFull { .. })), "{error}");
    assert_eq!(read(&region, everything()).await.len(), 100, "what was refused is not seen");
    region.flush().await.unwrap();
    wal.full.store(false, Ordering::SeqCst);
    put(&region, &rows_at(2)).await;
    assert_eq!(region.shared.budget.held(), region.info().memtable_bytes, "refused writes give their room back");
    drop((region, wal));
    crash(engine).await;
    let engine = start(dir.path(), Arc::new(store.clone()) as Arc<dyn ObjectStore>, Config::default()).await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(read(&region, everything()).await.len(), 200);
}

const CHILD: &str = "TESSERA_LOAD_TEST_CHILD";
const BUDGET_BYTES: usize = 16 << 20;

/// Runs itself again as a process that the kernel gives no more memory than a part of what is written.
#[test]
fn a_load_of_forty_times_the_budget_fits_into_a_hard_memory_limit() {
    if std::env::var_os(CHILD).is_some() {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(load());
        return;
    }
    let name = "region::fault_tests::a_load_of_forty_times_the_budget_fits_into_a_hard_memory_limit";
    // Private writable memory: the heap, and the stacks of threads.
    let limit = format!("--data={}", 24 * BUDGET_BYTES);
    let child = Command::new("prlimit")
        .arg(limit)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        // What is freed goes back to the system, or the limit would be one on fragmentation.
        .env("MALLOC_ARENA_MAX", "2")
        .env("MALLOC_MMAP_THRESHOLD_", "131072")
        .output();
    let Ok(child) = child else {
        assert!(std::env::var_os("CI").is_none() || !cfg!(target_os = "linux"), "there is no prlimit, which is in util-linux");
        eprintln!("skipped: there is no prlimit");
        return;
    };
    assert!(child.status.success(), "{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
}

async fn load() {
    const WRITERS: usize = 4;
    const ROW_BYTES: usize = 1 << 10;
    const BATCH_ROWS: usize = 256;
    let batches = 40 * BUDGET_BYTES / (ROW_BYTES * BATCH_ROWS);
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("store");
    std::fs::create_dir_all(&folder).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(LocalFileSystem::new_with_prefix(&folder).unwrap());
    let config = Config {
        region_memtable_bytes: BUDGET_BYTES / 4,
        memtable_bytes_max: BUDGET_BYTES,
        metadata_cache_bytes: 1 << 20,
        series_cache_bytes: 1 << 20,
        range_cache_bytes: 1 << 20,
        // One thing at a time, each of which may hold some row groups of 8 MiB.
        flush_parallelism: 1,
        ..Config::default()
    };
    let engine = start(&dir.path().join("wal"), Arc::clone(&store), config.clone()).await;
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "text", DataType::String, SemanticType::Field),
    ];
    let schema = Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap());
    let region = engine.create_region(RegionMeta { schema, ..meta(Expr::always()) }).await.unwrap();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let region = Arc::clone(&region);
            tessera_manifest::env::spawn(async move {
                let mut noise = writer as u64 + 1;
                for batch in (writer..batches).step_by(WRITERS) {
                    let line = |i| {
                        let (host, ts) = (Value::String(format!("host_{i}")), Value::Timestamp(batch as i64 * 600_000));
                        vec![host, ts, Value::String(text(&mut noise, ROW_BYTES))]
                    };
                    let rows: Vec<_> = (0..BATCH_ROWS).map(line).collect();
                    put(&region, &rows).await;
                    assert!(region.shared.budget.held() <= BUDGET_BYTES + WRITERS * 4 * ROW_BYTES * BATCH_ROWS);
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    engine.close().await.unwrap();
    assert_eq!(region.shared.budget.held(), 0);
    drop((engine, region));
    let engine = start(&dir.path().join("wal"), store, config).await;
    let region = engine.open_region(REGION).await.unwrap();
    let count = ScanRequest { projection: Some(vec![1]), ..everything() };
    let mut scan = region.scan(count).await.unwrap().into_stream();
    let mut rows = 0;
    while let Some(batch) = scan.try_next().await.unwrap() {
        rows += batch.num_rows();
    }
    assert_eq!(rows, batches * BATCH_ROWS);
}

/// Text that hardly compresses.
fn text(noise: &mut u64, bytes: usize) -> String {
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        *noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        text.push(char::from(b'!' + (*noise >> 33) as u8 % 90));
    }
    text
}

/// Requests to the store for the opening of a region that was closed cleanly, on average: two LISTs, the records since the last
/// checkpoint, the seal and the Open.
const REQUESTS_PER_OPEN_MAX: usize = 8;

/// `TESSERA_TEST_REGIONS=10000`, with `--no-capture`, prints what so many took.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_small_regions_open_in_parallel_by_few_requests() {
    let regions: u32 = std::env::var("TESSERA_TEST_REGIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("store");
    std::fs::create_dir_all(&folder).unwrap();
    let files = LocalFileSystem::new_with_prefix(&folder).unwrap().with_fsync(true);
    let store = Arc::new(CountedStore { inner: files, requests: Mutex::default() });
    let id = |number| RegionId::new(TableId(1024), RegionNumber(number));
    let engine = start(&dir.path().join("wal"), Arc::clone(&store) as Arc<dyn ObjectStore>, Config::default()).await;
    let watch = tessera_manifest::env::Stopwatch::start();
    let creates = futures::stream::iter(0..regions).map(|number| {
        let engine = engine.clone();
        tessera_manifest::env::spawn(async move {
            let region = engine.create_region(RegionMeta { region: id(number), ..meta(Expr::always()) }).await.unwrap();
            put(&region, &[row("a", i64::from(number), 1.0)]).await;
        })
    });
    creates.buffer_unordered(16).for_each(|created| async { created.unwrap() }).await;
    let created = watch.elapsed();
    let watch = tessera_manifest::env::Stopwatch::start();
    engine.close().await.unwrap();
    let closed = watch.elapsed();
    drop(engine);
    let engine = start(&dir.path().join("wal"), Arc::clone(&store) as Arc<dyn ObjectStore>, Config::default()).await;
    store.requests.lock().unwrap().clear();
    let watch = tessera_manifest::env::Stopwatch::start();
    let opened = engine.open_regions((0..regions).map(id).collect()).await;
    let took = watch.elapsed();
    assert!(opened.iter().all(|(_, region)| region.is_ok()));
    let requests = store.requests.lock().unwrap().clone();
    assert!(requests.values().sum::<usize>() <= regions as usize * REQUESTS_PER_OPEN_MAX, "{requests:?}");
    let each = |count: &usize| *count as f64 / f64::from(regions);
    let requests: BTreeMap<_, _> = requests.iter().map(|(verb, count)| (*verb, each(count))).collect();
    println!("{regions} regions: create and write {created:?}, close {closed:?}, open {took:?}; requests per open: {requests:?}");
    let watch = tessera_manifest::env::Stopwatch::start();
    drop(opened);
    engine.close().await.unwrap();
    drop(engine);
    let closed = watch.elapsed();
    dir.close().unwrap();
    println!("closing them again {closed:?}, removing their files {:?}", watch.elapsed() - closed);
}

/// Counts requests.
#[derive(Debug)]
struct CountedStore {
    inner: LocalFileSystem,
    requests: Mutex<BTreeMap<&'static str, usize>>,
}

impl CountedStore {
    fn count(&self, verb: &'static str) {
        *self.requests.lock().unwrap().entry(verb).or_default() += 1;
    }
}

impl std::fmt::Display for CountedStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for CountedStore {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        self.count("put");
        self.inner.put_opts(at, payload, options).await
    }
    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.count("get");
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, object_store::Result<Path>>) -> BoxStream<'static, object_store::Result<Path>> {
        self.count("delete");
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.count("list");
        self.inner.list(prefix)
    }
    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.count("list");
        self.inner.list_with_offset(prefix, offset)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.count("list");
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
