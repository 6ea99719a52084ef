//! The list of all settings: key in the file, environment variable, text for people.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Path in the TOML file, `section.name` or `name`.
    pub path: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
}

impl Key {
    /// The environment variable that sets it: `TESSERA_` and the path in capitals, with `_` for the point.
    #[must_use]
    pub fn env(&self) -> String {
        format!("TESSERA_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// Section (empty at the top) and name.
    #[must_use]
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }
}

/// All settings, in the order of the file.
pub const KEYS: &[Key] = &[
    Key { path: "data_home", help: "Folder of everything that the server stores: object store, WAL, metadata." },
    Key { path: "metadata.backend", help: "redb: a file in the data home. etcd: a cluster of etcd, in a build with the feature etcd." },
    Key { path: "metadata.endpoints", help: "The client URLs of the servers of etcd, with commas between." },
    Key { path: "metadata.user", help: "The user of etcd; empty where authentication is off." },
    Key { path: "metadata.password_file", help: "A file with the user's password." },
    Key { path: "metadata.ca_file", help: "The authority that signed the certificates of etcd, PEM; with it TLS is spoken." },
    Key { path: "metadata.cert_file", help: "The certificate that etcd is shown, PEM, where it asks for one." },
    Key { path: "metadata.key_file", help: "The key of that certificate, PEM." },
    Key { path: "http.addr", help: "Address and port to listen on; port 0 takes a free one, which the log names." },
    Key { path: "http.body_bytes_max", help: "Largest request body in bytes; a larger one is answered with 413." },
    Key { path: "http.json_bytes_max", help: "Largest JSON answer in bytes; a larger result is refused: use format=csv or arrow." },
    Key { path: "http.shutdown_ms", help: "How long a shutdown waits for running requests, in milliseconds." },
    Key { path: "log.level", help: "error, warn, info, debug, trace, or directives like \"info,tessera_engine=debug\"." },
    Key { path: "log.format", help: "human, or json for one object per line." },
    Key { path: "engine.region_memtable_bytes", help: "A region's memtable is flushed once it holds this many bytes." },
    Key {
        path: "engine.region_memtable_bytes_max",
        help: "A region's memtables in bytes, those being flushed included: its writes stall at it.",
    },
    Key { path: "engine.memtable_bytes_max", help: "All memtables in bytes: the largest is flushed at half of it, writes stall at it." },
    Key { path: "engine.wal_bytes_max", help: "Size of the WAL in bytes from which on the region with its oldest rows is flushed." },
    Key { path: "engine.row_group_rows", help: "Rows of a Parquet row group." },
    Key { path: "engine.zstd_level", help: "Level of the zstd compression of SSTs, 1 to 22." },
    Key { path: "engine.verify_sst", help: "Whether an SST's checksum is verified when it is first read." },
    Key { path: "engine.metadata_cache_bytes", help: "Memory in bytes for footers, page indexes and bloom filters of SSTs." },
    Key { path: "engine.series_cache_bytes", help: "Memory in bytes for which rows of SSTs are of which series." },
    Key { path: "engine.range_cache_bytes", help: "Memory in bytes for encoded columns and pages of SSTs." },
    Key { path: "engine.scan_bytes_max", help: "What the scans of one statement may hold together in bytes; one that needs more fails." },
    Key { path: "engine.open_parallelism", help: "Regions opened at the same time." },
    Key { path: "engine.flush_parallelism", help: "Flushes at the same time, each of another region." },
    Key { path: "engine.compaction_parallelism", help: "Compactions at the same time, each of another region." },
    Key {
        path: "wal.provider",
        help: "local, or noop for bulk loads: rows are in memory only until they are flushed; a killed process loses them, and so does an end whose flush fails.",
    },
    Key { path: "wal.segment_bytes", help: "Size of a preallocated WAL segment file in bytes, a multiple of 4096." },
    Key {
        path: "wal.sync_interval_ms",
        help: "0: writes are acknowledged once on the disk; else synced this often, and a power failure loses as much.",
    },
    Key {
        path: "wal.take_over",
        help: "Data homes, or wal folders, of nodes that are gone, with commas between: regions with rows there are taken over.",
    },
];
