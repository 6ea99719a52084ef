//! What a statement asks for, before names are resolved.

use std::time::Duration;

use datafusion::sql::sqlparser::ast as df;
use tessera_engine::options::SkippingIndex;
use tessera_manifest::schema::Place;
use tessera_manifest::value::DataType;

/// A table, perhaps with its database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    /// The database; `None` for that of the session.
    pub database: Option<String>,
    /// The table.
    pub table: String,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Statement {
    /// `CREATE DATABASE`
    CreateDatabase {
        /// Its name.
        name: String,
        /// Whether one that exists is fine.
        if_not_exists: bool,
        /// What the `WITH` clause says.
        options: Vec<(String, String)>,
    },
    /// `ALTER DATABASE ... SET/UNSET`
    AlterDatabase {
        /// Its name.
        name: String,
        /// What changes.
        options: OptionChange,
    },
    /// `ALTER TABLE`
    AlterTable {
        /// The table.
        name: TableName,
        /// What changes, in order; at least one.
        changes: Vec<AlterClause>,
    },
    /// `ALTER TABLE ... SPLIT/MERGE PARTITION`, `REPARTITION`, `PARTITION ON COLUMNS`
    Repartition(Box<Repartition>),
    /// `EXPLAIN` of one of these.
    ExplainRepartition(Box<Repartition>),
    /// `TRUNCATE TABLE`
    Truncate {
        /// The table.
        name: TableName,
        /// The stretches of time that go, both ends included; none for all rows.
        ranges: Vec<(df::Expr, df::Expr)>,
    },
    /// `ADMIN function('argument', ...)`
    Admin {
        /// The function, in lower case.
        function: String,
        /// Its arguments as texts.
        arguments: Vec<String>,
    },
    /// `DROP DATABASE`
    DropDatabase {
        /// Its name.
        name: String,
        /// Whether one that is missing is fine.
        if_exists: bool,
    },
    /// `CREATE TABLE`
    CreateTable(Box<CreateTable>),
    /// `DROP TABLE`
    DropTable {
        /// The tables, dropped one after the other.
        names: Vec<TableName>,
        /// Whether one that is missing is fine.
        if_exists: bool,
    },
    /// `SELECT`, `WITH`, `VALUES`, `EXPLAIN`: planned and executed by DataFusion.
    Query(Box<df::Statement>),
    /// `INSERT` and `DELETE`: planned by DataFusion, executed by us.
    Write(Box<df::Statement>),
    /// `COPY t FROM 'file'`
    CopyFrom {
        /// The table that is written.
        table: TableName,
        /// The file.
        path: String,
        /// What the `WITH` clause says.
        options: Vec<(String, String)>,
    },
    /// `COPY t TO 'file'`, `COPY (query) TO 'file'`
    CopyTo {
        /// A query that reads what is written to the file.
        query: Box<df::Statement>,
        /// The file.
        path: String,
        /// What the `WITH` clause says.
        options: Vec<(String, String)>,
    },
    /// `SHOW DATABASES`
    ShowDatabases {
        /// A LIKE pattern.
        like: Option<String>,
    },
    /// `SHOW TABLES`
    ShowTables {
        /// The database; `None` for that of the session.
        database: Option<String>,
        /// A LIKE pattern.
        like: Option<String>,
    },
    /// `SHOW CREATE TABLE`
    ShowCreateTable(TableName),
    /// `SHOW PARTITIONS`
    ShowPartitions(TableName),
    /// `DESCRIBE TABLE`
    Describe(TableName),
    /// `USE`
    Use(String),
    /// A statement that we know of and cannot do; the text names it.
    Unsupported(String),
}

impl Statement {
    /// Whether it changes nothing, neither here nor in a file: all that comes of it is its answer.
    #[must_use]
    pub fn only_reads(&self) -> bool {
        match self {
            Self::Query(_)
            | Self::ExplainRepartition(_)
            | Self::ShowDatabases { .. }
            | Self::ShowTables { .. }
            | Self::ShowCreateTable(_)
            | Self::ShowPartitions(_)
            | Self::Describe(_)
            | Self::Use(_)
            | Self::Unsupported(_) => true,
            Self::CreateDatabase { .. }
            | Self::AlterDatabase { .. }
            | Self::DropDatabase { .. }
            | Self::CreateTable(_)
            | Self::AlterTable { .. }
            | Self::Repartition(_)
            | Self::Truncate { .. }
            | Self::DropTable { .. }
            | Self::Admin { .. }
            | Self::Write(_)
            | Self::CopyFrom { .. }
            | Self::CopyTo { .. } => false,
        }
    }
}

/// A change of a table's partition rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repartition {
    /// The table.
    pub name: TableName,
    /// What becomes of its rules.
    pub change: PartitionChange,
    /// How it is done.
    pub options: RepartitionOptions,
}

/// What becomes of the rules of a table; rules are texts over its columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionChange {
    /// `SPLIT PARTITION (rule) INTO (...)`
    Split {
        /// A present rule.
        rule: String,
        /// Two rules or more that take its place.
        into: Vec<String>,
    },
    /// `MERGE PARTITION (...)`
    Merge {
        /// Two present rules or more; one rule takes their place.
        rules: Vec<String>,
    },
    /// `REPARTITION (...) [ON COLUMNS (...)] INTO (...)`
    Replace {
        /// Present rules.
        from: Vec<String>,
        /// The partition columns from now on; `None` for those that there are.
        columns: Option<Vec<String>>,
        /// The rules that take their place.
        into: Vec<String>,
    },
    /// `PARTITION ON COLUMNS (...) (...)`
    On {
        /// The partition columns from now on.
        columns: Vec<String>,
        /// All rules from now on; none for a table of one region.
        rules: Vec<String>,
    },
}

/// What the `WITH` clause of a repartition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepartitionOptions {
    /// How long the statement waits; the repartition goes on after it. `None` for as long as it takes.
    pub timeout: Option<Duration>,
    /// Whether the statement waits for the end; else it answers the id of the procedure.
    pub wait: bool,
    /// Whether files that regions share are rewritten right after it; else when their region is compacted next.
    pub localize: bool,
}

impl Default for RepartitionOptions {
    /// Waits to the end, and has shared files rewritten.
    fn default() -> Self {
        Self { timeout: None, wait: true, localize: true }
    }
}

/// Options of a table or a database that change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OptionChange {
    /// These get values; an empty value unsets the option.
    Set(Vec<(String, String)>),
    /// These have none any more.
    Unset(Vec<String>),
}

/// One clause of an `ALTER TABLE`.
#[derive(Debug, Clone, PartialEq)]
pub enum AlterClause {
    /// `ADD COLUMN`
    Add {
        /// The column.
        column: Box<ColumnDef>,
        /// Whether it is part of the primary key.
        is_key: bool,
        /// Whether one that exists is fine.
        if_not_exists: bool,
        /// Where it is shown.
        place: Place,
    },
    /// `DROP COLUMN`
    Drop {
        /// The column.
        column: String,
    },
    /// `MODIFY COLUMN c type`
    Modify {
        /// The column.
        column: String,
        /// Its new type.
        data_type: DataType,
    },
    /// `MODIFY COLUMN c SET/UNSET SKIPPING INDEX`
    Index {
        /// The column.
        column: String,
        /// The index that it gets; `None` if it loses the one that it has.
        skipping: Option<SkippingIndex>,
    },
    /// `RENAME`
    Rename {
        /// The new name of the table.
        to: String,
    },
    /// `SET`, `UNSET`
    Options(OptionChange),
}

/// `CREATE TABLE`
#[derive(Debug, Clone, PartialEq)]
pub struct CreateTable {
    /// The table.
    pub name: TableName,
    /// Whether one that exists is fine.
    pub if_not_exists: bool,
    /// The columns in display order.
    pub columns: Vec<ColumnDef>,
    /// The columns of the primary key in key order.
    pub primary_key: Vec<String>,
    /// The columns of the PARTITION clause, in its order.
    pub partition_columns: Vec<String>,
    /// The texts of its rules.
    pub rules: Vec<String>,
    /// What the `WITH` clause says.
    pub options: Vec<(String, String)>,
}

/// One column of a `CREATE TABLE`.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDef {
    /// Its name.
    pub name: String,
    /// Its type.
    pub data_type: DataType,
    /// `NULL` or `NOT NULL`, if the statement says so.
    pub nullable: Option<bool>,
    /// Whether it is the time index.
    pub time_index: bool,
    /// Its default.
    pub default: Option<df::Expr>,
    /// Its comment.
    pub comment: Option<String>,
    /// Its bloom filters.
    pub skipping: Option<SkippingIndex>,
}
