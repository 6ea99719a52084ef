//! Ending the epoch of whoever wrote before, and beginning one's own.
//!
//! ```text
//!   read ──free slot──▶ seal it ──▶ LIST beyond ──nothing──▶ Open the next epoch ──▶ owner
//!    ▲ └──sealed already──────────────▲   │                     │
//!    │                                    │ a later epoch       │ another's Open
//!    └───────── seal void ◀───────────────┤                     │
//!    └───────── still the named owner ◀───┴── race lost ◀───────┘
//! ```
//!
//! Chasing a busy writer: after [`limits::SEAL_CHASE_MAX`] records that were quicker than the seal, a seal goes
//! into a slot further ahead, which the writer cannot pass; then everything below it is replayed or sealed.
//!
//! ```text
//!   Open  rec  rec  rec  rec   ·    ·    ·   Seal          the writer may still take the gap
//!   Open  rec  rec  rec  rec  rec  Seal  ·   Seal          the first seal in slot order ends the epoch
//! ```
//!
//! Invariants:
//! - The seal that ends an epoch stands in its lowest free slot, or was met there. Whatever took a slot first is
//!   replayed, so nothing that was ever committed is left out.
//! - After the seal was put or read, a LIST beyond it must show nothing but seals of the same epoch. A record or
//!   a checkpoint means that the slot had been freed by retention: the seal is void, is left where it is, and
//!   everything starts over. This holds for a seal of another opener too, for it may be just as void.
//! - A later epoch beyond the seal, or another's `Open`, is a lost race: the opener starts over only while the
//!   metadata still names it as the owner.
//!
//! Crash order: a crash after a seal leaves an ended epoch, or a gap below a seal; the next opener goes on from
//! there.

use async_trait::async_trait;
use bytes::Bytes;

use super::guard::Guard;
use super::history::{Base, Beyond, CheckpointSource, End, Loaded, beyond, check_link, load_once};
use super::record::{Kind, Record};
use super::store::{Filled, SlotStore};
use super::writer::Writer;
use crate::error::Error;
use crate::id::{Epoch, Nonce, Slot};
use crate::limits;

/// What the owner of a log contributes to a take-over.
///
/// A history given to it starts after the checkpoint that its [`CheckpointSource`] loaded last.
#[async_trait]
pub trait OpenDraft: CheckpointSource {
    /// A fresh name for a record.
    fn commit_id(&mut self) -> Nonce;

    /// The body of the seal, given every record of the log so far. A seal that is put ahead of a busy writer may
    /// be followed, in the history, by records that were not there yet.
    ///
    /// # Errors
    /// Whatever forbids sealing, such as a record that cannot follow the ones before it: a damaged log is left
    /// as it is.
    async fn seal_body(&mut self, history: &[Record]) -> Result<Bytes, Error>;

    /// The body of the `Open` at `slot`, given every record of the log so far. May be called again after a
    /// lost race, with more records.
    ///
    /// # Errors
    /// Whatever forbids opening, such as a record that cannot follow the ones before it.
    async fn open_body(&mut self, slot: Slot, history: &[Record]) -> Result<Bytes, Error>;

    /// Whether a log without any record may be begun.
    fn may_create(&self) -> bool;

    /// Asked after a lost race: whether the metadata still names this opener as the owner.
    ///
    /// # Errors
    /// The metadata store's failure.
    async fn still_owner(&mut self) -> Result<bool, Error> {
        Ok(false)
    }
}

/// A log that was taken over.
#[derive(Debug)]
pub struct Opened {
    /// The right to commit.
    pub writer: Writer,
    /// The checkpoint that the history starts after.
    pub base: Option<Base>,
    /// Every record up to and including the own `Open`, in order.
    pub history: Vec<Record>,
}

/// What came of one round.
enum Round {
    /// The epoch is ours.
    Owner(Box<Opened>),
    /// The seal was void.
    Void,
    /// Another opener was first; it opened the epoch of this slot or a later one.
    Lost(Slot),
}

/// Takes the log over for the opening `writer`.
///
/// # Errors
/// - [`Error::NotFound`] for a log without records, unless the draft may create it;
/// - [`Error::Fenced`] when another opener won and the draft is not the owner any more;
/// - [`Error::Gap`] when a record is missing below others;
/// - [`Error::Unknown`] when the store does not answer clearly;
/// - [`Error::MissingRecord`] and [`Error::Contended`] when others were quicker in every round;
/// - what the draft says, and damage of any record.
pub async fn take_over<D: OpenDraft>(store: &SlotStore, writer: Nonce, draft: &mut D) -> Result<Opened, Error> {
    let rounds = limits::TAKE_OVER_ROUNDS_MAX;
    let mut last = Error::Contended { path: store.path(Slot::new(Epoch(1), 0)).to_string(), rounds };
    for _ in 0..rounds {
        match (Attempt { store, writer, draft: &mut *draft, base: None, history: Vec::new() }).run().await {
            Ok(Round::Owner(opened)) => return Ok(*opened),
            Ok(Round::Void) => {}
            Ok(Round::Lost(slot)) => {
                if !draft.still_owner().await? {
                    return Err(Error::Fenced { path: store.path(slot).to_string() });
                }
            }
            Err(error @ Error::MissingRecord { .. }) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// One round of a take-over.
struct Attempt<'a, D> {
    store: &'a SlotStore,
    writer: Nonce,
    draft: &'a mut D,
    base: Option<Base>,
    history: Vec<Record>,
}

impl<D: OpenDraft> Attempt<'_, D> {
    async fn run(mut self) -> Result<Round, Error> {
        let Loaded { base, history, end } = load_once(self.store, self.draft).await?;
        (self.base, self.history) = (base, history);
        let (seal, guard) = match end {
            End::Nothing if self.draft.may_create() => return self.open(Slot::new(Epoch(1), 0)).await,
            End::Nothing => return Err(Error::NotFound { path: self.store.path(Slot::new(Epoch(1), 0)).to_string() }),
            End::Sealed(at) => (at, Guard::ListAfterFoundSeal),
            End::Free(at) => (self.seal(at).await?, Guard::ListAfterSeal),
        };
        let beyond = if self.store.holds(guard) { beyond(self.store, seal).await? } else { Beyond::Nothing };
        match beyond {
            Beyond::Nothing => self.open(seal.next_epoch()).await,
            Beyond::SameEpoch => Ok(Round::Void),
            Beyond::LaterEpoch => Ok(Round::Lost(seal.next_epoch())),
        }
    }

    /// Ends the epoch of `at`, its lowest free slot; answers with the slot of the first seal.
    async fn seal(&mut self, mut at: Slot) -> Result<Slot, Error> {
        let tuning = self.store.tuning();
        let (mut chase, mut ahead) = (tuning.chase, u64::from(tuning.ahead));
        for _ in 0..=limits::SEAL_AHEAD_ROUNDS_MAX {
            for _ in 0..chase {
                if self.seal_at(at).await? {
                    return Ok(at);
                }
                at = at.next();
            }
            let target = Slot::new(at.epoch, at.seq.saturating_add(ahead));
            if self.seal_ahead(target).await? {
                if !self.store.holds(Guard::FillBelowAhead) {
                    return Ok(target);
                }
                // The target ends the chase at the latest.
                chase = u32::try_from(ahead).unwrap_or(u32::MAX).saturating_add(1);
            } else {
                at = self.catch_up(at, target).await?;
                (chase, ahead) = (1, ahead.saturating_mul(4));
            }
        }
        Err(Error::Contended { path: self.store.path(at).to_string(), rounds: limits::SEAL_AHEAD_ROUNDS_MAX })
    }

    /// Seals `at`, or takes the record that is there into the history; whether it holds a seal now.
    async fn seal_at(&mut self, at: Slot) -> Result<bool, Error> {
        let before = self.history.last().map(|record| record.commit_id);
        let prev = before.or_else(|| self.base.and_then(|base| base.commit_id));
        let seal = self.draft_seal(at, prev).await?;
        let record = match self.store.fill(&seal).await? {
            Filled::Ours => seal,
            Filled::Theirs(theirs) => *theirs,
            Filled::Unknown(error) => return Err(error),
        };
        check_link(self.store, self.base, self.history.last(), &record).await?;
        let sealed = record.kind == Kind::Seal;
        self.history.push(record);
        Ok(sealed)
    }

    /// Seals `target`, further ahead than the writer is; whether it holds a seal now. It names no record before
    /// it, because which one that will be is still open.
    async fn seal_ahead(&mut self, target: Slot) -> Result<bool, Error> {
        let seal = self.draft_seal(target, None).await?;
        match self.store.fill(&seal).await? {
            Filled::Ours => Ok(true),
            Filled::Theirs(theirs) => Ok(theirs.kind == Kind::Seal),
            Filled::Unknown(error) => Err(error),
        }
    }

    async fn draft_seal(&mut self, slot: Slot, prev: Option<Nonce>) -> Result<Record, Error> {
        let body = self.draft.seal_body(&self.history).await?;
        Ok(Record { kind: Kind::Seal, commit_id: self.draft.commit_id(), prev, writer: self.writer, slot, body })
    }

    /// Reads what the writer, which never skips a slot, put into the slots up to `reached`; answers with the
    /// slot after it. A seal in between can only be void, and the record after it does not name it.
    async fn catch_up(&mut self, from: Slot, reached: Slot) -> Result<Slot, Error> {
        let slots: Vec<Slot> = (from.seq..=reached.seq).map(|seq| Slot::new(from.epoch, seq)).collect();
        for record in self.store.read_all(&slots).await? {
            check_link(self.store, self.base, self.history.last(), &record).await?;
            self.history.push(record);
        }
        Ok(reached.next())
    }

    /// Creates the `Open` at `slot`.
    async fn open(mut self, slot: Slot) -> Result<Round, Error> {
        let prev = self.history.last().map(|record| record.commit_id);
        let body = self.draft.open_body(slot, &self.history).await?;
        let commit_id = self.draft.commit_id();
        let record = Record { kind: Kind::Open, commit_id, prev, writer: self.writer, slot, body };
        match self.store.fill(&record).await? {
            Filled::Ours => {
                let writer = Writer::after(self.store.clone(), &record);
                self.history.push(record);
                Ok(Round::Owner(Box::new(Opened { writer, base: self.base, history: self.history })))
            }
            Filled::Theirs(_) => Ok(Round::Lost(slot)),
            Filled::Unknown(error) => Err(error),
        }
    }
}
