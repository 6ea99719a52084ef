//! What a transaction asks and what it answers.

use bytes::Bytes;

use super::key::{Entry, Key, KeyRange, Revision};
use super::lease::LeaseId;

/// One page of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeRequest {
    /// The keys.
    pub range: KeyRange,
    /// Most entries to answer with; taken as at least 1, and at most what the backend's limits say.
    pub limit: usize,
}

impl RangeRequest {
    /// The range, with as many entries as the backend gives at once.
    #[must_use]
    pub fn new(range: KeyRange) -> Self {
        Self { range, limit: usize::MAX }
    }

    /// The same with at most `limit` entries.
    #[must_use]
    pub fn with_limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }
}

/// A condition on the state before the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key exists and holds exactly this value.
    Value {
        /// The key.
        key: Key,
        /// The value.
        value: Bytes,
    },
    /// The key has this version; 0 is that of an absent key.
    Version {
        /// The key.
        key: Key,
        /// The version.
        version: u64,
    },
    /// The key was last written by this transaction; 0 is that of an absent key.
    ModRevision {
        /// The key.
        key: Key,
        /// The revision.
        revision: Revision,
    },
    /// There is no such key.
    Absent {
        /// The key.
        key: Key,
    },
    /// There is such a key.
    Exists {
        /// The key.
        key: Key,
    },
    /// No key starts with this prefix.
    PrefixEmpty {
        /// The prefix.
        prefix: Key,
    },
}

impl Compare {
    /// The key `entry.key` is exactly as it was when `entry` was read.
    #[must_use]
    pub fn unchanged(entry: &Entry) -> Self {
        Self::ModRevision { key: entry.key.clone(), revision: entry.mod_revision }
    }
}

/// One operation of a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Reads one key.
    Get {
        /// The key.
        key: Key,
    },
    /// Reads one page of a range.
    Range {
        /// What to read.
        request: RangeRequest,
    },
    /// Writes one key.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Bytes,
        /// The lease that the key ends with from now on, in place of any before; `None` for no end.
        lease: Option<LeaseId>,
    },
    /// Deletes one key, if it exists.
    Delete {
        /// The key.
        key: Key,
    },
    /// Deletes every key of a range.
    DeleteRange {
        /// The keys.
        range: KeyRange,
    },
}

impl Op {
    /// Reads `key`.
    #[must_use]
    pub fn get(key: impl Into<Key>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Writes `value` to `key`.
    #[must_use]
    pub fn put(key: impl Into<Key>, value: impl Into<Bytes>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: None }
    }

    /// The same, ending with lease `id` when it is a put; any other operation as it is.
    #[must_use]
    pub fn with_lease(self, id: LeaseId) -> Self {
        match self {
            Self::Put { key, value, lease: _ } => Self::Put { key, value, lease: Some(id) },
            other => other,
        }
    }

    /// Deletes `key`, if it exists.
    #[must_use]
    pub fn delete(key: impl Into<Key>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Whether it can change the store.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Self::Get { .. } | Self::Range { .. } => false,
            Self::Put { .. } | Self::Delete { .. } | Self::DeleteRange { .. } => true,
        }
    }
}

/// What an operation answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpAnswer {
    /// What the key holds, if it exists.
    Get(Option<Entry>),
    /// One page of a range, in byte order.
    Range {
        /// The entries.
        entries: Vec<Entry>,
        /// Whether the range holds entries after the last one given.
        more: bool,
    },
    /// The key was written.
    Put,
    /// So many keys were deleted, by key or by range.
    Delete {
        /// How many.
        deleted: u64,
    },
}

/// A transaction: when all of `compares` hold run `then_ops`, else `else_ops`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Txn {
    /// Conditions on the state before; none always hold.
    pub compares: Vec<Compare>,
    /// What to do when they hold, in order.
    pub then_ops: Vec<Op>,
    /// What to do when they do not, in order.
    pub else_ops: Vec<Op>,
}

impl Txn {
    /// One that does nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds operations to the `then` branch.
    #[must_use]
    pub fn then(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.then_ops.extend(ops);
        self
    }

    /// Adds operations to the `else` branch.
    #[must_use]
    pub fn otherwise(mut self, ops: impl IntoIterator<Item = Op>) -> Self {
        self.else_ops.extend(ops);
        self
    }

    /// Whether neither branch can change the store.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        !self.then_ops.iter().chain(&self.else_ops).any(Op::is_write)
    }
}

/// What a transaction answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnAnswer {
    /// Whether the compares held, that is which branch ran.
    pub succeeded: bool,
    /// The store's revision after it; its own revision when it changed something.
    pub revision: Revision,
    /// One answer for each operation of the branch that ran, in order.
    pub answers: Vec<OpAnswer>,
}

impl TxnAnswer {
    /// What the get at `index` of the branch found; `None` also where there is no get.
    #[must_use]
    pub fn entry(&self, index: usize) -> Option<&Entry> {
        match self.answers.get(index) {
            Some(OpAnswer::Get(entry)) => entry.as_ref(),
            _ => None,
        }
    }

    /// What the range at `index` of the branch found; nothing where there is no range.
    #[must_use]
    pub fn entries(&self, index: usize) -> &[Entry] {
        match self.answers.get(index) {
            Some(OpAnswer::Range { entries, .. }) => entries,
            _ => &[],
        }
    }
}
