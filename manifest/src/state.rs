//! The state of a region, and the only way in which it changes.
//!
//! ```text
//!   empty ──Open+Change──▶ open ──Edit/Change/Truncate──▶ open ──Drop──▶ dropped
//!                            │                             ▲
//!                            └────Seal──▶ sealed ──Open────┘ (next epoch)
//! ```
//!
//! Invariants:
//! - Pure: `RegionState::apply` is the same function on commit and on replay, and rejects what cannot be.
//! - A state is a value: cloning it is a handful of pointer copies, and a change of k files costs
//!   O(k log n), since files are kept in maps with shared structure.
//! - A file is listed once in the life of a region. Only files born in the current epoch come in; what went
//!   out stays listed as removed, with the version that removed it, until it is collected.
//! - The set hash is that of the visible references; a record carries the one expected after it.

use std::sync::Arc;

use imbl::OrdMap;

use crate::action::{Action, Edit, Flushed, Open, Truncate};
use crate::file::FileRef;
use crate::id::{FileKey, Generation, Nonce, RegionId, Sequence, Slot};
use crate::meta::RegionMeta;
use crate::set_hash::{MemberHash, SetHash};
use crate::wal::{WalId, WalPosition, WalRef};

/// Why an action cannot be applied. On commit it is a defect of the caller; on replay the log is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields repeat their names; the messages say the rest")]
pub enum Violation {
    #[error("a record in slot {slot} cannot follow version {version:?}")]
    OutOfOrder { slot: Slot, version: Option<Slot> },
    #[error("a record without actions")]
    NoActions,
    #[error("an Open is the first action of the first record of an epoch and stands nowhere else")]
    MisplacedOpen,
    #[error("a Seal stands alone in its record")]
    MisplacedSeal,
    #[error("epoch is sealed: only the Open of the next epoch can follow")]
    Sealed,
    #[error("the region is dropped")]
    Dropped,
    #[error("the region was never created: its first record holds no Change")]
    NotCreated,
    #[error("the metadata of region {found} was recorded in region {expected}")]
    ForeignMeta { expected: RegionId, found: RegionId },
    #[error("a Change may not move the schema from version {from} to {to}, or the generation from {from_generation} to {to_generation}")]
    BackwardChange { from: u32, to: u32, from_generation: Generation, to_generation: Generation },
    #[error("the Open drops or alters {wal}, which may hold unflushed entries")]
    WalDropped { wal: WalId },
    #[error("the Open names {wal} in epochs that are not ascending from the flushed position")]
    WalEpochs { wal: WalId },
    #[error("the Open adds or extends {wal}, which is not the opener's own")]
    ForeignWal { wal: WalId },
    #[error("{wal} is not one of the region's logs")]
    UnknownWal { wal: WalId },
    #[error("flush position {to} of {wal} does not advance beyond {from}")]
    FlushNotAdvancing { wal: WalId, from: WalPosition, to: WalPosition },
    #[error("{wal} is the current writer's log and cannot leave the list")]
    CurrentWalDone { wal: WalId },
    #[error("the edit read generation {read}, the region is at {current}")]
    OtherGeneration { read: Generation, current: Generation },
    #[error("file {file} is listed or was listed before")]
    FileListedBefore { file: FileKey },
    #[error("file {file} was not born in region {region} in epoch {epoch}")]
    FileNotBornHere { file: FileKey, region: RegionId, epoch: crate::id::Epoch },
    #[error("file {file} is not listed and cannot be removed")]
    FileNotListed { file: FileKey },
    #[error("newest flushed sequence {to} is below {from}")]
    SequenceBackward { from: Sequence, to: Sequence },
    #[error("file {file} holds sequence {newest}, above the newest flushed sequence {flushed}")]
    SequenceBelowFile { file: FileKey, newest: Sequence, flushed: Sequence },
}

/// A reference that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// The reference as it was.
    pub file: Arc<FileRef>,
    /// The version that removed it.
    pub by: Slot,
}

/// Sums over the visible files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Their rows, deletes and overwritten rows included.
    pub rows: u64,
    /// Their bytes on the store.
    pub bytes: u64,
}

/// Everything that a region's manifest says, at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct RegionState {
    region: RegionId,
    version: Option<Slot>,
    writer: Option<Nonce>,
    sealed: bool,
    clean: bool,
    dropped: bool,
    meta: Option<Arc<RegionMeta>>,
    wals: Arc<Vec<WalRef>>,
    current_wal: Option<WalId>,
    flushed_sequence: Sequence,
    files: OrdMap<FileKey, Arc<FileRef>>,
    removed: OrdMap<FileKey, Removed>,
    totals: Totals,
    set_hash: SetHash,
}

impl RegionState {
    /// The state before the first record.
    #[must_use]
    pub fn empty(region: RegionId) -> Self {
        Self {
            region,
            version: None,
            writer: None,
            sealed: false,
            clean: false,
            dropped: false,
            meta: None,
            wals: Arc::new(Vec::new()),
            current_wal: None,
            flushed_sequence: Sequence::ZERO,
            files: OrdMap::new(),
            removed: OrdMap::new(),
            totals: Totals::default(),
            set_hash: SetHash::EMPTY,
        }
    }

    /// The region.
    #[must_use]
    pub fn region(&self) -> RegionId {
        self.region
    }

    /// The slot of the last record; `None` before the first.
    #[must_use]
    pub fn version(&self) -> Option<Slot> {
        self.version
    }

    /// The opening that writes in this epoch.
    #[must_use]
    pub fn writer(&self) -> Option<Nonce> {
        self.writer
    }

    /// Whether the epoch has ended.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether the epoch was ended by its own writer, which does so only when everything is in SSTs: no log
    /// holds anything of the region any more.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// Whether the region was dropped.
    #[must_use]
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Names, schema, rule and options; `None` before the first record.
    #[must_use]
    pub fn meta(&self) -> Option<&Arc<RegionMeta>> {
        self.meta.as_ref()
    }

    /// The logs that may hold unflushed entries.
    #[must_use]
    pub fn wals(&self) -> &[WalRef] {
        &self.wals
    }

    /// The newest sequence that is in an SST or was truncated.
    #[must_use]
    pub fn flushed_sequence(&self) -> Sequence {
        self.flushed_sequence
    }

    /// The visible files by key.
    #[must_use]
    pub fn files(&self) -> &OrdMap<FileKey, Arc<FileRef>> {
        &self.files
    }

    /// The removed files by key.
    #[must_use]
    pub fn removed(&self) -> &OrdMap<FileKey, Removed> {
        &self.removed
    }

    /// Sums over the visible files.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The hash of the visible references.
    #[must_use]
    pub fn set_hash(&self) -> SetHash {
        self.set_hash
    }

    /// The state after the record in `slot`. Either all of its actions apply, or none.
    ///
    /// # Errors
    /// The first action that cannot be, or a record that cannot stand in `slot`.
    pub fn apply_record(&self, slot: Slot, actions: &[Action]) -> Result<Self, Violation> {
        let opens = matches!(actions.first(), Some(Action::Open(_)));
        let in_order = match self.version {
            None => slot.seq == 0 && slot.epoch.0 == 1,
            Some(version) if opens => self.sealed && slot == version.next_epoch(),
            Some(version) => slot == version.next(),
        };
        if !in_order {
            return Err(Violation::OutOfOrder { slot, version: self.version });
        }
        if opens != (slot.seq == 0) {
            return Err(Violation::MisplacedOpen);
        }
        if self.sealed && !opens {
            return Err(Violation::Sealed);
        }
        let mut next = self.clone();
        for (index, action) in actions.iter().enumerate() {
            if matches!(action, Action::Open(_)) && index > 0 {
                return Err(Violation::MisplacedOpen);
            }
            if matches!(action, Action::Seal(_)) && actions.len() > 1 {
                return Err(Violation::MisplacedSeal);
            }
            next = next.apply(slot, action)?;
        }
        if actions.is_empty() {
            return Err(Violation::NoActions);
        }
        if next.meta.is_none() {
            return Err(Violation::NotCreated);
        }
        next.version = Some(slot);
        Ok(next)
    }

    /// The state after one action of the record in `slot`.
    fn apply(&self, slot: Slot, action: &Action) -> Result<Self, Violation> {
        let mut next = self.clone();
        match action {
            Action::Open(open) => next.open(open)?,
            Action::Seal(seal) => {
                next.sealed = true;
                next.clean = seal.clean && self.writer == Some(seal.by);
            }
            Action::Change(change) => next.change(&change.meta)?,
            Action::Edit(edit) => next.edit(slot, edit)?,
            Action::Truncate(truncate) => next.truncate(slot, truncate)?,
            Action::Drop(_) => next.drop_all(slot)?,
        }
        Ok(next)
    }

    fn open(&mut self, open: &Open) -> Result<(), Violation> {
        for wal in &open.wals {
            let ascending = wal.epochs.windows(2).all(|pair| pair[0] < pair[1]);
            let from_flushed = wal.epochs.first().is_none_or(|first| *first >= wal.flushed.epoch);
            if !ascending || !from_flushed {
                return Err(Violation::WalEpochs { wal: wal.id });
            }
        }
        // After a clean end the logs before it hold nothing, and leave the list.
        let needed: &[WalRef] = if self.clean { &[] } else { &self.wals };
        for old in needed {
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
        self.current_wal = open.wal;
        self.sealed = false;
        self.clean = false;
        self.writer = Some(open.writer);
        self.wals = Arc::new(open.wals.clone());
        Ok(())
    }

    fn change(&mut self, meta: &Arc<RegionMeta>) -> Result<(), Violation> {
        self.check_live()?;
        if meta.region != self.region {
            return Err(Violation::ForeignMeta { expected: self.region, found: meta.region });
        }
        if let Some(old) = &self.meta {
            let (from, to) = (old.schema.version(), meta.schema.version());
            if to < from || meta.generation < old.generation {
                let (from_generation, to_generation) = (old.generation, meta.generation);
                return Err(Violation::BackwardChange { from, to, from_generation, to_generation });
            }
        }
        self.meta = Some(Arc::clone(meta));
        Ok(())
    }

    fn edit(&mut self, slot: Slot, edit: &Edit) -> Result<(), Violation> {
        self.check_generation(edit.generation)?;
        self.advance_flushed(&edit.flushed)?;
        if let Some(to) = edit.sequence {
            self.advance_sequence(to)?;
        }
        for file in &edit.add {
            self.add(slot, file)?;
        }
        for key in &edit.remove {
            self.remove(slot, *key)?;
        }
        Ok(())
    }

    fn truncate(&mut self, slot: Slot, truncate: &Truncate) -> Result<(), Violation> {
        self.check_generation(truncate.generation)?;
        self.advance_flushed(&truncate.flushed)?;
        self.advance_sequence(truncate.sequence)?;
        self.remove_all(slot);
        Ok(())
    }

    fn drop_all(&mut self, slot: Slot) -> Result<(), Violation> {
        self.check_live()?;
        self.remove_all(slot);
        self.dropped = true;
        Ok(())
    }

    fn check_live(&self) -> Result<(), Violation> {
        if self.dropped { Err(Violation::Dropped) } else { Ok(()) }
    }

    fn check_generation(&self, read: Generation) -> Result<(), Violation> {
        self.check_live()?;
        let current = self.meta.as_ref().ok_or(Violation::NotCreated)?.generation;
        if read == current { Ok(()) } else { Err(Violation::OtherGeneration { read, current }) }
    }

    fn advance_flushed(&mut self, flushed: &[Flushed]) -> Result<(), Violation> {
        if flushed.is_empty() {
            return Ok(());
        }
        let mut wals = Vec::clone(&self.wals);
        for Flushed { wal, position, done } in flushed {
            let index = wals.iter().position(|w| w.id == *wal).ok_or(Violation::UnknownWal { wal: *wal })?;
            let entry = &mut wals[index];
            if *position < entry.flushed || (*position == entry.flushed && !done) {
                return Err(Violation::FlushNotAdvancing { wal: *wal, from: entry.flushed, to: *position });
            }
            entry.flushed = *position;
            entry.epochs.retain(|epoch| *epoch >= position.epoch);
            if *done {
                if self.current_wal == Some(*wal) {
                    return Err(Violation::CurrentWalDone { wal: *wal });
                }
                wals.remove(index);
            }
        }
        self.wals = Arc::new(wals);
        Ok(())
    }

    fn advance_sequence(&mut self, to: Sequence) -> Result<(), Violation> {
        if to < self.flushed_sequence {
            return Err(Violation::SequenceBackward { from: self.flushed_sequence, to });
        }
        self.flushed_sequence = to;
        Ok(())
    }

    fn add(&mut self, slot: Slot, file: &Arc<FileRef>) -> Result<(), Violation> {
        let key = file.key;
        if key.origin != self.region || key.file.epoch != slot.epoch {
            return Err(Violation::FileNotBornHere { file: key, region: self.region, epoch: slot.epoch });
        }
        if self.files.contains_key(&key) || self.removed.contains_key(&key) {
            return Err(Violation::FileListedBefore { file: key });
        }
        let newest = file.meta.sequences.1;
        if newest > self.flushed_sequence {
            return Err(Violation::SequenceBelowFile { file: key, newest, flushed: self.flushed_sequence });
        }
        self.set_hash = self.set_hash.with(MemberHash::of(file));
        self.totals.rows = self.totals.rows.wrapping_add(file.meta.rows);
        self.totals.bytes = self.totals.bytes.wrapping_add(file.meta.bytes);
        self.files.insert(key, Arc::clone(file));
        Ok(())
    }

    fn remove(&mut self, slot: Slot, key: FileKey) -> Result<(), Violation> {
        let file = self.files.remove(&key).ok_or(Violation::FileNotListed { file: key })?;
        self.set_hash = self.set_hash.without(MemberHash::of(&file));
        self.totals.rows = self.totals.rows.wrapping_sub(file.meta.rows);
        self.totals.bytes = self.totals.bytes.wrapping_sub(file.meta.bytes);
        self.removed.insert(key, Removed { file, by: slot });
        Ok(())
    }

    fn remove_all(&mut self, slot: Slot) {
        for (key, file) in std::mem::take(&mut self.files) {
            self.removed.insert(key, Removed { file, by: slot });
        }
        self.totals = Totals::default();
        self.set_hash = SetHash::EMPTY;
    }
}

#[cfg(test)]
mod tests;
