//! Repartition benchmarks: how long nobody may write, how long what was written stays unseen, what is rewritten, and what
//! reads cost afterwards. `--help` says what each line means.
//!
//! Invariants:
//! - The steps are those of DESIGN section 8, as the procedure takes them: fences side by side, the decision object, one
//!   transaction of the metadata. Everything is on the local file system with fsync, metadata in redb.
//! - After each repartition the references of all regions are counted; reads are checked by their rows.

mod scans;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use clap::Parser;
use futures::TryStreamExt;
use futures::future::try_join_all;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tessera_benches::cpu::{Cpu, TIME};
use tessera_benches::delay::Delayed;
use tessera_benches::options::{Entropy, Options as CpuOptions, Order};
use tessera_benches::{Result, node, report};
use tessera_engine::compaction::Strategy;
use tessera_engine::config::Config;
use tessera_engine::engine::{Engine, Parts};
use tessera_engine::request::{OpType, ScanRequest, WriteRequest};
use tessera_engine::staging::{Drained, RemapRequest, RemapTarget, StageRequest, Staged};
use tessera_manifest::action::{Action, Edit, StageTarget};
use tessera_manifest::env::{Env, Stopwatch};
use tessera_manifest::file::{ColumnStats, FileMeta, FileRef, Scope};
use tessera_manifest::id::{ColumnId, Epoch, FileId, FileKey, Generation, NodeId, RegionId, RegionNumber, Sequence, Slot, TableId, TxnId};
use tessera_manifest::log::{Context, Manifest, Opener, Outcome};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::paths::Root;
use tessera_manifest::rule::{self, Expr};
use tessera_manifest::schema::Schema;
use tessera_manifest::txn::{self, Decided, Verdict};
use tessera_manifest::value::Value;
use tessera_metaclient::kv::{KvBackend, Op, RedbBackend, Txn};
use ulid::Ulid;

const TABLE: TableId = TableId(1024);
const NODE: NodeId = NodeId(1);
/// The tag that the table is partitioned on.
const HOST: ColumnId = ColumnId(0);
/// Half of the hosts of files that are only listed are below.
const LISTED_MIDDLE: &str = "host_5";

/// Repartitions of one region into two and back, on the local file system with fsync.
#[derive(Debug, Clone, Parser)]
#[command(version, after_help = LINES)]
struct Options {
    /// Sizes of the table, in files.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 100_000])]
    files: Vec<u64>,
    /// Repartitions that are timed for each size; the first is not.
    #[arg(long, default_value_t = 201, value_parser = clap::value_parser!(u32).range(2..))]
    repartitions: u32,
    /// Files of the table whose total time is told; 0 leaves it out.
    #[arg(long, default_value_t = 1_000_000)]
    large: u64,
    /// Milliseconds that each request of the delayed store takes longer; 0 leaves it out.
    #[arg(long, default_value_t = 50)]
    delay_ms: u64,
    /// Sizes of the table that is read before and after, in rows; 0 leaves it out.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 10_000_000])]
    rows: Vec<u64>,
    /// Scans of each table that are timed; one before them is not.
    #[arg(long, default_value_t = 21, value_parser = clap::value_parser!(u32).range(1..))]
    scans: u32,
    /// Folder for the files; a subfolder is made and removed. Defaults to cargo's target folder.
    #[arg(long, env = "TESSERA_BENCH_DIR")]
    dir: Option<std::path::PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Passed by cargo; without effect.
    #[arg(long, hide = true)]
    bench: bool,
}

const LINES: &str = "\
synced object      a small object put with fsync, nothing else: what the disk takes for each of the writes below
window p50, p99    from the first gate that closes until the first row is acknowledged under the new rules: the fences,
                   side by side, the decision object, one transaction of the metadata, and the row
staging p50        from there until that row is seen: drain, remap, publish, resolve
total              the whole repartition
rewritten          bytes of data files written by the repartition
delayed window     the window where each request to the store takes --delay-ms longer, and how many such delays it is
scan               one field and the time of all rows of the table after a split, while no compaction runs, and after
                   compaction has localized its files, beside a table that had the new rules from the start: medians of
                   --scans of both in turns; of files as they are flushed, at the same rows in both, and of those that a
                   compaction has left of them";

/// How large the table is.
#[derive(Debug, Clone, Copy)]
enum Size {
    Files(u64),
    Rows(u64),
}

impl Size {
    fn parts(self) -> (&'static str, u64) {
        match self {
            Self::Files(files) => ("files", files),
            Self::Rows(rows) => ("rows", rows),
        }
    }
}

/// One figure.
struct Line {
    of: Size,
    name: &'static str,
    value: f64,
    unit: &'static str,
}

fn main() -> ExitCode {
    let options = Options::parse();
    report::finish("repartition", options.json, run(&options), table)
}

fn run(options: &Options) -> Result<Json> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut lines = Vec::new();
    runtime.block_on(synced(options, &mut lines))?;
    for files in options.files.clone() {
        runtime.block_on(windows(options, files, &mut lines))?;
    }
    if options.delay_ms > 0 {
        runtime.block_on(delayed(options, &mut lines))?;
    }
    if options.large > 0 {
        runtime.block_on(large(options, &mut lines))?;
    }
    for rows in options.rows.iter().filter(|rows| **rows > 0) {
        runtime.block_on(scans::scans(options, *rows, &mut lines))?;
    }
    let machine = tessera_benches::machine::Machine::read();
    let shown = lines.iter().map(|line| {
        let (unit, count) = line.of.parts();
        json!({ unit: count, "name": line.name, "value": line.value, "unit": line.unit })
    });
    Ok(json!({ "target": "repartition", "machine": machine.to_json(), "lines": shown.collect::<Vec<_>>() }))
}

fn table(report: &Json) -> String {
    let head = format!("repartition: {}\n{:>14}  {:<34} {:>12}", report["machine"], "table", "what", "");
    let line = |line: &Json| {
        let (name, unit) = (line["name"].as_str().unwrap_or_default(), line["unit"].as_str().unwrap_or_default());
        let of = ["files", "rows"].iter().find_map(|of| Some(format!("{} {of}", line.get(*of)?))).unwrap_or_default();
        format!("{of:>14}  {name:<34} {:>12.2} {unit}", line["value"].as_f64().unwrap_or_default())
    };
    let lines = report["lines"].as_array().map(|lines| lines.iter().map(line).collect::<Vec<_>>()).unwrap_or_default();
    std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n")
}

/// What one repartition took.
#[derive(Debug, Clone, Copy)]
struct Took {
    window: Duration,
    staging: Duration,
    total: Duration,
    /// References of all targets.
    references: u64,
}

/// A table in an engine, with its routes in redb.
struct World {
    folder: TempDir,
    engine: Engine,
    context: Context,
    kv: Arc<dyn KvBackend>,
    schema: Arc<Schema>,
    /// The host at which it is split.
    middle: &'static str,
    /// The regions, their generations and rules.
    regions: Vec<(RegionId, Generation, Arc<Expr>)>,
    next_region: u32,
    next_generation: u32,
    row: RecordBatch,
}

fn region(number: u32) -> RegionId {
    RegionId::new(TABLE, RegionNumber(number))
}

fn generation(number: u32) -> Result<Generation> {
    Ok(Generation::new(number).ok_or("generations are used up")?)
}

/// The name of the repartition that draws this generation.
fn txn(generation: u32) -> TxnId {
    TxnId(Ulid(u128::from(generation) << 64 | 1))
}

fn cpu(options: &Options, hosts: u32, rows: u64) -> Result<Cpu> {
    let options = CpuOptions {
        hosts,
        rows,
        interval_ms: 10_000,
        order: Order::Time,
        entropy: Entropy::Low,
        seed: 1,
        runs: 3,
        dir: options.dir.clone(),
        ..CpuOptions::parse_from(["repartition"])
    };
    Cpu::generate(&options)
}

fn meta(schema: &Arc<Schema>, number: u32, rule: Arc<Expr>) -> RegionMeta {
    RegionMeta {
        region: region(number),
        database: "bench".into(),
        table: "cpu".into(),
        schema: Arc::clone(schema),
        partition_columns: vec![HOST],
        rule,
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    }
}

/// The hosts below a name, and the others.
fn halves(middle: &str, schema: &Schema) -> Result<[Arc<Expr>; 2]> {
    let low = rule::parse(&format!("hostname < '{middle}'"), schema)?;
    let high = rule::parse(&format!("hostname >= '{middle}'"), schema)?;
    Ok([Arc::new(low), Arc::new(high)])
}

impl World {
    /// A table of one region with so many files that are only listed; `delay` slows each request to the store once
    /// they are.
    async fn listed(options: &Options, files: u64, delay: Duration) -> Result<Self> {
        let folder = folder(options)?;
        let cpu = cpu(options, 1, 1)?;
        let schema = Arc::clone(cpu.schema());
        let plain = node::store(folder.path())?;
        let context = Context::new(Arc::clone(&plain), Root::default(), Env::system());
        let opener = Opener { node: NODE, wal: None };
        let mut manifest = Manifest::create(&context, Arc::new(meta(&schema, 0, Arc::new(Expr::always()))), opener).await?;
        for from in (0..files).step_by(20_000) {
            let add = (from..files.min(from + 20_000)).map(file).collect::<Result<Vec<_>>>()?;
            let sequence = add.last().map(|file| file.meta.sequences.1);
            let edit = Edit { add, sequence, ..Edit::new(Generation::FIRST) };
            let Outcome::Committed(_) = manifest.commit(vec![Action::Edit(edit)]).await? else {
                return Err("the files could not be listed".into());
            };
        }
        manifest.checkpoint().await?;
        drop(manifest);
        let store: Arc<dyn ObjectStore> = if delay.is_zero() { plain } else { Arc::new(Delayed::new(plain, delay)) };
        let world = Self::open(folder, store, &cpu, LISTED_MIDDLE).await?;
        world.engine.open_region(region(0)).await?;
        Ok(world)
    }

    async fn open(folder: TempDir, store: Arc<dyn ObjectStore>, cpu: &Cpu, middle: &'static str) -> Result<Self> {
        let wal = node::wal(folder.path()).await?;
        let context = Context::new(Arc::clone(&store), Root::default(), Env::system());
        let kv: Arc<dyn KvBackend> = Arc::new(RedbBackend::open(folder.path().join("meta.redb")).await?);
        // Compactions would want the files that are only listed.
        let config = Config { compaction_parallelism: 1, ..Config::default() };
        let engine = Engine::start(Parts { store, wal, node: NODE, env: Env::system(), config, read_set: None, reachable: None });
        let row = cpu.in_time_order(1).next().ok_or("no row")??;
        Ok(Self {
            folder,
            engine,
            context,
            kv,
            schema: Arc::clone(cpu.schema()),
            middle,
            regions: vec![(region(0), Generation::FIRST, Arc::new(Expr::always()))],
            next_region: 1,
            next_generation: 2,
            row,
        })
    }

    /// One region into two, or two into one.
    async fn turn(&mut self) -> Result<Took> {
        let to = if self.regions.len() == 1 { halves(self.middle, &self.schema)?.to_vec() } else { vec![Arc::new(Expr::always())] };
        self.repartition(to).await
    }

    async fn repartition(&mut self, rules: Vec<Arc<Expr>>) -> Result<Took> {
        let watch = Stopwatch::start();
        let txn = self::txn(self.next_generation);
        let (commit, abort) = (generation(self.next_generation)?, generation(self.next_generation + 1)?);
        self.next_generation += 2;
        let sources = self.regions.clone();
        // The first target keeps the first source's number.
        let mut targets = Vec::new();
        for (at, rule) in rules.into_iter().enumerate() {
            let kept = sources.get(at).filter(|_| at == 0).map(|(id, ..)| *id);
            targets.push((kept.unwrap_or_else(|| region(self.next_region)), rule));
            self.next_region += u32::from(kept.is_none());
        }
        let request = |id: RegionId, base| {
            let target = targets.iter().find(|(target, _)| *target == id);
            let target = target.map(|(_, rule)| StageTarget { rule: Arc::clone(rule), partition_columns: vec![HOST] });
            StageRequest { region: id, txn, base, generation: commit, abort, target, schema_version: self.schema.version() }
        };
        let mut stages: Vec<Staged> = Vec::new();
        for (id, _) in targets.iter().filter(|(id, _)| sources.iter().all(|(source, ..)| source != id)) {
            let meta = meta(&self.schema, id.number().0, Arc::new(Expr::never()));
            stages.push(self.engine.create_staged(meta, request(*id, Generation::FIRST)).await?);
        }
        for (id, ..) in &sources {
            self.engine.prepare(*id, txn).await?;
        }
        self.engine.dry_run(&targets, &sources.iter().map(|(id, ..)| *id).collect::<Vec<_>>()).await?;

        let fence = Stopwatch::start();
        stages.extend(try_join_all(sources.iter().map(|(id, base, _)| self.engine.stage(request(*id, *base)))).await?);
        let decided = self.decide(txn, commit, abort, &stages).await?;
        self.publish("write", &targets).await?;
        self.write(&targets, commit).await?;
        let window = fence.elapsed();

        let drains = try_join_all(sources.iter().map(|(id, ..)| self.engine.drain(*id, txn))).await?;
        let references = self.remap(txn, &targets, &stages, drains).await?;
        self.publish("read", &targets).await?;
        let bases = sources.iter().map(|(id, base, _)| (*id, *base));
        let new = targets.iter().filter(|(id, _)| sources.iter().all(|(source, ..)| source != id)).map(|(id, _)| (*id, Generation::FIRST));
        let all: Vec<(RegionId, Generation)> = bases.chain(new).collect();
        try_join_all(all.iter().map(|(id, base)| self.engine.resolve(*id, txn, *base, &decided))).await?;
        let staging = fence.elapsed().saturating_sub(window);
        self.regions = targets.into_iter().map(|(id, rule)| (id, commit, rule)).collect();
        Ok(Took { window, staging, total: watch.elapsed(), references })
    }

    async fn decide(&self, txn: TxnId, commit: Generation, abort: Generation, stages: &[Staged]) -> Result<Decided> {
        let stages: Vec<(RegionId, Slot)> = stages.iter().map(|staged| (staged.region, staged.version)).collect();
        let proposal = Decided { txn, table: TABLE, commit, abort, verdict: Verdict::Commit { stages } };
        Ok(txn::decide(&self.context, proposal).await?)
    }

    /// As many puts as a publication of the routes has, and the row of the procedure.
    async fn publish(&self, set: &str, targets: &[(RegionId, Arc<Expr>)]) -> Result<()> {
        let puts = targets.iter().map(|(id, rule)| {
            let text = rule.display(&self.schema).to_string();
            Op::put(format!("route/{set}/{id}"), text)
        });
        let row = Op::put("procedure/row/bench", vec![0_u8; 2_000]);
        self.kv.txn(Txn::new().then(puts.chain([row]))).await?;
        Ok(())
    }

    /// A row under the new rules.
    async fn write(&self, targets: &[(RegionId, Arc<Expr>)], commit: Generation) -> Result<()> {
        for (id, rule) in targets {
            if rule.filter(&self.row, &self.schema)?.value(0) {
                let request = WriteRequest { generation: commit, rule_version: rule.version(), batch: self.row.clone(), op: OpType::Put };
                self.engine.region(*id)?.write(request).await?;
            }
        }
        Ok(())
    }

    async fn remap(&self, txn: TxnId, targets: &[(RegionId, Arc<Expr>)], stages: &[Staged], sources: Vec<Drained>) -> Result<u64> {
        let epoch = |id: RegionId| stages.iter().find(|staged| staged.region == id).map(|staged| staged.version.epoch);
        let targets: Option<Vec<RemapTarget>> =
            targets.iter().map(|(id, rule)| Some(RemapTarget { region: *id, epoch: epoch(*id)?, rule: Arc::clone(rule) })).collect();
        let request = RemapRequest { txn, targets: targets.ok_or("a target is not staged")?, sources };
        let remaps = self.engine.remap(request).await?;
        let applied = try_join_all(remaps.into_iter().map(|(id, remap)| self.engine.apply_remap(id, remap))).await?;
        Ok(applied.iter().map(|applied| applied.references).sum())
    }

    /// Flushes, and lets no compaction run until it is released.
    async fn hold_compactions(&self, txn: TxnId) -> Result<()> {
        for (id, ..) in &self.regions {
            self.engine.prepare(*id, txn).await?;
        }
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        for (id, ..) in &self.regions {
            self.engine.region(*id)?.flush().await?;
        }
        Ok(())
    }

    /// Lets compactions run that somebody holds, and waits for one of each region.
    async fn compact(&self, holder: TxnId) -> Result<()> {
        for (id, ..) in &self.regions {
            self.engine.release(*id, holder);
            self.engine.compact_region(*id, Strategy::default()).await?;
        }
        Ok(())
    }

    /// That the second region still reads files of the first.
    async fn check_foreign(&self) -> Result<()> {
        let (second, ..) = self.regions.last().ok_or("no region")?;
        let scan = self.engine.region(*second)?.scan(ScanRequest::default()).await?;
        let foreign = scan.files.iter().any(|file| file.key.origin != *second);
        if foreign { Ok(()) } else { Err("check failed: the files were localized before they were read".into()) }
    }

    async fn close(self) -> Result<()> {
        self.engine.close().await?;
        drop(self.kv);
        Ok(self.folder.close()?)
    }

    async fn count(&self) -> Result<usize> {
        let mut rows = 0;
        for (id, ..) in &self.regions {
            let request = ScanRequest { projection: Some(vec![TIME, TIME + 1]), ..ScanRequest::default() };
            let stream = self.engine.region(*id)?.scan(request).await?.into_stream();
            rows += stream.try_fold(0, |rows, batch| std::future::ready(Ok(rows + batch.num_rows()))).await?;
        }
        Ok(rows)
    }
}

fn folder(options: &Options) -> Result<TempDir> {
    let options = CpuOptions { dir: options.dir.clone(), ..CpuOptions::parse_from(["repartition"]) };
    node::folder(&options)
}

/// A file as a flush leaves it: some hours of one of a thousand ranges of hosts.
fn file(n: u64) -> Result<Arc<FileRef>> {
    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7);
    let name = FileId::new(Epoch(1), Ulid(u128::from(1_700_000_000_000 + n) << 80 | u128::from(random)));
    let time = 1_700_000_000_000_i64 + i64::try_from(n)? * 3_600_000;
    let sequence = |counter| Sequence::new(Generation::FIRST, counter).ok_or("too many rows");
    let host = |n: u64| Value::String(format!("host_{:04}", n * 10 % 10_000));
    let range = (host(n % 1000), host(n % 1000 + 7));
    let range = if range.0 <= range.1 { range } else { (range.1, range.0) };
    let stats = ColumnStats { column: HOST, range: Some(range), has_null: false, has_nan: false };
    let meta = FileMeta {
        time_range: (time, time + 3_599_000),
        rows: 100_000,
        deletes: 0,
        bytes: 1_000_000,
        sequences: (sequence(n * 100_000)?, sequence(n * 100_000 + 99_999)?),
        level: 1,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [stats].into(),
        crc32: n as u32,
    };
    Ok(Arc::new(FileRef { key: FileKey { origin: region(0), file: name }, scope: Scope::all(), meta }))
}

fn percentile(values: &[Duration], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() - 1) as f64 * part).ceil() as usize;
    sorted[at].as_secs_f64() * 1e3
}

/// What a durable object costs here: the limit of whatever writes some.
async fn synced(options: &Options, lines: &mut Vec<Line>) -> Result<()> {
    let folder = folder(options)?;
    let store = node::store(folder.path())?;
    let mut took = Vec::new();
    for n in 0..1_000 {
        let watch = Stopwatch::start();
        store.put(&format!("object/{n}").into(), vec![0_u8; 1_000].into()).await?;
        took.push(watch.elapsed());
    }
    for (name, part) in [("synced object p50", 0.5), ("synced object p99", 0.99)] {
        lines.push(Line { of: Size::Files(1), name, value: percentile(&took, part), unit: "ms" });
    }
    Ok(folder.close()?)
}

async fn windows(options: &Options, files: u64, lines: &mut Vec<Line>) -> Result<()> {
    let mut world = World::listed(options, files, Duration::ZERO).await?;
    let before = data_bytes(&world.folder.path().join("store"))?;
    let mut took = Vec::new();
    for _ in 0..options.repartitions {
        let one = world.turn().await?;
        if one.references < files {
            return Err(format!("{} references of {files} files are left", one.references).into());
        }
        took.push(one);
    }
    took.remove(0);
    let all = |of: fn(&Took) -> Duration| took.iter().map(of).collect::<Vec<_>>();
    let (window, staging, total) = (all(|took| took.window), all(|took| took.staging), all(|took| took.total));
    lines.push(Line { of: Size::Files(files), name: "window p50", value: percentile(&window, 0.5), unit: "ms" });
    lines.push(Line { of: Size::Files(files), name: "window p99", value: percentile(&window, 0.99), unit: "ms" });
    lines.push(Line { of: Size::Files(files), name: "staging p50", value: percentile(&staging, 0.5), unit: "ms" });
    lines.push(Line { of: Size::Files(files), name: "total p50", value: percentile(&total, 0.5), unit: "ms" });
    // The row that each repartition writes is flushed by the next; that is no data of before.
    let rewritten = data_bytes(&world.folder.path().join("store"))?.saturating_sub(before);
    lines.push(Line {
        of: Size::Files(files),
        name: "written for rows of the windows",
        value: rewritten as f64 / took.len() as f64 / 1024.0,
        unit: "KiB each",
    });
    world.close().await
}

async fn delayed(options: &Options, lines: &mut Vec<Line>) -> Result<()> {
    let delay = Duration::from_millis(options.delay_ms);
    let mut world = World::listed(options, 1_000, delay).await?;
    let mut window = Vec::new();
    for _ in 0..7 {
        window.push(world.turn().await?.window);
    }
    let median = percentile(&window[1..], 0.5);
    lines.push(Line { of: Size::Files(1_000), name: "delayed window p50", value: median, unit: "ms" });
    lines.push(Line {
        of: Size::Files(1_000),
        name: "  store round trips in it",
        value: (median / options.delay_ms as f64).floor(),
        unit: "",
    });
    world.close().await
}

async fn large(options: &Options, lines: &mut Vec<Line>) -> Result<()> {
    let mut world = World::listed(options, options.large, Duration::ZERO).await?;
    for name in ["total, split", "total, merge"] {
        let took = world.turn().await?;
        lines.push(Line { of: Size::Files(options.large), name, value: took.total.as_secs_f64(), unit: "s" });
        lines.push(Line { of: Size::Files(options.large), name: "  window", value: took.window.as_secs_f64() * 1e3, unit: "ms" });
    }
    world.close().await
}

/// Bytes of all SSTs below a folder.
fn data_bytes(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.file_type()?.is_dir() {
            true => data_bytes(&entry.path())?,
            false if folder.ends_with("sst") => entry.metadata()?.len(),
            false => 0,
        };
    }
    Ok(bytes)
}
