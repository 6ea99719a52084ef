//! Tests of the comparison of two states.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_manifest::action::{
    Action, Change as MetaChange, CheckpointRef, Checkpointed, Edit, Fence, Floor, Open, Pin, Stage, StageTarget,
};
use tessera_manifest::file::{FileMeta, FileRef, Scope};
use tessera_manifest::id::{ColumnId, Epoch, FileId, FileKey, Generation, NodeId, Nonce, RegionId, RegionNumber, Sequence, TableId, TxnId};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, ColumnDefault, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};
use tessera_manifest::wal::{WalId, WalKind, WalPosition, WalRef};

use super::*;

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
const LOG: WalId = WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(7) };

fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
    let nullable = semantic != SemanticType::TimeIndex;
    Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
}

fn columns() -> Vec<Column> {
    vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        column(2, "usage", DataType::Float32, SemanticType::Field),
        column(3, "old", DataType::Boolean, SemanticType::Field),
    ]
}

fn schema(version: u32, columns: &[Column]) -> Arc<Schema> {
    let text = serde_json::json!({ "version": version, "columns": columns, "primary_key": [0], "next_column_id": 9 });
    Arc::new(serde_json::from_value(text).unwrap())
}

fn meta() -> RegionMeta {
    RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "cpu".into(),
        schema: schema(1, &columns()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::from([("ttl".to_owned(), "7d".to_owned())]),
    }
}

fn txn() -> TxnId {
    "00000000000000000000000001".parse().unwrap()
}

fn rule() -> Arc<Expr> {
    Arc::new(tessera_manifest::rule::parse("host < 'm'", &meta().schema).unwrap())
}

fn file(number: u32) -> Arc<FileRef> {
    let sequence = Sequence::new(Generation::FIRST, u64::from(number)).unwrap();
    let meta = FileMeta {
        time_range: (0, 1_000),
        rows: 5,
        deletes: 1,
        bytes: 2048,
        sequences: (sequence, sequence),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: 1,
    };
    let id: FileId = format!("0000000001-{number:026}").parse().unwrap();
    let key = FileKey { origin: REGION, file: id };
    Arc::new(FileRef { key, scope: Scope::all(), meta })
}

/// The state after one more record.
fn then(state: &RegionState, actions: Vec<Action>) -> RegionState {
    state.apply_record(state.version().unwrap().next(), &actions).unwrap()
}

fn first() -> RegionState {
    let wals = vec![WalRef { id: LOG, epochs: vec![Epoch(1)], flushed: WalPosition::START }];
    let open = Open { writer: Nonce(1), node: NodeId(1), wal: Some(LOG), wals, abandoned: vec![] };
    let actions = [Action::Open(open), Action::Change(MetaChange { meta: Arc::new(meta()) })];
    RegionState::empty(REGION).apply_record(Slot::new(Epoch(1), 0), &actions).unwrap()
}

fn edit(add: &[u32], remove: &[u32], restore: &[u32]) -> Vec<Action> {
    let keys = |numbers: &[u32]| numbers.iter().map(|number| file(*number).key).collect();
    let add: Vec<Arc<FileRef>> = add.iter().map(|number| file(*number)).collect();
    let sequence = add.last().map(|file| file.meta.sequences.1);
    vec![Action::Edit(Edit { add, remove: keys(remove), restore: keys(restore), sequence, ..Edit::new(Generation::FIRST) })]
}

fn texts(before: &RegionState, after: &RegionState) -> Vec<String> {
    changes(before, after).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn expect(texts: &[String], lines: &[&str]) {
    for line in lines {
        assert!(texts.iter().any(|text| text == line), "'{line}' is not in {texts:#?}");
    }
}

#[test]
fn a_state_does_not_differ_from_itself() {
    let state = then(&first(), edit(&[1], &[], &[]));
    assert_eq!(changes(&state, &state), []);
    assert_eq!(files(&Root::default(), &state, &state).text(), "");
}

#[test]
fn columns_are_compared_by_id_and_shown_by_name() {
    let mut changed = columns();
    changed.remove(3);
    changed[0].name = "node".into();
    changed[2].data_type = DataType::Float64;
    let default = Some(ColumnDefault::Value(Value::Int(3)));
    changed.push(Column { default, comment: Some("new".into()), ..column(4, "free", DataType::Int64, SemanticType::Field) });
    let options = BTreeMap::from([("ttl".to_owned(), "30d".to_owned()), ("merge".to_owned(), "last".to_owned())]);
    let meta = RegionMeta { schema: schema(2, &changed), table: "cpu2".into(), options, ..meta() };
    let before = first();
    let after = then(&before, vec![Action::Change(MetaChange { meta: Arc::new(meta) })]);
    expect(
        &texts(&before, &after),
        &[
            "table: public.cpu -> public.cpu2",
            "schema version: 1 -> 2",
            "column node: host STRING TAG -> node STRING TAG",
            "column usage: usage FLOAT FIELD -> usage DOUBLE FIELD",
            "column old dropped: old BOOLEAN FIELD",
            "column free added: free BIGINT FIELD DEFAULT 3 COMMENT 'new'",
            "option ttl: 7d -> 30d",
            "option merge added: last",
        ],
    );
    expect(&texts(&after, &before), &["option merge dropped: last", "column old added: old BOOLEAN FIELD"]);
}

#[test]
fn rule_generation_and_repartition_are_said_in_words() {
    let before = first();
    let generation = Generation::new(5).unwrap();
    let target = Some(StageTarget { rule: rule(), partition_columns: vec![ColumnId(0)] });
    let fence = vec![Fence { wal: LOG, position: WalPosition::START }];
    let stage = Stage { txn: txn(), base: Generation::FIRST, generation, target, fence, schema_version: 1 };
    let staged = then(&before, vec![Action::Stage(stage)]);
    let added = "repartition added: txn 00000000000000000000000001, generation 1 -> 5, to become host < 'm', 0 files staged";
    expect(&texts(&before, &staged), &["state: open -> staged", added]);
    let meta = RegionMeta { rule: rule(), generation, partition_columns: vec![ColumnId(0)], ..meta() };
    let after = then(&before, vec![Action::Change(MetaChange { meta: Arc::new(meta) })]);
    expect(&texts(&before, &after), &["rule: TRUE -> host < 'm'", "generation: 1 -> 5", "partition columns: () -> (host)"]);
}

#[test]
fn history_and_logs_are_compared() {
    let before = then(&first(), edit(&[1], &[], &[]));
    let checkpoint = CheckpointRef { version: Slot::new(Epoch(1), 1), crc32: 1, bytes: 1, time_ms: 0 };
    let pin = Pin { name: "kept".into(), checkpoint, expires_unix_ms: Some(1_000) };
    let floor = Floor { version: Slot::new(Epoch(1), 1) };
    let after = then(&before, vec![Action::Checkpointed(Checkpointed { checkpoint }), Action::Pin(pin), Action::Floor(floor)]);
    expect(
        &texts(&before, &after),
        &[
            "snapshot 'kept' added: of 1-1, until 1970-01-01T00:00:01Z",
            "checkpoint 1-1 added: written 1970-01-01T00:00:00Z",
            "floor: 1-0 -> 1-1",
        ],
    );
    let wals = vec![WalRef { id: LOG, epochs: vec![Epoch(1), Epoch(2)], flushed: WalPosition::START }];
    let seal = Action::Seal(tessera_manifest::action::Seal { by: Nonce(2), clean: false });
    let sealed = then(&after, vec![seal]);
    let open = Action::Open(Open { writer: Nonce(2), node: NodeId(1), wal: Some(LOG), wals, abandoned: vec![] });
    let opened = sealed.apply_record(Slot::new(Epoch(2), 0), &[open]).unwrap();
    let log = format!("log {LOG}: epochs 1, flushed up to 0:0 -> epochs 1 2, flushed up to 0:0");
    expect(&texts(&after, &opened), &["epoch: 1 -> 2", &log]);
    expect(&texts(&after, &sealed), &["state: open -> sealed"]);
}

#[test]
fn files_that_come_back_are_told_from_new_ones() {
    let one = then(&first(), edit(&[1, 2], &[], &[]));
    let two = then(&one, edit(&[3], &[1], &[]));
    let three = then(&two, edit(&[4], &[2], &[1]));
    let diff = files(&Root::default(), &two, &three);
    let keys = |files: &[FileView]| files.iter().map(|file| file.key.clone()).collect::<Vec<_>>();
    let key = |number| file(number).key.to_string();
    assert_eq!((keys(&diff.added), keys(&diff.removed), keys(&diff.restored)), (vec![key(4)], vec![key(2)], vec![key(1)]));
    assert_eq!(diff.removed[0].until, three.version());
    let text = diff.text();
    let line = format!("  - {}: 5 rows, 1 of them deletes, 2.0 KiB, 1970-01-01T00:00:00Z to 1970-01-01T00:00:01Z", key(2));
    assert!(text.contains("1 file restored: 5 rows, 2.0 KiB") && text.contains(&line), "{text}");
    expect(&texts(&one, &two), &["removed files: 0 -> 1", "sequence: 1:2 -> 1:3"]);
}
