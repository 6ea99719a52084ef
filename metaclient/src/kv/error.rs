//! What can go wrong in a key-value store.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use tessera_manifest::error::ErrorClass;

use super::key::{Key, Revision};
use super::lease::LeaseId;

/// Why a key-value store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// A key must have at least one byte.
    #[error("a key must not be empty")]
    EmptyKey,
    /// The key is too long.
    #[error("key '{key}' has {bytes} bytes, more than the {bytes_max} that the store takes")]
    KeyTooLarge {
        /// The key.
        key: Key,
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The value is too long.
    #[error("the value of key '{key}' has {bytes} bytes, more than the {bytes_max} that the store takes")]
    ValueTooLarge {
        /// The key.
        key: Key,
        /// The value's size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The transaction, or the multi-get, has too many parts.
    #[error("a transaction has {ops} {what}, more than the {ops_max} that the store takes")]
    TooManyOps {
        /// Which part: `compares`, `operations`, `keys`; `parts` when a server does not say which.
        what: &'static str,
        /// How many.
        ops: usize,
        /// The limit; one less than what was refused when a server does not say what its limit is.
        ops_max: usize,
    },
    /// The transaction has too many bytes.
    #[error("a transaction has {bytes} bytes of keys and values, more than the {bytes_max} that the store takes")]
    TxnTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit; one less than what was refused when a server does not say what its limit is.
        bytes_max: usize,
    },
    /// One branch writes the key twice.
    #[error("one branch of a transaction puts key '{key}' twice, or puts and deletes it")]
    DuplicateKey {
        /// The key.
        key: Key,
    },
    /// The lease was revoked or expired, or there never was one of this id.
    #[error("there is no lease {id}, or it has ended: what was attached to it is gone; ask for a new one")]
    LeaseNotFound {
        /// The lease.
        id: LeaseId,
    },
    /// The time to live asked for is too long.
    #[error("a lease of {} s was asked for, and the store grants {} s at most", ttl.as_secs(), ttl_max.as_secs())]
    TtlTooLong {
        /// What was asked for.
        ttl: Duration,
        /// The limit.
        ttl_max: Duration,
    },
    /// The store has as many leases as it takes.
    #[error("the store has {leases_max} leases and takes no more: revoke those that nobody needs, or wait for them to expire")]
    TooManyLeases {
        /// The limit.
        leases_max: usize,
    },
    /// The changes asked for are no longer kept, or the watcher was too slow.
    #[error("changes from revision {requested} on are no longer kept, only from {oldest} on: read the range again, then watch")]
    Compacted {
        /// The revision that the watcher needs.
        requested: Revision,
        /// The oldest that can be watched.
        oldest: Revision,
    },
    /// The backend was dropped.
    #[error("the metadata store is closed")]
    Closed,
    /// Another process, or another handle of this one, has the file open.
    #[error("metadata file {} is in use by another process: stop that process, or give this one another data home", path.display())]
    AlreadyOpen {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a version that this one does not know.
    #[error("metadata file {} has format {found}, and this program reads none later than {known}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The latest format that is known.
        known: u64,
    },
    /// The file holds what no writer writes.
    #[error("metadata file {} is damaged: {detail}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        detail: String,
    },
    /// The file cannot be read or written. A transaction that fails so was not applied.
    #[error("cannot {doing} metadata file {}", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The servers do not answer, or cannot do it now. A transaction that fails so was not applied.
    #[error("cannot {doing} etcd at {endpoints}")]
    Unavailable {
        /// The servers.
        endpoints: String,
        /// What was tried.
        doing: &'static str,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The servers refuse: the user may not, or the set-up is wrong. Nothing was applied.
    #[error("etcd at {endpoints} refuses ({doing}): {reason}")]
    Refused {
        /// The servers.
        endpoints: String,
        /// What was tried.
        doing: &'static str,
        /// The servers' words.
        reason: String,
    },
    /// The commit failed, or its answer was lost, in a way that leaves open whether it happened.
    #[error("a commit to {store} may or may not have happened: read again before repeating it")]
    CommitUnknown {
        /// The store.
        store: String,
        /// The cause.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The blocking call panicked, or the runtime shut down under it.
    #[error("a call to the metadata store was aborted")]
    Aborted {
        /// The cause.
        source: tokio::task::JoinError,
    },
}

impl KvError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::EmptyKey
            | Self::KeyTooLarge { .. }
            | Self::ValueTooLarge { .. }
            | Self::TooManyOps { .. }
            | Self::TxnTooLarge { .. }
            | Self::DuplicateKey { .. }
            | Self::TtlTooLong { .. }
            | Self::AlreadyOpen { .. }
            | Self::UnknownFormat { .. }
            | Self::Refused { .. } => ErrorClass::Invalid,
            Self::Compacted { .. } => ErrorClass::Refresh,
            Self::LeaseNotFound { .. } => ErrorClass::Fenced,
            Self::TooManyLeases { .. } => ErrorClass::Retry,
            Self::Corrupt { .. } => ErrorClass::Corrupt,
            Self::Closed | Self::Storage { .. } | Self::Unavailable { .. } | Self::CommitUnknown { .. } => ErrorClass::Unavailable,
            Self::Aborted { source } if source.is_panic() => ErrorClass::Bug,
            Self::Aborted { .. } => ErrorClass::Unavailable,
        }
    }
}
