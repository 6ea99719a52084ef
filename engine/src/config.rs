//! What a user may set of an engine.

use tessera_manifest::log::Settings;

/// Settings of an engine; every size is in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// A region's memtable is flushed once it holds this much.
    pub region_memtable_bytes: usize,
    /// A region's memtables together, those that are being flushed included: its writes stall at it, or at twice
    /// `region_memtable_bytes` if that is more.
    pub region_memtable_bytes_max: usize,
    /// All memtables together: the largest is flushed at half of it, writes stall at it.
    pub memtable_bytes_max: usize,
    /// Size of the write-ahead log from which on the region that keeps its oldest part is flushed.
    pub wal_bytes_max: u64,
    /// Rows of a Parquet row group.
    pub row_group_rows: usize,
    /// A part of an SST that is uploaded in several, at least, but for the last; an SST that is not larger is one put. Stores
    /// take no parts below 5 MiB.
    pub part_bytes: usize,
    /// Level of the zstd compression of SSTs, 1 to 22.
    pub zstd_level: i32,
    /// Whether an SST's checksum is verified when it is first read.
    pub verify_sst: bool,
    /// Footers, page indexes and bloom filters of SSTs that are kept in memory.
    pub metadata_cache_bytes: u64,
    /// What is kept of which rows of an SST are of which series: some hundred bytes for each series of a row group.
    pub series_cache_bytes: u64,
    /// Encoded columns and pages of SSTs that are kept in memory.
    pub range_cache_bytes: u64,
    /// What the scans of one statement may hold together; a statement that needs more fails.
    pub scan_bytes_max: usize,
    /// Regions opened at the same time.
    pub open_parallelism: usize,
    /// Flushes at the same time, each of another region.
    pub flush_parallelism: usize,
    /// Compactions at the same time, each of another region.
    pub compaction_parallelism: usize,
    /// How the histories of regions are kept.
    pub history: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            region_memtable_bytes: 64 << 20,
            region_memtable_bytes_max: 256 << 20,
            memtable_bytes_max: 512 << 20,
            wal_bytes_max: 1 << 30,
            row_group_rows: 128 * 1024,
            part_bytes: 8 << 20,
            zstd_level: 1,
            verify_sst: true,
            metadata_cache_bytes: 128 << 20,
            series_cache_bytes: 256 << 20,
            range_cache_bytes: 256 << 20,
            scan_bytes_max: 1 << 30,
            open_parallelism: 16,
            flush_parallelism: 2,
            compaction_parallelism: 1,
            history: Settings::default(),
        }
    }
}
