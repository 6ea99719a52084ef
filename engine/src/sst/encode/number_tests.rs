//! What the encoder of numbers writes, beside what the Parquet crate writes.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType as ArrowType, Field, Schema as ArrowSchema, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use proptest::prelude::*;

use super::number_column::writer;
use super::{FileWriter, Settings};

const TYPES: [ArrowType; 10] = [
    ArrowType::Int8,
    ArrowType::Int16,
    ArrowType::Int32,
    ArrowType::Int64,
    ArrowType::UInt8,
    ArrowType::UInt16,
    ArrowType::Float32,
    ArrowType::Float64,
    ArrowType::Date32,
    ArrowType::Timestamp(TimeUnit::Millisecond, None),
];
const PAGE_ROWS: usize = 100;

fn properties(group_rows: usize, compressed: bool) -> WriterProperties {
    let zstd = Compression::ZSTD(ZstdLevel::default());
    WriterProperties::builder()
        .set_compression(if compressed { zstd } else { Compression::UNCOMPRESSED })
        .set_max_row_group_row_count(Some(group_rows))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(1)
        .set_statistics_enabled(EnabledStatistics::Page)
        .build()
}

fn ours(schema: &SchemaRef, batches: &[ArrayRef], group_rows_max: usize, compressed: bool) -> Bytes {
    let settings = Settings { group_rows_max, group_bytes_max: 64 << 20, page_rows_max: PAGE_ROWS, zstd: ZstdLevel::default() };
    let mut file = FileWriter::new(schema, &[], properties(group_rows_max, compressed), settings).unwrap();
    let own = writer(&file.writer.schema_descr().column(0), schema.field(0).data_type(), Compression::UNCOMPRESSED, PAGE_ROWS);
    assert!(own.unwrap().is_some(), "{schema:?} is left to the crate");
    batches.iter().for_each(|column| file.write(&RecordBatch::try_new(Arc::clone(schema), vec![Arc::clone(column)]).unwrap()).unwrap());
    file.finish().unwrap().into()
}

fn theirs(schema: &SchemaRef, batches: &[ArrayRef], group_rows: usize, compressed: bool) -> Bytes {
    let mut file = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties(group_rows, compressed))).unwrap();
    batches.iter().for_each(|column| file.write(&RecordBatch::try_new(Arc::clone(schema), vec![Arc::clone(column)]).unwrap()).unwrap());
    file.into_inner().unwrap().into()
}

fn read(file: &Bytes) -> ArrayRef {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().build().unwrap();
    let columns: Vec<ArrayRef> = reader.map(|batch| Arc::clone(batch.unwrap().column(0))).collect();
    concat(&columns.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap()
}

fn metadata(file: &Bytes) -> Arc<ParquetMetaData> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    Arc::clone(ArrowReaderMetadata::load(file, options).unwrap().metadata())
}

/// Both files hold the same rows in the same groups and pages, and say the same of them.
fn assert_same(column: &ArrayRef, nullable: bool, batch_rows: usize, group_rows: usize, compressed: bool) {
    let schema = Arc::new(ArrowSchema::new(vec![Field::new("x", column.data_type().clone(), nullable)]));
    let batches: Vec<ArrayRef> =
        (0..column.len()).step_by(batch_rows).map(|at| column.slice(at, batch_rows.min(column.len() - at))).collect();
    let (ours, theirs) = (ours(&schema, &batches, group_rows, compressed), theirs(&schema, &batches, group_rows, compressed));
    assert_eq!(&read(&ours), column);
    let (ours, theirs) = (metadata(&ours), metadata(&theirs));
    assert_eq!(ours.num_row_groups(), theirs.num_row_groups());
    for group in 0..ours.num_row_groups() {
        let (a, b) = (ours.row_group(group).column(0), theirs.row_group(group).column(0));
        assert_eq!(a.statistics(), b.statistics());
        assert_eq!((a.num_values(), a.compression()), (b.num_values(), b.compression()));
        assert_eq!(a.definition_level_histogram(), b.definition_level_histogram());
        assert_eq!(a.unencoded_byte_array_data_bytes(), b.unencoded_byte_array_data_bytes());
        let pages = |file: &ParquetMetaData| {
            let index = &file.offset_index().unwrap()[group][0];
            index.page_locations.iter().map(|page| page.first_row_index).collect::<Vec<_>>()
        };
        assert!(pages(&ours).iter().enumerate().all(|(page, first)| *first == (page * PAGE_ROWS) as i64));
        // That writer ends no page within a long run of NULLs.
        if pages(&ours) == pages(&theirs) {
            let index = |file: &ParquetMetaData| file.column_index().map(|index| index[group][0].clone());
            assert_eq!(index(&ours), index(&theirs));
        }
    }
}

/// Of numbers, a column of a type; of floating point some are special.
fn column(values: &[Option<i64>], to: &ArrowType) -> ArrayRef {
    let special = |value: i64| match value.rem_euclid(11) {
        0 => 0.0,
        1 => -0.0,
        2 => f64::NAN,
        3 => f64::INFINITY,
        4 => f64::NEG_INFINITY,
        5 => f64::from_bits(0x7FF8_0000_0000_0001),
        _ => value as f64 / 8.0,
    };
    let cut = |bits: u32| -> Int64Array { values.iter().map(|value| value.map(|value| value << (64 - bits) >> (64 - bits))).collect() };
    match to {
        ArrowType::Float64 => Arc::new(values.iter().map(|value| value.map(special)).collect::<Float64Array>()),
        ArrowType::Float32 => Arc::new(values.iter().map(|value| value.map(|value| special(value) as f32)).collect::<Float32Array>()),
        ArrowType::Int8 => cast(&cut(8), to).unwrap(),
        ArrowType::Int16 => cast(&cut(16), to).unwrap(),
        ArrowType::UInt8 => cast(&values.iter().map(|value| value.map(|value| value & 0xFF)).collect::<Int64Array>(), to).unwrap(),
        ArrowType::UInt16 => cast(&values.iter().map(|value| value.map(|value| value & 0xFFFF)).collect::<Int64Array>(), to).unwrap(),
        ArrowType::Int32 | ArrowType::Date32 => cast(&cast(&cut(32), &ArrowType::Int32).unwrap(), to).unwrap(),
        to => cast(&values.iter().copied().collect::<Int64Array>(), to).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn files_are_those_of_the_parquet_crate(
        runs in prop::collection::vec((prop::option::weighted(0.9, any::<i64>()), prop_oneof![Just(1_usize), 1..5_usize, 1..250_usize]), 1..120),
        distinct in prop_oneof![1..4_i64, 1..300_i64, Just(i64::MAX)],
        to in 0..TYPES.len(),
        (batch_rows, group_rows) in (1..400_usize, 50..700_usize),
        compressed in any::<bool>(),
    ) {
        let expand = |runs: &[(Option<i64>, usize)]| -> Vec<Option<i64>> {
            runs.iter().flat_map(|(value, rows)| std::iter::repeat_n(value.map(|value| value % distinct), *rows)).collect()
        };
        let values = expand(&runs);
        assert_same(&column(&values, &TYPES[to]), true, batch_rows, group_rows, compressed);
        let values: Vec<Option<i64>> = values.into_iter().map(|value| value.or(Some(7))).collect();
        assert_same(&column(&values, &TYPES[to]), false, batch_rows, group_rows, compressed);
    }
}

#[test]
fn pages_of_what_is_not_a_number_and_of_nothing() {
    for values in [vec![Some(2)], vec![None], vec![Some(0)], vec![Some(1)], vec![Some(3)], vec![Some(4)], vec![Some(13), None]] {
        let rows: Vec<Option<i64>> = values.iter().cycle().take(350).copied().collect();
        assert_same(&column(&rows, &ArrowType::Float64), true, 90, 1_000, true);
        let mixed: Vec<Option<i64>> = (0..200).map(|row| Some(row % 5 + 6)).chain(rows).collect();
        assert_same(&column(&mixed, &ArrowType::Float64), true, 90, 1_000, false);
    }
}

#[test]
fn extremes_are_bounds() {
    let ends = [i64::MIN, i64::MAX, 0, -1].map(Some);
    assert_same(&column(&ends, &ArrowType::Int64), false, 10, 100, false);
    assert_same(&column(&[Some(3)], &ArrowType::Float64), false, 10, 100, false);
    let descending: ArrayRef = Arc::new(Int32Array::from_iter_values((0..500).rev().map(|row| row / 7)));
    assert_same(&descending, false, 100, 1_000, false);
}

#[test]
fn large_dictionaries_end_and_pages_go_on_plain() {
    let rows = 300_000;
    let numbers: ArrayRef = Arc::new(Float64Array::from_iter((0..rows).map(|row| (row % 13 != 0).then(|| f64::from(row) * 0.25))));
    let schema = Arc::new(ArrowSchema::new(vec![Field::new("x", ArrowType::Float64, true)]));
    let file = ours(&schema, &[Arc::clone(&numbers)], 1 << 20, false);
    assert_eq!(&read(&file), &numbers);
    let metadata = metadata(&file);
    let encodings = metadata.row_group(0).column(0).page_encoding_stats_mask().unwrap();
    assert!(encodings.is_set(Encoding::PLAIN) && encodings.is_set(Encoding::RLE_DICTIONARY));
}

#[test]
fn what_is_not_for_it_is_left_to_the_crate() {
    let schema = ArrowSchema::new(vec![Field::new("u", ArrowType::UInt64, true), Field::new("b", ArrowType::Boolean, true)]);
    let file = FileWriter::new(
        &Arc::new(schema.clone()),
        &[],
        properties(10, false),
        Settings { group_rows_max: 10, group_bytes_max: 1, page_rows_max: 1, zstd: ZstdLevel::default() },
    );
    let file = file.unwrap();
    for (leaf, field) in schema.fields().iter().enumerate() {
        let descr = file.writer.schema_descr().column(leaf);
        assert!(writer(&descr, field.data_type(), Compression::UNCOMPRESSED, 1).unwrap().is_none());
    }
    let descr = Arc::new(ArrowSchema::new(vec![Field::new("x", ArrowType::Int64, true)]));
    let file = FileWriter::new(
        &descr,
        &[],
        properties(10, false),
        Settings { group_rows_max: 10, group_bytes_max: 1, page_rows_max: 1, zstd: ZstdLevel::default() },
    )
    .unwrap();
    assert!(writer(&file.writer.schema_descr().column(0), &ArrowType::Int64, Compression::SNAPPY, 1).unwrap().is_none());
}

/// Distances that a hash by one multiplication spreads badly, and an estimate that row groups are cut by.
#[test]
fn values_in_equal_distances_are_told_apart_in_time_and_counted() {
    for distance in [1, 28_657, 75_025, 196_418, 43_200_000] {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100_000).map(|row| row * distance)));
        let schema = Arc::new(ArrowSchema::new(vec![Field::new("x", ArrowType::Int64, false)]));
        let file = FileWriter::new(
            &schema,
            &[],
            properties(1 << 20, false),
            Settings { group_rows_max: 1 << 20, group_bytes_max: 1, page_rows_max: PAGE_ROWS, zstd: ZstdLevel::default() },
        );
        let descr = file.unwrap().writer.schema_descr().column(0);
        let mut own = writer(&descr, &ArrowType::Int64, Compression::UNCOMPRESSED, PAGE_ROWS).unwrap().unwrap();
        own.write(&numbers.slice(0, PAGE_ROWS - 1)).unwrap();
        assert_eq!(own.bytes(), (PAGE_ROWS - 1) * 8, "values of the first page may all be new");
        own.write(&numbers.slice(PAGE_ROWS - 1, numbers.len() - PAGE_ROWS + 1)).unwrap();
        let counted = own.bytes();
        let (bytes, _) = own.close().unwrap();
        assert!(counted <= bytes.len() && bytes.len() - counted < 4_096, "{counted} of {} bytes", bytes.len());
    }
}
