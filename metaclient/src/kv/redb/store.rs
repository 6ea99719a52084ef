//! The open file: transactions and leases, one writer at a time. Every method blocks.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as BlockingMutex, MutexGuard, PoisonError};
use std::time::Duration;

use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, WriteTransaction};
use tessera_manifest::env::Moment;
use tokio::sync::Mutex;

use super::failure::{database_error, storage, storage_error, table_error};
use super::layout::{
    ATTACHED, FIRST_REVISION, FORMAT, FORMAT_WITHOUT_LEASES, KV, LEASES, STORE, TableView, encode_entry, lease_of, read_number,
    read_revision,
};
use crate::kv::history::History;
use crate::kv::interpret::{Change, Plan, plan_txn};
use crate::kv::lease::Deadlines;
use crate::kv::{Entry, Key, KvError, Lease, LeaseId, Limits, Revision, Txn, TxnAnswer};
use crate::limits::LEASES_MAX;

type Snapshot<'a> = TableView<'a, redb::ReadOnlyTable<&'static [u8], &'static [u8]>>;

pub(super) struct Store {
    db: Database,
    path: PathBuf,
    pub(super) limits: Limits,
    pub(super) history: History,
    deadlines: BlockingMutex<Deadlines>,
    /// Taken without blocking a thread, unlike redb's own lock of writers. Whoever calls a method that writes
    /// holds it.
    pub(super) writer: Arc<Mutex<()>>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    pub(super) fn open(path: PathBuf, limits: Limits) -> Result<Self, KvError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| storage(&path, "create the folder of", e))?;
        }
        let db = Database::create(&path).map_err(|e| database_error(&path, e))?;
        let revision = initialize(&db, &path)?;
        // The file's name must be as durable as what is committed to it.
        sync_folder(&path).map_err(|e| storage(&path, "sync the folder of", e))?;
        let deadlines = BlockingMutex::new(restart_leases(&db, &path)?);
        let history = History::new(revision, &limits);
        Ok(Self { db, path, limits, history, deadlines, writer: Arc::new(Mutex::new(())) })
    }

    pub(super) fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on a snapshot.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Snapshot<'_>, Revision, &Limits) -> Result<T, KvError>) -> Result<T, KvError> {
        let snapshot = self.db.begin_read().map_err(|e| storage(&self.path, "read", e))?;
        let revision = self.revision(&snapshot)?;
        let table = snapshot.open_table(KV).map_err(|e| table_error(&self.path, "read", e))?;
        work(&TableView { table, path: &self.path }, revision, &self.limits)
    }

    fn revision(&self, snapshot: &ReadTransaction) -> Result<Revision, KvError> {
        let table = snapshot.open_table(STORE).map_err(|e| table_error(&self.path, "read", e))?;
        read_revision(&table, &self.path)
    }

    /// Decides and applies a transaction.
    pub(super) fn write(&self, txn: &Txn) -> Result<TxnAnswer, KvError> {
        let begun = self.begin()?;
        let plan = self.plan(&begun, txn)?;
        let now = Moment::now();
        plan.check_leases(|id| self.deadlines().is_alive(id, now))?;
        if plan.changes.is_empty() {
            begun.abort().map_err(|e| storage_error(&self.path, "write", e))?;
            return Ok(plan.answer);
        }
        self.apply(&begun, plan.answer.revision, &plan.changes)?;
        self.commit(begun)?;
        self.history.publish(plan.answer.revision, plan.changes);
        Ok(plan.answer)
    }

    /// Makes a lease; its term starts when it is durable.
    pub(super) fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        let begun = self.begin()?;
        let failed = |e| storage_error(&self.path, "write", e);
        let lease = {
            let mut store = begun.open_table(STORE).map_err(|e| table_error(&self.path, "write", e))?;
            let mut leases = begun.open_table(LEASES).map_err(|e| table_error(&self.path, "write", e))?;
            if leases.len().map_err(failed)? >= LEASES_MAX as u64 {
                return Err(KvError::TooManyLeases { leases_max: LEASES_MAX });
            }
            let id = read_number(&store, &self.path, "last_lease")?.unwrap_or(0).saturating_add(1);
            store.insert("last_lease", id).map_err(failed)?;
            store.insert("format", FORMAT).map_err(failed)?;
            leases.insert(id, u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)).map_err(failed)?;
            Lease { id: LeaseId(id), ttl }
        };
        self.commit(begun)?;
        self.deadlines().start(lease, Moment::now());
        Ok(lease)
    }

    /// Ends a lease and deletes its keys.
    pub(super) fn end_lease(&self, id: LeaseId) -> Result<(), KvError> {
        // Gone before its keys are, so that nobody who sees them gone can keep it alive.
        let term = self.deadlines().remove(id).ok_or(KvError::LeaseNotFound { id })?;
        let ended = self.delete_lease(id);
        if ended.is_err() {
            self.deadlines().insert(id, term);
        }
        ended
    }

    fn delete_lease(&self, id: LeaseId) -> Result<(), KvError> {
        let begun = self.begin()?;
        let changes = self.attached(&begun, id)?;
        let revision = self.plan(&begun, &Txn::new())?.answer.revision.next();
        if !changes.is_empty() {
            self.apply(&begun, revision, &changes)?;
        }
        {
            let mut leases = begun.open_table(LEASES).map_err(|e| table_error(&self.path, "write", e))?;
            leases.remove(id.0).map_err(|e| storage_error(&self.path, "write", e))?;
        }
        self.commit(begun)?;
        if !changes.is_empty() {
            self.history.publish(revision, changes);
        }
        Ok(())
    }

    /// The deletion of each key of a lease, in byte order.
    fn attached(&self, begun: &WriteTransaction, id: LeaseId) -> Result<Vec<Change>, KvError> {
        let failed = |e| storage_error(&self.path, "read", e);
        let table = begun.open_table(ATTACHED).map_err(|e| table_error(&self.path, "read", e))?;
        let mut changes = Vec::new();
        for item in table.range((id.0, &[][..])..(id.0.saturating_add(1), &[][..])).map_err(failed)? {
            let (of, ()) = item.map(|(of, value)| (of, value.value())).map_err(failed)?;
            changes.push(Change::Delete { key: Key::from(of.value().1) });
        }
        Ok(changes)
    }

    fn begin(&self) -> Result<WriteTransaction, KvError> {
        self.db.begin_write().map_err(|e| storage(&self.path, "write", e))
    }

    fn commit(&self, begun: WriteTransaction) -> Result<(), KvError> {
        let store = || format!("metadata file {}", self.path.display());
        begun.commit().map_err(|source| KvError::CommitUnknown { store: store(), source: Box::new(source) })
    }

    fn plan(&self, begun: &WriteTransaction, txn: &Txn) -> Result<Plan, KvError> {
        let store = begun.open_table(STORE).map_err(|e| table_error(&self.path, "write", e))?;
        let revision = read_revision(&store, &self.path)?;
        let table = begun.open_table(KV).map_err(|e| table_error(&self.path, "write", e))?;
        plan_txn(&TableView { table, path: &self.path }, revision, txn, &self.limits)
    }

    fn apply(&self, begun: &WriteTransaction, revision: Revision, changes: &[Change]) -> Result<(), KvError> {
        let failed = |e| storage_error(&self.path, "write", e);
        let mut table = begun.open_table(KV).map_err(|e| table_error(&self.path, "write", e))?;
        let (mut detached, mut attached) = (Vec::new(), Vec::new());
        for change in changes {
            let key = change.key().as_bytes();
            let before = match change {
                Change::Put(entry) => table.insert(key, encode_entry(entry).as_slice()),
                Change::Delete { .. } => table.remove(key),
            };
            let lease = before.map_err(failed)?.and_then(|before| lease_of(before.value()));
            detached.extend(lease.map(|lease| (lease.0, key)));
            if let Change::Put(Entry { lease: Some(lease), .. }) = change {
                attached.push((lease.0, key));
            }
        }
        if !detached.is_empty() || !attached.is_empty() {
            let mut table = begun.open_table(ATTACHED).map_err(|e| table_error(&self.path, "write", e))?;
            for row in detached {
                table.remove(row).map_err(failed)?;
            }
            for row in attached {
                table.insert(row, ()).map_err(failed)?;
            }
        }
        let mut store = begun.open_table(STORE).map_err(|e| table_error(&self.path, "write", e))?;
        store.insert("revision", revision.0).map_err(failed)?;
        Ok(())
    }
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Makes the tables of a new file, or checks those of an old one; answers its revision.
fn initialize(db: &Database, path: &Path) -> Result<Revision, KvError> {
    let begun = db.begin_write().map_err(|e| storage(path, "write", e))?;
    let revision = {
        let mut store = begun.open_table(STORE).map_err(|e| table_error(path, "write", e))?;
        match read_number(&store, path, "format")? {
            Some(FORMAT_WITHOUT_LEASES | FORMAT) => read_revision(&store, path)?,
            Some(found) => return Err(KvError::UnknownFormat { path: path.to_owned(), found, known: FORMAT }),
            None => {
                let failed = |e| storage_error(path, "write", e);
                store.insert("format", FORMAT_WITHOUT_LEASES).map_err(failed)?;
                store.insert("revision", FIRST_REVISION.0).map_err(failed)?;
                FIRST_REVISION
            }
        }
    };
    begun.open_table(KV).map_err(|e| table_error(path, "write", e))?;
    begun.open_table(LEASES).map_err(|e| table_error(path, "write", e))?;
    begun.open_table(ATTACHED).map_err(|e| table_error(path, "write", e))?;
    begun.commit().map_err(|e| storage(path, "write", e))?;
    Ok(revision)
}

/// Starts every lease of the file with its full time to live.
fn restart_leases(db: &Database, path: &Path) -> Result<Deadlines, KvError> {
    let snapshot = db.begin_read().map_err(|e| storage(path, "read", e))?;
    let table = snapshot.open_table(LEASES).map_err(|e| table_error(path, "read", e))?;
    let mut deadlines = Deadlines::default();
    let now = Moment::now();
    for item in table.iter().map_err(|e| storage_error(path, "read", e))? {
        let (id, ttl) = item.map_err(|e| storage_error(path, "read", e))?;
        deadlines.start(Lease { id: LeaseId(id.value()), ttl: Duration::from_millis(ttl.value()) }, now);
    }
    Ok(deadlines)
}
