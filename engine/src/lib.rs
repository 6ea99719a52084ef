//! Regions: WAL, memtable, flush, SST and scan, on the manifest of `tessera-manifest`.
//!
//! The crate knows nothing of SQL, of the catalog or of other nodes. Time, ids and tasks come from
//! `tessera_manifest::env`.

pub mod engine;
pub mod region;
pub mod staging;
pub mod options;
pub mod request;
pub mod wal;
pub mod codec;
pub mod memtable;
pub mod merge;
pub mod buckets;
pub mod runs;
pub mod sst;
pub mod compaction;
mod scheduler;
mod cache;
mod shared;
mod take_over;
mod amplification;
mod budget;
pub mod config;
pub mod error;
pub mod limits;
#[cfg(test)]
mod model;

#[cfg(test)]
mod testing;

/// The messages of an error and of its causes, for assertions.
#[cfg(test)]
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
