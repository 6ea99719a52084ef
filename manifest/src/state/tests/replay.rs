//! Histories as they may really happen, repartitions included, drawn from seeds: what replay gives, what checkpoints
//! hold, and what both give together.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::action::{Action, CheckpointRef, Checkpointed, Pin, Seal, SegmentRef};
use crate::checkpoint::{Dirty, Piece, Root, SegmentDecoder, SegmentEntry, encode_segment, plan};
use crate::id::{Epoch, FileId, FileKey, Nonce, Slot};
use crate::set_hash::{MemberHash, SetHash};
use crate::state::{RegionState, Row, Segments};
use crate::testing::history::{Proposal, propose};
use crate::testing::random::Random;
use crate::testing::sample::{REGION, WAL, meta};
use crate::wal::{WalPosition, WalRef};
use ulid::Ulid;

/// One record of a history.
struct Step {
    slot: Slot,
    actions: Vec<Action>,
    content: Segments,
}

impl Step {
    fn apply(&self, state: &RegionState) -> RegionState {
        state.apply_record_with(self.slot, &self.actions, &self.content).unwrap_or_else(|error| panic!("{}: {error}", self.slot))
    }
}

fn open(epoch: Epoch, wals: Vec<WalRef>) -> Action {
    let node = crate::id::NodeId(1);
    Action::Open(crate::action::Open { writer: Nonce(epoch.0.into()), node, wal: Some(WAL), wals, abandoned: vec![] })
}

fn first() -> Step {
    let wals = vec![WalRef { id: WAL, epochs: vec![Epoch(1)], flushed: WalPosition::START }];
    let actions = vec![open(Epoch(1), wals), Action::Change(crate::action::Change { meta: meta("t") })];
    Step { slot: Slot::new(Epoch(1), 0), actions, content: Segments::new() }
}

/// What may come next: a take-over, a note of history, or whatever else is valid.
fn next(state: &RegionState, random: &mut Random) -> Option<Step> {
    let version = state.version().unwrap();
    if state.is_sealed() {
        let slot = version.next_epoch();
        return Some(Step { slot, actions: vec![open(slot.epoch, state.wals().to_vec())], content: Segments::new() });
    }
    let slot = version.next();
    let checkpoint = CheckpointRef { version, crc32: 5, bytes: 500, time_ms: 9 };
    let proposal: Proposal = match random.below(20) {
        0 => Action::Seal(Seal { by: Nonce(99), clean: false }).into(),
        1 if state.checkpoints().last().is_none_or(|last| last.version < version) => {
            Action::Checkpointed(Checkpointed { checkpoint }).into()
        }
        2 if !state.pins().contains_key("p") => Action::Pin(Pin { name: "p".into(), checkpoint, expires_unix_ms: None }).into(),
        _ => propose(state, slot, random)?,
    };
    Some(Step { slot, actions: proposal.actions, content: proposal.content })
}

/// The rows of a state, in pages.
fn all_rows(state: &RegionState, page: usize) -> Vec<Row> {
    let (mut rows, mut from) = (Vec::new(), None);
    loop {
        let (more, next) = state.rows_from(from, None, page);
        rows.extend(more);
        match next {
            None => return rows,
            next => from = next,
        }
    }
}

/// Checkpoints that write only what changed, as the real ones do, kept in memory.
#[derive(Default)]
struct Incremental {
    entries: Vec<SegmentEntry>,
    rows: BTreeMap<FileId, Vec<Row>>,
    dirty: Dirty,
    kept: usize,
}

impl Incremental {
    fn write(&mut self, first: FileKey, rows: Vec<Row>) -> SegmentEntry {
        let file = FileId::new(Epoch(1), Ulid(self.rows.len() as u128));
        let segment = SegmentRef { file, crc32: 0, bytes: 1, rows: rows.len() as u64 };
        self.rows.insert(file, rows);
        SegmentEntry { first, segment }
    }

    /// All rows of a checkpoint of `state`.
    fn checkpoint(&mut self, state: &RegionState) -> Vec<Row> {
        let mut entries = Vec::new();
        for piece in plan(&self.entries, &self.dirty, 2) {
            match piece {
                Piece::Keep(entry) => {
                    self.kept += 1;
                    entries.push(entry);
                }
                Piece::Write { mut from, to } => loop {
                    let (rows, next) = state.rows_from(from, to, 4);
                    let Some(first) = rows.first().map(Row::key) else { break };
                    let entry = self.write(first, rows);
                    entries.push(entry);
                    if next.is_none() {
                        break;
                    }
                    from = next;
                },
            }
        }
        self.entries = entries;
        self.dirty.forget(state.version().unwrap());
        self.entries.iter().flat_map(|entry| self.rows[&entry.segment.file].clone()).collect()
    }
}

/// The state as it is once its checkpoint was written to the store and read again.
fn through_bytes(state: &RegionState) -> RegionState {
    let (mut segments, mut from) = (Vec::new(), None);
    let mut decoder = SegmentDecoder::default();
    loop {
        let (rows, next) = state.rows_from(from, None, 5);
        if !rows.is_empty() {
            let bytes = encode_segment(&rows);
            let file = FileId::new(Epoch(1), Ulid(segments.len() as u128));
            let named = SegmentRef { file, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: rows.len() as u64 };
            assert_eq!(decoder.decode(&named, &bytes).unwrap(), rows);
            segments.push(decoder.decode_columns(&named, &bytes).unwrap());
        }
        if next.is_none() {
            break;
        }
        from = next;
    }
    let version = state.version().unwrap();
    let root = Root { commit_id: Nonce(1), time_ms: 2, image: state.image().unwrap(), segments: vec![] };
    let root = Root::decode(REGION, version, &root.encode()).unwrap();
    RegionState::from_segments(root.image, segments).unwrap()
}

fn check_sums(state: &RegionState) {
    let hash = state.files().iter().fold(SetHash::EMPTY, |hash, (_, listed)| hash.with(MemberHash::of(&listed.file)));
    assert_eq!(state.set_hash(), hash);
    let rows: u64 = state.files().iter().map(|(_, listed)| listed.file.meta.rows).sum();
    assert_eq!(state.totals().rows, rows);
    for key in state.files().keys() {
        assert!(!state.removed().contains_key(&key) && !state.doomed().contains_key(&key), "{key} is listed twice");
    }
    assert!(state.removed().keys().all(|key| !state.doomed().contains_key(key)));
}

/// What a history reached.
#[derive(Debug, Default)]
struct Reached {
    records: usize,
    checkpoints: usize,
    kept: usize,
    resolved: usize,
    ended: usize,
}

/// Runs a history of at most `records`; checks every state, and every checkpoint with everything after it.
fn run(seed: u64, records: usize, reached: &mut Reached) {
    let mut random = Random::new(seed);
    let mut steps = vec![first()];
    let mut state = steps[0].apply(&RegionState::empty(REGION));
    let mut incremental = Incremental::default();
    // States that came out of checkpoints, and are replayed along.
    let mut restored: Vec<RegionState> = Vec::new();
    while steps.len() < records {
        let Some(step) = next(&state, &mut random) else {
            reached.ended += 1;
            break;
        };
        incremental.dirty.record(step.slot, &step.actions);
        let after = step.apply(&state);
        reached.resolved += usize::from(state.staging().is_some() && after.staging().is_none());
        for old in &mut restored {
            *old = step.apply(old);
            assert_eq!(old, &after, "checkpoint and tail, at {}", step.slot);
        }
        (state, _) = (after, steps.push(step));
        check_sums(&state);
        let Some(image) = state.image() else { continue };
        if random.chance(1, 4) {
            let rows = incremental.checkpoint(&state);
            assert_eq!(rows, all_rows(&state, 3), "an incremental checkpoint is not the whole one");
            assert_eq!(RegionState::from_image(image, rows).unwrap(), state);
            reached.checkpoints += 1;
            if random.chance(1, 3) {
                restored.push(through_bytes(&state));
                assert_eq!(restored.last(), Some(&state));
            }
        }
    }
    reached.records += steps.len();
    reached.kept += incremental.kept;
    let replayed = steps.iter().fold(RegionState::empty(REGION), |state, step| step.apply(&state));
    assert_eq!(replayed, state);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn checkpoint_and_tail_are_the_replay_from_zero(seed in any::<u64>(), records in 1_usize..80) {
        run(seed, records, &mut Reached::default());
    }
}

#[test]
fn histories_reach_what_they_should() {
    let mut reached = Reached::default();
    for seed in 0..20 {
        run(seed, 120, &mut reached);
    }
    println!("{reached:?}");
    let Reached { records, checkpoints, kept, resolved, ended } = reached;
    assert!(records > 1000 && checkpoints > 100 && kept > 100 && resolved > 10 && ended > 0, "{reached:?}");
}
