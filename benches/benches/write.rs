//! Write benchmarks; `--help` and the crate's documentation say what each line means.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;
use tessera_benches::cpu::{Cpu, TIME};
use tessera_benches::many::ManyRegions;
use tessera_benches::measure::{Times, repeat_both};
use tessera_benches::node::{self, Node, REGION, Totals};
use tessera_benches::options::Options;
use tessera_benches::report::{self, Line, Report};
use tessera_benches::{Result, limit};
use tessera_engine::codec;
use tessera_engine::config::Config;
use tessera_engine::engine::{Engine, Parts};
use tessera_engine::memtable::Memtable;
use tessera_engine::merge::{Dedup, Layout};
use tessera_engine::request::{OpType, WriteRequest};
use tessera_engine::sst::{self, Access, NewFile};
use tessera_manifest::env::{self, Env, Stopwatch};
use tessera_manifest::id::{Epoch, FileKey, Generation, NodeId, Sequence};
use tessera_manifest::rule::Expr;
use tokio::runtime::Runtime;

/// Rows a batch, writers.
const CASES: [(usize, usize); 4] = [(10_000, 1), (10_000, 4), (1_000, 1), (1_000, 4)];

fn main() -> ExitCode {
    report::main("write", run)
}

struct Bench<'a> {
    options: &'a Options,
    runtime: Runtime,
    cpu: Cpu,
    config: Config,
}

/// What is written without the engine, and how.
struct Bare {
    dir: TempDir,
    sorted: Vec<RecordBatch>,
    settings: WriterProperties,
}

impl Bare {
    fn write(&self) -> Result<Duration> {
        Ok(limit::parquet_write(self.dir.path(), &self.sorted, &self.settings)?.0)
    }
}

fn run(options: &Options, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let bench = Bench { options, runtime, cpu: Cpu::generate(options)?, config: Config::default() };
    let bare = bench.bare(report)?;
    for (rows, writers) in CASES {
        let batches = Arc::new(bench.cpu.arriving(options.order, rows)?);
        bench.ingest(report, &batches, writers, &bare)?;
    }
    for (rows, writers) in CASES {
        bench.wal(report, rows, writers)?;
    }
    bench.replay(report, 1)?;
    bench.replay(report, 4)?;
    bench.open_regions(report)?;
    bench.parts(report, &bare)
}

impl Bench<'_> {
    fn line(&self, report: &mut Report, name: &str, times: Times, limit: (&'static str, Times)) {
        report.add(Line { name: name.to_owned(), rows: self.cpu.rows(), times, limit: Some(limit) });
    }

    /// Loads everything once to learn the engine's encodings.
    fn bare(&self, report: &mut Report) -> Result<Bare> {
        let batches = Arc::new(self.cpu.arriving(self.options.order, 10_000)?);
        let settings = self.runtime.block_on(self.engine_settings(report, batches))?;
        let bare = Bare { dir: node::folder(self.options)?, sorted: self.cpu.sorted(10_000)?, settings };
        let (_, bytes) = limit::parquet_write(bare.dir.path(), &bare.sorted, &bare.settings)?;
        report.add_size("bare parquet file", bytes, self.cpu.rows());
        Ok(bare)
    }

    async fn engine_settings(&self, report: &mut Report, batches: Arc<Vec<RecordBatch>>) -> Result<WriterProperties> {
        let node = Node::start(self.options, self.cpu.schema(), self.config.clone()).await?;
        node.ingest(batches, 1).await?;
        node.check(self.cpu.rows(), |field| self.cpu.sum(field)).await?;
        let files = node.files().await?;
        let settings = limit::settings_of(files.first().ok_or("no file was flushed")?, &self.config)?;
        let sizes = files.iter().map(|file| Ok(std::fs::metadata(file)?.len())).collect::<Result<Vec<u64>>>()?;
        report.add_size(&format!("{} ssts of ingest", files.len()), sizes.iter().sum(), self.cpu.rows());
        report.add_count("amplification", node.settled_amplification().await?);
        node.close().await?;
        Ok(settings)
    }

    fn ingest(&self, report: &mut Report, batches: &Arc<Vec<RecordBatch>>, writers: usize, bare: &Bare) -> Result<()> {
        let rows = batches.first().map_or(0, RecordBatch::num_rows);
        let name = format!("ingest, {rows} x {writers}");
        if !self.options.wants(&name) {
            return Ok(());
        }
        let mut acknowledged = Vec::new();
        let work = || {
            let ingest = self.runtime.block_on(async {
                let node = Node::start(self.options, self.cpu.schema(), self.config.clone()).await?;
                let ingest = node.ingest(Arc::clone(batches), writers).await?;
                node.check(self.cpu.rows(), |field| self.cpu.sum(field)).await?;
                node.close().await?;
                Result::Ok(ingest)
            })?;
            acknowledged.push(ingest.acknowledged);
            Ok(ingest.flushed)
        };
        let (flushed, parquet) = repeat_both(self.options.runs, work, || bare.write())?;
        self.line(report, &name, flushed, ("bare parquet write", parquet));
        acknowledged.remove(0);
        self.line(report, "  acknowledged", Times::of(acknowledged)?, ("bare parquet write", parquet));
        Ok(())
    }

    fn wal(&self, report: &mut Report, rows: usize, writers: usize) -> Result<()> {
        let name = format!("wal append, {rows} x {writers}");
        if !self.options.wants(&name) {
            return Ok(());
        }
        let batches = Arc::new(self.cpu.arriving(self.options.order, rows)?);
        let payloads = batches.iter().map(|batch| Ok(encode(&self.cpu, batch)?.concat())).collect::<Result<Vec<Vec<u8>>>>()?;
        for (payload, batch) in payloads.iter().zip(batches.iter()) {
            let decoded = codec::decode(&payload.clone().into())?.to_batch(self.cpu.schema())?;
            if decoded.columns() != batch.columns() {
                return Err("check failed: an encoded batch decodes to another".into());
            }
        }
        let dir = node::folder(self.options)?;
        if writers == 1 {
            report.add_size(&format!("wal entries of {rows} rows"), payloads.iter().map(|p| p.len() as u64).sum(), self.cpu.rows());
        }
        let work = || self.runtime.block_on(self.append(Arc::clone(&batches), writers));
        let (times, limit) = repeat_both(self.options.runs, work, || limit::synced_append(dir.path(), &payloads))?;
        self.line(report, &name, times, ("one fdatasync a batch", limit));
        Ok(())
    }

    /// Opens regions all of whose rows are in the log.
    fn replay(&self, report: &mut Report, regions: u32) -> Result<()> {
        let name = if regions == 1 { "restart, replay".to_owned() } else { format!("restart, replay x {regions}") };
        if !self.options.wants(&name) {
            return Ok(());
        }
        let times = self.options.replay_times;
        let batches = self.cpu.arriving(self.options.order, 10_000)?;
        let payloads = batches.iter().map(|batch| Ok(encode(&self.cpu, batch)?.concat())).collect::<Result<Vec<_>>>()?;
        let bytes = payloads.iter().map(|payload| payload.len() as u64).sum::<u64>();
        report.add_size(&format!("{} MB of wal to replay", (bytes * u64::from(times)) >> 20), bytes, self.cpu.rows());
        let dir = node::folder(self.options)?;
        let bare = dir.path().join("bare.log");
        std::fs::write(&bare, payloads.concat())?;
        let sizes: Vec<usize> = payloads.iter().map(Vec::len).collect();
        drop(payloads);
        self.runtime.block_on(self.leave_in_log(&dir, &batches, regions))?;
        drop(batches);
        let work = || self.runtime.block_on(self.open(&dir, regions));
        let read = || {
            let watch = Stopwatch::start();
            for _ in 0..times {
                limit::read_pieces(&bare, &sizes, |payload| {
                    std::hint::black_box(codec::decode(&payload.into())?.to_batch(self.cpu.schema())?);
                    Ok(())
                })?;
            }
            Ok(watch.elapsed())
        };
        let (opened, read) = repeat_both(self.options.runs, work, read)?;
        let rows = self.cpu.rows() * times as usize;
        report.add(Line { name, rows, times: opened, limit: Some(("read and decode", read)) });
        Ok(())
    }

    /// Opens many small regions.
    fn open_regions(&self, report: &mut Report) -> Result<()> {
        let regions = self.options.open_regions;
        let name = format!("open {regions} regions");
        if !self.options.wants(&name) {
            return Ok(());
        }
        let dir = node::folder(self.options)?;
        let node = ManyRegions { dir: dir.path(), schema: self.cpu.schema(), config: &self.config, regions };
        let row = self.cpu.arriving(self.options.order, 1)?.swap_remove(0);
        self.runtime.block_on(node.create(row))?;
        let mut requests = 0;
        let work = || {
            let (took, counted) = self.runtime.block_on(node.open())?;
            requests = counted;
            Ok(took)
        };
        let limit = || limit::synced_files(dir.path(), regions, self.config.open_parallelism);
        let (times, limit) = repeat_both(self.options.runs, work, limit)?;
        report.add(Line { name, rows: 0, times, limit: Some(("one synced file each", limit)) });
        report.add_count("requests an open", requests as f64 / f64::from(regions));
        Ok(())
    }

    /// An engine that flushes nothing, on a folder that one before may have just left.
    async fn start(&self, dir: &TempDir) -> Result<Engine> {
        let bytes = usize::MAX / 4;
        let config = Config { region_memtable_bytes: bytes, memtable_bytes_max: bytes, wal_bytes_max: u64::MAX, ..self.config.clone() };
        let mut tries = 0;
        let wal = loop {
            match node::wal(dir.path()).await {
                Ok(wal) => break wal,
                Err(error) if tries == 1_000 => return Err(error),
                Err(_) => tries += 1,
            }
            env::sleep(Duration::from_millis(10)).await;
        };
        let store = node::store(dir.path())?;
        Ok(Engine::start(Parts { store, wal, node: NodeId(1), env: Env::system(), config, read_set: None, reachable: None }))
    }

    async fn leave_in_log(&self, dir: &TempDir, batches: &[RecordBatch], regions: u32) -> Result<()> {
        let engine = self.start(dir).await?;
        let mut open = Vec::new();
        for number in 0..regions {
            open.push(engine.create_region(node::region_meta(number, self.cpu.schema())).await?);
        }
        for _ in 0..self.options.replay_times {
            for (batch, region) in batches.iter().zip(open.iter().cycle()) {
                let (generation, rule_version) = (Generation::FIRST, region.meta().rule_version());
                region.write(WriteRequest { generation, rule_version, batch: batch.clone(), op: OpType::Put }).await?;
            }
        }
        Ok(())
    }

    async fn open(&self, dir: &TempDir, regions: u32) -> Result<Duration> {
        let engine = self.start(dir).await?;
        let watch = Stopwatch::start();
        let opened = engine.open_regions((0..regions).map(node::region_id).collect()).await;
        let elapsed = watch.elapsed();
        let mut rows = 0;
        for (_, region) in opened {
            rows += region?.info().memtable_rows;
        }
        let expected = self.cpu.rows() * self.options.replay_times as usize;
        if rows != expected {
            return Err(format!("check failed: {rows} rows were replayed, expected {expected}").into());
        }
        Ok(elapsed)
    }

    async fn append(&self, batches: Arc<Vec<RecordBatch>>, writers: usize) -> Result<Duration> {
        let dir = node::folder(self.options)?;
        let wal = node::wal(dir.path()).await?;
        let schema = self.cpu.schema();
        let watch = Stopwatch::start();
        let append = |writer: usize| {
            let (wal, batches, schema) = (Arc::clone(&wal), Arc::clone(&batches), Arc::clone(schema));
            env::spawn(async move {
                for batch in batches.iter().skip(writer).step_by(writers) {
                    let payload = codec::encode(&schema, OpType::Put, first_sequence()?, batch)?;
                    let position = wal.append(REGION, payload).await?;
                    wal.release(REGION, position);
                }
                Result::Ok(())
            })
        };
        for writer in (0..writers).map(append).collect::<Vec<_>>() {
            writer.await??;
        }
        let elapsed = watch.elapsed();
        wal.close().await?;
        dir.close()?;
        Ok(elapsed)
    }

    /// Memtable insert, sort and flush alone, on memtables as large as the engine lets them become.
    fn parts(&self, report: &mut Report, bare: &Bare) -> Result<()> {
        let runs = self.options.runs;
        let batches = self.cpu.arriving(self.options.order, 10_000)?;
        if self.options.wants("memtable insert") {
            let (insert, copy) = repeat_both(runs, || Ok(self.fill(&batches)?.1), || Ok(limit::copy(&batches)))?;
            self.line(report, "memtable insert", insert, ("one copy", copy));
        }
        let memtables = self.fill(&batches)?.0;
        drop(batches);
        let held: usize = memtables.iter().map(Memtable::bytes).sum();
        report.add_size(&format!("{} memtables", memtables.len()), held as u64, self.cpu.rows());
        if self.options.wants("sort and gather") {
            let (sort, parquet) = repeat_both(runs, || self.sort(&memtables), || bare.write())?;
            self.line(report, "sort and gather", sort, ("bare parquet write", parquet));
        }
        if self.options.wants("flush") {
            let (flush, parquet) = repeat_both(runs, || self.runtime.block_on(self.flush(&memtables)), || bare.write())?;
            self.line(report, "flush", flush, ("bare parquet write", parquet));
        }
        Ok(())
    }

    fn fill(&self, batches: &[RecordBatch]) -> Result<(Vec<Memtable>, Duration)> {
        let watch = Stopwatch::start();
        let mut memtables = vec![Memtable::new(Arc::clone(self.cpu.schema()))];
        let mut next = 1;
        for batch in batches {
            if memtables.last().is_none_or(|active| active.bytes() >= self.config.region_memtable_bytes) {
                memtables.push(Memtable::new(Arc::clone(self.cpu.schema())));
            }
            let sequence = Sequence::new(Generation::FIRST, next).ok_or("too many rows")?;
            next += batch.num_rows() as u64;
            memtables.last().ok_or("no memtable")?.insert(batch.clone(), OpType::Put, sequence)?;
        }
        Ok((memtables, watch.elapsed()))
    }

    fn sort(&self, memtables: &[Memtable]) -> Result<Duration> {
        let layout = Arc::new(Layout::merging(Arc::clone(self.cpu.schema()), None)?);
        let watch = Stopwatch::start();
        let mut batches = Vec::new();
        for memtable in memtables {
            for batch in memtable.snapshot().sorted(&layout, None)? {
                batches.push(batch?);
            }
        }
        let elapsed = watch.elapsed();
        let totals = batches.iter().fold(Totals::default(), |totals, batch| totals.add(batch, TIME + 1));
        totals.check(self.cpu.rows(), |field| self.cpu.sum(field))?;
        Ok(elapsed)
    }

    async fn flush(&self, memtables: &[Memtable]) -> Result<Duration> {
        let dir = node::folder(self.options)?;
        let access = Access::new(node::store(dir.path())?, &self.config);
        let watch = Stopwatch::start();
        let mut rows = 0;
        for memtable in memtables {
            let file = NewFile {
                key: FileKey { origin: REGION, file: Env::system().file_id(Epoch(1)) },
                schema: Arc::clone(self.cpu.schema()),
                level: 0,
                generation: Generation::FIRST,
                rule: Arc::new(Expr::always()),
                partition_columns: Vec::new(),
                skipping: std::collections::BTreeMap::new(),
            };
            let key = file.key;
            rows += sst::flush(&access, memtable.snapshot(), file, Dedup::LastRow).await?.ok_or("an empty memtable")?.rows;
            check_exists(dir.path(), key)?;
        }
        let elapsed = watch.elapsed();
        if rows != self.cpu.rows() as u64 {
            return Err(format!("check failed: {rows} rows were flushed, expected {}", self.cpu.rows()).into());
        }
        dir.close()?;
        Ok(elapsed)
    }
}

fn check_exists(dir: &Path, key: FileKey) -> Result<()> {
    let file = dir.join("store").join(sst::sst_path(key).as_ref());
    if file.exists() { Ok(()) } else { Err(format!("check failed: there is no file {}", file.display()).into()) }
}

fn first_sequence() -> Result<Sequence> {
    Ok(Sequence::new(Generation::FIRST, 1).ok_or("no first sequence")?)
}

fn encode(cpu: &Cpu, batch: &RecordBatch) -> Result<Vec<Vec<u8>>> {
    Ok(codec::encode(cpu.schema(), OpType::Put, first_sequence()?, batch)?.iter().map(|part| part.to_vec()).collect())
}
