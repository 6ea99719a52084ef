//! Tests of logs that are given up by force.

use super::stage::{resolve, stage, staged_edit};
use super::*;
use crate::action::{Decision, Fence, Stage, Truncate};
use crate::id::TxnId;
use crate::wal::AbandonedWal;

/// The log of the node that takes the region over.
const NEW: WalId = WalId { kind: WalKind::Local, node: NodeId(2), log: Nonce(8) };
const TXN: TxnId = TxnId(Ulid(1));

fn new(epochs: &[u32]) -> WalRef {
    WalRef { id: NEW, ..wal(epochs, WalPosition::START) }
}

/// The next epoch of a region, opened by `own` with these logs.
fn reopened(state: &RegionState, own: Option<WalId>, wals: Vec<WalRef>, abandoned: Vec<WalRef>) -> Result<RegionState, Violation> {
    let sealed = commit(state, seal()).unwrap();
    let slot = sealed.version().unwrap().next_epoch();
    let open = Open { writer: Nonce(slot.epoch.0.into()), node: NodeId(2), wal: own, wals, abandoned };
    sealed.apply_record(slot, &[Action::Open(open)])
}

/// A region whose log is flushed up to entry 3, and that log as it is listed.
fn flushed() -> (RegionState, WalRef) {
    let state = commit(&created(), edit(vec![file(1, 1, 9)], vec![], Some(position(1, 3)), Some(9))).unwrap();
    let lost = state.wals()[0].clone();
    (state, lost)
}

#[test]
fn an_abandoned_log_leaves_the_list_and_stays_on_record_for_ever() {
    let (state, lost) = flushed();
    let taken = reopened(&state, Some(NEW), vec![new(&[1])], vec![lost.clone()]).unwrap();
    let record = AbandonedWal { by: Slot::new(Epoch(2), 0), wal: lost };
    assert_eq!((taken.wals(), taken.abandoned()), (&[new(&[1])][..], &[record.clone()][..]));
    assert_eq!(taken.files(), state.files());
    let gone = Truncate { generation: Generation::FIRST, flushed: vec![], sequence: sequence(9) };
    let later = reopened(&commit(&taken, Action::Truncate(gone)).unwrap(), Some(NEW), vec![new(&[1, 2])], vec![]).unwrap();
    assert_eq!(later.abandoned(), [record]);
    let (rows, _) = later.rows_from(None, None, usize::MAX - 1);
    let image = serde_json::to_vec(&later.image().unwrap()).unwrap();
    assert_eq!(RegionState::from_image(serde_json::from_slice(&image).unwrap(), rows).unwrap(), later, "a checkpoint has it too");
}

#[test]
fn an_opener_that_writes_no_rows_may_give_a_log_up_for_others() {
    let (state, lost) = flushed();
    let taken = reopened(&state, None, vec![], vec![lost]).unwrap();
    assert!(taken.wals().is_empty());
    assert_eq!(reopened(&taken, Some(NEW), vec![new(&[1])], vec![]).unwrap().wals(), [new(&[1])]);
}

#[test]
fn only_a_listed_log_can_be_abandoned_as_it_is_and_by_others() {
    let (state, lost) = flushed();
    let unlisted = reopened(&state, Some(NEW), vec![lost.clone(), new(&[1])], vec![new(&[1])]);
    assert_eq!(unlisted, Err(Violation::UnknownWal { wal: NEW }));
    let prettier = WalRef { flushed: position(1, 4), ..lost.clone() };
    assert_eq!(reopened(&state, Some(NEW), vec![new(&[1])], vec![prettier]), Err(Violation::WalDropped { wal: WAL }));
    let own = reopened(&state, Some(WAL), vec![wal(&[2], WalPosition::START)], vec![lost.clone()]);
    assert_eq!(own, Err(Violation::AbandonedInUse { wal: WAL }));
    let kept = reopened(&state, Some(NEW), vec![lost.clone(), new(&[1])], vec![lost.clone()]);
    assert_eq!(kept, Err(Violation::AbandonedInUse { wal: WAL }));
    let twice = reopened(&state, Some(NEW), vec![new(&[1])], vec![lost.clone(), lost]);
    assert_eq!(twice, Err(Violation::AbandonedInUse { wal: WAL }));
    assert_eq!(reopened(&state, Some(NEW), vec![new(&[1])], vec![]), Err(Violation::WalDropped { wal: WAL }));
}

#[test]
fn nothing_can_be_abandoned_after_a_clean_end() {
    let (state, lost) = flushed();
    let by = state.writer().unwrap();
    let sealed = commit(&state, Action::Seal(Seal { by, clean: true })).unwrap();
    let open = Open { writer: Nonce(2), node: NodeId(2), wal: Some(NEW), wals: vec![new(&[1])], abandoned: vec![lost] };
    let opened = sealed.apply_record(sealed.version().unwrap().next_epoch(), &[Action::Open(open)]);
    assert_eq!(opened, Err(Violation::UnknownWal { wal: WAL }));
}

#[test]
fn a_log_that_turns_up_again_holds_rows_from_its_next_epoch_on_only() {
    let (state, lost) = flushed();
    let taken = reopened(&state, None, vec![], vec![lost]).unwrap();
    let again = |epochs| reopened(&taken, Some(WAL), vec![wal(epochs, WalPosition::START)], vec![]);
    assert_eq!(again(&[1]), Err(Violation::WalGivenUp { wal: WAL, epoch: Epoch(1) }));
    assert_eq!(again(&[1, 2]), Err(Violation::WalGivenUp { wal: WAL, epoch: Epoch(1) }));
    assert_eq!(again(&[2]).unwrap().wals(), [wal(&[2], WalPosition::START)]);
}

#[test]
fn a_source_whose_log_is_abandoned_is_drained_and_its_repartition_goes_on() {
    let (state, lost) = flushed();
    let staged = commit(&state, Action::Stage(stage(TXN, false, position(1, 5)))).unwrap();
    assert_eq!(staged.is_drained(), Some(false));
    let taken = reopened(&staged, Some(NEW), vec![new(&[1])], vec![lost]).unwrap();
    assert_eq!(taken.is_drained(), Some(true));
    assert!(matches!(commit(&taken, edit(vec![], vec![], None, None)), Err(Violation::Frozen { .. })), "the remap reads what is final");
    let retired = commit(&taken, resolve(TXN, 1, Decision::Commit)).unwrap();
    assert!(retired.is_retired());
    assert_eq!(retired.abandoned().len(), 1);
}

#[test]
fn staged_files_outlive_the_log_that_their_rows_came_from() {
    let (state, lost) = flushed();
    let staged = commit(&state, Action::Stage(stage(TXN, true, position(1, 5)))).unwrap();
    let staged = commit(&staged, staged_edit(TXN, &[7], position(1, 9))).unwrap();
    let taken = reopened(&staged, Some(NEW), vec![new(&[1])], vec![lost]).unwrap();
    assert_eq!(taken.staging().unwrap().added().len(), 1);
    assert_eq!(taken.staging().unwrap().flushed(NEW), WalPosition::START);
    assert_eq!(taken.is_drained(), Some(true));
}

#[test]
fn a_drain_still_waits_for_the_logs_that_were_not_abandoned() {
    let (state, lost) = flushed();
    let both = reopened(&state, Some(NEW), vec![lost.clone(), new(&[1])], vec![]).unwrap();
    let fence = vec![Fence { wal: WAL, position: position(1, 5) }, Fence { wal: NEW, position: position(1, 4) }];
    let staged = commit(&both, Action::Stage(Stage { fence, ..stage(TXN, true, position(1, 5)) })).unwrap();
    let taken = reopened(&staged, Some(NEW), vec![new(&[1, 2])], vec![lost]).unwrap();
    assert_eq!(taken.is_drained(), Some(false));
    let flushed = vec![Flushed { wal: NEW, position: position(1, 4), done: false }];
    let drained = commit(&taken, Action::Edit(Edit { flushed, ..Edit::new(Generation::FIRST) })).unwrap();
    assert_eq!(drained.is_drained(), Some(true));
}

#[test]
fn a_log_that_was_abandoned_before_the_fence_drains_nothing() {
    let (state, lost) = flushed();
    let taken = reopened(&state, None, vec![], vec![lost]).unwrap();
    let back = reopened(&taken, Some(WAL), vec![wal(&[2], WalPosition::START)], vec![]).unwrap();
    let staged = commit(&back, Action::Stage(stage(TXN, true, position(2, 5)))).unwrap();
    assert_eq!(staged.is_drained(), Some(false));
}
