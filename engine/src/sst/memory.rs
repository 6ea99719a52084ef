//! The memory of the scans of a statement: counted when it is taken, refused beyond a limit, given back when dropped.
//!
//! Invariants:
//! - What is in use is never more than the limit: bytes that do not fit are refused, not counted, and nobody waits for them.
//! - The gauge `tessera_scan_bytes` is the sum of all that is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::Gauge;

use super::Error;

/// The memory that the scans of one statement may hold together.
#[derive(Debug)]
pub struct Memory {
    used: AtomicUsize,
    peak: AtomicUsize,
    bytes_max: usize,
    of_all: Gauge,
}

/// A part of it that is in use.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    /// So many bytes, of which none are in use.
    #[must_use]
    pub fn new(bytes_max: usize) -> Arc<Self> {
        let of_all = metrics::gauge!("tessera_scan_bytes");
        Arc::new(Self { used: AtomicUsize::new(0), peak: AtomicUsize::new(0), bytes_max, of_all })
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// [`Error::ScanMemory`] when they are not left.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved, Error> {
        self.take(bytes)?;
        Ok(Reserved { memory: Arc::clone(self), bytes })
    }

    /// A part of no bytes, to be resized.
    pub(crate) fn none(self: &Arc<Self>) -> Reserved {
        Reserved { memory: Arc::clone(self), bytes: 0 }
    }

    fn take(&self, bytes: usize) -> Result<(), Error> {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.bytes_max);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        let before = taken.map_err(|used| Error::ScanMemory { needed: used.saturating_add(bytes), bytes_max: self.bytes_max })?;
        self.peak.fetch_max(before + bytes, Ordering::Relaxed);
        self.of_all.increment(bytes as f64);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        self.of_all.decrement(bytes as f64);
    }

    /// Bytes in use, of all that have it.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were in use at a time.
    #[must_use]
    pub fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// Is `bytes` from here on.
    ///
    /// # Errors
    /// [`Error::ScanMemory`] when what more that is is not left; it is what it was then.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), Error> {
        match bytes.checked_sub(self.bytes) {
            Some(more) => self.memory.take(more)?,
            None => self.memory.give_back(self.bytes - bytes),
        }
        self.bytes = bytes;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let memory = Memory::new(100);
        let first = memory.reserve(60).unwrap();
        for bytes in [41, usize::MAX] {
            let refused = memory.reserve(bytes).unwrap_err();
            assert!(matches!(refused, Error::ScanMemory { bytes_max: 100, .. }), "{refused}");
            assert_eq!(memory.used(), 60, "{bytes}");
        }
        let second = memory.reserve(40).unwrap();
        assert_eq!((memory.used(), memory.peak()), (100, 100));
        let mut first = first;
        assert!(first.resize(61).is_err());
        first.resize(10).unwrap();
        assert_eq!((memory.used(), first.bytes()), (50, 10));
        first.resize(60).unwrap();
        drop((first, second));
        assert_eq!((memory.used(), memory.peak()), (0, 100));
    }
}
