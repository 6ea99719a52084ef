//! A schema with every type of column, rows with every kind of value, and ids that are the same in each run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array, Int16Array, Int32Array,
    Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
    TimestampSecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
};
use tessera_manifest::env::{Env, Source};
use tessera_manifest::id::{ColumnId, Generation, RegionId, RegionNumber, TableId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Column, ColumnDefault, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

/// The region of all golden files.
pub(super) const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(7));

/// Counts instead of drawing.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Source for Counter {
    fn unix_ms(&self) -> u64 {
        1_700_000_000_000
    }

    fn random_u128(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + (0x7e55_e7a0_u128 << 96)
    }
}

/// Time that stands still, and names that count.
pub(super) fn env() -> Env {
    Env::from_source(Arc::new(Counter::default()))
}

fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
    let nullable = semantic != SemanticType::TimeIndex;
    Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
}

/// Every type, as tags `host` and `dc`, time index `ts`, and fields.
pub(super) fn schema() -> Arc<Schema> {
    let decimal = DataType::Decimal { precision: 20, scale: 3 };
    let fields = [
        ("bool", DataType::Boolean),
        ("i8", DataType::Int8),
        ("i16", DataType::Int16),
        ("i32", DataType::Int32),
        ("i64", DataType::Int64),
        ("u8", DataType::UInt8),
        ("u16", DataType::UInt16),
        ("u32", DataType::UInt32),
        ("u64", DataType::UInt64),
        ("f32", DataType::Float32),
        ("f64", DataType::Float64),
        ("text", DataType::String),
        ("bin", DataType::Binary),
        ("day", DataType::Date),
        ("sec", DataType::Timestamp(TimeUnit::Second)),
        ("us", DataType::Timestamp(TimeUnit::Microsecond)),
        ("ns", DataType::Timestamp(TimeUnit::Nanosecond)),
        ("dec", decimal),
    ];
    let mut columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "dc", DataType::Int32, SemanticType::Tag),
        column(2, "ts", DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex),
    ];
    columns.extend((3..).zip(fields).map(|(id, (name, data_type))| column(id, name, data_type, SemanticType::Field)));
    columns[2].default = Some(ColumnDefault::CurrentTimestamp);
    columns[13].default = Some(ColumnDefault::Value(Value::Float(0.5)));
    columns[13].comment = Some("größer als \"null\"".into());
    Arc::new(Schema::new(columns, vec![ColumnId(1), ColumnId(0)]).unwrap())
}

/// `host >= 'h' AND NOT (dc = 5) AND (dc < 9 OR dc IN (11, NULL))`, in canonical form.
pub(super) fn rule() -> Expr {
    let compare = |column, op, value| Expr::Compare { column: ColumnId(column), op, value };
    let list = Expr::In { column: ColumnId(1), values: vec![Value::Null, Value::Int(11)] };
    let rule = compare(0, CompareOp::GtEq, Value::String("h".into()))
        .and(compare(1, CompareOp::Eq, Value::Int(5)).negated())
        .and(compare(1, CompareOp::Lt, Value::Int(9)).or(list));
    rule.canonical()
}

/// The metadata of the region.
pub(super) fn meta() -> RegionMeta {
    RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "cpu/älter".into(),
        schema: schema(),
        partition_columns: vec![ColumnId(0), ColumnId(1)],
        rule: Arc::new(rule()),
        generation: Generation::FIRST,
        options: BTreeMap::from([("append_mode".into(), "false".into())]),
    }
}

/// Three rows: ordinary values, extremes, and NULL wherever it may be.
pub(super) fn rows() -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["h1", "z\u{10ffff}", "host"])),
        Arc::new(Int32Array::from(vec![Some(1), Some(-7), None])),
        Arc::new(TimestampMillisecondArray::from(vec![1_357_020_000_000, -1, 0])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int8Array::from(vec![Some(1), Some(i8::MIN), None])),
        Arc::new(Int16Array::from(vec![Some(2), Some(i16::MIN), None])),
        Arc::new(Int32Array::from(vec![Some(3), Some(i32::MIN), None])),
        Arc::new(Int64Array::from(vec![Some(4), Some(i64::MIN), None])),
        Arc::new(UInt8Array::from(vec![Some(5), Some(u8::MAX), None])),
        Arc::new(UInt16Array::from(vec![Some(6), Some(u16::MAX), None])),
        Arc::new(UInt32Array::from(vec![Some(7), Some(u32::MAX), None])),
        Arc::new(UInt64Array::from(vec![Some(8), Some(u64::MAX), None])),
        Arc::new(Float32Array::from(vec![Some(0.5), Some(f32::NEG_INFINITY), None])),
        Arc::new(Float64Array::from(vec![Some(55.546_552_516_662_83), Some(-0.0), None])),
        Arc::new(StringArray::from(vec![Some("naïve 文字"), Some(""), None])),
        Arc::new(BinaryArray::from_opt_vec(vec![Some(&b"\x00\xff"[..]), Some(b""), None])),
        Arc::new(Date32Array::from(vec![Some(15_706), Some(-1), None])),
        Arc::new(TimestampSecondArray::from(vec![Some(1_357_020_000), Some(-1), None])),
        Arc::new(TimestampMicrosecondArray::from(vec![Some(1_357_020_000_000_001), Some(-1), None])),
        Arc::new(TimestampNanosecondArray::from(vec![Some(1_357_020_000_000_000_001), Some(-1), None])),
        Arc::new(Decimal128Array::from(vec![Some(12_345_678_901_234_567_890), Some(-1), None]).with_precision_and_scale(20, 3).unwrap()),
    ];
    RecordBatch::try_new(schema().to_arrow(), columns).unwrap()
}
