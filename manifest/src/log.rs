//! The manifest of a region: its state, kept as a slot log on the object store.
//!
//! Invariants:
//! - The state in memory is always the replay of what is on the store: a commit applies its actions first,
//!   without I/O, and takes the new state only once the record is known to be there.
//! - Each record carries the hash of the file set after it, and replay checks it.
//!
//! Crash order: an opener seals, replays, then creates its `Open`; only from then on does it commit. A writer
//! that lost its epoch learns it at its next commit and never before it would acknowledge something.

mod follower;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ObjectStore;

use crate::action::{self, Action};
use crate::body::Body;
use crate::env::{Env, Stopwatch};
use crate::error::Error;
use crate::id::{Epoch, NodeId, Nonce, RegionId, Slot};
use crate::meta::RegionMeta;
use crate::paths::Root;
use crate::slot::{self, CheckpointSource, Kind, NoCheckpoints, OpenDraft, Record, SlotStore, Writer};
use crate::state::RegionState;
use crate::wal::{WalId, WalKind, WalPosition, WalRef};

pub use follower::Follower;

/// Where manifests are and where ids come from.
#[derive(Debug, Clone)]
pub struct Context {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The cluster's folder on it.
    pub root: Root,
    /// Names for records and openings.
    pub env: Env,
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
    Committed(RegionState),
    /// Another writer has taken the region over; its record stands in the slot.
    Conflict {
        /// The opening that wrote it.
        by: Nonce,
        /// The slot.
        slot: Slot,
    },
    /// It is not known whether the record is on the store. Nothing may be acknowledged, and no file that the
    /// record names may be deleted.
    Unknown(Error),
}

/// The right to change a region's state.
#[derive(Debug)]
pub struct Manifest {
    writer: Writer,
    state: RegionState,
    env: Env,
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
    /// Those of [`slot::take_over`], and records that cannot be replayed.
    pub async fn open(context: &Context, region: RegionId, opener: Opener) -> Result<Self, Error> {
        Self::take_over(context, region, Draft::new(context, region, opener, None)).await
    }

    async fn take_over(context: &Context, region: RegionId, mut draft: Draft) -> Result<Self, Error> {
        let store = slot_store(context, region);
        let watch = Stopwatch::start();
        let opened = slot::take_over(&store, draft.opening, &mut draft).await?;
        draft.catch_up(&opened.history)?;
        let state = draft.replayed;
        metrics::histogram!("tessera_manifest_open_seconds").record(watch.elapsed());
        tracing::debug!(%region, epoch = %opened.writer.next_slot().epoch, files = state.files().len(), "took the manifest over");
        Ok(Self { writer: opened.writer, state, env: context.env.clone() })
    }

    /// The state after the last commit.
    #[must_use]
    pub fn state(&self) -> &RegionState {
        &self.state
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

    /// Commits `actions` as one record: one PUT, if the store answers clearly.
    ///
    /// Not cancel safe: if the future is dropped before it is ready, the outcome is unknown, and every later
    /// commit is refused.
    ///
    /// # Errors
    /// [`Error::Rejected`] for what cannot be, before any I/O; [`Error::Fenced`] and [`Error::Unknown`] if an
    /// earlier commit ended so.
    pub async fn commit(&mut self, actions: Vec<Action>) -> Result<Outcome, Error> {
        self.put(Kind::Data, actions).await
    }

    /// Ends the own epoch. The caller says by it that every row of the region is in an SST and that it will
    /// acknowledge no more: the next opener needs none of the logs. Later commits are refused.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub async fn seal(&mut self) -> Result<Outcome, Error> {
        let by = self.writer.writer();
        self.put(Kind::Seal, vec![Action::Seal(action::Seal { by, clean: true })]).await
    }

    async fn put(&mut self, kind: Kind, actions: Vec<Action>) -> Result<Outcome, Error> {
        let slot = self.writer.next_slot();
        let next = self.state.apply_record(slot, &actions).map_err(|source| Error::rejected(self.state.region(), &actions, source))?;
        let body = Body::new(next.set_hash(), actions).encode();
        let watch = Stopwatch::start();
        let outcome = self.writer.commit(self.env.nonce(), kind, body).await?;
        metrics::histogram!("tessera_manifest_commit_seconds").record(watch.elapsed());
        match outcome {
            slot::Outcome::Committed(_) => {
                self.state = next.clone();
                Ok(Outcome::Committed(next))
            }
            slot::Outcome::Conflict(theirs) => Ok(Outcome::Conflict { by: theirs.writer, slot: theirs.slot }),
            slot::Outcome::Unknown(error) => Ok(Outcome::Unknown(error)),
        }
    }
}

/// Reads the newest state of a region, and changes nothing.
///
/// # Errors
/// [`Error::NotFound`] if there is no such region; damage; failures of the store.
pub async fn load(context: &Context, region: RegionId) -> Result<RegionState, Error> {
    let store = slot_store(context, region);
    let loaded = slot::load(&store, &mut NoCheckpoints).await?;
    if loaded.is_empty() {
        return Err(Error::NotFound { path: store.path(Slot::new(Epoch(1), 0)).to_string() });
    }
    replay(&store, region, &loaded.history)
}

fn slot_store(context: &Context, region: RegionId) -> SlotStore {
    SlotStore::new(Arc::clone(&context.store), context.root.manifest(region))
}

/// The state after `history`, from nothing.
fn replay(store: &SlotStore, region: RegionId, history: &[Record]) -> Result<RegionState, Error> {
    history.iter().try_fold(RegionState::empty(region), |state, record| replay_record(store, &state, record))
}

fn replay_record(store: &SlotStore, state: &RegionState, record: &Record) -> Result<RegionState, Error> {
    let path = || store.path(record.slot).to_string();
    let body = Body::decode(&record.body).map_err(|reason| Error::Body { path: path(), reason })?;
    let next = state.apply_record(record.slot, &body.actions).map_err(|source| Error::Replay { path: path(), source })?;
    let kind = match body.actions.first() {
        Some(Action::Open(_)) => Kind::Open,
        Some(Action::Seal(_)) => Kind::Seal,
        _ => Kind::Data,
    };
    if kind != record.kind {
        let reason = format!("the header says {:?}, the actions say {kind:?}", record.kind);
        return Err(Error::Body { path: path(), reason });
    }
    // A seal that was put ahead of a busy writer did not know the records that still got in before it.
    let ahead = kind == Kind::Seal && record.prev.is_none();
    if !ahead && next.set_hash() != body.set_hash {
        return Err(Error::SetHash { path: path(), recorded: body.set_hash, computed: next.set_hash() });
    }
    Ok(next)
}

/// What a manifest contributes to a take-over.
struct Draft {
    store: SlotStore,
    region: RegionId,
    env: Env,
    opener: Opener,
    opening: Nonce,
    create: Option<Arc<RegionMeta>>,
    replayed: RegionState,
    /// How many records were replayed, and the name of the last.
    upto: Option<(usize, Nonce)>,
}

impl Draft {
    fn new(context: &Context, region: RegionId, opener: Opener, create: Option<Arc<RegionMeta>>) -> Self {
        let (store, env) = (slot_store(context, region), context.env.clone());
        let (opening, replayed) = (env.nonce(), RegionState::empty(region));
        Self { store, region, env, opener, opening, create, replayed, upto: None }
    }

    /// Replays what `history` has beyond the records that were replayed before. A history that starts over after
    /// a lost race is replayed from its beginning.
    fn catch_up(&mut self, history: &[Record]) -> Result<(), Error> {
        let same = |upto: &(usize, Nonce)| history.get(upto.0 - 1).is_some_and(|record| record.commit_id == upto.1);
        let done = self.upto.take_if(|upto| same(upto)).map_or(0, |upto| upto.0);
        if done == 0 {
            self.replayed = RegionState::empty(self.region);
        }
        for record in &history[done..] {
            self.replayed = replay_record(&self.store, &self.replayed, record)?;
        }
        self.upto = history.last().map(|record| (history.len(), record.commit_id));
        Ok(())
    }

    /// Refuses what cannot be opened: a region that exists already, one that is dropped, one with rows in a log
    /// that this opener cannot read. Checked before the seal, so that a refused opener changes nothing.
    fn check_open(&self) -> Result<(), Error> {
        let region = self.region;
        if self.create.is_some() && self.replayed.version().is_some() {
            return Err(Error::Exists { region });
        }
        if self.replayed.is_dropped() {
            return Err(Error::Dropped { region });
        }
        let Some((own, _)) = self.opener.wal else { return Ok(()) };
        if self.replayed.is_clean() {
            return Ok(());
        }
        let foreign = self.replayed.wals().iter().find(|wal| wal.id != own && wal.id.kind != WalKind::Noop);
        foreign.map_or(Ok(()), |wal| Err(Error::WalUnreachable { region, wal: wal.id, own }))
    }
}

impl CheckpointSource for Draft {}

#[async_trait]
impl OpenDraft for Draft {
    fn commit_id(&mut self) -> Nonce {
        self.env.nonce()
    }

    fn seal_body(&mut self, history: &[Record]) -> Result<Bytes, Error> {
        self.catch_up(history)?;
        self.check_open()?;
        let seal = Action::Seal(action::Seal { by: self.opening, clean: false });
        Ok(Body::new(self.replayed.set_hash(), vec![seal]).encode())
    }

    fn open_body(&mut self, slot: Slot, history: &[Record]) -> Result<Bytes, Error> {
        self.catch_up(history)?;
        self.check_open()?;
        let before = if self.replayed.is_clean() { &[] } else { self.replayed.wals() };
        let wals = named_wals(before, self.opener.wal);
        let mut actions =
            vec![Action::Open(action::Open { writer: self.opening, node: self.opener.node, wal: self.opener.wal.map(|own| own.0), wals })];
        actions.extend(self.create.iter().map(|meta| Action::Change(action::Change { meta: Arc::clone(meta) })));
        let after = self.replayed.apply_record(slot, &actions).map_err(|source| Error::rejected(self.region, &actions, source))?;
        Ok(Body::new(after.set_hash(), actions).encode())
    }

    fn may_create(&self) -> bool {
        self.create.is_some()
    }
}

/// The logs that an `Open` names: those that may hold something, unchanged, and the opener's own in its present epoch.
fn named_wals(before: &[WalRef], own: Option<(WalId, Epoch)>) -> Vec<WalRef> {
    let mut wals = before.to_vec();
    let Some((id, epoch)) = own else { return wals };
    match wals.iter_mut().find(|wal| wal.id == id) {
        Some(wal) if wal.epochs.last() == Some(&epoch) => {}
        Some(wal) => wal.epochs.push(epoch),
        None => wals.push(WalRef { id, epochs: vec![epoch], flushed: WalPosition::START }),
    }
    wals
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
