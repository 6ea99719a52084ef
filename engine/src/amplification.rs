//! How many bytes are written for each byte that is flushed.

use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes written since the engine started.
#[derive(Debug, Default)]
pub(crate) struct Amplification {
    flushed: AtomicU64,
    compacted: AtomicU64,
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

    /// Bytes written by flushes and compactions for each byte written by a flush; one before the first.
    pub(crate) fn of_writes(&self) -> f64 {
        let (flushed, compacted) = (self.flushed.load(Ordering::Relaxed), self.compacted.load(Ordering::Relaxed));
        if flushed == 0 { 1.0 } else { (flushed + compacted) as f64 / flushed as f64 }
    }

    fn publish(&self) {
        metrics::gauge!("tessera_write_amplification").set(self.of_writes());
    }
}
