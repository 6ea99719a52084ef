//! What can go wrong in the catalog.

use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::TableId;

use super::model::{DEFAULT_DATABASE, TableError, TableRef};
use crate::keys::ParseKeyError;
use crate::kv::KvError;
use crate::values::ValueError;

/// Why the catalog refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The store refused or failed.
    #[error("the metadata store failed")]
    Kv {
        /// How.
        #[from]
        source: KvError,
    },
    /// A stored value cannot be read.
    #[error("stored metadata cannot be read")]
    Value {
        /// Which, and why.
        #[from]
        source: ValueError,
    },
    /// A stored key is none that this program knows.
    #[error("the metadata store holds a foreign key")]
    Key {
        /// Which.
        #[from]
        source: ParseKeyError,
    },
    /// What was given cannot be a table, or a name.
    #[error("the table or name is not sound")]
    Table {
        /// Which rule is broken.
        #[from]
        source: TableError,
    },
    /// There is no such database.
    #[error("database '{database}' does not exist")]
    DatabaseNotFound {
        /// Its name.
        database: String,
    },
    /// There is a database of that name.
    #[error("database '{database}' exists already")]
    DatabaseExists {
        /// Its name.
        database: String,
    },
    /// A database with tables cannot be dropped.
    #[error("database '{database}' still has tables: drop them first")]
    DatabaseNotEmpty {
        /// Its name.
        database: String,
    },
    /// The default database cannot be dropped.
    #[error("database '{}' is the default and cannot be dropped", DEFAULT_DATABASE)]
    DefaultDatabase,
    /// There is no table of that name.
    #[error("table '{table}' does not exist")]
    TableNotFound {
        /// Its name.
        table: TableRef,
    },
    /// There is no table of that id.
    #[error("table {id} does not exist")]
    TableIdNotFound {
        /// Its id.
        id: TableId,
    },
    /// There is a table of that name.
    #[error("table '{table}' exists already, with id {id}")]
    TableExists {
        /// Its name.
        table: TableRef,
        /// The id of the table that exists.
        id: TableId,
    },
    /// There is, or was, a table of that id.
    #[error("table id {id} is or was in use: allocate another")]
    TableIdTaken {
        /// The id.
        id: TableId,
    },
    /// The id was not given by the sequence.
    #[error("table id {id} was not allocated: the next id is {next}")]
    TableIdNotAllocated {
        /// The id.
        id: TableId,
        /// The next id of the sequence.
        next: TableId,
    },
    /// The table is not as the caller believes.
    #[error("table '{table}' was changed by somebody else: read it again")]
    TableChanged {
        /// Its name.
        table: TableRef,
    },
    /// A change would alter what may not change.
    #[error("the {part} of table '{table}' cannot be changed so")]
    FixedPart {
        /// The table.
        table: TableRef,
        /// The part.
        part: &'static str,
    },
    /// The table's keys do not fit in one transaction, or its routes in one answer.
    #[error("table '{table}' has {regions} regions, more than the {regions_max} that the metadata store can create at once")]
    TooManyRegions {
        /// The table.
        table: TableRef,
        /// How many.
        regions: usize,
        /// The limit.
        regions_max: usize,
    },
    /// A sequence only goes up.
    #[error("the next table id is {next} and can only be set to a greater one, not to {asked}")]
    SequenceBackward {
        /// The next id.
        next: TableId,
        /// What it should become.
        asked: TableId,
    },
    /// The next id is that of a table that exists, or below it.
    #[error(
        "the next table id is {next}, but table {highest} exists: the id of a table would be given again; raise the next table id above it"
    )]
    SequenceBehind {
        /// The next id.
        next: TableId,
        /// The highest id that is in use.
        highest: TableId,
    },
    /// The next id cannot be set to what is in use.
    #[error("the next table id cannot be set to {asked}, because table {highest} exists: set it above that")]
    SequenceInUse {
        /// What it should become.
        asked: TableId,
        /// The highest id that is in use.
        highest: TableId,
    },
    /// In recovery mode nothing is created.
    #[error("recovery mode is on, in which no {what} is created: disable it first")]
    RecoveryMode {
        /// What was to be created.
        what: &'static str,
    },
    /// The next table id is only set in recovery mode.
    #[error("the next table id can only be set in recovery mode, which is off: enable it first")]
    NotInRecoveryMode,
    /// All ids are used up.
    #[error("all table ids are used up")]
    SequenceExhausted,
    /// The conditions that a caller combined with an allocation do not hold.
    #[error("table id {id} was not allocated: the conditions that go with it do not hold")]
    ConditionsFailed {
        /// The id that would have been given; it will be given to another.
        id: TableId,
    },
    /// The metadata has no identity yet.
    #[error("the metadata store was never set up: bootstrap it")]
    NotBootstrapped,
    /// Others changed the same keys over and over.
    #[error("'{what}' is changed by many at once: try again")]
    Contended {
        /// What was to be read or changed.
        what: String,
    },
}

impl CatalogError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Kv { source } => source.class(),
            Self::Value { source } => source.class(),
            Self::Key { .. } => ErrorClass::Corrupt,
            Self::Contended { .. } => ErrorClass::Retry,
            Self::TableChanged { .. } | Self::TableIdNotFound { .. } => ErrorClass::Refresh,
            Self::Table { .. }
            | Self::DatabaseNotFound { .. }
            | Self::DatabaseExists { .. }
            | Self::DatabaseNotEmpty { .. }
            | Self::DefaultDatabase
            | Self::TableNotFound { .. }
            | Self::TableExists { .. }
            | Self::TableIdTaken { .. }
            | Self::TableIdNotAllocated { .. }
            | Self::FixedPart { .. }
            | Self::TooManyRegions { .. }
            | Self::SequenceBackward { .. }
            | Self::SequenceBehind { .. }
            | Self::SequenceInUse { .. }
            | Self::RecoveryMode { .. }
            | Self::NotInRecoveryMode
            | Self::SequenceExhausted
            | Self::ConditionsFailed { .. }
            | Self::NotBootstrapped => ErrorClass::Invalid,
        }
    }
}
