//! Reading along with a living log.
//!
//! ```text
//!   GET next ──found──▶ record (a seal moves on to the next epoch)
//!      └──404──▶ caught up, as far as one GET can tell; sometimes: LIST beyond
//!                  ├── nothing, or seals of this epoch only ──▶ caught up
//!                  └── more ──▶ GET next again ──found──▶ record
//!                                    └──404──▶ retention has passed: open again
//! ```
//!
//! Invariants:
//! - A poll of a log that is idle is one GET, but for one poll in [`limits::FOLLOWER_POLLS_PER_LIST`] and the
//!   first one after a seal, which also LIST. So a follower that was overtaken by retention learns it after
//!   that many polls; [`Follower::confirm`] learns it at once, for whoever knows that it has slept.
//! - Each record names the one before it, so a seal that is void (put into a freed slot) is never followed by
//!   the `Open` of a later epoch: the mismatch means that retention has passed.
//! - A follower writes nothing.

use super::history::{Beyond, Loaded, beyond};
use super::record::{Kind, Record};
use super::store::SlotStore;
use crate::error::Error;
use crate::id::{Epoch, Nonce, Slot};
use crate::limits;

/// A reader that stays behind the writer of a log.
#[derive(Debug, Clone)]
pub struct Follower {
    store: SlotStore,
    last: Option<Last>,
    misses: u32,
}

/// The last record that was read.
#[derive(Debug, Clone, Copy)]
struct Last {
    slot: Slot,
    commit_id: Option<Nonce>,
    sealed: bool,
}

impl Follower {
    /// A follower that goes on where `loaded` ends.
    #[must_use]
    pub fn after(store: SlotStore, loaded: &Loaded) -> Self {
        let base = loaded.base.map(|base| Last { slot: base.slot, commit_id: base.commit_id, sealed: false });
        let last = loaded.history.last().map(Last::of).or(base);
        Self { store, last, misses: 0 }
    }

    /// The slot that the next poll probes.
    #[must_use]
    pub fn next_slot(&self) -> Slot {
        match self.last {
            None => Slot::new(Epoch(1), 0),
            Some(last) if last.sealed => last.slot.next_epoch(),
            Some(last) => last.slot.next(),
        }
    }

    /// The next record, or `None` if the follower has caught up. Poll until then.
    ///
    /// Cancel safe: a poll that is dropped has read nothing.
    ///
    /// # Errors
    /// [`Error::MissingRecord`] when retention has passed the follower: load the log anew. Damage of the record;
    /// the store's failures, after which the poll may be repeated.
    pub async fn poll(&mut self) -> Result<Option<Record>, Error> {
        if let Some(record) = self.store.read(self.next_slot()).await? {
            return self.take(record).map(Some);
        }
        self.misses = self.misses.saturating_add(1);
        let just_sealed = self.misses == 1 && self.last.is_some_and(|last| last.sealed);
        if just_sealed || self.misses.is_multiple_of(limits::FOLLOWER_POLLS_PER_LIST) {
            return self.confirm().await;
        }
        Ok(None)
    }

    /// Like [`poll`](Self::poll), by a LIST: `None` only if there really is nothing more.
    ///
    /// # Errors
    /// Those of [`poll`](Self::poll).
    pub async fn confirm(&mut self) -> Result<Option<Record>, Error> {
        let next = self.next_slot();
        let beyond = match self.last {
            Some(last) => beyond(&self.store, last.slot).await?,
            None if self.store.list(None).await?.slots.is_empty() => Beyond::Nothing,
            None => Beyond::SameEpoch,
        };
        // The LIST and the GET before it are not one moment, so the name is asked for once more.
        match self.store.read(next).await? {
            Some(record) => self.take(record).map(Some),
            None if beyond == Beyond::Nothing => Ok(None),
            None => Err(self.passed()),
        }
    }

    fn take(&mut self, record: Record) -> Result<Record, Error> {
        let expected = self.last.and_then(|last| last.commit_id);
        let unknown = self.last.is_some_and(|last| last.commit_id.is_none());
        let ahead = record.kind == Kind::Seal && record.prev.is_none();
        if !unknown && !ahead && record.prev != expected {
            if self.last.is_some_and(|last| last.sealed) {
                return Err(self.passed());
            }
            return Err(Error::BrokenChain { path: self.store.path(record.slot).to_string(), expected, found: record.prev });
        }
        self.last = Some(Last::of(&record));
        self.misses = 0;
        Ok(record)
    }

    fn passed(&self) -> Error {
        Error::MissingRecord { path: self.store.path(self.next_slot()).to_string() }
    }
}

impl Last {
    fn of(record: &Record) -> Self {
        Self { slot: record.slot, commit_id: Some(record.commit_id), sealed: record.kind == Kind::Seal }
    }
}
