//! The begin of an epoch: whose it is, and which logs may hold rows of the region.
//!
//! Invariants:
//! - A log that may hold unflushed entries stays listed as it is, or is named as abandoned, as it is; nothing else takes it
//!   off the list but the edit that passes it and a clean end.
//! - Epochs of a log that were abandoned never come back: their rows are lost, also if the log turns up again.
//! - For a repartition an abandoned log is flushed up to its end. What was not flushed is nowhere to be drained from, and
//!   it is on record that it is lost.

use std::sync::Arc;

use super::{RegionState, Violation};
use crate::action::Open;
use crate::id::Slot;
use crate::wal::{AbandonedWal, WalRef};

impl RegionState {
    pub(super) fn open(&mut self, slot: Slot, open: &Open) -> Result<(), Violation> {
        for wal in &open.wals {
            let ascending = wal.epochs.windows(2).all(|pair| pair[0] < pair[1]);
            let from_flushed = wal.epochs.first().is_none_or(|first| *first >= wal.flushed.epoch);
            if !ascending || !from_flushed {
                return Err(Violation::WalEpochs { wal: wal.id });
            }
        }
        // After a clean end the logs before it hold nothing, and leave the list.
        let needed: &[WalRef] = if self.clean { &[] } else { &self.wals };
        check_abandoned(needed, open)?;
        for old in needed.iter().filter(|old| !open.abandoned.contains(old)) {
            let kept = open.wals.iter().find(|new| new.id == old.id);
            let unchanged = kept.is_some_and(|new| new.flushed == old.flushed && new.epochs.starts_with(&old.epochs));
            if !unchanged {
                return Err(Violation::WalDropped { wal: old.id });
            }
        }
        let mut altered = open.wals.iter().filter(|new| !needed.contains(new));
        if let Some(wal) = altered.find(|wal| Some(wal.id) != open.wal) {
            return Err(Violation::ForeignWal { wal: wal.id });
        }
        if let Some(wal) = open.wal.filter(|own| !open.wals.iter().any(|wal| wal.id == *own)) {
            return Err(Violation::UnknownWal { wal });
        }
        self.check_not_given_up(open)?;
        if !open.abandoned.is_empty() {
            let now = open.abandoned.iter().map(|wal| AbandonedWal { by: slot, wal: wal.clone() });
            self.abandoned = Arc::new(self.abandoned.iter().cloned().chain(now).collect());
        }
        self.current_wal = open.wal;
        self.note_drained(self.clean);
        self.sealed = false;
        self.clean = false;
        self.writer = Some(open.writer);
        self.wals = Arc::new(open.wals.clone());
        Ok(())
    }

    /// An epoch of a log that was abandoned holds rows that are lost; the region cannot have new ones among them.
    fn check_not_given_up(&self, open: &Open) -> Result<(), Violation> {
        for wal in &open.wals {
            let covered = |epoch| self.abandoned.iter().any(|abandoned| abandoned.covers(wal.id, epoch));
            if let Some(epoch) = wal.epochs.iter().copied().find(|epoch| covered(*epoch)) {
                return Err(Violation::WalGivenUp { wal: wal.id, epoch });
            }
        }
        Ok(())
    }
}

/// What is abandoned was listed, exactly so, and is not gone on with.
fn check_abandoned(needed: &[WalRef], open: &Open) -> Result<(), Violation> {
    for (index, wal) in open.abandoned.iter().enumerate() {
        let listed = needed.iter().find(|old| old.id == wal.id).ok_or(Violation::UnknownWal { wal: wal.id })?;
        if listed != wal {
            return Err(Violation::WalDropped { wal: wal.id });
        }
        let again = open.abandoned[..index].iter().chain(&open.wals).any(|other| other.id == wal.id);
        if again || open.wal == Some(wal.id) {
            return Err(Violation::AbandonedInUse { wal: wal.id });
        }
    }
    Ok(())
}
