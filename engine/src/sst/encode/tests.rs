//! What the run encoder writes, beside what the Parquet crate writes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;

use super::{FileWriter, Settings};

fn schema(nullable: bool) -> SchemaRef {
    Arc::new(ArrowSchema::new(vec![Field::new("host", ArrowType::Utf8, nullable)]))
}

fn properties(group_rows: usize) -> WriterProperties {
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(100)
        .set_write_batch_size(1)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_bloom_filter_fpp("host".into(), 0.01)
        .build()
}

fn ours(schema: &SchemaRef, batches: &[ArrayRef], group_rows_max: usize) -> Bytes {
    let settings = Settings { group_rows_max, group_bytes_max: 8 << 20, page_rows_max: 100, zstd: ZstdLevel::default() };
    let mut writer = FileWriter::new(schema, &[0], properties(group_rows_max), settings).unwrap();
    let mut bytes = Vec::new();
    for column in batches {
        let schema = Arc::new(ArrowSchema::new(vec![schema.field(0).clone().with_data_type(column.data_type().clone())]));
        writer.write(&RecordBatch::try_new(schema, vec![Arc::clone(column)]).unwrap()).unwrap();
        bytes.append(writer.buffer().unwrap());
    }
    bytes.extend(writer.finish().unwrap());
    bytes.into()
}

fn theirs(schema: &SchemaRef, batches: &[ArrayRef], group_rows: usize) -> Bytes {
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties(group_rows))).unwrap();
    for column in batches {
        let plain = arrow::compute::cast(column, &ArrowType::Utf8).unwrap();
        writer.write(&RecordBatch::try_new(Arc::clone(schema), vec![plain]).unwrap()).unwrap();
    }
    writer.into_inner().unwrap().into()
}

fn values(file: &Bytes) -> Vec<Option<String>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().with_batch_size(64).build().unwrap();
    let batches = reader.map(|batch| arrow::compute::cast(batch.unwrap().column(0), &ArrowType::Utf8).unwrap());
    batches
        .flat_map(|column| column.as_any().downcast_ref::<StringArray>().unwrap().iter().map(|v| v.map(str::to_owned)).collect::<Vec<_>>())
        .collect()
}

/// Both files hold the same rows in the same groups and pages, and say the same of them.
fn assert_same(schema: &SchemaRef, batches: &[ArrayRef], group_rows: usize) {
    let (ours, theirs) = (ours(schema, batches, group_rows), theirs(schema, batches, group_rows));
    assert_eq!(values(&ours), values(&theirs));
    let read = |file: &Bytes| {
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
        Arc::clone(ArrowReaderMetadata::load(file, options).unwrap().metadata())
    };
    let (ours, theirs) = (read(&ours), read(&theirs));
    assert_eq!(ours.num_row_groups(), theirs.num_row_groups());
    for group in 0..ours.num_row_groups() {
        let (a, b) = (ours.row_group(group).column(0), theirs.row_group(group).column(0));
        assert_eq!(a.statistics(), b.statistics());
        assert_eq!((a.num_values(), a.compression()), (b.num_values(), b.compression()));
        assert_eq!(a.unencoded_byte_array_data_bytes(), b.unencoded_byte_array_data_bytes());
        assert_eq!(a.definition_level_histogram(), b.definition_level_histogram());
        let pages = |file: &ParquetMetaData| {
            file.offset_index().unwrap()[group][0].page_locations.iter().map(|page| page.first_row_index).collect::<Vec<_>>()
        };
        assert!(pages(&ours).iter().enumerate().all(|(page, first)| *first == page as i64 * 100));
        // That writer ends no page within a long run of NULLs.
        if pages(&ours) == pages(&theirs) {
            let index = |file: &ParquetMetaData| file.column_index().unwrap()[group][0].clone();
            assert_eq!(index(&ours), index(&theirs));
        }
        assert!(a.bloom_filter_offset().is_some() && b.bloom_filter_offset().is_some());
    }
}

fn coded(keys: &[i32], values: &[Option<&str>]) -> ArrayRef {
    Arc::new(DictionaryArray::new(Int32Array::from(keys.to_vec()), Arc::new(StringArray::from(values.to_vec()))))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn files_are_those_of_the_parquet_crate(
        runs in prop::collection::vec((prop::option::of("[a-dü]{0,3}"), 1_usize..150), 1..30),
        group_rows in 50_usize..400,
    ) {
        let rows: Vec<Option<String>> = runs.iter().flat_map(|(value, rows)| std::iter::repeat_n(value.clone(), *rows)).collect();
        let batches: Vec<ArrayRef> = rows.chunks(130).map(|rows| Arc::new(StringArray::from(rows.to_vec())) as ArrayRef).collect();
        assert_same(&schema(true), &batches, group_rows);
        let values: Vec<Option<&str>> = runs.iter().map(|(value, _)| value.as_deref()).collect();
        let keys: Vec<i32> = runs.iter().zip(0..).flat_map(|((_, rows), key)| std::iter::repeat_n(key, *rows)).collect();
        let whole = coded(&keys, &values);
        let batches: Vec<ArrayRef> = (0..keys.len()).step_by(130).map(|at| whole.slice(at, 130.min(keys.len() - at))).collect();
        assert_same(&schema(true), &batches, group_rows);
    }
}

#[test]
fn required_and_descending_and_empty_and_missing_values_are_told_alike() {
    let keys: Vec<i32> = (0..250).map(|row| row / 100).collect();
    assert_same(&schema(false), &[coded(&keys, &[Some("c"), Some(""), Some("a")])], 1_000);
    assert_same(&schema(false), &[coded(&keys, &[Some("c"), Some("b"), Some("a")])], 1_000);
    assert_same(&schema(true), &[coded(&keys, &[None, None, None])], 1_000);
    assert_same(&schema(true), &[coded(&keys, &[None, Some("x"), None])], 120);
}

#[test]
fn long_values_are_cut_in_statistics() {
    let long = format!("{}{}", "a".repeat(63), "üb".repeat(20));
    let high = format!("{}{}", "b".repeat(60), "ü\u{10ffff}\u{10ffff}");
    assert_same(&schema(false), &[coded(&[0, 0, 1], &[Some(&long), Some(&high)])], 1_000);
}

#[test]
fn large_dictionaries_end_and_pages_go_on_plain() {
    let text: Vec<String> = (0..3_000).map(|row| format!("{row:01000}")).collect();
    let column: ArrayRef = Arc::new(StringArray::from(text.clone()));
    let schema = schema(true);
    for column in [Arc::clone(&column), coded(&(0..3_000).collect::<Vec<_>>(), &text.iter().map(|t| Some(t.as_str())).collect::<Vec<_>>())]
    {
        let file = ours(&schema, &[column], 10_000);
        assert_eq!(values(&file), text.iter().cloned().map(Some).collect::<Vec<_>>());
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).unwrap();
        let chunk = metadata.metadata().row_group(0).column(0);
        let encodings = chunk.page_encoding_stats_mask().unwrap();
        assert!(encodings.is_set(Encoding::PLAIN) && encodings.is_set(Encoding::RLE_DICTIONARY));
    }
}

#[test]
fn columns_of_two_threads_come_together_in_order() {
    let field = |name: &str, data_type| Field::new(name, data_type, false);
    let fields =
        vec![field("a", ArrowType::Int32), field("host", ArrowType::Utf8), field("b", ArrowType::Int32), field("c", ArrowType::Utf8)];
    let schema = Arc::new(ArrowSchema::new(fields));
    let settings = Settings { group_rows_max: 250, group_bytes_max: 8 << 20, page_rows_max: 100, zstd: ZstdLevel::default() };
    let mut writer = FileWriter::new(&schema, &[1], properties(250), settings).unwrap();
    let mut written = Vec::new();
    for start in (0..1_000).step_by(90) {
        let numbers = start..start + 90;
        let number = |plus: i32| Arc::new(Int32Array::from_iter_values(numbers.clone().map(|n| n + plus))) as ArrayRef;
        let text = |of: i32| Arc::new(StringArray::from_iter_values(numbers.clone().map(|n| format!("{}", n / of)))) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![number(0), text(7), number(5), text(3)]).unwrap();
        writer.write(&batch).unwrap();
        written.push(batch);
    }
    let bytes = Bytes::from(writer.finish().unwrap());
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 5);
    let read: Vec<RecordBatch> = reader.with_batch_size(10_000).build().unwrap().map(Result::unwrap).collect();
    let whole = |batches: &[RecordBatch]| arrow::compute::concat_batches(&schema, batches).unwrap();
    assert_eq!(whole(&read).columns(), whole(&written).columns());
}
