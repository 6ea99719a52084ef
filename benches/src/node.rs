//! An engine on a folder of the real disk, as a server has it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tessera_engine::compaction::Strategy;
use tessera_engine::config::Config;
use tessera_engine::engine::{Engine, Parts};
use tessera_engine::region::Region;
use tessera_engine::request::{OpType, ScanRequest, WriteRequest};
use tessera_engine::sst::sst_path;
use tessera_engine::wal::{LocalWal, LogStore, Options as WalOptions};
use tessera_manifest::env::{self, Env, Stopwatch};
use tessera_manifest::id::{Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;

use crate::Result;
use crate::counted::Counted;
use crate::cpu::{FIELDS, TIME, same_sum};
use crate::options::Options;

const NODE: NodeId = NodeId(1);
/// The region that everything is written to.
pub const REGION: RegionId = region_id(0);

/// A fresh folder on the disk that is measured.
///
/// # Errors
/// When it cannot be created.
pub fn folder(options: &Options) -> Result<TempDir> {
    let beside = || std::env::current_exe().ok()?.parent().map(Path::to_owned);
    let parent = options.dir.clone().or_else(beside).unwrap_or_else(std::env::temp_dir);
    std::fs::create_dir_all(&parent)?;
    Ok(tempfile::Builder::new().prefix("tessera-bench-").tempdir_in(parent)?)
}

/// The object store of a node in `dir`, with fsync.
///
/// # Errors
/// When the folder cannot be created.
pub fn store(dir: &Path) -> Result<Arc<dyn ObjectStore>> {
    let dir = dir.join("store");
    std::fs::create_dir_all(&dir)?;
    Ok(Arc::new(LocalFileSystem::new_with_prefix(dir)?.with_fsync(true)))
}

/// A synced local log in `dir`.
///
/// # Errors
/// The log's.
pub async fn wal(dir: &Path) -> Result<Arc<dyn LogStore>> {
    Ok(Arc::new(LocalWal::open(&dir.join("wal"), WalOptions::new(NODE), Env::system()).await?))
}

/// The region with a number.
#[must_use]
pub const fn region_id(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

/// A region that takes every row.
#[must_use]
pub fn region_meta(number: u32, schema: &Arc<Schema>) -> RegionMeta {
    RegionMeta {
        region: region_id(number),
        database: "bench".to_owned(),
        table: "cpu".to_owned(),
        schema: Arc::clone(schema),
        partition_columns: Vec::new(),
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    }
}

/// An engine with one empty region.
pub struct Node {
    dir: TempDir,
    engine: Engine,
    wal: Arc<dyn LogStore>,
    requests: Arc<AtomicUsize>,
    /// The region.
    pub region: Arc<Region>,
}

/// How long an ingest took.
#[derive(Debug, Clone, Copy)]
pub struct Ingest {
    /// Until the last row was acknowledged.
    pub acknowledged: Duration,
    /// Until every row was in an SST.
    pub flushed: Duration,
}

impl Node {
    /// Starts one in a fresh folder.
    ///
    /// # Errors
    /// The engine's and the log's.
    pub async fn start(options: &Options, schema: &Arc<Schema>, config: Config) -> Result<Self> {
        Self::start_with(options, schema, config, BTreeMap::new()).await
    }

    /// The same with options of the table.
    ///
    /// # Errors
    /// The engine's and the log's.
    pub async fn start_with(options: &Options, schema: &Arc<Schema>, config: Config, table: BTreeMap<String, String>) -> Result<Self> {
        let dir = folder(options)?;
        let requests = Arc::default();
        let (engine, wal) = engine(dir.path(), config, &requests).await?;
        let meta = RegionMeta { options: table, ..region_meta(0, schema) };
        let region = engine.create_region(meta).await?;
        Ok(Self { dir, engine, wal, requests, region })
    }

    /// Flushes, ends the engine, and starts another one, which has cached nothing.
    ///
    /// # Errors
    /// The engine's and the log's.
    pub async fn restart(self, config: Config) -> Result<Self> {
        let Self { dir, engine: before, wal, requests, region } = self;
        drop(region);
        before.close().await?;
        wal.close().await?;
        drop((before, wal));
        let (engine, wal) = engine(dir.path(), config, &requests).await?;
        let region = engine.open_region(REGION).await?;
        Ok(Self { dir, engine, wal, requests, region })
    }

    /// Requests to the object store so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Compacts until nothing is left to be done, and says how many bytes were written for each byte of a flush.
    ///
    /// # Errors
    /// The engine's.
    pub async fn settled_amplification(&self) -> Result<f64> {
        self.region.compact(Strategy::Regular).await?;
        Ok(self.engine.write_amplification())
    }

    /// Writes one batch and waits for the acknowledgement.
    ///
    /// # Errors
    /// The engine's.
    pub async fn put(&self, batch: RecordBatch) -> Result<()> {
        put(&self.region, batch).await
    }

    /// Writes the batches from several writers at once, each of which waits for its acknowledgements, and flushes.
    ///
    /// # Errors
    /// The engine's.
    pub async fn ingest(&self, batches: Arc<Vec<RecordBatch>>, writers: usize) -> Result<Ingest> {
        let watch = Stopwatch::start();
        let write = |writer: usize| {
            let (region, batches) = (Arc::clone(&self.region), Arc::clone(&batches));
            env::spawn(async move {
                for batch in batches.iter().skip(writer).step_by(writers) {
                    put(&region, batch.clone()).await?;
                }
                Result::Ok(())
            })
        };
        for writer in (0..writers).map(write).collect::<Vec<_>>() {
            writer.await??;
        }
        let acknowledged = watch.elapsed();
        self.region.flush().await?;
        Ok(Ingest { acknowledged, flushed: watch.elapsed() })
    }

    /// The SSTs of the region.
    ///
    /// # Errors
    /// The engine's.
    pub async fn files(&self) -> Result<Vec<PathBuf>> {
        let request = ScanRequest { projection: Some(Vec::new()), limit: Some(0), ..ScanRequest::default() };
        let scan = self.region.scan(request).await?;
        let path = |key| self.dir.path().join("store").join(sst_path(key).as_ref());
        Ok(scan.files.iter().map(|file| path(file.key)).collect())
    }

    /// Reads columns (display positions; `None` for all) of what satisfies `filter`; more may come.
    ///
    /// # Errors
    /// The engine's.
    pub async fn scan(&self, projection: Option<&[usize]>, filter: Expr) -> Result<Vec<RecordBatch>> {
        let request = ScanRequest { projection: projection.map(<[usize]>::to_vec), filter, ..ScanRequest::default() };
        Ok(self.region.scan(request).await?.into_stream().try_collect().await?)
    }

    /// Reads what a request asks for, stream after stream.
    ///
    /// # Errors
    /// The engine's.
    pub async fn read(&self, request: ScanRequest) -> Result<Vec<RecordBatch>> {
        Ok(self.region.scan(request).await?.into_stream().try_collect().await?)
    }

    /// Reads as [`scan`](Self::scan) does, keeps nothing, and counts rows.
    ///
    /// # Errors
    /// The engine's.
    pub async fn count(&self, projection: Option<&[usize]>) -> Result<usize> {
        let request = ScanRequest { projection: projection.map(<[usize]>::to_vec), ..ScanRequest::default() };
        let stream = self.region.scan(request).await?.into_stream();
        Ok(stream.try_fold(0, |rows, batch| std::future::ready(Ok(rows + batch.num_rows()))).await?)
    }

    /// Compares the rows of the region with what was written: their number and the sum of each field.
    ///
    /// # Errors
    /// When they differ.
    pub async fn check(&self, rows: usize, sum: impl Fn(usize) -> f64) -> Result<()> {
        let request = ScanRequest::default();
        let stream = self.region.scan(request).await?.into_stream();
        let total = stream.try_fold(Totals::default(), |totals, batch| std::future::ready(Ok(totals.add(&batch, TIME + 1)))).await?;
        total.check(rows, sum)
    }

    /// Flushes, closes and removes it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn close(self) -> Result<()> {
        drop(self.region);
        self.engine.close().await?;
        self.wal.close().await?;
        Ok(self.dir.close()?)
    }
}

async fn engine(dir: &Path, config: Config, requests: &Arc<AtomicUsize>) -> Result<(Engine, Arc<dyn LogStore>)> {
    let (store, wal) = (Arc::new(Counted::new(store(dir)?, requests)), wal(dir).await?);
    let parts = Parts { store, wal: Arc::clone(&wal), node: NODE, env: Env::system(), config, read_set: None, reachable: None };
    Ok((Engine::start(parts), wal))
}

/// Writes one batch into a region.
///
/// # Errors
/// The engine's.
pub async fn put(region: &Arc<Region>, batch: RecordBatch) -> Result<()> {
    let meta = region.meta();
    let request = WriteRequest { generation: meta.generation, rule_version: meta.rule_version(), batch, op: OpType::Put };
    region.write(request).await?;
    Ok(())
}

/// Rows and the sum of each field.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    rows: usize,
    sums: [f64; FIELDS.len()],
}

impl Totals {
    /// With a batch more, in which the fields begin at `first`; it may have only the first few.
    #[must_use]
    pub fn add(mut self, batch: &RecordBatch, first: usize) -> Self {
        self.rows += batch.num_rows();
        for (sum, column) in self.sums.iter_mut().zip(batch.columns().iter().skip(first)) {
            *sum += column.as_primitive::<Float64Type>().values().iter().sum::<f64>();
        }
        self
    }

    /// Compares them with what they should be.
    ///
    /// # Errors
    /// When they differ.
    pub fn check(&self, rows: usize, sum: impl Fn(usize) -> f64) -> Result<()> {
        if self.rows != rows {
            return Err(format!("check failed: {} rows came out, expected {rows}", self.rows).into());
        }
        for (field, actual) in self.sums.iter().enumerate() {
            let expected = sum(field);
            if !same_sum(*actual, expected) {
                return Err(format!("check failed: the sum of {} is {actual}, expected {expected}", FIELDS[field]).into());
            }
        }
        Ok(())
    }
}
