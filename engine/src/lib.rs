//! Regions: WAL, memtable, flush, SST and scan, on the manifest of `tessera-manifest`.

pub mod codec;
pub mod config;
pub mod engine;
pub mod error;
pub mod limits;
pub mod memtable;
pub mod merge;
pub mod region;
pub mod request;
pub mod sst;
pub mod wal;
