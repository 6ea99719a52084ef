//! The memory of one scan: counted when it is taken, refused beyond a limit, given back when dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::Error;

/// The memory that one scan may hold.
#[derive(Debug)]
pub(crate) struct Memory {
    used: AtomicUsize,
    peak: AtomicUsize,
    bytes_max: usize,
}

/// A part of it that is in use.
#[derive(Debug)]
pub(crate) struct Reserved {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Memory {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), peak: AtomicUsize::new(0), bytes_max })
    }

    /// Takes `bytes`.
    ///
    /// # Errors
    /// [`Error::ScanMemory`] when they are not left.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reserved, Error> {
        let used = self.used.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let reserved = Reserved { memory: Arc::clone(self), bytes };
        if used > self.bytes_max {
            return Err(Error::ScanMemory { needed: used, bytes_max: self.bytes_max });
        }
        self.peak.fetch_max(used, Ordering::Relaxed);
        Ok(reserved)
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Most bytes that were in use at a time.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
