//! What callers ask of a region, and what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field};
use tessera_manifest::id::{Generation, RegionId, Sequence, Slot};
use tessera_manifest::rule::{Expr, RuleVersion};
use tessera_manifest::schema::Schema;

use crate::buckets::Buckets;

pub use crate::sst::Memory;

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

/// In which order rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Order {
    /// In any, which is the cheapest.
    #[default]
    Any,
    /// By (primary key, time) in the one total order of values.
    Key,
    /// By time.
    Time,
    /// By time, the newest first.
    NewestFirst,
}

/// How tags come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Tags {
    /// A value in each row, of the column's type.
    #[default]
    Values,
    /// Run-end encoded, the ends of type Int32: a value for neighbouring rows of one series. Neighbouring runs may have
    /// the same value. Only of rows in any order or that of keys, and not of last rows; otherwise tags are values.
    Runs,
}

/// The same column with its values in runs, as [`Tags::Runs`] has it.
#[must_use]
pub fn run_ends(field: &Field) -> Field {
    let ends = Arc::new(Field::new("run_ends", DataType::Int32, false));
    let values = Arc::new(Field::new("values", field.data_type().clone(), true));
    field.clone().with_data_type(DataType::RunEndEncoded(ends, values))
}

/// The first buckets of time that have rows: for aggregations by bucket of which only the first few are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FirstBuckets {
    /// Which buckets. Where a row may lie in none of them, all rows come out.
    pub of: Buckets,
    /// So many; none is no request.
    pub count: usize,
    /// Whether the first are the newest, else the oldest.
    pub newest_first: bool,
}

/// A version of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AsOf {
    /// This version of the manifest.
    Version(Slot),
    /// The last version written until then, in milliseconds since 1970-01-01T00:00:00Z by its writer's clock.
    UnixMs(u64),
}

/// What to read.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// Positions of the columns wanted, in display order of the schema; `None` for all. May be empty (to count).
    pub projection: Option<Vec<usize>>,
    /// A predicate that every wanted row satisfies, under the two-valued order of the rules. Every row that comes out
    /// satisfies those parts of a conjunction that name tags alone, and lies within the bounds that the whole sets to
    /// the time; rows that do not satisfy the rest may still come out.
    pub filter: Expr,
    /// At least this many rows are wanted, if there are as many; more may come out. With an order by time these are
    /// the first in that order, of all rows that may come out: it is for requests whose filter leaves nothing to test.
    pub limit: Option<usize>,
    /// The order of rows.
    pub order: Order,
    /// How tags come out.
    pub tags: Tags,
    /// Of each series only the last row by time is wanted, of those within the bounds that the filter sets to the
    /// time. Other conditions than these and those on tags are ignored.
    pub last_rows: bool,
    /// Rows are only wanted of the first buckets of time that have any: of these all come out, of later ones some, all or
    /// none. Like a limit with an order by time it is for requests whose filter leaves nothing to test.
    pub first_buckets: Option<FirstBuckets>,
    /// The version to read; `None` for now. Of a past version only rows in files are seen, and the columns are those
    /// of its schema.
    pub as_of: Option<AsOf>,
    /// Into how many streams the work may be cut; 0 and 1 give one.
    pub streams: usize,
    /// What its streams count against, together with the other scans that have it; `None` for its own, of the engine's
    /// `scan_bytes_max`.
    pub memory: Option<Arc<Memory>>,
}

impl Default for ScanRequest {
    /// All rows and columns as of now, in one stream.
    fn default() -> Self {
        Self {
            projection: None,
            filter: Expr::always(),
            limit: None,
            order: Order::Any,
            tags: Tags::Values,
            last_rows: false,
            first_buckets: None,
            as_of: None,
            streams: 1,
            memory: None,
        }
    }
}

/// What checks of the partition rule cost a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleCost {
    /// Files of which no row had to be tested.
    pub files_elided: usize,
    /// Files whose rows, or series of rows, are tested.
    pub files_tested: usize,
    /// Files that have no visible row.
    pub files_pruned: usize,
    /// Rows tested so far; a series that is tested as a whole counts as one.
    pub rows_tested: u64,
}

pub use crate::region::RegionScan;

/// Files of a region that a repartition gave it and compaction has not rewritten yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unlocalized {
    /// Files in the folders of other regions.
    pub foreign_files: usize,
    /// Files with rows that are not the region's, or may be: scans filter what they read of them.
    pub residual_files: usize,
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
