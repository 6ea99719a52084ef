//! What callers ask of a region, and what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::stream::BoxStream;
use tessera_manifest::file::FileRef;
use tessera_manifest::id::{Generation, RegionId, Sequence, Slot};
use tessera_manifest::rule::{Expr, RuleVersion};
use tessera_manifest::schema::Schema;

use crate::error::Error;

/// What a write does to the rows' keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpType {
    /// Inserts the row, or replaces the one with its key.
    Put,
    /// Removes the row with its key; only the key columns of the batch are read.
    Delete,
}

/// Rows for one region.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// The generation of the route by which the caller came here.
    pub generation: Generation,
    /// The rule version of that route.
    pub rule_version: RuleVersion,
    /// All columns of the schema in display order, types as [`Schema::to_arrow`](tessera_manifest::schema::Schema::to_arrow)
    /// gives them. For a delete, only primary key and time index are read, and the batch holds just these
    /// columns in display order.
    pub batch: RecordBatch,
    /// What to do with the rows.
    pub op: OpType,
}

/// What a table is besides its rows, after a change: names, columns and options. The version of the schema names all
/// of it: two alterations of a table with the same version are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration {
    /// The database that the table is in.
    pub database: String,
    /// The table's name.
    pub table: String,
    /// Its schema, of a version above the present one.
    pub schema: Arc<Schema>,
    /// Its options.
    pub options: BTreeMap<String, String>,
}

/// An acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteOutcome {
    /// Rows written.
    pub rows: usize,
    /// The sequence of the last of them.
    pub last_sequence: Sequence,
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Positions of the columns wanted, in display order of the schema; `None` for all. May be empty (to count).
    pub projection: Option<Vec<usize>>,
    /// A predicate that every wanted row satisfies, under the two-valued order of the rules. It is used to
    /// skip files, row groups and rows; rows that do not satisfy it may still come out.
    pub filter: Expr,
    /// At least this many rows are wanted, if there are as many; more may come out.
    pub limit: Option<usize>,
}

/// A running scan: dropping the stream ends it and frees what it holds.
pub struct RegionScan {
    /// The schema of the batches: the projected columns.
    pub schema: SchemaRef,
    /// Visible rows, each key once.
    pub stream: BoxStream<'static, Result<RecordBatch, Error>>,
    /// Files that the scan reads.
    pub files: Vec<Arc<FileRef>>,
    /// Files that it could skip by time, rule or statistics.
    pub files_skipped: usize,
}

/// What there is of a region, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionInfo {
    /// The region.
    pub region: RegionId,
    /// The version that its manifest is at.
    pub manifest_version: Slot,
    /// Visible SSTs.
    pub files: usize,
    /// Their bytes.
    pub file_bytes: u64,
    /// Their rows, deletes and overwritten rows included.
    pub file_rows: u64,
    /// Bytes held by memtables.
    pub memtable_bytes: usize,
    /// Rows in memtables, deletes and overwritten rows included.
    pub memtable_rows: usize,
}
