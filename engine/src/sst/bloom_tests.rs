//! Bloom filters of files: what they save, and that they hide nothing.

use std::sync::Arc;

use tessera_manifest::file::FileRef;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{ColumnChange, Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::cold_tests::{Counting, access};
use super::tests::extremes_of;
use super::{Access, NewFile, ReadOptions, flush};
use crate::memtable::Memtable;
use crate::merge::fixtures::{
    MS, batch, block_on, collect, column, every_type, every_type_schema, memory, new_file, reference, rows_of, sequence,
};
use crate::merge::{Dedup, Layout};
use crate::options::SkippingIndex;
use crate::request::OpType;

const TRACE: ColumnId = ColumnId(2);
const ROWS: i64 = 30_000;

fn traces() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "trace", DataType::Int64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap())
}

/// Numbers all over the place, no two the same.
fn trace(n: i64) -> Value {
    let mixed = n.cast_unsigned().wrapping_mul(0x9E37_79B9_7F4A_7C15);
    Value::Int((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9).cast_signed())
}

fn is(column: ColumnId, value: Value) -> Arc<Expr> {
    Arc::new(Expr::Compare { column, op: CompareOp::Eq, value })
}

async fn write(access: &Access, schema: &Arc<Schema>, rows: &[Vec<Value>], indexed: &[ColumnId]) -> FileRef {
    // So rare that none of the values asked for here seems to be there: the filter of the same values is the same.
    let index = SkippingIndex { false_positive_ppm: 1_000 };
    let file = NewFile { skipping: indexed.iter().map(|id| (*id, index)).collect(), ..new_file(schema) };
    let memtable = Memtable::new(Arc::clone(schema));
    memtable.insert(batch(schema, OpType::Put, rows), OpType::Put, sequence(1)).unwrap();
    let meta = flush(access, memtable.snapshot(), file.clone(), Dedup::Keep).await.unwrap().unwrap();
    reference(&file, meta)
}

/// Row groups that are read under a condition, and their rows that satisfy it.
async fn read(access: &Access, file: &FileRef, schema: &Arc<Schema>, filter: &Arc<Expr>) -> (usize, Vec<Vec<Value>>) {
    let layout = Arc::new(Layout::plain(Arc::clone(schema), None).unwrap());
    let scan = access.scan(file, &ReadOptions { layout, filter: Arc::clone(filter) }).await.unwrap();
    let groups = scan.row_groups;
    let mut rows = rows_of(&collect(scan.into_stream()).await.unwrap());
    rows.retain(|row| filter.matches(|id| &row[schema.position(id).unwrap()]));
    (groups, rows)
}

#[test]
fn a_value_that_no_bloom_filter_has_costs_no_pages() {
    block_on(async {
        let schema = traces();
        let rows: Vec<Vec<Value>> = (0..ROWS).map(|n| vec![Value::String(format!("h{}", n % 4)), Value::Timestamp(n), trace(n)]).collect();
        let column_bytes = 8 * ROWS as u64;
        for indexed in [true, false] {
            let store = Arc::new(Counting::default());
            let file = write(&access(&store), &schema, &rows, if indexed { &[TRACE] } else { &[] }).await;
            let access = access(&store);
            store.take();
            let none = (usize::from(!indexed), vec![]);
            assert_eq!(read(&access, &file, &schema, &is(TRACE, trace(ROWS))).await, none);
            let (_, cold) = store.take();
            assert_eq!(cold > column_bytes, !indexed, "{cold} bytes, of which {column_bytes} would be the column's");
            for n in 1..20 {
                assert_eq!(read(&access, &file, &schema, &is(TRACE, trace(ROWS + n))).await, none, "{n}");
            }
            if indexed {
                assert_eq!(store.take(), (0, 0), "the filter is in memory, and nothing else is needed");
            }
            for n in [0, 1, 7_919, ROWS - 1] {
                let row = rows[n as usize].clone();
                assert_eq!(read(&access, &file, &schema, &is(TRACE, trace(n))).await, (1, vec![row]), "{n}");
            }
            let some = Expr::In { column: TRACE, values: vec![trace(ROWS), trace(5), Value::Int(1)] };
            assert_eq!(read(&access, &file, &schema, &Arc::new(some)).await, (1, vec![rows[5].clone()]));
        }
    });
}

/// A value of the type between those of [`extremes_of`], of which a filter has one stored form to ask for; none for booleans,
/// which have no values between.
fn between(data_type: DataType) -> Option<Value> {
    use DataType as T;
    match data_type {
        T::Boolean => None,
        T::Int8 | T::Int16 | T::Int32 | T::Int64 => Some(Value::Int(77)),
        T::UInt8 | T::UInt16 | T::UInt32 | T::UInt64 => Some(Value::UInt(77)),
        T::Float32 | T::Float64 => Some(Value::Float(7.5)),
        T::String => Some(Value::String("aa".into())),
        T::Binary => Some(Value::Binary(vec![0, 7])),
        T::Date => Some(Value::Date(77)),
        T::Timestamp(_) => Some(Value::Timestamp(77)),
        T::Decimal { .. } => Some(Value::Decimal(77)),
    }
}

/// Whether filters are asked: where a value has one stored form. 0 and −0 are two of one value.
fn is_asked(data_type: DataType) -> bool {
    !matches!(data_type, DataType::Boolean | DataType::Float32 | DataType::Float64 | DataType::Decimal { .. })
}

/// Some rows with the extremes of every type, and both zeros of floats.
fn extremes() -> Vec<Vec<Value>> {
    let fields = |n: usize| {
        every_type().into_iter().map(move |data_type| {
            let mut values = extremes_of(data_type);
            if matches!(data_type, DataType::Float32 | DataType::Float64) {
                values.push(Value::Float(0.0));
            }
            values[n % values.len()].clone()
        })
    };
    (0..12).map(|n| [Value::String("h".into()), Value::Timestamp(n as i64)].into_iter().chain(fields(n)).collect()).collect()
}

/// Every value of a column is found under a schema, and how many row groups are read for one that it does not have.
async fn check_column(access: &Access, file: &FileRef, schema: &Arc<Schema>, id: ColumnId) -> Option<usize> {
    let (at, data_type) = (schema.position(id).unwrap(), schema.column(id).unwrap().data_type);
    let (_, all) = read(access, file, schema, &Arc::new(Expr::always())).await;
    for value in all.iter().map(|row| &row[at]) {
        let expected: Vec<Vec<Value>> = all.iter().filter(|row| row[at] == *value).cloned().collect();
        let one_of = Expr::In { column: id, values: vec![between(data_type).unwrap_or(Value::Null), value.clone()] };
        for filter in [is(id, value.clone()), Arc::new(one_of)] {
            let (_, found) = read(access, file, schema, &filter).await;
            let found: Vec<Vec<Value>> = found.into_iter().filter(|row| row[at] == *value).collect();
            assert_eq!(found, expected, "{data_type}, {filter:?}");
        }
    }
    let (groups, found) = read(access, file, schema, &is(id, between(data_type)?)).await;
    assert_eq!(found, Vec::<Vec<Value>>::new());
    Some(groups)
}

#[test]
fn bloom_filters_hide_no_value_of_any_type_and_are_asked_where_a_value_has_one_stored_form() {
    block_on(async {
        let (_, access) = memory(1_000);
        let schema = every_type_schema();
        let ids: Vec<ColumnId> = schema.columns().iter().map(|column| column.id).filter(|id| id.0 >= 2).collect();
        let with = write(&access, &schema, &extremes(), &ids).await;
        let without = write(&access, &schema, &extremes(), &[]).await;
        for id in ids {
            let data_type = schema.column(id).unwrap().data_type;
            let groups = check_column(&access, &with, &schema, id).await;
            assert_eq!(groups, between(data_type).map(|_| usize::from(!is_asked(data_type))), "{data_type}");
            let groups = check_column(&access, &without, &schema, id).await;
            assert_eq!(groups, between(data_type).map(|_| 1), "{data_type} without a filter");
        }
    });
}

/// Whether values keep their stored form when their type becomes wider: small numbers are all stored in 32 bits.
fn keeps_form(from: DataType, to: DataType) -> bool {
    use DataType as T;
    let small = |t| matches!(t, T::Int8 | T::Int16 | T::Int32 | T::UInt8 | T::UInt16 | T::UInt32);
    small(from) && small(to)
}

#[test]
fn bloom_filters_hide_no_value_of_a_column_that_has_become_wider() {
    block_on(async {
        let (_, access) = memory(1_000);
        let schema = every_type_schema();
        let ids: Vec<ColumnId> = schema.columns().iter().map(|column| column.id).filter(|id| id.0 >= 2).collect();
        let file = write(&access, &schema, &extremes(), &ids).await;
        let mut widened = 0;
        for column in ids.into_iter().map(|id| schema.column(id).unwrap()) {
            let wider = every_type().into_iter().filter(|to| *to != column.data_type && column.data_type.widens_to(*to));
            for to in wider {
                let change = ColumnChange::Modify { name: column.name.clone(), data_type: to };
                let later = Arc::new(schema.evolve(&[change], &[]).unwrap());
                let groups = check_column(&access, &file, &later, column.id).await;
                assert_eq!(groups, Some(usize::from(!keeps_form(column.data_type, to))), "from {} to {to}", column.data_type);
                widened += 1;
            }
        }
        assert!(widened > 20, "{widened} widenings");
    });
}

#[test]
fn a_bloom_filter_is_asked_for_a_condition_within_nested_conjunctions() {
    block_on(async {
        let (_, access) = memory(1_000);
        let schema = traces();
        let rows: Vec<Vec<Value>> = (0..3_000).map(|n| vec![Value::String("h".into()), Value::Timestamp(n), trace(n)]).collect();
        let file = write(&access, &schema, &rows, &[TRACE]).await;
        // As a rule of partition or a slice of keys is added to what a query asks for.
        let around = |inner: &Arc<Expr>| {
            let bound = |op, t| Expr::Compare { column: ColumnId(1), op, value: Value::Timestamp(t) };
            let query = Expr::And(vec![bound(CompareOp::GtEq, 0), Expr::clone(inner)]);
            Arc::new(Expr::And(vec![query, bound(CompareOp::Lt, i64::MAX)]))
        };
        assert_eq!(read(&access, &file, &schema, &around(&is(TRACE, trace(-1)))).await, (0, vec![]));
        assert_eq!(read(&access, &file, &schema, &around(&is(TRACE, trace(5)))).await, (1, vec![rows[5].clone()]));
    });
}
