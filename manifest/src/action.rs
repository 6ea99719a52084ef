//! The actions of a manifest record: everything that can happen to a region.
//!
//! The serialized form is persisted. A new action raises the version of
//! [`Format::ManifestBody`](crate::format::Format::ManifestBody) and the `min_reader` of records that hold it.
//!
//! ```text
//!   life of an epoch     Open … Seal
//!   rows and files       Edit, Truncate, Change
//!   repartition          Stage, StagedEdit, RemapStaged, Resolve, Retire
//!   history              Checkpointed, Floor, Pin, Unpin
//!   the end of files     Doom, Drop
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::file::FileRef;
use crate::id::{ColumnId, FileId, FileKey, Generation, NodeId, Nonce, Sequence, Slot, TxnId};
use crate::meta::RegionMeta;
use crate::rule::Expr;
use crate::set_hash::SetHash;
use crate::wal::{WalId, WalPosition, WalRef};

/// One thing that happened to a region.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A writer begins an epoch. First action of the first record of each epoch, and nowhere else.
    Open(Open),
    /// An epoch ends. Alone in its record.
    Seal(Seal),
    /// Schema, names, rule or options are now these.
    Change(Change),
    /// Files come and go.
    Edit(Edit),
    /// Everything in the region goes, SSTs and unflushed rows alike.
    Truncate(Truncate),
    /// A repartition fences the region: what is visible freezes, what is written from now on is staged.
    Stage(Stage),
    /// Files of rows that were written since the fence; invisible until the repartition is resolved.
    StagedEdit(StagedEdit),
    /// What the region will refer to of the group's older files; invisible until the repartition is resolved.
    RemapStaged(RemapStaged),
    /// The repartition's decision takes effect.
    Resolve(Resolve),
    /// The region is no part of the table any more; its history stays readable.
    Retire(Retire),
    /// A checkpoint is on the store.
    Checkpointed(Checkpointed),
    /// Versions older than this one cannot be read any more.
    Floor(Floor),
    /// A version is kept, by name.
    Pin(Pin),
    /// A named version is not kept any more.
    Unpin(Unpin),
    /// The objects of these files will be deleted.
    Doom(Doom),
    /// The region is dropped; all its files go.
    Drop(Drop),
}

/// A writer begins an epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// The writer's opening, drawn anew each time.
    pub writer: Nonce,
    /// The node it runs on.
    pub node: NodeId,
    /// The log that the writer writes to, one of `wals`; absent for a writer that will not write rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<WalId>,
    /// Every log that may hold unflushed entries of the region, the writer's own included.
    pub wals: Vec<WalRef>,
    /// Logs that leave the list although they may hold unflushed entries: somebody said that they will never be read
    /// again. Each as it was listed, so that it is on record from where on rows may be lost. Since body format 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub abandoned: Vec<WalRef>,
}

/// An epoch ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seal {
    /// The opening that ends it.
    pub by: Nonce,
    /// Said by a writer that ends its own epoch: every row of the region is in an SST, no log holds any.
    #[serde(default, skip_serializing_if = "is_false")]
    pub clean: bool,
}

/// Schema, names, rule or options are now these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The whole metadata after the change.
    pub meta: Arc<RegionMeta>,
}

/// How far a log is flushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flushed {
    /// Which log.
    pub wal: WalId,
    /// Every entry of the region up to and including this one is in SSTs.
    pub position: WalPosition,
    /// Whether the log holds nothing more of the region and leaves the list. Never said of the log that the
    /// current writer writes to.
    #[serde(default, skip_serializing_if = "is_false")]
    pub done: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// Files come and go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// The partition generation that was read when the edit was made.
    pub generation: Generation,
    /// New references, each to a file born in this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Arc<FileRef>>,
    /// References that end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<FileKey>,
    /// References that had ended and come back, as they were: the way to roll an edit back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restore: Vec<FileKey>,
    /// How far logs are flushed after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flushed: Vec<Flushed>,
    /// The newest sequence in SSTs after it, if it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
}

impl Edit {
    /// An edit that changes nothing, made in a region of this generation.
    #[must_use]
    pub const fn new(generation: Generation) -> Self {
        Self { generation, add: Vec::new(), remove: Vec::new(), restore: Vec::new(), flushed: Vec::new(), sequence: None }
    }
}

/// Everything in the region goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// The partition generation that was read when the truncation was made.
    pub generation: Generation,
    /// How far the logs are passed: unflushed entries up to there are gone too.
    pub flushed: Vec<Flushed>,
    /// The newest sequence that is gone.
    pub sequence: Sequence,
}

/// A repartition fences the region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// The repartition of the group that the region belongs to.
    pub txn: TxnId,
    /// The generation that the region is in, and in which it stays if the repartition is aborted before it staged.
    pub base: Generation,
    /// The generation of the rows that are written from now on, and of the region if the repartition commits.
    pub generation: Generation,
    /// What the region becomes if the repartition commits; absent for one that retires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<StageTarget>,
    /// For each of the region's logs the last entry of the base generation.
    pub fence: Vec<Fence>,
    /// The version of the schema, which stays until the repartition is resolved.
    pub schema_version: u32,
}

/// What a region becomes if its repartition commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageTarget {
    /// Its rule.
    pub rule: Arc<Expr>,
    /// The columns that the table is then partitioned on, in the user's order.
    pub partition_columns: Vec<ColumnId>,
}

/// Where the base generation ends in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fence {
    /// Which log.
    pub wal: WalId,
    /// The last entry of the base generation.
    pub position: WalPosition,
}

/// Files of rows that were written since the fence. They keep their deletes, since older rows may be in files that
/// the region does not refer to yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StagedEdit {
    /// The repartition.
    pub txn: TxnId,
    /// The staged generation.
    pub generation: Generation,
    /// New references, each to a file born in this epoch.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<Arc<FileRef>>,
    /// How far the staged rows of the logs are flushed after it; `done` is never said here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flushed: Vec<Flushed>,
    /// The newest staged sequence in SSTs after it, if it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
}

/// An immutable object in the region's segment folder: references as rows of a Parquet file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRef {
    /// Its name: the epoch of the region in which it was written, and a ulid.
    pub file: FileId,
    /// CRC-32 (IEEE) of the object's bytes.
    pub crc32: u32,
    /// Size of the object.
    pub bytes: u64,
    /// References in it.
    pub rows: u64,
}

/// What the region will refer to of the group's older files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemapStaged {
    /// The repartition.
    pub txn: TxnId,
    /// The references, in segments of the region's current epoch.
    pub segments: Vec<SegmentRef>,
    /// The set hash of these references.
    pub set_hash: SetHash,
}

/// The repartition's decision takes effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// The repartition.
    pub txn: TxnId,
    /// The generation that the region was in before the repartition.
    pub base: Generation,
    /// What was decided.
    pub decision: Decision,
}

/// How a repartition was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Staged becomes visible, under the new rule and the staged generation.
    Commit,
    /// Nothing changes but the generation, which fences a late `Stage`.
    Abort {
        /// The generation drawn for the abort.
        generation: Generation,
    },
}

/// The region is no part of the table any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {}

/// A checkpoint: the state after one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointRef {
    /// The version, which also names the root object.
    pub version: Slot,
    /// CRC-32 (IEEE) of the root object's bytes.
    pub crc32: u32,
    /// Size of the root object.
    pub bytes: u64,
    /// When the version was written, by its writer's clock, in milliseconds since 1970-01-01T00:00:00Z; from it a
    /// floor is proposed.
    pub time_ms: u64,
}

/// A checkpoint is on the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpointed {
    /// Which one.
    pub checkpoint: CheckpointRef,
}

/// Versions older than this one cannot be read any more, but for those that are pinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Floor {
    /// The oldest readable version.
    pub version: Slot,
}

/// A version is kept, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    /// Its name.
    pub name: String,
    /// The checkpoint of the kept version, from which it is read.
    pub checkpoint: CheckpointRef,
    /// When whoever looks after the region may propose to end it, in milliseconds since 1970-01-01T00:00:00Z.
    /// It holds until an [`Unpin`] is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_unix_ms: Option<u64>,
}

/// A named version is not kept any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpin {
    /// Its name.
    pub name: String,
}

/// The end of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doom {
    /// Removed files of this region's folder that no reader and no other region can refer to any more: their
    /// objects will be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileKey>,
    /// What leaves the books: doomed files whose objects are gone, and references to files of other regions that
    /// nobody can read any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forget: Vec<FileKey>,
}

/// The region is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {}

impl Action {
    /// The oldest version of the body's format in which the action can be written.
    pub(crate) fn body_version(&self) -> u32 {
        match self {
            Self::Open(open) if !open.abandoned.is_empty() => 2,
            _ => 1,
        }
    }

    /// The name of the action in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Seal(_) => "seal",
            Self::Change(_) => "change",
            Self::Edit(_) => "edit",
            Self::Truncate(_) => "truncate",
            Self::Stage(_) => "stage",
            Self::StagedEdit(_) => "staged_edit",
            Self::RemapStaged(_) => "remap_staged",
            Self::Resolve(_) => "resolve",
            Self::Retire(_) => "retire",
            Self::Checkpointed(_) => "checkpointed",
            Self::Floor(_) => "floor",
            Self::Pin(_) => "pin",
            Self::Unpin(_) => "unpin",
            Self::Doom(_) => "doom",
            Self::Drop(_) => "drop",
        }
    }
}
