//! The one writer of an epoch.

use bytes::Bytes;

use super::guard::Guard;
use super::record::{Kind, Record};
use super::store::{Filled, SlotStore};
use crate::error::Error;
use crate::id::{Nonce, Slot};

/// What came of a commit.
#[derive(Debug)]
pub enum Outcome {
    /// The record is on the store, in its slot, for ever.
    Committed(Record),
    /// Another's record is in the slot: this writer is fenced and will never commit again.
    Conflict(Box<Record>),
    /// The store did not answer clearly: the record may be there now or later, or never. Nothing may be
    /// acknowledged, and no file that the record names may be deleted. Open the log anew to find out.
    Unknown(Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// The next slot is free as far as this writer knows.
    Good,
    /// A commit was begun and its outcome is not known.
    InDoubt,
    /// Another writer was met.
    Fenced,
}

/// The right to commit into one epoch of a slot log.
#[derive(Debug)]
pub struct Writer {
    store: SlotStore,
    writer: Nonce,
    next: Slot,
    prev: Nonce,
    condition: Condition,
}

impl Writer {
    /// The writer that has just created `open`.
    pub(super) fn after(store: SlotStore, open: &Record) -> Self {
        Self { store, writer: open.writer, next: open.slot.next(), prev: open.commit_id, condition: Condition::Good }
    }

    /// The opening that this writer is.
    #[must_use]
    pub fn writer(&self) -> Nonce {
        self.writer
    }

    /// The slot that the next commit goes to.
    #[must_use]
    pub fn next_slot(&self) -> Slot {
        self.next
    }

    /// Whether commits may still succeed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.condition == Condition::Good
    }

    /// Commits a record named `commit_id`: one PUT, if the store answers clearly.
    ///
    /// Not cancel safe: if the future is dropped before it is ready, the outcome is unknown, and the writer
    /// refuses every later commit.
    ///
    /// # Errors
    /// [`Error::Fenced`] or [`Error::Unknown`] without any I/O if an earlier commit ended so, and a foreign
    /// record that cannot be decoded.
    pub async fn commit(&mut self, commit_id: Nonce, kind: Kind, body: Bytes) -> Result<Outcome, Error> {
        let path = self.store.path(self.next).to_string();
        match self.condition {
            Condition::Good => {}
            Condition::InDoubt => return Err(Error::Unknown { path, source: None }),
            Condition::Fenced => return Err(Error::Fenced { path }),
        }
        let record = Record { kind, commit_id, prev: Some(self.prev), writer: self.writer, slot: self.next, body };
        self.condition = Condition::InDoubt;
        match self.store.fill(&record).await {
            Ok(Filled::Ours) => {
                self.condition = Condition::Good;
                self.next = self.next.next();
                self.prev = commit_id;
                Ok(Outcome::Committed(record))
            }
            Ok(Filled::Theirs(theirs)) if !self.store.holds(Guard::FencedForEver) => {
                self.condition = Condition::Good;
                self.next = self.next.next();
                self.prev = theirs.commit_id;
                Ok(Outcome::Conflict(theirs))
            }
            Ok(Filled::Theirs(theirs)) => {
                self.condition = Condition::Fenced;
                Ok(Outcome::Conflict(theirs))
            }
            Ok(Filled::Unknown(error)) => Ok(Outcome::Unknown(error)),
            Err(error) => {
                self.condition = Condition::Fenced;
                Err(error)
            }
        }
    }
}
