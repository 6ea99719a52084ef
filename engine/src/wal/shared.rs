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
    ///
    /// It enters the catalog before the lock on the identity file is given back, so that no later writing of that
    /// file can take it for a segment that is not needed. It stays there if this fails: its file has its name
    /// already, and the next attempt is for the same number.
    pub(super) fn write_meta(&self, activating: Option<u64>) -> io::Result<()> {
        let mut meta = self.meta.lock().unwrap_or_else(PoisonError::into_inner);
        let settled = self.settled();
        let mut next = meta.clone();
        next.last_segment = activating.unwrap_or(0).max(meta.last_segment);
        next.settled_frame = settled.frame;
        next.next_entry = settled.next_entry;
        {
            let mut catalog = self.catalog();
            if let Some(number) = activating {
                catalog.activate(number);
            }
            next.kept_from = catalog.kept_from().unwrap_or(next.last_segment.saturating_add(1));
            next.keep_lost(catalog.lost());
        }
        next.write(&*self.disk, &self.dir)?;
        *meta = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tessera_manifest::id::NodeId;
    use tessera_manifest::wal::WalKind;

    use super::super::disk::OsDisk;
    use super::*;

    fn shared(dir: &Path) -> Shared {
        let env = Env::system();
        let (node, log) = (NodeId(1), env.nonce());
        Shared {
            dir: dir.to_owned(),
            options: Options::new(node),
            disk: Arc::new(OsDisk),
            env,
            id: WalId { kind: WalKind::Local, node, log },
            epoch: Epoch(1),
            meta: Mutex::new(Meta::new(log, node)),
            settled: Mutex::new(Settled { frame: 0, next_entry: 1 }),
            catalog: Mutex::default(),
            _lock: File::create(dir.join("lock")).unwrap(),
        }
    }

    #[test]
    fn segment_that_is_about_to_be_written_is_needed_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let shared = shared(dir.path());
        shared.write_meta(None).unwrap();
        assert_eq!(Meta::read(dir.path()).unwrap().unwrap().kept_from, 1);
        shared.write_meta(Some(1)).unwrap();
        // What the keeper does at any moment after it has emptied the catalog.
        assert_eq!(shared.catalog().take_released(), Vec::<u64>::new());
        shared.write_meta(None).unwrap();
        let meta = Meta::read(dir.path()).unwrap().unwrap();
        assert_eq!((meta.kept_from, meta.last_segment), (1, 1));
    }
}
