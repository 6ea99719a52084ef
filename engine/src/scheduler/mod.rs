//! Background work of all regions: which flush and which compaction runs next, and how many at a time.
//!
//! ```text
//!   regions ──wish──▶ Queue (pure) ──next──▶ task ──done──▶ Queue ──▶ again, rest, or forget
//! ```
//!
//! Invariants:
//! - At most so many flushes and so many compactions run on a node, and one of each per region.
//! - First come, first served: a region that wants more after its turn queues up behind the others, so that a busy
//!   one starves none.
//! - Memory pressure: while memtables hold half of what they may, beyond what is being flushed, the region with the
//!   largest memtable is flushed without having asked; while they hold three quarters, one compaction runs at most.
//! - A region whose work failed rests, longer each time, and holds nobody up meanwhile.
//! - At the end flushes are finished, compactions are stopped by the closing of their regions.

mod driver;
mod queue;

#[cfg(test)]
mod tests;

use std::sync::{Mutex, MutexGuard, PoisonError};

use tessera_manifest::id::RegionId;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};

use queue::Queue;

pub(crate) use driver::{Node, run};

/// The wishes of regions; shared by regions and driver.
#[derive(Debug)]
pub(crate) struct Scheduler {
    wishes: Mutex<Wishes>,
    wake: Notify,
    /// Taken by background compactions and by those that are asked for.
    compactions: Semaphore,
}

#[derive(Debug)]
struct Wishes {
    flushes: Queue,
    compactions: Queue,
}

impl Scheduler {
    pub(crate) fn new(flushes: usize, compactions: usize) -> Self {
        let wishes = Wishes { flushes: Queue::new(flushes.max(1)), compactions: Queue::new(compactions.max(1)) };
        Self { wishes: Mutex::new(wishes), wake: Notify::new(), compactions: Semaphore::new(compactions.max(1)) }
    }

    /// The region's memtable is full.
    pub(crate) fn flush_soon(&self, region: RegionId) {
        if self.lock().flushes.wish(region) {
            self.wake.notify_one();
        }
    }

    /// The region's files changed.
    pub(crate) fn compact_soon(&self, region: RegionId) {
        if self.lock().compactions.wish(region) {
            self.wake.notify_one();
        }
    }

    /// One of the slots in which compactions run; `None` once the engine ends.
    pub(crate) async fn compaction_slot(&self) -> Option<SemaphorePermit<'_>> {
        self.compactions.acquire().await.ok()
    }

    /// Lets those that wait for a slot go on, so that they see that the engine ends.
    fn end(&self) {
        self.compactions.close();
    }

    fn lock(&self) -> MutexGuard<'_, Wishes> {
        // Every change is one step of a pure state machine, so a poisoned one is sound.
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
