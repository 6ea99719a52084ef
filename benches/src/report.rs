//! What people and programs see of a run. The only module that prints.

use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};

use crate::Result;
use crate::machine::Machine;
use crate::measure::Times;
use crate::options::Options;

/// One measured thing.
#[derive(Debug, Clone)]
pub struct Line {
    /// What was measured; explained in the crate's documentation.
    pub name: String,
    /// Rows of one run; 0 for what is shown as a time.
    pub rows: usize,
    /// What it took.
    pub times: Times,
    /// What the limit is called, and what it took.
    pub limit: Option<(&'static str, Times)>,
}

impl Line {
    /// Time of the limit over the measured time: 1 is as fast as the limit.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.limit.as_ref().map(|(_, limit)| limit.median / self.times.median)
    }
}

/// The lines of one target.
#[derive(Debug)]
pub struct Report {
    target: &'static str,
    options: Options,
    machine: Machine,
    lines: Vec<Line>,
    /// Bytes of something per row.
    sizes: Vec<(String, f64)>,
    counts: Vec<(String, f64)>,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(target: &'static str, options: &Options) -> Self {
        Self { target, options: options.clone(), machine: Machine::read(), lines: Vec::new(), sizes: Vec::new(), counts: Vec::new() }
    }

    /// Adds a line.
    pub fn add(&mut self, line: Line) {
        if !self.options.json {
            print(&format!("  {} ...", line.name));
        }
        self.lines.push(line);
    }

    /// Adds a size in bytes per row.
    pub fn add_size(&mut self, what: &str, bytes: u64, rows: usize) {
        self.sizes.push((what.to_owned(), bytes as f64 / rows.max(1) as f64));
    }

    /// Adds a number.
    pub fn add_count(&mut self, what: &str, count: f64) {
        self.counts.push((what.to_owned(), count));
    }

    fn show(&self) {
        if self.options.json {
            print(&self.to_json().to_string());
            return;
        }
        for line in self.head() {
            print(&line);
        }
        print(&format!("{:<26} {:>10} {:>17} {:>7}  {:<24} {:>10}", "what", "M rows/s", "(least .. most)", "ratio", "limit", "M rows/s"));
        for line in &self.lines {
            print(&table_row(line));
        }
        for (what, bytes) in &self.sizes {
            print(&format!("{what:<26} {bytes:>10.2} bytes/row"));
        }
        for (what, count) in &self.counts {
            print(&format!("{what:<26} {count:>10.2}"));
        }
    }

    fn head(&self) -> Vec<String> {
        let Options { hosts, rows, interval_ms, order, entropy, seed, runs, date, .. } = &self.options;
        let Machine { cpu, cores, memory_bytes, commit } = &self.machine;
        let date = date.as_ref().map_or_else(String::new, |date| format!("{date}, "));
        vec![
            String::new(),
            format!("{}: {date}commit {commit}, {cpu}, {cores} cores, {} GiB", self.target, memory_bytes >> 30),
            format!(
                "{rows} rows, {hosts} hosts, every {interval_ms} ms, {order:?} order, {entropy:?} entropy, seed {seed}, median of {runs}"
            ),
        ]
    }

    fn to_json(&self) -> Value {
        let Options { hosts, rows, interval_ms, order, entropy, seed, runs, files, rewrite_every, date, .. } = &self.options;
        let times = |t: &Times| json!({ "median_s": t.median, "least_s": t.least, "most_s": t.most });
        let line = |line: &Line| {
            let limit = line.limit.as_ref().map(|(name, limit)| json!({ "name": name, "times": times(limit) }));
            json!({ "name": line.name, "rows": line.rows, "times": times(&line.times), "limit": limit, "ratio": line.ratio() })
        };
        json!({
            "target": self.target,
            "date": date,
            "machine": self.machine.to_json(),
            "settings": {
                "rows": rows, "hosts": hosts, "interval_ms": interval_ms, "order": format!("{order:?}"), "seed": seed,
                "entropy": format!("{entropy:?}"), "runs": runs, "files": files, "rewrite_every": rewrite_every,
            },
            "lines": self.lines.iter().map(line).collect::<Vec<_>>(),
            "counts": self.counts.iter().map(|(what, count)| json!({ "what": what, "count": count })).collect::<Vec<_>>(),
            "bytes_per_row": self.sizes.iter().map(|(what, bytes)| json!({ "what": what, "bytes": bytes })).collect::<Vec<_>>(),
        })
    }
}

fn table_row(line: &Line) -> String {
    let figure = |seconds: f64| match line.rows {
        0 => format!("{:.2} ms", seconds * 1e3),
        rows => format!("{:.3}", rows as f64 / seconds / 1e6),
    };
    let (low, high) = if line.rows == 0 { (line.times.least, line.times.most) } else { (line.times.most, line.times.least) };
    let spread = format!("({} .. {})", figure(low), figure(high));
    let ratio = line.ratio().map_or_else(String::new, |ratio| format!("{ratio:.2}"));
    let (limit, limit_figure) = line.limit.as_ref().map_or((String::new(), String::new()), |(n, t)| ((*n).to_owned(), figure(t.median)));
    format!("{:<26} {:>10} {:>17} {:>7}  {:<24} {:>10}", line.name, figure(line.times.median), spread, ratio, limit, limit_figure)
}

/// Reads the command line, runs a target and prints what it found.
#[must_use]
pub fn main(target: &'static str, run: impl FnOnce(&Options, &mut Report) -> Result<()>) -> ExitCode {
    let options = Options::parse();
    let mut report = Report::new(target, &options);
    match run(&options, &mut report) {
        Ok(()) => {
            report.show();
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(&failure(target, &*error));
            ExitCode::FAILURE
        }
    }
}

/// Prints what a target that gives one JSON object has found, as that object or as its table.
#[must_use]
pub fn finish(target: &str, json: bool, outcome: Result<Value>, table: impl FnOnce(&Value) -> String) -> ExitCode {
    match outcome {
        Ok(report) => {
            print(&if json { report.to_string() } else { table(&report) });
            ExitCode::SUCCESS
        }
        Err(error) => {
            print_error(&failure(target, &*error));
            ExitCode::FAILURE
        }
    }
}

/// The messages of an error and of its causes.
fn failure(target: &str, error: &dyn std::error::Error) -> String {
    let mut text = format!("{target}: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[expect(clippy::print_stdout, reason = "a benchmark's output is what it is for")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "the process ends with this")]
fn print_error(text: &str) {
    eprintln!("{text}");
}
