//! Benchmarks of the engine on generated TSBS-like "cpu" data, each beside the limit that the same machine
//! sets in the same run.
//!
//! `cargo bench -p tessera-benches` runs both targets; `cargo bench -p tessera-benches --bench write -- --help`
//! lists the settings, each of which is an environment variable too. What the lines mean:
//!
//! `write`
//! - `ingest, 10000 x 1` (rows a batch x writers): an engine with a synced local WAL on the real disk, from the
//!   first write until every row is acknowledged *and* in an SST that a manifest names. `acknowledged` is the part
//!   until the last acknowledgement. Limit: one thread writes the same rows, sorted already, as one Parquet file
//!   with the encodings that the engine chose, and syncs it.
//! - `wal append`: encoding and synced append of the batches, no memtable. Limit: the same bytes, one write and one
//!   fdatasync a batch, into a file that is preallocated. Several writers share a sync and may pass the limit.
//! - `memtable insert`: memtables alone. Limit: one copy of the batches' bytes.
//! - `sort and gather`: memtables as sorted batches, no file. `flush`: the same, written as SSTs. Limit of both:
//!   the bare Parquet write.
//!
//! `read`
//! - `field and time`, `whole rows`: everything in a region of several files that share no time. Limit: one
//!   thread decodes the same columns of the same files with the plain Parquet reader.
//! - `dedup, ..`: the same, after a file was added that rewrites every n-th point, so that all files are merged.
//! - `host, hour`: five fields of one host and one hour, warm; median over many hosts. Limit: the plain reader
//!   with cached footers, told beforehand which rows to decode. `cold` and `verified`: the first read of an engine.
//!
//! Invariants:
//! - Every line checks its output (row count, sum of each field against the generator) in a run of its own before
//!   it is timed; a check that fails ends the run with an error.
//! - A figure is the median of several runs, the spread is shown, and subject and limit see the same rows.
//! - A ratio above 1 means faster than the limit.

pub mod counted;
pub mod cpu;
pub mod delay;
pub mod limit;
pub mod machine;
pub mod many;
pub mod measure;
pub mod node;
pub mod options;
pub mod report;
pub mod tsbs;

/// What may go wrong in a benchmark; it ends the run.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
