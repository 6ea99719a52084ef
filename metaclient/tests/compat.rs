//! Frozen bytes of every kind of stored value.
//!
//! For each kind and version, `tests/compat` holds the bytes as hex, a twin with one byte flipped, and a twin
//! that asks for a newer reader. Files are only added. A missing set for the current version is written when
//! `TESSERA_WRITE_COMPAT` is set; an existing file is never written.

#![expect(clippy::unwrap_used, reason = "helpers of tests, where a panic is the report")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use prost::Message;
use tessera_manifest::id::{ColumnId, Generation, NodeId, Nonce, RegionId, RegionNumber, TableId};
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};
use tessera_metaclient::catalog::{Database, Route, SwitchedOn, TableInfo, Tombstone};
use tessera_metaclient::kv::{Key, Revision};
use tessera_metaclient::lock::Holder;
use tessera_metaclient::node::Node;
use tessera_metaclient::procedure::{Blocked, Direction, Locks, Phase, Progress, Record, RunnerClaim, State};
use tessera_metaclient::values::{Kind, NextTableId, Stored, TableName, ValueError, decode, encode, seal};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/compat").join(name)
}

fn read(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let digits = text.split_whitespace().collect::<String>();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn write_if_missing(name: &str, bytes: &[u8]) {
    if std::env::var_os("TESSERA_WRITE_COMPAT").is_none() || path(name).exists() {
        return;
    }
    let lines: Vec<String> = bytes.chunks(32).map(|line| line.iter().map(|b| format!("{b:02x}")).collect()).collect();
    std::fs::write(path(name), lines.join("\n") + "\n").unwrap();
}

/// The value in its current form, but for readers of the version after this one.
fn for_newer_readers<T: Stored>(value: &T) -> Vec<u8> {
    let newer = u8::try_from(T::KIND.current().ver + 1).unwrap();
    // In protobuf the last of several occurrences of a field counts.
    let mut message = value.to_message().encode_to_vec();
    message.extend_from_slice(&[1 << 3, newer, 2 << 3, newer]);
    seal(T::KIND, &message).to_vec()
}

/// Checks the frozen bytes of the current version.
fn check<T: Stored + PartialEq + Debug>(file: &str, value: &T) {
    let version = T::KIND.current().ver;
    let name = |suffix: &str| format!("v{version:03}_{file}.{suffix}");
    let (golden, flipped, newer) = (name("hex"), name("flipped.hex"), name("newer.hex"));
    let key = Key::from("some/key");
    let encoded = encode(value);
    let mut damaged = encoded.to_vec();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    write_if_missing(&golden, &encoded);
    write_if_missing(&flipped, &damaged);
    write_if_missing(&newer, &for_newer_readers(value));

    let frozen = read(&golden);
    assert_eq!(decode::<T>(&key, &frozen).as_ref(), Ok(value), "{golden}");
    assert_eq!(encoded, frozen, "{golden}: what is written has changed, and that needs a new version");
    let refused = decode::<T>(&key, &read(&flipped)).unwrap_err();
    assert!(matches!(refused, ValueError::Damaged { .. }), "{flipped}: {refused}");
    let refused = decode::<T>(&key, &read(&newer)).unwrap_err();
    assert_eq!(refused, ValueError::TooNew { key: key.clone(), kind: T::KIND, min_reader_ver: version + 1, reader_ver: version });
    let text = refused.to_string();
    assert!(
        ["some/key", &format!("version {}", version + 1), &format!("version {version}")].iter().all(|part| text.contains(part)),
        "{text}"
    );

    for at in 0..frozen.len() {
        for bit in 0..8 {
            let mut damaged = frozen.clone();
            damaged[at] ^= 1 << bit;
            assert!(decode::<T>(&key, &damaged).is_err(), "{golden}: bit {bit} of byte {at} flipped unnoticed");
        }
        assert!(decode::<T>(&key, &frozen[..at]).is_err(), "{golden}: cut to {at} bytes unnoticed");
    }
}

fn table() -> TableInfo {
    let column = |id, name: &str, data_type, semantic| {
        let nullable = semantic != SemanticType::TimeIndex;
        Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
    };
    let mut columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
        column(2, "usage", DataType::Float64, SemanticType::Field),
    ];
    columns[1].default = Some(ColumnDefault::CurrentTimestamp);
    columns[2].default = Some(ColumnDefault::Value(Value::Float(0.5)));
    columns[2].comment = Some("share of one core".into());
    TableInfo {
        id: TableId(1024),
        database: "public".into(),
        name: "cpu/älter".into(),
        schema: Schema::new(columns, vec![ColumnId(0)]).unwrap(),
        partition_columns: vec![ColumnId(0)],
        options: BTreeMap::from([("append_mode".into(), "false".into()), ("ttl".into(), "7d".into())]),
        created_unix_ms: 1_700_000_000_123,
        next_region_number: RegionNumber(3),
        next_generation: Generation::new(2).unwrap(),
    }
}

#[test]
fn databases_are_read_as_they_were_written() {
    let options = BTreeMap::from([("ttl".into(), "7d".into())]);
    check("database", &Database { name: "public".into(), created_unix_ms: 1_700_000_000_123, options });
}

#[test]
fn databases_of_version_1_have_no_options() {
    let found = decode::<Database>(&Key::from("some/key"), &read("v001_database.hex"));
    assert_eq!(found, Ok(Database { name: "public".into(), created_unix_ms: 1_700_000_000_123, options: BTreeMap::new() }));
    assert!(matches!(decode::<Database>(&Key::from("some/key"), &read("v001_database.flipped.hex")), Err(ValueError::Damaged { .. })));
}

#[test]
fn table_names_are_read_as_they_were_written() {
    check("table_name", &TableName(TableId(1024)));
}

#[test]
fn tables_are_read_as_they_were_written() {
    check("table", &table());
}

#[test]
fn tombstones_are_read_as_they_were_written() {
    check("tombstone", &Tombstone { table: table(), dropped_unix_ms: 1_700_000_000_999 });
}

#[test]
fn routes_are_read_as_they_were_written() {
    let compare = |op, text: &str| Expr::Compare { column: ColumnId(0), op, value: Value::String(text.into()) };
    let rule = Expr::And(vec![compare(CompareOp::GtEq, "h"), Expr::Not(Box::new(compare(CompareOp::Eq, "m")))]);
    let region = RegionId::new(TableId(1024), RegionNumber(1));
    check("route", &Route { region, node: NodeId(0), generation: Generation::FIRST, rule });
}

#[test]
fn sequences_are_read_as_they_were_written() {
    check("sequence", &NextTableId(TableId(1025)));
}

#[test]
fn identities_are_read_as_they_were_written() {
    check("identity", &Nonce(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
}

#[test]
fn switches_are_read_as_they_were_written() {
    check("switch", &SwitchedOn { since_unix_ms: 1_700_000_000_123 });
}

#[test]
fn claims_of_runners_are_read_as_they_were_written() {
    check("procedure_runner", &RunnerClaim { epoch: 7, nonce: Nonce(0xabcd), claimed_unix_ms: 1_700_000_000_123 });
}

#[test]
fn procedures_are_read_as_they_were_written() {
    check("procedure", &procedure());
}

#[test]
fn procedures_of_version_1_take_nobodys_place() {
    let found = decode::<Record>(&Key::from("some/key"), &read("v001_procedure.hex"));
    assert_eq!(found, Ok(Record { in_place_of: None, ..procedure() }));
    assert!(matches!(decode::<Record>(&Key::from("some/key"), &read("v001_procedure.flipped.hex")), Err(ValueError::Damaged { .. })));
}

fn procedure() -> Record {
    let state = |version, text: &'static str| State { version, bytes: text.as_bytes().into() };
    Record {
        id: "01JCZ7-drop_table.1024".parse().unwrap(),
        kind: "drop_table".into(),
        input: state(1, "{\"table\":1024}"),
        state: state(2, "{\"table\":1024,\"stage\":\"retire\"}"),
        locks: Locks::none().shared("database/public").exclusive("table/1024"),
        phase: Phase::Blocked { direction: Direction::Back, on: Blocked::Unreadable },
        past_no_return: true,
        cancel_requested: true,
        steps: 3,
        attempts: 2,
        error: Some("the store does not answer".into()),
        progress: Progress::of("retiring regions", 2, 3),
        output: Some("dropped".into()),
        epoch: 7,
        writes: 9,
        queued_after: Revision(4242),
        in_place_of: Some("01JCZ7-repartition".parse().unwrap()),
        submitted_unix_ms: 1_700_000_000_123,
        written_unix_ms: 1_700_000_000_456,
    }
}

#[test]
fn holders_are_read_as_they_were_written() {
    check("holder", &Holder { name: "metasrv-0".into(), permits: 2, since_unix_ms: 1_700_000_000_123 });
}

#[test]
fn nodes_are_read_as_they_were_written() {
    let (id, incarnation) = (NodeId(7), Nonce(0xef));
    check("node", &Node { id, address: "10.0.0.7:4000".into(), version: "0.1.0".into(), incarnation, started_unix_ms: 1_700_000_000_123 });
}

#[test]
fn a_value_of_another_kind_is_refused() {
    let bytes = encode(&TableName(TableId(1024)));
    let refused = decode::<NextTableId>(&"sequence/table".into(), &bytes).unwrap_err();
    assert!(matches!(refused, ValueError::WrongKind { expected: Kind::Sequence, found: 2, .. }), "{refused}");
}

#[test]
fn sound_bytes_with_unsound_content_are_refused() {
    let mut message = table().to_message();
    message.partition_columns = vec![99];
    let refused = decode::<TableInfo>(&"table/id/0000001024".into(), &seal(Kind::Table, &message.encode_to_vec()));
    assert!(matches!(refused, Err(ValueError::Malformed { .. })), "{refused:?}");
    message.schema_json = b"{}".to_vec();
    let refused = decode::<TableInfo>(&"table/id/0000001024".into(), &seal(Kind::Table, &message.encode_to_vec()));
    assert!(matches!(refused, Err(ValueError::Malformed { .. })), "{refused:?}");
}

#[test]
fn every_kind_has_its_frozen_bytes() {
    for kind in Kind::ALL {
        let file = kind.to_string().replace(' ', "_");
        for suffix in ["hex", "flipped.hex", "newer.hex"] {
            let name = format!("v{:03}_{file}.{suffix}", kind.current().ver);
            assert!(path(&name).exists() || std::env::var_os("TESSERA_WRITE_COMPAT").is_some(), "{name} is missing");
        }
    }
}
