//! A small region and files of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ulid::Ulid;

use crate::file::{FileMeta, FileRef, Scope};
use crate::id::{ColumnId, Epoch, FileId, FileKey, Generation, NodeId, Nonce, RegionId, RegionNumber, Sequence, TableId};
use crate::log::Opener;
use crate::meta::RegionMeta;
use crate::rule::{CompareOp, Expr};
use crate::schema::{Column, Schema, SemanticType};
use crate::value::{DataType, TimeUnit, Value};
use crate::wal::{WalId, WalKind};

pub(crate) const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
pub(crate) const OTHER_REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(9));
pub(crate) const WAL: WalId = WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(7) };
/// Writes rows to one log, in one epoch of it.
pub(crate) const OPENER: Opener = Opener { node: NodeId(1), wal: Some((WAL, Epoch(1))) };

pub(crate) fn meta(table: &str) -> Arc<RegionMeta> {
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
        table: table.into(),
        schema: Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}

/// `host < text`.
pub(crate) fn below(text: &str) -> Expr {
    Expr::Compare { column: ColumnId(0), op: CompareOp::Lt, value: Value::String(text.into()) }
}

pub(crate) fn generation(number: u32) -> Generation {
    Generation::new(number).unwrap()
}

pub(crate) fn key(epoch: u32, ulid: u128) -> FileKey {
    FileKey { origin: REGION, file: FileId::new(Epoch(epoch), Ulid(ulid)) }
}

/// A file of one row, which is `newest`.
pub(crate) fn file_of(key: FileKey, newest: Sequence) -> Arc<FileRef> {
    let meta = FileMeta {
        time_range: (0, 10),
        rows: 5,
        deletes: 0,
        bytes: 100,
        sequences: (Sequence::new(newest.generation(), 0).unwrap(), newest),
        level: 0,
        generation: newest.generation(),
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: 1,
    };
    Arc::new(FileRef { key, scope: Scope::all(), meta })
}

/// A file of the first generation, whose newest row has the number of its ulid.
pub(crate) fn file(epoch: u32, ulid: u64) -> Arc<FileRef> {
    file_of(key(epoch, ulid.into()), Sequence::new(Generation::FIRST, ulid).unwrap())
}
