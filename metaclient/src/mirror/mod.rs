//! Following the metadata, and keeping a range of it in memory.
//!
//! Invariants:
//! - A [`View`] is the range at exactly one revision, between two transactions; views only go forward for as
//!   long as the store does.
//! - The pages of a snapshot may be of several revisions. Nothing of it is shown before all changes up to the
//!   revision of the last page have been applied.
//! - A mirror may be behind. Who has just written waits for the revision of that write
//!   ([`Mirror::wait_for`]); how old a view may be at most says [`Mirror::staleness`].
//! - A mirror that was closed, or whose store is gone, says so, and never passes for a fresh one.
//!
//! ```text
//!   snapshot (pages of revisions r1 <= .. <= rk) -> watch from r1 + 1 -> complete up to rk: shown -> changes ..
//!      ^                                                                                                |
//!      +------------------------------ changes missed, or the store failed ---------------------------+
//! ```

mod follow;
mod keeper;
mod view;

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Moment};
use tessera_manifest::error::ErrorClass;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::follow::{Followed, Follower};
use self::keeper::Keeper;
pub use self::view::View;
use crate::kv::{KeyRange, KvBackend, Revision};

/// Why a mirror has nothing to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// The first snapshot is still being read.
    #[error("the mirror of the metadata is not filled yet: wait for it")]
    NotReady,
    /// It was closed, or the store is gone.
    #[error("the mirror of the metadata is closed")]
    Closed,
}

impl MirrorError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotReady => ErrorClass::Retry,
            Self::Closed => ErrorClass::Unavailable,
        }
    }
}

/// What a mirror knows.
#[derive(Debug, Clone, Default)]
struct Known {
    view: Option<View>,
    /// The view was complete then, or later.
    complete_at: Option<Moment>,
    closed: bool,
}

/// A range of the store in memory, kept up to date by a task of its own. Dropping it ends that.
#[derive(Debug)]
pub struct Mirror {
    known: watch::Receiver<Known>,
    wanted: watch::Sender<Revision>,
    task: JoinHandle<()>,
}

impl Mirror {
    /// Starts to mirror `range`.
    #[must_use]
    pub fn start(kv: Arc<dyn KvBackend>, range: KeyRange) -> Self {
        let (sender, known) = watch::channel(Known::default());
        let (wanted, asked) = watch::channel(Revision(0));
        let task = env::spawn(Keeper::new(Follower::new(kv, range), sender, asked).run());
        Self { known, wanted, task }
    }

    /// What is known now, without waiting. It may be behind the store.
    ///
    /// # Errors
    /// [`MirrorError::NotReady`] before the first snapshot is complete; [`MirrorError::Closed`].
    pub fn view(&self) -> Result<View, MirrorError> {
        let known = self.known.borrow();
        if known.closed || self.known.has_changed().is_err() {
            return Err(MirrorError::Closed);
        }
        known.view.clone().ok_or(MirrorError::NotReady)
    }

    /// Waits for the first view. Cancel safe.
    ///
    /// # Errors
    /// [`MirrorError::Closed`].
    pub async fn ready(&self) -> Result<View, MirrorError> {
        self.wait_for(Revision(0)).await
    }

    /// Waits for a view of `revision` or a later one. Waits for ever for a revision that the store never
    /// reaches, or while the store does not answer. Cancel safe.
    ///
    /// # Errors
    /// [`MirrorError::Closed`].
    pub async fn wait_for(&self, revision: Revision) -> Result<View, MirrorError> {
        self.wanted.send_if_modified(|wanted| {
            let more = revision > *wanted;
            *wanted = revision.max(*wanted);
            more
        });
        let mut known = self.known.clone();
        let reached = |known: &Known| known.closed || known.view.as_ref().is_some_and(|view| view.revision() >= revision);
        let known = known.wait_for(reached).await.map_err(|_| MirrorError::Closed)?.clone();
        if known.closed { Err(MirrorError::Closed) } else { known.view.ok_or(MirrorError::Closed) }
    }

    /// The range was as the view says at most this long ago; `None` before the first view. It grows while the
    /// store does not answer. Between two proofs it grows as well: see [`limits`](crate::limits).
    #[must_use]
    pub fn staleness(&self) -> Option<Duration> {
        self.known.borrow().complete_at.map(|at| Moment::now().since(at))
    }

    /// The revision of the newest view, each time it changes; for whoever derives something from views.
    #[must_use]
    pub fn changes(&self) -> MirrorChanges {
        MirrorChanges { known: self.known.clone(), seen: None }
    }

    /// Ends it; whoever waits gets [`MirrorError::Closed`].
    pub async fn close(mut self) {
        self.task.abort();
        // Cancelled, as it was told.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The views of a mirror, the newest each time.
#[derive(Debug)]
pub struct MirrorChanges {
    known: watch::Receiver<Known>,
    seen: Option<Revision>,
}

impl MirrorChanges {
    /// Waits for a view that is not the last one given; views in between are skipped. Cancel safe.
    ///
    /// # Errors
    /// [`MirrorError::Closed`].
    pub async fn next(&mut self) -> Result<View, MirrorError> {
        let seen = self.seen;
        let other = |known: &Known| known.closed || known.view.as_ref().is_some_and(|view| Some(view.revision()) != seen);
        let known = self.known.wait_for(other).await.map_err(|_| MirrorError::Closed)?.clone();
        let view = known.view.filter(|_| !known.closed).ok_or(MirrorError::Closed)?;
        self.seen = Some(view.revision());
        Ok(view)
    }
}

#[cfg(test)]
mod tests;
