//! SSTs: sorted rows in Parquet files on the object store; `docs/formats/sst.md` specifies them.
//!
//! Invariants:
//! - A file is immutable, named by its [`FileKey`] alone, and holds each (primary key, time) once, ordered by
//!   (primary key, time) in the one total order of values.
//! - Any Parquet reader reads it: plain types, no nesting, zstd or no compression.
//! - Columns are found by field id (column id + 1), never by name.
//! - Bytes are trusted only after their size and CRC-32 were compared with the manifest's, once per process.

mod batches;
#[cfg(test)]
mod bloom_tests;
mod blooms;
#[cfg(test)]
mod cold_tests;
mod decode;
mod encode;
mod error;
pub(crate) mod evolve;
mod groups;
mod late;
mod memory;
mod pages;
mod prune;
mod read;
mod rule;
mod series;
mod stats;
mod store_reader;
#[cfg(test)]
mod tests;
mod worth;
mod write;

use std::fmt;
use std::sync::Arc;

use moka::sync::Cache;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::FileKey;
use tessera_manifest::paths::Root;
use tessera_manifest::rule::Expr;
use tokio::sync::OnceCell;

use crate::cache::{Caches, ResidualKey};
use crate::config::Config;

pub use error::Error;
pub use evolve::{conform_batch, stats_of_absent};
pub use memory::Memory;
pub(crate) use memory::Reserved;
pub(crate) use pages::{Bounds, BoundsKey, Group, bounds_bytes};
pub use prune::{excludes, time_bounds};
pub(crate) use read::{Conditions, Footer};
pub use read::{ReadOptions, Scan};
pub(crate) use write::sorted;
pub use write::{NewFile, flush};

/// The format number that is written.
pub const FORMAT: u32 = 1;
/// The least format number whose readers can read what is written.
const MIN_READER: u32 = 1;

/// Files remembered as verified; one that is forgotten is verified again.
const VERIFIED_FILES_MAX: u64 = 1 << 20;

/// Where a file is below the root: `{table:010}/{region:010}/sst/{epoch:010}-{ulid}.parquet`.
#[must_use]
pub fn sst_path(key: FileKey) -> Path {
    Root::default().sst(key)
}

/// Writes and reads SSTs on one store; a cheap handle to shared caches.
#[derive(Clone)]
pub struct Access {
    store: Arc<dyn ObjectStore>,
    root: Root,
    caches: Caches,
    verified: Cache<FileKey, Arc<OnceCell<()>>>,
    verify: bool,
    row_group_rows: usize,
    part_bytes: usize,
    zstd_level: i32,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").field("store", &self.store).field("verify", &self.verify).finish_non_exhaustive()
    }
}

impl Access {
    /// Access to the SSTs below the root of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, config: &Config) -> Self {
        Self {
            store,
            root: Root::default(),
            caches: Caches::new(config),
            verified: Cache::new(VERIFIED_FILES_MAX),
            verify: config.verify_sst,
            row_group_rows: config.row_group_rows.max(1),
            part_bytes: config.part_bytes,
            zstd_level: config.zstd_level,
        }
    }

    /// The same, with files below `root` rather than below the root of the store.
    #[must_use]
    pub fn with_root(self, root: Root) -> Self {
        Self { root, ..self }
    }

    /// The object of a file.
    #[must_use]
    pub fn path(&self, key: FileKey) -> Path {
        self.root.sst(key)
    }

    /// Deletes a file that no manifest names, nor will. What cannot be deleted is left for the next sweep.
    pub(crate) async fn discard(&self, key: FileKey) {
        let path = self.path(key);
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => tracing::debug!(%path, %error, "left an orphan for the next sweep"),
        }
        self.forget(&key);
    }

    /// What rows of a file must be tested with under a rule, which `find` says; it is remembered by file, scope and rule, on which
    /// alone it depends.
    pub(crate) fn residual(&self, file: &FileRef, rule: &Arc<Expr>, find: impl FnOnce() -> Expr) -> Arc<Expr> {
        let key = ResidualKey { file: file.key, scope: file.scope.clone(), rule: Arc::clone(rule) };
        if let Some(residual) = self.caches.residuals.get(&key) {
            return residual;
        }
        let residual = Arc::new(find());
        self.caches.residuals.insert(key, Arc::clone(&residual));
        residual
    }

    /// Forgets what is cached of a file that was deleted.
    pub fn forget(&self, key: &FileKey) {
        self.caches.footers.invalidate(key);
        self.verified.invalidate(key);
    }
}
