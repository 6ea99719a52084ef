//! What a manifest contributes to the take-over of its log.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::replay::{Replay, missing_segment};
use super::{Context, Opener};
use crate::action::{self, Action};
use crate::body::Body;
use crate::checkpoint::Source;
use crate::error::Error;
use crate::id::{Epoch, Nonce, RegionId, Slot};
use crate::meta::RegionMeta;
use crate::slot::{Base, CheckpointSource, Kind, Listing, OpenDraft, Record};
use crate::state::RegionState;
use crate::wal::{WalId, WalKind, WalPosition, WalRef};

/// See the module.
pub(super) struct Draft {
    context: Context,
    region: RegionId,
    opener: Opener,
    pub(super) opening: Nonce,
    create: Option<Arc<RegionMeta>>,
    /// Whether a dropped region may be taken over, to look after its files.
    pub(super) dropped_too: bool,
    /// Logs that are given up, although they may hold rows.
    pub(super) abandon: Vec<WalId>,
    /// Openings of which one must have been the last, for an opener that only wants to know what became of its own
    /// commit; empty for one that takes over from whoever there is.
    pub(super) own: Vec<Nonce>,
    /// Whether a record that names the opening may be on the store.
    pub(super) is_named: bool,
    pub(super) source: Source,
    pub(super) replay: Replay,
    /// What was replayed: from which checkpoint, how many records, and the name of the last.
    upto: Option<(Option<Slot>, usize, Nonce)>,
    /// The segment that was not there when the log was read last.
    missing: Option<String>,
}

impl Draft {
    pub(super) fn new(context: &Context, region: RegionId, opener: Opener, create: Option<Arc<RegionMeta>>) -> Self {
        Self {
            context: context.clone(),
            region,
            opener,
            opening: context.env.nonce(),
            create,
            dropped_too: false,
            abandon: Vec::new(),
            own: Vec::new(),
            is_named: false,
            source: Source::new(context, region, None),
            replay: Replay::from(context, RegionState::empty(region)),
            upto: None,
            missing: None,
        }
    }

    fn state(&self) -> &RegionState {
        &self.replay.state
    }

    /// Replays what `history` has beyond the records that were replayed before. A history that starts over after
    /// a lost race, or at another checkpoint, is replayed from its beginning.
    pub(super) async fn catch_up(&mut self, history: &[Record]) -> Result<(), Error> {
        let base = self.source.loaded().map(|loaded| loaded.reference.version);
        let same = |upto: &(Option<Slot>, usize, Nonce)| {
            upto.0 == base && upto.1.checked_sub(1).is_none_or(|last| history.get(last).is_some_and(|record| record.commit_id == upto.2))
        };
        let done = self.upto.take_if(|upto| same(upto)).map(|upto| upto.1);
        if done.is_none() {
            self.replay = Replay::from(&self.context, self.source.state());
        }
        let replayed = self.replay.records(&history[done.unwrap_or(0)..]).await;
        replayed.map_err(|error| missing_segment(&mut self.missing, error))?;
        self.upto = Some((base, history.len(), history.last().map_or(Nonce(0), |record| record.commit_id)));
        Ok(())
    }

    /// Refuses to end an epoch of somebody else, or one that somebody else has ended, if only own ones are to be ended.
    fn check_own(&self, history: &[Record]) -> Result<(), Error> {
        if self.own.is_empty() {
            return Ok(());
        }
        let is_own = |writer: Nonce| writer == self.opening || self.own.contains(&writer);
        let sealed_by = history.last().filter(|record| record.kind == Kind::Seal).map(|seal| seal.writer);
        if self.state().writer().is_some_and(is_own) && sealed_by.is_none_or(is_own) {
            return Ok(());
        }
        Err(self.fenced())
    }

    fn fenced(&self) -> Error {
        let reached = self.state().version().unwrap_or(Slot::new(Epoch(1), 0));
        Error::Fenced { path: self.context.root.manifest(self.region).path(reached).to_string() }
    }

    /// Refuses what cannot be opened: a region that exists already, one that is dropped, one that was opened with a later
    /// epoch of the opener's log, one with rows in a log that this opener cannot read and that nobody gave up. Checked before
    /// the seal, so that a refused opener changes nothing.
    fn check_open(&self) -> Result<(), Error> {
        let region = self.region;
        if self.create.is_some() && self.state().version().is_some() {
            return Err(Error::Exists { region });
        }
        if self.state().is_dropped() && !self.dropped_too {
            return Err(Error::Dropped { region });
        }
        self.check_abandoned()?;
        let Some((own, epoch)) = self.opener.wal else { return Ok(()) };
        if let Some(abandoned) = self.state().abandoned().iter().find(|abandoned| abandoned.covers(own, epoch)) {
            return Err(Error::WalAbandoned { region, wal: own, epoch, by: abandoned.by });
        }
        let behind = |wal: &&WalRef| wal.id == own && wal.epochs.last().is_some_and(|last| *last > epoch);
        if self.needed().iter().any(|wal| behind(&wal)) {
            // Whoever opened the log since has the region, and no row of this opener's could be told from its rows.
            return Err(self.fenced());
        }
        let reachable = |id: WalId| id == own || id.kind == WalKind::Noop || self.abandon.contains(&id);
        let foreign = self.needed().iter().find(|wal| !reachable(wal.id));
        foreign.map_or(Ok(()), |wal| Err(Error::WalUnreachable { region, wal: wal.id, own }))
    }

    /// The logs that may hold rows: none after a clean end.
    fn needed(&self) -> &[WalRef] {
        if self.state().is_clean() { &[] } else { self.state().wals() }
    }

    fn check_abandoned(&self) -> Result<(), Error> {
        for wal in &self.abandon {
            let refuse = |why| Err(Error::CannotAbandon { region: self.region, wal: *wal, why });
            if self.opener.wal.is_some_and(|(own, _)| own == *wal) {
                return refuse("it is the opener's own");
            }
            if !self.needed().iter().any(|listed| listed.id == *wal) {
                return refuse("no row of the region is only there");
            }
        }
        Ok(())
    }

    fn body(&self, after: &RegionState, actions: Vec<Action>) -> Bytes {
        Body::new(self.context.env.unix_ms(), after.set_hash(), actions).encode()
    }
}

#[async_trait]
impl CheckpointSource for Draft {
    async fn base(&mut self, listing: &Listing) -> Result<Option<Base>, Error> {
        self.source.base(listing).await
    }
}

#[async_trait]
impl OpenDraft for Draft {
    fn commit_id(&mut self) -> Nonce {
        self.context.env.nonce()
    }

    async fn seal_body(&mut self, history: &[Record]) -> Result<Bytes, Error> {
        self.catch_up(history).await?;
        self.check_own(history)?;
        self.check_open()?;
        self.is_named = true;
        let seal = Action::Seal(action::Seal { by: self.opening, clean: false });
        Ok(self.body(self.state(), vec![seal]))
    }

    async fn open_body(&mut self, slot: Slot, history: &[Record]) -> Result<Bytes, Error> {
        self.catch_up(history).await?;
        self.check_own(history)?;
        self.check_open()?;
        self.is_named = true;
        let (abandoned, before): (Vec<WalRef>, Vec<WalRef>) = self.needed().iter().cloned().partition(|wal| self.abandon.contains(&wal.id));
        let wals = named_wals(before, self.opener.wal);
        let (node, wal) = (self.opener.node, self.opener.wal.map(|own| own.0));
        let mut actions = vec![Action::Open(action::Open { writer: self.opening, node, wal, wals, abandoned })];
        actions.extend(self.create.iter().map(|meta| Action::Change(action::Change { meta: Arc::clone(meta) })));
        let after = self.state().apply_record(slot, &actions).map_err(|source| Error::rejected(self.region, &actions, source))?;
        Ok(self.body(&after, actions))
    }

    fn may_create(&self) -> bool {
        self.create.is_some()
    }
}

/// The logs that an `Open` names: those that may hold something, unchanged, and the opener's own in its present epoch.
fn named_wals(mut wals: Vec<WalRef>, own: Option<(WalId, Epoch)>) -> Vec<WalRef> {
    let Some((id, epoch)) = own else { return wals };
    match wals.iter_mut().find(|wal| wal.id == id) {
        Some(wal) if wal.epochs.last() == Some(&epoch) => {}
        Some(wal) => wal.epochs.push(epoch),
        None => wals.push(WalRef { id, epochs: vec![epoch], flushed: WalPosition::START }),
    }
    wals
}
