//! What redb's errors are to a caller of the store.

use std::error::Error;
use std::path::Path;

use redb::{DatabaseError, StorageError, TableError};

use crate::kv::KvError;

pub(super) fn storage(path: &Path, doing: &'static str, source: impl Error + Send + Sync + 'static) -> KvError {
    KvError::Storage { path: path.to_owned(), doing, source: Box::new(source) }
}

pub(super) fn storage_error(path: &Path, doing: &'static str, error: StorageError) -> KvError {
    match error {
        StorageError::Corrupted(detail) => KvError::Corrupt { path: path.to_owned(), detail },
        other => storage(path, doing, other),
    }
}

pub(super) fn table_error(path: &Path, doing: &'static str, error: TableError) -> KvError {
    match error {
        TableError::Storage(error) => storage_error(path, doing, error),
        other => KvError::Corrupt { path: path.to_owned(), detail: other.to_string() },
    }
}

pub(super) fn database_error(path: &Path, error: DatabaseError) -> KvError {
    match error {
        DatabaseError::DatabaseAlreadyOpen => KvError::AlreadyOpen { path: path.to_owned() },
        DatabaseError::Storage(error) => storage_error(path, "open", error),
        other => storage(path, "open", other),
    }
}

pub(super) fn corrupt(path: &Path, detail: impl Into<String>) -> KvError {
    KvError::Corrupt { path: path.to_owned(), detail: detail.into() }
}
