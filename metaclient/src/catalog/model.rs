//! What the catalog holds.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tessera_manifest::id::{ColumnId, Generation, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::limits::NAME_BYTES_MAX;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::Schema;

use crate::kv::{Compare, Op, Txn};

/// The database that every cluster has.
pub const DEFAULT_DATABASE: &str = "public";

/// The id of the first user table.
pub const FIRST_TABLE_ID: TableId = TableId(1024);

/// A change of the catalog that is not done yet: part of a transaction, so that it happens together with what else is
/// in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Planned {
    /// That all is as it was when the change was planned. Where one fails, plan again: that says why.
    pub compares: Vec<Compare>,
    /// The change.
    pub ops: Vec<Op>,
}

impl Planned {
    /// The change as a transaction of its own.
    #[must_use]
    pub fn into_txn(self) -> Txn {
        Txn { compares: self.compares, ..Txn::new().then(self.ops) }
    }
}

/// A database: a space of table names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its name, case-sensitive.
    pub name: String,
    /// When it was created, in milliseconds since 1970; for people only.
    pub created_unix_ms: u64,
    /// Options of its tables that do not have them themselves, as the user gave them.
    pub options: BTreeMap<String, String>,
}

/// A table by name. Shown as `database.name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableRef {
    /// The database.
    pub database: String,
    /// The table, case-sensitive.
    pub name: String,
}

impl TableRef {
    /// The table `name` of `database`.
    pub fn new(database: impl Into<String>, name: impl Into<String>) -> Self {
        Self { database: database.into(), name: name.into() }
    }
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.database, self.name)
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its id, for ever.
    pub id: TableId,
    /// The database that it is in.
    pub database: String,
    /// Its name, case-sensitive.
    pub name: String,
    /// Its columns.
    pub schema: Schema,
    /// The columns that the rules of its regions may name, in the order of PARTITION ON COLUMNS.
    pub partition_columns: Vec<ColumnId>,
    /// What was given in WITH.
    pub options: BTreeMap<String, String>,
    /// When it was created, in milliseconds since 1970; for people only.
    pub created_unix_ms: u64,
    /// The number that the next region gets; every region's number is below it.
    pub next_region_number: RegionNumber,
    /// The generation that the next change of rules gets; every route's generation is below it.
    pub next_generation: Generation,
}

/// Where a region is and which rows belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The region.
    pub region: RegionId,
    /// The node that serves it.
    pub node: NodeId,
    /// The generation of its rule.
    pub generation: Generation,
    /// The rows that belong to it.
    pub rule: Expr,
}

/// A table that was dropped; its files may still be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The table as it was. Its regions have the numbers below `next_region_number`.
    pub table: TableInfo,
    /// When it was dropped, in milliseconds since 1970; for people only.
    pub dropped_unix_ms: u64,
}

/// What a drop took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedTable {
    /// The table as it was.
    pub table: TableInfo,
    /// Its routes for reading, by region number.
    pub read_routes: Vec<Route>,
    /// Its routes for writing, by region number.
    pub write_routes: Vec<Route>,
}

/// Why a table cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The name of a table or database is empty or too long.
    #[error("'{name}' cannot be a name: a name has 1 to {max} bytes", max = NAME_BYTES_MAX)]
    BadName {
        /// The name.
        name: String,
    },
    /// A partition column is not in the schema, or is listed twice.
    #[error("partition column id {column} is not a column of the table, or is listed twice")]
    PartitionColumn {
        /// The column.
        column: ColumnId,
    },
    /// A table needs a region.
    #[error("a table needs at least one region")]
    NoRegion,
    /// A route is of another table, stands twice, or is not below the table's counters.
    #[error("the route of region {region} does not fit the table: {detail}")]
    Route {
        /// The region.
        region: RegionId,
        /// What does not fit.
        detail: &'static str,
    },
}

/// Checks the name of a database or table.
pub(super) fn check_name(name: &str) -> Result<(), TableError> {
    let fits = !name.is_empty() && name.len() <= NAME_BYTES_MAX;
    if fits { Ok(()) } else { Err(TableError::BadName { name: name.to_owned() }) }
}

impl TableInfo {
    /// Its name.
    #[must_use]
    pub fn table_ref(&self) -> TableRef {
        TableRef::new(self.database.clone(), self.name.clone())
    }

    /// Checks names and partition columns.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), TableError> {
        check_name(&self.database)?;
        check_name(&self.name)?;
        let mut seen = BTreeSet::new();
        for column in &self.partition_columns {
            if self.schema.column(*column).is_none() || !seen.insert(column) {
                return Err(TableError::PartitionColumn { column: *column });
            }
        }
        Ok(())
    }

    /// Checks that `routes` can be those of this table.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check_routes(&self, routes: &[Route]) -> Result<(), TableError> {
        if routes.is_empty() {
            return Err(TableError::NoRegion);
        }
        let mut seen = BTreeSet::new();
        for Route { region, node: _, generation, rule: _ } in routes {
            let refused = |detail| Err(TableError::Route { region: *region, detail });
            if region.table() != self.id {
                return refused("it is of another table");
            }
            if region.number() >= self.next_region_number {
                return refused("its number is not below the next region number");
            }
            if *generation >= self.next_generation {
                return refused("its generation is not below the next generation");
            }
            if !seen.insert(*region) {
                return refused("it stands twice");
            }
        }
        Ok(())
    }
}
