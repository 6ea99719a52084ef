//! What cannot be.

use crate::id::{ColumnId, Epoch, FileKey, Generation, RegionId, Sequence, Slot, TxnId};
use crate::set_hash::SetHash;
use crate::wal::{WalId, WalPosition};

/// Why an action cannot be applied. On commit it is a defect of the caller; on replay the log is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields repeat their names; the messages say the rest")]
pub enum Violation {
    #[error("a record in slot {slot} cannot follow version {version:?}")]
    OutOfOrder { slot: Slot, version: Option<Slot> },
    #[error("a record without actions")]
    NoActions,
    #[error("an Open is the first action of the first record of an epoch and stands nowhere else")]
    MisplacedOpen,
    #[error("a Seal stands alone in its record")]
    MisplacedSeal,
    #[error("epoch is sealed: only the Open of the next epoch can follow")]
    Sealed,
    #[error("the region is dropped")]
    Dropped,
    #[error("the region is retired")]
    Retired,
    #[error("the region was never created: its first record holds no Change")]
    NotCreated,
    #[error("the metadata of region {found} was recorded in region {expected}")]
    ForeignMeta { expected: RegionId, found: RegionId },
    #[error("a Change may not move the schema from version {from} to {to}, or the generation from {from_generation} to {to_generation}")]
    BackwardChange { from: u32, to: u32, from_generation: Generation, to_generation: Generation },
    #[error("column {column} is part of what a listed file stands for and cannot be dropped")]
    ScopeColumnDropped { column: ColumnId },
    #[error("file {file} holds values of column {column} in a type that the column has no more")]
    FileOfOtherTypes { file: FileKey, column: ColumnId },
    #[error("the Open drops or alters {wal}, which may hold unflushed entries")]
    WalDropped { wal: WalId },
    #[error("the Open names {wal} in epochs that are not ascending from the flushed position")]
    WalEpochs { wal: WalId },
    #[error("the Open adds or extends {wal}, which is not the opener's own")]
    ForeignWal { wal: WalId },
    #[error("{wal} is not one of the region's logs")]
    UnknownWal { wal: WalId },
    #[error("the Open abandons {wal} twice, or goes on with it")]
    AbandonedInUse { wal: WalId },
    #[error("the Open names {wal} in epoch {epoch}, which was abandoned")]
    WalGivenUp { wal: WalId, epoch: Epoch },
    #[error("the region never wrote to {wal} in its epoch {epoch}")]
    UnknownWalEpoch { wal: WalId, epoch: Epoch },
    #[error("flush position {to} of {wal} does not advance beyond {from}")]
    FlushNotAdvancing { wal: WalId, from: WalPosition, to: WalPosition },
    #[error("{wal} is the current writer's log and cannot leave the list")]
    CurrentWalDone { wal: WalId },
    #[error("{wal} cannot leave the list while the region is staged")]
    StagedWalDone { wal: WalId },
    #[error("the edit read generation {read}, the region is at {current}")]
    OtherGeneration { read: Generation, current: Generation },
    #[error("file {file} was written under generation {written}, its edit under {read}")]
    FileOfOtherGeneration { file: FileKey, written: Generation, read: Generation },
    #[error("file {file} is listed or was listed before")]
    FileListedBefore { file: FileKey },
    #[error("file {file} was not born in region {region} in epoch {epoch}")]
    FileNotBornHere { file: FileKey, region: RegionId, epoch: Epoch },
    #[error("file {file} is not listed and cannot be removed")]
    FileNotListed { file: FileKey },
    #[error("file {file} cannot come back: it was never removed, or no reader may refer to it any more")]
    FileNotRestorable { file: FileKey },
    #[error("newest flushed sequence {to} is below {from}")]
    SequenceBackward { from: Sequence, to: Sequence },
    #[error("sequence {sequence} is of a later generation than {generation}")]
    SequenceOfLaterGeneration { sequence: Sequence, generation: Generation },
    #[error("file {file} holds sequence {newest}, above the newest flushed sequence {flushed}")]
    SequenceBelowFile { file: FileKey, newest: Sequence, flushed: Sequence },
    #[error("the region is staged for txn {txn}, which does not admit this")]
    Staged { txn: TxnId },
    #[error("the region is not staged for txn {txn}")]
    NotStaged { txn: TxnId },
    #[error("generation {to} is not above {from}")]
    GenerationNotAbove { from: Generation, to: Generation },
    #[error("the schema is at version {current}, the Stage read {read}")]
    OtherSchema { read: u32, current: u32 },
    #[error("the Stage does not name exactly the region's logs, each once and not below what is flushed: see {wal}")]
    FenceWals { wal: WalId },
    #[error("position {to} of {wal} is beyond the fence at {fence}")]
    BeyondFence { wal: WalId, fence: WalPosition, to: WalPosition },
    #[error("everything up to the fence is in SSTs: the visible files are frozen until txn {txn} is resolved")]
    Frozen { txn: TxnId },
    #[error("rows before the fence of txn {txn} are not in SSTs yet")]
    NotDrained { txn: TxnId },
    #[error("file {file} holds rows of generation {found}, the staged generation is {staged}")]
    StagedFileGeneration { file: FileKey, found: Generation, staged: Generation },
    #[error("the region retires in txn {txn} and takes no staged rows or references")]
    NotATarget { txn: TxnId },
    #[error("txn {txn} has its remap already")]
    RemapTwice { txn: TxnId },
    #[error("the references of segment '{segment}' were not read")]
    SegmentNotRead { segment: String },
    #[error("segment '{segment}' holds {found} references, {expected} were announced")]
    SegmentRows { segment: String, expected: u64, found: u64 },
    #[error("segment '{segment}' is not of the region's epoch {epoch}")]
    SegmentNotBornHere { segment: String, epoch: Epoch },
    #[error("the remap names file {file} twice")]
    RemapDuplicate { file: FileKey },
    #[error("the remap names file {file}, which is doomed")]
    RemapDoomed { file: FileKey },
    #[error("the rule changes by a repartition only")]
    RuleChanged,
    #[error("the remap hashes to {found}, {expected} was announced")]
    RemapHash { expected: SetHash, found: SetHash },
    #[error("txn {txn} cannot commit without a remap")]
    NoRemap { txn: TxnId },
    #[error("txn {txn} cannot be aborted: rows were staged after its commit was decided")]
    StagedRows { txn: TxnId },
    #[error("checkpoint {version} is not above the last one and within the log")]
    CheckpointOrder { version: Slot },
    #[error("the floor cannot go to {to}: it is {from:?} and the region is at {version:?}")]
    FloorOrder { from: Option<Slot>, to: Slot, version: Option<Slot> },
    #[error("version {version} is below the floor {floor} or not reached yet and cannot be pinned")]
    PinVersion { version: Slot, floor: Slot },
    #[error("there is a snapshot '{name}' already")]
    PinExists { name: String },
    #[error("there is no snapshot '{name}'")]
    NoPin { name: String },
    #[error("'{name}' is no name for a snapshot: 1 to 128 letters, digits, '-', '_', '.', ':'")]
    PinName { name: String },
    #[error("file {file} cannot be doomed: {why}")]
    NotDoomable { file: FileKey, why: &'static str },
    #[error("file {file} cannot be forgotten: {why}")]
    NotForgettable { file: FileKey, why: &'static str },
}
