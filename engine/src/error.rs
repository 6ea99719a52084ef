//! The crate's error type.

use std::sync::Arc;

use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{ColumnId, Epoch, Generation, RegionId, TxnId};
use tessera_manifest::log::RollbackError;
use tessera_manifest::rule::RuleVersion;
use tessera_manifest::schema::EvolveError;
use tessera_manifest::set_hash::SetHash;
use tessera_manifest::state::Violation;
use tessera_manifest::wal::WalId;

use crate::options::{MergeMode, OptionError};
use crate::wal::WalError;
use crate::{codec, sst};

/// Why a region cannot become what an alteration says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlterError {
    /// The schema does not follow from the present one.
    #[error(transparent)]
    Schema(#[from] EvolveError),
    /// An option that cannot be.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Another alteration took the version.
    #[error("schema version {version} is taken by another alteration")]
    VersionTaken {
        /// The version.
        version: u32,
    },
    /// A column that says which rows of a file belong to the region.
    #[error("column {column} was a partition column, and files are still cut by it: compact the region, then drop it")]
    InScope {
        /// The column.
        column: ColumnId,
    },
    /// The rows that there are would mean something else.
    #[error("the merge mode of a table is for life: rows were written under {from:?}")]
    MergeMode {
        /// The present mode.
        from: MergeMode,
    },
}

/// Why a region could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The region is not open on this node.
    #[error("region {region} is not open here")]
    RegionNotFound {
        /// The region.
        region: RegionId,
    },
    /// The region could not be opened.
    #[error("region {region} could not be opened")]
    OpenFailed {
        /// The region.
        region: RegionId,
        /// Why.
        source: Arc<Error>,
    },
    /// The region's table options cannot be read.
    #[error("the table options of region {region} cannot be read")]
    Options {
        /// The region.
        region: RegionId,
        /// Which option, and why.
        source: OptionError,
    },
    /// The region is being closed or dropped.
    #[error("region {region} is closed")]
    Closed {
        /// The region.
        region: RegionId,
    },
    /// Another node has taken the region over.
    #[error("region {region} was taken over by another writer: this node serves it no more")]
    Fenced {
        /// The region.
        region: RegionId,
    },
    /// The write was routed under an old rule.
    #[error("region {region} is at generation {generation}, rule version {rule_version}: refresh the route and retry")]
    Stale {
        /// The region.
        region: RegionId,
        /// The region's generation now.
        generation: Generation,
        /// The region's rule version now.
        rule_version: RuleVersion,
    },
    /// The region is no part of the table any more.
    #[error("region {region} was retired by a repartition: refresh the routes and retry")]
    Retired {
        /// The region.
        region: RegionId,
    },
    /// A repartition is under way, which does not admit what was asked.
    #[error("region {region} is being repartitioned (txn {txn}): retry when that is done")]
    Staged {
        /// The region.
        region: RegionId,
        /// The repartition.
        txn: TxnId,
    },
    /// A step of a repartition for a region that is not staged for it.
    #[error("region {region} is not staged for txn {txn}")]
    NotStaged {
        /// The region.
        region: RegionId,
        /// The repartition.
        txn: TxnId,
    },
    /// A step of a repartition that contradicts what the region has recorded of it.
    #[error("region {region} cannot take this step of txn {txn}: {detail}")]
    StagedOtherwise {
        /// The region.
        region: RegionId,
        /// The repartition.
        txn: TxnId,
        /// What does not fit.
        detail: String,
    },
    /// A step of a repartition that an earlier one has to come before.
    #[error("region {region} cannot take this step of txn {txn} yet: {detail}")]
    StagedTooEarly {
        /// The region.
        region: RegionId,
        /// The repartition.
        txn: TxnId,
        /// What has to be done first.
        detail: &'static str,
    },
    /// A remap whose segments were written for an epoch that is over.
    #[error("the remap for region {region} was not written for its present epoch {epoch}: remap again")]
    StaleRemap {
        /// The region.
        region: RegionId,
        /// Its epoch now.
        epoch: Epoch,
    },
    /// A source of a remap is not as it was when it was drained.
    #[error("the visible files of region {region} are not those that txn {txn} drained: drain and remap again")]
    SourceMoved {
        /// The source.
        region: RegionId,
        /// The repartition.
        txn: TxnId,
    },
    /// It cannot be found out which state of a region readers are to see.
    #[error("it cannot be found out whether txn {txn} is published, in which region {region} takes part: {detail}")]
    ReadSet {
        /// The region.
        region: RegionId,
        /// The repartition.
        txn: TxnId,
        /// What the catalog says.
        detail: String,
    },
    /// An edit for another file set than the region has.
    #[error("the edit of region {region} is for the file set {expected}, the region has {found}: plan it again")]
    EditConflict {
        /// The region.
        region: RegionId,
        /// The hash of the file set that the edit is for.
        expected: SetHash,
        /// The hash of the region's file set.
        found: SetHash,
    },
    /// An edit cannot be taken back.
    #[error("region {region} cannot go back")]
    Rollback {
        /// The region.
        region: RegionId,
        /// Why.
        source: RollbackError,
    },
    /// The caller knows a later schema than the region.
    #[error("region {region} is at schema version {version}, the request at {requested}: the table is being altered, retry")]
    SchemaBehind {
        /// The region.
        region: RegionId,
        /// The region's schema version.
        version: u32,
        /// That of the request.
        requested: u32,
    },
    /// A column that the request wants is gone.
    #[error("column '{column}' was dropped from region {region} meanwhile: run the statement again")]
    ColumnDropped {
        /// The region.
        region: RegionId,
        /// The column.
        column: String,
    },
    /// Rows of the region are told apart by other columns than the request knows of.
    #[error("the primary key of region {region} was changed meanwhile: run the statement again")]
    KeyChanged {
        /// The region.
        region: RegionId,
    },
    /// The region cannot become what an alteration says.
    #[error("region {region} cannot be altered")]
    Alter {
        /// The region.
        region: RegionId,
        /// Why.
        source: AlterError,
    },
    /// A delete in a table that keeps every row.
    #[error("region {region} is of a table with append_mode, in which rows have no key to delete them by: use TRUNCATE or a TTL")]
    AppendOnly {
        /// The region.
        region: RegionId,
    },
    /// A row does not belong to the region.
    #[error("row {row} does not satisfy the rule of region {region}: {rule}")]
    OutsideRule {
        /// The region.
        region: RegionId,
        /// Its rule.
        rule: String,
        /// The row's partition columns.
        row: String,
    },
    /// The batch is not of the region's schema.
    #[error("a batch for region {region} cannot be written: {detail}")]
    BatchShape {
        /// The region.
        region: RegionId,
        /// What is wrong.
        detail: String,
    },
    /// Memtables are full and flushing does not keep up.
    #[error(
        "the memtables of {whose} hold {bytes} bytes, the most allowed is {max}, and flushing does not keep up: retry later; if it \
         lasts, the log says why flushes fail"
    )]
    Overloaded {
        /// Whose budget is full: that of the region, or that of all regions of the node.
        whose: &'static str,
        /// What they hold.
        bytes: usize,
        /// What they may hold.
        max: usize,
    },
    /// The region has written all rows that a generation can number.
    #[error("region {region} has used up the sequences of its generation: repartition the table")]
    SequencesUsedUp {
        /// The region.
        region: RegionId,
    },
    /// The manifest.
    #[error("the manifest of region {region} failed")]
    Manifest {
        /// The region.
        region: RegionId,
        /// How.
        source: Box<tessera_manifest::error::Error>,
    },
    /// The write-ahead log.
    #[error("the write-ahead log failed for region {region}")]
    Wal {
        /// The region.
        region: RegionId,
        /// How.
        source: Box<WalError>,
    },
    /// The log of another node holds rows of the region, and is among those that can be read here, and could not be opened.
    #[error("region {region} is not taken over: it has rows in the {log}, which could not be opened in the place of its node")]
    TakeOver {
        /// The region.
        region: RegionId,
        /// The log.
        log: WalId,
        /// Why; [`WalError::Locked`] while its own node, or another one that takes regions over, has it.
        source: Box<WalError>,
    },
    /// The write-ahead log could not be closed.
    #[error("the write-ahead log could not be closed")]
    CloseWal {
        /// How.
        source: WalError,
    },
    /// An entry of the write-ahead log.
    #[error("wal entry {position} of region {region} cannot be decoded")]
    WalEntry {
        /// The region.
        region: RegionId,
        /// Which entry.
        position: tessera_manifest::wal::WalPosition,
        /// Why.
        source: codec::Error,
    },
    /// Sorting, merging, writing or reading rows.
    #[error("region {region} could not read or write its rows")]
    Rows {
        /// The region.
        region: RegionId,
        /// How.
        source: Box<sst::Error>,
    },
    /// A file that the scan was to read is gone: retention has passed its version.
    #[error("the version of region {region} that is read is gone: scan anew, or keep versions for longer")]
    SnapshotExpired {
        /// The region.
        region: RegionId,
        /// What is gone.
        source: Box<sst::Error>,
    },
    /// A task of the engine ended without an answer, as when the process shuts down.
    #[error("the work on region {region} was stopped before it was done")]
    Stopped {
        /// The region.
        region: RegionId,
    },
}

impl Error {
    pub(crate) fn manifest(region: RegionId, source: tessera_manifest::error::Error) -> Self {
        use tessera_manifest::error::Error as ManifestError;
        match source {
            // What a repartition under way does not admit is no defect: its turn comes.
            ManifestError::Rejected { source: Violation::Staged { txn } | Violation::Frozen { txn }, .. } => Self::Staged { region, txn },
            ManifestError::Rejected { source: Violation::Retired, .. } => Self::Retired { region },
            ManifestError::Rejected { source: Violation::ScopeColumnDropped { column }, .. } => {
                Self::Alter { region, source: AlterError::InScope { column } }
            }
            source => Self::Manifest { region, source: Box::new(source) },
        }
    }

    pub(crate) fn rows(region: RegionId, source: sst::Error) -> Self {
        Self::Rows { region, source: Box::new(source) }
    }

    pub(crate) fn wal(region: RegionId, source: WalError) -> Self {
        Self::Wal { region, source: Box::new(source) }
    }

    /// The log that holds rows of a region which was refused because the log is not this opener's.
    pub(crate) fn unreachable_log(&self) -> Option<WalId> {
        match self {
            Self::Manifest { source, .. } => match **source {
                tessera_manifest::error::Error::WalUnreachable { wal, .. } => Some(wal),
                _ => None,
            },
            _ => None,
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::RegionNotFound { .. } | Self::Stale { .. } | Self::Retired { .. } => ErrorClass::Refresh,
            Self::StaleRemap { .. } | Self::SourceMoved { .. } | Self::EditConflict { .. } => ErrorClass::Refresh,
            Self::Staged { .. } | Self::StagedTooEarly { .. } => ErrorClass::Retry,
            Self::NotStaged { .. } | Self::StagedOtherwise { .. } | Self::Rollback { .. } => ErrorClass::Invalid,
            Self::ReadSet { .. } => ErrorClass::Unavailable,
            Self::OpenFailed { source, .. } => source.class(),
            Self::Closed { .. } | Self::Stopped { .. } => ErrorClass::Unavailable,
            Self::Fenced { .. } => ErrorClass::Fenced,
            Self::Options { .. } | Self::OutsideRule { .. } | Self::BatchShape { .. } | Self::SequencesUsedUp { .. } => ErrorClass::Invalid,
            Self::Alter { .. } | Self::AppendOnly { .. } => ErrorClass::Invalid,
            Self::SchemaBehind { .. } | Self::Overloaded { .. } | Self::SnapshotExpired { .. } => ErrorClass::Retry,
            Self::ColumnDropped { .. } | Self::KeyChanged { .. } => ErrorClass::Refresh,
            Self::Manifest { source, .. } => source.class(),
            Self::Wal { source, .. } | Self::TakeOver { source, .. } => source.class(),
            Self::CloseWal { source } => source.class(),
            Self::WalEntry { .. } => ErrorClass::Corrupt,
            Self::Rows { source, .. } => source.class(),
        }
    }
}

/// The messages of an error and of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
