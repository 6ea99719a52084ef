//! Files into rows and rows into files: what COPY FROM and COPY TO run on.
//!
//! ```text
//! file ──► Reader ──► Batch { rows in the table's schema, their lines }   (COPY FROM; blocking iterator)
//! rows ──► Writer ──► temporary file ──► fsync ──► rename                 (COPY TO)
//! ```
//!
//! Invariants:
//! - Values are exact: no number goes through another type, and what the column cannot hold is an error.
//! - An error names the file, the line (1-based, as an editor counts; the row in Parquet files) and the column.
//! - The first error ends the iterator; what the caller wrote of earlier batches is the caller's to tell.
//! - A file that is being written is never seen half-done under its name.

mod builder;
mod columns;
mod csv;
mod field;
mod lines;
pub mod options;
mod parquet;
#[cfg(test)]
mod tests;
mod write;

use std::fs::File;
use std::path::Path;

use arrow::array::RecordBatch;
use tessera_manifest::schema::Schema;

use crate::error::{Code, ServerError};

pub use options::{FileFormat, ReadOptions, WriteOptions};
pub use write::{Writer, write_stream};

/// Rows of a file, in the table's schema (all columns, display order).
#[derive(Debug, Clone)]
pub struct Batch {
    /// The rows.
    pub rows: RecordBatch,
    /// Where in the file they stand.
    pub origin: Origin,
}

/// Where the rows of a batch stand in their file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The line at which each row begins, 1-based.
    Lines(Vec<u64>),
    /// The first row's number, 1-based; the others follow.
    FirstRow(u64),
}

impl Batch {
    /// Where a row of the batch stands, for messages: `line 12` or `row 12`.
    #[must_use]
    pub fn place(&self, row: usize) -> String {
        match &self.origin {
            Origin::Lines(lines) => format!("line {}", lines.get(row).copied().unwrap_or(0)),
            Origin::FirstRow(first) => format!("row {}", first.saturating_add(row as u64)),
        }
    }
}

/// Reads a file batch by batch; blocking, so run it off the async threads.
///
/// Columns are matched by name: exactly, else without regard to case. A column that the file lacks gets its default,
/// or NULL.
pub struct Reader {
    inner: Inner,
    done: bool,
}

enum Inner {
    Csv(Box<csv::Reader>),
    Parquet(Box<parquet::Reader>),
}

impl Reader {
    /// Opens `path` and matches its columns with those of `schema`. `now_ms` (since 1970) fills columns whose default is
    /// the current time.
    ///
    /// # Errors
    /// When the file cannot be read or its columns do not fit: an unknown column (unless `ignore_unknown`), a
    /// missing one that is NOT NULL and has no default, a name twice.
    pub fn open(path: &Path, schema: &Schema, options: &ReadOptions, now_ms: u64) -> Result<Self, ServerError> {
        let format = options.format.map_or_else(|| FileFormat::of_path(path), Ok)?;
        let file = File::open(path).map_err(|error| {
            ServerError::new(Code::InvalidArguments, format!("cannot open '{}' on the server: {error}", path.display()))
        })?;
        let inner = match format {
            FileFormat::Csv { gzip } => Inner::Csv(Box::new(csv::Reader::open(path, file, gzip, schema, options, now_ms)?)),
            FileFormat::Parquet => Inner::Parquet(Box::new(parquet::Reader::open(path, file, schema, options, now_ms)?)),
        };
        Ok(Self { inner, done: false })
    }
}

impl Iterator for Reader {
    type Item = Result<Batch, ServerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = match &mut self.inner {
            Inner::Csv(reader) => reader.next_batch(),
            Inner::Parquet(reader) => reader.next_batch(),
        };
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}
