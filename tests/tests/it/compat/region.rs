//! A node with one region: rows in an SST and, unflushed, in the log, as a process that died left them.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tessera_engine::config::Config;
use tessera_engine::engine::{Engine, Parts};
use tessera_engine::error::Error;
use tessera_engine::region::Region;
use tessera_engine::request::{OpType, Order, ScanRequest, WriteRequest};
use tessera_engine::wal::{LocalWal, Options};
use tessera_manifest::id::NodeId;

use super::sample::{REGION, env, meta, rows};
use super::{copy_folder, flipped, path, replaced};
use crate::support::files;

const SSTS: &str = "store/0000001024/0000000007/sst";

async fn engine(dir: &Path, config: Config) -> Engine {
    let options = Options { segment_bytes: 16 << 10, ..Options::new(NodeId(1)) };
    let wal = LocalWal::open(&dir.join("wal"), options, env()).await.unwrap();
    fs::create_dir_all(dir.join("store")).unwrap();
    let store = LocalFileSystem::new_with_prefix(dir.join("store")).unwrap();
    Engine::start(Parts {
        store: Arc::new(store),
        wal: Arc::new(wal),
        node: NodeId(1),
        env: env(),
        config,
        read_set: None,
        reachable: None,
    })
}

async fn write(region: &Arc<Region>, op: OpType, batch: RecordBatch) {
    let meta = region.meta();
    region.write(WriteRequest { generation: meta.generation, rule_version: meta.rule_version(), batch, op }).await.unwrap();
}

async fn read(region: &Region) -> Result<String, Error> {
    let scan = region.scan(ScanRequest { order: Order::Key, ..ScanRequest::default() }).await?;
    let batches: Vec<RecordBatch> = scan.into_stream().try_collect().await?;
    Ok(pretty_format_batches(&batches).unwrap().to_string())
}

/// A copy of the golden node.
fn copy() -> TempDir {
    let dir = TempDir::new().unwrap();
    copy_folder(&path("node"), dir.path());
    dir
}

/// All messages of an error.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Changes the one SST of a copy and reads; the error.
async fn read_changed(change: impl Fn(&[u8]) -> Vec<u8>, config: Config) -> String {
    let dir = copy();
    let sst = files(&dir.path().join(SSTS), ".parquet").remove(0);
    fs::write(&sst, change(&fs::read(&sst).unwrap())).unwrap();
    let engine = engine(dir.path(), config).await;
    let region = engine.open_region(REGION).await.unwrap();
    let error = chain(&read(&region).await.unwrap_err());
    assert!(error.contains(sst.file_name().unwrap().to_str().unwrap()), "{error}");
    error
}

#[tokio::test]
#[ignore = "writes golden files that are missing"]
async fn write_missing_node() {
    if path("node").exists() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path(), Config::default()).await;
    let region = engine.create_region(meta()).await.unwrap();
    write(&region, OpType::Put, rows()).await;
    region.flush().await.unwrap();
    write(&region, OpType::Delete, rows().project(&[0, 1, 2]).unwrap().slice(0, 1)).await;
    write(&region, OpType::Put, rows().slice(1, 1)).await;
    for folder in ["wal", "store"] {
        copy_folder(&dir.path().join(folder), &path("node").join(folder));
    }
    fs::remove_file(path("node/wal/lock")).unwrap();
    for spare in files(&path("node/wal"), ".spare") {
        fs::remove_file(spare).unwrap();
    }
    fs::write(path("node/rows.txt"), read(&region).await.unwrap() + "\n").unwrap();
}

#[tokio::test]
async fn a_region_is_read_as_ever() {
    let dir = copy();
    let engine = engine(dir.path(), Config::default()).await;
    let region = engine.open_region(REGION).await.unwrap();
    assert_eq!(*region.meta(), meta());
    let info = region.info();
    assert_eq!((info.files, info.file_rows, info.memtable_rows), (1, 3, 2));
    let expected = fs::read_to_string(path("node/rows.txt")).unwrap();
    assert_eq!(read(&region).await.unwrap(), expected.trim_end());
    region.flush().await.unwrap();
    assert_eq!(read(&region).await.unwrap(), expected.trim_end());
    let two = pretty_format_batches(&[rows().slice(2, 1), rows().slice(1, 1)]).unwrap().to_string();
    assert_eq!(two, expected.trim_end(), "the golden rows are not those in the code");
}

#[tokio::test]
async fn an_sst_with_a_flipped_bit_is_refused() {
    let error = read_changed(|bytes| flipped(bytes, bytes.len() * 4), Config::default()).await;
    assert!(error.contains("damaged"), "{error}");
}

#[tokio::test]
async fn an_sst_for_newer_readers_is_refused_with_both_versions() {
    let newer = |bytes: &[u8]| replaced(bytes, b"tessera.min_reader\x18\x011", b"tessera.min_reader\x18\x012");
    let error = read_changed(newer, Config { verify_sst: false, ..Config::default() }).await;
    assert!(error.contains("format 2") && error.contains("up to 1"), "{error}");
}
