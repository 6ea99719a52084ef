//! The memory of memtables, of a node and of each region: flush first, then stall, then refuse.
//!
//! ```text
//!   node budget ◀── region budget ◀── memtables, and writes that are about to become rows of one
//! ```
//!
//! Invariants:
//! - What a budget holds is exactly what the memtables below it say they hold, plus what writes under way have
//!   reserved; a region's bytes count in its own budget and in the node's, or in neither.
//! - A memtable's share leaves when its rows are in an SST and the memtable is dropped.
//! - A write waits *before* it takes its place in the WAL, so that a stalled write holds nothing, and reserves
//!   what it will need, so that many that waited do not pass together.
//! - A region that cannot be flushed fills its own budget, not the node's: the others go on.
//! - Scans that outlive the flush of a memtable keep its rows in memory without a share: a slow reader must not
//!   stall writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::Error;
use crate::limits;

/// The bytes that memtables may hold, and do.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    max: usize,
    freed: Notify,
    /// How long a write waits for room.
    stall_max: Duration,
    /// The node's budget, of which this is a region's part.
    node: Option<Arc<Budget>>,
    /// Woken when somebody should look for something to flush.
    pub(crate) pressure: Notify,
}

impl Budget {
    /// A node's.
    pub(crate) fn new(max: usize) -> Self {
        Self { held: AtomicUsize::new(0), max, freed: Notify::new(), stall_max: limits::STALL_MAX, node: None, pressure: Notify::new() }
    }

    /// A region's part of a node's.
    pub(crate) fn part(node: &Arc<Self>, max: usize) -> Self {
        Self { node: Some(Arc::clone(node)), ..Self::new(max) }
    }

    /// What memtables hold, and writes under way have reserved.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether half of it is held, beyond `leaving` bytes that are being flushed already.
    pub(crate) fn is_half_full(&self, leaving: usize) -> bool {
        self.held().saturating_sub(leaving) >= self.max / 2
    }

    /// Whether so much is held that flushes come before everything else.
    pub(crate) fn is_tight(&self) -> bool {
        self.held() >= self.max / 4 * 3
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        match &self.node {
            Some(node) => node.add(bytes),
            None if self.is_half_full(0) => self.pressure.notify_one(),
            None => {}
        }
    }

    pub(crate) fn free(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_waiters();
        if let Some(node) = &self.node {
            node.free(bytes);
        }
    }

    /// Waits until there is room, here and in the node's budget, and reserves `bytes` of it. One batch may go beyond
    /// a limit, or none that is larger than what is left could ever be written.
    ///
    /// # Errors
    /// [`Error::Overloaded`] after [`limits::STALL_MAX`], with the budget that was full.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Error> {
        if self.try_take(bytes).is_ok() {
            return Ok(Reservation { budget: Arc::clone(self), bytes });
        }
        metrics::counter!("tessera_write_stalls_total").increment(1);
        let wait = async {
            loop {
                let node = self.node.as_ref().unwrap_or(self);
                let (own, all) = (self.freed.notified(), node.freed.notified());
                tokio::pin!(own, all);
                own.as_mut().enable();
                all.as_mut().enable();
                if self.try_take(bytes).is_ok() {
                    return;
                }
                node.pressure.notify_one();
                futures::future::select(own, all).await;
            }
        };
        if tokio::time::timeout(self.stall_max, wait).await.is_err() {
            metrics::counter!("tessera_write_overloads_total").increment(1);
            // Whichever is full now; if neither is any more, the retry that is asked for will pass.
            let full = self.try_take(0).err().unwrap_or(self);
            let whose = if full.node.is_some() { "the region" } else { "all regions" };
            return Err(Error::Overloaded { whose, bytes: full.held(), max: full.max });
        }
        Ok(Reservation { budget: Arc::clone(self), bytes })
    }

    /// Takes room here and in the node's budget, or says which is full.
    fn try_take(&self, bytes: usize) -> Result<(), &Self> {
        let add = |held| (held < self.max).then(|| held + bytes);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).map_err(|_| self)?;
        let taken = self.node.as_ref().map_or(Ok(()), |node| node.try_take(bytes));
        // Who saw this room as taken meanwhile waits for the node as well, which is full.
        taken.inspect_err(|_| _ = self.held.fetch_sub(bytes, Ordering::Relaxed))
    }
}

/// Bytes that a write may put into a memtable; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.free(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_region_fills_its_own_part_and_not_the_nodes() {
        let node = Arc::new(Budget::new(100));
        let (a, b) = (Arc::new(Budget::part(&node, 40)), Arc::new(Budget::part(&node, 40)));
        let full = a.reserve(40).await.unwrap();
        assert!(a.reserve(1).now_or_never().is_none());
        let other = b.reserve(10).await.unwrap();
        assert_eq!((a.held(), b.held(), node.held()), (40, 10, 50));
        drop((full, other));
        assert_eq!((a.held(), b.held(), node.held()), (0, 0, 0));
    }

    #[tokio::test]
    async fn a_full_node_gives_back_what_a_region_took() {
        let node = Arc::new(Budget::new(10));
        let (a, b) = (Arc::new(Budget::part(&node, 10)), Arc::new(Budget::part(&node, 10)));
        let held = a.reserve(10).await.unwrap();
        let mut waiting = std::pin::pin!(b.reserve(5));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert_eq!((b.held(), node.held()), (0, 10));
        drop(held);
        let got = waiting.await.unwrap();
        assert_eq!((a.held(), b.held(), node.held()), (0, 5, 5));
        drop(got);
    }

    #[tokio::test]
    async fn a_write_that_waits_too_long_is_told_which_budget_is_full() {
        let node = Arc::new(Budget::new(100));
        let a = Arc::new(Budget { stall_max: Duration::ZERO, ..Budget::part(&node, 40) });
        let _held = a.reserve(45).await.unwrap();
        let error = a.reserve(1).await.unwrap_err();
        assert!(matches!(error, Error::Overloaded { whose: "the region", bytes: 45, max: 40 }), "{error}");
    }
}
