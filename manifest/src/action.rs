//! The actions of a manifest record: everything that can happen to a region.
//!
//! The serialized form is persisted. A new action raises the version of
//! [`Format::ManifestBody`](crate::format::Format::ManifestBody) and the `min_reader` of records that hold it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::file::FileRef;
use crate::id::{FileKey, Generation, NodeId, Nonce, Sequence};
use crate::meta::RegionMeta;
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
    /// How far logs are flushed after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flushed: Vec<Flushed>,
    /// The newest sequence in SSTs after it, if it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Sequence>,
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

/// The region is dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drop {}

impl Action {
    /// The name of the action in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Seal(_) => "seal",
            Self::Change(_) => "change",
            Self::Edit(_) => "edit",
            Self::Truncate(_) => "truncate",
            Self::Drop(_) => "drop",
        }
    }
}
