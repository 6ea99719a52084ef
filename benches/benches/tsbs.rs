//! TSBS "cpu-only" through SQL: a real server beside DuckDB and ClickHouse on the same rows, in the same run.
//!
//! The server is the binary of `cargo build --release -p tessera` (TESSERA_BIN names another one) on a fresh folder. It
//! loads a Parquet file in order of time by COPY FROM, is flushed and compacted, and answers each query over HTTP as an
//! Arrow stream, which is decoded. With the feature `peers`, DuckDB and ClickHouse (chdb) answer the same queries within
//! the process of a Python script. Ingest by batches is of the engine within this process, as the peers are. A time is the median of all variants' runs, each after one untimed run; every engine
//! must give as many rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use clap::Parser;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use tessera_benches::cpu::Cpu;
use tessera_benches::machine::Machine;
use tessera_benches::node;
use tessera_benches::options::Options;
use tessera_benches::report;
use tessera_benches::tsbs::{Query, queries};
use tessera_benches::{Result, cpu};
use tessera_engine::config::Config;
use tessera_manifest::env::{Env, Stopwatch, spawn_thread};
use tessera_manifest::id::{RegionId, RegionNumber, TableId};
use tessera_manifest::log::{Context, load};
use tessera_manifest::paths::Root;

/// Variants of each query.
const VARIANTS: usize = 5;
/// The first table of a data home.
const FIRST_TABLE: TableId = TableId(1024);
/// Rows that are written batch by batch.
const BATCH_ROWS: usize = 10_000;

fn main() -> ExitCode {
    let options = Options::parse();
    report::finish("tsbs", options.json, run(&options), table)
}

fn run(options: &Options) -> Result<Value> {
    let folder = node::folder(options)?;
    let cpu = Cpu::generate(options)?;
    let parquet = folder.path().join("cpu.parquet");
    write_parquet(&cpu, &parquet)?;
    let asked: Vec<Query> = queries(&cpu, VARIANTS).into_iter().filter(|query| options.wants(query.name)).collect();
    let rows = cpu.rows();
    let ingested = ingest(&cpu, options)?;
    drop(cpu);
    let mut ours = tessera(folder.path(), &parquet, &asked, options)?;
    ours["ingest_rows_s"] = json!(ingested);
    let mut engines = BTreeMap::from([("tessera".to_owned(), ours)]);
    if cfg!(feature = "peers") {
        engines.extend(peers(folder.path(), &parquet, &asked, options)?);
    }
    same_rows(&engines, &asked)?;
    let machine = Machine::read();
    Ok(
        json!({ "target": "tsbs", "date": options.date, "machine": machine.to_json(), "rows": rows, "hosts": options.hosts, "engines": engines }),
    )
}

fn write_parquet(cpu: &Cpu, path: &Path) -> Result<()> {
    let settings = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?)).build();
    let mut writer = ArrowWriter::try_new(File::create(path)?, cpu.schema().to_arrow(), Some(settings))?;
    for batch in cpu.in_time_order(100_000) {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}

/// Rows per second of the engine, within this process as the peers are: in batches, each synced to the
/// log before the next, until all are in SSTs.
fn ingest(cpu: &Cpu, options: &Options) -> Result<f64> {
    let batches = cpu.in_time_order(BATCH_ROWS).collect::<std::result::Result<Vec<_>, _>>()?;
    let rows: usize = batches.iter().map(arrow::array::RecordBatch::num_rows).sum();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let flushed = runtime.block_on(async {
        let node = node::Node::start(options, cpu.schema(), Config::default()).await?;
        let ingest = node.ingest(std::sync::Arc::new(batches), 1).await?;
        node.close().await?;
        Result::Ok(ingest.flushed)
    })?;
    Ok(rows as f64 / flushed.as_secs_f64())
}

/// A server that ends with this.
struct Server {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("TESSERA_BIN") {
        return named.into();
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.join("tessera")));
    beside.unwrap_or_else(|| "tessera".into())
}

impl Server {
    fn start(home: &Path) -> Result<Self> {
        let binary = binary();
        let mut command = Command::new(&binary);
        command.args(["standalone", "--http-addr", "127.0.0.1:0", "--log-format", "json", "--data-home"]).arg(home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| {
            format!(
                "{} does not start ({error}): build it with cargo build --release -p tessera, or name it in TESSERA_BIN",
                binary.display()
            )
        })?;
        let mut log = BufReader::new(child.stderr.take().ok_or("the server has no log")?);
        let mut line = String::new();
        let addr = loop {
            line.clear();
            if log.read_line(&mut line)? == 0 {
                return Err("the server ended before it listened".into());
            }
            if let Some((_, addr)) = line.split_once("ready at http://") {
                break addr.chars().take_while(|c| !matches!(c, '"' | ' ' | '\n')).collect::<String>();
            }
        };
        spawn_thread("server-log", move || drop(std::io::copy(&mut log, &mut std::io::sink())))?;
        // With a limit for all of a call, each would start a thread that resolves the name.
        let patience = Some(Duration::from_secs(1800));
        let agent = ureq::Agent::config_builder().timeout_recv_response(patience).timeout_recv_body(patience).build().into();
        Ok(Self { child, url: format!("http://{addr}/v1/sql"), agent })
    }

    /// Executes a statement; how many rows came out.
    fn execute(&self, sql: &str) -> Result<usize> {
        let answer = self.agent.post(&self.url).send_form([("sql", sql), ("format", "arrow")]);
        let mut answer = answer.map_err(|error| format!("{sql}: {error}"))?;
        let mut body = answer.body_mut().as_reader();
        let mut rows = 0;
        for batch in StreamReader::try_new(&mut body, None)? {
            rows += batch?.num_rows();
        }
        // To its end, or the connection cannot be used again.
        std::io::copy(&mut body, &mut std::io::sink())?;
        Ok(rows)
    }
}

fn create_table() -> String {
    let tags = cpu::TAGS.map(|tag| format!("{tag} STRING")).join(", ");
    let fields = cpu::FIELDS.map(|field| format!("{field} DOUBLE")).join(", ");
    format!("CREATE TABLE cpu ({tags}, ts TIMESTAMP(3) TIME INDEX, {fields}, PRIMARY KEY ({}))", cpu::TAGS.join(", "))
}

fn tessera(folder: &Path, parquet: &Path, asked: &[Query], options: &Options) -> Result<Value> {
    let home = folder.join("tessera");
    let server = Server::start(&home)?;
    server.execute(&create_table())?;
    let watch = Stopwatch::start();
    server.execute(&format!("COPY cpu FROM '{}'", parquet.display()))?;
    let load = watch.elapsed().as_secs_f64();
    server.execute("ADMIN flush_table('cpu')")?;
    server.execute("ADMIN compact_table('cpu')")?;
    let mut answers = serde_json::Map::new();
    for query in asked {
        let (mut times, mut rows) = (Vec::new(), 0);
        for text in &query.tessera {
            rows += server.execute(text)?;
            for _ in 0..options.runs {
                let watch = Stopwatch::start();
                server.execute(text)?;
                times.push(watch.elapsed().as_secs_f64() * 1e3);
            }
        }
        times.sort_by(f64::total_cmp);
        answers.insert(query.name.to_owned(), json!({ "ms": times[times.len() / 2], "rows": rows }));
    }
    let bytes = bytes_of(&home)?;
    Ok(json!({ "load_s": load, "bytes": bytes, "queries": answers }))
}

/// Bytes of the table's files, without those that compaction has replaced and nothing has deleted yet.
fn bytes_of(home: &Path) -> Result<u64> {
    let context = Context::new(node::store(home)?, Root::default(), Env::system());
    let region = RegionId::new(FIRST_TABLE, RegionNumber(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(load(&context, region))?.totals().bytes)
}

fn peers(folder: &Path, parquet: &Path, asked: &[Query], options: &Options) -> Result<BTreeMap<String, Value>> {
    let job = json!({
        "parquet": parquet, "folder": folder, "runs": options.runs, "ingest_rows": options.rows, "batch_rows": BATCH_ROWS,
        "queries": asked.iter().map(Query::to_json).collect::<Vec<_>>(),
    });
    let file = folder.join("job.json");
    std::fs::write(&file, job.to_string())?;
    let python = std::env::var("TESSERA_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/tsbs.py");
    let output = Command::new(python).arg(script).arg(&file).output()?;
    if !output.status.success() {
        return Err(format!("the peers failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(serde_json::from_str(text.lines().last().unwrap_or_default())?)
}

/// Engines that give other numbers of rows were not asked the same.
fn same_rows(engines: &BTreeMap<String, Value>, asked: &[Query]) -> Result<()> {
    for query in asked {
        let rows = |engine: &Value| engine.pointer(&format!("/queries/{}/rows", query.name)).and_then(Value::as_u64);
        let found: BTreeMap<&str, u64> = engines.iter().filter_map(|(name, engine)| Some((name.as_str(), rows(engine)?))).collect();
        if found.values().collect::<std::collections::BTreeSet<_>>().len() > 1 {
            return Err(format!("{}: engines give different numbers of rows: {found:?}", query.name).into());
        }
    }
    Ok(())
}

fn table(report: &Value) -> String {
    let Some(engines) = report["engines"].as_object() else { return String::new() };
    let mut lines = vec![format!("tsbs: {} rows, {} hosts, {}", report["rows"], report["hosts"], report["machine"])];
    let head = engines.keys().map(|name| format!("{name:>14}")).collect::<String>();
    lines.push(format!("{:<26}{head}", ""));
    let row = |what: &str, figure: &dyn Fn(&Value) -> Option<f64>| {
        let cells = engines.values().map(|engine| figure(engine).map_or_else(|| format!("{:>14}", "-"), |f| format!("{f:>14.2}")));
        format!("{what:<26}{}", cells.collect::<String>())
    };
    let rows = report["rows"].as_f64().unwrap_or(1.0);
    lines.push(row("ingest, M rows/s", &|engine| Some(engine["ingest_rows_s"].as_f64()? / 1e6)));
    lines.push(row("load, M rows/s", &|engine| Some(rows / engine["load_s"].as_f64()? / 1e6)));
    lines.push(row("bytes a row", &|engine| Some(engine["bytes"].as_f64()? / rows)));
    let names: Vec<&String> = engines["tessera"]["queries"].as_object().map(|queries| queries.keys().collect()).unwrap_or_default();
    for name in names {
        lines.push(row(&format!("{name}, ms"), &|engine| engine["queries"][name.as_str()]["ms"].as_f64()));
    }
    for (name, engine) in engines {
        if let Some(error) = engine["error"].as_str() {
            lines.push(format!("{name} was left out: {error}"));
        }
    }
    lines.join("\n")
}
