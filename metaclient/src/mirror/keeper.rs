//! The task behind a mirror.

use std::time::Duration;

use tessera_manifest::env::{self, Moment};
use tokio::sync::watch;

use super::Known;
use super::follow::{Followed, Follower};
use super::view::View;
use crate::kv::{KvError, Revision};
use crate::limits::{MIRROR_PROOF_INTERVAL, MIRROR_SNAPSHOT_GRACE};

/// The waits after failures of the store.
const WAIT_FIRST: Duration = Duration::from_millis(50);
const WAIT_LONGEST: Duration = Duration::from_secs(5);
/// The first wait before the next mark, when the last one came before the revision that somebody waits for.
const MARK_AGAIN: Duration = Duration::from_millis(2);
/// By how many doublings the waits for a revision that does not come grow at most.
const DOUBLINGS_MAX: u32 = 6;

pub(super) struct Keeper {
    follower: Follower,
    known: watch::Sender<Known>,
    wanted: watch::Receiver<Revision>,
    /// The range, perhaps not complete up to `needed` yet.
    view: Option<View>,
    /// The revision of the newest page of the snapshot.
    needed: Revision,
    /// When the outstanding mark was asked for.
    marked_at: Option<Moment>,
    /// Whether the backend gives marks.
    gives_marks: bool,
    /// How often a proof has not brought the revision that somebody waits for.
    in_vain: u32,
}

impl Keeper {
    pub(super) fn new(follower: Follower, known: watch::Sender<Known>, wanted: watch::Receiver<Revision>) -> Self {
        Self { follower, known, wanted, view: None, needed: Revision(0), marked_at: None, gives_marks: false, in_vain: 0 }
    }

    pub(super) async fn run(mut self) {
        let mut wait = Duration::ZERO;
        loop {
            match self.turn().await {
                Ok(()) => wait = Duration::ZERO,
                Err(KvError::Closed) => break,
                Err(KvError::Compacted { .. }) => {}
                Err(error) => {
                    wait = (wait * 2).clamp(WAIT_FIRST, WAIT_LONGEST);
                    tracing::warn!(%error, "cannot mirror the metadata: reading it again");
                    env::sleep(wait).await;
                }
            }
        }
        self.known.send_modify(|known| known.closed = true);
    }

    /// One event. An error ends the watch, so that the next turn begins with a snapshot.
    async fn turn(&mut self) -> Result<(), KvError> {
        if !self.follower.is_following() {
            // Not among others: a snapshot that is cancelled begins again.
            let asked_at = Moment::now();
            let followed = self.follower.try_next().await?;
            self.follow(followed, asked_at);
            return Ok(());
        }
        let proof = self.proof_wait();
        tokio::select! {
            biased;
            followed = self.follower.try_next() => self.follow(followed?, Moment::now()),
            asked = self.wanted.changed() => {
                asked.map_err(|_| KvError::Closed)?;
                self.in_vain = 0;
            }
            () = env::sleep(proof.unwrap_or_default()), if proof.is_some() => self.prove(),
        }
        Ok(())
    }

    /// Takes in what was asked for at `asked_at`.
    fn follow(&mut self, followed: Followed, asked_at: Moment) {
        match followed {
            Followed::Snapshot { entries, first, last } => {
                self.view = Some(View::of(entries, first));
                self.needed = last;
                // The mark comes after this, so that what it proves was true at this moment or later.
                self.gives_marks = self.follower.mark();
                self.marked_at = self.gives_marks.then(Moment::now);
                if first == last {
                    self.show(first, Some(asked_at));
                }
            }
            Followed::Changes(batch) if batch.changes.is_empty() => self.marked(batch.revision),
            Followed::Changes(batch) => {
                if let Some(view) = &mut self.view {
                    view.apply(batch.revision, batch.changes);
                }
                self.show(batch.revision, None);
            }
        }
    }

    fn shown(&self) -> Revision {
        self.known.borrow().view.as_ref().map_or(Revision(0), View::revision)
    }

    /// How long until the next proof that the view is complete; `None` while one is on its way.
    fn proof_wait(&self) -> Option<Duration> {
        let behind = self.shown() < (*self.wanted.borrow()).max(self.needed);
        let longer = 1 << self.in_vain.min(DOUBLINGS_MAX);
        match (self.gives_marks, &self.view) {
            (_, None) => None,
            (true, _) if self.marked_at.is_some() => None,
            (true, _) if behind => Some(MARK_AGAIN * longer),
            (true, _) => Some(MIRROR_PROOF_INTERVAL),
            // Only another snapshot proves anything there.
            (false, _) if behind => Some(MIRROR_SNAPSHOT_GRACE * longer),
            (false, _) => None,
        }
    }

    fn prove(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
        if self.gives_marks {
            self.marked_at = Some(Moment::now());
            self.follower.mark();
        } else {
            self.follower.restart();
        }
    }

    fn marked(&mut self, revision: Revision) {
        let asked_at = self.marked_at.take();
        if let Some(view) = &mut self.view {
            view.apply(revision, Vec::new());
        }
        self.show(revision, asked_at);
    }

    /// Shows the range, when it is complete up to `revision` and that is far enough.
    fn show(&mut self, revision: Revision, complete_at: Option<Moment>) {
        if revision < self.needed {
            return;
        }
        self.known.send_modify(|known| {
            known.view.clone_from(&self.view);
            known.complete_at = complete_at.or(known.complete_at);
        });
        if revision >= *self.wanted.borrow() {
            self.in_vain = 0;
        }
    }
}
