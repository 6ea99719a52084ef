//! The embedded store: one redb file, every commit durable.
//!
//! Invariants:
//! - One writer at a time: the writer's lock is held from the read of the state to the publication of the
//!   changes, so that revisions are published in order.
//! - A transaction is answered, and its changes are published, only after its commit is on disk. One that
//!   changes nothing writes nothing.
//! - The file is locked while it is open; a second process is refused.
//!
//! Layout: the table `kv` holds key -> create revision, mod revision, version (u64, little endian), value;
//! the table `store` holds `format` and `revision`.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError, WriteTransaction,
};
use tessera_manifest::env;
use tokio::sync::Mutex;

use super::error::KvError;
use super::history::History;
use super::interpret::{Change, Plan, View, check_key, check_keys, check_txn, plan_txn, read_page};
use super::key::{Entry, Key, KeyRange, Revision};
use super::txn::{RangeRequest, Txn, TxnAnswer};
use super::{GetAnswer, KvBackend, Limits, MultiGetAnswer, RangeAnswer, Watch};

type KvTable = TableDefinition<'static, &'static [u8], &'static [u8]>;
const KV: KvTable = TableDefinition::new("kv");
const STORE: TableDefinition<'static, &'static str, u64> = TableDefinition::new("store");
const FORMAT: u64 = 1;
const FIRST_REVISION: Revision = Revision(1);

/// A [`KvBackend`] in one file. Dropping it closes the file.
#[derive(Debug)]
pub struct RedbBackend {
    store: Arc<Store>,
}

struct Store {
    db: Database,
    path: PathBuf,
    limits: Limits,
    history: History,
    /// Taken without blocking a thread, unlike redb's own lock of writers.
    writer: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl RedbBackend {
    /// Opens the store in the file `path`, and makes file and folder when they do not exist.
    ///
    /// # Errors
    /// [`KvError::AlreadyOpen`] when another process has it open; [`KvError::UnknownFormat`],
    /// [`KvError::Corrupt`] or [`KvError::Storage`] when it cannot be read.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, KvError> {
        Self::open_with_limits(path, Limits::EMBEDDED).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with_limits(path: impl Into<PathBuf>, limits: Limits) -> Result<Self, KvError> {
        let path = path.into();
        let store = blocking(move || Store::open(path, limits)).await?;
        Ok(Self { store: Arc::new(store) })
    }

    /// Runs `work` on a snapshot, off the async threads.
    async fn read<T, F>(&self, work: F) -> Result<T, KvError>
    where
        T: Send + 'static,
        F: FnOnce(&TableView<'_, redb::ReadOnlyTable<&'static [u8], &'static [u8]>>, Revision, &Limits) -> Result<T, KvError>
            + Send
            + 'static,
    {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let snapshot = store.db.begin_read().map_err(|e| storage(&store.path, "read", e))?;
            let revision = store.revision(&snapshot)?;
            let table = snapshot.open_table(KV).map_err(|e| table_error(&store.path, "read", e))?;
            work(&TableView { table, path: &store.path }, revision, &store.limits)
        })
        .await
    }
}

async fn blocking<T, F>(work: F) -> Result<T, KvError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, KvError> + Send + 'static,
{
    env::spawn_blocking(work).await.map_err(|source| KvError::Aborted { source })?
}

fn storage(path: &Path, doing: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> KvError {
    KvError::Storage { path: path.to_owned(), doing, source: Box::new(source) }
}

fn storage_error(path: &Path, doing: &'static str, error: StorageError) -> KvError {
    match error {
        StorageError::Corrupted(detail) => KvError::Corrupt { path: path.to_owned(), detail },
        other => storage(path, doing, other),
    }
}

fn table_error(path: &Path, doing: &'static str, error: TableError) -> KvError {
    match error {
        TableError::Storage(error) => storage_error(path, doing, error),
        other => KvError::Corrupt { path: path.to_owned(), detail: other.to_string() },
    }
}

fn database_error(path: &Path, error: DatabaseError) -> KvError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => KvError::AlreadyOpen { path: path.to_owned() },
        DatabaseError::Storage(error) => storage_error(path, "open", error),
        other => storage(path, "open", other),
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

impl Store {
    fn open(path: PathBuf, limits: Limits) -> Result<Self, KvError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| storage(&path, "create the folder of", e))?;
        }
        let db = Database::create(&path).map_err(|e| database_error(&path, e))?;
        let revision = initialize(&db, &path)?;
        // The file's name must be as durable as what is committed to it.
        sync_folder(&path).map_err(|e| storage(&path, "sync the folder of", e))?;
        let history = History::new(revision, &limits);
        Ok(Self { db, path, limits, history, writer: Arc::new(Mutex::new(())) })
    }

    fn revision(&self, snapshot: &ReadTransaction) -> Result<Revision, KvError> {
        let table = snapshot.open_table(STORE).map_err(|e| table_error(&self.path, "read", e))?;
        read_revision(&table, &self.path)
    }

    /// Decides and applies a transaction. The caller holds the writer's lock.
    fn write(&self, txn: &Txn) -> Result<TxnAnswer, KvError> {
        let begun = self.db.begin_write().map_err(|e| storage(&self.path, "write", e))?;
        let plan = self.plan(&begun, txn)?;
        if plan.changes.is_empty() {
            begun.abort().map_err(|e| storage_error(&self.path, "write", e))?;
            return Ok(plan.answer);
        }
        self.apply(&begun, &plan)?;
        begun.commit().map_err(|source| KvError::CommitUnknown { path: self.path.clone(), source: Box::new(source) })?;
        self.history.publish(plan.answer.revision, plan.changes);
        Ok(plan.answer)
    }

    fn plan(&self, begun: &WriteTransaction, txn: &Txn) -> Result<Plan, KvError> {
        let store = begun.open_table(STORE).map_err(|e| table_error(&self.path, "write", e))?;
        let revision = read_revision(&store, &self.path)?;
        let table = begun.open_table(KV).map_err(|e| table_error(&self.path, "write", e))?;
        plan_txn(&TableView { table, path: &self.path }, revision, txn, &self.limits)
    }

    fn apply(&self, begun: &WriteTransaction, plan: &Plan) -> Result<(), KvError> {
        let failed = |e| storage_error(&self.path, "write", e);
        let mut table = begun.open_table(KV).map_err(|e| table_error(&self.path, "write", e))?;
        for change in &plan.changes {
            match change {
                Change::Put(entry) => table.insert(entry.key.as_bytes(), encode_entry(entry).as_slice()).map_err(failed)?,
                Change::Delete { key } => table.remove(key.as_bytes()).map_err(failed)?,
            };
        }
        let mut store = begun.open_table(STORE).map_err(|e| table_error(&self.path, "write", e))?;
        store.insert("revision", plan.answer.revision.0).map_err(failed)?;
        Ok(())
    }
}

/// Makes the tables of a new file, or checks those of an old one; answers its revision.
fn initialize(db: &Database, path: &Path) -> Result<Revision, KvError> {
    let begun = db.begin_write().map_err(|e| storage(path, "write", e))?;
    let revision = {
        let mut store = begun.open_table(STORE).map_err(|e| table_error(path, "write", e))?;
        let format = store.get("format").map_err(|e| storage_error(path, "read", e))?.map(|found| found.value());
        match format {
            Some(FORMAT) => read_revision(&store, path)?,
            Some(found) => return Err(KvError::UnknownFormat { path: path.to_owned(), found, known: FORMAT }),
            None => {
                let failed = |e| storage_error(path, "write", e);
                store.insert("format", FORMAT).map_err(failed)?;
                store.insert("revision", FIRST_REVISION.0).map_err(failed)?;
                FIRST_REVISION
            }
        }
    };
    begun.open_table(KV).map_err(|e| table_error(path, "write", e))?;
    begun.commit().map_err(|e| storage(path, "write", e))?;
    Ok(revision)
}

fn read_revision(table: &impl ReadableTable<&'static str, u64>, path: &Path) -> Result<Revision, KvError> {
    let found = table.get("revision").map_err(|e| storage_error(path, "read", e))?;
    let missing = || KvError::Corrupt { path: path.to_owned(), detail: "it has no revision".to_owned() };
    found.map(|found| Revision(found.value())).ok_or_else(missing)
}

/// A redb table as the interpreter reads it.
struct TableView<'a, T> {
    table: T,
    path: &'a Path,
}

impl<T: ReadableTable<&'static [u8], &'static [u8]>> View for TableView<'_, T> {
    type Error = KvError;

    fn get(&self, key: &Key) -> Result<Option<Entry>, KvError> {
        let found = self.table.get(key.as_bytes()).map_err(|e| storage_error(self.path, "read", e))?;
        found.map(|found| decode_entry(self.path, key.clone(), found.value())).transpose()
    }

    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, KvError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |e| storage_error(self.path, "read", e);
        let found = match &range.end {
            Some(end) => self.table.range::<&[u8]>(range.start.as_bytes()..end.as_bytes()),
            None => self.table.range::<&[u8]>(range.start.as_bytes()..),
        };
        let mut entries = Vec::new();
        for item in found.map_err(failed)?.take(limit) {
            let (key, value) = item.map_err(failed)?;
            entries.push(decode_entry(self.path, Key::from(key.value()), value.value())?);
        }
        Ok(entries)
    }
}

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let Entry { key: _, value, create_revision, mod_revision, version } = entry;
    let mut bytes = Vec::with_capacity(24 + value.len());
    for number in [create_revision.0, mod_revision.0, *version] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(value);
    bytes
}

fn decode_entry(path: &Path, key: Key, bytes: &[u8]) -> Result<Entry, KvError> {
    let numbers = bytes.split_first_chunk::<8>().and_then(|(create, rest)| {
        let (modified, rest) = rest.split_first_chunk::<8>()?;
        let (version, value) = rest.split_first_chunk::<8>()?;
        Some((u64::from_le_bytes(*create), u64::from_le_bytes(*modified), u64::from_le_bytes(*version), value))
    });
    let Some((create, modified, version, value)) = numbers else {
        return Err(KvError::Corrupt { path: path.to_owned(), detail: format!("the entry of key '{key}' is too short") });
    };
    let value = Bytes::copy_from_slice(value);
    Ok(Entry { key, value, create_revision: Revision(create), mod_revision: Revision(modified), version })
}

#[async_trait]
impl KvBackend for RedbBackend {
    fn limits(&self) -> Limits {
        self.store.limits
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        check_key(key, &self.store.limits)?;
        let key = key.clone();
        self.read(move |view, revision, _| Ok(GetAnswer { entry: view.get(&key)?, revision })).await
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        check_keys(keys, &self.store.limits)?;
        let keys = keys.to_vec();
        self.read(move |view, revision, _| {
            let entries = keys.iter().map(|key| view.get(key)).collect::<Result<_, _>>()?;
            Ok(MultiGetAnswer { entries, revision })
        })
        .await
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        let request = request.clone();
        self.read(move |view, revision, limits| {
            let (entries, more) = read_page(view, &request, limits)?;
            Ok(RangeAnswer { entries, more, revision })
        })
        .await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        check_txn(&txn, &self.store.limits)?;
        if txn.is_read_only() {
            return self.read(move |view, revision, limits| Ok(plan_txn(view, revision, &txn, limits)?.answer)).await;
        }
        let writer = Arc::clone(&self.store.writer).lock_owned().await;
        let store = Arc::clone(&self.store);
        // The guard moves along: a cancelled caller does not let the next writer in before this one is done.
        blocking(move || {
            let answer = store.write(&txn);
            drop(writer);
            answer
        })
        .await
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        self.store.history.watch(range, from)
    }
}
