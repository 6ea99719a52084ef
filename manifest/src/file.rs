//! References to SSTs, and what a manifest knows of each.
//!
//! Invariants:
//! - An SST stays where it was born; any region of the table may refer to it. The pair (origin, file) is its
//!   identity, and the path follows from it.
//! - A reference's *scope* is the part of the file's rows that it stands for; a reference made by the writer
//!   of the file has the scope *true*.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::{ColumnId, FileKey, Generation, Sequence, Slot};
use crate::rule::{Expr, RuleVersion};
use crate::value::Value;

/// The part of a file's rows that a reference stands for, with its hash, which is computed once. A copy is one
/// pointer; equal scopes of one region share their expression.
#[derive(Clone)]
pub struct Scope(Arc<(Expr, RuleVersion)>);

static ALL: LazyLock<Scope> = LazyLock::new(|| Scope::new(Expr::always()));

impl Scope {
    /// The rows that satisfy `expr`.
    #[must_use]
    pub fn new(expr: Expr) -> Self {
        let version = expr.version();
        Self(Arc::new((expr, version)))
    }

    /// All rows.
    #[must_use]
    pub fn all() -> Self {
        ALL.clone()
    }

    /// All rows, without a copy.
    pub(crate) fn everything() -> &'static Self {
        &ALL
    }

    /// The hash of the expression's canonical form.
    #[must_use]
    pub fn version(&self) -> RuleVersion {
        self.0.1
    }

    /// Whether it is all rows.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.version() == ALL.version()
    }
}

impl Deref for Scope {
    type Target = Expr;
    fn deref(&self) -> &Expr {
        &self.0.0
    }
}

impl PartialEq for Scope {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Scope {}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Expr::fmt(self, f)
    }
}

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Expr::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for Scope {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expr = Expr::deserialize(deserializer)?;
        Ok(if expr == **ALL { Self::all() } else { Self::new(expr) })
    }
}

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
    pub stats: Arc<[ColumnStats]>,
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
    pub scope: Scope,
    /// What is known of the file.
    pub meta: FileMeta,
}

impl FileRef {
    /// The columns of which its statistics, its rule and its scope hold values, in the types that they had when the file was
    /// written.
    #[must_use]
    pub fn valued_columns(&self) -> BTreeSet<ColumnId> {
        let of_stats = self.meta.stats.iter().map(|stats| stats.column);
        of_stats.chain(self.meta.rule.columns()).chain(self.scope.columns()).collect()
    }
}

/// A reference that readers see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The reference.
    pub file: Arc<FileRef>,
    /// The version that listed the file first.
    pub since: Slot,
}

/// A reference that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The reference as it was.
    pub file: Arc<FileRef>,
    /// The version that listed the file first.
    pub since: Slot,
    /// The version that removed it.
    pub by: Slot,
}

impl Removed {
    /// Whether readers of `version` see the file.
    #[must_use]
    pub fn visible_at(&self, version: Slot) -> bool {
        self.since <= version && version < self.by
    }
}

/// A reference that readers do not see yet: it becomes a [`Listed`] one when its repartition is resolved, and by
/// nothing else. It is no [`FileRef`], so that no scan can take it by mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedFile(Arc<FileRef>);

impl StagedFile {
    /// The reference, staged.
    #[must_use]
    pub fn new(file: Arc<FileRef>) -> Self {
        Self(file)
    }

    /// Which file.
    #[must_use]
    pub fn key(&self) -> FileKey {
        self.0.key
    }

    /// Bytes and rows and the like; for accounting and display.
    #[must_use]
    pub fn meta(&self) -> &FileMeta {
        &self.0.meta
    }

    /// The part of its rows that the reference will stand for.
    #[must_use]
    pub fn scope(&self) -> &Scope {
        &self.0.scope
    }

    /// The reference inside, for whoever resolves it or writes it down.
    pub(crate) fn reference(&self) -> &Arc<FileRef> {
        &self.0
    }
}

/// A file whose end is decided: its object may be gone at any time, and nothing may refer to it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doomed {
    /// The version that doomed it.
    pub by: Slot,
    /// Size of the object.
    pub bytes: u64,
}
