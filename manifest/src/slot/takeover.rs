//! Ending the epoch of whoever wrote before, and beginning one's own.
//!
//! ```text
//!   LIST ─▶ read ─▶ walk ──free slot──▶ Seal it ──▶ LIST beyond ──nothing──▶ Open the next epoch ──▶ owner
//!            ▲        └──sealed already───────────────────────────────────────┘      │
//!            └──────── seal void, or (while still the named owner) race lost ◀────────┘
//! ```
//!
//! Invariants:
//! - The seal goes into the lowest free slot of the last epoch. A record that took the slot first is replayed,
//!   and the next slot is tried, so nothing that was ever committed is left out.
//! - After sealing, a LIST beyond the seal must show nothing but seals of the same epoch. Anything else means
//!   that the slot had been freed by retention: the seal is void and everything starts over.
//! - The first seal in slot order ends the epoch; a gap below a seal is filled with a seal.
//!
//! Crash order: a crash after the seal leaves an ended epoch, which the next opener continues from.

use async_trait::async_trait;
use bytes::Bytes;

use super::record::{Kind, Record};
use super::store::{Filled, SlotStore};
use super::writer::Writer;
use crate::error::Error;
use crate::id::{Epoch, Nonce, Slot};
use crate::limits;

/// What the owner of a log contributes to a take-over.
#[async_trait]
pub trait OpenDraft: Send {
    /// A fresh name for a record.
    fn commit_id(&mut self) -> Nonce;

    /// The body of the seal, given every record of the log so far.
    ///
    /// # Errors
    /// Whatever forbids sealing, such as a record that cannot follow the ones before it: a damaged log is left
    /// as it is.
    fn seal_body(&mut self, history: &[Record]) -> Result<Bytes, Error>;

    /// The body of the `Open` at `slot`, given every record of the log so far. May be called again after a
    /// lost race, with more records.
    ///
    /// # Errors
    /// Whatever forbids opening, such as a record that cannot follow the ones before it.
    fn open_body(&mut self, slot: Slot, history: &[Record]) -> Result<Bytes, Error>;

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
    /// Every record up to and including the own `Open`, in order.
    pub history: Vec<Record>,
}

/// How far the records at hand reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is no record.
    Nothing,
    /// The last epoch goes on at this slot.
    Free(Slot),
    /// The last epoch is sealed.
    Sealed(Epoch),
}

/// Takes the log over for the opening `writer`.
///
/// # Errors
/// - [`Error::NotFound`] for a log without records, unless the draft may create it;
/// - [`Error::Fenced`] when another opener won and the draft is not the owner any more;
/// - [`Error::Gap`] when a record is missing below others;
/// - [`Error::Unknown`] when the store does not answer clearly;
/// - what the draft says, and damage of any record.
pub async fn take_over<D: OpenDraft>(store: &SlotStore, writer: Nonce, draft: &mut D) -> Result<Opened, Error> {
    for _ in 0..limits::TAKE_OVER_ROUNDS_MAX {
        let (mut history, end) = load(store).await?;
        let epoch = match end {
            End::Nothing if draft.may_create() => Some(Epoch(1)),
            End::Nothing => return Err(Error::NotFound { path: store.path(Slot::new(Epoch(1), 0)).to_string() }),
            End::Sealed(epoch) => Some(epoch.next()),
            End::Free(at) => seal(store, writer, draft, &mut history, at).await?.map(Epoch::next),
        };
        let Some(epoch) = epoch else { continue };
        match open(store, writer, draft, &mut history, Slot::new(epoch, 0)).await? {
            Some(writer) => return Ok(Opened { writer, history }),
            None if draft.still_owner().await? => {}
            None => return Err(Error::Fenced { path: store.path(Slot::new(epoch, 0)).to_string() }),
        }
    }
    Err(Error::Contended { path: store.path(Slot::new(Epoch(1), 0)).to_string(), rounds: limits::TAKE_OVER_ROUNDS_MAX })
}

/// Every record of the log in order, and where it ends.
pub(crate) async fn history(store: &SlotStore) -> Result<Vec<Record>, Error> {
    load(store).await.map(|(history, _)| history)
}

async fn load(store: &SlotStore) -> Result<(Vec<Record>, End), Error> {
    let listing = store.list(None).await?;
    let listed = store.read_all(&listing.slots).await?;
    let mut history: Vec<Record> = Vec::with_capacity(listed.len());
    let mut end = End::Nothing;
    let mut expected = Slot::new(Epoch(1), 0);
    let mut rest = listed.into_iter().peekable();
    loop {
        while let Some(passed) = rest.next_if(|record| record.slot < expected) {
            check_beyond(store, expected, &passed, end)?;
        }
        let record = match rest.next_if(|record| record.slot == expected) {
            Some(record) => Some(record),
            None if rest.peek().is_none() => None,
            // A LIST may be behind; only a GET by name says that there is nothing.
            None => store.read(expected).await?,
        };
        let Some(record) = record else { break };
        check_link(store, history.last(), &record)?;
        let sealed = record.kind == Kind::Seal;
        end = if sealed { End::Sealed(record.slot.epoch) } else { End::Free(record.slot.next()) };
        expected = if sealed { record.slot.next_epoch() } else { record.slot.next() };
        history.push(record);
    }
    for beyond in rest {
        check_beyond(store, expected, &beyond, end)?;
    }
    Ok((history, end))
}

/// A record beyond a gap or beyond the seal may only be a seal of the epoch that ends there: one that was put
/// ahead of a busy writer.
fn check_beyond(store: &SlotStore, expected: Slot, beyond: &Record, end: End) -> Result<(), Error> {
    let epoch = match end {
        End::Nothing => None,
        End::Free(at) => Some(at.epoch),
        End::Sealed(epoch) => Some(epoch),
    };
    if beyond.kind == Kind::Seal && Some(beyond.slot.epoch) == epoch {
        return Ok(());
    }
    Err(Error::Gap { missing: store.path(expected).to_string(), found: store.path(beyond.slot).to_string() })
}

/// Each record names the one before it; seals that another opener put over ours may differ, data may not.
fn check_link(store: &SlotStore, before: Option<&Record>, record: &Record) -> Result<(), Error> {
    let expected = before.map(|before| before.commit_id);
    if record.prev == expected {
        return Ok(());
    }
    Err(Error::BrokenChain { path: store.path(record.slot).to_string(), expected, found: record.prev })
}

/// Seals the epoch of `at`; `None` if the seal turned out void.
async fn seal<D: OpenDraft>(
    store: &SlotStore,
    writer: Nonce,
    draft: &mut D,
    history: &mut Vec<Record>,
    mut at: Slot,
) -> Result<Option<Epoch>, Error> {
    for _ in 0..limits::SEAL_CHASE_MAX {
        let prev = history.last().map(|record| record.commit_id);
        let seal = Record { kind: Kind::Seal, commit_id: draft.commit_id(), prev, writer, slot: at, body: draft.seal_body(history)? };
        let record = match store.fill(&seal).await? {
            Filled::Ours => seal,
            Filled::Theirs(theirs) => *theirs,
            Filled::Unknown(error) => return Err(error),
        };
        check_link(store, history.last(), &record)?;
        let sealed = record.kind == Kind::Seal;
        history.push(record);
        if sealed {
            return Ok(if is_void(store, at).await? { None } else { Some(at.epoch) });
        }
        at = at.next();
    }
    Err(Error::Contended { path: store.path(at).to_string(), rounds: limits::SEAL_CHASE_MAX })
}

/// Whether anything but a seal of the same epoch stands beyond the seal at `at`.
async fn is_void(store: &SlotStore, at: Slot) -> Result<bool, Error> {
    for slot in store.list(Some(at)).await?.slots {
        if slot <= at {
            continue;
        }
        let record = store.read(slot).await?;
        let exempt = slot.epoch == at.epoch && record.is_none_or(|record| record.kind == Kind::Seal);
        if !exempt {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Creates the `Open` at `slot`; `None` if another opener was first.
async fn open<D: OpenDraft>(
    store: &SlotStore,
    writer: Nonce,
    draft: &mut D,
    history: &mut Vec<Record>,
    slot: Slot,
) -> Result<Option<Writer>, Error> {
    let prev = history.last().map(|record| record.commit_id);
    let body = draft.open_body(slot, history)?;
    let record = Record { kind: Kind::Open, commit_id: draft.commit_id(), prev, writer, slot, body };
    match store.fill(&record).await? {
        Filled::Ours => {
            let writer = Writer::after(store.clone(), &record);
            history.push(record);
            Ok(Some(writer))
        }
        Filled::Theirs(_) => Ok(None),
        Filled::Unknown(error) => Err(error),
    }
}
