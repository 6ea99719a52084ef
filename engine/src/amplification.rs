//! How many bytes are written for each byte that is flushed, and how many are kept for each that is needed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tessera_manifest::id::RegionId;

/// Bytes written since the engine started, and kept now.
#[derive(Debug, Default)]
pub(crate) struct Amplification {
    flushed: AtomicU64,
    compacted: AtomicU64,
    space: Mutex<Space>,
}

#[derive(Debug, Default)]
struct Space {
    /// Bytes of all files, and of the largest run of each window.
    regions: HashMap<RegionId, (u64, u64)>,
    total: (u64, u64),
}

impl Amplification {
    /// A flush wrote `bytes`.
    pub(crate) fn flushed(&self, bytes: u64) {
        self.flushed.fetch_add(bytes, Ordering::Relaxed);
        metrics::counter!("tessera_flush_written_bytes_total").increment(bytes);
        self.publish();
    }

    /// A compaction wrote `bytes`.
    pub(crate) fn compacted(&self, bytes: u64) {
        self.compacted.fetch_add(bytes, Ordering::Relaxed);
        self.publish();
    }

    /// What a region keeps: see [`space`](crate::compaction::space).
    pub(crate) fn space(&self, region: RegionId, bytes: (u64, u64)) {
        self.replace(region, Some(bytes));
    }

    /// The region is not open any more.
    pub(crate) fn forget(&self, region: RegionId) {
        self.replace(region, None);
    }

    /// Bytes written by flushes and compactions for each byte written by a flush; one before the first.
    pub(crate) fn of_writes(&self) -> f64 {
        let (flushed, compacted) = (self.flushed.load(Ordering::Relaxed), self.compacted.load(Ordering::Relaxed));
        if flushed == 0 { 1.0 } else { (flushed + compacted) as f64 / flushed as f64 }
    }

    fn publish(&self) {
        metrics::gauge!("tessera_write_amplification").set(self.of_writes());
    }

    fn replace(&self, region: RegionId, bytes: Option<(u64, u64)>) {
        let mut space = self.space.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match bytes {
            Some(bytes) => space.regions.insert(region, bytes),
            None => space.regions.remove(&region),
        };
        let ((out_all, out_least), (all, least)) = (before.unwrap_or_default(), bytes.unwrap_or_default());
        space.total = (space.total.0 - out_all + all, space.total.1 - out_least + least);
        let (all, least) = space.total;
        metrics::gauge!("tessera_space_amplification").set(if least == 0 { 1.0 } else { all as f64 / least as f64 });
    }
}
