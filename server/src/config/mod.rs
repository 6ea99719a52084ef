//! What a user may set of a server, and where the values come from.
//!
//! Invariants:
//! - A later layer wins: defaults < TOML file (`--config`) < environment (`TESSERA_…`) < flags.
//! - Every leaf of [`Config`] is listed once in [`keys::KEYS`], with its text for people; a test compares.
//! - An unknown key in the file is an error that names it; a value out of bounds is an error that names the key.

pub mod keys;
mod layers;
pub mod limits;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use layers::{ConfigError, Layers};

/// Settings of a server process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Folder of everything that the server stores: object store, WAL, metadata.
    pub data_home: PathBuf,
    /// Databases, tables and routes.
    pub metadata: Metadata,
    /// The HTTP server.
    pub http: Http,
    /// Logs.
    pub log: Log,
    /// Regions: memtables and SSTs.
    pub engine: Engine,
    /// The write-ahead log.
    pub wal: Wal,
}

/// Where metadata is kept. Files that are not named (empty) are not used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metadata {
    /// In what.
    pub backend: MetadataBackend,
    /// The client URLs of the servers of etcd, with commas between.
    pub endpoints: String,
    /// The user of etcd; empty where authentication is off.
    pub user: String,
    /// A file with the user's password.
    pub password_file: PathBuf,
    /// The authority that signed the certificates of etcd, PEM; with it TLS is spoken.
    pub ca_file: PathBuf,
    /// The certificate of this client, PEM.
    pub cert_file: PathBuf,
    /// Its key, PEM.
    pub key_file: PathBuf,
}

/// What metadata is kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetadataBackend {
    /// A file in the data home.
    Redb,
    /// A cluster of etcd.
    Etcd,
}

/// Settings of the HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Address and port to listen on; port 0 takes a free one, which the log names.
    pub addr: SocketAddr,
    /// Largest request body, in bytes; a larger one is answered with 413.
    pub body_bytes_max: usize,
    /// Largest JSON answer that is built in memory, in bytes; a larger result is refused with a hint at `csv` and `arrow`.
    pub json_bytes_max: usize,
    /// How long a shutdown waits for running requests, in milliseconds.
    pub shutdown_ms: u64,
}

/// Settings of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives like `info,tessera_engine=debug`.
    pub level: String,
    /// How it is written.
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people; coloured on a terminal.
    Human,
    /// A JSON object per line.
    Json,
}

/// Settings of the regions; sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Engine {
    /// A region's memtable is flushed once it holds this much.
    pub region_memtable_bytes: usize,
    /// A region's memtables together, those that are being flushed included: its writes stall at it.
    pub region_memtable_bytes_max: usize,
    /// All memtables together: the largest is flushed at half of it, writes stall at it.
    pub memtable_bytes_max: usize,
    /// Size of the write-ahead log from which on the region that keeps its oldest part is flushed.
    pub wal_bytes_max: u64,
    /// Rows of a Parquet row group.
    pub row_group_rows: usize,
    /// Level of the zstd compression of SSTs, 1 to 22.
    pub zstd_level: i32,
    /// Whether an SST's checksum is verified when it is first read.
    pub verify_sst: bool,
    /// Footers, page indexes and bloom filters of SSTs that are kept in memory.
    pub metadata_cache_bytes: u64,
    /// What is kept of which rows of an SST are of which series.
    pub series_cache_bytes: u64,
    /// Encoded columns and pages of SSTs that are kept in memory.
    pub range_cache_bytes: u64,
    /// What the scans of one statement, of all its regions, may hold in memory together.
    pub scan_bytes_max: usize,
    /// Regions opened at the same time.
    pub open_parallelism: usize,
    /// Flushes at the same time, each of another region.
    pub flush_parallelism: usize,
    /// Compactions at the same time, each of another region.
    pub compaction_parallelism: usize,
}

/// Settings of the write-ahead log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wal {
    /// Where rows are before they are in SSTs.
    pub provider: WalProvider,
    /// Size of a preallocated segment file, in bytes; a multiple of 4096.
    pub segment_bytes: u64,
    /// 0: a write is acknowledged once it is on the disk. Else the disk is synced this often, in milliseconds: a killed
    /// process loses nothing, a power failure up to that much time.
    pub sync_interval_ms: u64,
    /// Folders of logs that other nodes wrote and that can be read here, or data homes, with commas between. A region whose rows are in
    /// one of them is taken over when it is opened; without it such a region is refused.
    pub take_over: String,
}

/// Where rows are before they are in SSTs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WalProvider {
    /// In segment files in the data home.
    Local,
    /// In memory only.
    Noop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_home: PathBuf::from("./tessera-data"),
            metadata: Metadata::default(),
            http: Http::default(),
            log: Log::default(),
            engine: Engine::default(),
            wal: Wal::default(),
        }
    }
}

impl Default for Metadata {
    fn default() -> Self {
        Self {
            backend: MetadataBackend::Redb,
            endpoints: "http://127.0.0.1:2379".to_owned(),
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
        }
    }
}

impl Metadata {
    /// The URLs of the servers of etcd.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        listed(&self.endpoints).map(str::to_owned).collect()
    }
}

impl Wal {
    /// The folders of logs, or data homes, of other nodes.
    #[must_use]
    pub fn take_over(&self) -> Vec<PathBuf> {
        listed(&self.take_over).map(PathBuf::from).collect()
    }
}

/// What stands in a text with commas between.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

impl Default for Http {
    fn default() -> Self {
        Self { addr: SocketAddr::from(([127, 0, 0, 1], 4000)), body_bytes_max: 64 << 20, json_bytes_max: 256 << 20, shutdown_ms: 10_000 }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: LogFormat::Human }
    }
}

impl Default for Engine {
    fn default() -> Self {
        let tessera_engine::config::Config {
            region_memtable_bytes,
            region_memtable_bytes_max,
            memtable_bytes_max,
            wal_bytes_max,
            row_group_rows,
            zstd_level,
            verify_sst,
            metadata_cache_bytes,
            series_cache_bytes,
            range_cache_bytes,
            scan_bytes_max,
            open_parallelism,
            flush_parallelism,
            compaction_parallelism,
            ..
        } = tessera_engine::config::Config::default();
        Self {
            region_memtable_bytes,
            region_memtable_bytes_max,
            memtable_bytes_max,
            wal_bytes_max,
            row_group_rows,
            zstd_level,
            verify_sst,
            metadata_cache_bytes,
            series_cache_bytes,
            range_cache_bytes,
            scan_bytes_max,
            open_parallelism,
            flush_parallelism,
            compaction_parallelism,
        }
    }
}

impl Default for Wal {
    fn default() -> Self {
        Self { provider: WalProvider::Local, segment_bytes: 64 << 20, sync_interval_ms: 0, take_over: String::new() }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Human => "human",
            Self::Json => "json",
        })
    }
}

impl Http {
    /// How long a shutdown waits for running requests.
    #[must_use]
    pub fn shutdown(&self) -> Duration {
        Duration::from_millis(self.shutdown_ms)
    }
}

impl Engine {
    /// The same settings in the engine's terms; what cannot be set here has the engine's default.
    #[must_use]
    #[expect(clippy::field_reassign_with_default, reason = "the engine may have settings that a user may not set")]
    pub fn to_engine(&self) -> tessera_engine::config::Config {
        let Self {
            region_memtable_bytes,
            region_memtable_bytes_max,
            memtable_bytes_max,
            wal_bytes_max,
            row_group_rows,
            zstd_level,
            verify_sst,
            metadata_cache_bytes,
            series_cache_bytes,
            range_cache_bytes,
            scan_bytes_max,
            open_parallelism,
            flush_parallelism,
            compaction_parallelism,
        } = *self;
        let mut config = tessera_engine::config::Config::default();
        config.region_memtable_bytes = region_memtable_bytes;
        config.region_memtable_bytes_max = region_memtable_bytes_max;
        config.memtable_bytes_max = memtable_bytes_max;
        config.wal_bytes_max = wal_bytes_max;
        config.row_group_rows = row_group_rows;
        config.zstd_level = zstd_level;
        config.verify_sst = verify_sst;
        config.metadata_cache_bytes = metadata_cache_bytes;
        config.series_cache_bytes = series_cache_bytes;
        config.range_cache_bytes = range_cache_bytes;
        config.scan_bytes_max = scan_bytes_max;
        config.open_parallelism = open_parallelism;
        config.flush_parallelism = flush_parallelism;
        config.compaction_parallelism = compaction_parallelism;
        config
    }
}

impl Config {
    /// The effective settings as a TOML file, every key with its explanation and environment variable.
    ///
    /// Reading it back gives the same settings.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let tree = layers::to_tree(self);
        let mut text = String::from("# Settings of a tessera server. Later wins: defaults, this file, environment, flags.\n");
        let mut section = "";
        for key in keys::KEYS {
            let (table, leaf) = key.split();
            if table != section {
                section = table;
                let _ = write!(text, "\n[{table}]\n");
            }
            let value = layers::leaf(&tree, key.path).map_or_else(String::new, ToString::to_string);
            let _ = write!(text, "\n# {}\n# Environment: {}\n{leaf} = {value}\n", key.help, key.env());
        }
        text
    }
}
