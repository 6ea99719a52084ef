//! The command line, the same for both targets.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// In which order rows arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// All hosts at one time, then all at the next, as a fleet reports.
    Time,
    /// All times of one host, then of the next.
    Host,
}

/// How many distinct values fields have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Entropy {
    /// Whole numbers, as TSBS writes its cpu data.
    Low,
    /// All digits of the random walk.
    High,
}

/// Benchmarks on generated TSBS-like "cpu" data: 10 tags, 10 fields, each beside the raw limit measured in the same
/// run. The lines are explained below.
#[derive(Debug, Clone, Parser)]
#[command(version, after_help = LINES)]
pub struct Options {
    /// Hosts, that is: series.
    #[arg(long, env = "TESSERA_BENCH_HOSTS", default_value_t = 4_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub hosts: u32,
    /// Rows, rounded up to whole points in time; 1,000,000 take about 1 GB of memory while they are benched.
    #[arg(long, env = "TESSERA_BENCH_ROWS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
    /// Milliseconds between the points of a host.
    #[arg(long, env = "TESSERA_BENCH_INTERVAL_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub interval_ms: u32,
    /// In which order rows arrive.
    #[arg(long, env = "TESSERA_BENCH_ORDER", value_enum, default_value_t = Order::Time)]
    pub order: Order,
    /// How many distinct values fields have.
    #[arg(long, env = "TESSERA_BENCH_ENTROPY", value_enum, default_value_t = Entropy::Low)]
    pub entropy: Entropy,
    /// The generator's seed.
    #[arg(long, env = "TESSERA_BENCH_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Timed runs of each line, of which the median is shown; an untimed one that is checked comes first.
    #[arg(long, env = "TESSERA_BENCH_RUNS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub runs: u32,
    /// SSTs that the read benchmarks read.
    #[arg(long, env = "TESSERA_BENCH_FILES", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    pub files: u32,
    /// Which part of the points the overlapping file of the dedup lines rewrites: every n-th in time.
    #[arg(long, env = "TESSERA_BENCH_REWRITE_EVERY", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub rewrite_every: u32,
    /// How often the rows are in the log that the replay lines read: 5 times 1,000,000 rows are 1 GB.
    #[arg(long, env = "TESSERA_BENCH_REPLAY_TIMES", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub replay_times: u32,
    /// Small regions that the line `open regions` opens.
    #[arg(long, env = "TESSERA_BENCH_OPEN_REGIONS", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub open_regions: u32,
    /// Folder for the files, on the disk that is to be measured; a subfolder is made and removed. Defaults to
    /// cargo's target folder.
    #[arg(long, env = "TESSERA_BENCH_DIR")]
    pub dir: Option<PathBuf>,
    /// Only lines whose name contains this.
    #[arg(long, env = "TESSERA_BENCH_ONLY")]
    pub only: Option<String>,
    /// The date to print; none if it is not given.
    #[arg(long, env = "TESSERA_BENCH_DATE")]
    pub date: Option<String>,
    /// Print one JSON object instead of a table.
    #[arg(long, env = "TESSERA_BENCH_JSON")]
    pub json: bool,
    /// Passed by cargo; without effect.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl Options {
    /// Whether a line is wanted.
    #[must_use]
    pub fn wants(&self, line: &str) -> bool {
        self.only.as_ref().is_none_or(|only| line.contains(only.as_str()))
    }
}

const LINES: &str = "\
write:
  ingest, R x W     batches of R rows from W writers into WAL, memtable and SSTs, until all rows are acknowledged
                    and in SSTs. Limit: bare Parquet write of the same rows, sorted already, same encodings, one
                    thread, synced once
  acknowledged      the part of it until the last row was acknowledged. Same limit
  wal append, R x W encoding and synced append alone. Limit: one write and fdatasync a batch of the same bytes into
                    preallocated space; several writers share a sync and may pass it
  restart, replay   opening one region, or four, all of whose rows are in the log, which the page cache has. Limit:
                    reading and decoding the same entries, on one thread, without their checksums
  open regions      opening many regions of one row each, that were closed before. Limit: creating one small file with
                    fsync of it and of its folder for each, on as many threads as open regions. `requests an open` are
                    those to the object store
  memtable insert   memtables alone. Limit: one copy of the same bytes
  sort and gather   memtables as sorted batches. Limit: bare Parquet write
  flush             memtables as SSTs. Limit: bare Parquet write
  amplification     bytes that flushes and compactions of an ingest wrote for each byte of its flushes, when nothing is left
                    to be compacted
read:
  field and time    one field and the time of all rows, from files that share no time. Limit: bare Parquet scan of
                    the same columns of the same files, one thread
  whole rows        all columns. Limit: bare Parquet scan of them
  dedup, ...        the same with one file more, which rewrites every n-th point and overlaps all others
  host, hour        five fields and time of one host and one hour, warm. Limit: plain Parquet reader with cached
                    footers that is told which rows to decode
  host, hour, cold  the same as the first read of an engine that has just opened the region: nothing is cached but by
                    the operating system. `verified` has the checksum of each file verified by it, as is the default
  ten newest rows   all columns of the rows that are the first by time descending
  few rows by a ..  whole rows of which one field is high; how many there are stands behind it
tsbs (needs the release binary of the server; --rows 10000000 is the size that is published):
  load              COPY FROM one Parquet file in order of time. Peers: CREATE TABLE AS .. ORDER BY, INSERT SELECT
  ingest            all rows in batches of 10,000 within the process, each durable before the next; ours until all are
                    in SSTs
  single-groupby .. the queries of TSBS; with the feature `peers` beside DuckDB and ClickHouse
A ratio is limit time / measured time: 1 is as fast as the limit. Output is checked before it is timed.";
