//! The identity of a write-ahead log and positions in it, as a manifest names them.
//!
//! Invariants:
//! - A log entry is named by (log epoch, entry number). Entry numbers grow through the whole life of a log
//!   and across its epochs; the epoch grows with each opening of the log.
//! - A region's manifest names every log that may hold unflushed entries of it, each with the epochs in
//!   which the region wrote and the position up to which everything is in SSTs. Entries of an epoch that
//!   the manifest does not name were never acknowledged for this region: they are set aside and reported.
//! - A log whose node is gone for good leaves the list only by an `Open` that names it as abandoned. The epochs that it
//!   had then never come back: should the log turn up again, it holds rows of the region from its next epoch on.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{Epoch, NodeId, Nonce, Slot};

/// What keeps the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalKind {
    /// Segment files on a local disk of the node.
    Local,
    /// A slot log on the object store.
    Object,
    /// Nothing: rows are durable only once flushed.
    Noop,
}

/// Which log: two logs with the same identity are the same log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalId {
    /// What keeps it.
    pub kind: WalKind,
    /// The node that writes it.
    pub node: NodeId,
    /// Drawn when the log was created, so that a log that was deleted and made anew is another log.
    pub log: Nonce,
}

impl fmt::Display for WalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            WalKind::Local => "local",
            WalKind::Object => "object",
            WalKind::Noop => "noop",
        };
        write!(f, "{kind} wal {} of node {}", self.log, self.node)
    }
}

/// An entry of a log. Ordered by epoch, then by entry, which is the order of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalPosition {
    /// The log epoch that wrote the entry.
    pub epoch: Epoch,
    /// The entry's number in the log, from 1.
    pub entry: u64,
}

impl WalPosition {
    /// Before every entry.
    pub const START: Self = Self { epoch: Epoch(0), entry: 0 };
}

impl fmt::Display for WalPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.entry)
    }
}

/// A log that may hold unflushed entries of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WalRef {
    /// Which log.
    pub id: WalId,
    /// The log epochs in which the region may have written, ascending, from the flushed position's epoch on.
    pub epochs: Vec<Epoch>,
    /// Every entry of the region up to and including this one is in SSTs (or truncated away).
    pub flushed: WalPosition,
}

/// A log that somebody gave up by force, with rows that may have been only there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbandonedWal {
    /// The version whose `Open` gave it up.
    pub by: Slot,
    /// The log as it was listed: acknowledged rows of these epochs behind the flushed position may be lost.
    pub wal: WalRef,
}

impl AbandonedWal {
    /// Whether rows that `wal` took in `epoch` are among those that were given up.
    #[must_use]
    pub fn covers(&self, wal: WalId, epoch: Epoch) -> bool {
        self.wal.id == wal && self.wal.epochs.last().is_some_and(|last| epoch <= *last)
    }
}
