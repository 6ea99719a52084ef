//! Manifest records: one of each kind, of a region that lives through everything.

use std::sync::Arc;

use bytes::Bytes;
use tessera_manifest::action::{
    Action, Change, CheckpointRef, Checkpointed, Decision, Doom, Drop, Edit, Fence, Floor, Flushed, Open, Pin, RemapStaged, Resolve,
    Retire, Seal, SegmentRef, Stage, StageTarget, StagedEdit, Truncate, Unpin,
};
use tessera_manifest::body::Body;
use tessera_manifest::checkpoint::{Root, RootError, SegmentDecoder, SegmentEntry, SegmentError, encode_segment};
use tessera_manifest::file::{ColumnStats, FileMeta, FileRef, Scope, StagedFile};
use tessera_manifest::id::{ColumnId, Epoch, FileId, FileKey, Generation, NodeId, Nonce, Sequence, Slot, TxnId};
use tessera_manifest::set_hash::{MemberHash, SetHash};
use tessera_manifest::slot::{DecodeError, Kind, Record};
use tessera_manifest::state::{RegionState, Row, Segments};
use tessera_manifest::value::Value;
use tessera_manifest::wal::{WalId, WalKind, WalPosition, WalRef};
use ulid::Ulid;

use super::sample::{REGION, meta, rule};
use super::{flipped, golden, replaced, write_missing};

const WAL: WalId = WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(0xabc) };
const OTHER_WAL: WalId = WalId { kind: WalKind::Object, node: NodeId(3), log: Nonce(0xdef) };

fn position(epoch: u32, entry: u64) -> WalPosition {
    WalPosition { epoch: Epoch(epoch), entry }
}

fn flushed(wal: WalId, epoch: u32, entry: u64) -> Flushed {
    Flushed { wal, position: position(epoch, entry), done: false }
}

fn wal(id: WalId, epochs: &[u32], flushed: WalPosition) -> WalRef {
    WalRef { id, epochs: epochs.iter().map(|epoch| Epoch(*epoch)).collect(), flushed }
}

fn sequence(counter: u64) -> Sequence {
    Sequence::new(Generation::FIRST, counter).unwrap()
}

fn key(number: u128) -> FileKey {
    FileKey { origin: REGION, file: FileId::new(Epoch(1), Ulid(number)) }
}

fn file(number: u128, scope: tessera_manifest::rule::Expr) -> Arc<FileRef> {
    let host = (Value::String("h1".into()), Value::String("zoo".into()));
    let meta = FileMeta {
        time_range: (-1, 1_357_020_000_000),
        rows: 3,
        deletes: 1,
        bytes: 4_096,
        sequences: (sequence(1), sequence(3)),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(rule()),
        stats: [
            ColumnStats { column: ColumnId(0), range: Some(host), has_null: false, has_nan: false },
            ColumnStats { column: ColumnId(1), range: None, has_null: true, has_nan: true },
        ]
        .into(),
        crc32: 0x1234_abcd,
    };
    Arc::new(FileRef { key: key(number), scope: Scope::new(scope), meta })
}

fn edit(add: Vec<Arc<FileRef>>, remove: Vec<FileKey>, flushed: Vec<Flushed>, counter: Option<u64>) -> Action {
    Action::Edit(Edit { add, remove, flushed, sequence: counter.map(sequence), ..Edit::new(Generation::FIRST) })
}

fn open(writer: u128, own: WalId, wals: Vec<WalRef>) -> Action {
    Action::Open(Open { writer: Nonce(writer), node: own.node, wal: Some(own), wals, abandoned: vec![] })
}

const TXN: TxnId = TxnId(Ulid(9));

/// The files that the remap lists again.
fn remapped() -> Vec<StagedFile> {
    [file(2, rule()), file(3, rule())].map(StagedFile::new).into()
}

/// The segment of the remap, and how the record names it.
fn remap_segment() -> (SegmentRef, Bytes) {
    let rows: Vec<Row> = remapped().into_iter().map(Row::Remapped).collect();
    let bytes = encode_segment(&rows);
    let file = FileId::new(Epoch(3), Ulid(21));
    (SegmentRef { file, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: rows.len() as u64 }, bytes)
}

/// The actions of a repartition, of keeping history, and of the end of files; from slot 3-1 on.
fn later_story() -> Vec<(&'static str, Vec<Action>)> {
    let generation = |number| Generation::new(number).unwrap();
    let (base, staged, aborted) = (Generation::FIRST, generation(2), generation(4));
    let target = || Some(StageTarget { rule: Arc::new(rule()), partition_columns: vec![ColumnId(0)] });
    let stage = |base, generation, entry| {
        let fence = vec![Fence { wal: WAL, position: position(2, entry) }];
        let schema_version = meta().schema.version();
        Action::Stage(Stage { txn: TXN, base, generation, target: target(), fence, schema_version })
    };
    let mut new = FileRef::clone(&file(4, tessera_manifest::rule::Expr::always()));
    new.key.file = FileId::new(Epoch(3), Ulid(4));
    new.meta.generation = staged;
    new.meta.sequences = (Sequence::new(staged, 1).unwrap(), Sequence::new(staged, 3).unwrap());
    let (staged_key, sequence) = (new.key, Some(new.meta.sequences.1));
    let add = vec![Arc::new(new)];
    let staged_edit = StagedEdit { txn: TXN, generation: staged, add, flushed: vec![flushed(WAL, 2, 9)], sequence };
    let set_hash = remapped().iter().fold(SetHash::EMPTY, |hash, staged| {
        let number = staged.key().file.ulid().0;
        hash.with(MemberHash::of(&file(number, rule())))
    });
    let remap = RemapStaged { txn: TXN, segments: vec![remap_segment().0], set_hash };
    let resolve = |base, decision| Action::Resolve(Resolve { txn: TXN, base, decision });
    let slot = |seq| Slot::new(Epoch(3), seq);
    let checkpoint = |seq| CheckpointRef { version: slot(seq), crc32: 0x55aa, bytes: 1_234, time_ms: 1_700_000_000_000 };
    let pin = Pin { name: "monday".into(), checkpoint: checkpoint(5), expires_unix_ms: Some(1_800_000_000_000) };
    let edit = |remove, restore| Action::Edit(Edit { remove, restore, ..Edit::new(staged) });
    vec![
        ("stage", vec![stage(base, staged, 5)]),
        ("staged_edit", vec![Action::StagedEdit(staged_edit)]),
        ("edit_drain", vec![self::edit(vec![], vec![], vec![flushed(WAL, 2, 5)], None)]),
        ("remap_staged", vec![Action::RemapStaged(remap)]),
        ("resolve_commit", vec![resolve(base, Decision::Commit)]),
        ("edit_end", vec![edit(vec![key(2), staged_key], vec![])]),
        ("edit_restore", vec![edit(vec![], vec![key(2)])]),
        ("pin", vec![Action::Pin(pin)]),
        ("unpin", vec![Action::Unpin(Unpin { name: "monday".into() })]),
        ("checkpointed", vec![Action::Checkpointed(Checkpointed { checkpoint: checkpoint(9) })]),
        ("floor", vec![Action::Floor(Floor { version: slot(9) })]),
        ("doom", vec![Action::Doom(Doom { files: vec![key(1)], forget: vec![] })]),
        ("doom_forget", vec![Action::Doom(Doom { files: vec![staged_key], forget: vec![key(1)] })]),
        ("stage_again", vec![stage(staged, generation(3), 9)]),
        ("resolve_abort", vec![resolve(staged, Decision::Abort { generation: aborted })]),
        ("retire", vec![Action::Retire(Retire {})]),
        ("drop", vec![Action::Drop(Drop {})]),
    ]
}

/// What happened, slot by slot.
fn story() -> Vec<(&'static str, Slot, Vec<Action>)> {
    let always = tessera_manifest::rule::Expr::always;
    let created = Action::Change(Change { meta: Arc::new(meta()) });
    let mut renamed = meta();
    renamed.table = "renamed".into();
    let done = Flushed { done: true, ..flushed(OTHER_WAL, 4, 50) };
    let truncate = Truncate { generation: Generation::FIRST, flushed: vec![flushed(WAL, 1, 30)], sequence: sequence(12) };
    let slot = |epoch, seq| Slot::new(Epoch(epoch), seq);
    let first = vec![file(1, always()), file(2, rule())];
    let other = wal(OTHER_WAL, &[4], WalPosition::START);
    let other_later = wal(OTHER_WAL, &[4], position(4, 20));
    vec![
        ("create", slot(1, 0), vec![open(1, OTHER_WAL, vec![other]), created]),
        ("edit", slot(1, 1), vec![edit(first, vec![], vec![flushed(OTHER_WAL, 4, 10)], Some(3))]),
        ("edit_remove", slot(1, 2), vec![edit(vec![file(3, always())], vec![key(1)], vec![flushed(OTHER_WAL, 4, 20)], Some(9))]),
        ("change", slot(1, 3), vec![Action::Change(Change { meta: Arc::new(renamed) })]),
        ("seal", slot(1, 4), vec![Action::Seal(Seal { by: Nonce(2), clean: false })]),
        ("open", slot(2, 0), vec![open(2, WAL, vec![other_later, wal(WAL, &[1], WalPosition::START)])]),
        ("edit_done", slot(2, 1), vec![edit(vec![], vec![], vec![done], None)]),
        ("truncate", slot(2, 2), vec![Action::Truncate(truncate)]),
        ("seal_again", slot(2, 3), vec![Action::Seal(Seal { by: Nonce(3), clean: false })]),
        ("open_again", slot(3, 0), vec![open(3, WAL, vec![wal(WAL, &[1, 2], position(1, 30))])]),
    ]
    .into_iter()
    .chain((1..).zip(later_story()).map(|(seq, (name, actions))| (name, slot(3, seq), actions)))
    .collect()
}

fn segments() -> Segments {
    Segments::from([(remap_segment().0, remapped())])
}

/// The state after the record called `last`.
fn state_after(last: &str) -> RegionState {
    let mut state = RegionState::empty(REGION);
    for (name, slot, actions) in story() {
        state = state.apply_record_with(slot, &actions, &segments()).unwrap();
        if name == last {
            break;
        }
    }
    state
}

/// Each record as it should be, with its name.
fn expected() -> Vec<(String, Record, Body)> {
    let mut state = RegionState::empty(REGION);
    let mut prev = None;
    let mut records = Vec::new();
    for (number, (name, slot, actions)) in (100..).zip(story()) {
        state = state.apply_record_with(slot, &actions, &segments()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let kind = match &actions[0] {
            Action::Open(_) => Kind::Open,
            Action::Seal(_) => Kind::Seal,
            _ => Kind::Data,
        };
        let body = Body::new(1_700_000_000_000, state.set_hash(), actions);
        // A seal is written by the opener that it names.
        let writer = Nonce(u128::from(slot.epoch.0) + u128::from(kind == Kind::Seal));
        let record = Record { kind, commit_id: Nonce(number), prev, writer, slot, body: body.encode() };
        prev = Some(record.commit_id);
        records.push((format!("manifest/{name}.json"), record, body));
    }
    records
}

/// The record with an honest checksum over changed bytes.
fn resealed(bytes: &[u8]) -> Vec<u8> {
    const FIELD: &[u8] = b"\"crc32\":\"";
    let mut bytes = bytes.to_vec();
    let at = bytes.windows(FIELD.len()).position(|window| window == FIELD).unwrap() + FIELD.len();
    bytes[at..at + 8].copy_from_slice(b"00000000");
    let crc = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[at..at + 8].copy_from_slice(crc.as_bytes());
    bytes
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_records() {
    for (name, record, _) in expected() {
        write_missing(&name, &record.encode());
    }
}

#[test]
fn records_are_read_and_written_as_ever() {
    for (name, record, body) in expected() {
        let bytes = golden(&name);
        let found = Record::decode(record.slot, &Bytes::from(bytes.clone())).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Body::decode(&found.body).unwrap(), body, "{name}");
        assert_eq!(found, record, "{name}");
        assert_eq!(record.encode(), bytes, "{name}: what is written has changed, and that needs a new version");
    }
}

#[test]
fn records_of_a_whole_life_replay_to_their_set_hashes() {
    let mut state = RegionState::empty(REGION);
    for (name, record, body) in expected() {
        let found = Record::decode(record.slot, &Bytes::from(golden(&name))).unwrap();
        state = state.apply_record_with(found.slot, &Body::decode(&found.body).unwrap().actions, &segments()).unwrap();
        assert_eq!(state.set_hash(), body.set_hash, "{name}");
    }
    assert!(state.is_dropped() && state.files().is_empty());
}

#[test]
fn records_with_any_flipped_bit_are_refused() {
    for (name, record, _) in expected() {
        let bytes = golden(&name);
        for bit in 0..bytes.len() * 8 {
            let twin = Bytes::from(flipped(&bytes, bit));
            assert!(Record::decode(record.slot, &twin).is_err(), "{name}: bit {bit}");
        }
    }
}

#[test]
fn records_for_newer_readers_are_refused_with_both_versions() {
    for (name, record, _) in expected() {
        let bytes = golden(&name);
        let header = replaced(&bytes, b"{\"format\":1,\"min_reader\":1,\"kind\"", b"{\"format\":3,\"min_reader\":2,\"kind\"");
        let error = Record::decode(record.slot, &Bytes::from(resealed(&header))).unwrap_err();
        assert!(matches!(error, DecodeError::TooNew(_)), "{name}: {error}");
        let body = replaced(&record.body, b"{\"format\":1,\"min_reader\":1,", b"{\"format\":4,\"min_reader\":3,");
        for (text, parts) in [
            (error.to_string(), ["format 3", "format 2", "format 1"]),
            (Body::decode(&body).unwrap_err(), ["format 4", "format 3", "format 2"]),
        ] {
            assert!(parts.iter().all(|part| text.contains(part)), "{name}: {text}");
        }
    }
}

/// A checkpoint of a region in the middle of a repartition, which has references of every kind but doomed ones; and one
/// after it, which has these.
fn checkpoints() -> Vec<(&'static str, RegionState, Root, Bytes)> {
    let of = |name: &'static str, record| {
        let state = state_after(record);
        let (rows, _) = state.rows_from(None, None, usize::MAX - 1);
        let bytes = encode_segment(&rows);
        let file = FileId::new(Epoch(3), Ulid(u128::from(name.len() as u64)));
        let segment = SegmentRef { file, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: rows.len() as u64 };
        let segments = vec![SegmentEntry { first: rows[0].key(), segment }];
        let root = Root { commit_id: Nonce(77), time_ms: 1_700_000_000_000, image: state.image().unwrap(), segments };
        (name, state, root, bytes)
    };
    vec![of("staged", "remap_staged"), of("doomed", "doom")]
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_checkpoints() {
    for (name, _, root, segment) in checkpoints() {
        write_missing(&format!("checkpoint/{name}.checkpoint"), &root.encode());
        write_missing(&format!("checkpoint/{name}.parquet"), &segment);
    }
}

#[test]
fn checkpoints_are_read_as_ever() {
    for (name, state, root, _) in checkpoints() {
        let bytes = Bytes::from(golden(&format!("checkpoint/{name}.checkpoint")));
        let found = Root::decode(REGION, root.image.version, &bytes).unwrap();
        assert_eq!((&found.image, found.commit_id, found.time_ms), (&root.image, root.commit_id, root.time_ms), "{name}");
        let segment = Bytes::from(golden(&format!("checkpoint/{name}.parquet")));
        let rows = SegmentDecoder::default().decode(&found.segments[0].segment, &segment).unwrap();
        assert_eq!(RegionState::from_image(found.image, rows).unwrap(), state, "{name}");
    }
}

#[test]
fn checkpoints_with_any_flipped_bit_are_refused() {
    for (name, _, root, _) in checkpoints() {
        let bytes = golden(&format!("checkpoint/{name}.checkpoint"));
        for bit in 0..bytes.len() * 8 {
            assert!(Root::decode(REGION, root.image.version, &Bytes::from(flipped(&bytes, bit))).is_err(), "{name}: bit {bit}");
        }
        let found = Root::decode(REGION, root.image.version, &Bytes::from(bytes)).unwrap();
        let segment = golden(&format!("checkpoint/{name}.parquet"));
        for bit in 0..segment.len() * 8 {
            let twin = Bytes::from(flipped(&segment, bit));
            assert!(SegmentDecoder::default().decode(&found.segments[0].segment, &twin).is_err(), "{name}: bit {bit}");
        }
    }
}

#[test]
fn checkpoints_for_newer_readers_are_refused_with_both_versions() {
    for (name, _, root, _) in checkpoints() {
        let bytes = golden(&format!("checkpoint/{name}.checkpoint"));
        let newer = resealed(&replaced(&bytes, b"{\"format\":1,\"min_reader\":1,\"kind\"", b"{\"format\":4,\"min_reader\":3,\"kind\""));
        let error = Root::decode(REGION, root.image.version, &Bytes::from(newer)).unwrap_err();
        assert!(matches!(error, RootError::Envelope(DecodeError::TooNew(_))), "{name}: {error}");
        // The key and its value stand beside each other in the footer, each behind its length.
        let segment = golden(&format!("checkpoint/{name}.parquet"));
        let newer = replaced(&segment, b"tessera.min_reader\x18\x011", b"tessera.min_reader\x18\x012");
        let segment = SegmentRef { crc32: crc32fast::hash(&newer), ..root.segments[0].segment };
        let segment = SegmentRef { bytes: newer.len() as u64, ..segment };
        let error = SegmentDecoder::default().decode(&segment, &Bytes::from(newer)).unwrap_err();
        assert!(matches!(error, SegmentError::TooNew(_)), "{name}: {error}");
    }
}
