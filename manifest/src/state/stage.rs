//! The repartition of a region: fence, staged files, remap, resolution. See DESIGN section 8.
//!
//! ```text
//!   base ──Stage──▶ staged ──Edit*──▶ drained ──RemapStaged──▶ remapped ──Resolve{commit}──▶ generation c
//!     │                │  StagedEdit* at any time after Stage     │            (a region without a target
//!     │                │                                          │             retires instead)
//!     └──Resolve{abort}┴──────────▶ abort generation, old rule ◀──┘ never once rows are staged
//! ```
//!
//! Invariants:
//! - From the fence on the visible files only grow, by flushes of rows before the fence; once everything before
//!   it is in SSTs they are frozen, so that whoever reads them for the remap has read all.
//! - Staged files are none of the visible ones and hold rows of the staged generation only.
//! - Visible and staged rows of one log have their own flushed positions; the log may be cut behind both only.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use super::{RegionState, Segments, Violation};
use crate::action::{Decision, Edit, Fence, Flushed, RemapStaged, Resolve, SegmentRef, Stage, StagedEdit};
use crate::file::{Listed, Removed, StagedFile};
use crate::id::{FileKey, Generation, Sequence, Slot, TxnId};
use crate::set_hash::{MemberHash, SetHash};
use crate::wal::{WalId, WalPosition};

/// What a region holds of a repartition that is not resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Staging {
    /// What was staged.
    pub stage: Stage,
    /// The version that staged it.
    pub since: Slot,
    /// How far the staged rows of each log are flushed; a log that is not named is flushed up to the fence, or not
    /// at all if it came later.
    pub(crate) flushed: BTreeMap<WalId, WalPosition>,
    /// The newest staged sequence in SSTs.
    pub(crate) sequence: Option<Sequence>,
    /// Whether every row before the fence is in an SST; once so, always so.
    pub(crate) drained: bool,
    /// Files of staged rows.
    pub(crate) added: OrdMap<FileKey, StagedFile>,
    /// The references to the group's older files.
    pub(crate) remap: Option<Remap>,
}

/// The references that a region gets by a repartition.
#[derive(Debug, Clone, PartialEq)]
pub struct Remap {
    pub(crate) segments: Arc<[SegmentRef]>,
    /// Ascending by key, without duplicates.
    pub(crate) files: Arc<[StagedFile]>,
    pub(crate) set_hash: SetHash,
}

impl Remap {
    /// The segments that they were read from.
    #[must_use]
    pub fn segments(&self) -> &[SegmentRef] {
        &self.segments
    }

    /// The references, ascending by key.
    #[must_use]
    pub fn files(&self) -> &[StagedFile] {
        &self.files
    }

    /// The references from `from` (included) up to `to` (not included), ascending by key.
    pub(super) fn range(&self, from: Option<FileKey>, to: Option<FileKey>) -> &[StagedFile] {
        let first = |bound: FileKey| self.files.partition_point(|file| file.key() < bound);
        let (begin, end) = (from.map_or(0, first), to.map_or(self.files.len(), first));
        self.files.get(begin..end).unwrap_or_default()
    }

    /// The set hash of the references.
    #[must_use]
    pub fn set_hash(&self) -> SetHash {
        self.set_hash
    }
}

impl Staging {
    /// Files of rows that were written since the fence.
    #[must_use]
    pub fn added(&self) -> &OrdMap<FileKey, StagedFile> {
        &self.added
    }

    /// The references to the group's older files, once they are known.
    #[must_use]
    pub fn remap(&self) -> Option<&Remap> {
        self.remap.as_ref()
    }

    /// The newest staged sequence that is in an SST.
    #[must_use]
    pub fn flushed_sequence(&self) -> Option<Sequence> {
        self.sequence
    }

    /// The last entry of the base generation in `wal`; `None` for a log that the region got after the fence, all
    /// of whose entries are staged.
    #[must_use]
    pub fn fence(&self, wal: WalId) -> Option<WalPosition> {
        self.stage.fence.iter().find(|fence| fence.wal == wal).map(|fence| fence.position)
    }

    /// Up to where the staged rows of `wal` are in SSTs.
    #[must_use]
    pub fn flushed(&self, wal: WalId) -> WalPosition {
        let own = self.flushed.get(&wal).copied();
        own.or_else(|| self.fence(wal)).unwrap_or(WalPosition::START)
    }

    fn knows(&self, key: &FileKey) -> bool {
        self.added.contains_key(key)
            || self.remap.as_ref().is_some_and(|remap| remap.files.binary_search_by_key(key, StagedFile::key).is_ok())
    }
}

impl RegionState {
    /// Whether every row before the fence is in an SST, so that the visible files are frozen. `None` if the
    /// region is not staged.
    #[must_use]
    pub fn is_drained(&self) -> Option<bool> {
        self.staging.as_ref().map(|staging| staging.drained)
    }

    /// Notes that everything before the fence is in SSTs, if it is: by the flushed positions, or because the epoch
    /// ended cleanly (after which a log may be named anew, from its start). A log that was abandoned since the fence has
    /// nothing that could still be flushed.
    pub(super) fn note_drained(&mut self, clean: bool) {
        let Some(staging) = self.staging.as_ref().filter(|staging| !staging.drained) else { return };
        let flushed = |fence: &Fence| self.wals.iter().any(|wal| wal.id == fence.wal && wal.flushed >= fence.position);
        let abandoned = |fence: &Fence| self.abandoned.iter().any(|wal| wal.wal.id == fence.wal && wal.by > staging.since);
        if clean || staging.stage.fence.iter().all(|fence| flushed(fence) || abandoned(fence)) {
            self.staging = Some(Arc::new(Staging { drained: true, ..Staging::clone(staging) }));
        }
    }

    pub(super) fn staging_knows(&self, key: &FileKey) -> bool {
        self.staging.as_ref().is_some_and(|staging| staging.knows(key))
    }

    pub(super) fn check_not_staged(&self) -> Result<(), Violation> {
        self.staging.as_ref().map_or(Ok(()), |staging| Err(Violation::Staged { txn: staging.stage.txn }))
    }

    /// An edit of visible files in a staged region: a flush of rows before the fence, and nothing else.
    pub(super) fn check_edit(&self, edit: &Edit) -> Result<(), Violation> {
        let Some(staging) = &self.staging else { return Ok(()) };
        let txn = staging.stage.txn;
        if !edit.remove.is_empty() || !edit.restore.is_empty() {
            return Err(Violation::Staged { txn });
        }
        if self.is_drained() == Some(true) {
            return Err(Violation::Frozen { txn });
        }
        for Flushed { wal, position, done } in &edit.flushed {
            let fence = staging.fence(*wal).ok_or(Violation::UnknownWal { wal: *wal })?;
            if *position > fence {
                return Err(Violation::BeyondFence { wal: *wal, fence, to: *position });
            }
            if *done {
                return Err(Violation::StagedWalDone { wal: *wal });
            }
        }
        Ok(())
    }

    pub(super) fn stage(&mut self, slot: Slot, stage: &Stage) -> Result<(), Violation> {
        self.check_generation(stage.base)?;
        self.check_not_staged()?;
        if stage.generation <= stage.base {
            return Err(Violation::GenerationNotAbove { from: stage.base, to: stage.generation });
        }
        let current = self.meta.as_ref().ok_or(Violation::NotCreated)?.schema.version();
        if stage.schema_version != current {
            return Err(Violation::OtherSchema { read: stage.schema_version, current });
        }
        for fence in &stage.fence {
            let once = stage.fence.iter().filter(|other| other.wal == fence.wal).count() == 1;
            let known = self.wals.iter().find(|wal| wal.id == fence.wal);
            if !once || known.is_none_or(|wal| fence.position < wal.flushed) {
                return Err(Violation::FenceWals { wal: fence.wal });
            }
        }
        if let Some(wal) = self.wals.iter().find(|wal| !stage.fence.iter().any(|fence| fence.wal == wal.id)) {
            return Err(Violation::FenceWals { wal: wal.id });
        }
        let (flushed, added) = (BTreeMap::new(), OrdMap::new());
        let staging = Staging { stage: stage.clone(), since: slot, flushed, sequence: None, drained: false, added, remap: None };
        self.staging = Some(Arc::new(staging));
        self.note_drained(false);
        Ok(())
    }

    fn staging_of(&self, txn: TxnId) -> Result<Staging, Violation> {
        self.check_live()?;
        let staging = self.staging.as_ref().filter(|staging| staging.stage.txn == txn);
        staging.map(|staging| Staging::clone(staging)).ok_or(Violation::NotStaged { txn })
    }

    pub(super) fn staged_edit(&mut self, slot: Slot, edit: &StagedEdit) -> Result<(), Violation> {
        let mut staging = self.staging_of(edit.txn)?;
        let current = staging.stage.generation;
        if edit.generation != current {
            return Err(Violation::OtherGeneration { read: edit.generation, current });
        }
        if staging.stage.target.is_none() {
            return Err(Violation::NotATarget { txn: edit.txn });
        }
        for Flushed { wal, position, done } in &edit.flushed {
            self.check_staged_flush(&staging, *wal, *position, *done)?;
            staging.flushed.insert(*wal, *position);
        }
        if let Some(to) = edit.sequence {
            let from = staging.sequence.unwrap_or(Sequence::ZERO);
            if to < from {
                return Err(Violation::SequenceBackward { from, to });
            }
            if to.generation() != current {
                return Err(Violation::SequenceOfLaterGeneration { sequence: to, generation: current });
            }
            staging.sequence = Some(to);
        }
        for file in &edit.add {
            self.check_born_here(slot, file, edit.generation)?;
            if self.books.knows(&file.key) || staging.knows(&file.key) {
                return Err(Violation::FileListedBefore { file: file.key });
            }
            let (oldest, newest) = file.meta.sequences;
            if oldest.generation() != current {
                return Err(Violation::StagedFileGeneration { file: file.key, found: oldest.generation(), staged: current });
            }
            let flushed = staging.sequence.unwrap_or(Sequence::ZERO);
            if newest > flushed {
                return Err(Violation::SequenceBelowFile { file: file.key, newest, flushed });
            }
            staging.added.insert(file.key, StagedFile::new(Arc::clone(file)));
        }
        self.staging = Some(Arc::new(staging));
        Ok(())
    }

    fn check_staged_flush(&self, staging: &Staging, wal: WalId, to: WalPosition, done: bool) -> Result<(), Violation> {
        let listed = self.wals.iter().find(|listed| listed.id == wal).ok_or(Violation::UnknownWal { wal })?;
        if !listed.epochs.contains(&to.epoch) {
            return Err(Violation::UnknownWalEpoch { wal, epoch: to.epoch });
        }
        if done {
            return Err(Violation::StagedWalDone { wal });
        }
        let from = staging.flushed(wal);
        if to <= from { Err(Violation::FlushNotAdvancing { wal, from, to }) } else { Ok(()) }
    }

    pub(super) fn remap_staged(&mut self, slot: Slot, remap: &RemapStaged, segments: &Segments) -> Result<(), Violation> {
        let mut staging = self.staging_of(remap.txn)?;
        let txn = remap.txn;
        if staging.stage.target.is_none() {
            return Err(Violation::NotATarget { txn });
        }
        if staging.remap.is_some() {
            return Err(Violation::RemapTwice { txn });
        }
        if self.is_drained() != Some(true) {
            return Err(Violation::NotDrained { txn });
        }
        let mut files: Vec<StagedFile> = Vec::new();
        for segment in &remap.segments {
            files.extend_from_slice(self.segment_files(slot, segment, segments)?);
        }
        // As they are written: one run.
        files.sort_by_key(StagedFile::key);
        if let Some(pair) = files.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            return Err(Violation::RemapDuplicate { file: pair[0].key() });
        }
        self.check_remapped(&files, &staging)?;
        let set_hash = files.iter().fold(SetHash::EMPTY, |hash, staged| hash.with(MemberHash::of(staged.reference())));
        if set_hash != remap.set_hash {
            return Err(Violation::RemapHash { expected: remap.set_hash, found: set_hash });
        }
        let mut remaps = Vec::clone(&self.remaps);
        remaps.push((slot, remap.segments.clone()));
        self.remaps = Arc::new(remaps);
        staging.remap = Some(Remap { segments: remap.segments.clone().into(), files: files.into(), set_hash });
        self.staging = Some(Arc::new(staging));
        Ok(())
    }

    fn segment_files<'a>(&self, slot: Slot, segment: &SegmentRef, segments: &'a Segments) -> Result<&'a [StagedFile], Violation> {
        let name = || segment.file.to_string();
        if segment.file.epoch != slot.epoch {
            return Err(Violation::SegmentNotBornHere { segment: name(), epoch: slot.epoch });
        }
        let files = segments.get(segment).ok_or_else(|| Violation::SegmentNotRead { segment: name() })?;
        let found = files.len() as u64;
        if found == segment.rows { Ok(files) } else { Err(Violation::SegmentRows { segment: name(), expected: segment.rows, found }) }
    }

    /// Whether references, ascending by key, may be those that the region gets by its repartition.
    fn check_remapped(&self, files: &[StagedFile], staging: &Staging) -> Result<(), Violation> {
        let mut visible = self.books.visible.keys().peekable();
        for staged in files {
            let file = staged.key();
            if self.books.doomed.contains_key(&file) {
                return Err(Violation::RemapDoomed { file });
            }
            // Files that were born here are known here, or were never committed.
            if file.origin == self.region {
                while visible.next_if(|key| *key < file).is_some() {}
                if visible.peek() != Some(&file) && !self.books.knows(&file) {
                    return Err(Violation::FileNotListed { file });
                }
            }
            if staging.added.contains_key(&file) {
                return Err(Violation::FileListedBefore { file });
            }
            let (newest, generation) = (staged.meta().sequences.1.generation(), staging.stage.generation);
            if newest >= generation {
                return Err(Violation::StagedFileGeneration { file, found: newest, staged: generation });
            }
        }
        Ok(())
    }

    pub(super) fn resolve(&mut self, slot: Slot, resolve: &Resolve) -> Result<(), Violation> {
        self.check_live()?;
        match resolve.decision {
            Decision::Commit => {
                let staging = self.staging_of(resolve.txn)?;
                self.check_generation(resolve.base)?;
                self.resolve_commit(slot, staging)
            }
            Decision::Abort { generation } => self.resolve_abort(resolve, generation),
        }
    }

    fn resolve_commit(&mut self, slot: Slot, staging: Staging) -> Result<(), Violation> {
        let stage = &staging.stage;
        if self.is_drained() != Some(true) {
            return Err(Violation::NotDrained { txn: stage.txn });
        }
        self.set_generation(stage.generation, |meta| {
            if let Some(target) = &stage.target {
                meta.rule = Arc::clone(&target.rule);
                meta.partition_columns.clone_from(&target.partition_columns);
            }
        })?;
        let floor = Sequence::new(stage.generation, 0).unwrap_or(Sequence::ZERO);
        self.flushed_sequence = self.flushed_sequence.max(staging.sequence.unwrap_or(floor));
        let mut wals = Vec::clone(&self.wals);
        for wal in &mut wals {
            wal.flushed = wal.flushed.max(staging.flushed(wal.id));
            wal.epochs.retain(|epoch| *epoch >= wal.flushed.epoch);
        }
        self.wals = Arc::new(wals);
        self.staging = None;
        self.repartitioned = Some(slot);
        if stage.target.is_none() {
            self.books.remove_all(slot);
            self.retired = true;
            return Ok(());
        }
        let remap = staging.remap.as_ref().ok_or(Violation::NoRemap { txn: stage.txn })?;
        self.relist(slot, remap, &staging.added);
        Ok(())
    }

    /// Makes exactly these references visible. A file that was listed before keeps the version that listed it
    /// first, so that pins of that time go on protecting it.
    fn relist(&mut self, slot: Slot, remap: &Remap, added: &OrdMap<FileKey, StagedFile>) {
        let before = std::mem::take(&mut self.books.visible);
        self.books.remove_all(slot);
        let mut staged: Vec<&StagedFile> = remap.files.iter().chain(added.values()).collect();
        // Two runs, each in order.
        staged.sort_by_key(|staged| staged.key());
        let mut restored = self.books.take_removed(&staged).into_iter().peekable();
        let mut before = before.iter().peekable();
        let mut listed = Vec::with_capacity(staged.len());
        for staged in staged {
            let key = staged.key();
            while let Some((gone, Listed { file, since })) = before.next_if(|(before, _)| *before < key) {
                self.books.removed.insert(gone, Removed { file, since, by: slot });
            }
            let since = match before.next_if(|(before, _)| *before == key) {
                Some((_, listed)) => listed.since,
                None => restored.next_if(|(restored, _)| *restored == key).map_or(slot, |(_, since)| since),
            };
            listed.push(Listed { file: Arc::clone(staged.reference()), since });
        }
        for (gone, Listed { file, since }) in before {
            self.books.removed.insert(gone, Removed { file, since, by: slot });
        }
        self.books.list_all(&listed);
    }

    fn resolve_abort(&mut self, resolve: &Resolve, generation: Generation) -> Result<(), Violation> {
        self.check_generation(resolve.base)?;
        if generation <= resolve.base {
            return Err(Violation::GenerationNotAbove { from: resolve.base, to: generation });
        }
        if let Some(staging) = &self.staging {
            if staging.stage.txn != resolve.txn {
                return Err(Violation::NotStaged { txn: resolve.txn });
            }
            if !staging.added.is_empty() || staging.remap.is_some() || !staging.flushed.is_empty() {
                return Err(Violation::StagedRows { txn: resolve.txn });
            }
        }
        self.staging = None;
        self.set_generation(generation, |_| ())
    }
}
