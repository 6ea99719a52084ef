//! Schemas, batches and stores for the tests of this crate's data path.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tessera_manifest::env::Env;
use tessera_manifest::file::{FileMeta, FileRef, Scope};
use tessera_manifest::id::{ColumnId, Epoch, FileKey, Generation, RegionId, RegionNumber, Sequence, TableId};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use super::BatchStream;
use super::value::{repeat, value_at};
use crate::config::Config;
use crate::memtable::columns_of;
use crate::request::OpType;
use crate::sst::{Access, Error, NewFile};

pub(crate) const MS: DataType = DataType::Timestamp(TimeUnit::Millisecond);

pub(crate) fn column(id: u32, name: &str, data_type: DataType, semantic: SemanticType) -> Column {
    let nullable = semantic != SemanticType::TimeIndex;
    Column { id: ColumnId(id), name: name.into(), data_type, semantic, nullable, default: None, comment: None }
}

/// Every column type, in the order of the WAL's type codes.
pub(crate) fn every_type() -> Vec<DataType> {
    use DataType as T;
    let units = [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond];
    let mut types = vec![T::Boolean, T::Int8, T::Int16, T::Int32, T::Int64, T::UInt8, T::UInt16, T::UInt32, T::UInt64, T::Float32];
    types.extend([T::Float64, T::String, T::Binary, T::Date]);
    types.extend(units.map(T::Timestamp));
    types.extend([(38, 10), (18, 2), (5, 5)].map(|(precision, scale)| T::Decimal { precision, scale }));
    types
}

/// A tag, the time index and a field of each type.
pub(crate) fn every_type_schema() -> Arc<Schema> {
    let mut columns = vec![column(0, "host", DataType::String, SemanticType::Tag), column(1, "ts", MS, SemanticType::TimeIndex)];
    for (index, data_type) in every_type().into_iter().enumerate() {
        columns.push(column(index as u32 + 2, &format!("f.{data_type}"), data_type, SemanticType::Field));
    }
    Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap())
}

pub(crate) fn array(data_type: DataType, values: impl IntoIterator<Item = Value>) -> ArrayRef {
    let arrays: Vec<ArrayRef> = values.into_iter().map(|v| repeat(&v, data_type, 1).unwrap()).collect();
    let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
    if arrays.is_empty() { repeat(&Value::Null, data_type, 0).unwrap() } else { concat(&arrays).unwrap() }
}

/// A write of whole rows (values in display order); a delete takes the key columns of them.
pub(crate) fn batch(schema: &Schema, op: OpType, rows: &[Vec<Value>]) -> RecordBatch {
    let positions: Vec<usize> = columns_of(schema, op).collect();
    let fields: Vec<_> = positions.iter().map(|p| schema.columns()[*p].to_arrow()).collect();
    let column = |p: &usize| array(schema.columns()[*p].data_type, rows.iter().map(|row| row[*p].clone()));
    RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), positions.iter().map(column).collect()).unwrap()
}

pub(crate) fn rows_of(batches: &[RecordBatch]) -> Vec<Vec<Value>> {
    let type_of = |c: &ArrayRef| every_type().into_iter().find(|t| t.to_arrow() == *c.data_type()).unwrap();
    let row = |batch: &RecordBatch, row| batch.columns().iter().map(|c| value_at(c, row, type_of(c)).unwrap()).collect();
    batches.iter().flat_map(|batch| (0..batch.num_rows()).map(move |r| row(batch, r))).collect()
}

/// The same batch without run-end encoding.
pub(crate) fn in_values(batch: &RecordBatch) -> RecordBatch {
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        ArrowType::RunEndEncoded(_, values) => cast(column, values.data_type()).unwrap(),
        _ => Arc::clone(column),
    });
    let columns: Vec<ArrayRef> = columns.collect();
    let fields = batch
        .schema()
        .fields()
        .iter()
        .zip(&columns)
        .map(|(field, column)| field.as_ref().clone().with_data_type(column.data_type().clone()))
        .collect::<Vec<_>>();
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), columns, &rows).unwrap()
}

pub(crate) async fn collect(stream: BatchStream) -> Result<Vec<RecordBatch>, Error> {
    stream.try_collect().await
}

pub(crate) fn sequence(counter: u64) -> Sequence {
    Sequence::new(Generation::FIRST, counter).unwrap()
}

/// A store in memory and access to it.
pub(crate) fn memory(row_group_rows: usize) -> (Arc<dyn ObjectStore>, Access) {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let access = Access::new(Arc::clone(&store), &Config { row_group_rows, ..Config::default() });
    (store, access)
}

pub(crate) fn new_file(schema: &Arc<Schema>) -> NewFile {
    let region = RegionId::new(TableId(1024), RegionNumber(3));
    NewFile {
        key: FileKey { origin: region, file: Env::system().file_id(Epoch(2)) },
        schema: Arc::clone(schema),
        level: 0,
        generation: Generation::FIRST,
        rule: Arc::new(Expr::always()),
        partition_columns: schema.primary_key().to_vec(),
        skipping: Default::default(),
    }
}

pub(crate) fn reference(file: &NewFile, meta: FileMeta) -> FileRef {
    FileRef { key: file.key, scope: Scope::all(), meta }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
