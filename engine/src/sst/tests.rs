//! Tests of SSTs alone: types, pruning, damage.

use std::sync::Arc;

use futures::StreamExt;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::{Schema, SemanticType};
use tessera_manifest::value::{DataType, Value};

use super::{Access, Error, NewFile, ReadOptions, flush, sst_path};
use crate::config::Config;
use crate::memtable::Memtable;
use crate::merge::Dedup;
use crate::merge::Layout;
use crate::merge::fixtures::{
    MS, batch, block_on, collect, column, every_type, every_type_schema, memory, new_file, reference, rows_of, sequence,
};
use crate::request::OpType;

pub(super) fn extremes_of(data_type: DataType) -> Vec<Value> {
    let ints = |low, high| vec![Value::Int(low), Value::Int(0), Value::Int(high)];
    let uints = |high| vec![Value::UInt(0), Value::UInt(high)];
    let mut values = match data_type {
        DataType::Boolean => vec![Value::Boolean(true), Value::Boolean(false)],
        DataType::Int8 => ints(i8::MIN.into(), i8::MAX.into()),
        DataType::Int16 => ints(i16::MIN.into(), i16::MAX.into()),
        DataType::Int32 => ints(i32::MIN.into(), i32::MAX.into()),
        DataType::Int64 => ints(i64::MIN, i64::MAX),
        DataType::UInt8 => uints(u8::MAX.into()),
        DataType::UInt16 => uints(u16::MAX.into()),
        DataType::UInt32 => uints(u32::MAX.into()),
        DataType::UInt64 => uints(u64::MAX),
        DataType::Float32 => [f32::MIN, -0.0, f32::NAN, f32::INFINITY].map(|f| Value::Float(f.into())).to_vec(),
        DataType::Float64 => [f64::MIN, -0.0, f64::NAN, f64::INFINITY].map(Value::Float).to_vec(),
        DataType::String => ["", "ü\u{10ffff}\0", "a"].map(|s| Value::String(s.into())).to_vec(),
        DataType::Binary => vec![Value::Binary(vec![]), Value::Binary(vec![0, 255])],
        DataType::Date => vec![Value::Date(i32::MIN), Value::Date(i32::MAX)],
        DataType::Timestamp(_) => vec![Value::Timestamp(i64::MIN), Value::Timestamp(i64::MAX)],
        DataType::Decimal { precision, .. } => {
            let most = 10_i128.pow(precision.into()) - 1;
            vec![Value::Decimal(-most), Value::Decimal(most)]
        }
    };
    values.push(Value::Null);
    values
}

#[test]
fn extremes_of_every_type_come_back() {
    let schema = every_type_schema();
    let rows: Vec<Vec<Value>> = (0..8)
        .map(|i| {
            let fields = every_type().into_iter().map(extremes_of).map(|values| values[i % values.len()].clone());
            [Value::String("h".into()), Value::Timestamp(i as i64)].into_iter().chain(fields).collect()
        })
        .collect();
    block_on(async {
        let (_, access) = memory(1000);
        let memtable = Memtable::new(Arc::clone(&schema));
        memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
        let file = new_file(&schema);
        let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
        assert_eq!((meta.rows, meta.deletes, meta.time_range), (8, 0, (0, 7)));
        assert_eq!(meta.sequences, (sequence(1), sequence(8)));
        for plain in [true, false] {
            let layout = if plain { Layout::plain(Arc::clone(&schema), None) } else { Layout::merging(Arc::clone(&schema), None) };
            let options = ReadOptions { layout: Arc::new(layout.unwrap()), filter: Arc::new(Expr::always()) };
            let scan = access.scan(&reference(&file, meta.clone()), &options).await.unwrap();
            let batches = collect(scan.into_stream()).await.unwrap();
            let finished: Vec<_> = batches.iter().map(|b| options.layout.finish(b).unwrap()).collect();
            assert_eq!(rows_of(&finished), rows);
            assert_eq!(finished[0].schema(), schema.to_arrow());
        }
    });
}

fn cpu() -> Arc<Schema> {
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "v", DataType::Float64, SemanticType::Field),
    ];
    Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap())
}

/// `hosts` series of `points` rows.
async fn write_cpu(access: &Access, hosts: usize, points: usize) -> (NewFile, FileRef) {
    let schema = cpu();
    let memtable = Memtable::new(Arc::clone(&schema));
    let row = |i: usize| vec![Value::String(format!("h{:03}", i % hosts)), Value::Timestamp((i / hosts) as i64), Value::Float(i as f64)];
    let rows: Vec<_> = (0..hosts * points).map(row).collect();
    memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
    let file = new_file(&schema);
    let meta = flush(access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
    (file.clone(), reference(&file, meta))
}

#[test]
fn row_groups_and_pages_that_cannot_match_are_not_decoded() {
    block_on(async {
        let (_, access) = memory(20_000);
        let (_, file) = write_cpu(&access, 5, 10_000).await;
        let host = Expr::Compare { column: ColumnId(0), op: CompareOp::Eq, value: Value::String("h001".into()) };
        let time = Expr::Compare { column: ColumnId(1), op: CompareOp::Lt, value: Value::Timestamp(100) };
        let layout = Arc::new(Layout::merging(cpu(), None).unwrap());
        let options = ReadOptions { layout, filter: Arc::new(Expr::And(vec![host, time])) };
        let scan = access.scan(&file, &options).await.unwrap();
        assert_eq!((scan.row_groups, scan.row_groups_skipped), (1, 2));
        let rows = rows_of(&collect(scan.into_stream()).await.unwrap());
        assert!(rows.len() <= 2 * 8192, "{} rows decoded", rows.len());
        let wanted = rows.iter().filter(|r| r[0] == Value::String("h001".into()) && r[1] < Value::Timestamp(100));
        assert_eq!(wanted.count(), 100);
        let range = file.meta.stats[0].range.clone().unwrap();
        assert_eq!(range, (Value::String("h000".into()), Value::String("h004".into())));
    });
}

#[test]
fn fields_prune_only_where_no_merge_follows() {
    block_on(async {
        let (_, access) = memory(1_000);
        let (_, file) = write_cpu(&access, 1, 3_000).await;
        let filter = Arc::new(Expr::Compare { column: ColumnId(2), op: CompareOp::Lt, value: Value::Float(10.0) });
        let merging = ReadOptions { layout: Arc::new(Layout::merging(cpu(), None).unwrap()), filter: Arc::clone(&filter) };
        assert_eq!(access.scan(&file, &merging).await.unwrap().row_groups_skipped, 0);
        let plain = ReadOptions { layout: Arc::new(Layout::plain(cpu(), Some(&[])).unwrap()), filter };
        let scan = access.scan(&file, &plain).await.unwrap();
        assert_eq!(scan.row_groups_skipped, 2);
        let counted: usize = collect(scan.into_stream()).await.unwrap().iter().map(|b| b.num_rows()).sum();
        assert_eq!(counted, 1_000);
    });
}

async fn read_all(store: &Arc<dyn ObjectStore>, file: &FileRef, verify_sst: bool) -> Result<usize, Error> {
    let access = Access::new(Arc::clone(store), &Config { verify_sst, ..Config::default() });
    let options = ReadOptions { layout: Arc::new(Layout::merging(cpu(), None)?), filter: Arc::new(Expr::always()) };
    let batches = collect(access.scan(file, &options).await?.into_stream()).await?;
    Ok(batches.iter().map(|b| b.num_rows()).sum())
}

#[test]
fn every_flipped_byte_and_every_cut_is_found_and_named() {
    block_on(async {
        let (store, access) = memory(500);
        let (new, file) = write_cpu(&access, 3, 400).await;
        let path = sst_path(new.key);
        let sound = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        assert_eq!(sound.len() as u64, file.meta.bytes);
        assert_eq!(read_all(&store, &file, true).await.unwrap(), 1_200);
        for at in (0..sound.len()).step_by(13).chain(sound.len() - 8..sound.len()) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            store.put(&path, PutPayload::from(bytes)).await.unwrap();
            let error = read_all(&store, &file, true).await.unwrap_err();
            assert!(matches!(error, Error::Checksum { .. }), "byte {at}: {error}");
            assert!(error.to_string().contains(path.as_ref()), "{error}");
        }
        for length in [0, 1, 7, 8, 100, sound.len() / 2, sound.len() - 1, sound.len() + 1] {
            let mut bytes = sound.clone();
            bytes.resize(length, 0);
            store.put(&path, PutPayload::from(bytes)).await.unwrap();
            for verify in [true, false] {
                let error = read_all(&store, &file, verify).await.unwrap_err();
                assert!(matches!(error, Error::WrongSize { .. }), "{length} bytes: {error}");
                assert!(error.to_string().contains(path.as_ref()), "{error}");
            }
        }
        store.delete(&path).await.unwrap();
        let error = read_all(&store, &file, true).await.unwrap_err();
        assert!(matches!(error, Error::Missing { .. }) && error.to_string().contains(path.as_ref()), "{error}");
    });
}

#[test]
fn a_name_in_use_is_refused_but_the_same_bytes_are_not() {
    block_on(async {
        let (store, access) = memory(500);
        let (file, reference) = write_cpu(&access, 3, 4).await;
        let memtable = Memtable::new(cpu());
        let row = vec![Value::Null, Value::Timestamp(0), Value::Null];
        memtable.insert(batch(&cpu(), OpType::Put, &[row]), OpType::Put, sequence(1)).unwrap();
        let first = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await;
        assert!(matches!(first, Err(Error::Exists { .. })), "{first:?}");
        assert_eq!(read_all(&store, &reference, true).await.unwrap(), 12);
        let other = new_file(&cpu());
        let once = flush(&access, memtable.snapshot(), other.clone(), Dedup::LastRow).await.unwrap();
        assert_eq!(flush(&access, memtable.snapshot(), other, Dedup::LastRow).await.unwrap(), once);
    });
}

#[test]
fn a_path_follows_from_the_key() {
    let mut file = new_file(&cpu());
    file.key.file = tessera_manifest::id::FileId::new(file.key.file.epoch, ulid::Ulid(7));
    assert_eq!(sst_path(file.key).as_ref(), "0000001024/0000000003/sst/0000000002-00000000000000000000000007.parquet");
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).collect()
}

#[test]
fn a_file_of_several_parts_is_one_object_with_one_checksum() {
    let columns = vec![column(1, "ts", MS, SemanticType::TimeIndex), column(2, "v", DataType::Binary, SemanticType::Field)];
    let schema = Arc::new(Schema::new(columns, vec![]).unwrap());
    let rows: Vec<_> = (0..5_000).map(|i| vec![Value::Timestamp(i), Value::Binary(noise(i as u64 + 1, 4_000))]).collect();
    block_on(async {
        let (store, access) = memory(1_000);
        let memtable = Memtable::new(Arc::clone(&schema));
        memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
        let file = new_file(&schema);
        let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
        assert!(meta.bytes > 2 * (8 << 20), "{} bytes are more than two parts", meta.bytes);
        assert_eq!(store.head(&sst_path(file.key)).await.unwrap().size, meta.bytes);
        let layout = Arc::new(Layout::plain(schema, None).unwrap());
        let options = ReadOptions { layout, filter: Arc::new(Expr::always()) };
        let scan = access.scan(&reference(&file, meta), &options).await.unwrap();
        assert!(rows_of(&collect(scan.into_stream()).await.unwrap()) == rows);
    });
}

#[test]
fn a_write_whose_input_fails_leaves_no_object() {
    block_on(async {
        let (store, access) = memory(10);
        let layout = Arc::new(Layout::merging(cpu(), None).unwrap());
        let memtable = Memtable::new(cpu());
        let row = vec![Value::Null, Value::Timestamp(0), Value::Null];
        memtable.insert(batch(&cpu(), OpType::Put, &[row]), OpType::Put, sequence(1)).unwrap();
        let sorted = memtable.snapshot().sorted(&layout, None).unwrap();
        let broken = sorted.chain([Err(Error::BatchShape { detail: "as the test wants".into() })]);
        let file = new_file(&cpu());
        let result = access.write(file.clone(), futures::stream::iter(broken.collect::<Vec<_>>()).boxed()).await;
        assert!(matches!(result, Err(Error::BatchShape { .. })), "{result:?}");
        assert!(matches!(store.head(&sst_path(file.key)).await, Err(object_store::Error::NotFound { .. })));
        assert_eq!(access.write(file, futures::stream::empty().boxed()).await.unwrap(), None);
    });
}

#[test]
fn whole_numbers_that_grow_are_stored_as_differences() {
    use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
    use parquet::basic::Encoding;
    let fields = [("total", DataType::Int64), ("small", DataType::UInt32), ("random", DataType::Int64), ("seen", MS)];
    let fields = (2..).zip(fields).map(|(id, (name, of))| column(id, name, of, SemanticType::Field));
    let keys = [column(0, "host", DataType::String, SemanticType::Tag), column(1, "ts", MS, SemanticType::TimeIndex)];
    let schema = Arc::new(Schema::new(keys.into_iter().chain(fields).collect(), vec![ColumnId(0)]).unwrap());
    let random = noise(7, 8 * 15_000);
    let row = |i: usize| {
        let (host, at) = (i / 5_000, i as i64 % 5_000);
        let random = i64::from_le_bytes(*random[i * 8..].first_chunk().unwrap());
        let steps = at * 100_000 + random.rem_euclid(1_000);
        let small = if i.is_multiple_of(7) {
            Value::Null
        } else {
            Value::UInt(u64::from(u32::MAX) - at as u64 * 900 - random.rem_euclid(100) as u64)
        };
        let total = i64::MAX - 20_000 * 100_000 + steps;
        vec![Value::String(format!("h{host}")), Value::Timestamp(at), Value::Int(total), small, Value::Int(random), Value::Timestamp(steps)]
    };
    let rows: Vec<Vec<Value>> = (0..15_000).map(row).collect();
    block_on(async {
        let (store, access) = memory(100_000);
        let memtable = Memtable::new(Arc::clone(&schema));
        memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
        let file = new_file(&schema);
        let meta = flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap().unwrap();
        let bytes = store.get(&sst_path(file.key)).await.unwrap().bytes().await.unwrap();
        let metadata = ArrowReaderMetadata::load(&bytes, ArrowReaderOptions::new()).unwrap();
        let group = metadata.metadata().row_group(0);
        let differ = |leaf: usize| group.column(leaf).encodings().any(|encoding| encoding == Encoding::DELTA_BINARY_PACKED);
        assert_eq!([2, 3, 4, 5].map(differ), [true, true, false, true]);
        assert!(group.column(2).compressed_size() < 15_000 * 3, "{} bytes of a counter", group.column(2).compressed_size());
        let file = reference(&file, meta);
        let host = Expr::Compare { column: ColumnId(0), op: CompareOp::Eq, value: Value::String("h1".into()) };
        let time = Expr::Compare { column: ColumnId(1), op: CompareOp::Gt, value: Value::Timestamp(4_900) };
        for filter in [Expr::always(), Expr::And(vec![host, time])] {
            let options =
                ReadOptions { layout: Arc::new(Layout::plain(Arc::clone(&schema), None).unwrap()), filter: Arc::new(filter.clone()) };
            let found = rows_of(&collect(access.scan(&file, &options).await.unwrap().into_stream()).await.unwrap());
            let wanted = |row: &&Vec<Value>| filter.matches(|id| &row[id.0 as usize]);
            let (found, expected): (Vec<_>, Vec<_>) = (found.iter().filter(wanted).collect(), rows.iter().filter(wanted).collect());
            assert!(found == expected, "{} rows, expected {}", found.len(), expected.len());
        }
    });
}

#[test]
fn a_bloom_filter_knows_its_values_and_takes_no_more_room_than_they_need() {
    use parquet::file::properties::ReaderProperties;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::file::serialized_reader::ReadOptionsBuilder;
    let columns = vec![
        column(0, "host", DataType::String, SemanticType::Tag),
        column(1, "ts", MS, SemanticType::TimeIndex),
        column(2, "trace", DataType::Int64, SemanticType::Field),
        column(3, "plain", DataType::Int64, SemanticType::Field),
    ];
    let schema = Arc::new(Schema::new(columns, vec![ColumnId(0)]).unwrap());
    let rows: Vec<Vec<Value>> =
        (0..20_000).map(|i| vec![Value::String(format!("h{}", i % 8)), Value::Timestamp(i), Value::Int(i * 7919), Value::Int(i)]).collect();
    let lengths = block_on(async {
        let (store, access) = memory(100_000);
        let skipping = [0, 2].map(|id| (ColumnId(id), crate::options::SkippingIndex::DEFAULT)).into();
        let file = NewFile { skipping, ..new_file(&schema) };
        let memtable = Memtable::new(Arc::clone(&schema));
        memtable.insert(batch(&schema, OpType::Put, &rows), OpType::Put, sequence(1)).unwrap();
        flush(&access, memtable.snapshot(), file.clone(), Dedup::LastRow).await.unwrap();
        let bytes = store.get(&sst_path(file.key)).await.unwrap().bytes().await.unwrap();
        let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
        let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
        let reader = SerializedFileReader::new_with_options(bytes, options).unwrap();
        let group = reader.get_row_group(0).unwrap();
        let trace = group.get_column_bloom_filter(2).expect("the filter that was asked for");
        assert!((0..20_000).all(|i| trace.check(&(i * 7919_i64))), "a value of the column is not in its filter");
        let wrong = (0..20_000).filter(|i| trace.check(&(i * 7919_i64 + 1))).count();
        assert!(wrong < 600, "{wrong} of 20000 values that are not there seem to be");
        (0..4).map(|leaf| group.metadata().column(leaf).bloom_filter_length()).collect::<Vec<_>>()
    });
    println!("bytes of the filters of 8 strings, 20,000 integers: {lengths:?}");
    assert!(lengths[0].unwrap() <= 128 && lengths[2].unwrap() <= 64 << 10);
    assert_eq!((lengths[1], lengths[3]), (None, None));
}
