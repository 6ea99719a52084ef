//! Slots as objects: names, creates, reads, lists, deletes. No protocol in here, but for one invariant:
//!
//! - A delete takes a [`DataSlot`], which cannot be made of a seal or an Open, so retention cannot delete them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::attempt::{Attempt, PutAnswer, ReadAnswer, Step};
use super::guard::{Guard, Guards};
use super::record::{DataSlot, Kind, Record};
use crate::env;
use crate::error::Error;
use crate::id::Slot;
use crate::limits;

/// The extension of checkpoint roots, which stand in the folder of the log that they shorten.
const CHECKPOINT: &str = "checkpoint";

/// How the slots of a log are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The folder.
    pub folder: Path,
    /// What follows the slot in a record's name, without the dot.
    pub extension: &'static str,
}

impl Layout {
    /// The object of `slot`.
    #[must_use]
    pub fn path(&self, slot: Slot) -> Path {
        self.folder.clone().join(format!("{slot}.{}", self.extension))
    }

    /// The slot whose object is called `name`; `None` for an object of another kind.
    #[must_use]
    pub fn parse(&self, name: &str) -> Option<Slot> {
        name.strip_suffix(self.extension)?.strip_suffix('.')?.parse().ok()
    }

    /// The root of the checkpoint of the state after `slot`.
    #[must_use]
    pub fn checkpoint_path(&self, slot: Slot) -> Path {
        self.folder.clone().join(format!("{slot}.{CHECKPOINT}"))
    }

    /// The slot whose checkpoint root is called `name`; `None` for an object of another kind.
    #[must_use]
    pub fn parse_checkpoint(&self, name: &str) -> Option<Slot> {
        name.strip_suffix(CHECKPOINT)?.strip_suffix('.')?.parse().ok()
    }

    /// What sorts before every object of `slot` and after those of the slots below it.
    fn offset(&self, slot: Slot) -> Path {
        self.folder.clone().join(slot.to_string())
    }
}

/// What a LIST of a log shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The slots that hold a record, ascending.
    pub slots: Vec<Slot>,
    /// The slots after which there is a checkpoint, ascending.
    pub checkpoints: Vec<Slot>,
}

/// What came of freeing slots.
#[derive(Debug, Default)]
pub struct Freed {
    /// Slots that are free now; those that were free before count too.
    pub freed: usize,
    /// Deletes that failed; to be tried again some time.
    pub failed: Vec<Error>,
}

/// How patient the protocol is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    /// Requests beyond the first for one slot.
    pub(super) tries: u32,
    /// First pause between them; none, if zero.
    pub(super) backoff_min: Duration,
    /// Longest pause between them.
    pub(super) backoff_max: Duration,
    /// Records of a busy writer that are chased one by one.
    pub(super) chase: u32,
    /// How far ahead of a busy writer the first seal goes, in slots.
    pub(super) ahead: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            tries: limits::SLOT_TRIES_MAX,
            backoff_min: limits::SLOT_BACKOFF_MIN,
            backoff_max: limits::SLOT_BACKOFF_MAX,
            chase: limits::SEAL_CHASE_MAX,
            ahead: limits::SEAL_AHEAD_MIN,
        }
    }
}

/// The objects of one slot log.
#[derive(Debug, Clone)]
pub struct SlotStore {
    store: Arc<dyn ObjectStore>,
    layout: Layout,
    tuning: Tuning,
    guards: Guards,
}

/// What came of filling a slot.
#[derive(Debug)]
pub(super) enum Filled {
    /// It holds our record.
    Ours,
    /// It holds this record of another writer.
    Theirs(Box<Record>),
    /// It is not known what it holds; the last error of the store says why.
    Unknown(Error),
}

impl SlotStore {
    /// The log with this layout on `store`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, layout: Layout) -> Self {
        Self { store, layout, tuning: Tuning::default(), guards: Guards::default() }
    }

    /// The same log, with another patience and without one of the guards.
    #[cfg(test)]
    pub(super) fn with(self, tuning: Tuning, without: Option<Guard>) -> Self {
        Self { tuning, guards: Guards { without }, ..self }
    }

    /// Whether `guard` is to be kept.
    pub(super) fn holds(&self, guard: Guard) -> bool {
        self.guards.hold(guard)
    }

    /// How patient to be.
    pub(super) fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// The object of `slot`.
    #[must_use]
    pub fn path(&self, slot: Slot) -> Path {
        self.layout.path(slot)
    }

    /// The root of the checkpoint of the state after `slot`.
    #[must_use]
    pub fn checkpoint_path(&self, slot: Slot) -> Path {
        self.layout.checkpoint_path(slot)
    }

    /// All slots after `after` that hold a record, and the checkpoints at or after it (all of both, if `None`):
    /// one LIST.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn list(&self, after: Option<Slot>) -> Result<Listing, Error> {
        let folder = &self.layout.folder;
        let objects = match after.map(|slot| self.layout.offset(slot)) {
            Some(offset) => self.store.list_with_offset(Some(folder), &offset),
            None => self.store.list(Some(folder)),
        };
        let names: Vec<Path> =
            objects.map_ok(|meta| meta.location).try_collect().await.map_err(|source| Error::store("list", folder, source))?;
        let mut listing = Listing::default();
        for name in names.iter().filter_map(|path| self.name_of(path)) {
            if let Some(slot) = self.layout.parse(&name) {
                listing.slots.push(slot);
            } else if let Some(slot) = self.layout.parse_checkpoint(&name) {
                listing.checkpoints.push(slot);
            }
        }
        listing.slots.retain(|slot| after.is_none_or(|after| *slot > after));
        listing.checkpoints.retain(|slot| after.is_none_or(|after| *slot >= after));
        for slots in [&mut listing.slots, &mut listing.checkpoints] {
            slots.sort_unstable();
            slots.dedup();
        }
        Ok(listing)
    }

    /// The name of an object that stands in the folder itself.
    fn name_of(&self, path: &Path) -> Option<String> {
        let mut parts = path.prefix_match(&self.layout.folder)?;
        let name = parts.next()?;
        parts.next().is_none().then(|| name.as_ref().to_owned())
    }

    /// The record in `slot`, or `None` if there is none.
    ///
    /// # Errors
    /// The store's failure, or what is wrong with the record, naming the object.
    pub async fn read(&self, slot: Slot) -> Result<Option<Record>, Error> {
        match self.read_bytes(slot).await {
            Ok(bytes) => self.decode(slot, &bytes).map(Some),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(Error::store("read", &self.path(slot), source)),
        }
    }

    /// The records in `slots`, in that order, read in parallel.
    ///
    /// # Errors
    /// The first failure; a slot without a record is [`Error::MissingRecord`].
    pub async fn read_all(&self, slots: &[Slot]) -> Result<Vec<Record>, Error> {
        let reads = slots.iter().map(|slot| self.clone().read_listed(*slot)).collect::<Vec<_>>();
        let reads = futures::stream::iter(reads);
        reads.buffered(limits::PARALLEL_READS_MAX).try_collect().await
    }

    /// Those of `slots` that may be freed, found by reading them. What is missing, is a seal or an Open, or
    /// cannot be decoded is left out.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn data_slots(&self, slots: &[Slot]) -> Result<Vec<DataSlot>, Error> {
        let reads = slots.iter().map(|slot| self.clone().read_kind(*slot)).collect::<Vec<_>>();
        let found: Vec<Option<DataSlot>> = futures::stream::iter(reads).buffered(limits::PARALLEL_READS_MAX).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    async fn read_kind(self, slot: Slot) -> Result<Option<DataSlot>, Error> {
        let record = match self.read(slot).await {
            Ok(Some(record)) => record,
            Ok(None) | Err(Error::Record { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let forced = match record.kind {
            Kind::Data => return Ok(record.data_slot()),
            Kind::Seal => !self.holds(Guard::KeepSeals),
            Kind::Open => !self.holds(Guard::KeepOpens),
        };
        Ok(forced.then_some(DataSlot::unchecked(slot)))
    }

    /// Frees those of `slots` that are below `behind`, the slot of a record that stays.
    ///
    /// Something must always stay beyond a freed slot: an opener that seals a freed slot learns from what stands
    /// beyond that its seal is void. A failed delete stops nothing.
    pub async fn free(&self, slots: &[DataSlot], behind: Slot) -> Freed {
        let paths: Vec<Path> = slots.iter().map(|data| data.slot()).filter(|slot| *slot < behind).map(|slot| self.path(slot)).collect();
        let paths = futures::stream::iter(paths.into_iter().map(Ok)).boxed();
        let folder = &self.layout.folder;
        let fold = |mut freed: Freed, deleted: Result<Path, object_store::Error>| async move {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => freed.freed += 1,
                Err(source) => freed.failed.push(Error::store("delete below", folder, source)),
            }
            freed
        };
        self.store.delete_stream(paths).fold(Freed::default(), fold).await
    }

    async fn read_listed(self, slot: Slot) -> Result<Record, Error> {
        let record = self.read(slot).await?;
        record.ok_or_else(|| Error::MissingRecord { path: self.path(slot).to_string() })
    }

    fn decode(&self, slot: Slot, bytes: &Bytes) -> Result<Record, Error> {
        Record::decode(slot, bytes).map_err(|source| Error::Record { path: self.path(slot).to_string(), source })
    }

    async fn read_bytes(&self, slot: Slot) -> Result<Bytes, object_store::Error> {
        self.store.get(&self.path(slot)).await?.bytes().await
    }

    /// Fills the record's slot with it, unless another's is there. See [`Attempt`] for the rules.
    ///
    /// # Errors
    /// Another's record that cannot be decoded.
    pub(super) async fn fill(&self, record: &Record) -> Result<Filled, Error> {
        let path = self.path(record.slot);
        let mut attempt = Attempt::new(record.encode(), self.tuning.tries);
        let mut step = Step::Put;
        let mut last: Option<object_store::Error> = None;
        let mut backoff = self.tuning.backoff_min;
        loop {
            step = match step {
                Step::Put => {
                    if last.is_some() {
                        pause(backoff).await;
                        backoff = (backoff * 2).min(self.tuning.backoff_max);
                    }
                    attempt.on_put(self.put(&path, attempt.bytes().clone(), &mut last).await)
                }
                Step::Read => {
                    let answer = match self.read_bytes(record.slot).await {
                        Ok(bytes) => ReadAnswer::Found(bytes),
                        Err(object_store::Error::NotFound { .. }) => ReadAnswer::Missing,
                        Err(error) => {
                            last = Some(error);
                            pause(backoff).await;
                            ReadAnswer::Failed
                        }
                    };
                    attempt.on_read(answer)
                }
                Step::Ours => return Ok(Filled::Ours),
                Step::Theirs(bytes) => return self.decode(record.slot, &bytes).map(|theirs| Filled::Theirs(Box::new(theirs))),
                Step::Unknown => {
                    let path = path.to_string();
                    return Ok(Filled::Unknown(Error::Unknown { path, source: last.map(Box::new) }));
                }
            };
        }
    }

    async fn put(&self, path: &Path, bytes: Bytes, last: &mut Option<object_store::Error>) -> PutAnswer {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => PutAnswer::Created,
            Err(object_store::Error::AlreadyExists { .. }) if !self.holds(Guard::ReadBack) => PutAnswer::Created,
            Err(error) => {
                *last = Some(error);
                PutAnswer::Unclear
            }
        }
    }
}

pub(super) async fn pause(backoff: Duration) {
    if !backoff.is_zero() {
        env::sleep(backoff).await;
    }
}
