//! The embedded store: one redb file, every commit durable.
//!
//! Invariants:
//! - One writer at a time: the writer's lock is held from the read of the state to the publication of the
//!   changes, so that revisions are published in order.
//! - A transaction is answered, and its changes are published, only after its commit is on disk. One that
//!   changes nothing writes nothing.
//! - A lease is on disk before it is answered, and its term starts after that. Keeping it alive writes
//!   nothing: when the file is opened again every lease starts anew.
//! - The file is locked while it is open; a second process is refused.

mod failure;
mod layout;
mod store;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::env::{self, Moment};

use self::store::Store;
use super::error::KvError;
use super::interpret::{View, check_key, check_keys, check_txn, plan_txn, read_page};
use super::key::{Key, KeyRange, Revision};
use super::lease::{Lease, LeaseId, granted_ttl};
use super::sweep::{Expire, Sweeper};
use super::txn::{RangeRequest, Txn, TxnAnswer};
use super::{GetAnswer, KvBackend, Limits, MultiGetAnswer, RangeAnswer, Watch};

/// A [`KvBackend`] in one file. Dropping it closes the file.
#[derive(Debug)]
pub struct RedbBackend {
    store: Arc<Store>,
    sweeper: Sweeper,
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
        let store = Arc::new(blocking(move || Store::open(path, limits)).await?);
        let sweeper = Sweeper::default();
        if store.next_deadline().is_some() {
            sweeper.look_at(&store);
        }
        Ok(Self { store, sweeper })
    }
}

async fn blocking<T, F>(work: F) -> Result<T, KvError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, KvError> + Send + 'static,
{
    env::spawn_blocking(work).await.map_err(|source| KvError::Aborted { source })?
}

/// Runs `work` as the only writer, off the async threads.
async fn writing<T, F>(store: &Arc<Store>, work: F) -> Result<T, KvError>
where
    T: Send + 'static,
    F: FnOnce(&Store) -> Result<T, KvError> + Send + 'static,
{
    let writer = Arc::clone(&store.writer).lock_owned().await;
    let store = Arc::clone(store);
    // The guard moves along: a cancelled caller does not let the next writer in before this one is done.
    blocking(move || {
        let answer = work(&store);
        drop(writer);
        answer
    })
    .await
}

#[async_trait]
impl Expire for Store {
    fn next_deadline(&self) -> Option<Moment> {
        self.deadlines().next()
    }

    async fn expire(self: Arc<Self>) -> Result<(), KvError> {
        loop {
            let ended = writing(&self, |store| {
                let due = store.deadlines().due(Moment::now());
                due.map(|id| store.end_lease(id)).transpose()
            });
            if ended.await?.is_none() {
                return Ok(());
            }
        }
    }
}

#[async_trait]
impl KvBackend for RedbBackend {
    fn limits(&self) -> Limits {
        self.store.limits
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        check_key(key, &self.store.limits)?;
        let (store, key) = (Arc::clone(&self.store), key.clone());
        blocking(move || store.read(|view, revision, _| Ok(GetAnswer { entry: view.get(&key)?, revision }))).await
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        check_keys(keys, &self.store.limits)?;
        let (store, keys) = (Arc::clone(&self.store), keys.to_vec());
        blocking(move || {
            store.read(|view, revision, _| {
                let entries = keys.iter().map(|key| view.get(key)).collect::<Result<_, _>>()?;
                Ok(MultiGetAnswer { entries, revision })
            })
        })
        .await
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        let (store, request) = (Arc::clone(&self.store), request.clone());
        blocking(move || {
            store.read(|view, revision, limits| {
                let (entries, more) = read_page(view, &request, limits)?;
                Ok(RangeAnswer { entries, more, revision })
            })
        })
        .await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        check_txn(&txn, &self.store.limits)?;
        if txn.is_read_only() {
            let store = Arc::clone(&self.store);
            return blocking(move || store.read(|view, revision, limits| Ok(plan_txn(view, revision, &txn, limits)?.answer))).await;
        }
        writing(&self.store, move |store| store.write(&txn)).await
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        self.store.history.watch(range, from)
    }

    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        self.store.history.compact(before);
        Ok(())
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        let ttl = granted_ttl(ttl)?;
        let lease = writing(&self.store, move |store| store.grant(ttl)).await?;
        self.sweeper.look_at(&self.store);
        Ok(lease)
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.store.deadlines().renew(id, Moment::now())
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        writing(&self.store, move |store| store.end_lease(id)).await
    }
}
