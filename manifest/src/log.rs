//! The manifest of a region: its state, kept as a slot log on the object store.
//!
//! ```text
//!   commit ──apply──▶ PUT next slot ──▶ new state ──due?──▶ checkpoint in the background
//!                                           ▲                     │ rides on a later commit
//!                                           └──── Checkpointed ◀──┘ then retention, in the background
//! ```
//!
//! Invariants:
//! - The state in memory is always the replay of what is on the store: a commit applies its actions first,
//!   without I/O, and takes the new state only once the record is known to be there.
//! - A commit is one PUT and nothing else. Checkpoints and retention go on beside it; when they fail, the log
//!   grows, and nothing else happens.
//! - Files that were written for a commit belong to its outcome. Only an outcome that says for certain that no record
//!   names them gives them back, as [`Orphans`]; after an unknown one nobody has the right to delete them.
//!
//! Crash order: an opener seals, replays, then creates its `Open`; only from then on does it commit. A writer
//! that lost its epoch learns it at its next commit and never before it would acknowledge something.

mod follower;
mod hold;
mod keeper;
mod open;
mod read;
mod replay;
mod retention;
mod rollback;

use std::sync::Arc;
use std::time::Duration;

use object_store::{ObjectStore, ObjectStoreExt};

use crate::action::{self, Action, CheckpointRef, Pin};
use crate::body::Body;
use crate::env::{Env, Stopwatch};
use crate::error::Error;
use crate::id::{Epoch, FileKey, NodeId, Nonce, RegionId, Slot};
use crate::limits;
use crate::meta::RegionMeta;
use crate::paths::Root;
use crate::slot::{self, Kind, SlotStore, Writer};
use crate::state::{RegionState, Violation};
use crate::wal::WalId;
use keeper::Keeper;
use open::Draft;
use replay::segments_of;

pub use follower::Follower;
pub use hold::{Hold, Holds};
pub use read::{load, load_at, load_before, open_many, record_bodies};
pub use retention::Retained;
pub use rollback::{Refusal, RollbackError, plan_rollback};

/// How a region's history is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Records to replay from which on a checkpoint is due.
    pub checkpoint_records: usize,
    /// Bytes to replay from which on a checkpoint is due.
    pub checkpoint_bytes: u64,
    /// For how long an old version can be read, at least; by the clock of whoever proposes to raise the floor.
    pub history: Duration,
    /// Whether checkpoints and retention run on their own. If not, they run when they are called for.
    pub background: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            checkpoint_records: limits::CHECKPOINT_RECORDS,
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            history: limits::HISTORY,
            background: true,
        }
    }
}

/// Where manifests are, where ids come from, and how history is kept.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The cluster's folder on it.
    pub root: Root,
    /// Names for records and openings.
    pub env: Env,
    /// How history is kept.
    pub settings: Settings,
}

impl Context {
    /// Manifests in `root` on `store`, kept as is usual.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, root: Root, env: Env) -> Self {
        Self { store, root, env, settings: Settings::default() }
    }
}

/// Who opens a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opener {
    /// The node.
    pub node: NodeId,
    /// The log that it will write to, and that log's epoch; `None` for an opener that will not write rows.
    pub wal: Option<(WalId, Epoch)>,
}

/// What came of a commit.
#[derive(Debug)]
pub enum Outcome {
    /// The record is on the store, and this is the state after it.
    Committed(Box<RegionState>),
    /// Another writer has taken the region over; its record stands in the slot.
    Conflict {
        /// The opening that wrote it.
        by: Nonce,
        /// The slot.
        slot: Slot,
        /// The files that the record would have added. No record will ever name them.
        orphans: Orphans,
    },
    /// It is not known whether the record is on the store. Nothing may be acknowledged, and the files that the record
    /// adds are nobody's to delete: who opens the region next knows, and sweeps them if need be.
    Unknown(Error),
}

/// Files that were written for a commit and that no record names, nor ever will.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "objects that nobody deletes stay until the next sweep"]
pub struct Orphans(Vec<FileKey>);

impl Orphans {
    fn of(actions: &[Action]) -> Self {
        let added = actions.iter().flat_map(|action| match action {
            Action::Edit(edit) => &edit.add[..],
            Action::StagedEdit(edit) => &edit.add[..],
            _ => &[],
        });
        Self(added.map(|file| file.key).collect())
    }

    /// Which files.
    #[must_use]
    pub fn files(&self) -> &[FileKey] {
        &self.0
    }

    /// Deletes them. What cannot be deleted is left for the next sweep.
    pub async fn delete(self, context: &Context) {
        for key in self.0 {
            let path = context.root.sst(key);
            if let Err(error) = context.store.delete(&path).await {
                tracing::debug!(%path, %error, "left an orphan for the next sweep");
            }
        }
    }
}

/// The right to change a region's state.
#[derive(Debug)]
pub struct Manifest {
    context: Context,
    writer: Writer,
    state: RegionState,
    keeper: Keeper,
    /// The openings by which this writer came to be, and those that it tried since without learning what became of them.
    openings: Vec<Nonce>,
}

impl Manifest {
    /// Creates a region with this metadata and opens it.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is one already; failures of the store.
    pub async fn create(context: &Context, meta: Arc<RegionMeta>, opener: Opener) -> Result<Self, Error> {
        let region = meta.region;
        Self::take_over(context, region, Draft::new(context, region, opener, Some(meta))).await
    }

    /// Takes the region over: ends the epoch of whoever wrote before and begins one's own.
    ///
    /// # Errors
    /// Those of [`slot::take_over`]; [`Error::Fenced`] for an opener whose log was opened again since, by whoever has the
    /// region now: it leaves no trace; and records that cannot be replayed.
    pub async fn open(context: &Context, region: RegionId, opener: Opener) -> Result<Self, Error> {
        Self::take_over(context, region, Draft::new(context, region, opener, None)).await
    }

    /// Takes the region over although rows of it may be in logs that will never be read again, and gives up exactly
    /// these `logs`. The `Open` names each with its flushed position, from which on acknowledged rows may be lost; that
    /// record is never deleted. A log of the region that is not named is not given up. When the log turns up again, the
    /// epochs that it has had are set aside.
    ///
    /// # Errors
    /// Those of [`open`](Self::open); [`Error::CannotAbandon`] for a log that is not listed, that holds nothing because
    /// the last epoch ended cleanly, or that is the opener's own. Nothing was written then.
    pub async fn open_abandoning(context: &Context, region: RegionId, opener: Opener, logs: &[WalId]) -> Result<Self, Error> {
        let mut draft = Draft::new(context, region, opener, None);
        draft.abandon = logs.to_vec();
        Self::take_over(context, region, draft).await
    }

    /// Takes a region over that nobody writes to, even a dropped one, to look after its files and its history. Its
    /// list of logs stays as it is.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_ownerless(context: &Context, region: RegionId, node: NodeId) -> Result<Self, Error> {
        let mut draft = Draft::new(context, region, Opener { node, wal: None }, None);
        draft.dropped_too = true;
        Self::take_over(context, region, draft).await
    }

    /// After a commit of which nobody knows whether it happened: ends the epoch that is this writer's own, begins the next
    /// one, and so learns what is there. It takes the region from nobody: whoever has taken it over meanwhile keeps it.
    /// What is held through this writer stays so.
    ///
    /// When it fails, or is dropped before it is ready, this writer is as it was, and may try again.
    ///
    /// # Errors
    /// [`Error::Fenced`] when another opening has begun the last epoch, or has ended this writer's; those of
    /// [`open`](Self::open).
    pub async fn reopen(&mut self, opener: Opener) -> Result<(), Error> {
        let (context, region) = (self.context.clone(), self.state.region());
        let mut draft = Draft::new(&context, region, opener, None);
        draft.own.clone_from(&self.openings);
        // Its `Open` may come to be on the store although no answer says so.
        self.openings.push(draft.opening);
        let watch = Stopwatch::start();
        let opened = slot::take_over(&slot_store(&context, region), draft.opening, &mut draft).await;
        if opened.is_err() && !draft.is_named {
            self.openings.pop();
        }
        let opened = opened.map_err(|error| draft.source.explain(error))?;
        let mut reopened = Self::after(&context, draft, opened, watch).await?;
        reopened.keep_holds(&self.holds());
        *self = reopened;
        Ok(())
    }

    async fn take_over(context: &Context, region: RegionId, mut draft: Draft) -> Result<Self, Error> {
        let watch = Stopwatch::start();
        let opened = slot::take_over(&slot_store(context, region), draft.opening, &mut draft).await;
        let opened = opened.map_err(|error| draft.source.explain(error))?;
        Self::after(context, draft, opened, watch).await
    }

    async fn after(context: &Context, mut draft: Draft, opened: slot::Opened, watch: Stopwatch) -> Result<Self, Error> {
        draft.catch_up(&opened.history).await?;
        let Draft { replay, source, opening, .. } = draft;
        let state = replay.state;
        // Only what the log names is safe from every earlier writer's retention, however late that runs.
        let logged = source.loaded().filter(|loaded| state.checkpoints().contains(&loaded.reference));
        let mut keeper = Keeper::new(context, logged, replay.tail);
        metrics::histogram!("tessera_manifest_open_seconds").record(watch.elapsed());
        let (region, epoch) = (state.region(), opened.writer.next_slot().epoch);
        tracing::debug!(%region, %epoch, files = state.files().len(), "took the manifest over");
        keeper.after_commit(&state, false);
        Ok(Self { context: context.clone(), writer: opened.writer, state, keeper, openings: vec![opening] })
    }

    /// The state after the last commit.
    #[must_use]
    pub fn state(&self) -> &RegionState {
        &self.state
    }

    /// Where it is.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The epoch in which this writer commits; files for it must be born in it.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.writer.next_slot().epoch
    }

    /// Whether commits may still succeed: no earlier one was fenced or left in doubt.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.writer.is_good()
    }

    /// Commits `actions` as one record: one PUT, if the store answers clearly. A checkpoint that was finished in the
    /// background is noted in the same record.
    ///
    /// Not cancel safe: if the future is dropped before it is ready, the outcome is unknown, and every later
    /// commit is refused.
    ///
    /// # Errors
    /// [`Error::Rejected`] for what cannot be, and for a seal, before any I/O; [`Error::Fenced`] and [`Error::Unknown`] if an
    /// earlier commit ended so.
    pub async fn commit(&mut self, actions: Vec<Action>) -> Result<Outcome, Error> {
        if actions.iter().any(|action| matches!(action, Action::Seal(_))) {
            return Err(Error::rejected(self.state.region(), &actions, Violation::MisplacedSeal));
        }
        self.keeper.poll().await;
        let mut extras = self.keeper.extras(&self.state, self.context.env.unix_ms());
        let unpinned = |name: &str| actions.iter().any(|action| matches!(action, Action::Unpin(unpin) if unpin.name == name));
        extras.retain(|extra| !matches!(extra, Action::Unpin(unpin) if unpinned(&unpin.name)));
        self.put(Kind::Data, actions, extras).await
    }

    /// Ends the own epoch. The caller says by it that every row of the region is in an SST and that it will
    /// acknowledge no more: the next opener needs none of the logs. Later commits are refused.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn seal(&mut self) -> Result<Outcome, Error> {
        self.keeper.settle().await;
        let by = self.writer.writer();
        self.put(Kind::Seal, vec![Action::Seal(action::Seal { by, clean: true })], Vec::new()).await
    }

    async fn put(&mut self, kind: Kind, mut actions: Vec<Action>, extras: Vec<Action>) -> Result<Outcome, Error> {
        let slot = self.writer.next_slot();
        let region = self.state.region();
        // One that is missing may have been swept by a successor, which knows nothing of what is not committed yet.
        let segments = segments_of(&self.context, region, &actions).await?;
        let applied = self.state.apply_record_with(slot, &actions, &segments);
        let mut next = applied.map_err(|source| Error::rejected(region, &actions, source))?;
        // What the keeper adds must never stand in the way of what was asked for.
        let mut history_moved = false;
        if !extras.is_empty() {
            let extended: Vec<Action> = actions.iter().cloned().chain(extras).collect();
            match self.state.apply_record_with(slot, &extended, &segments) {
                Ok(state) => (next, actions, history_moved) = (state, extended, true),
                Err(error) => tracing::warn!(%region, %error, "a checkpoint is not noted in this record"),
            }
        }
        let body = Body::new(self.context.env.unix_ms(), next.set_hash(), actions);
        let watch = Stopwatch::start();
        let outcome = self.writer.commit(self.context.env.nonce(), kind, body.encode()).await?;
        metrics::histogram!("tessera_manifest_commit_seconds").record(watch.elapsed());
        match outcome {
            slot::Outcome::Committed(record) => {
                history_moved |= body.actions.iter().any(|action| matches!(action, Action::Floor(_) | Action::Unpin(_)));
                self.keeper.committed(&record, &body);
                self.state = next.clone();
                self.keeper.after_commit(&self.state, history_moved);
                Ok(Outcome::Committed(Box::new(next)))
            }
            slot::Outcome::Conflict(theirs) => {
                Ok(Outcome::Conflict { by: theirs.writer, slot: theirs.slot, orphans: Orphans::of(&body.actions) })
            }
            slot::Outcome::Unknown(error) => Ok(Outcome::Unknown(error)),
        }
    }

    /// Keeps the present version readable, and the files that it shows, whatever the floor does, as long as the hold
    /// lives in this process.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.keeper.hold(self.state.version())
    }

    /// What this process holds of the region.
    #[must_use]
    pub fn holds(&self) -> Holds {
        self.keeper.holds()
    }

    /// Takes over what was held through an earlier opening of the region by this process.
    pub fn keep_holds(&mut self, holds: &Holds) {
        self.keeper.keep_holds(holds);
    }

    /// Writes a checkpoint of the present version, unless there is one, and waits for it. It is noted in the record
    /// of a later commit.
    ///
    /// # Errors
    /// The store's failure. The log is as good as before.
    pub async fn checkpoint(&mut self) -> Result<CheckpointRef, Error> {
        self.keeper.settle().await;
        self.keeper.checkpoint(&self.state).await
    }

    /// Keeps the present version under a name: writes a checkpoint of it and commits a pin.
    ///
    /// # Errors
    /// Those of [`checkpoint`](Self::checkpoint) and [`commit`](Self::commit).
    pub async fn snapshot(&mut self, name: &str, expires_unix_ms: Option<u64>) -> Result<Outcome, Error> {
        let checkpoint = self.checkpoint().await?;
        self.commit(vec![Action::Pin(Pin { name: name.to_owned(), checkpoint, expires_unix_ms })]).await
    }

    /// Deletes what no readable version needs any more: records, checkpoints, segments. Nothing that is older than
    /// the floor and the two newest checkpoints allow.
    ///
    /// # Errors
    /// The store's failure to list or read. Deletes that fail are counted, and tried again by the next run.
    pub async fn retain(&mut self) -> Result<Retained, Error> {
        self.keeper.settle().await;
        self.keeper.retain(&self.state).await
    }

    /// Records and bytes that the next opener would replay.
    #[must_use]
    pub fn checkpoint_lag(&self) -> (usize, u64) {
        self.keeper.lag()
    }

    /// Waits for what runs in the background.
    pub async fn settle(&mut self) {
        self.keeper.settle().await;
    }
}

fn slot_store(context: &Context, region: RegionId) -> SlotStore {
    SlotStore::new(Arc::clone(&context.store), context.root.manifest(region))
}

#[cfg(test)]
mod budget_tests;
#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod zombie_tests;
