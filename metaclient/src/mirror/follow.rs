//! Reads a range and then everything that happens to it.
//!
//! Invariants:
//! - Between two snapshots no change is missed, and none comes before an older one.
//! - The pages of a snapshot may be of different revisions; the changes after the first page come again, so that
//!   an entry whose `mod_revision` is known already may be ignored.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env;

use crate::kv::{Entry, KeyRange, KvBackend, KvError, RangeRequest, Revision, Watch, WatchBatch};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What a follower gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// All that the range holds; forget what was known of it.
    Snapshot {
        /// The entries, in byte order.
        entries: Vec<Entry>,
        /// The revision of the first page: all changes after it follow.
        first: Revision,
        /// The revision of the last page: the entries are of one revision once the changes up to it are seen.
        last: Revision,
    },
    /// What a transaction did to the range.
    Changes(WatchBatch),
}

/// Follows a range for ever, also across failures of the store.
#[derive(Debug)]
pub struct Follower {
    kv: Arc<dyn KvBackend>,
    range: KeyRange,
    watch: Option<Box<dyn Watch>>,
    wait: Duration,
}

impl Follower {
    /// One that begins with a snapshot.
    #[must_use]
    pub fn new(kv: Arc<dyn KvBackend>, range: KeyRange) -> Self {
        Self { kv, range, watch: None, wait: Duration::ZERO }
    }

    /// The next snapshot or change; waits for it, with backoff while the store fails. Cancel safe.
    pub async fn next(&mut self) -> Followed {
        loop {
            match self.try_next().await {
                Ok(followed) => {
                    self.wait = Duration::ZERO;
                    return followed;
                }
                Err(KvError::Compacted { .. }) => self.watch = None,
                Err(error) => {
                    self.watch = None;
                    self.wait = (self.wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
                    tracing::warn!(%error, range = %self.range, "cannot follow the metadata: reading it again");
                    env::sleep(self.wait).await;
                }
            }
        }
    }

    /// Asks for a mark of the watch that runs; see [`Watch::mark`]. False also when none runs.
    pub fn mark(&mut self) -> bool {
        self.watch.as_mut().is_some_and(|watch| watch.mark())
    }

    /// Whether the next thing is a change, not a snapshot.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.watch.is_some()
    }

    /// Forgets where it is: the next thing is a snapshot.
    pub fn restart(&mut self) {
        self.watch = None;
    }

    /// As [`next`](Self::next), but gives the error of the store; the next call begins with a snapshot then.
    ///
    /// # Errors
    /// As the store's range reads and watches.
    pub async fn try_next(&mut self) -> Result<Followed, KvError> {
        let Some(watch) = &mut self.watch else { return self.snapshot().await };
        match watch.next().await {
            Ok(batch) => Ok(Followed::Changes(batch)),
            Err(error) => {
                self.watch = None;
                Err(error)
            }
        }
    }

    async fn snapshot(&mut self) -> Result<Followed, KvError> {
        let mut request = RangeRequest::new(self.range.clone());
        let (mut entries, mut first): (Vec<Entry>, Option<Revision>) = (Vec::new(), None);
        loop {
            let page = self.kv.range(&request).await?;
            let from = *first.get_or_insert(page.revision);
            entries.extend(page.entries);
            match entries.last() {
                Some(entry) if page.more => request.range.start = entry.key.successor(),
                _ => {
                    self.watch = Some(self.kv.watch(self.range.clone(), from.next()).await?);
                    return Ok(Followed::Snapshot { entries, first: from, last: page.revision });
                }
            }
        }
    }
}
