//! Segments: references as rows of a Parquet file, readable by any Parquet reader.
//!
//! Invariants:
//! - No byte is decoded before the checksum of the whole object was found to be the one that whoever names the
//!   segment recorded.
//! - Rows are in order of (file key, kind); what is not is refused.
//! - Numbers are stored as they are; expressions and statistics as JSON, dictionary-coded, so that each distinct one
//!   is parsed once however many references share it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray, StringDictionaryBuilder,
};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, UInt8Type, UInt32Type, UInt64Type};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::de::DeserializeOwned;
use ulid::Ulid;

use crate::action::SegmentRef;
use crate::by_address::ByAddress;
use crate::file::{ColumnStats, Doomed, FileMeta, FileRef, Listed, Removed, Scope, StagedFile};
use crate::format::{self, Format, TooNew};
use crate::id::{Epoch, FileId, FileKey, Generation, RegionId, Sequence, Slot};
use crate::rule::Expr;
use crate::state::block::{Block, Packed, Shared};
use crate::state::{Row, Segment};

const FORMAT_KEY: &str = "tessera.format";
const MIN_READER_KEY: &str = "tessera.min_reader";

/// Why the bytes of a segment are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// Not the bytes that were written.
    #[error("checksum mismatch over {len} bytes: recorded {recorded:08x} over {expected}, computed {computed:08x}")]
    Checksum {
        /// Bytes that there should be.
        expected: u64,
        /// Bytes that there are.
        len: usize,
        /// What whoever names the segment recorded.
        recorded: u32,
        /// What the bytes say.
        computed: u32,
    },
    /// Written by a newer format.
    #[error(transparent)]
    TooNew(#[from] TooNew),
    /// Not a segment.
    #[error("{reason}")]
    Content {
        /// What is wrong.
        reason: String,
    },
}

fn content(reason: impl ToString) -> SegmentError {
    SegmentError::Content { reason: reason.to_string() }
}

/// The columns in order, with how each is encoded if not as plain numbers.
const COLUMNS: [(&str, DataType); 20] = [
    ("kind", DataType::UInt8),
    ("origin", DataType::UInt64),
    ("epoch", DataType::UInt32),
    ("ulid_high", DataType::UInt64),
    ("ulid_low", DataType::UInt64),
    ("since_epoch", DataType::UInt32),
    ("since_seq", DataType::UInt64),
    ("by_epoch", DataType::UInt32),
    ("by_seq", DataType::UInt64),
    ("time_min", DataType::Int64),
    ("time_max", DataType::Int64),
    ("rows", DataType::UInt64),
    ("deletes", DataType::UInt64),
    ("bytes", DataType::UInt64),
    ("sequence_min", DataType::UInt64),
    ("sequence_max", DataType::UInt64),
    ("level", DataType::UInt8),
    ("generation", DataType::UInt32),
    ("schema_version", DataType::UInt32),
    ("crc32", DataType::UInt32),
];
const TEXTS: [&str; 3] = ["scope", "rule", "stats"];
/// Columns of random bits, where nothing but a plain copy pays.
const RANDOM: [&str; 2] = ["ulid_low", "crc32"];

fn schema() -> SchemaRef {
    let text = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    let numbers = COLUMNS.into_iter().map(|(name, data_type)| Field::new(name, data_type, false));
    let texts = TEXTS.into_iter().map(|name| Field::new(name, text.clone(), false));
    Arc::new(Schema::new(numbers.chain(texts).collect::<Vec<_>>()))
}

fn properties() -> WriterProperties {
    let version = format::current(Format::Segment);
    let pair = |key: &str, value: u32| KeyValue::new(key.to_owned(), value.to_string());
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_key_value_metadata(Some(vec![pair(FORMAT_KEY, version.version), pair(MIN_READER_KEY, version.min_reader)]));
    for (name, data_type) in COLUMNS {
        let wide = matches!(data_type, DataType::Int64 | DataType::UInt64) && !RANDOM.contains(&name);
        let encoding = if wide { Encoding::DELTA_BINARY_PACKED } else { Encoding::PLAIN };
        let dictionary = matches!(data_type, DataType::UInt8 | DataType::UInt32) && !RANDOM.contains(&name);
        properties = properties.set_column_dictionary_enabled(name.into(), dictionary).set_column_encoding(name.into(), encoding);
    }
    properties.build()
}

/// The parts of a row that every kind has a column for.
struct Parts<'a> {
    key: FileKey,
    since: Option<Slot>,
    by: Option<Slot>,
    bytes: u64,
    file: Option<&'a FileRef>,
}

fn parts(row: &Row) -> Parts<'_> {
    let of = |file: &'_ Arc<FileRef>| (file.key, file.meta.bytes);
    let with = |file, since, by| {
        let (key, bytes) = of(file);
        Parts { key, since, by, bytes, file: Some(file.as_ref()) }
    };
    match row {
        Row::Visible(listed) => with(&listed.file, Some(listed.since), None),
        Row::Removed(removed) => with(&removed.file, Some(removed.since), Some(removed.by)),
        Row::Staged(staged) | Row::Remapped(staged) => with(staged.reference(), None, None),
        Row::Doomed(key, doomed) => Parts { key: *key, since: None, by: Some(doomed.by), bytes: doomed.bytes, file: None },
    }
}

fn numbers<'a, T: ArrowPrimitiveType>(parts: &'a [Parts<'a>], of: impl Fn(&Parts<'_>) -> T::Native) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(parts.iter().map(of)))
}

fn metas<'a, T: ArrowPrimitiveType>(parts: &'a [Parts<'a>], of: impl Fn(&FileMeta) -> T::Native) -> ArrayRef {
    numbers::<T>(parts, |part| part.file.map_or(T::Native::default(), |file| of(&file.meta)))
}

/// A column of JSON texts. What several rows share is serialized once.
fn texts<'a, V: serde::Serialize + ?Sized + 'a>(parts: &'a [Parts<'a>], of: impl Fn(&'a FileRef) -> &'a V) -> ArrayRef {
    // Equal texts have one key, in the order in which they are met.
    let mut distinct = StringDictionaryBuilder::<Int32Type>::new();
    let mut key_of = |text: &str| distinct.append(text).expect("there are no more texts than rows of a segment");
    let mut known = ByAddress::default();
    let keys = parts.iter().map(|part| match part.file.map(&of) {
        Some(value) => known
            .get_or_insert_with(value, || key_of(&serde_json::to_string(value).expect("expressions and statistics have text keys only"))),
        None => key_of(""),
    });
    let keys = PrimitiveArray::<Int32Type>::from_iter_values(keys);
    let texts = Arc::clone(distinct.finish().values());
    Arc::new(DictionaryArray::try_new(keys, texts).expect("each key is that of a text"))
}

/// The bytes of a segment of these rows, which must be in order.
#[must_use]
pub fn encode_segment(rows: &[Row]) -> Bytes {
    let kinds: PrimitiveArray<UInt8Type> = PrimitiveArray::from_iter_values(rows.iter().map(Row::kind));
    let parts: Vec<Parts<'_>> = rows.iter().map(parts).collect();
    let parts = &parts[..];
    let slot = |slot: Option<Slot>| slot.unwrap_or(Slot::new(Epoch(0), 0));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(kinds),
        numbers::<UInt64Type>(parts, |part| part.key.origin.as_u64()),
        numbers::<UInt32Type>(parts, |part| part.key.file.epoch.0),
        numbers::<UInt64Type>(parts, |part| (part.key.file.ulid().0 >> 64) as u64),
        numbers::<UInt64Type>(parts, |part| part.key.file.ulid().0 as u64),
        numbers::<UInt32Type>(parts, |part| slot(part.since).epoch.0),
        numbers::<UInt64Type>(parts, |part| slot(part.since).seq),
        numbers::<UInt32Type>(parts, |part| slot(part.by).epoch.0),
        numbers::<UInt64Type>(parts, |part| slot(part.by).seq),
        metas::<Int64Type>(parts, |meta| meta.time_range.0),
        metas::<Int64Type>(parts, |meta| meta.time_range.1),
        metas::<UInt64Type>(parts, |meta| meta.rows),
        metas::<UInt64Type>(parts, |meta| meta.deletes),
        numbers::<UInt64Type>(parts, |part| part.bytes),
        metas::<UInt64Type>(parts, |meta| meta.sequences.0.as_u64()),
        metas::<UInt64Type>(parts, |meta| meta.sequences.1.as_u64()),
        metas::<UInt8Type>(parts, |meta| meta.level),
        metas::<UInt32Type>(parts, |meta| meta.generation.as_u32()),
        metas::<UInt32Type>(parts, |meta| meta.schema_version),
        metas::<UInt32Type>(parts, |meta| meta.crc32),
        texts(parts, |file| &file.scope as &Expr),
        texts(parts, |file| file.meta.rule.as_ref()),
        texts(parts, |file| file.meta.stats.as_ref()),
    ];
    let batch = RecordBatch::try_new(schema(), columns).expect("the columns are those of the schema");
    let mut bytes = Vec::new();
    let options = ArrowWriterOptions::new().with_properties(properties()).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, schema(), options).expect("the schema is one that Parquet has");
    writer.write(&batch).expect("a vector takes every write");
    writer.close().expect("a vector takes every write");
    Bytes::from(bytes)
}

/// Decodes segments, one after the other, and parses each distinct expression once.
#[derive(Debug, Default)]
pub struct SegmentDecoder {
    scopes: HashMap<String, Scope>,
    rules: HashMap<String, Arc<Expr>>,
    stats: HashMap<String, Arc<[ColumnStats]>>,
}

impl SegmentDecoder {
    /// The rows of the segment that `named` names, in order.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(&mut self, named: &SegmentRef, bytes: &Bytes) -> Result<Vec<Row>, SegmentError> {
        guarded(named, bytes, |batch| {
            let mut rows = Vec::with_capacity(batch.num_rows());
            self.batch(batch, &mut rows)?;
            Ok(rows)
        })
    }

    /// The same, with the visible references as they are in the segment: in columns.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode_columns(&mut self, named: &SegmentRef, bytes: &Bytes) -> Result<Segment, SegmentError> {
        guarded(named, bytes, |batch| {
            let kinds = primitive::<UInt8Type>(batch, "kind")?;
            if kinds.iter().all(|kind| *kind == 0) {
                return Ok(Segment { block: self.block(batch)?, rows: Vec::new() });
            }
            let visible: BooleanArray = kinds.iter().map(|kind| Some(*kind == 0)).collect();
            let block = self.block(&filter_record_batch(batch, &visible).map_err(content)?)?;
            let others: BooleanArray = kinds.iter().map(|kind| Some(*kind != 0)).collect();
            let mut rows = Vec::new();
            self.batch(&filter_record_batch(batch, &others).map_err(content)?, &mut rows)?;
            Ok(Segment { block, rows })
        })
    }

    fn block(&mut self, batch: &RecordBatch) -> Result<Block, SegmentError> {
        let columns = Columns::of(batch)?;
        let scopes = parsed(text(batch, "scope")?, &mut self.scopes)?;
        let rules = parsed(text(batch, "rule")?, &mut self.rules)?;
        let stats = parsed(text(batch, "stats")?, &mut self.stats)?;
        let place = |keys: &[i32], row: usize| u32::try_from(keys[row]).unwrap_or(u32::MAX);
        let packed = |row: usize| {
            let texts = (place(scopes.keys, row), place(rules.keys, row), place(stats.keys, row));
            columns.packed(row, texts)
        };
        let rows = (0..batch.num_rows()).map(packed).collect();
        let shared = Shared { scopes: scopes.values.into(), rules: rules.values.into(), stats: stats.values.into() };
        let block = Block::new(rows, shared);
        match block.first_bad_row() {
            None => Ok(block),
            Some(row) => Err(content(format!("the reference to {} is out of order or incomplete", block.key(row)))),
        }
    }

    fn batch(&mut self, batch: &RecordBatch, rows: &mut Vec<Row>) -> Result<(), SegmentError> {
        let columns = Columns::of(batch)?;
        let scopes = parsed(text(batch, "scope")?, &mut self.scopes)?;
        let rules = parsed(text(batch, "rule")?, &mut self.rules)?;
        let stats = parsed(text(batch, "stats")?, &mut self.stats)?;
        for row in 0..batch.num_rows() {
            let texts = (scopes.at(row), rules.at(row), stats.at(row));
            rows.push(columns.row(row, texts)?);
        }
        Ok(())
    }
}

/// Checks the bytes of a segment and hands its rows on, as one batch.
fn guarded<T>(named: &SegmentRef, bytes: &Bytes, take: impl FnOnce(&RecordBatch) -> Result<T, SegmentError>) -> Result<T, SegmentError> {
    let computed = crc32fast::hash(bytes);
    if computed != named.crc32 || bytes.len() as u64 != named.bytes {
        return Err(SegmentError::Checksum { expected: named.bytes, len: bytes.len(), recorded: named.crc32, computed });
    }
    // Bytes with an honest checksum that are no segment come from a defective writer; the Parquet reader answers some
    // of these with a panic.
    let read = AssertUnwindSafe(|| take(&read(named, bytes)?));
    catch_unwind(read).unwrap_or_else(|_| Err(content("the Parquet reader gave up on it")))
}

fn read(named: &SegmentRef, bytes: &Bytes) -> Result<RecordBatch, SegmentError> {
    let options = ArrowReaderOptions::new().with_schema(schema());
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).map_err(content)?;
    check_format(builder.metadata().file_metadata().key_value_metadata())?;
    let found = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    if found != named.rows {
        return Err(content(format!("it holds {found} references, {} were announced", named.rows)));
    }
    let rows = usize::try_from(found).unwrap_or(0).clamp(1, 1 << 20);
    let batches: Vec<RecordBatch> = builder.with_batch_size(rows).build().map_err(content)?.collect::<Result<_, _>>().map_err(content)?;
    match &batches[..] {
        [batch] => Ok(batch.clone()),
        batches => concat_batches(&schema(), batches).map_err(content),
    }
}

fn check_format(pairs: Option<&Vec<KeyValue>>) -> Result<(), SegmentError> {
    let number = |key: &str| {
        let pair = pairs?.iter().find(|pair| pair.key == key)?;
        pair.value.as_ref()?.parse::<u32>().ok()
    };
    let (Some(written), Some(min_reader)) = (number(FORMAT_KEY), number(MIN_READER_KEY)) else {
        return Err(content("it does not say of which format it is"));
    };
    Ok(format::check(Format::Segment, written, min_reader)?)
}

/// A text column: the parsed form of each dictionary entry, by row.
struct Texts<'a, V> {
    keys: &'a [i32],
    values: Vec<Option<V>>,
}

impl<V> Texts<'_, V> {
    fn at(&self, row: usize) -> Option<&V> {
        self.values.get(usize::try_from(self.keys[row]).ok()?)?.as_ref()
    }
}

fn text<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a DictionaryArray<Int32Type>, SegmentError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_dictionary_opt::<Int32Type>());
    column.filter(|column| column.null_count() == 0).ok_or_else(|| content(format!("column '{name}' is not a text without NULLs")))
}

/// What each text of a column means; nothing for the empty one.
fn parsed<'a, V: DeserializeOwned + Clone>(
    column: &'a DictionaryArray<Int32Type>,
    known: &mut HashMap<String, V>,
) -> Result<Texts<'a, V>, SegmentError> {
    let texts: &StringArray = column.values().as_string_opt().ok_or_else(|| content("a dictionary is not of texts"))?;
    let mut values = Vec::with_capacity(texts.len());
    for text in (0..texts.len()).map(|index| if texts.is_null(index) { "" } else { texts.value(index) }) {
        let value = match known.get(text) {
            _ if text.is_empty() => None,
            Some(value) => Some(value.clone()),
            None => {
                let value: V = serde_json::from_str(text).map_err(content)?;
                known.insert(text.to_owned(), value.clone());
                Some(value)
            }
        };
        values.push(value);
    }
    Ok(Texts { keys: column.keys().values(), values })
}

type FileTexts<'a> = (Option<&'a Scope>, Option<&'a Arc<Expr>>, Option<&'a Arc<[ColumnStats]>>);

/// The number columns of a batch.
struct Columns<'a> {
    bytes: [&'a [u8]; 2],
    words: [&'a [u32]; 6],
    longs: [&'a [u64]; 10],
    times: [&'a [i64]; 2],
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, SegmentError> {
        let long = |name| primitive::<UInt64Type>(batch, name);
        let word = |name| primitive::<UInt32Type>(batch, name);
        Ok(Self {
            bytes: [primitive::<UInt8Type>(batch, "kind")?, primitive::<UInt8Type>(batch, "level")?],
            words: [word("epoch")?, word("since_epoch")?, word("by_epoch")?, word("generation")?, word("schema_version")?, word("crc32")?],
            longs: [
                long("origin")?,
                long("ulid_high")?,
                long("ulid_low")?,
                long("since_seq")?,
                long("by_seq")?,
                long("rows")?,
                long("deletes")?,
                long("bytes")?,
                long("sequence_min")?,
                long("sequence_max")?,
            ],
            times: [primitive::<Int64Type>(batch, "time_min")?, primitive::<Int64Type>(batch, "time_max")?],
        })
    }

    fn row(&self, row: usize, texts: FileTexts<'_>) -> Result<Row, SegmentError> {
        let [kind, _] = self.bytes;
        let [epoch, since_epoch, by_epoch, ..] = self.words;
        let [origin, high, low, since_seq, by_seq, _, _, bytes, ..] = self.longs;
        let ulid = Ulid(u128::from(high[row]) << 64 | u128::from(low[row]));
        let key = FileKey { origin: RegionId::from_u64(origin[row]), file: FileId::new(Epoch(epoch[row]), ulid) };
        let since = Slot::new(Epoch(since_epoch[row]), since_seq[row]);
        let by = Slot::new(Epoch(by_epoch[row]), by_seq[row]);
        if kind[row] == 4 {
            return Ok(Row::Doomed(key, Doomed { by, bytes: bytes[row] }));
        }
        let file = Arc::new(self.file(row, key, texts)?);
        match kind[row] {
            0 => Ok(Row::Visible(Listed { file, since })),
            1 => Ok(Row::Removed(Removed { file, since, by })),
            2 => Ok(Row::Staged(StagedFile::new(file))),
            3 => Ok(Row::Remapped(StagedFile::new(file))),
            other => Err(content(format!("the reference to {key} is of the unknown kind {other}"))),
        }
    }

    fn packed(&self, row: usize, (scope, rule, stats): (u32, u32, u32)) -> Packed {
        let [_, level] = self.bytes;
        let [epoch, since_epoch, _, generation, schema_version, crc32] = self.words;
        let [origin, high, low, since_seq, _, rows, deletes, bytes, oldest, newest] = self.longs;
        let [from, to] = self.times;
        // A generation that does not fit is found to be none when the block is checked.
        let generation = generation[row].min(0x00ff_ffff);
        Packed {
            origin: origin[row],
            ulid: (high[row], low[row]),
            since_seq: since_seq[row],
            time: (from[row], to[row]),
            rows: rows[row],
            deletes: deletes[row],
            bytes: bytes[row],
            sequences: (oldest[row], newest[row]),
            epoch: epoch[row],
            since_epoch: since_epoch[row],
            generation_and_level: generation | u32::from(level[row]) << 24,
            schema_version: schema_version[row],
            crc32: crc32[row],
            scope,
            rule,
            stats,
        }
    }

    fn file(&self, row: usize, key: FileKey, (scope, rule, stats): FileTexts<'_>) -> Result<FileRef, SegmentError> {
        let [_, level] = self.bytes;
        let [.., generation, schema_version, crc32] = self.words;
        let [.., rows, deletes, bytes, oldest, newest] = self.longs;
        let [from, to] = self.times;
        let missing = || content(format!("the reference to {key} has no scope, rule or statistics"));
        let meta = FileMeta {
            time_range: (from[row], to[row]),
            rows: rows[row],
            deletes: deletes[row],
            bytes: bytes[row],
            sequences: (Sequence::from_u64(oldest[row]), Sequence::from_u64(newest[row])),
            level: level[row],
            generation: Generation::new(generation[row]).ok_or_else(|| content(format!("{key} has no valid generation")))?,
            schema_version: schema_version[row],
            rule: Arc::clone(rule.ok_or_else(missing)?),
            stats: Arc::clone(stats.ok_or_else(missing)?),
            crc32: crc32[row],
        };
        Ok(FileRef { key, scope: scope.ok_or_else(missing)?.clone(), meta })
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> Result<&'a [T::Native], SegmentError> {
    let column = batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<T>());
    let column = column.filter(|column| column.null_count() == 0);
    column.map(|column| &column.values()[..]).ok_or_else(|| content(format!("column '{name}' is not as it should be")))
}

#[cfg(test)]
mod tests;
