//! The memory of all memtables of a node: flush first, then stall, then refuse.
//!
//! Invariants:
//! - The sum is that of what the memtables say they hold; a memtable's share leaves it when its rows are in an
//!   SST and the memtable is dropped.
//! - A write waits *before* it takes its place in the WAL, so that a stalled write holds nothing, and reserves
//!   what it will need, so that many that waited do not pass together.
//! - Scans that outlive the flush of a memtable keep its rows in memory without a share: a slow reader must not
//!   stall writes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use crate::error::Error;
use crate::limits;

/// The bytes that memtables may hold, and do.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicUsize,
    max: usize,
    freed: Notify,
    /// Woken when somebody should look for something to flush.
    pub(crate) pressure: Notify,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Self {
        Self { held: AtomicUsize::new(0), max, freed: Notify::new(), pressure: Notify::new() }
    }

    /// What memtables hold.
    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether the largest memtable should be flushed.
    pub(crate) fn is_half_full(&self) -> bool {
        self.held() >= self.max / 2
    }

    pub(crate) fn add(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        if self.is_half_full() {
            self.pressure.notify_one();
        }
    }

    pub(crate) fn free(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
        self.freed.notify_waiters();
    }

    /// Waits until there is room, and reserves `bytes` of it. One batch may go beyond the limit, or none that is
    /// larger than what is left could ever be written.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, Error> {
        let wait = async {
            loop {
                let freed = self.freed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable();
                let add = |held| (held < self.max).then(|| held + bytes);
                if self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok() {
                    return;
                }
                metrics::counter!("tessera_write_stalls_total").increment(1);
                self.pressure.notify_one();
                freed.await;
            }
        };
        let overloaded = |_| Error::Overloaded { bytes: self.held(), max: self.max };
        tokio::time::timeout(limits::STALL_MAX, wait).await.map_err(overloaded)?;
        Ok(Reservation { budget: Arc::clone(self), bytes })
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
