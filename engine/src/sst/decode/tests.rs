//! What is decoded here, beside what the Parquet crate decodes of the same bytes.

use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{Field, SchemaRef, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::*;
use crate::memtable::Memtable;
use crate::merge::fixtures::{MS, batch, block_on, collect, column as column_of, memory, new_file, reference, rows_of, sequence};
use crate::merge::{Dedup, Layout};
use crate::request::OpType;
use crate::sst::{ReadOptions, flush};

const TYPES: [ArrowType; 14] = [
    ArrowType::Int8,
    ArrowType::Int16,
    ArrowType::Int32,
    ArrowType::Int64,
    ArrowType::UInt8,
    ArrowType::UInt16,
    ArrowType::UInt32,
    ArrowType::UInt64,
    ArrowType::Float32,
    ArrowType::Float64,
    ArrowType::Date32,
    ArrowType::Timestamp(TimeUnit::Second, None),
    ArrowType::Timestamp(TimeUnit::Millisecond, None),
    ArrowType::Timestamp(TimeUnit::Nanosecond, None),
];

/// How the values of a column come about.
#[derive(Debug, Clone, Copy)]
enum Values {
    /// Of so many, by chance.
    Few(u64),
    /// So many times the same, then another.
    Runs(u64),
    /// One more each so often, and now and then back.
    Ascending(u64),
    Any,
}

#[derive(Debug, Clone)]
pub(super) struct Column {
    to: ArrowType,
    values: Values,
    /// One in so many rows is NULL, in stretches of so many; `None` if the column is not nullable.
    nulls: Option<(u64, u64)>,
    pub(super) encoding: Encoding,
    v2: bool,
    pub(super) zstd: bool,
    pub(super) rows: usize,
    page_rows: usize,
    group_rows: usize,
    pub(super) dictionary_bytes: usize,
    seed: u64,
}

fn mix(seed: u64, at: u64) -> u64 {
    let x = (seed ^ at).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 31)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x ^ (x >> 29)
}

impl Column {
    fn value(&self, row: u64) -> Option<i64> {
        let null = self.nulls.is_some_and(|(one_in, stretch)| mix(self.seed, row / stretch).is_multiple_of(one_in));
        let value = match self.values {
            Values::Few(count) => mix(self.seed, !(mix(self.seed, row) % count)),
            Values::Runs(length) => mix(self.seed, row / length) % 50,
            Values::Ascending(back) => 1_700_000_000_000 + row % back * 10_000,
            Values::Any => mix(self.seed, row),
        };
        (!null).then_some(value as i64)
    }

    pub(super) fn array(&self) -> ArrayRef {
        let bits: Vec<Option<i64>> = (0..self.rows as u64).map(|row| self.value(row)).collect();
        let small = |bits: u32| {
            let cut =
                |value: i64| if self.to.is_signed_integer() { value << (64 - bits) >> (64 - bits) } else { value & ((1 << bits) - 1) };
            cast(&bits_of(&self.value_list(cut)), &self.to).unwrap()
        };
        match &self.to {
            ArrowType::Int8 | ArrowType::UInt8 => small(8),
            ArrowType::Int16 | ArrowType::UInt16 => small(16),
            ArrowType::Int32 | ArrowType::UInt32 => small(32),
            ArrowType::Date32 => {
                let days: Int64Array = self.value_list(|value| i64::from(value as i32)).into_iter().collect();
                cast(&cast(&days, &ArrowType::Int32).unwrap(), &ArrowType::Date32).unwrap()
            }
            ArrowType::UInt64 => Arc::new(bits.iter().map(|value| value.map(|value| value as u64)).collect::<arrow::array::UInt64Array>()),
            ArrowType::Float64 => {
                Arc::new(bits.iter().map(|value| value.map(|value| f64::from_bits(value as u64))).collect::<arrow::array::Float64Array>())
            }
            ArrowType::Float32 => {
                Arc::new(bits.iter().map(|value| value.map(|value| f32::from_bits(value as u32))).collect::<arrow::array::Float32Array>())
            }
            to => cast(&bits_of(&bits), to).unwrap(),
        }
    }

    fn value_list(&self, cut: impl Fn(i64) -> i64) -> Vec<Option<i64>> {
        (0..self.rows as u64).map(|row| self.value(row).map(&cut)).collect()
    }

    fn file(&self) -> Bytes {
        self.written(&self.array())
    }

    /// A file of an array in the place of its own.
    pub(super) fn written(&self, array: &ArrayRef) -> Bytes {
        let schema: SchemaRef = Arc::new(ArrowSchema::new(vec![Field::new("x", array.data_type().clone(), self.nulls.is_some())]));
        let version = if self.v2 { WriterVersion::PARQUET_2_0 } else { WriterVersion::PARQUET_1_0 };
        let zstd = Compression::ZSTD(ZstdLevel::default());
        let mut properties = WriterProperties::builder()
            .set_writer_version(version)
            .set_compression(if self.zstd { zstd } else { Compression::UNCOMPRESSED })
            .set_data_page_row_count_limit(self.page_rows)
            .set_write_batch_size(self.page_rows.min(64))
            .set_max_row_group_row_count(Some(self.group_rows))
            .set_dictionary_page_size_limit(self.dictionary_bytes)
            .set_dictionary_enabled(self.encoding == Encoding::RLE_DICTIONARY);
        if self.encoding != Encoding::RLE_DICTIONARY {
            properties = properties.set_encoding(self.encoding);
        }
        let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), Some(properties.build())).unwrap();
        writer.write(&RecordBatch::try_new(schema, vec![Arc::clone(array)]).unwrap()).unwrap();
        writer.into_inner().unwrap().into()
    }
}

fn bits_of(values: &[Option<i64>]) -> Int64Array {
    values.iter().copied().collect()
}

pub(super) fn column() -> impl Strategy<Value = Column> {
    let values = prop_oneof![
        prop_oneof![1..3_u64, 3..40_u64, 100..400_u64, 400..3000_u64].prop_map(Values::Few),
        (1..300_u64).prop_map(Values::Runs),
        (1..200_u64).prop_map(Values::Ascending),
        Just(Values::Any),
    ];
    let nulls = proptest::option::weighted(0.6, (prop_oneof![Just(1_u64), 2..5_u64, Just(1_000_000)], 1..40_u64));
    let encoding = prop_oneof![Just(Encoding::RLE_DICTIONARY), Just(Encoding::PLAIN), Just(Encoding::DELTA_BINARY_PACKED)];
    let sizes = (1..4000_usize, 1..700_usize, 500..5000_usize, prop_oneof![Just(64_usize), Just(4000), Just(1 << 20)]);
    (0..TYPES.len(), values, nulls, encoding, any::<bool>(), any::<bool>(), sizes, any::<u64>()).prop_map(
        |(to, values, nulls, encoding, v2, zstd, (rows, page_rows, group_rows, dictionary_bytes), seed)| {
            let to = TYPES[to].clone();
            let floats = matches!(to, ArrowType::Float32 | ArrowType::Float64);
            let encoding = if floats && encoding == Encoding::DELTA_BINARY_PACKED { Encoding::PLAIN } else { encoding };
            Column { to, values, nulls, encoding, v2, zstd, rows, page_rows, group_rows, dictionary_bytes, seed }
        },
    )
}

pub(super) fn load(file: &Bytes) -> ArrowReaderMetadata {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    ArrowReaderMetadata::load(file, options).unwrap()
}

/// Lengths of stretches of rows, of which many are short.
fn lengths() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![1..900_u32, 1..4_u32, 1..20_u32], 1..9)
}

/// Stretches of rows that ascend, of which every other one is wanted, the first or not.
fn wanted(rows: u32, lengths: &[u32], first: usize) -> Vec<(u32, u32)> {
    let (mut places, mut at) = (Vec::new(), 0);
    for (number, length) in lengths.iter().cycle().enumerate() {
        let count = (*length).min(rows - at);
        if number % 2 == first && count > 0 {
            places.push((at, count));
        }
        at += count;
        if at == rows {
            return places;
        }
    }
    places
}

/// Decodes the wanted rows of a row group, so many stretches at a time; where it is one, of the whole column's bytes.
fn decode(
    metadata: &ArrowReaderMetadata,
    bytes: &Bytes,
    index: usize,
    places: &[(u32, u32)],
    at_once: usize,
) -> Result<Vec<ArrayRef>, ParquetError> {
    let group = RowGroup { metadata: metadata.metadata(), schema: metadata.schema(), index };
    assert!(group.decodes(0), "{:?}", metadata.metadata().row_group(index).column(0));
    let rows = metadata.metadata().row_group(index).num_rows() as usize;
    let selected: Vec<Range<u32>> = places.iter().map(|(from, rows)| *from..*from + *rows).collect();
    let selection = RowSelection::from_consecutive_ranges(selected.iter().map(|rows| rows.start as usize..rows.end as usize), rows);
    let ranges = group.ranges(0, (at_once > 1).then_some(&selected));
    assert_eq!(ranges, group.ranges_of_reader(0, (at_once > 1).then_some(&selection)), "the pages that the crate's reader asks for");
    let part = |range: &Range<u64>| bytes.slice(range.start as usize..range.end as usize);
    let fetched = Arc::new(Fetched::new(&ranges, ranges.iter().map(part).collect()));
    let mut decoder = Decoder::new(group, [0].into_iter(), &fetched)?;
    let arrays = places.chunks(at_once).map(|places| Ok(decoder.read(places)?.remove(0)));
    arrays.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_parquet_crate_decodes_the_same(column in column(), lengths in lengths(), from in 0..2_usize, at_once in prop_oneof![1..5_usize, Just(1_000)]) {
        let file = column.file();
        let metadata = load(&file);
        let mut first = 0;
        for index in 0..metadata.metadata().num_row_groups() {
            let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
            let batches = reader.with_row_groups(vec![index]).build().unwrap().map(|batch| Arc::clone(batch.unwrap().column(0)));
            let batches: Vec<ArrayRef> = batches.collect();
            let theirs = concat(&batches.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(&theirs, &column.array().slice(first, theirs.len()), "the crate gives what was written");
            first += theirs.len();
            let places = wanted(theirs.len() as u32, &lengths, from);
            if places.is_empty() {
                continue;
            }
            let ours = decode(&metadata, &file, index, &places, at_once).unwrap();
            let ours = concat(&ours.iter().map(AsRef::as_ref).collect::<Vec<_>>()).unwrap();
            let rows: UInt32Array = places.iter().flat_map(|(from, rows)| *from..*from + *rows).collect();
            prop_assert_eq!(&ours, &arrow::compute::take(&theirs, &rows, None).unwrap());
            prop_assert_eq!(ours.logical_nulls().is_none() || ours.null_count() > 0, true);
        }
        prop_assert_eq!(first, column.rows);
    }

    #[test]
    fn damaged_bytes_are_an_answer_or_an_error(
        column in column(),
        lengths in lengths(),
        from in 0..2_usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let column = Column { zstd: false, ..column };
        let file = column.file();
        let metadata = load(&file);
        let mut bytes = file.to_vec();
        let groups = metadata.metadata().row_groups();
        let end = groups.iter().map(|group| group.column(0).byte_range()).map(|(start, bytes)| start + bytes).max().unwrap();
        for (at, byte) in damage {
            bytes[at.index(end as usize)] = byte;
        }
        let bytes = Bytes::from(bytes);
        for (index, group) in groups.iter().enumerate() {
            let rows = group.num_rows() as u32;
            let places = wanted(rows, &lengths, from);
            if let Ok(arrays) = decode(&metadata, &bytes, index, &places, 20) {
                let found: usize = arrays.iter().map(Array::len).sum();
                prop_assert_eq!(found, places.iter().map(|(_, rows)| *rows as usize).sum::<usize>());
            }
        }
    }
}

#[test]
fn other_columns_are_left_to_the_parquet_crate() {
    let schema = Arc::new(ArrowSchema::new(vec![Field::new("x", ArrowType::Utf8, true), Field::new("y", ArrowType::Boolean, true)]));
    let batch = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![Arc::new(arrow::array::StringArray::from(vec!["a"])), Arc::new(arrow::array::BooleanArray::from(vec![true]))],
    );
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch.unwrap()).unwrap();
    let metadata = load(&writer.into_inner().unwrap().into());
    let group = RowGroup { metadata: metadata.metadata(), schema: metadata.schema(), index: 0 };
    assert!(!group.decodes(0));
    assert!(!group.decodes(1));
}

#[test]
fn dictionaries_of_many_values() {
    for (distinct, nulls) in [(5_000, None), (40_000, Some((3, 7))), (70_000, None)] {
        let column = Column {
            to: ArrowType::Float64,
            values: Values::Few(distinct),
            nulls,
            encoding: Encoding::RLE_DICTIONARY,
            v2: false,
            zstd: false,
            rows: 100_000,
            page_rows: 8192,
            group_rows: 100_000,
            dictionary_bytes: 1 << 20,
            seed: 1,
        };
        let file = column.file();
        let metadata = load(&file);
        let found = decode(&metadata, &file, 0, &[(0, 50_003), (60_001, 39_999)], 2).unwrap();
        let written = column.array();
        let wanted = concat(&[&written.slice(0, 50_003), &written.slice(60_001, 39_999)]).unwrap();
        assert_eq!(&found[0], &wanted, "{distinct} values");
    }
}

/// Texts and booleans of the Parquet crate beside numbers of the same rows, over several batches.
#[test]
fn numbers_of_our_files_are_decoded_here_beside_other_columns() {
    const HOSTS: usize = 7;
    let columns = vec![
        column_of(0, "host", DataType::String, SemanticType::Tag),
        column_of(1, "ts", MS, SemanticType::TimeIndex),
        column_of(2, "v", DataType::Float64, SemanticType::Field),
        column_of(3, "note", DataType::String, SemanticType::Field),
        column_of(4, "n", DataType::Int8, SemanticType::Field),
        column_of(5, "flag", DataType::Boolean, SemanticType::Field),
    ];
    let schema = Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap());
    let row = |host: usize, point: usize| {
        let i = host * 100_000 + point;
        let number = if i.is_multiple_of(11) { Value::Null } else { Value::Int((i % 100) as i64 - 50) };
        let note = if i.is_multiple_of(5) { Value::Null } else { Value::String(format!("note {}", i % 1000)) };
        let (host, time) = (Value::String(format!("h{host}")), Value::Timestamp(point as i64 * 10));
        vec![host, time, Value::Float(i as f64 / 4.0), note, number, Value::Boolean(i.is_multiple_of(3))]
    };
    let rows: Vec<Vec<Value>> =
        (0..4000).flat_map(|point| (0..HOSTS).map(move |host| (host, point))).map(|(host, point)| row(host, point)).collect();
    block_on(async {
        let (_, access) = memory(100_000);
        let memtable = Memtable::new(Arc::clone(&schema));
        memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
        let file = new_file(&schema);
        let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
        let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).unwrap());
        let options = ReadOptions { layout, filter: Arc::new(Expr::always()) };
        let is = |host: usize| Expr::Compare { column: ColumnId(0), op: CompareOp::Eq, value: Value::String(format!("h{host}")) };
        let scan = access.scan(&reference(&file, meta), &options).await.unwrap();
        let footer = Arc::clone(&scan.read.footer);
        let group = RowGroup { metadata: footer.reader.metadata(), schema: footer.reader.schema(), index: 0 };
        for (column, here) in [(1, true), (2, true), (3, false), (4, true), (5, false)] {
            assert_eq!(group.decodes(footer.leaf(ColumnId(column)).unwrap()), here, "column {column}");
        }
        let scan = scan.only(Some(Arc::new(Expr::Or(vec![is(1), is(4), is(5)]))));
        let batches = collect(scan.into_stream()).await.unwrap();
        assert!(batches.len() > 1);
        let finished: Vec<_> = batches.iter().map(|batch| options.layout.finish(batch).unwrap()).collect();
        let wanted: Vec<Vec<Value>> = [1, 4, 5].into_iter().flat_map(|host| (0..4000).map(move |point| row(host, point))).collect();
        assert_eq!(rows_of(&finished), wanted);
    });
}
