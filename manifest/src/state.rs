//! The state of a region, and the only way in which it changes.
//!
//! ```text
//!   empty ──Open+Change──▶ open ──Edit/Change/Truncate──▶ open ──Drop──▶ dropped
//!                          │  ▲                            │ ▲
//!                          │  └─────────Open───────────┐   │ └─Resolve─┐
//!                          └────────────Seal──▶ sealed ┘   └─Stage──▶ staged ──Resolve──▶ retired
//! ```
//!
//! Invariants:
//! - Pure: `RegionState::apply` is the same function on commit and on replay, and rejects what cannot be.
//! - A state is a value: cloning it is a handful of pointer copies, and a change of k files costs
//!   O(k log n), since files are kept in maps with shared structure.
//! - A file is listed once in the life of a region. Only files born in the current epoch come in, or those that a
//!   remap brings; what went out stays listed as removed, with the version that removed it, until it is doomed.
//! - What is visible and what is staged are of different types; only `Resolve` makes the one of the other.
//! - The set hash is that of the visible references; a record carries the one expected after it.

pub(crate) mod block;
mod books;
mod files;
mod history;
mod image;
mod open;
mod stage;
mod violation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use crate::action::{Action, CheckpointRef, Edit, Flushed, Pin, SegmentRef, Truncate};
use crate::file::{ColumnStats, Doomed, FileRef, Removed, StagedFile};
use crate::id::{ColumnId, Epoch, FileKey, Generation, Nonce, RegionId, Sequence, Slot};
use crate::meta::RegionMeta;
use crate::set_hash::SetHash;
use crate::wal::{AbandonedWal, WalId, WalRef};
use books::Books;

pub use files::{Entry, Files, Numbers};
pub(crate) use image::Segment;
pub use image::{Image, ImageError, Row};
pub use stage::{Remap, Staging};
pub use violation::Violation;

/// The references in segments that a record names, read and checked before the record is applied.
pub type Segments = BTreeMap<SegmentRef, Vec<StagedFile>>;

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
    retired: bool,
    dropped: bool,
    meta: Option<Arc<RegionMeta>>,
    wals: Arc<Vec<WalRef>>,
    current_wal: Option<WalId>,
    abandoned: Arc<Vec<AbandonedWal>>,
    flushed_sequence: Sequence,
    books: Books,
    staging: Option<Arc<Staging>>,
    /// The version that resolved the last repartition.
    repartitioned: Option<Slot>,
    floor: Option<Slot>,
    pins: OrdMap<String, Arc<Pin>>,
    checkpoints: Arc<Vec<CheckpointRef>>,
    remaps: Arc<Vec<(Slot, Vec<SegmentRef>)>>,
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
            retired: false,
            dropped: false,
            meta: None,
            wals: Arc::new(Vec::new()),
            current_wal: None,
            abandoned: Arc::default(),
            flushed_sequence: Sequence::ZERO,
            books: Books::default(),
            staging: None,
            repartitioned: None,
            floor: None,
            pins: OrdMap::new(),
            checkpoints: Arc::default(),
            remaps: Arc::default(),
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

    /// The logs that were given up by force, oldest first: rows may have been lost with them.
    #[must_use]
    pub fn abandoned(&self) -> &[AbandonedWal] {
        &self.abandoned
    }

    /// The newest sequence that is in an SST or was truncated.
    #[must_use]
    pub fn flushed_sequence(&self) -> Sequence {
        self.flushed_sequence
    }

    /// The visible files by key.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.books.visible
    }

    /// The visible reference to a file.
    #[must_use]
    pub fn file(&self, key: FileKey) -> Option<Arc<FileRef>> {
        self.books.visible.get(&key).map(|listed| listed.file)
    }

    /// The removed files by key.
    #[must_use]
    pub fn removed(&self) -> &OrdMap<FileKey, Removed> {
        &self.books.removed
    }

    /// The doomed files by key.
    #[must_use]
    pub fn doomed(&self) -> &OrdMap<FileKey, Doomed> {
        &self.books.doomed
    }

    /// Whether the file is listed in any way: visible, staged, removed or doomed.
    #[must_use]
    pub fn knows(&self, key: FileKey) -> bool {
        self.books.knows(&key) || self.staging_knows(&key)
    }

    /// The columns that scopes of visible files name: none of them can be dropped.
    #[must_use]
    pub fn scope_columns(&self) -> BTreeSet<ColumnId> {
        self.books.scopes.values().flat_map(|(scope, _)| scope.columns()).collect()
    }

    /// The columns of which visible files hold values in their statistics, rules and scopes, in the types that they had when
    /// the files were written: none of them can get another type.
    #[must_use]
    pub fn valued_columns(&self) -> BTreeSet<ColumnId> {
        let of_files = self.books.visible.values().flat_map(|listed| listed.file.valued_columns());
        self.scope_columns().into_iter().chain(of_files).collect()
    }

    /// What the region holds of a repartition that is not resolved yet.
    #[must_use]
    pub fn staging(&self) -> Option<&Staging> {
        self.staging.as_deref()
    }

    /// Whether the region was retired by a repartition.
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.retired
    }

    /// The oldest version that can be read, besides the pinned ones.
    #[must_use]
    pub fn floor(&self) -> Slot {
        self.floor.unwrap_or(Slot::new(Epoch(1), 0))
    }

    /// The kept versions by name.
    #[must_use]
    pub fn pins(&self) -> &OrdMap<String, Arc<Pin>> {
        &self.pins
    }

    /// The checkpoints that were logged and are needed, oldest first: from the newest that is not above the floor,
    /// and two at least, as soon as there are two. What is older may be deleted.
    #[must_use]
    pub fn checkpoints(&self) -> &[CheckpointRef] {
        &self.checkpoints
    }

    /// The segments that records after the oldest needed checkpoint name, which replay of these records reads.
    pub fn remap_segments(&self) -> impl Iterator<Item = &SegmentRef> {
        self.remaps.iter().flat_map(|(_, segments)| segments)
    }

    /// The oldest version from which replay may begin: records before it, and checkpoints before it that are not
    /// pinned, may be deleted. `None` while nothing may be.
    #[must_use]
    pub fn replay_base(&self) -> Option<Slot> {
        let oldest = self.checkpoints.first().filter(|_| self.checkpoints.len() >= 2)?.version;
        (oldest <= self.floor?).then_some(oldest)
    }

    /// Sums over the visible files.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.books.totals
    }

    /// The hash of the visible references.
    #[must_use]
    pub fn set_hash(&self) -> SetHash {
        self.books.hash
    }

    /// The state after the record in `slot`, which names no segments. See
    /// [`apply_record_with`](Self::apply_record_with).
    ///
    /// # Errors
    /// The first action that cannot be, or a record that cannot stand in `slot`.
    pub fn apply_record(&self, slot: Slot, actions: &[Action]) -> Result<Self, Violation> {
        self.apply_record_with(slot, actions, &Segments::new())
    }

    /// The state after the record in `slot`, given the content of the segments that it names. Either all of its
    /// actions apply, or none.
    ///
    /// # Errors
    /// The first action that cannot be, or a record that cannot stand in `slot`.
    pub fn apply_record_with(&self, slot: Slot, actions: &[Action], segments: &Segments) -> Result<Self, Violation> {
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
            next = next.apply(slot, action, segments)?;
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
    fn apply(&self, slot: Slot, action: &Action, segments: &Segments) -> Result<Self, Violation> {
        let mut next = self.clone();
        match action {
            Action::Open(open) => next.open(slot, open)?,
            Action::Seal(seal) => {
                next.sealed = true;
                next.clean = seal.clean && self.writer == Some(seal.by);
            }
            Action::Change(change) => next.change(&change.meta)?,
            Action::Edit(edit) => next.edit(slot, edit)?,
            Action::Truncate(truncate) => next.truncate(slot, truncate)?,
            Action::Stage(stage) => next.stage(slot, stage)?,
            Action::StagedEdit(edit) => next.staged_edit(slot, edit)?,
            Action::RemapStaged(remap) => next.remap_staged(slot, remap, segments)?,
            Action::Resolve(resolve) => next.resolve(slot, resolve)?,
            Action::Retire(_) => next.retire(slot)?,
            Action::Checkpointed(logged) => next.checkpointed(logged.checkpoint)?,
            Action::Floor(floor) => next.raise_floor(floor.version)?,
            Action::Pin(pin) => next.pin(pin)?,
            Action::Unpin(unpin) => next.unpin(&unpin.name)?,
            Action::Doom(doom) => next.doom(slot, doom)?,
            Action::Drop(_) => next.drop_all(slot)?,
        }
        Ok(next)
    }

    fn change(&mut self, meta: &Arc<RegionMeta>) -> Result<(), Violation> {
        self.check_live()?;
        self.check_not_staged()?;
        if meta.region != self.region {
            return Err(Violation::ForeignMeta { expected: self.region, found: meta.region });
        }
        if let Some(old) = &self.meta {
            let (from, to) = (old.schema.version(), meta.schema.version());
            let same_rule = old.rule == meta.rule && old.partition_columns == meta.partition_columns;
            if !same_rule && meta.generation == old.generation {
                return Err(Violation::RuleChanged);
            }
            if to < from || meta.generation < old.generation {
                let (from_generation, to_generation) = (old.generation, meta.generation);
                return Err(Violation::BackwardChange { from, to, from_generation, to_generation });
            }
        }
        for (scope, _) in self.books.scopes.values() {
            if let Some(column) = scope.columns().into_iter().find(|column| meta.schema.column(*column).is_none()) {
                return Err(Violation::ScopeColumnDropped { column });
            }
        }
        self.meta = Some(Arc::clone(meta));
        Ok(())
    }

    fn edit(&mut self, slot: Slot, edit: &Edit) -> Result<(), Violation> {
        self.check_generation(edit.generation)?;
        self.check_edit(edit)?;
        self.advance_flushed(&edit.flushed)?;
        self.note_drained(false);
        if let Some(to) = edit.sequence {
            self.advance_sequence(to, edit.generation)?;
        }
        for file in &edit.add {
            self.add(slot, file, edit.generation)?;
        }
        for key in &edit.remove {
            self.books.remove(*key, slot)?;
        }
        for key in &edit.restore {
            self.restore(*key)?;
        }
        Ok(())
    }

    fn truncate(&mut self, slot: Slot, truncate: &Truncate) -> Result<(), Violation> {
        self.check_generation(truncate.generation)?;
        self.check_not_staged()?;
        self.advance_flushed(&truncate.flushed)?;
        self.advance_sequence(truncate.sequence, truncate.generation)?;
        self.books.remove_all(slot);
        Ok(())
    }

    fn retire(&mut self, slot: Slot) -> Result<(), Violation> {
        self.check_live()?;
        self.check_not_staged()?;
        self.books.remove_all(slot);
        self.retired = true;
        Ok(())
    }

    fn drop_all(&mut self, slot: Slot) -> Result<(), Violation> {
        if self.dropped {
            return Err(Violation::Dropped);
        }
        self.check_not_staged()?;
        self.books.remove_all(slot);
        self.dropped = true;
        Ok(())
    }

    fn check_live(&self) -> Result<(), Violation> {
        match (self.dropped, self.retired) {
            (true, _) => Err(Violation::Dropped),
            (false, true) => Err(Violation::Retired),
            (false, false) => Ok(()),
        }
    }

    fn check_generation(&self, read: Generation) -> Result<(), Violation> {
        self.check_live()?;
        let current = self.meta.as_ref().ok_or(Violation::NotCreated)?.generation;
        if read == current { Ok(()) } else { Err(Violation::OtherGeneration { read, current }) }
    }

    /// Moves the region to `generation`, and changes its metadata as `with` says.
    fn set_generation(&mut self, generation: Generation, with: impl FnOnce(&mut RegionMeta)) -> Result<(), Violation> {
        let mut meta = RegionMeta::clone(self.meta.as_ref().ok_or(Violation::NotCreated)?);
        meta.generation = generation;
        with(&mut meta);
        self.meta = Some(Arc::new(meta));
        Ok(())
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
            if *position > entry.flushed && !entry.epochs.contains(&position.epoch) {
                return Err(Violation::UnknownWalEpoch { wal: *wal, epoch: position.epoch });
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

    fn advance_sequence(&mut self, to: Sequence, generation: Generation) -> Result<(), Violation> {
        if to < self.flushed_sequence {
            return Err(Violation::SequenceBackward { from: self.flushed_sequence, to });
        }
        if to.generation() > generation {
            return Err(Violation::SequenceOfLaterGeneration { sequence: to, generation });
        }
        self.flushed_sequence = to;
        Ok(())
    }

    fn check_born_here(&self, slot: Slot, file: &FileRef, read: Generation) -> Result<(), Violation> {
        let key = file.key;
        if key.origin != self.region || key.file.epoch != slot.epoch {
            return Err(Violation::FileNotBornHere { file: key, region: self.region, epoch: slot.epoch });
        }
        let written = file.meta.generation;
        if written == read { Ok(()) } else { Err(Violation::FileOfOtherGeneration { file: key, written, read }) }
    }

    fn add(&mut self, slot: Slot, file: &Arc<FileRef>, read: Generation) -> Result<(), Violation> {
        self.check_born_here(slot, file, read)?;
        let key = file.key;
        if self.knows(key) {
            return Err(Violation::FileListedBefore { file: key });
        }
        let newest = file.meta.sequences.1;
        if newest > self.flushed_sequence {
            return Err(Violation::SequenceBelowFile { file: key, newest, flushed: self.flushed_sequence });
        }
        self.books.list(Arc::clone(file), slot);
        Ok(())
    }

    /// Makes a removed file visible again. It must still be one that a reader may ask for: then it counts as a
    /// reference of this region for every collector, so that none can have doomed it.
    fn restore(&mut self, key: FileKey) -> Result<(), Violation> {
        let gone = Violation::FileNotRestorable { file: key };
        let removed = self.books.removed.get(&key).filter(|removed| self.is_restorable(removed)).ok_or(gone)?.clone();
        let schema = &self.meta.as_ref().ok_or(Violation::NotCreated)?.schema;
        if let Some(column) = removed.file.scope.columns().into_iter().find(|column| schema.column(*column).is_none()) {
            return Err(Violation::ScopeColumnDropped { column });
        }
        let unlike = |stats: &&ColumnStats| match (schema.column(stats.column), &stats.range) {
            (Some(column), Some((least, greatest))) => !column.data_type.accepts(least) || !column.data_type.accepts(greatest),
            _ => false,
        };
        if let Some(stats) = removed.file.meta.stats.iter().find(unlike) {
            return Err(Violation::FileOfOtherTypes { file: key, column: stats.column });
        }
        self.books.removed.remove(&key);
        self.books.list(removed.file, removed.since);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
