//! Reading a log: from a checkpoint or from its first slot to its end.
//!
//! ```text
//!   LIST after the hint ─▶ newest readable checkpoint ─▶ records after it, in parallel ─▶ walk
//! ```
//!
//! Invariants:
//! - Records at or below the checkpoint that was read are ignored. From there on each record names the one
//!   before it.
//! - The first seal in slot order ends its epoch. Beyond it stand only seals of the same epoch, which were put
//!   ahead of a busy writer; a gap below a seal is no error.
//! - A LIST and the reads after it are not one moment. A listed name may hold something else by the time it is
//!   read: retention may have freed the slot, and an opener that was paused for long may have sealed it. So a
//!   seal at the end of the records is believed only if a LIST *after* it was read shows nothing beyond.
//! - Nothing is called damaged while retention may explain it: if a checkpoint stands beyond, the answer is
//!   [`Error::MissingRecord`], and reading again starts at that checkpoint.

use async_trait::async_trait;

use super::record::{Kind, Record};
use super::store::{Listing, SlotStore};
use crate::error::Error;
use crate::id::{Epoch, Nonce, Slot};
use crate::limits;

/// Where replay begins: the record after whose slot a checkpoint holds the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// Its slot, which never holds a seal.
    pub slot: Slot,
    /// Its name; `None` if it is not known, and then the first record is taken without a check of its link.
    pub commit_id: Option<Nonce>,
}

/// Where the checkpoints of a log come from. The defaults are those of a log without checkpoints.
#[async_trait]
pub trait CheckpointSource: Send {
    /// A slot at or below the newest checkpoint, if one is known: the LIST starts there. Asked each time that
    /// reading starts over.
    fn hint(&self) -> Option<Slot> {
        None
    }

    /// Loads the newest readable checkpoint of `listing`, in place of whatever was loaded before. `None` if
    /// there is none: then the whole log is listed, and read from its first slot.
    ///
    /// # Errors
    /// The store's failure. A damaged checkpoint is no error; the one before it is taken.
    async fn base(&mut self, listing: &Listing) -> Result<Option<Base>, Error> {
        let _ = listing;
        Ok(None)
    }
}

/// The checkpoints of a log that has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCheckpoints;

impl CheckpointSource for NoCheckpoints {}

/// The records of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The checkpoint that they start after; `None` if they start at the first slot.
    pub base: Option<Base>,
    /// The records after it, in order.
    pub history: Vec<Record>,
    pub(super) end: End,
}

impl Loaded {
    /// Whether there is no log.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == End::Nothing
    }
}

/// How far the records at hand reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// There is no record.
    Nothing,
    /// The last epoch goes on at this slot.
    Free(Slot),
    /// The last epoch is sealed by this slot.
    Sealed(Slot),
}

/// What stands beyond a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beyond {
    /// Nothing, or seals of the same epoch.
    Nothing,
    /// More of the same epoch: the slot has been freed by retention.
    SameEpoch,
    /// A later epoch, whose `Open` stays for ever.
    LaterEpoch,
}

/// Reads the log from its newest checkpoint to its end, and changes nothing.
///
/// # Errors
/// - [`Error::MissingRecord`] when retention kept freeing what was about to be read;
/// - [`Error::Gap`] and [`Error::BrokenChain`] for records that are missing or do not fit;
/// - damage of any record, and the store's failures.
pub async fn load<C: CheckpointSource + ?Sized>(store: &SlotStore, source: &mut C) -> Result<Loaded, Error> {
    let mut passed = Slot::new(Epoch(1), 0);
    for _ in 0..limits::LOAD_ROUNDS_MAX {
        match load_once(store, source).await {
            Ok(loaded) => match loaded.end {
                End::Sealed(at) if beyond(store, at).await? != Beyond::Nothing => passed = at,
                _ => return Ok(loaded),
            },
            Err(Error::MissingRecord { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::MissingRecord { path: store.path(passed).to_string() })
}

/// Reads the log up to and including `last`, from the newest checkpoint of `source`, which must not be above it.
///
/// # Errors
/// As [`load`]; [`Error::MissingRecord`] if there is no record in `last` that belongs to the log.
pub async fn load_until<C: CheckpointSource + ?Sized>(store: &SlotStore, source: &mut C, last: Slot) -> Result<Loaded, Error> {
    let mut listing = store.list(None).await?;
    let base = source.base(&listing).await?;
    listing.slots.retain(|slot| *slot <= last && base.is_none_or(|base| *slot > base.slot));
    let listed = store.read_all(&listing.slots).await?;
    let loaded = Walk::new(store, base).up_to(last).run(listed).await?;
    let reached = loaded.history.last().map(|record| record.slot).or(base.map(|base| base.slot));
    if reached == Some(last) { Ok(loaded) } else { Err(Error::MissingRecord { path: store.path(last).to_string() }) }
}

/// One reading, whose last seal nobody has confirmed yet.
pub(super) async fn load_once<C: CheckpointSource + ?Sized>(store: &SlotStore, source: &mut C) -> Result<Loaded, Error> {
    let hint = source.hint();
    let mut listing = store.list(hint).await?;
    let mut base = source.base(&listing).await?;
    if base.is_none() && hint.is_some() {
        listing = store.list(None).await?;
        base = source.base(&listing).await?;
    }
    listing.slots.retain(|slot| base.is_none_or(|base| *slot > base.slot));
    let listed = store.read_all(&listing.slots).await?;
    Walk::new(store, base).run(listed).await
}

/// The walk over the records of a listing, in slot order.
struct Walk<'a> {
    store: &'a SlotStore,
    base: Option<Base>,
    history: Vec<Record>,
    end: End,
    expected: Slot,
    last: Option<Slot>,
}

impl<'a> Walk<'a> {
    fn new(store: &'a SlotStore, base: Option<Base>) -> Self {
        let expected = base.map_or(Slot::new(Epoch(1), 0), |base| base.slot.next());
        let end = if base.is_some() { End::Free(expected) } else { End::Nothing };
        Self { store, base, history: Vec::new(), end, expected, last: None }
    }

    /// The walk ends with `last`, whatever comes after it.
    fn up_to(self, last: Slot) -> Self {
        Self { last: Some(last), ..self }
    }

    async fn run(mut self, listed: Vec<Record>) -> Result<Loaded, Error> {
        self.history.reserve(listed.len());
        let mut rest = listed.into_iter().peekable();
        while self.last.is_none_or(|last| self.expected <= last) {
            while let Some(passed) = rest.next_if(|record| record.slot < self.expected) {
                self.check_beyond(&passed).await?;
            }
            let record = match rest.next_if(|record| record.slot == self.expected) {
                Some(record) => Some(record),
                None if rest.peek().is_none() => None,
                // A LIST may be behind; only a GET by name says that there is nothing.
                None => self.store.read(self.expected).await?,
            };
            let Some(record) = record else { break };
            self.take(record).await?;
        }
        for beyond in rest {
            self.check_beyond(&beyond).await?;
        }
        Ok(Loaded { base: self.base, history: self.history, end: self.end })
    }

    async fn take(&mut self, record: Record) -> Result<(), Error> {
        check_link(self.store, self.base, self.history.last(), &record).await?;
        let (slot, sealed) = (record.slot, record.kind == Kind::Seal);
        self.end = if sealed { End::Sealed(slot) } else { End::Free(slot.next()) };
        self.expected = if sealed { slot.next_epoch() } else { slot.next() };
        self.history.push(record);
        Ok(())
    }

    /// A record beyond a gap or beyond the seal may only be a seal of the epoch that ends there.
    async fn check_beyond(&self, beyond: &Record) -> Result<(), Error> {
        let (epoch, doubtful) = match self.end {
            End::Nothing => (None, self.expected),
            End::Free(at) => (Some(at.epoch), at),
            End::Sealed(at) => (Some(at.epoch), at),
        };
        // Beyond a gap only a seal that was put ahead can stand, and it names no record before it. A seal that
        // names one was put into the next free slot: what is missing below it is lost.
        let may_stand = matches!(self.end, End::Sealed(_)) || beyond.prev.is_none();
        if beyond.kind == Kind::Seal && Some(beyond.slot.epoch) == epoch && may_stand {
            return Ok(());
        }
        let (missing, found) = (self.store.path(self.expected).to_string(), self.store.path(beyond.slot).to_string());
        Err(unless_freed(self.store, doubtful, Error::Gap { missing, found }).await)
    }
}

/// Each record names the one before it. Only a seal may leave that out, having been put ahead of its writer.
/// What does not fit may have been put into a freed slot, or stand after such a seal.
pub(super) async fn check_link(store: &SlotStore, base: Option<Base>, before: Option<&Record>, record: &Record) -> Result<(), Error> {
    let expected = match (before, base) {
        (Some(before), _) => Some(before.commit_id),
        (None, Some(Base { commit_id: None, .. })) => return Ok(()),
        (None, base) => base.and_then(|base| base.commit_id),
    };
    let ahead = record.kind == Kind::Seal && record.prev.is_none();
    if ahead || record.prev == expected {
        return Ok(());
    }
    let error = Error::BrokenChain { path: store.path(record.slot).to_string(), expected, found: record.prev };
    Err(unless_freed(store, before.map_or(record.slot, |before| before.slot), error).await)
}

/// `error`, unless retention may explain it: a checkpoint stands at or beyond the slot in doubt.
async fn unless_freed(store: &SlotStore, doubtful: Slot, error: Error) -> Error {
    match store.list(Some(doubtful)).await {
        Ok(listing) if listing.checkpoints.is_empty() => error,
        Ok(_) => Error::MissingRecord { path: store.path(doubtful).to_string() },
        Err(error) => error,
    }
}

/// What stands beyond `at`: one LIST, and a read of each record of the same epoch, of which there are none
/// unless a seal was put ahead of a busy writer.
pub(super) async fn beyond(store: &SlotStore, at: Slot) -> Result<Beyond, Error> {
    let mut listing = store.list(Some(at)).await?;
    listing.checkpoints.retain(|slot| *slot > at);
    if listing.slots.iter().chain(&listing.checkpoints).any(|slot| slot.epoch > at.epoch) {
        return Ok(Beyond::LaterEpoch);
    }
    if !listing.checkpoints.is_empty() {
        return Ok(Beyond::SameEpoch);
    }
    for slot in listing.slots {
        // What is gone by now was no seal, for those stay.
        if store.read(slot).await?.is_none_or(|record| record.kind != Kind::Seal) {
            return Ok(Beyond::SameEpoch);
        }
    }
    Ok(Beyond::Nothing)
}
