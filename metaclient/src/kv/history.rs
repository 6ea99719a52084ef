//! The recent changes of an embedded store, which its watchers read from.
//!
//! Invariants:
//! - Holds the changes of consecutive revisions, the newest last; the oldest go when the bounds are hit.
//! - A watcher has no buffer of its own, only the revision that it needs next. A slow watcher therefore
//!   costs nothing, and learns that it was too slow when that revision is gone.
//! - The publisher calls [`History::publish`] in revision order, after the commit is durable.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::error::KvError;
use super::interpret::Change;
use super::key::{KeyRange, Revision};
use super::{Limits, Watch, WatchBatch};
use crate::signal::Signal;

#[derive(Debug)]
struct Recent {
    /// The revision of the front, or the next one to be published when empty.
    oldest: Revision,
    batches: VecDeque<Arc<WatchBatch>>,
    changes: usize,
    bytes: usize,
}

impl Recent {
    fn drop_oldest(&mut self) {
        let Some(gone) = self.batches.pop_front() else { return };
        self.changes -= gone.changes.len();
        self.bytes -= bytes_of(&gone.changes);
        self.oldest = self.oldest.next();
    }
}

/// What the watchers wait for.
#[derive(Debug, Clone, Copy)]
struct Published {
    revision: Revision,
    closed: bool,
}

/// The publishing side; when it is dropped the watches end.
#[derive(Debug)]
pub(super) struct History {
    recent: Arc<Mutex<Recent>>,
    published: Arc<Signal<Published>>,
    changes_max: usize,
    bytes_max: usize,
}

impl Drop for History {
    fn drop(&mut self) {
        self.published.update(|published| Some(Published { closed: true, ..published }));
    }
}

fn bytes_of(changes: &[Change]) -> usize {
    let size = |change: &Change| match change {
        Change::Put(entry) => entry.key.as_bytes().len() + entry.value.len(),
        Change::Delete { key } => key.as_bytes().len(),
    };
    changes.iter().map(size).sum()
}

impl History {
    /// An empty history of a store that is at `revision`.
    pub(super) fn new(revision: Revision, limits: &Limits) -> Self {
        let recent = Recent { oldest: revision.next(), batches: VecDeque::new(), changes: 0, bytes: 0 };
        let published = Arc::new(Signal::new(Published { revision, closed: false }));
        let Limits { watch_changes_max: changes_max, watch_bytes_max: bytes_max, .. } = *limits;
        Self { recent: Arc::new(Mutex::new(recent)), published, changes_max, bytes_max }
    }

    /// Adds the changes that made `revision`, the one after the last published.
    pub(super) fn publish(&self, revision: Revision, changes: Vec<Change>) {
        {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.changes += changes.len();
            recent.bytes += bytes_of(&changes);
            recent.batches.push_back(Arc::new(WatchBatch { revision, changes }));
            // The newest batch may go too, when it alone breaks the bounds.
            while recent.changes > self.changes_max || recent.bytes > self.bytes_max {
                recent.drop_oldest();
            }
        }
        self.published.update(|published| Some(Published { revision, ..published }));
    }

    /// Forgets the changes before `before`, but never those of the newest revision.
    pub(super) fn compact(&self, before: Revision) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.oldest < before && recent.batches.len() > 1 {
            recent.drop_oldest();
        }
    }

    /// Starts a watch.
    pub(super) fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        let watch =
            HistoryWatch { recent: Arc::clone(&self.recent), published: Arc::clone(&self.published), range, next: from, marked: false };
        watch.check()?;
        Ok(Box::new(watch))
    }
}

#[derive(Debug)]
struct HistoryWatch {
    recent: Arc<Mutex<Recent>>,
    published: Arc<Signal<Published>>,
    range: KeyRange,
    /// The revision whose changes are to be delivered next.
    next: Revision,
    /// Whether a mark is to be given.
    marked: bool,
}

impl HistoryWatch {
    fn check(&self) -> Result<(), KvError> {
        let oldest = self.recent.lock().unwrap_or_else(PoisonError::into_inner).oldest;
        if self.next < oldest { Err(KvError::Compacted { requested: self.next, oldest }) } else { Ok(()) }
    }

    /// The newest revision that is published.
    fn newest(&self) -> Revision {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = u64::try_from(recent.batches.len()).unwrap_or(u64::MAX);
        Revision(recent.oldest.0.saturating_add(kept).saturating_sub(1))
    }

    /// The changes of the next revision, if it is published; all of them, whatever the range.
    fn take(&mut self) -> Result<Option<Arc<WatchBatch>>, KvError> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(offset) = self.next.0.checked_sub(recent.oldest.0) else {
            return Err(KvError::Compacted { requested: self.next, oldest: recent.oldest });
        };
        let batch = usize::try_from(offset).ok().and_then(|offset| recent.batches.get(offset)).cloned();
        if batch.is_some() {
            self.next = self.next.next();
        }
        Ok(batch)
    }
}

#[async_trait]
impl Watch for HistoryWatch {
    async fn next(&mut self) -> Result<WatchBatch, KvError> {
        loop {
            // Read before looking, so that a publication in between is not slept through.
            let looked = self.published.get().revision;
            while let Some(batch) = self.take()? {
                let inside = batch.changes.iter().filter(|change| self.range.contains(change.key()));
                let changes: Vec<Change> = inside.cloned().collect();
                if !changes.is_empty() {
                    return Ok(WatchBatch { revision: batch.revision, changes });
                }
            }
            if std::mem::take(&mut self.marked) {
                // A watch from the future has looked at nothing yet.
                let looked_at = Revision(self.next.0.saturating_sub(1));
                return Ok(WatchBatch { revision: looked_at.min(self.newest()), changes: Vec::new() });
            }
            let published = self.published.wait_until(|published| published.closed || published.revision > looked).await;
            if published.revision == looked {
                return Err(KvError::Closed);
            }
        }
    }

    fn mark(&mut self) -> bool {
        self.marked = true;
        true
    }
}
