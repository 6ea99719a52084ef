//! Tests of a region's part in a repartition.

use std::collections::BTreeMap;

use super::super::books::Books;
use super::*;
use crate::action::{Decision, Fence, RemapStaged, Resolve, Retire, Stage, StageTarget, StagedEdit};
use crate::file::Removed;
use crate::id::TxnId;
use crate::rule::CompareOp;
use crate::set_hash::MemberHash;
use crate::value::Value;

const TXN: TxnId = TxnId(Ulid(1));
const STAGED: u32 = 2;
const ABORT: u32 = 3;

fn generation(number: u32) -> Generation {
    Generation::new(number).unwrap()
}

fn new_rule() -> Arc<Expr> {
    Arc::new(Expr::Compare { column: ColumnId(0), op: CompareOp::Lt, value: Value::String("m".into()) })
}

pub(super) fn stage(txn: TxnId, target: bool, fence: WalPosition) -> Stage {
    let target = target.then(|| StageTarget { rule: new_rule(), partition_columns: vec![ColumnId(0)] });
    let fence = vec![Fence { wal: WAL, position: fence }];
    Stage { txn, base: Generation::FIRST, generation: generation(STAGED), target, fence, schema_version: meta(1).schema.version() }
}

/// A file of staged rows with counters up to its ulid.
fn staged_file(epoch: u32, ulid: u128) -> Arc<FileRef> {
    let mut staged = FileRef::clone(&file(epoch, ulid, 0));
    let newest = Sequence::new(generation(STAGED), u64::try_from(ulid).unwrap()).unwrap();
    staged.meta.sequences = (Sequence::new(generation(STAGED), 0).unwrap(), newest);
    staged.meta.generation = generation(STAGED);
    Arc::new(staged)
}

pub(super) fn staged_edit(txn: TxnId, ulids: &[u128], to: WalPosition) -> Action {
    let add: Vec<_> = ulids.iter().map(|ulid| staged_file(1, *ulid)).collect();
    let sequence = add.iter().map(|file| file.meta.sequences.1).max();
    let flushed = vec![Flushed { wal: WAL, position: to, done: false }];
    Action::StagedEdit(StagedEdit { txn, generation: generation(STAGED), add, flushed, sequence })
}

/// A remap to the first `files` files of another region, and the content of its one segment.
pub(super) fn remap(txn: TxnId, epoch: u32, files: usize) -> (RemapStaged, (SegmentRef, Vec<StagedFile>)) {
    let other = RegionId::new(TableId(1024), RegionNumber(9));
    let content: Vec<StagedFile> = (0..files as u128)
        .map(|ulid| {
            let mut foreign = FileRef::clone(&file(1, ulid, 0));
            foreign.key.origin = other;
            foreign.scope = Scope::new(Expr::clone(&new_rule()));
            StagedFile::new(Arc::new(foreign))
        })
        .collect();
    remap_to(txn, epoch, content)
}

fn remap_to(txn: TxnId, epoch: u32, content: Vec<StagedFile>) -> (RemapStaged, (SegmentRef, Vec<StagedFile>)) {
    let rows = content.len() as u64;
    let segment = SegmentRef { file: FileId::new(Epoch(epoch), Ulid(rows.into())), crc32: 7, bytes: 70, rows };
    let set_hash = content.iter().fold(SetHash::EMPTY, |hash, staged| hash.with(MemberHash::of(staged.reference())));
    (RemapStaged { txn, segments: vec![segment], set_hash }, (segment, content))
}

fn commit_remap(state: &RegionState, remap: (RemapStaged, (SegmentRef, Vec<StagedFile>))) -> Result<RegionState, Violation> {
    let segments = Segments::from([remap.1]);
    state.apply_record_with(state.version().unwrap().next(), &[Action::RemapStaged(remap.0)], &segments)
}

pub(super) fn resolve(txn: TxnId, base: u32, decision: Decision) -> Action {
    Action::Resolve(Resolve { txn, base: generation(base), decision })
}

fn abort(txn: TxnId) -> Action {
    resolve(txn, 1, Decision::Abort { generation: generation(ABORT) })
}

/// One visible file, flushed up to entry 3, staged with the fence at entry `fence`.
fn staged(fence: u64) -> RegionState {
    let flushed = commit(&created(), edit(vec![file(1, 1, 1)], vec![], Some(position(1, 3)), Some(1))).unwrap();
    commit(&flushed, Action::Stage(stage(TXN, true, position(1, fence)))).unwrap()
}

#[test]
fn a_commit_makes_the_remap_and_the_staged_files_visible_under_the_new_rule() {
    let state = commit(&staged(5), staged_edit(TXN, &[7], position(1, 9))).unwrap();
    assert_eq!(state.files().len(), 1);
    let drained = commit(&state, edit(vec![file(1, 2, 2)], vec![], Some(position(1, 5)), Some(2))).unwrap();
    let remapped = commit_remap(&drained, remap(TXN, 1, 3)).unwrap();
    assert_eq!(remapped.files(), drained.files());
    let resolved = commit(&remapped, resolve(TXN, 1, Decision::Commit)).unwrap();
    assert_eq!(resolved.files().len(), 4);
    assert!(resolved.files().contains_key(&key(1, 7)) && resolved.staging().is_none());
    assert_eq!(resolved.removed().keys().copied().collect::<Vec<_>>(), [key(1, 1), key(1, 2)]);
    let meta = resolved.meta().unwrap();
    assert_eq!((meta.generation, &meta.rule, &meta.partition_columns[..]), (generation(STAGED), &new_rule(), &[ColumnId(0)][..]));
    assert_eq!(resolved.wals()[0].flushed, position(1, 9));
    assert_eq!(resolved.flushed_sequence(), staged_file(1, 7).meta.sequences.1);
}

#[test]
fn a_source_that_is_no_target_retires() {
    let flushed = commit(&created(), edit(vec![file(1, 1, 1)], vec![], Some(position(1, 3)), Some(1))).unwrap();
    let staged = commit(&flushed, Action::Stage(stage(TXN, false, position(1, 3)))).unwrap();
    assert_eq!(commit(&staged, staged_edit(TXN, &[7], position(1, 9))), Err(Violation::NotATarget { txn: TXN }));
    let retired = commit(&staged, resolve(TXN, 1, Decision::Commit)).unwrap();
    assert!(retired.is_retired() && retired.files().is_empty() && retired.removed().len() == 1);
    assert_eq!(commit(&retired, edit(vec![], vec![], None, None)), Err(Violation::Retired));
    assert!(commit(&retired, Action::Drop(Drop {})).is_ok());
}

#[test]
fn rows_before_the_fence_may_be_flushed_and_nothing_else_may_be_edited() {
    let state = staged(5);
    let beyond = edit(vec![], vec![], Some(position(1, 6)), None);
    assert!(matches!(commit(&state, beyond), Err(Violation::BeyondFence { .. })));
    assert_eq!(commit(&state, edit(vec![], vec![key(1, 1)], None, None)), Err(Violation::Staged { txn: TXN }));
    assert_eq!(commit(&state, Action::Change(Change { meta: meta(1) })), Err(Violation::Staged { txn: TXN }));
    assert_eq!(commit(&state, Action::Drop(Drop {})), Err(Violation::Staged { txn: TXN }));
    assert_eq!(commit(&state, Action::Retire(Retire {})), Err(Violation::Staged { txn: TXN }));
    let drained = commit(&state, edit(vec![file(1, 2, 2)], vec![], Some(position(1, 5)), Some(2))).unwrap();
    assert_eq!(drained.is_drained(), Some(true));
    assert_eq!(commit(&drained, edit(vec![file(1, 3, 2)], vec![], None, None)), Err(Violation::Frozen { txn: TXN }));
}

#[test]
fn staged_rows_are_of_the_staged_generation_and_flushed_behind_the_fence() {
    let state = staged(5);
    assert!(matches!(commit(&state, staged_edit(TXN, &[7], position(1, 5))), Err(Violation::FlushNotAdvancing { .. })));
    assert_eq!(commit(&state, staged_edit(TxnId(Ulid(2)), &[7], position(1, 9))), Err(Violation::NotStaged { txn: TxnId(Ulid(2)) }));
    let mut old = FileRef::clone(&staged_file(1, 7));
    old.meta.sequences.0 = sequence(0);
    let edit = |file: FileRef| {
        let sequence = Some(file.meta.sequences.1);
        Action::StagedEdit(StagedEdit { txn: TXN, generation: generation(STAGED), add: vec![Arc::new(file)], flushed: vec![], sequence })
    };
    assert!(matches!(commit(&state, edit(old)), Err(Violation::StagedFileGeneration { .. })));
    let twice = FileRef { key: key(1, 1), ..FileRef::clone(&staged_file(1, 7)) };
    assert_eq!(commit(&state, edit(twice)), Err(Violation::FileListedBefore { file: key(1, 1) }));
}

#[test]
fn a_remap_waits_for_the_drain_and_must_be_what_was_announced() {
    assert_eq!(commit_remap(&staged(5), remap(TXN, 1, 1)), Err(Violation::NotDrained { txn: TXN }));
    let drained = staged(3);
    assert!(matches!(commit_remap(&drained, remap(TXN, 2, 1)), Err(Violation::SegmentNotBornHere { .. })));
    let (action, (segment, content)) = remap(TXN, 1, 2);
    let wrong = RemapStaged { set_hash: SetHash::EMPTY, ..action.clone() };
    assert!(matches!(commit_remap(&drained, (wrong, (segment, content.clone()))), Err(Violation::RemapHash { .. })));
    let short = content[..1].to_vec();
    assert!(matches!(commit_remap(&drained, (action.clone(), (segment, short))), Err(Violation::SegmentRows { .. })));
    let duplicate = vec![content[0].clone(), content[0].clone()];
    assert!(matches!(commit_remap(&drained, (action.clone(), (segment, duplicate))), Err(Violation::RemapDuplicate { .. })));
    assert!(matches!(commit(&drained, Action::RemapStaged(action.clone())), Err(Violation::SegmentNotRead { .. })));
    let remapped = commit_remap(&drained, (action.clone(), (segment, content.clone()))).unwrap();
    assert_eq!(commit_remap(&remapped, (action, (segment, content))), Err(Violation::RemapTwice { txn: TXN }));
    assert_eq!(commit(&drained, resolve(TXN, 1, Decision::Commit)), Err(Violation::NoRemap { txn: TXN }));
}

#[test]
fn a_remap_may_list_a_removed_file_again_which_stays_as_old_as_it_is() {
    let state = commit(&created(), edit(vec![file(1, 1, 1), file(1, 2, 1)], vec![], Some(position(1, 3)), Some(1))).unwrap();
    let since = state.version().unwrap();
    let state = commit(&state, edit(vec![], vec![key(1, 1)], None, None)).unwrap();
    let state = commit(&state, Action::Stage(stage(TXN, true, position(1, 3)))).unwrap();
    let again: Vec<StagedFile> = [1, 2].map(|ulid| StagedFile::new(file(1, ulid, 1))).into();
    let state = commit_remap(&state, remap_to(TXN, 1, again)).unwrap();
    let state = commit(&state, resolve(TXN, 1, Decision::Commit)).unwrap();
    assert!(state.removed().is_empty());
    assert!(state.files().values().all(|listed| listed.since == since));
}

#[test]
fn files_are_taken_out_of_the_removed_ones_whatever_their_shares() {
    let by = Slot::new(Epoch(2), 9);
    let removed = |ulid: u128| Removed { file: file(1, ulid, 1), since: Slot::new(Epoch(1), 100 + u64::try_from(ulid).unwrap()), by };
    // Removed files are the even ones below the first number; asked for are those of a step below the second.
    for (many, asked, step) in
        [(0, 3, 1), (40, 40, 1), (40, 40, 2), (40, 40, 3), (40, 40, 11), (200, 8, 1), (200, 8, 5), (4, 200, 1), (40, 0, 1)]
    {
        let all: BTreeMap<FileKey, Removed> = (0..many).step_by(2).map(|ulid| (key(1, ulid), removed(ulid))).collect();
        let mut books = Books { removed: all.clone().into_iter().collect(), ..Books::default() };
        let files: Vec<StagedFile> = (0..asked).step_by(step).map(|ulid| StagedFile::new(file(1, ulid, 1))).collect();
        let taken = books.take_removed(&files.iter().collect::<Vec<_>>());
        let expected: Vec<(FileKey, Slot)> = files.iter().filter_map(|file| Some((file.key(), all.get(&file.key())?.since))).collect();
        assert_eq!(taken, expected, "{many} removed, {asked} by {step} asked for");
        let left: BTreeMap<FileKey, Removed> = all.into_iter().filter(|(key, _)| !expected.iter().any(|(taken, _)| taken == key)).collect();
        assert_eq!(books.removed.into_iter().collect::<BTreeMap<_, _>>(), left, "{many} removed, {asked} by {step} asked for");
    }
}

#[test]
fn an_abort_keeps_everything_but_the_generation() {
    let state = staged(5);
    let aborted = commit(&state, abort(TXN)).unwrap();
    assert_eq!((aborted.files(), aborted.meta().unwrap().generation), (state.files(), generation(ABORT)));
    assert!(aborted.staging().is_none());
    // It also fences a stage that is still on its way.
    let unstaged = commit(&created(), abort(TXN)).unwrap();
    let late = commit(&unstaged, Action::Stage(stage(TXN, true, WalPosition::START)));
    assert!(matches!(late, Err(Violation::OtherGeneration { .. })));
    let decided = commit(&state, staged_edit(TXN, &[7], position(1, 9))).unwrap();
    assert_eq!(commit(&decided, abort(TXN)), Err(Violation::StagedRows { txn: TXN }));
}

#[test]
fn a_stage_names_every_log_once_and_reads_the_present() {
    let state = created();
    let bad = |change: fn(&mut Stage)| {
        let mut stage = stage(TXN, true, position(1, 3));
        change(&mut stage);
        commit(&state, Action::Stage(stage)).unwrap_err()
    };
    assert!(matches!(bad(|stage| stage.fence.clear()), Violation::FenceWals { .. }));
    assert!(matches!(bad(|stage| stage.fence.push(stage.fence[0])), Violation::FenceWals { .. }));
    assert!(matches!(bad(|stage| stage.schema_version += 1), Violation::OtherSchema { .. }));
    assert!(matches!(bad(|stage| stage.base = generation(2)), Violation::OtherGeneration { .. }));
    assert!(matches!(bad(|stage| stage.generation = stage.base), Violation::GenerationNotAbove { .. }));
}

#[test]
fn a_staged_region_outlives_its_writer() {
    let reopened = sealed_and_opened(&commit(&staged(5), staged_edit(TXN, &[7], position(1, 9))).unwrap());
    assert_eq!(reopened.staging().unwrap().added().len(), 1);
    let drained = commit(&reopened, edit(vec![], vec![], Some(position(1, 5)), None)).unwrap();
    let remapped = commit_remap(&drained, remap(TXN, 2, 1)).unwrap();
    let resolved = commit(&remapped, resolve(TXN, 1, Decision::Commit)).unwrap();
    assert_eq!(resolved.files().len(), 2);
}

#[test]
fn a_drained_region_stays_drained_when_its_log_is_named_anew() {
    let clean = commit(&staged(3), Action::Seal(Seal { by: Nonce(1), clean: true })).unwrap();
    let slot = clean.version().unwrap().next_epoch();
    let reopened = clean.apply_record(slot, &[open(2, vec![wal(&[2], WalPosition::START)])]).unwrap();
    assert_eq!(reopened.is_drained(), Some(true));
    assert_eq!(commit(&reopened, edit(vec![file(2, 5, 1)], vec![], None, None)), Err(Violation::Frozen { txn: TXN }));
    assert!(commit_remap(&reopened, remap(TXN, 2, 1)).is_ok());
    // A region that was not drained before is so after a clean end, which says that every row is in an SST.
    let clean = commit(&staged(9), Action::Seal(Seal { by: Nonce(1), clean: true })).unwrap();
    let reopened = clean.apply_record(slot, &[open(2, vec![])]).unwrap();
    assert_eq!(reopened.is_drained(), Some(true));
}

#[test]
fn what_a_repartition_took_away_does_not_come_back() {
    let remapped = commit_remap(&staged(3), remap(TXN, 1, 1)).unwrap();
    let resolved = commit(&remapped, resolve(TXN, 1, Decision::Commit)).unwrap();
    let restore = Action::Edit(Edit { restore: vec![key(1, 1)], ..Edit::new(generation(STAGED)) });
    assert_eq!(commit(&resolved, restore), Err(Violation::FileNotRestorable { file: key(1, 1) }));
}

#[test]
fn a_rule_changes_by_a_repartition_only() {
    let other = Arc::new(RegionMeta { rule: new_rule(), ..RegionMeta::clone(&meta(1)) });
    assert_eq!(commit(&created(), Action::Change(Change { meta: other })), Err(Violation::RuleChanged));
}
