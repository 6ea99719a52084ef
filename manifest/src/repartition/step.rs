//! What is asked of a region at each step of a repartition, and what it answers (DESIGN section 8): the words that whoever
//! runs one and whoever serves the regions have in common.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::action::StageTarget;
use crate::id::{Epoch, Generation, RegionId, Slot, TxnId};
use crate::rule::Expr;
use crate::set_hash::SetHash;

/// Asks a region to stage itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRequest {
    /// The region.
    pub region: RegionId,
    /// The repartition.
    pub txn: TxnId,
    /// The generation that the region must be in.
    pub base: Generation,
    /// The generation of what is written from now on.
    pub generation: Generation,
    /// The generation that an abort leads to.
    pub abort: Generation,
    /// What the region becomes; `None` when it retires.
    pub target: Option<StageTarget>,
    /// The version of the schema, which stays until the repartition is resolved.
    pub schema_version: u32,
}

/// A region is staged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The region.
    pub region: RegionId,
    /// The version that staged it; the same however often it is asked.
    pub version: Slot,
}

/// A region is ready to be fenced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Prepared {
    /// Its files.
    pub files: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Rows of its files.
    pub rows: u64,
    /// Bytes that are not flushed.
    pub memtable_bytes: u64,
}

/// What a remap would give a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemapPreview {
    /// The target.
    pub target: RegionId,
    /// Files that it will refer to.
    pub files: u64,
    /// Those of them that lie in the folder of another region.
    pub foreign_files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Rows of these files, those of other regions included.
    pub rows: u64,
    /// Files that hold rows of other regions too: reading them costs a filter until they are localized.
    pub residual_files: u64,
}

/// Everything before a source's fence is in SSTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drained {
    /// The source.
    pub region: RegionId,
    /// A version whose visible files are the frozen ones.
    pub version: Slot,
    /// Their set hash.
    pub visible: SetHash,
}

/// A target of a remap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemapTarget {
    /// The region.
    pub region: RegionId,
    /// Its manifest's epoch, in which the segments are to be born.
    pub epoch: Epoch,
    /// Its rule to be.
    pub rule: Arc<Expr>,
}

/// Asks for the reference lists of targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemapRequest {
    /// The repartition.
    pub txn: TxnId,
    /// Who gets references.
    pub targets: Vec<RemapTarget>,
    /// Whose references, and at which versions.
    pub sources: Vec<Drained>,
}

/// A region follows the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Its version after.
    pub version: Slot,
    /// Whether it is no part of the table any more.
    pub retired: bool,
}
