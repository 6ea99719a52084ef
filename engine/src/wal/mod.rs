//! Write-ahead logs behind one trait.
//!
//! One log serves all regions of a node. An entry is a region and opaque bytes; it is named by its position (log
//! epoch, entry number). The byte-exact format of the local log is docs/formats/wal.md.
//!
//! ```text
//! submit -> queue -> writer thread: one frame, one write, one sync -> every Pending of the frame resolves
//! open -> recover (walk the segments) -> catalog -> replay, release -> keeper thread: reuse or delete segments
//! ```
//!
//! Invariants:
//! - What was acknowledged is found again by the next opening, or its region is told which file and offset is
//!   damaged. Nothing else than a frame that was in flight when the writer died is dropped silently.
//! - Damage concerns as few regions as can be proven: a payload one, two bad directories everybody who still
//!   needs that stretch.
//! - Nothing is deleted before every region has released it.
//!
//! Crash order:
//! - Opening: tail and names made durable, then the new epoch in the identity file, then the first append.
//! - Append: `writer`. Releasing: `keeper` (identity file first, then the segment files).
//! - The engine releases a position only after a committed manifest says that it is flushed.

mod catalog;
mod disk;
mod error;
mod frame;
mod header;
mod keeper;
mod local;
mod meta;
mod noop;
mod queue;
mod reachable;
mod recover;
mod replay;
mod shared;
mod walk;
mod writer;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod tests;

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use tessera_manifest::id::{Epoch, RegionId};
use tessera_manifest::wal::{WalId, WalPosition};
use tokio::sync::oneshot;

pub use self::error::WalError;
pub use self::local::{LocalWal, Options, SyncMode};
pub use self::noop::NoopWal;
pub use self::reachable::{LocalLogs, ReachableLogs};

/// Entries of a region in the order of writing; ends after the first error.
pub type EntryStream = BoxStream<'static, Result<(WalPosition, Bytes), WalError>>;

/// A log of one node, shared by all of its regions.
#[async_trait]
pub trait LogStore: fmt::Debug + Send + Sync {
    /// Which log this is.
    fn id(&self) -> WalId;

    /// The epoch of this opening: one more than that of the opening before, durable before this log was handed out.
    fn epoch(&self) -> Epoch;

    /// The most bytes that the payload of one entry may have: [`submit`](Self::submit) refuses a larger one with
    /// [`WalError::TooLarge`]. The same through the life of this opening; `u64::MAX` where there is no bound. Those who
    /// have more to write cut it into entries of at most this size.
    fn entry_bytes_max(&self) -> u64;

    /// Puts an entry, the concatenation of `payload`, into the queue and gives it its position; waits while the
    /// queue is full. Positions grow in the order in which submits return, over all regions.
    ///
    /// Cancel safe: a submit that is dropped before it returns has queued nothing.
    ///
    /// # Errors
    /// [`WalError::TooLarge`], [`WalError::Closed`], [`WalError::Poisoned`]: nothing was queued.
    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError>;

    /// Submits an entry and waits until it is durable. Dropping the future may or may not leave the entry in the log.
    ///
    /// # Errors
    /// As [`submit`](Self::submit) and [`Pending::wait`].
    async fn append(&self, region: RegionId, payload: Vec<Bytes>) -> Result<WalPosition, WalError> {
        self.submit(region, payload).await?.wait().await
    }

    /// The entries of `region` after `after` that *earlier* openings wrote and that are not released. Memory is
    /// bounded; must be polled in a tokio runtime. Entries that were never acknowledged may be among them.
    ///
    /// Damage before `after` or in another region's entries is no error. A region that knows in which epoch it
    /// first wrote may pass (that epoch, entry 0) so as not to be stopped by older damage.
    ///
    /// # Errors
    /// [`WalError::Damaged`], at once when nobody knows whose entries are damaged, else in the stream at the
    /// damaged entry.
    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError>;

    /// Every region that has unreleased entries, with the position of its last one; in order of region.
    fn regions(&self) -> Vec<(RegionId, WalPosition)>;

    /// Says that no entry of `region` up to and including `up_to` is needed any more: a *committed* manifest says
    /// that they are flushed, or truncated. Idempotent; never fails, the work is done in the background.
    fn release(&self, region: RegionId, up_to: WalPosition);

    /// Says that nothing of `region` is needed any more. Its pending entries must have been answered before.
    fn forget(&self, region: RegionId) {
        self.release(region, WalPosition { epoch: Epoch(u32::MAX), entry: u64::MAX });
    }

    /// The region that keeps the oldest segment, with the position up to which it must be released to let it go;
    /// `None` when nothing is needed.
    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)>;

    /// Bytes of the segments that are kept.
    fn bytes(&self) -> u64;

    /// Writes what is queued, makes it durable and ends background work. Later submits fail with
    /// [`WalError::Closed`]. Idempotent.
    ///
    /// # Errors
    /// The error that stopped the log, if one did.
    async fn close(&self) -> Result<(), WalError>;
}

/// An entry that has its place in the log and is being written.
#[derive(Debug)]
pub struct Pending {
    position: WalPosition,
    answer: Option<oneshot::Receiver<Result<(), WalError>>>,
}

impl Pending {
    /// An entry whose fate comes through `answer`; [`WalError::Closed`] when its sender is dropped.
    #[must_use]
    pub fn new(position: WalPosition, answer: oneshot::Receiver<Result<(), WalError>>) -> Self {
        Self { position, answer: Some(answer) }
    }

    /// An entry that is durable.
    #[must_use]
    pub fn done(position: WalPosition) -> Self {
        Self { position, answer: None }
    }

    /// Where the entry will be.
    #[must_use]
    pub fn position(&self) -> WalPosition {
        self.position
    }

    /// Waits until the entry is durable. Dropping this neither withdraws nor reorders the entry.
    ///
    /// # Errors
    /// [`WalError::DiskFull`] or [`WalError::Io`]: the entry was not written, and later ones may be.
    /// [`WalError::Poisoned`] or [`WalError::Closed`]: it may or may not be found by the next opening.
    pub async fn wait(self) -> Result<WalPosition, WalError> {
        match self.answer {
            None => Ok(self.position),
            Some(answer) => answer.await.unwrap_or(Err(WalError::Closed)).map(|()| self.position),
        }
    }
}
