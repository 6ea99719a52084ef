//! Read benchmarks; `--help` and the crate's documentation say what each line means.

use std::collections::BTreeMap;
use std::process::ExitCode;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Float64Type, TimestampMillisecondType};
use parquet::arrow::arrow_reader::RowSelection;
use tessera_benches::Result;
use tessera_benches::cpu::{Cpu, TIME};
use tessera_benches::limit::Bare;
use tessera_benches::measure::{Times, repeat_both};
use tessera_benches::node::{Node, Totals};
use tessera_benches::options::Options;
use tessera_benches::report::{self, Line, Report};
use tessera_engine::config::Config;
use tessera_engine::request::{Order, ScanRequest};
use tessera_manifest::env::Stopwatch;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::value::Value;
use tokio::runtime::Runtime;

const BATCH_ROWS: usize = 10_000;
/// Columns of a scan of one field: the time and that field.
const ONE_FIELD: [usize; 2] = [TIME, TIME + 1];
/// Columns of a query for one host: its name, the time and five fields.
const FIVE_FIELDS: [usize; 7] = [0, TIME, TIME + 1, TIME + 2, TIME + 3, TIME + 4, TIME + 5];
/// Queries for one host in a run.
const HOST_QUERIES: usize = 50;
/// Queries for one host of which each starts an engine.
const COLD_QUERIES: usize = 10;

fn main() -> ExitCode {
    report::main("read", run)
}

fn run(options: &Options, report: &mut Report) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let cpu = Cpu::generate(options)?;
    let every = usize::try_from(options.rewrite_every)?;
    let node = runtime.block_on(load(options, &cpu))?;
    let bench = Bench { options, runtime, cpu, node };
    let files = bench.files()?;
    let bytes = files.iter().map(Bare::bytes).sum::<Result<u64>>()?;
    report.add_size(&format!("{} ssts", files.len()), bytes, bench.cpu.rows());
    bench.scans(report, "", &files, |field| bench.cpu.sum(field))?;
    bench.host_hour(report, &files)?;
    bench.ordered(report, "", &files)?;
    bench.last_point(report, "", &files)?;
    bench.newest(report, &files)?;
    bench.few(report, &files)?;
    let bench = bench.cold(report, "host, hour, cold", false)?.cold(report, "host, hour, verified", true)?;
    bench.runtime.block_on(bench.rewrite(every))?;
    let files = bench.files()?;
    bench.scans(report, "dedup, ", &files, |field| bench.cpu.corrected_sum(field, every))?;
    bench.ordered(report, "dedup, ", &files)?;
    bench.last_point(report, "dedup, ", &files)?;
    let Bench { runtime, node, .. } = bench;
    runtime.block_on(node.close())
}

/// An engine whose region holds everything in so many files as asked for, and nothing in memory.
async fn load(options: &Options, cpu: &Cpu) -> Result<Node> {
    // Files stay as they are written: overlapping ones are to be read, not compacted.
    let table = BTreeMap::from([("compaction.twcs.trigger_file_num".to_owned(), "1000000".to_owned())]);
    let node = Node::start_with(options, cpu.schema(), unlimited(), table).await?;
    let files = usize::try_from(options.files)?;
    let points = cpu.steps().div_ceil(files);
    let batches = cpu.arriving(options.order, BATCH_ROWS)?;
    let (mut rows, mut flushed) = (0, 0);
    for batch in batches {
        // In time order a file ends with a point in time, so that it shares none with the next.
        let end = (flushed + 1) * points * cpu.hosts();
        let first = batch.num_rows().min(end.saturating_sub(rows));
        rows += batch.num_rows();
        node.put(batch.slice(0, first)).await?;
        if rows >= end {
            node.region.flush().await?;
            flushed += 1;
            if first < batch.num_rows() {
                node.put(batch.slice(first, batch.num_rows() - first)).await?;
            }
        }
    }
    node.region.flush().await?;
    Ok(node)
}

/// Memtables of any size.
fn unlimited() -> Config {
    let bytes = usize::MAX / 4;
    Config { region_memtable_bytes: bytes, memtable_bytes_max: bytes, wal_bytes_max: u64::MAX, ..Config::default() }
}

struct Bench<'a> {
    options: &'a Options,
    runtime: Runtime,
    cpu: Cpu,
    node: Node,
}

impl Bench<'_> {
    fn files(&self) -> Result<Vec<Bare>> {
        self.runtime.block_on(self.node.files())?.iter().map(|file| Bare::open(file)).collect()
    }

    async fn rewrite(&self, every: usize) -> Result<()> {
        for batch in self.cpu.corrections(every, BATCH_ROWS)? {
            self.node.put(batch).await?;
        }
        Ok(self.node.region.flush().await?)
    }

    fn scans(&self, report: &mut Report, prefix: &str, files: &[Bare], sum: impl Fn(usize) -> f64) -> Result<()> {
        let cases: [(&str, Option<&[usize]>); 2] = [("field and time", Some(&ONE_FIELD)), ("whole rows", None)];
        for (what, columns) in cases {
            let name = format!("{prefix}{what}");
            if !self.options.wants(&name) {
                continue;
            }
            self.check_scan(columns, &sum)?;
            let limit = || {
                let watch = Stopwatch::start();
                let rows = files.iter().map(|file| file.count(columns)).sum::<Result<usize>>()?;
                let elapsed = watch.elapsed();
                if rows < self.cpu.rows() { Err("check failed: the files have too few rows".into()) } else { Ok(elapsed) }
            };
            let work = || {
                let watch = Stopwatch::start();
                let rows = self.runtime.block_on(self.node.count(columns))?;
                let elapsed = watch.elapsed();
                if rows == self.cpu.rows() { Ok(elapsed) } else { Err(format!("check failed: {rows} rows").into()) }
            };
            let (times, limit) = repeat_both(self.options.runs, work, limit)?;
            report.add(Line { name, rows: self.cpu.rows(), times, limit: Some(("bare parquet scan", limit)) });
        }
        Ok(())
    }

    /// Rows in the order of keys.
    fn ordered(&self, report: &mut Report, prefix: &str, files: &[Bare]) -> Result<()> {
        let name = format!("{prefix}field and time, by key");
        if !self.options.wants(&name) {
            return Ok(());
        }
        let request = || ScanRequest { projection: Some(ONE_FIELD.to_vec()), order: Order::Key, ..ScanRequest::default() };
        let limit = || {
            let watch = Stopwatch::start();
            files.iter().map(|file| file.count(Some(&ONE_FIELD))).sum::<Result<usize>>()?;
            Ok(watch.elapsed())
        };
        let work = || {
            let watch = Stopwatch::start();
            let batches = self.runtime.block_on(self.node.read(request()))?;
            let elapsed = watch.elapsed();
            self.check_order(&batches)?;
            Ok(elapsed)
        };
        let (times, limit) = repeat_both(self.options.runs, work, limit)?;
        report.add(Line { name, rows: self.cpu.rows(), times, limit: Some(("bare parquet scan", limit)) });
        Ok(())
    }

    /// Each host's points follow each other in time: as many falls of the time as there are changes of the host.
    fn check_order(&self, batches: &[RecordBatch]) -> Result<()> {
        let (mut rows, mut falls, mut last) = (0, 0, i64::MAX);
        for batch in batches {
            rows += batch.num_rows();
            for time in batch.column(0).as_primitive::<TimestampMillisecondType>().values() {
                falls += usize::from(*time <= last);
                last = *time;
            }
        }
        let expected = (self.cpu.rows(), self.cpu.hosts());
        if (rows, falls) == expected { Ok(()) } else { Err(format!("check failed: {rows} rows of {falls} hosts in order").into()) }
    }

    /// The last row of every host, all columns.
    fn last_point(&self, report: &mut Report, prefix: &str, files: &[Bare]) -> Result<()> {
        let name = format!("{prefix}last point");
        if !self.options.wants(&name) {
            return Ok(());
        }
        let last = self.cpu.time_ms(self.cpu.steps() - 1);
        let limit = || {
            let watch = Stopwatch::start();
            files.iter().map(|file| file.count(Some(&ONE_FIELD))).sum::<Result<usize>>()?;
            Ok(watch.elapsed())
        };
        let work = || {
            let watch = Stopwatch::start();
            let batches = self.runtime.block_on(self.node.read(ScanRequest { last_rows: true, ..ScanRequest::default() }))?;
            let elapsed = watch.elapsed();
            let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
            let times = |batch: &RecordBatch| batch.column(TIME).as_primitive::<TimestampMillisecondType>().values().to_vec();
            let newest = batches.iter().flat_map(times).all(|time| time == last);
            if rows == self.cpu.hosts() && newest { Ok(elapsed) } else { Err(format!("check failed: {rows} last points").into()) }
        };
        let (times, limit) = repeat_both(self.options.runs, work, limit)?;
        report.add(Line { name, rows: 0, times, limit: Some(("bare parquet scan of one field", limit)) });
        Ok(())
    }

    /// The ten newest rows.
    fn newest(&self, report: &mut Report, files: &[Bare]) -> Result<()> {
        const NAME: &str = "ten newest rows";
        if !self.options.wants(NAME) {
            return Ok(());
        }
        let limit = || {
            let watch = Stopwatch::start();
            files.iter().map(|file| file.count(Some(&ONE_FIELD))).sum::<Result<usize>>()?;
            Ok(watch.elapsed())
        };
        let last = self.cpu.time_ms(self.cpu.steps() - 1);
        let work = || {
            let request = ScanRequest { order: Order::NewestFirst, limit: Some(10), ..ScanRequest::default() };
            let watch = Stopwatch::start();
            let batches = self.runtime.block_on(self.node.read(request))?;
            let elapsed = watch.elapsed();
            let times = |batch: &RecordBatch| batch.column(TIME).as_primitive::<TimestampMillisecondType>().values().to_vec();
            let times: Vec<i64> = batches.iter().flat_map(times).collect();
            let newest = times.len() == 10 && (self.cpu.hosts() < 10 || times.iter().all(|time| *time == last));
            if newest { Ok(elapsed) } else { Err(format!("check failed: {times:?} of newest rows").into()) }
        };
        let (times, limit) = repeat_both(self.options.runs, work, limit)?;
        report.add(Line { name: NAME.to_owned(), rows: 0, times, limit: Some(("bare parquet scan of one field", limit)) });
        Ok(())
    }

    /// Whole rows of which one field is high.
    fn few(&self, report: &mut Report, files: &[Bare]) -> Result<()> {
        const NAME: &str = "few rows by a field";
        const HIGH: f64 = 95.0;
        if !self.options.wants(NAME) {
            return Ok(());
        }
        let high = |column: usize, batches: &[RecordBatch]| -> usize {
            let high =
                |batch: &RecordBatch| batch.column(column).as_primitive::<Float64Type>().values().iter().filter(|v| **v > HIGH).count();
            batches.iter().map(high).sum()
        };
        let expected = high(1, &self.runtime.block_on(self.node.scan(Some(&ONE_FIELD), Expr::always()))?);
        let filter = Expr::Compare { column: ColumnId((TIME + 1) as u32), op: CompareOp::Gt, value: Value::Float(HIGH) };
        let limit = || {
            let watch = Stopwatch::start();
            files.iter().map(|file| file.count(None)).sum::<Result<usize>>()?;
            Ok(watch.elapsed())
        };
        let work = || {
            let watch = Stopwatch::start();
            let batches = self.runtime.block_on(self.node.scan(None, filter.clone()))?;
            let found = high(TIME + 1, &batches);
            let elapsed = watch.elapsed();
            if found == expected { Ok(elapsed) } else { Err(format!("check failed: {found} high rows, expected {expected}").into()) }
        };
        let (times, limit) = repeat_both(self.options.runs, work, limit)?;
        report.add(Line { name: format!("{NAME} ({expected})"), rows: self.cpu.rows(), times, limit: Some(("bare parquet scan", limit)) });
        Ok(())
    }

    fn check_scan(&self, columns: Option<&[usize]>, sum: impl Fn(usize) -> f64) -> Result<()> {
        let batches = self.runtime.block_on(self.node.scan(columns, Expr::always()))?;
        let first = if columns.is_some() { 1 } else { TIME + 1 };
        let known = batches.first().map_or(0, |batch| batch.num_columns() - first);
        let totals = batches.iter().fold(Totals::default(), |totals, batch| totals.add(batch, first));
        totals.check(self.cpu.rows(), |field| if field < known { sum(field) } else { 0.0 })
    }

    /// Queries of one host and hour after the other; the hosts and hours are spread over all.
    fn host_hour(&self, report: &mut Report, files: &[Bare]) -> Result<()> {
        const NAME: &str = "host, hour";
        if !self.options.wants(NAME) {
            return Ok(());
        }
        let queries: Vec<HostHour> = (0..HOST_QUERIES).map(|n| self.query(n)).collect();
        let selections = self.selections(files, &queries)?;
        let (mut limits, mut times) = (Vec::new(), Vec::new());
        for run in 0..=self.options.runs {
            for (query, selections) in queries.iter().zip(&selections) {
                let watch = Stopwatch::start();
                let picked = files.iter().zip(selections).filter(|(_, selection)| selection.selects_any());
                let batches = picked.map(|(file, selection)| file.select(&FIVE_FIELDS, selection.clone())).collect::<Result<Vec<_>>>()?;
                let limit = watch.elapsed();
                self.check_host_hour(query, &batches.concat())?;
                let watch = Stopwatch::start();
                let batches = self.runtime.block_on(self.node.scan(Some(&FIVE_FIELDS), query.filter(&self.cpu)))?;
                let batches = batches.iter().map(|batch| query.exact(&self.cpu, batch)).collect::<Result<Vec<_>>>()?;
                let time = watch.elapsed();
                self.check_host_hour(query, &batches)?;
                if run > 0 {
                    limits.push(limit);
                    times.push(time);
                }
            }
        }
        let limit = Some(("rows known beforehand", Times::of(limits)?));
        report.add(Line { name: NAME.to_owned(), rows: 0, times: Times::of(times)?, limit });
        Ok(())
    }

    /// Queries of one host and hour, each the first read of an engine; with or without the checksums of files.
    fn cold(mut self, report: &mut Report, name: &str, verify_sst: bool) -> Result<Self> {
        if !self.options.wants(name) {
            return Ok(self);
        }
        let config = Config { verify_sst, ..unlimited() };
        let (mut times, mut requests) = (Vec::new(), 0);
        for n in 0..COLD_QUERIES {
            let query = self.query(n);
            self.node = self.runtime.block_on(self.node.restart(config.clone()))?;
            let before = self.node.requests();
            let watch = Stopwatch::start();
            let batches = self.runtime.block_on(self.node.scan(Some(&FIVE_FIELDS), query.filter(&self.cpu)))?;
            times.push(watch.elapsed());
            requests += self.node.requests() - before;
            let batches = batches.iter().map(|batch| query.exact(&self.cpu, batch)).collect::<Result<Vec<_>>>()?;
            self.check_host_hour(&query, &batches)?;
        }
        report.add(Line { name: name.to_owned(), rows: 0, times: Times::of(times)?, limit: None });
        report.add_count(&format!("requests, {name}"), requests as f64 / COLD_QUERIES as f64);
        Ok(self)
    }

    /// The n-th query for a host and an hour.
    fn query(&self, n: usize) -> HostHour {
        let hour = self.cpu.steps_per_hour();
        let host = (n * 7919 + 13) % self.cpu.hosts();
        let first = n * 31 % (self.cpu.steps() - hour + 1);
        HostHour { host, first, end: first + hour }
    }

    /// For each query and file, the rows that it wants.
    fn selections(&self, files: &[Bare], queries: &[HostHour]) -> Result<Vec<Vec<RowSelection>>> {
        let mut selections = vec![Vec::new(); queries.len()];
        for file in files {
            let keys = file.keys()?;
            for (query, selections) in queries.iter().zip(&mut selections) {
                let (name, from, to) = query.bounds(&self.cpu);
                let wanted = keys.iter().enumerate().filter(|(_, (host, time))| host == name && (from..to).contains(time));
                let ranges = wanted.map(|(row, _)| row..row + 1);
                selections.push(RowSelection::from_consecutive_ranges(ranges, keys.len()));
            }
        }
        Ok(selections)
    }

    fn check_host_hour(&self, query: &HostHour, batches: &[RecordBatch]) -> Result<()> {
        let totals = batches.iter().fold(Totals::default(), |totals, batch| totals.add(batch, 2));
        let fields = FIVE_FIELDS.len() - 2;
        let sum = |field: usize| if field < fields { self.cpu.host_sum(field, query.host, query.first..query.end) } else { 0.0 };
        totals.check(query.end - query.first, sum)
    }
}

/// A query for some points in time of one host.
struct HostHour {
    host: usize,
    first: usize,
    end: usize,
}

impl HostHour {
    /// Name, least time, end of time.
    fn bounds<'a>(&self, cpu: &'a Cpu) -> (&'a str, i64, i64) {
        (cpu.host_name(self.host), cpu.time_ms(self.first), cpu.time_ms(self.end))
    }

    fn filter(&self, cpu: &Cpu) -> Expr {
        let (host, from, to) = self.bounds(cpu);
        let compare = |column: usize, op, value| Expr::Compare { column: ColumnId(column as u32), op, value };
        Expr::And(vec![
            compare(0, CompareOp::Eq, Value::String(host.to_owned())),
            compare(TIME, CompareOp::GtEq, Value::Timestamp(from)),
            compare(TIME, CompareOp::Lt, Value::Timestamp(to)),
        ])
    }

    /// The rows of a scan that are wanted: the engine leaves the last test to its caller.
    fn exact(&self, cpu: &Cpu, batch: &RecordBatch) -> Result<RecordBatch> {
        let (name, from, to) = self.bounds(cpu);
        let hosts = batch.column(0).as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMillisecondType>().values();
        let mask: BooleanArray =
            (0..batch.num_rows()).map(|row| Some((from..to).contains(&times[row]) && hosts.value(row) == name)).collect();
        Ok(filter_record_batch(batch, &mask)?)
    }
}
