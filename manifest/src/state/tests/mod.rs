//! Tests of what a region state takes and what it refuses.

mod abandon;
mod history;
mod property;
mod replay;
mod stage;

use std::collections::BTreeMap;

use ulid::Ulid;

use super::*;
use crate::action::{Change, Drop, Open, Seal};
use crate::file::{FileMeta, Scope};
use crate::id::{ColumnId, Epoch, FileId, NodeId, RegionNumber, TableId};
use crate::rule::Expr;
use crate::schema::{Column, Schema, SemanticType};
use crate::value::{DataType, TimeUnit};
use crate::wal::{WalKind, WalPosition};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
const WAL: WalId = WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(7) };

fn meta(generation: u32) -> Arc<RegionMeta> {
    let column = |id, name: &str, data_type, semantic, nullable| Column {
        id: ColumnId(id),
        name: name.into(),
        data_type,
        semantic,
        nullable,
        default: None,
        comment: None,
    };
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag, true),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex, false),
    ];
    Arc::new(RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "t".into(),
        schema: Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::new(generation).unwrap(),
        options: BTreeMap::new(),
    })
}

fn wal(epochs: &[u32], flushed: WalPosition) -> WalRef {
    WalRef { id: WAL, epochs: epochs.iter().map(|epoch| Epoch(*epoch)).collect(), flushed }
}

fn position(epoch: u32, entry: u64) -> WalPosition {
    WalPosition { epoch: Epoch(epoch), entry }
}

fn open(writer: u128, wals: Vec<WalRef>) -> Action {
    let own = wals.first().map(|wal| wal.id);
    Action::Open(Open { writer: Nonce(writer), node: NodeId(1), wal: own, wals, abandoned: vec![] })
}

fn seal() -> Action {
    Action::Seal(Seal { by: Nonce(99), clean: false })
}

fn sequence(counter: u64) -> Sequence {
    Sequence::new(Generation::FIRST, counter).unwrap()
}

fn file(epoch: u32, ulid: u128, newest: u64) -> Arc<FileRef> {
    let meta = FileMeta {
        time_range: (0, 10),
        rows: 5,
        deletes: 0,
        bytes: 100,
        sequences: (sequence(0), sequence(newest)),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: 1,
    };
    let key = FileKey { origin: REGION, file: FileId::new(Epoch(epoch), Ulid(ulid)) };
    Arc::new(FileRef { key, scope: Scope::all(), meta })
}

fn edit(add: Vec<Arc<FileRef>>, remove: Vec<FileKey>, flushed: Option<WalPosition>, newest: Option<u64>) -> Action {
    let flushed = flushed.into_iter().map(|position| Flushed { wal: WAL, position, done: false }).collect();
    Action::Edit(Edit { add, remove, flushed, sequence: newest.map(sequence), ..Edit::new(Generation::FIRST) })
}

fn key(epoch: u32, ulid: u128) -> FileKey {
    file(epoch, ulid, 0).key
}

fn created() -> RegionState {
    let actions = [open(1, vec![wal(&[1], WalPosition::START)]), Action::Change(Change { meta: meta(1) })];
    RegionState::empty(REGION).apply_record(Slot::new(Epoch(1), 0), &actions).unwrap()
}

fn sealed_and_opened(state: &RegionState) -> RegionState {
    let sealed = commit(state, seal()).unwrap();
    let slot = sealed.version().unwrap().next_epoch();
    let mut wals = sealed.wals().to_vec();
    wals[0].epochs.push(Epoch(slot.epoch.0));
    sealed.apply_record(slot, &[open(u128::from(slot.epoch.0), wals)]).unwrap()
}

fn commit(state: &RegionState, action: Action) -> Result<RegionState, Violation> {
    state.apply_record(state.version().unwrap().next(), &[action])
}

#[test]
fn a_flush_makes_its_file_visible_and_moves_the_positions() {
    let state = commit(&created(), edit(vec![file(1, 1, 9)], vec![], Some(position(1, 3)), Some(9))).unwrap();
    assert_eq!(state.files().len(), 1);
    assert_eq!(state.totals(), Totals { rows: 5, bytes: 100 });
    assert_eq!(state.wals()[0].flushed, position(1, 3));
    assert_eq!(state.flushed_sequence(), sequence(9));
    assert_ne!(state.set_hash(), SetHash::EMPTY);
}

#[test]
fn a_removed_file_stays_listed_and_never_comes_back() {
    let added = commit(&created(), edit(vec![file(1, 1, 0)], vec![], None, Some(0))).unwrap();
    let key = file(1, 1, 0).key;
    let removed = commit(&added, edit(vec![], vec![key], None, None)).unwrap();
    assert!(removed.files().is_empty());
    assert_eq!(removed.removed()[&key].by, removed.version().unwrap());
    assert_eq!(removed.set_hash(), SetHash::EMPTY);
    assert_eq!(commit(&removed, edit(vec![file(1, 1, 0)], vec![], None, None)), Err(Violation::FileListedBefore { file: key }));
    assert_eq!(commit(&removed, edit(vec![], vec![key], None, None)), Err(Violation::FileNotListed { file: key }));
}

#[test]
fn a_file_of_another_epoch_or_region_cannot_come_in() {
    assert!(matches!(commit(&created(), edit(vec![file(2, 1, 0)], vec![], None, None)), Err(Violation::FileNotBornHere { .. })));
    let mut foreign = FileRef::clone(&file(1, 1, 0));
    foreign.key.origin = RegionId::new(TableId(1024), RegionNumber(1));
    assert!(matches!(commit(&created(), edit(vec![Arc::new(foreign)], vec![], None, None)), Err(Violation::FileNotBornHere { .. })));
}

#[test]
fn a_flush_position_must_advance() {
    let state = commit(&created(), edit(vec![], vec![], Some(position(1, 3)), None)).unwrap();
    for stale in [position(1, 3), position(1, 2)] {
        assert!(matches!(commit(&state, edit(vec![], vec![], Some(stale), None)), Err(Violation::FlushNotAdvancing { .. })));
    }
}

#[test]
fn a_flush_position_is_of_an_epoch_in_which_the_region_wrote() {
    let beyond = |state: &RegionState| commit(state, edit(vec![], vec![], Some(position(2, 1)), None));
    assert_eq!(beyond(&created()), Err(Violation::UnknownWalEpoch { wal: WAL, epoch: Epoch(2) }));
    let reopened = sealed_and_opened(&created());
    assert!(beyond(&reopened).is_ok());
}

#[test]
fn a_file_newer_than_the_flushed_sequence_is_refused() {
    assert!(matches!(commit(&created(), edit(vec![file(1, 1, 9)], vec![], None, Some(8))), Err(Violation::SequenceBelowFile { .. })));
}

#[test]
fn an_edit_that_read_another_generation_is_refused() {
    let changed = commit(&created(), Action::Change(Change { meta: meta(2) })).unwrap();
    assert!(matches!(commit(&changed, edit(vec![], vec![], None, None)), Err(Violation::OtherGeneration { .. })));
    assert!(matches!(commit(&changed, Action::Change(Change { meta: meta(1) })), Err(Violation::BackwardChange { .. })));
}

#[test]
fn a_sealed_epoch_takes_only_the_next_open() {
    let sealed = commit(&created(), seal()).unwrap();
    assert_eq!(commit(&sealed, edit(vec![], vec![], None, None)), Err(Violation::Sealed));
    let slot = sealed.version().unwrap().next_epoch();
    let opened = sealed.apply_record(slot, &[open(2, vec![wal(&[1, 2], WalPosition::START)])]).unwrap();
    assert_eq!(opened.writer(), Some(Nonce(2)));
    assert!(!opened.is_sealed());
}

#[test]
fn an_open_may_not_lose_a_log_with_unflushed_entries() {
    let sealed = commit(&created(), seal()).unwrap();
    let slot = sealed.version().unwrap().next_epoch();
    assert_eq!(sealed.apply_record(slot, &[open(2, vec![])]), Err(Violation::WalDropped { wal: WAL }));
    let moved = wal(&[1, 2], position(1, 1));
    assert_eq!(sealed.apply_record(slot, &[open(2, vec![moved])]), Err(Violation::WalDropped { wal: WAL }));
    assert!(matches!(sealed.apply_record(slot, &[open(2, vec![wal(&[1, 1], WalPosition::START)])]), Err(Violation::WalEpochs { .. })));
}

#[test]
fn after_a_clean_end_the_logs_before_it_may_be_left_out() {
    let clean = commit(&created(), Action::Seal(Seal { by: Nonce(1), clean: true })).unwrap();
    assert!(clean.is_clean());
    let slot = clean.version().unwrap().next_epoch();
    let elsewhere = WalRef { id: WalId { log: Nonce(8), ..WAL }, epochs: vec![Epoch(1)], flushed: WalPosition::START };
    let opened = clean.apply_record(slot, &[open(2, vec![elsewhere.clone()])]).unwrap();
    assert_eq!(opened.wals(), [elsewhere]);
    assert!(!opened.is_clean());
    assert!(!commit(&created(), seal()).unwrap().is_clean());
}

#[test]
fn records_stand_in_slot_order() {
    let state = created();
    let next = state.version().unwrap().next();
    for slot in [state.version().unwrap(), next.next(), next.next_epoch()] {
        assert!(matches!(state.apply_record(slot, &[seal()]), Err(Violation::OutOfOrder { .. })));
    }
    assert_eq!(state.apply_record(next, &[]), Err(Violation::NoActions));
    assert_eq!(state.apply_record(next, &[seal(), seal()]), Err(Violation::MisplacedSeal));
}

#[test]
fn truncate_and_drop_remove_every_file() {
    let added = commit(&created(), edit(vec![file(1, 1, 0)], vec![], None, Some(0))).unwrap();
    let flushed = vec![Flushed { wal: WAL, position: position(1, 8), done: false }];
    let truncate = Truncate { generation: Generation::FIRST, flushed, sequence: sequence(20) };
    let empty = commit(&added, Action::Truncate(truncate)).unwrap();
    assert!(empty.files().is_empty() && empty.removed().len() == 1);
    assert_eq!(empty.flushed_sequence(), sequence(20));
    let dropped = commit(&added, Action::Drop(Drop {})).unwrap();
    assert!(dropped.is_dropped() && dropped.files().is_empty());
    assert_eq!(commit(&dropped, edit(vec![], vec![], None, None)), Err(Violation::Dropped));
}
