//! What is kept of a region's past, and how files end: checkpoints, floor, pins, doom. See DESIGN sections 4 and 9.
//!
//! Invariants:
//! - A removed file can be doomed only when no readable version of this region shows it: the version that removed
//!   it is not above the floor, and no pin lies in its life. That no other region refers to it is the
//!   collector's to prove.
//! - What is doomed can never be referred to again.

use std::sync::Arc;

use super::{RegionState, Violation};
use crate::action::{CheckpointRef, Doom, Pin};
use crate::file::{Doomed, Removed};
use crate::id::{FileKey, Slot};
use crate::limits;

impl RegionState {
    /// Whether a reader may still ask for a version that shows the removed file: one not below the floor, or a
    /// pinned one.
    #[must_use]
    pub fn is_retained(&self, removed: &Removed) -> bool {
        self.floor.is_none_or(|floor| removed.by > floor) || self.pins.values().any(|pin| removed.visible_at(pin.checkpoint.version))
    }

    /// Whether the removed file may become visible again. What a repartition took away is no part of the region any
    /// more.
    #[must_use]
    pub fn is_restorable(&self, removed: &Removed) -> bool {
        self.is_retained(removed) && self.repartitioned.is_none_or(|at| removed.by > at)
    }

    pub(super) fn checkpointed(&mut self, checkpoint: CheckpointRef) -> Result<(), Violation> {
        let version = checkpoint.version;
        let above = self.checkpoints.last().is_none_or(|last| last.version < version);
        if !above || self.version.is_none_or(|current| version > current) {
            return Err(Violation::CheckpointOrder { version });
        }
        let mut checkpoints = Vec::clone(&self.checkpoints);
        checkpoints.push(checkpoint);
        self.checkpoints = Arc::new(checkpoints);
        self.let_checkpoints_go();
        Ok(())
    }

    /// Readable versions start at the floor, so the newest checkpoint that is not above it is the oldest one that
    /// is needed; and the two newest stay in any case, so that a damaged one has a substitute.
    fn let_checkpoints_go(&mut self) {
        let Some(floor) = self.floor else { return };
        let needed = self.checkpoints.iter().rposition(|checkpoint| checkpoint.version <= floor).unwrap_or(0);
        let gone = needed.min(self.checkpoints.len().saturating_sub(2));
        if gone > 0 {
            self.checkpoints = Arc::new(self.checkpoints[gone..].to_vec());
        }
        if let Some(base) = self.replay_base().filter(|base| self.remaps.first().is_some_and(|(named, _)| named <= base)) {
            self.remaps = Arc::new(self.remaps.iter().filter(|(named, _)| *named > base).cloned().collect());
        }
    }

    pub(super) fn raise_floor(&mut self, to: Slot) -> Result<(), Violation> {
        let forward = self.floor.is_none_or(|from| from <= to);
        if !forward || self.version.is_none_or(|version| to > version) {
            return Err(Violation::FloorOrder { from: self.floor, to, version: self.version });
        }
        self.floor = Some(to);
        self.let_checkpoints_go();
        Ok(())
    }

    pub(super) fn pin(&mut self, pin: &Pin) -> Result<(), Violation> {
        let version = pin.checkpoint.version;
        let floor = self.floor();
        if version < floor || self.version.is_none_or(|current| version > current) {
            return Err(Violation::PinVersion { version, floor });
        }
        let fits = (1..=limits::PIN_NAME_BYTES_MAX).contains(&pin.name.len());
        if !fits || !pin.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
            return Err(Violation::PinName { name: pin.name.clone() });
        }
        if self.pins.contains_key(&pin.name) {
            return Err(Violation::PinExists { name: pin.name.clone() });
        }
        self.pins.insert(pin.name.clone(), Arc::new(pin.clone()));
        Ok(())
    }

    pub(super) fn unpin(&mut self, name: &str) -> Result<(), Violation> {
        self.pins.remove(name).map(drop).ok_or_else(|| Violation::NoPin { name: name.to_owned() })
    }

    pub(super) fn doom(&mut self, slot: Slot, doom: &Doom) -> Result<(), Violation> {
        self.check_not_staged()?;
        for key in &doom.files {
            let bytes = self.check_doomable(*key).map_err(|why| Violation::NotDoomable { file: *key, why })?;
            self.books.removed.remove(key);
            self.books.doomed.insert(*key, Doomed { by: slot, bytes });
        }
        for key in &doom.forget {
            self.forget(slot, *key).map_err(|why| Violation::NotForgettable { file: *key, why })?;
        }
        Ok(())
    }

    /// The size of the file, if it may be doomed.
    fn check_doomable(&self, key: FileKey) -> Result<u64, &'static str> {
        if key.origin != self.region {
            return Err("it was born in another region, whose owner decides");
        }
        if self.books.visible.contains_key(&key) {
            return Err("it is visible");
        }
        let removed = self.books.removed.get(&key).ok_or("it is not in the list of removed files")?;
        if self.is_retained(removed) {
            return Err("a version that shows it is above the floor or pinned");
        }
        Ok(removed.file.meta.bytes)
    }

    fn forget(&mut self, slot: Slot, key: FileKey) -> Result<(), &'static str> {
        if let Some(doomed) = self.books.doomed.get(&key) {
            // Only files born in the current epoch can be added; and an edit that is older than the floor is not
            // on its way any more.
            let past = key.file.epoch < slot.epoch || self.floor.is_some_and(|floor| doomed.by <= floor);
            if !past {
                return Err("it was born in the current epoch and doomed above the floor");
            }
            self.books.doomed.remove(&key);
            return Ok(());
        }
        let removed = self.books.removed.get(&key).ok_or("it is not listed as doomed or removed")?;
        if key.origin == self.region {
            return Err("its object would be left behind: doom it first");
        }
        if self.is_retained(removed) {
            return Err("a version that shows it is above the floor or pinned");
        }
        self.books.removed.remove(&key);
        Ok(())
    }
}
