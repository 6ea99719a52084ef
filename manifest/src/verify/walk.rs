//! The walk over the records and checkpoints of a listing, in slot order.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;

use super::{Progress, Report, chain, newest, what};
use crate::action::{Action, CheckpointRef, SegmentRef};
use crate::body::Body;
use crate::checkpoint::{Root, read_root, read_segments, read_state};
use crate::error::Error;
use crate::file::StagedFile;
use crate::id::{Epoch, FileId, Nonce, RegionId, Slot};
use crate::limits;
use crate::log::Context;
use crate::slot::{Kind, Listing, Record, SlotStore};
use crate::state::{RegionState, Row, Segments};

/// How far replay has come.
enum Cursor {
    /// No record yet.
    Start,
    /// The state after this commit.
    At(Box<RegionState>, Nonce),
    /// Not known, until the next readable checkpoint.
    Lost,
}

impl Cursor {
    fn expected(&self) -> Option<Slot> {
        match self {
            Self::Start => Some(Slot::new(Epoch(1), 0)),
            Self::At(state, _) => state.version().map(|at| if state.is_sealed() { at.next_epoch() } else { at.next() }),
            Self::Lost => None,
        }
    }

    /// The state, if it is that of `version`.
    fn state_at(&self, version: Slot) -> Option<&RegionState> {
        match self {
            Self::At(state, _) if state.version() == Some(version) => Some(state),
            _ => None,
        }
    }
}

/// See the module.
pub(super) struct Walk<'a> {
    context: &'a Context,
    region: RegionId,
    store: &'a SlotStore,
    progress: &'a dyn Progress,
    report: Report,
    cursor: Cursor,
    /// Where a record was expected and the next one that there is, to be judged at the end.
    gaps: Vec<(Slot, Slot)>,
    /// Checkpoints without the record that they stand for, to be judged at the end.
    unbacked: Vec<Slot>,
    good: BTreeMap<Slot, CheckpointRef>,
    segments: BTreeSet<FileId>,
    /// Segments whose damage has been reported.
    damaged: BTreeSet<FileId>,
    /// Readable or not: retention deletes only behind a checkpoint.
    newest_checkpoint: Option<Slot>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(context: &'a Context, region: RegionId, store: &'a SlotStore, progress: &'a dyn Progress) -> Self {
        Self {
            context,
            region,
            store,
            progress,
            report: Report::new(region),
            cursor: Cursor::Start,
            gaps: Vec::new(),
            unbacked: Vec::new(),
            good: BTreeMap::new(),
            segments: BTreeSet::new(),
            damaged: BTreeSet::new(),
            newest_checkpoint: None,
        }
    }

    pub(super) async fn run(&mut self, listing: Listing) {
        self.newest_checkpoint = listing.checkpoints.last().copied();
        let mut checkpoints = listing.checkpoints.into_iter().peekable();
        let store = self.store.clone();
        let reads = listing.slots.into_iter().map(move |slot| {
            let store = store.clone();
            async move { (slot, store.read(slot).await) }
        });
        let mut reads = futures::stream::iter(reads).buffered(limits::PARALLEL_READS_MAX);
        while let Some((slot, read)) = reads.next().await {
            while let Some(version) = checkpoints.next_if(|version| *version < slot) {
                self.unbacked.push(version);
                self.checkpoint(version, Some(slot)).await;
            }
            self.read(slot, read).await;
            if checkpoints.next_if_eq(&slot).is_some() {
                self.checkpoint(slot, None).await;
            }
            self.progress.done(1);
        }
        for version in checkpoints {
            self.unbacked.push(version);
            self.checkpoint(version, None).await;
        }
    }

    async fn read(&mut self, slot: Slot, read: Result<Option<Record>, Error>) {
        let record = match read {
            Ok(Some(record)) => record,
            // Retention has freed it since; what that means, the gap says.
            Ok(None) => return,
            Err(error) => {
                self.report.records += 1;
                self.cursor = Cursor::Lost;
                return self.report.problem(&self.store.path(slot), what(&error));
            }
        };
        self.report.records += 1;
        let body = match Body::decode(&record.body) {
            Ok(body) => body,
            Err(reason) => {
                self.cursor = Cursor::Lost;
                return self.report.problem(&self.store.path(slot), format!("the body cannot be read: {reason}"));
            }
        };
        match self.cursor.expected() {
            None => {}
            Some(expected) if slot == expected => self.replay(&record, &body).await,
            // The first seal ends an epoch; others may stand beyond it.
            Some(expected) if slot < expected && record.kind == Kind::Seal => {}
            Some(expected) if slot < expected => {
                self.report.problem(&self.store.path(slot), "stands beyond the seal of its epoch, and is no seal");
            }
            // Put ahead of a busy writer by an opener that did not come to fill the gap.
            Some(expected) if record.kind == Kind::Seal && record.prev.is_none() && slot.epoch == expected.epoch => {}
            Some(expected) => {
                self.gaps.push((expected, slot));
                self.cursor = Cursor::Lost;
            }
        }
    }

    async fn replay(&mut self, record: &Record, body: &Body) {
        let (state, before) = match std::mem::replace(&mut self.cursor, Cursor::Lost) {
            Cursor::At(state, commit) => (*state, Some(commit)),
            Cursor::Start | Cursor::Lost => (RegionState::empty(self.region), None),
        };
        match self.apply(state, before, record, body).await {
            Ok(next) => {
                self.report.replayed += 1;
                self.cursor = Cursor::At(Box::new(next), record.commit_id);
            }
            Err(what) => self.report.problem(&self.store.path(record.slot), what),
        }
    }

    async fn apply(&self, state: RegionState, before: Option<Nonce>, record: &Record, body: &Body) -> Result<RegionState, String> {
        let ahead = record.kind == Kind::Seal && record.prev.is_none();
        if !ahead && record.prev != before {
            let name = |commit: Option<Nonce>| commit.map_or_else(|| "none".to_owned(), |commit| format!("commit {commit}"));
            return Err(format!("follows {}, but the record before it is {}", name(record.prev), name(before)));
        }
        let kind = match body.actions.first() {
            Some(Action::Open(_)) => Kind::Open,
            Some(Action::Seal(_)) => Kind::Seal,
            _ => Kind::Data,
        };
        if kind != record.kind {
            return Err(format!("the header says {:?}, the actions say {kind:?}", record.kind));
        }
        let segments = self.segments_of(&body.actions).await.map_err(|error| match error {
            Error::MissingRecord { path } => format!("names the segment '{path}', which is not there"),
            error => chain(&error),
        })?;
        let next = state.apply_record_with(record.slot, &body.actions, &segments).map_err(|error| format!("cannot be applied: {error}"))?;
        if !ahead && next.set_hash() != body.set_hash {
            return Err(format!("after it the file set hashes to {}, its writer recorded {}", next.set_hash(), body.set_hash));
        }
        Ok(next)
    }

    async fn segments_of(&self, actions: &[Action]) -> Result<Segments, Error> {
        let mut segments = Segments::new();
        let remaps = actions.iter().filter_map(|action| match action {
            Action::RemapStaged(remap) => Some(&remap.segments),
            _ => None,
        });
        for segment in remaps.flatten() {
            let rows = read_segments(self.context, self.region, &[*segment]).await?.into_iter().flatten();
            let staged = rows.filter_map(|row| match row {
                Row::Remapped(file) => Some(file),
                _ => None,
            });
            segments.insert(*segment, staged.collect::<Vec<StagedFile>>());
        }
        Ok(segments)
    }

    /// Checks the checkpoint of `version`, and lets replay go on with it if it has no state, or none that the record
    /// in `next` follows.
    async fn checkpoint(&mut self, version: Slot, next: Option<Slot>) {
        self.report.checkpoints += 1;
        let path = self.store.checkpoint_path(version);
        let (root, reference) = match read_root(self.context, self.region, version).await {
            Ok(read) => read,
            Err(error) => return self.unreadable(version, error),
        };
        let commit = root.commit_id;
        let named: Vec<SegmentRef> = root.segments.iter().map(|entry| entry.segment).collect();
        self.segments.extend(named.iter().map(|segment| segment.file));
        let state = match self.state_of(root, &named).await {
            Ok(state) => state,
            Err(None) => return,
            Err(Some(error)) => return self.unreadable(version, error),
        };
        self.good.insert(version, reference);
        match (self.cursor.state_at(version), &self.cursor) {
            (Some(replayed), Cursor::At(_, last)) => {
                self.report.compared += 1;
                if let Some(what) = difference(replayed, &state) {
                    self.report.problem(&path, format!("is not the state that the records give: {what}"));
                } else if *last != commit {
                    self.report.problem(&path, format!("stands for commit {commit}, but the record in its slot is commit {last}"));
                }
            }
            _ => {
                let goes_on = next.is_some() && self.cursor.expected() == next;
                let lost = matches!(self.cursor, Cursor::Lost);
                if lost || !goes_on {
                    self.cursor = Cursor::At(Box::new(state), commit);
                }
            }
        }
    }

    fn unreadable(&mut self, version: Slot, error: Error) {
        // One that is gone since the LIST: whether it may be is judged with those that must be there.
        if !matches!(error, Error::MissingRecord { .. }) {
            self.report.problem(&self.store.checkpoint_path(version), what(&error));
        }
    }

    /// The state of a checkpoint. If it has none, each of its segments is looked at; `None` if that has named the problem.
    async fn state_of(&mut self, root: Root, named: &[SegmentRef]) -> Result<RegionState, Option<Error>> {
        let version = root.image.version;
        let error = match read_state(self.context, self.region, root).await {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        if let Err(gone @ Error::MissingRecord { .. }) = read_root(self.context, self.region, version).await {
            return Err(Some(gone));
        }
        let mut found = false;
        for segment in named {
            let known = self.damaged.contains(&segment.file);
            found |= known;
            if known {
                continue;
            }
            if let Err(error) = read_segments(self.context, self.region, &[*segment]).await {
                found = true;
                self.damaged.insert(segment.file);
                let what = format!("{} (a segment of the checkpoint of {version})", what(&error));
                self.report.problem(&self.context.root.segment(self.region, segment.file), what);
            }
        }
        Err((!found).then_some(error))
    }

    /// Judges what only the newest state can judge. The report, and that state if it is known.
    pub(super) async fn end(mut self) -> (Report, Option<RegionState>) {
        self.report.segments = self.segments.len() as u64;
        let state = match std::mem::replace(&mut self.cursor, Cursor::Lost) {
            Cursor::At(state, _) => Some(*state),
            Cursor::Start | Cursor::Lost => None,
        };
        self.report.version = state.as_ref().and_then(RegionState::version);
        let base = match &state {
            Some(state) => state.replay_base(),
            None => self.newest_checkpoint,
        };
        let doubtful = !self.gaps.is_empty() || !self.unbacked.is_empty() || self.must_be_there(state.as_ref()).next().is_some();
        let now = if doubtful { newest(self.context, self.region).await } else { None };
        let base = base.max(now.as_ref().and_then(RegionState::replay_base));
        for (expected, found) in std::mem::take(&mut self.gaps) {
            if base.is_none_or(|base| found > base) {
                let missing = base.map_or(expected, |base| base.max(expected));
                let what = format!("is missing although '{}' exists: restore it from a backup of the store", self.store.path(found));
                self.report.problem(&self.store.path(missing), what);
            }
        }
        for version in std::mem::take(&mut self.unbacked) {
            if base.is_none_or(|base| version >= base) {
                let what = format!("is missing although '{}' stands for it", self.store.checkpoint_path(version));
                self.report.problem(&self.store.path(version), what);
            }
        }
        let still = now.as_ref().or(state.as_ref());
        let missing: Vec<CheckpointRef> = self.must_be_there(still).collect();
        for checkpoint in missing {
            let path = self.store.checkpoint_path(checkpoint.version);
            let of_it = format!("checkpoint of {}", checkpoint.version);
            let known = self.report.problems.iter().any(|known| known.object == path.as_ref() || known.what.contains(&of_it));
            match self.good.get(&checkpoint.version) {
                Some(found) => {
                    let what = format!("has checksum {:08x}, but a record names it with {:08x}", found.crc32, checkpoint.crc32);
                    self.report.problem(&path, what);
                }
                // Damage of its root or of a segment has been reported.
                None if known => {}
                None if still.and_then(RegionState::version) == self.report.version => {
                    self.report.problem(&path, "is missing although a record names it");
                }
                // Newer than what was listed.
                None => {}
            }
        }
        (self.report, state)
    }

    /// Checkpoints that the state names and that were not found as it names them.
    fn must_be_there<'s>(&'s self, state: Option<&'s RegionState>) -> impl Iterator<Item = CheckpointRef> + 's {
        let named = state.into_iter().flat_map(|state| {
            let pins = state.pins().values().map(|pin| pin.checkpoint);
            state.checkpoints().iter().copied().chain(pins)
        });
        named.filter(|named| self.good.get(&named.version).is_none_or(|good| good.crc32 != named.crc32))
    }
}

/// What the second state says otherwise than the first.
fn difference(replayed: &RegionState, found: &RegionState) -> Option<String> {
    if replayed == found {
        return None;
    }
    let shape = |state: &RegionState| {
        format!(
            "{} files, {} removed, {} doomed, hash {}",
            state.files().len(),
            state.removed().len(),
            state.doomed().len(),
            state.set_hash()
        )
    };
    let (replayed, found) = (shape(replayed), shape(found));
    Some(if replayed == found { "the same references, but other facts".to_owned() } else { format!("{found} instead of {replayed}") })
}
