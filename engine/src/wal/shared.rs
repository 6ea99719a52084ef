//! What the handle, the writer and the keeper of a local log have in common.
//!
//! Lock order: identity file, then settled, then catalog.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tessera_manifest::env::Env;
use tessera_manifest::id::Epoch;
use tessera_manifest::wal::WalId;

use super::catalog::Catalog;
use super::disk::Disk;
use super::local::Options;
use super::meta::Meta;

/// How far the log is known to be on disk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settled {
    /// Every frame up to this one.
    pub(super) frame: u64,
    /// The number of the first entry that is not in those frames.
    pub(super) next_entry: u64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) options: Options,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) env: Env,
    pub(super) id: WalId,
    pub(super) epoch: Epoch,
    pub(super) meta: Mutex<Meta>,
    pub(super) settled: Mutex<Settled>,
    pub(super) catalog: Mutex<Catalog>,
    /// Held as long as any thread of this opening may touch the folder.
    pub(super) _lock: File,
}

impl Shared {
    pub(super) fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settled(&self) -> Settled {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn settle(&self, settled: Settled) {
        *self.settled.lock().unwrap_or_else(PoisonError::into_inner) = settled;
    }

    /// Writes the identity file as things are now. `activating` is a segment that is about to be written.
    pub(super) fn write_meta(&self, activating: Option<u64>) -> io::Result<()> {
        let mut meta = self.meta.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = self.settled();
        let mut next = meta.clone();
        next.last_segment = activating.unwrap_or(0).max(meta.last_segment);
        next.settled_frame = settled.frame;
        next.next_entry = settled.next_entry;
        {
            let catalog = self.catalog();
            next.kept_from = catalog.kept_from().unwrap_or(next.last_segment.saturating_add(u64::from(activating.is_none())));
            next.keep_lost(catalog.lost());
        }
        next.write(&*self.disk, &self.dir)?;
        *meta = next;
        Ok(())
    }
}
