//! Slots as objects: names, creates, reads, lists. No protocol in here.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::attempt::{Attempt, PutAnswer, ReadAnswer, Step};
use super::record::Record;
use crate::env;
use crate::error::Error;
use crate::id::Slot;
use crate::limits;

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
}

/// What a LIST of a log shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// The slots that hold a record, ascending.
    pub slots: Vec<Slot>,
}

/// The objects of one slot log.
#[derive(Debug, Clone)]
pub struct SlotStore {
    store: Arc<dyn ObjectStore>,
    layout: Layout,
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
        Self { store, layout }
    }

    /// The object of `slot`.
    #[must_use]
    pub fn path(&self, slot: Slot) -> Path {
        self.layout.path(slot)
    }

    /// All slots after `after` (all of them, if `None`) that hold a record: one LIST.
    ///
    /// # Errors
    /// The store's failure.
    pub async fn list(&self, after: Option<Slot>) -> Result<Listing, Error> {
        let folder = &self.layout.folder;
        let offset = after.map(|slot| self.layout.path(slot));
        let objects = match &offset {
            Some(offset) => self.store.list_with_offset(Some(folder), offset),
            None => self.store.list(Some(folder)),
        };
        let names: Vec<Path> =
            objects.map_ok(|meta| meta.location).try_collect().await.map_err(|source| Error::store("list", folder, source))?;
        let mut slots: Vec<Slot> = names.iter().filter_map(|path| self.slot_of(path)).collect();
        slots.sort_unstable();
        slots.dedup();
        Ok(Listing { slots })
    }

    fn slot_of(&self, path: &Path) -> Option<Slot> {
        let mut parts = path.prefix_match(&self.layout.folder)?;
        let name = parts.next()?;
        let slot = self.layout.parse(name.as_ref())?;
        parts.next().is_none().then_some(slot)
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
        let mut attempt = Attempt::new(record.encode(), limits::SLOT_TRIES_MAX);
        let mut step = Step::Put;
        let mut last: Option<object_store::Error> = None;
        let mut backoff = limits::SLOT_BACKOFF_MIN;
        loop {
            step = match step {
                Step::Put => {
                    if last.is_some() {
                        env::sleep(backoff).await;
                        backoff = (backoff * 2).min(limits::SLOT_BACKOFF_MAX);
                    }
                    attempt.on_put(self.put(&path, attempt.bytes().clone(), &mut last).await)
                }
                Step::Read => {
                    let answer = match self.read_bytes(record.slot).await {
                        Ok(bytes) => ReadAnswer::Found(bytes),
                        Err(object_store::Error::NotFound { .. }) => ReadAnswer::Missing,
                        Err(error) => {
                            last = Some(error);
                            env::sleep(backoff).await;
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
            Err(error) => {
                *last = Some(error);
                PutAnswer::Unclear
            }
        }
    }
}
