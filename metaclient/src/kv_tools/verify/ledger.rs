//! What writers and readers were told, as they were told it.

use bytes::Bytes;

use crate::kv::{Entry, Key, KeyRange, Revision};

/// A transaction of one writer. Each writes its id as the value of every key that it puts.
#[derive(Debug, Clone)]
pub(super) struct Write {
    /// `writer-number`, once only.
    pub(super) id: String,
    pub(super) puts: Vec<Key>,
    pub(super) deletes: Vec<KeyRange>,
    /// It was to happen only while this key was last written at this revision; 0: while it was absent.
    pub(super) guard: Option<(Key, Revision)>,
    pub(super) outcome: Outcome,
    /// The greatest revision that anybody had been told before it began.
    pub(super) floor: Revision,
}

/// What the writer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It changed something, as this revision.
    Ran(Revision),
    /// It ran and there was nothing to change.
    Idle(Revision),
    /// Its guard did not hold.
    Refused(Revision),
    /// An error that promises that nothing was applied.
    Failed,
    /// An error that promises nothing.
    Unknown,
}

impl Write {
    pub(super) fn value(&self) -> Bytes {
        Bytes::copy_from_slice(self.id.as_bytes())
    }
}

/// What a reader saw of a range.
#[derive(Debug, Clone)]
pub(super) struct Read {
    pub(super) range: KeyRange,
    pub(super) entries: Vec<Entry>,
    pub(super) revision: Revision,
    pub(super) floor: Revision,
}

/// All that one writer was told, in its order.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
    /// Reads that failed.
    pub(super) unread: u64,
}
