//! What a repartition asks of the regions and of the object store; whoever runs the procedures connects it.
//!
//! Invariants:
//! - Every operation is idempotent: done again, also by another process and at the same time, it changes nothing more
//!   and answers the same. So an answer that was lost is asked for again.
//! - An operation that comes late, when the repartition is over, changes nothing and answers with an error.
//! - Everything but [`RegionPort::decide`] can be lost and done anew; the decision is the only commit point.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tessera_manifest::action::RemapStaged;
use tessera_manifest::id::{Epoch, Generation, NodeId, RegionId, Slot, TableId, TxnId};
use tessera_manifest::meta::RegionMeta;
pub use tessera_manifest::repartition::{Drained, Prepared, RemapPreview, RemapRequest, RemapTarget, Resolved, StageRequest, Staged};
use tessera_manifest::rule::Expr;
pub use tessera_manifest::txn::{Decided, Verdict};

/// How a region took its references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// They are in its manifest.
    Remapped {
        /// The version that took them.
        version: Slot,
        /// How many there are.
        references: u64,
    },
    /// The segments are of another epoch than the region is in: remap again.
    StaleEpoch {
        /// The region's epoch.
        epoch: Epoch,
    },
}

/// Why an operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PortError {
    /// Whether the same may succeed later.
    pub retryable: bool,
    /// Whether it failed because there is no such region.
    pub not_found: bool,
    /// Whether it failed because another writer has the region now, as a process that has taken over, or one that is slow
    /// and does not know that it was overtaken. Who goes on is not for the region to say.
    pub overtaken: bool,
    /// What went wrong, on which object.
    pub message: String,
    /// The error code for users, where there is one.
    pub code: Option<u32>,
}

impl PortError {
    /// One that may pass.
    pub fn retryable(message: impl Into<String>) -> Self {
        Self { retryable: true, not_found: false, overtaken: false, message: message.into(), code: None }
    }

    /// One for good.
    pub fn fatal(message: impl Into<String>) -> Self {
        Self { retryable: false, not_found: false, overtaken: false, message: message.into(), code: None }
    }
}

/// The regions of all nodes, and the decisions on the object store.
#[async_trait]
pub trait RegionPort: fmt::Debug + Send + Sync {
    /// Creates a new, empty region whose first records stage it. Done again with the same, it does nothing.
    ///
    /// # Errors
    /// For good when the region exists in another form, retired ones included.
    async fn create_staged(&self, node: NodeId, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError>;

    /// Gets a source ready: compactions end and wait until [`resolve`](Self::resolve) or [`release`](Self::release),
    /// memtables are flushed. Writes go on. The region looks for the decision *after* it has stopped its compactions, and
    /// if there is one lets them go on: the call came late, and nobody will end the preparation.
    ///
    /// # Errors
    /// Why the region cannot be repartitioned; for good when the group is decided.
    async fn prepare(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Prepared, PortError>;

    /// Tries the remap of the sources as they are now, and changes nothing. Answers by target, in order.
    ///
    /// # Errors
    /// Whatever would make the remap fail.
    async fn dry_run(&self, node: NodeId, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError>;

    /// Fences a source: writes of the base generation end, writes of the new one are staged.
    ///
    /// # Errors
    /// For good when the region is not in the base generation, or is staged for another repartition.
    async fn stage(&self, node: NodeId, request: &StageRequest) -> Result<Staged, PortError>;

    /// Flushes a staged source up to its fence.
    ///
    /// # Errors
    /// For good when rows before the fence cannot be reached any more.
    async fn drain(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Drained, PortError>;

    /// Makes the reference lists of the targets from the sources' manifests, on `node`.
    ///
    /// # Errors
    /// When a manifest cannot be read or is not as it was drained.
    async fn remap(&self, node: NodeId, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError>;

    /// Has a target take its references. One that has them already answers so.
    ///
    /// # Errors
    /// When the segments are damaged or cannot be applied.
    async fn apply_remap(&self, node: NodeId, region: RegionId, remap: &RemapStaged) -> Result<Applied, PortError>;

    /// Has a region follow the decision; also a source that never staged follows an abort.
    ///
    /// # Errors
    /// [`PortError::not_found`] when there is no such region.
    async fn resolve(&self, node: NodeId, region: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError>;

    /// Ends a region that an aborted repartition was to create: created as retired if it is absent, else resolved as
    /// aborted, unless somebody who met it has done that, and retired. Any node can do it.
    ///
    /// # Errors
    /// When that cannot be done now.
    async fn create_retired(&self, node: NodeId, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError>;

    /// Opens a region anew from its manifest and log; nothing is flushed before. A region that another writer has taken
    /// over stays its.
    ///
    /// # Errors
    /// When it cannot be opened; [`PortError::overtaken`].
    async fn restart(&self, node: NodeId, region: RegionId) -> Result<(), PortError>;

    /// Takes a region back that was answered to be [`overtaken`](PortError::overtaken), whoever has it now. One that `node`
    /// still has is left alone. Only the runner whose claim is current asks for it.
    ///
    /// # Errors
    /// When it cannot be opened.
    async fn take_back(&self, node: NodeId, region: RegionId) -> Result<(), PortError>;

    /// Ends the preparation of a region that was not staged: compactions go on. A region that is not prepared, or not
    /// there, is fine.
    ///
    /// # Errors
    /// When the node does not answer.
    async fn release(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<(), PortError> {
        let _ = txn;
        self.restart(node, region).await
    }

    /// Asks a region to rewrite files of other regions, and files with rows of other regions, when it finds the time.
    ///
    /// # Errors
    /// When the node does not answer.
    async fn localize(&self, node: NodeId, region: RegionId) -> Result<(), PortError>;

    /// Decides the group, or answers what was decided before. Unknown outcomes are settled by reading back.
    ///
    /// # Errors
    /// When the store does not answer: nothing is known then.
    async fn decide(&self, proposal: &Decided) -> Result<Decided, PortError>;

    /// What was decided.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn decided(&self, table: TableId, txn: TxnId) -> Result<Option<Decided>, PortError>;
}
