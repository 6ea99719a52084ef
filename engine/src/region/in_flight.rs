//! The SSTs that this opening of a region has begun to write and that no record names yet.
//!
//! Invariants:
//! - A file is in here before its first byte is on the store, and until the version shows it or its object is
//!   deleted for certain. So a file of the current epoch that is neither in here nor, looked up *after* that, in
//!   the region's state is nobody's, and a sweep may take it.
//! - A file whose commit has no known outcome stays in here until the manifest is opened again: then its epoch is
//!   over, and the state says all there is to say of it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tessera_manifest::id::FileKey;

use super::Region;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<BTreeSet<FileKey>>);

impl InFlight {
    pub(super) fn begin(&self, file: FileKey) {
        self.lock().insert(file);
    }

    pub(super) fn end(&self, files: impl IntoIterator<Item = FileKey>) {
        let mut all = self.lock();
        for file in files {
            all.remove(&file);
        }
    }

    /// The epoch of all of them is over.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<FileKey>> {
        // Sets are changed in one step, so a poisoned one is sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Region {
    /// The files that are being written, or whose commit has no known outcome. A sweeper of the current epoch asks
    /// this *before* it looks a file up in the region's state.
    #[must_use]
    pub fn in_flight(&self) -> BTreeSet<FileKey> {
        self.in_flight.lock().clone()
    }
}
