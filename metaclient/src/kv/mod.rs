//! A small transactional key-value store: the trait, its one semantics, and its backends.
//!
//! Semantics, the same on every backend and checked by the `conformance` module:
//! - A store has one [`Revision`]. A transaction that changes something adds one to it and stamps every key
//!   it writes; a transaction that changes nothing (its branch only reads, or deletes what is absent) does
//!   not. A put always changes something, even when the value stays the same.
//! - Keys are byte strings in byte order, never empty. Each holds (value, create revision, mod revision,
//!   version); the version is 1 when the key is created and grows by one with each put. A key that was
//!   deleted and put again starts at version 1.
//! - Reads are linearizable: a read sees every transaction that was answered before it began.
//! - A transaction evaluates its compares on the state before it; when all hold (none always hold) its
//!   `then` branch runs, else its `else` branch. Operations run in the order given, and each sees those
//!   before it. A branch is applied whole or not at all.
//! - Compares on an absent key: its version is 0, its mod revision is 0, and it equals no value, not even
//!   the empty one.
//! - In one branch no key is put twice, and no key is both put and deleted (by key or by range). Both
//!   branches are checked before anything runs: [`KvError::DuplicateKey`]. Deletes may overlap each other.
//! - [`Limits`] are checked before anything runs. A transaction that is too large is a typed error; it is
//!   never split.
//! - A watch from revision *r* delivers every change of its range with mod revision >= *r*, in order and
//!   whole transactions at a time, or fails with [`KvError::Compacted`]. What is kept for watchers is
//!   bounded, and a watcher that falls out of it re-reads. A range read answered with revision *r* and a
//!   watch from *r* + 1 together miss nothing.
//! - A lease lasts for its time to live after it was granted, and again after each time it was kept alive;
//!   never shorter, and possibly longer: etcd grants whole seconds and has a shortest time, and after a
//!   restart or a change of leader every lease starts anew. When it ends (it expires, or is revoked) the keys
//!   attached to it are deleted in one transaction, which watchers see as any other; until then they are
//!   read as before. A grant, and the end of a lease without keys, change no revision. What has expired
//!   cannot be kept alive, and no key can be attached to it: [`KvError::LeaseNotFound`].
//! - Each put attaches the key to the lease it names, or to none: an earlier attachment is gone. Only the
//!   leases of the branch that runs are looked at. Deleting a key leaves its lease as it is.
//! - A key range whose start is not below its end is empty, not an error.
//!
//! Deliberately absent: reads at a past revision (the pages of a long range read may come from different
//! revisions; each says which).

mod error;
#[cfg(feature = "etcd")]
mod etcd;
mod history;
mod interpret;
mod key;
mod lease;
mod memory;
mod redb;
mod sweep;
mod txn;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

pub use self::error::KvError;
#[cfg(feature = "etcd")]
pub use self::etcd::{ETCD_REQUEST_BYTES_MAX, ETCD_TXN_OPS_MAX, EtcdBackend, EtcdIdentity, EtcdOptions, EtcdTls, EtcdUser};
pub use self::interpret::{Change, Plan, View, check_txn, plan_txn};
pub use self::key::{Entry, Key, KeyRange, Revision};
pub use self::lease::{Lease, LeaseId};
pub use self::memory::MemoryBackend;
pub use self::redb::RedbBackend;
pub use self::txn::{Compare, Op, OpAnswer, RangeRequest, Txn, TxnAnswer};
use crate::limits;

/// What a backend accepts; see [`crate::limits`] for what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Compares of a transaction, and operations of each branch.
    pub txn_ops_max: usize,
    /// Bytes of all keys and values that a transaction names.
    pub txn_bytes_max: usize,
    /// Bytes of one value.
    pub value_bytes_max: usize,
    /// Bytes of one key.
    pub key_bytes_max: usize,
    /// Entries of one range answer.
    pub range_entries_max: usize,
    /// Changes that are kept for watchers.
    pub watch_changes_max: usize,
    /// Bytes that are kept for watchers.
    pub watch_bytes_max: usize,
}

impl Limits {
    /// Those of the embedded backends.
    pub const EMBEDDED: Self = Self {
        txn_ops_max: limits::TXN_OPS_MAX,
        txn_bytes_max: limits::TXN_BYTES_MAX,
        value_bytes_max: limits::VALUE_BYTES_MAX,
        key_bytes_max: limits::KEY_BYTES_MAX,
        range_entries_max: limits::RANGE_ENTRIES_MAX,
        watch_changes_max: limits::WATCH_CHANGES_MAX,
        watch_bytes_max: limits::WATCH_BYTES_MAX,
    };
}

/// The answer to [`KvBackend::get`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GetAnswer {
    /// What the key holds, if it exists.
    pub entry: Option<Entry>,
    /// The store's revision at the read.
    pub revision: Revision,
}

/// The answer to [`KvBackend::multi_get`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MultiGetAnswer {
    /// What each key holds, in the order asked.
    pub entries: Vec<Option<Entry>>,
    /// The store's revision at the read, one for all keys.
    pub revision: Revision,
}

/// The answer to [`KvBackend::range`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The entries, in byte order of their keys.
    pub entries: Vec<Entry>,
    /// Whether the range holds entries after the last one given.
    pub more: bool,
    /// The store's revision at the read.
    pub revision: Revision,
}

/// Changes of a watched range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchBatch {
    /// The transaction that made them.
    pub revision: Revision,
    /// Its changes within the range, one for each key, in byte order; empty only in the answer to a
    /// [mark](Watch::mark).
    pub changes: Vec<Change>,
}

/// A running watch. Dropping it ends it.
#[async_trait]
pub trait Watch: fmt::Debug + Send {
    /// Waits for the next transaction that changes the range. Cancel safe: a cancelled call loses nothing.
    ///
    /// # Errors
    /// [`KvError::Compacted`] when changes were missed: read the range again and watch from the revision
    /// after that of the answer. [`KvError::Closed`] when an embedded store was dropped, [`KvError::Refused`]
    /// when the user may no longer read. The watch ends with each of them. While the servers of a backend cannot be reached
    /// this waits.
    async fn next(&mut self) -> Result<WatchBatch, KvError>;

    /// Asks for a mark: after all changes up to some revision, [`next`](Self::next) will give a batch without
    /// changes at that revision, which is then known to be complete. That revision is the newest that the watch
    /// knows of, perhaps not yet the newest of the store. False where the backend cannot tell, and gives none.
    fn mark(&mut self) -> bool {
        false
    }
}

/// A transactional key-value store; the module states its semantics.
#[async_trait]
pub trait KvBackend: fmt::Debug + Send + Sync + 'static {
    /// What it accepts.
    fn limits(&self) -> Limits;

    /// Reads one key.
    ///
    /// # Errors
    /// When the store does not answer or is damaged.
    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError>;

    /// Reads many keys at one revision.
    ///
    /// # Errors
    /// [`KvError::TooManyOps`] for more keys than a transaction has operations; else as [`get`](Self::get).
    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError>;

    /// Reads one page of a range: the first entries of it, up to the request's limit or the backend's.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError>;

    /// Runs a transaction; what it wrote is durable when this answers. Not cancel safe: a cancelled call may
    /// or may not have been applied.
    ///
    /// # Errors
    /// A broken limit or rule of the module: nothing was applied. [`KvError::CommitUnknown`]: it may have
    /// been applied; read again. Else as [`get`](Self::get), and nothing was applied.
    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError>;

    /// Watches `range` for changes with mod revision >= `from`, which may lie in the future.
    ///
    /// # Errors
    /// [`KvError::Compacted`] when changes since `from` are no longer kept; a backend may say so only when the
    /// watch is asked for its first changes. Else as [`get`](Self::get).
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError>;

    /// Forgets changes before revision `before`, or before the store's revision where that comes first:
    /// watches from there on still work. etcd keeps every change until somebody calls this, or its own
    /// compaction does; the embedded stores bound what they keep by themselves.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    async fn compact(&self, before: Revision) -> Result<(), KvError>;

    /// Grants a lease that lasts at least `ttl`; the answer says how long. It is durable when this answers.
    /// Not cancel safe: a cancelled call may leave a lease that nobody knows, and that expires.
    ///
    /// # Errors
    /// [`KvError::TtlTooLong`], [`KvError::TooManyLeases`]; else as [`txn`](Self::txn).
    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError>;

    /// Starts the term of a lease anew, and answers its time to live. A holder that has had no answer counts
    /// from before its last call that was answered.
    ///
    /// # Errors
    /// [`KvError::LeaseNotFound`] when the lease has ended; else as [`get`](Self::get).
    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError>;

    /// Ends a lease, and deletes the keys attached to it in one transaction. Not cancel safe, as
    /// [`txn`](Self::txn).
    ///
    /// # Errors
    /// [`KvError::LeaseNotFound`] when the lease has ended; else as [`txn`](Self::txn).
    async fn revoke(&self, id: LeaseId) -> Result<(), KvError>;
}

/// Reads all pages of a range. The pages may come from different revisions: an entry that is not changed
/// meanwhile is there exactly once.
///
/// # Errors
/// As [`KvBackend::range`].
pub async fn range_all(kv: &dyn KvBackend, range: KeyRange) -> Result<Vec<Entry>, KvError> {
    let mut request = RangeRequest::new(range);
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let page = kv.range(&request).await?;
        entries.extend(page.entries);
        match entries.last() {
            Some(last) if page.more => request.range.start = last.key.successor(),
            _ => return Ok(entries),
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod lease_tests;
