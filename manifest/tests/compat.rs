//! Frozen bytes of version 2 of the manifest's body and of a checkpoint's root, in `tests/compat/v002`: an `Open` that
//! abandons a log, and a checkpoint after it. What does not say that stays version 1, whose bytes the package
//! `tessera-tests` checks.
//!
//! - Files are only added, never edited.
//! - `cargo test -p tessera-manifest --test compat -- --ignored write_missing` writes what is missing, and never touches
//!   what is there.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tessera_manifest::action::{Action, Change, Open, Seal};
use tessera_manifest::body::Body;
use tessera_manifest::checkpoint::Root;
use tessera_manifest::id::{ColumnId, Epoch, Generation, NodeId, Nonce, RegionId, RegionNumber, Slot, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::slot::{Kind, Record};
use tessera_manifest::state::RegionState;
use tessera_manifest::value::{DataType, TimeUnit};
use tessera_manifest::wal::{WalId, WalKind, WalPosition, WalRef};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(7));
const LOST: WalId = WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(0xabc) };
const NEW: WalId = WalId { kind: WalKind::Object, node: NodeId(3), log: Nonce(0xdef) };
const TIME_MS: u64 = 1_700_000_000_000;
const RECORD: &str = "manifest/open_abandoning.json";
const ROOT: &str = "checkpoint/abandoned.checkpoint";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/compat/v002").join(name)
}

fn golden(name: &str) -> Bytes {
    std::fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}")).into()
}

fn write_missing(name: &str, bytes: &[u8]) {
    let path = path(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    if !path.exists() {
        std::fs::write(&path, bytes).unwrap();
    }
}

fn meta() -> Arc<RegionMeta> {
    let ts = Column {
        id: ColumnId(0),
        name: "ts".into(),
        data_type: DataType::Timestamp(TimeUnit::Millisecond),
        semantic: SemanticType::TimeIndex,
        nullable: false,
        default: None,
        comment: None,
    };
    Arc::new(RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "t".into(),
        schema: Arc::new(Schema::new(vec![ts], vec![]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}

fn wal(id: WalId, epoch: u32) -> WalRef {
    WalRef { id, epochs: vec![Epoch(epoch)], flushed: WalPosition::START }
}

/// A region that was opened by force, and the record that did it.
fn expected() -> (RegionState, Record, Body) {
    let slot = |epoch, seq| Slot::new(Epoch(epoch), seq);
    let open = |id: WalId, epoch, abandoned| {
        let wals = vec![wal(id, epoch)];
        Action::Open(Open { writer: Nonce(id.node.0.into()), node: id.node, wal: Some(id), wals, abandoned })
    };
    let created = [open(LOST, 4, vec![]), Action::Change(Change { meta: meta() })];
    let state = RegionState::empty(REGION).apply_record(slot(1, 0), &created).unwrap();
    let sealed = state.apply_record(slot(1, 1), &[Action::Seal(Seal { by: Nonce(3), clean: false })]).unwrap();
    let actions = vec![open(NEW, 9, vec![wal(LOST, 4)])];
    let state = sealed.apply_record(slot(2, 0), &actions).unwrap();
    let body = Body::new(TIME_MS, state.set_hash(), actions);
    let (prev, body_bytes) = (Some(Nonce(101)), body.encode());
    let record = Record { kind: Kind::Open, commit_id: Nonce(102), prev, writer: Nonce(3), slot: slot(2, 0), body: body_bytes };
    (state, record, body)
}

fn root(state: &RegionState) -> Root {
    Root { commit_id: Nonce(102), time_ms: TIME_MS, image: state.image().unwrap(), segments: vec![] }
}

fn flipped(bytes: &[u8], bit: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes.into()
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_files() {
    let (state, record, _) = expected();
    write_missing(RECORD, &record.encode());
    write_missing(ROOT, &root(&state).encode());
}

#[test]
fn an_open_that_abandons_a_log_is_read_and_written_as_ever() {
    let (_, record, body) = expected();
    let bytes = golden(RECORD);
    let found = Record::decode(record.slot, &bytes).unwrap();
    assert_eq!(Body::decode(&found.body).unwrap(), body);
    assert_eq!(found, record);
    assert_eq!(record.encode(), bytes, "what is written has changed, and that needs a new version");
}

#[test]
fn a_checkpoint_after_it_is_read_and_written_as_ever() {
    let (state, _, _) = expected();
    let bytes = golden(ROOT);
    let found = Root::decode(REGION, state.version().unwrap(), &bytes).unwrap();
    assert_eq!(found, root(&state));
    assert_eq!(RegionState::from_image(found.image, []).unwrap(), state);
    assert_eq!(root(&state).encode(), bytes, "what is written has changed, and that needs a new version");
}

#[test]
fn any_flipped_bit_is_refused() {
    let (state, record, _) = expected();
    let (bytes, root) = (golden(RECORD), golden(ROOT));
    for bit in 0..bytes.len() * 8 {
        assert!(Record::decode(record.slot, &flipped(&bytes, bit)).is_err(), "bit {bit}");
    }
    for bit in 0..root.len() * 8 {
        assert!(Root::decode(REGION, state.version().unwrap(), &flipped(&root, bit)).is_err(), "bit {bit}");
    }
}

/// What a reader of version 1 says of it is what this one says of version 3.
#[test]
fn a_body_for_newer_readers_is_refused_with_both_versions() {
    let (_, record, _) = expected();
    let body = String::from_utf8(record.body.to_vec()).unwrap();
    assert!(body.starts_with("{\"format\":2,\"min_reader\":2,"));
    let newer = body.replacen("{\"format\":2,\"min_reader\":2,", "{\"format\":4,\"min_reader\":3,", 1);
    let error = Body::decode(newer.as_bytes()).unwrap_err();
    assert!(["format 4", "format 3", "format 2"].iter().all(|part| error.contains(part)), "{error}");
}
