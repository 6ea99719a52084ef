//! References to SSTs, and what a manifest knows of each.
//!
//! Invariants:
//! - An SST stays where it was born; any region of the table may refer to it. The pair (origin, file) is its
//!   identity, and the path follows from it.
//! - A reference's *scope* is the part of the file's rows that it stands for; a reference made by the writer
//!   of the file has the scope *true*.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::id::{ColumnId, FileKey, Generation, Sequence};
use crate::rule::Expr;
use crate::value::Value;

/// What is known of one column's values in a file. A column without an entry is unknown, not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnStats {
    /// The column.
    pub column: ColumnId,
    /// The least and the greatest value that is neither NULL nor NaN; `None` if every value is one of these.
    pub range: Option<(Value, Value)>,
    /// Whether there is a NULL.
    pub has_null: bool,
    /// Whether there is a NaN.
    pub has_nan: bool,
}

/// What a manifest knows of an SST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMeta {
    /// Least and greatest time index value, both inclusive, in the unit of the column.
    pub time_range: (i64, i64),
    /// Rows, deletes included.
    pub rows: u64,
    /// How many of the rows are deletes.
    pub deletes: u64,
    /// Size of the object.
    pub bytes: u64,
    /// Least and greatest row sequence, both inclusive.
    pub sequences: (Sequence, Sequence),
    /// 0 for a flush; compaction raises it.
    pub level: u8,
    /// The partition generation under which it was written.
    pub generation: Generation,
    /// The version of the schema with which it was written.
    pub schema_version: u32,
    /// The region rule under which it was written: every row satisfies it.
    pub rule: Arc<Expr>,
    /// Statistics of each partition column.
    pub stats: Vec<ColumnStats>,
    /// CRC-32 (IEEE) of the object's bytes.
    pub crc32: u32,
}

/// A region's reference to an SST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// Which file.
    pub key: FileKey,
    /// The part of its rows that this reference stands for.
    pub scope: Arc<Expr>,
    /// What is known of the file.
    pub meta: Arc<FileMeta>,
}
