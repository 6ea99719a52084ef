//! Histories as they may really happen: the next record for a state, drawn from a seed.

use std::sync::Arc;

use bytes::Bytes;
use ulid::Ulid;

use super::random::Random;
use super::sample::{OTHER_REGION, REGION, WAL, below, file_of, generation, meta};
use crate::action::{
    Action, Change, Decision, Doom, Drop, Edit, Fence, Floor, Flushed, RemapStaged, Resolve, Retire, SegmentRef, Stage, StageTarget,
    StagedEdit, Truncate, Unpin,
};
use crate::checkpoint::encode_segment;
use crate::file::{FileRef, Scope, StagedFile};
use crate::id::{FileId, FileKey, Generation, RegionId, Sequence, Slot, TxnId};
use crate::meta::RegionMeta;
use crate::set_hash::{MemberHash, SetHash};
use crate::state::{RegionState, Row, Segments, Staging};
use crate::wal::WalPosition;

/// A record to commit, once its segments are on the store.
#[derive(Debug, Default)]
pub(crate) struct Proposal {
    pub(crate) actions: Vec<Action>,
    pub(crate) segments: Vec<(SegmentRef, Bytes)>,
    pub(crate) content: Segments,
}

impl From<Action> for Proposal {
    fn from(action: Action) -> Self {
        Self { actions: vec![action], ..Self::default() }
    }
}

/// What may be committed in `slot` after `state`; `None` once the region has ended. Everything proposed is valid.
pub(crate) fn propose(state: &RegionState, slot: Slot, random: &mut Random) -> Option<Proposal> {
    if state.is_dropped() || state.is_retired() {
        return None;
    }
    Some(match state.staging() {
        Some(staging) => staged(state, staging, slot, random),
        None => unstaged(state, slot, random),
    })
}

fn unstaged(state: &RegionState, slot: Slot, random: &mut Random) -> Proposal {
    match random.below(100) {
        0..5 => change(state, random).into(),
        5..9 => truncate(state).into(),
        9..18 => floor(state, random).into(),
        18..26 => doom(state, slot, random),
        26..30 => match state.pins().keys().next() {
            Some(name) => Action::Unpin(Unpin { name: name.clone() }).into(),
            None => edit(state, slot, random).into(),
        },
        30..40 => stage(state, random).into(),
        40 if random.chance(1, 2) => match random.chance(1, 2) {
            true => Action::Drop(Drop {}).into(),
            false => Action::Retire(Retire {}).into(),
        },
        _ => edit(state, slot, random).into(),
    }
}

fn staged(state: &RegionState, staging: &Staging, slot: Slot, random: &mut Random) -> Proposal {
    let drained = state.is_drained() == Some(true);
    let (txn, target) = (staging.stage.txn, staging.stage.target.is_some());
    let base = staging.stage.base;
    let done = drained && (staging.remap().is_some() || !target);
    match random.below(10) {
        0..2 if !drained => drain(state, staging, slot, random).into(),
        2..5 if target => staged_edit(staging, slot, random).into(),
        5 if staging.added().is_empty() && staging.remap().is_none() && staging.flushed(WAL) <= fence_of(staging) => {
            let generation = generation(staging.stage.generation.as_u32() + 1);
            Action::Resolve(Resolve { txn, base, decision: Decision::Abort { generation } }).into()
        }
        _ if !drained => drain(state, staging, slot, random).into(),
        _ if done => Action::Resolve(Resolve { txn, base, decision: Decision::Commit }).into(),
        _ => remap(state, staging, slot, random),
    }
}

fn current(state: &RegionState) -> Generation {
    state.meta().unwrap().generation
}

fn new_file(slot: Slot, newest: Sequence, random: &mut Random) -> Arc<FileRef> {
    let file = FileId::new(slot.epoch, Ulid(random.next().into()));
    file_of(FileKey { origin: REGION, file }, newest)
}

fn next_sequence(state: &RegionState) -> Sequence {
    Sequence::new(current(state), state.flushed_sequence().counter() + 1).unwrap()
}

fn flushed_at(state: &RegionState) -> WalPosition {
    state.wals().iter().find(|wal| wal.id == WAL).map_or(WalPosition::START, |wal| wal.flushed)
}

fn after(position: WalPosition, by: u64) -> WalPosition {
    WalPosition { epoch: crate::id::Epoch(1), entry: position.entry + by }
}

fn flush_to(position: WalPosition) -> Flushed {
    Flushed { wal: WAL, position, done: false }
}

/// Some of `keys`, at most `max`.
fn some<T: Copy>(keys: impl Iterator<Item = T>, max: u64, random: &mut Random) -> Vec<T> {
    let mut keys: Vec<T> = keys.collect();
    random.shuffle(&mut keys);
    keys.truncate(random.below(max + 1) as usize);
    keys
}

fn edit(state: &RegionState, slot: Slot, random: &mut Random) -> Action {
    let sequence = next_sequence(state);
    let add = (0..random.below(4)).map(|_| new_file(slot, sequence, random)).collect();
    let mut edit = Edit { add, sequence: Some(sequence), ..Edit::new(current(state)) };
    if random.chance(1, 2) {
        edit.flushed = vec![flush_to(after(flushed_at(state), 1 + random.below(3)))];
    }
    if random.chance(1, 2) {
        edit.remove = some(state.files().keys(), 3, random);
    }
    if random.chance(1, 4) {
        let retained = state.removed().iter().filter(|(_, removed)| state.is_restorable(removed)).map(|(key, _)| *key);
        edit.restore = some(retained, 2, random);
    }
    Action::Edit(edit)
}

fn change(state: &RegionState, random: &mut Random) -> Action {
    let table = format!("t{}", random.below(1000));
    Action::Change(Change { meta: Arc::new(RegionMeta { table, ..RegionMeta::clone(state.meta().unwrap_or(&meta("t"))) }) })
}

fn truncate(state: &RegionState) -> Action {
    let flushed = vec![flush_to(after(flushed_at(state), 1))];
    Action::Truncate(Truncate { generation: current(state), flushed, sequence: next_sequence(state) })
}

fn floor(state: &RegionState, random: &mut Random) -> Action {
    let version = state.version().unwrap();
    let to = Slot::new(version.epoch, version.seq.saturating_sub(random.below(8)));
    Action::Floor(Floor { version: to.max(state.floor()) })
}

fn doom(state: &RegionState, slot: Slot, random: &mut Random) -> Proposal {
    let ended = || state.removed().iter().filter(|(_, removed)| !state.is_retained(removed)).map(|(key, _)| *key);
    let files = some(ended().filter(|key| key.origin == REGION), 3, random);
    let foreign = ended().filter(|key| key.origin != REGION);
    let past = state.doomed().keys().copied().filter(|key| key.file.epoch < slot.epoch);
    let forget = some(foreign.chain(past), 2, random);
    Action::Doom(Doom { files, forget }).into()
}

fn stage(state: &RegionState, random: &mut Random) -> Action {
    let base = current(state);
    let target = random.chance(19, 20).then(|| StageTarget { rule: Arc::new(below("m")), partition_columns: vec![] });
    let by = random.below(3);
    let fence = state.wals().iter().map(|wal| Fence { wal: wal.id, position: if by == 0 { wal.flushed } else { after(wal.flushed, by) } });
    Action::Stage(Stage {
        txn: TxnId(Ulid(random.next().into())),
        base,
        generation: generation(base.as_u32() + 1),
        target,
        fence: fence.collect(),
        schema_version: state.meta().unwrap().schema.version(),
    })
}

fn fence_of(staging: &Staging) -> WalPosition {
    staging.fence(WAL).unwrap_or(WalPosition::START)
}

/// A flush of what is before the fence: a part of it, or all.
fn drain(state: &RegionState, staging: &Staging, slot: Slot, random: &mut Random) -> Action {
    let sequence = next_sequence(state);
    let add = (0..random.below(3)).map(|_| new_file(slot, sequence, random)).collect();
    let (from, to) = (flushed_at(state), fence_of(staging));
    let to = if random.chance(1, 2) { to } else { after(from, 1).min(to) };
    Action::Edit(Edit { add, flushed: vec![flush_to(to)], sequence: Some(sequence), ..Edit::new(current(state)) })
}

fn staged_edit(staging: &Staging, slot: Slot, random: &mut Random) -> Action {
    let generation = staging.stage.generation;
    let counter = staging.flushed_sequence().map_or(0, Sequence::counter) + 1;
    let sequence = Sequence::new(generation, counter).unwrap();
    let add = (0..1 + random.below(2)).map(|_| new_file(slot, sequence, random)).collect();
    let flushed = vec![flush_to(after(staging.flushed(WAL), 1))];
    Action::StagedEdit(StagedEdit { txn: staging.stage.txn, generation, add, flushed, sequence: Some(sequence) })
}

/// A remap to some of the files that are visible, some that were removed, and some of another region.
fn remap(state: &RegionState, staging: &Staging, slot: Slot, random: &mut Random) -> Proposal {
    let mut files: Vec<Arc<FileRef>> = state.files().iter().map(|(_, listed)| listed.file).collect();
    files.extend(state.removed().values().map(|removed| Arc::clone(&removed.file)));
    random.shuffle(&mut files);
    files.truncate(random.below(7) as usize);
    files.extend((0..random.below(3)).map(|_| {
        let foreign = new_file(slot, Sequence::new(Generation::FIRST, 1).unwrap(), random);
        let origin: RegionId = OTHER_REGION;
        Arc::new(FileRef { key: FileKey { origin, ..foreign.key }, ..FileRef::clone(&foreign) })
    }));
    let mut staged: Vec<StagedFile> = files
        .into_iter()
        .map(|file| match random.chance(1, 3) {
            true => StagedFile::new(Arc::new(FileRef { scope: Scope::new(below("k")), ..FileRef::clone(&file) })),
            false => StagedFile::new(file),
        })
        .collect();
    staged.sort_by_key(StagedFile::key);
    let mut proposal = Proposal::default();
    for part in staged.chunks(4) {
        let rows: Vec<Row> = part.iter().cloned().map(Row::Remapped).collect();
        let bytes = encode_segment(&rows);
        let file = FileId::new(slot.epoch, Ulid(random.next().into()));
        let segment = SegmentRef { file, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: part.len() as u64 };
        proposal.segments.push((segment, bytes));
        proposal.content.insert(segment, part.to_vec());
    }
    let set_hash = staged.iter().fold(SetHash::EMPTY, |hash, staged| hash.with(MemberHash::of(staged.reference())));
    let segments = proposal.segments.iter().map(|(segment, _)| *segment).collect();
    proposal.actions = vec![Action::RemapStaged(RemapStaged { txn: staging.stage.txn, segments, set_hash })];
    proposal
}
