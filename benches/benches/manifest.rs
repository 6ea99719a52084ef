//! Manifest benchmarks: what a commit, a checkpoint, an open and a lookup cost in a region of many files, on the local
//! file system with fsync. `--help` says what each line means.
//!
//! Invariants:
//! - Every open is checked to show as many files as were committed.
//! - CPU is that of all threads of the process, from the kernel's own count; heap is what the allocator was asked for.

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use object_store::local::LocalFileSystem;
use serde_json::{Value as Json, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tempfile::TempDir;
use tessera_benches::Result;
use tessera_benches::machine::Machine;
use tessera_manifest::action::{Action, Edit};
use tessera_manifest::env::{Env, Stopwatch};
use tessera_manifest::file::{ColumnStats, FileMeta, FileRef, Scope};
use tessera_manifest::id::{ColumnId, Epoch, FileId, FileKey, Generation, NodeId, RegionId, RegionNumber, Sequence, TableId};
use tessera_manifest::log::{self, Context, Manifest, Opener, Outcome, Settings};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::paths::Root;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};
use ulid::Ulid;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
const OPENER: Opener = Opener { node: NodeId(1), wal: None };

/// Manifests of many files: commits, checkpoints, opens and lookups, on the local file system with fsync.
#[derive(Debug, Clone, Parser)]
#[command(version, after_help = LINES)]
struct Options {
    /// Sizes of regions, in files.
    #[arg(long, env = "TESSERA_BENCH_FILES_LIST", value_delimiter = ',', default_values_t = [100, 10_000, 100_000, 1_000_000])]
    files: Vec<u64>,
    /// Commits that are timed for each size.
    #[arg(long, env = "TESSERA_BENCH_COMMITS", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(2..))]
    commits: u32,
    /// Opens that are timed for each size.
    #[arg(long, env = "TESSERA_BENCH_RUNS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Folder for the files; a subfolder is made and removed. Defaults to cargo's target folder.
    #[arg(long, env = "TESSERA_BENCH_DIR")]
    dir: Option<PathBuf>,
    /// Print one JSON object instead of a table.
    #[arg(long, env = "TESSERA_BENCH_JSON")]
    json: bool,
    /// Passed by cargo; without effect.
    #[arg(long, hide = true)]
    bench: bool,
}

const LINES: &str = "\
commit p50, p99       one record that adds a file and removes one: one synced PUT
commit cpu            CPU of all threads per commit, the runtime's included
apply cpu             the part of it that grows with the region, if any: the new state, without I/O
commit bytes          size of the record
checkpoint bytes      bytes written by the checkpoint that these commits make due, per commit; and as a share of
                      all segments
open wall, cpu        reading the newest state: LIST, checkpoint, segments, tail; nothing cached but by the system
heap per file         live heap of that state over its files
lookup                finding a file by its id, in random order; and that with what is known of the file, in an
                      allocation of its own
With the feature `peers`, delta-rs and Lance open a table of as many files and append one file to it, by their Python
packages (TESSERA_PYTHON names the interpreter).";

/// One figure.
struct Line {
    files: u64,
    name: &'static str,
    value: f64,
    unit: &'static str,
}

struct Bench {
    options: Options,
    runtime: tokio::runtime::Runtime,
    lines: Vec<Line>,
    /// Kept until the end: a file system that has just deleted much is slower at creating.
    folders: Vec<TempDir>,
}

#[expect(clippy::print_stdout, reason = "a benchmark's output is what it is for")]
fn main() -> ExitCode {
    let options = Options::parse();
    let json = options.json;
    match run(options) {
        Ok(bench) => {
            let machine = Machine::read();
            if json {
                let line = |l: &Line| json!({ "files": l.files, "name": l.name, "value": l.value, "unit": l.unit });
                let lines: Vec<Json> = bench.lines.iter().map(line).collect();
                println!("{}", json!({ "target": "manifest", "machine": machine.to_json(), "lines": lines }));
                return ExitCode::SUCCESS;
            }
            println!("manifest: commit {}, {}, {} cores, {} GiB", machine.commit, machine.cpu, machine.cores, machine.memory_bytes >> 30);
            println!("{:>9}  {:<32} {:>12}", "files", "what", "");
            for Line { files, name, value, unit } in &bench.lines {
                println!("{files:>9}  {name:<32} {value:>12.2} {unit}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("manifest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<Bench> {
    // One thread: CPU then is the time of the work, not of threads that look for work.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut bench = Bench { options, runtime, lines: Vec::new(), folders: Vec::new() };
    for files in bench.options.files.clone() {
        bench.size(files)?;
        if cfg!(feature = "peers") && files <= 100_000 {
            bench.peers(files)?;
        }
    }
    Ok(bench)
}

/// CPU time of all threads of the process.
fn cpu() -> Result<Duration> {
    let mut nanos = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split_whitespace().next().ok_or("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

fn heap() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn meta() -> Result<Arc<RegionMeta>> {
    let column = |id, name: &str, data_type, semantic, nullable| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        semantic,
        nullable,
        default: None,
        comment: None,
    };
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag, true),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex, false),
    ];
    Ok(Arc::new(RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "cpu".into(),
        schema: Arc::new(Schema::new(columns, vec![ColumnId(0)])?),
        partition_columns: vec![ColumnId(0)],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    }))
}

/// The name of the n-th file: as random in its low bits as real ones are.
fn key(epoch: u32, n: u64) -> FileKey {
    let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (n << 7);
    FileKey { origin: REGION, file: FileId::new(Epoch(epoch), Ulid(u128::from(1_700_000_000_000 + n) << 80 | u128::from(random))) }
}

/// A file as a flush leaves it: an hour of data of one of a thousand ranges of hosts.
fn file(epoch: u32, n: u64) -> Result<Arc<FileRef>> {
    let time = 1_700_000_000_000_i64 + i64::try_from(n)? * 3_600_000;
    let sequence = |counter| Sequence::new(Generation::FIRST, counter).ok_or("too many rows");
    let range = (Value::String(format!("host_{:04}", n % 1000)), Value::String(format!("host_{:04}", n % 1000 + 7)));
    let stats = ColumnStats { column: ColumnId(0), range: Some(range), has_null: false, has_nan: false };
    let meta = FileMeta {
        time_range: (time, time + 3_599_000 - i64::try_from(n % 977)?),
        rows: 100_000 + n % 1013,
        deletes: 0,
        bytes: 1_000_000 + n.wrapping_mul(7919) % 99_991,
        sequences: (sequence(n * 100_000)?, sequence(n * 100_000 + 99_999)?),
        level: u8::try_from(n % 2)?,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [stats].into(),
        crc32: (n as u32).wrapping_mul(2_654_435_761),
    };
    Ok(Arc::new(FileRef { key: key(epoch, n), scope: Scope::all(), meta }))
}

fn edit(epoch: u32, add: std::ops::Range<u64>, remove: Option<FileKey>) -> Result<Vec<Action>> {
    let add = add.map(|n| file(epoch, n)).collect::<Result<Vec<_>>>()?;
    let sequence = add.last().map(|file| file.meta.sequences.1);
    Ok(vec![Action::Edit(Edit { add, remove: remove.into_iter().collect(), sequence, ..Edit::new(Generation::FIRST) })])
}

async fn commit(manifest: &mut Manifest, actions: Vec<Action>) -> Result<()> {
    match manifest.commit(actions).await? {
        Outcome::Committed(_) => Ok(()),
        other => Err(format!("not committed: {other:?}").into()),
    }
}

impl Bench {
    fn line(&mut self, files: u64, name: &'static str, value: f64, unit: &'static str) {
        self.lines.push(Line { files, name, value, unit });
    }

    fn folder(&self) -> Result<TempDir> {
        Ok(match &self.options.dir {
            Some(dir) => TempDir::new_in(dir)?,
            None => TempDir::new_in(
                std::env::var_os("CARGO_TARGET_TMPDIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from),
            )?,
        })
    }

    fn size(&mut self, files: u64) -> Result<()> {
        let folder = self.folder()?;
        let store = LocalFileSystem::new_with_prefix(folder.path())?.with_fsync(true);
        let context = Context {
            settings: Settings { background: false, ..Settings::default() },
            ..Context::new(Arc::new(store), Root::default(), Env::system())
        };
        let mut manifest = self.fill(&context, files)?;
        self.opens(&context, files)?;
        self.commits(&mut manifest, files)?;
        self.folders.push(folder);
        Ok(())
    }

    /// A region of `files` files in a checkpoint.
    fn fill(&self, context: &Context, files: u64) -> Result<Manifest> {
        self.runtime.block_on(async {
            let mut manifest = Manifest::create(context, meta()?, OPENER).await?;
            let mut from = 0;
            while from < files {
                let to = files.min(from + 20_000);
                commit(&mut manifest, edit(1, from..to, None)?).await?;
                from = to;
            }
            manifest.checkpoint().await?;
            commit(&mut manifest, edit(1, 0..0, None)?).await?;
            drop(manifest);
            // The writer that is measured has opened the region, as every writer but the first has.
            Ok(Manifest::open(context, REGION, OPENER).await?)
        })
    }

    fn commits(&mut self, manifest: &mut Manifest, files: u64) -> Result<()> {
        let commits = u64::from(self.options.commits);
        let epoch = manifest.epoch().0;
        let remove = |i| if i == 0 { key(1, files - 1) } else { key(epoch, files + i - 1) };
        let actions = (0..commits).map(|i| edit(epoch, files + i..files + i + 1, Some(remove(i)))).collect::<Result<Vec<_>>>()?;
        let state = manifest.state().clone();
        let (mut next, before) = (state.clone(), cpu()?);
        for actions in &actions {
            let slot = next.version().ok_or("no version")?.next();
            next = next.apply_record(slot, actions)?;
        }
        let apply = cpu()?.saturating_sub(before);
        drop((next, state));
        let segments = manifest_bytes(manifest, &self.runtime)?;
        let mut times = Vec::new();
        // The file system is slow at creating for a while after much was deleted: not while it is timed.
        for _ in 0..commits / 2 {
            self.runtime.block_on(commit(manifest, edit(epoch, 0..0, None)?))?;
        }
        let (warm, before) = (manifest.checkpoint_lag().1, cpu()?);
        for actions in actions {
            let watch = Stopwatch::start();
            self.runtime.block_on(commit(manifest, actions))?;
            times.push(watch.elapsed().as_secs_f64() * 1e6);
        }
        let spent = cpu()?.saturating_sub(before);
        let record = (manifest.checkpoint_lag().1 - warm) / commits;
        self.runtime.block_on(manifest.checkpoint())?;
        let (whole, written) = manifest_bytes(manifest, &self.runtime)?.since(&segments);
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        self.line(files, "commit p50", at(0.5), "us");
        self.line(files, "commit p99", at(0.99), "us");
        self.line(files, "commit cpu", spent.as_secs_f64() * 1e6 / commits as f64, "us");
        self.line(files, "apply cpu", apply.as_secs_f64() * 1e6 / commits as f64, "us");
        self.line(files, "commit bytes", record as f64, "B");
        self.line(files, "checkpoint bytes per commit", written as f64 / commits as f64, "B");
        self.line(files, "checkpoint share of all segments", 100.0 * written as f64 / whole as f64, "%");
        Ok(())
    }

    fn opens(&mut self, context: &Context, files: u64) -> Result<()> {
        let (mut walls, mut cpus) = (Vec::new(), Vec::new());
        for _ in 0..=self.options.runs {
            let (before, watch) = (cpu()?, Stopwatch::start());
            let state = self.runtime.block_on(log::load(context, REGION))?;
            walls.push(watch.elapsed().as_secs_f64() * 1e3);
            cpus.push(cpu()?.saturating_sub(before).as_secs_f64() * 1e3);
            if state.files().len() as u64 != files {
                return Err(format!("{} files were found, {files} were committed", state.files().len()).into());
            }
        }
        let before = heap();
        let state = self.runtime.block_on(log::load(context, REGION))?;
        let live = heap().saturating_sub(before);
        let lookups = 1_000_000_u64;
        let keys: Vec<FileKey> = (0..lookups).map(|i| key(1, i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % files)).collect();
        let (watch, mut rows) = (Stopwatch::start(), 0);
        for key in &keys {
            rows += state.file(*key).map_or(0, |file| file.meta.rows);
        }
        let lookup = watch.elapsed().as_secs_f64() * 1e9 / lookups as f64;
        let watch = Stopwatch::start();
        let found = keys.iter().filter(|key| state.files().contains_key(key)).count();
        let contains = watch.elapsed().as_secs_f64() * 1e9 / lookups as f64;
        if found == 0 || rows == 0 {
            return Err("no file was found by its id".into());
        }
        self.line(files, "open wall", median(walls), "ms");
        self.line(files, "open cpu", median(cpus), "ms");
        self.line(files, "heap per file", live as f64 / state.row_count() as f64, "B");
        self.line(files, "lookup", contains, "ns");
        self.line(files, "lookup with its reference", lookup, "ns");
        Ok(())
    }

    fn peers(&mut self, files: u64) -> Result<()> {
        let folder = self.folder()?;
        let python = std::env::var("TESSERA_PYTHON").unwrap_or_else(|_| "python3".into());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/manifest.py");
        let output = std::process::Command::new(python).arg(script).arg(folder.path()).arg(files.to_string()).output()?;
        if !output.status.success() {
            return Err(format!("the peers failed: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let figures: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout)?;
        for (key, name) in [
            ("delta_open_ms", "delta-rs open wall"),
            ("delta_append_ms", "delta-rs append wall"),
            ("lance_open_ms", "lance open wall"),
            ("lance_append_ms", "lance append wall"),
        ] {
            self.line(files, name, *figures.get(key).ok_or("a peer gave no figure")?, "ms");
        }
        Ok(())
    }
}

/// The segments of a region's newest checkpoint, with their bytes.
struct Segments(BTreeMap<FileId, u64>);

impl Segments {
    /// Bytes of all, and of those that are new.
    fn since(&self, before: &Self) -> (u64, u64) {
        let new = self.0.iter().filter(|(file, _)| !before.0.contains_key(*file)).map(|(_, bytes)| bytes);
        (self.0.values().sum::<u64>().max(1), new.sum())
    }
}

fn manifest_bytes(manifest: &mut Manifest, runtime: &tokio::runtime::Runtime) -> Result<Segments> {
    runtime.block_on(async {
        let checkpoint = manifest.checkpoint().await?;
        let (root, _) = tessera_manifest::checkpoint::read_root(manifest.context(), REGION, checkpoint.version).await?;
        Ok(Segments(root.segments.iter().map(|entry| (entry.segment.file, entry.segment.bytes)).collect()))
    })
}
