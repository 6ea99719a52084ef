//! The data home of a standalone server: what lies where on the local disk.
//!
//! ```text
//! {data_home}/lock                 held by the process that uses the data home
//! {data_home}/meta/metadata.redb   databases, tables, routes; not with metadata in etcd
//! {data_home}/wal/                 the write-ahead log
//! {data_home}/store/               the object store: manifests and SSTs
//! {data_home}/store/tessera.json   the cluster that the store belongs to
//! ```
//!
//! Invariants:
//! - One process at a time, by an OS lock that the kernel drops with the process.
//! - Objects are written with fsync, file and folder, before a create is answered.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use tessera_engine::wal::{LocalLogs, LocalWal, LogStore, NoopWal, Options, ReachableLogs, SyncMode};
use tessera_manifest::env::Env;
use tessera_manifest::id::{NodeId, Nonce};
use tessera_manifest::log::Context;
use tessera_manifest::paths::Root;
use tessera_manifest::probe;
use tessera_metaclient::kv::{KvBackend, RedbBackend};

use crate::config::{self, Config, MetadataBackend, WalProvider};
use crate::error::{Code, ServerError, chain};
#[cfg(feature = "failpoints")]
use crate::failpoint::Stores;
use crate::metadata;
use crate::standalone::{Parts, Standalone};

/// The node of a server that is alone.
const NODE: NodeId = NodeId(1);
/// The metadata, below the data home.
const METADATA: &str = "meta/metadata.redb";
/// The log, below the data home.
const WAL: &str = "wal";
/// The object that names the cluster.
const CLUSTER_OBJECT: &str = "tessera.json";
/// The version of [`ClusterFile`] that is written, and the oldest reader of it.
const CLUSTER_FORMAT: u32 = 1;

/// An opened data home: the lock is held for as long as this lives.
#[derive(Debug)]
pub struct Home {
    dir: PathBuf,
    _lock: File,
}

/// `tessera.json`: which cluster a store belongs to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ClusterFile {
    format: u32,
    min_reader: u32,
    cluster: Nonce,
    data_version: u32,
    upgrading: bool,
    crc32: String,
}

impl Home {
    /// Creates `dir` if need be and takes its lock.
    ///
    /// # Errors
    /// When another process has it, or the folder cannot be created or written.
    pub fn open(dir: &Path) -> Result<Self, ServerError> {
        let fail = |action: &str, path: &Path, error: &std::io::Error| {
            ServerError::new(Code::StorageUnavailable, format!("cannot {action} {}: {error}", path.display()))
        };
        fs::create_dir_all(dir).map_err(|error| fail("create the data home", dir, &error))?;
        let path = dir.join("lock");
        let options = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = options.map_err(|error| fail("open", &path, &error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                let text = format!(
                    "data home {} is in use by another process: stop that one, or choose another folder with --data-home",
                    dir.display()
                );
                Err(ServerError::new(Code::StorageUnavailable, text))
            }
            Err(TryLockError::Error(error)) => Err(fail("lock", &path, &error)),
        }
    }

    /// Takes the lock of a data home that exists; nothing is created in it.
    ///
    /// # Errors
    /// When `dir` is no data home, or another process has it.
    pub fn existing(dir: &Path) -> Result<Self, ServerError> {
        if !dir.join(METADATA).is_file() {
            let text = format!("'{}' is not a data home: it has no {METADATA}", dir.display());
            return Err(ServerError::new(Code::InvalidArguments, text));
        }
        Self::open(dir)
    }

    /// Metadata and object store, without opening what is in them.
    ///
    /// # Errors
    /// When either cannot be opened.
    pub async fn parts(&self) -> Result<(RedbBackend, Arc<dyn ObjectStore>), ServerError> {
        Ok((self.metadata().await?, self.store()?))
    }

    /// The metadata alone.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn metadata(&self) -> Result<RedbBackend, ServerError> {
        self.subfolder("meta")?;
        RedbBackend::open(self.dir.join(METADATA)).await.map_err(|error| ServerError::from_class(error.class(), &error))
    }

    /// Opens metadata, log, store and every region.
    ///
    /// # Errors
    /// What could not be opened. A region that does not open is no error here.
    pub async fn start(&self, config: &Config) -> Result<Standalone, ServerError> {
        let env = Env::system();
        let store = self.store()?;
        let context = Context::new(Arc::clone(&store), Root::default(), env.clone());
        let report = probe::run(&context, probe::Settings::CHEAP).await;
        let report = report.map_err(|error| ServerError::from_class(error.class(), &error))?;
        tracing::debug!(%report, "the object store keeps its promises");
        let cluster = cluster_of(&*store, &env).await?;
        let kv: Arc<dyn KvBackend> = match config.metadata.backend {
            MetadataBackend::Redb => Arc::new(self.metadata().await?),
            MetadataBackend::Etcd => metadata::connect(&config.metadata).await?,
        };
        let wal = self.wal(&config.wal, &env).await?;
        #[cfg(feature = "failpoints")]
        let (Stores { kv, store, wal }, fuse) = crate::failpoint::of_environment(Stores { kv, store, wal });
        let engine = config.engine.to_engine();
        let reachable = Some(self.reachable(&config.wal, &env));
        let standalone = Standalone::open(Parts { kv, store, wal, reachable, env, engine, node: NODE, cluster }).await?;
        #[cfg(feature = "failpoints")]
        fuse.light();
        Ok(standalone)
    }

    async fn wal(&self, config: &config::Wal, env: &Env) -> Result<Arc<dyn LogStore>, ServerError> {
        if config.provider == WalProvider::Noop {
            tracing::warn!("wal.provider is noop: rows are in memory only until they are flushed, and are lost if this process is killed");
            return Ok(Arc::new(NoopWal::new(NODE, env)));
        }
        let sync = match config.sync_interval_ms {
            0 => SyncMode::Always,
            ms => SyncMode::Interval(std::time::Duration::from_millis(ms)),
        };
        let options = Options { node: NODE, segment_bytes: config.segment_bytes, sync };
        let wal = LocalWal::open(&wal_folder(&self.dir), options, env.clone()).await;
        Ok(Arc::new(wal.map_err(|error| ServerError::from_class(error.class(), &error))?))
    }

    /// The logs from which regions are taken over: those that are said, and the one of this data home where none is kept now.
    fn reachable(&self, config: &config::Wal, env: &Env) -> Arc<dyn ReachableLogs> {
        let own = (config.provider == WalProvider::Noop).then(|| wal_folder(&self.dir));
        let said = config.take_over().into_iter().flat_map(|folder| [wal_folder(&folder), folder]);
        Arc::new(LocalLogs::new(said.chain(own).collect(), env.clone()))
    }

    fn store(&self) -> Result<Arc<dyn ObjectStore>, ServerError> {
        let dir = self.subfolder("store")?;
        let store = LocalFileSystem::new_with_prefix(&dir).map_err(|error| {
            ServerError::new(Code::StorageUnavailable, format!("cannot use {} as object store: {}", dir.display(), chain(&error)))
        })?;
        Ok(Arc::new(store.with_fsync(true)))
    }

    fn subfolder(&self, name: &str) -> Result<PathBuf, ServerError> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)
            .map_err(|error| ServerError::new(Code::StorageUnavailable, format!("cannot create {}: {error}", dir.display())))?;
        Ok(dir)
    }
}

/// The folder of the log of a data home.
#[must_use]
pub fn wal_folder(home: &Path) -> PathBuf {
    home.join(WAL)
}

impl ClusterFile {
    fn new(cluster: Nonce) -> Self {
        let mut file =
            Self { format: CLUSTER_FORMAT, min_reader: CLUSTER_FORMAT, cluster, data_version: 1, upgrading: false, crc32: String::new() };
        file.crc32 = file.checksum();
        file
    }

    /// CRC-32 of the JSON text with an empty `crc32`.
    fn checksum(&self) -> String {
        let Self { format, min_reader, cluster, data_version, upgrading, crc32: _ } = *self;
        let bare = Self { format, min_reader, cluster, data_version, upgrading, crc32: String::new() };
        format!("{:08x}", crc32fast::hash(&bare.encode()))
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a struct of numbers and text always serializes")
    }

    fn decode(bytes: &[u8]) -> Result<Self, ServerError> {
        let damaged = |what: String| ServerError::new(Code::StorageUnavailable, format!("object '{CLUSTER_OBJECT}' is damaged: {what}"));
        let file: Self = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        if file.min_reader > CLUSTER_FORMAT {
            let text = format!(
                "object '{CLUSTER_OBJECT}' needs a reader of format {}, this build reads up to {CLUSTER_FORMAT}: use a newer build",
                file.min_reader
            );
            return Err(ServerError::new(Code::StorageUnavailable, text));
        }
        let computed = file.checksum();
        if file.crc32 != computed {
            return Err(damaged(format!("checksum {} is recorded, {computed} computed", file.crc32)));
        }
        Ok(file)
    }
}

/// The cluster that the store belongs to; a new store gets a new one.
async fn cluster_of(store: &dyn ObjectStore, env: &Env) -> Result<Nonce, ServerError> {
    let path = object_store::path::Path::from(CLUSTER_OBJECT);
    let failed = |error: &object_store::Error| {
        ServerError::new(Code::StorageUnavailable, format!("cannot read object '{CLUSTER_OBJECT}': {}", chain(error)))
    };
    let fresh = ClusterFile::new(env.nonce());
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(&path, fresh.encode().into(), options).await {
        Ok(_) => Ok(fresh.cluster),
        Err(object_store::Error::AlreadyExists { .. }) => {
            let found = store.get(&path).await.map_err(|error| failed(&error))?;
            let bytes = found.bytes().await.map_err(|error| failed(&error))?;
            Ok(ClusterFile::decode(&bytes)?.cluster)
        }
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn a_store_keeps_its_cluster() {
        let store = InMemory::new();
        let env = Env::system();
        let first = cluster_of(&store, &env).await.unwrap();
        assert_eq!(cluster_of(&store, &env).await.unwrap(), first);
    }

    #[test]
    fn a_changed_or_newer_cluster_file_is_refused() {
        let text = String::from_utf8(ClusterFile::new(Nonce(7)).encode()).unwrap();
        assert_eq!(ClusterFile::decode(text.as_bytes()).unwrap().cluster, Nonce(7));
        let flipped = text.replace("\"upgrading\":false", "\"upgrading\":true");
        assert!(ClusterFile::decode(flipped.as_bytes()).unwrap_err().to_string().contains("damaged"));
        let newer = text.replace("\"min_reader\":1", "\"min_reader\":9");
        assert!(ClusterFile::decode(newer.as_bytes()).unwrap_err().to_string().contains("format 9"));
    }

    #[test]
    fn a_second_process_is_refused_with_a_clear_message() {
        let dir = tempfile::tempdir().unwrap();
        let first = Home::open(dir.path()).unwrap();
        let error = Home::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("is in use by another process"), "{error}");
        drop(first);
        assert!(Home::open(dir.path()).is_ok());
    }
}
