//! Writing an SST: an encoder on a thread of its own, between a stream of sorted batches and an upload in parts.
//!
//! Memory: one row group as compressed pages, two parts, and a few input batches.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType as ArrowType;
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use tessera_manifest::env;
use tessera_manifest::file::FileMeta;
use tessera_manifest::id::{ColumnId, FileKey, Generation};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Schema, SemanticType};
use tokio::sync::mpsc;

use super::encode::{self, FileWriter};
use super::stats::{Totals, has_few_values};
use super::worth::{worth_compressing, worth_differences};
use super::{Access, Error, FORMAT, MIN_READER};
use crate::memtable::{Rows, Snapshot};
use crate::merge::layout::{Layout, OP_TYPE_COLUMN, SEQUENCE_COLUMN};
use crate::merge::{BatchStream, Dedup, Options, Output, merge};
use crate::options::SkippingIndex;

/// Encoded bytes of a row group at most, about: what writers and mergers hold of each file.
const ROW_GROUP_BYTES_MAX: usize = 8 << 20;
/// Rows of a data page at most: what a point query decodes at least.
const PAGE_ROWS_MAX: usize = 8192;
/// Batches and parts on their way to and from the encoder.
const CHANNEL_ITEMS: usize = 2;

/// A file to be written.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its name; not in use yet.
    pub key: FileKey,
    /// The schema of its rows.
    pub schema: Arc<Schema>,
    /// 0 for a flush; compaction raises it.
    pub level: u8,
    /// The partition generation under which it is written.
    pub generation: Generation,
    /// The region rule, which every row satisfies.
    pub rule: Arc<Expr>,
    /// The columns whose extremes the manifest records.
    pub partition_columns: Vec<ColumnId>,
    /// The columns that get a bloom filter in each row group, where the schema has them.
    pub skipping: BTreeMap<ColumnId, SkippingIndex>,
}

/// Writes a memtable snapshot as one SST, deletes included, and of each (primary key, time) what `dedup` leaves;
/// `None` if it is empty.
///
/// # Errors
/// See [`Access::write`].
pub async fn flush(access: &Access, snapshot: Snapshot, file: NewFile, dedup: Dedup) -> Result<Option<FileMeta>, Error> {
    if snapshot.is_empty() {
        return Ok(None);
    }
    let layout = Arc::new(Layout::merging(Arc::clone(&file.schema), None)?);
    access.write(file, sorted(snapshot, layout, dedup).await?).await
}

/// The rows of a snapshot as an SST holds them: sorted, and of each (primary key, time) what `dedup` leaves.
pub(crate) async fn sorted(snapshot: Snapshot, layout: Arc<Layout>, dedup: Dedup) -> Result<BatchStream, Error> {
    let rows = if dedup == Dedup::LastRow { Rows::Newest } else { Rows::All };
    let sorting = Arc::clone(&layout);
    let sorted = env::spawn_blocking(move || snapshot.sorted_rows(&sorting, None, rows)).await;
    let stopped = |_| Error::BatchShape { detail: "sorting a memtable was stopped".to_owned() };
    let sorted = sorted.map_err(stopped)??;
    match dedup {
        Dedup::LastRow => Ok(sorted.into_coded()?.into_stream()),
        _ => merge(layout, vec![sorted.into_run()], Options { dedup, output: Output::Coded }),
    }
}

impl Access {
    /// Writes a file of `rows`, which are a sorted run in the storage layout of the file's schema (see
    /// [`Layout::merging`]). Returns `None`, and writes nothing, if there are none.
    ///
    /// When this fails or is dropped, no file of this name is visible, or a complete one that no manifest names.
    ///
    /// # Errors
    /// What `rows` gives; [`Error::Store`] when the store fails; [`Error::Exists`] when the name is in use.
    pub async fn write(&self, file: NewFile, rows: BatchStream) -> Result<Option<FileMeta>, Error> {
        let path = self.path(file.key);
        let layout = Arc::new(Layout::merging(Arc::clone(&file.schema), None)?);
        let (batch_tx, batch_rx) = mpsc::channel(CHANNEL_ITEMS);
        let (part_tx, part_rx) = mpsc::channel(CHANNEL_ITEMS);
        let Self { row_group_rows, part_bytes, zstd_level, .. } = *self;
        let job = Encoder { file, layout, path: path.clone(), row_group_rows, part_bytes, zstd_level };
        let encoder = env::spawn_working(async move { job.run(batch_rx, &part_tx).await });
        let (fed, uploaded) = futures::join!(feed(rows, batch_tx), upload(&*self.store, &path, part_rx));
        let encoded = encoder.await.unwrap_or_else(|_| Err(Error::Stopped { path: path.clone() }));
        let pending = uploaded?;
        match fed.and(encoded) {
            Ok(meta) => pending.complete(&*self.store, &path).await.map(|()| meta),
            Err(error) => {
                pending.abort(&path).await;
                Err(error)
            }
        }
    }
}

/// Hands batches to the encoder; when that has stopped, its own error says why.
async fn feed(mut rows: BatchStream, to: mpsc::Sender<RecordBatch>) -> Result<(), Error> {
    while let Some(batch) = rows.next().await {
        if to.send(batch?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Bytes that are with the store but not yet visible as an object, or still here.
enum Pending {
    Nothing,
    Whole(Bytes),
    Parts(Box<dyn MultipartUpload>),
}

async fn upload(store: &dyn ObjectStore, path: &Path, mut parts: mpsc::Receiver<Bytes>) -> Result<Pending, Error> {
    let mut pending = Pending::Nothing;
    while let Some(part) = parts.recv().await {
        pending = match pending {
            Pending::Nothing => Pending::Whole(part),
            Pending::Whole(first) => {
                let upload = store.put_multipart(path).await.map_err(|source| Error::store(path, source))?;
                let upload = put_part(upload, path, first).await?;
                Pending::Parts(put_part(upload, path, part).await?)
            }
            Pending::Parts(upload) => Pending::Parts(put_part(upload, path, part).await?),
        };
    }
    Ok(pending)
}

async fn put_part(mut upload: Box<dyn MultipartUpload>, path: &Path, part: Bytes) -> Result<Box<dyn MultipartUpload>, Error> {
    match upload.put_part(PutPayload::from_bytes(part)).await {
        Ok(()) => Ok(upload),
        Err(source) => {
            Pending::Parts(upload).abort(path).await;
            Err(Error::store(path, source))
        }
    }
}

impl Pending {
    async fn complete(self, store: &dyn ObjectStore, path: &Path) -> Result<(), Error> {
        match self {
            Self::Nothing => Ok(()),
            Self::Whole(bytes) => put_whole(store, path, bytes).await,
            Self::Parts(mut upload) => match upload.complete().await {
                Ok(_) => Ok(()),
                Err(source) => {
                    Self::Parts(upload).abort(path).await;
                    Err(Error::store(path, source))
                }
            },
        }
    }

    async fn abort(self, path: &Path) {
        if let Self::Parts(mut upload) = self
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(%path, %error, "could not abort an upload; the store's own rules will remove its parts");
        }
    }
}

/// One exclusive put. A store that retries on its own can find its own bytes there already.
async fn put_whole(store: &dyn ObjectStore, path: &Path, bytes: Bytes) -> Result<(), Error> {
    let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
    match store.put_opts(path, PutPayload::from_bytes(bytes.clone()), options).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. }) => {
            let found = store.get(path).await.map_err(|source| Error::store(path, source))?;
            let same = found.meta.size == bytes.len() as u64 && found.bytes().await.map_err(|source| Error::store(path, source))? == bytes;
            if same { Ok(()) } else { Err(Error::Exists { path: path.clone() }) }
        }
        Err(source) => Err(Error::store(path, source)),
    }
}

struct Encoder {
    file: NewFile,
    layout: Arc<Layout>,
    path: Path,
    row_group_rows: usize,
    part_bytes: usize,
    zstd_level: i32,
}

impl Encoder {
    /// Encodes until the batches end; sends the bytes of the file in order.
    async fn run(self, mut batches: mpsc::Receiver<RecordBatch>, parts: &mpsc::Sender<Bytes>) -> Result<Option<FileMeta>, Error> {
        let mut totals = Totals::new(&self.layout, &self.file.partition_columns);
        let mut hasher = crc32fast::Hasher::new();
        let mut sent = 0;
        let mut send = |bytes: Vec<u8>| {
            hasher.update(&bytes);
            sent += bytes.len() as u64;
            let (parts, path) = (parts, &self.path);
            async move { parts.send(bytes.into()).await.map_err(|_| Error::Stopped { path: path.clone() }) }
        };
        let Some(first) = batches.recv().await else { return Ok(None) };
        let encode = |source| Error::Encode { path: self.path.clone(), source };
        let tags = self.layout.keys().map_or(&[][..], |keys| &keys.tags);
        let zstd = ZstdLevel::try_new(self.zstd_level).map_err(encode)?;
        let settings = encode::Settings {
            group_rows_max: self.row_group_rows,
            group_bytes_max: ROW_GROUP_BYTES_MAX,
            page_rows_max: PAGE_ROWS_MAX,
            zstd,
        };
        let mut writer = FileWriter::new(self.layout.arrow(), tags, self.properties(&first, zstd), settings).map_err(encode)?;
        let mut next = Some(first);
        while let Some(batch) = next {
            totals.add(&self.layout, &batch)?;
            writer.write(&batch).map_err(encode)?;
            let buffer = writer.buffer().map_err(encode)?;
            if buffer.len() >= self.part_bytes {
                send(mem::take(buffer)).await?;
            }
            next = batches.recv().await;
        }
        if totals.rows() == 0 {
            return Ok(None);
        }
        send(writer.finish().map_err(encode)?).await?;
        let crc32 = hasher.finalize();
        Ok(Some(totals.into_meta(&self.file, sent, crc32)))
    }

    fn properties(&self, sample: &RecordBatch, zstd: ZstdLevel) -> WriterProperties {
        let mut builder = WriterProperties::builder()
            .set_compression(Compression::ZSTD(zstd))
            .set_max_row_group_row_count(Some(self.row_group_rows))
            .set_data_page_row_count_limit(PAGE_ROWS_MAX)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_dictionary_enabled(false)
            .set_key_value_metadata(Some(self.key_values()))
            .set_sorting_columns(Some(self.sorting_columns()));
        for ((column, array), field) in self.layout.columns().zip(sample.columns()).zip(self.layout.arrow().fields()) {
            let path = ColumnPath::new(vec![column.name.clone()]);
            // Without a number of distinct values the filter begins at the rows of a row group and is then folded to
            // what its values need.
            if let Some(index) = self.file.skipping.get(&column.id).filter(|_| *field.data_type() != ArrowType::Boolean) {
                builder = builder.set_column_bloom_filter_fpp(path.clone(), f64::from(index.false_positive_ppm) / 1e6);
            }
            let text = matches!(field.data_type(), ArrowType::Utf8 | ArrowType::Binary);
            if column.semantic == SemanticType::TimeIndex {
                builder = builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
                continue;
            }
            let few = column.semantic == SemanticType::Tag || text || has_few_values(array, column.data_type);
            if few {
                builder = builder.set_column_dictionary_enabled(path.clone(), *field.data_type() != ArrowType::Boolean);
            }
            let differences = if few { None } else { worth_differences(array, zstd) };
            if differences.is_some() {
                builder = builder.set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED);
            }
            if column.semantic == SemanticType::Field && !differences.unwrap_or_else(|| worth_compressing(array, few, zstd)) {
                builder = builder.set_column_compression(path, Compression::UNCOMPRESSED);
            }
        }
        let sequence = ColumnPath::new(vec![SEQUENCE_COLUMN.to_owned()]);
        let op_type = ColumnPath::new(vec![OP_TYPE_COLUMN.to_owned()]);
        builder = builder.set_column_encoding(sequence, Encoding::DELTA_BINARY_PACKED).set_column_dictionary_enabled(op_type, true);
        builder.build()
    }

    fn key_values(&self) -> Vec<KeyValue> {
        let NewFile { key, schema, level, generation, rule, partition_columns: _, skipping: _ } = &self.file;
        let rule = serde_json::to_string(rule.as_ref()).unwrap_or_default();
        let pairs = [
            ("tessera.format", FORMAT.to_string()),
            ("tessera.min_reader", MIN_READER.to_string()),
            ("tessera.table", key.origin.table().to_string()),
            ("tessera.region", key.origin.to_string()),
            ("tessera.file", key.file.to_string()),
            ("tessera.schema_version", schema.version().to_string()),
            ("tessera.level", level.to_string()),
            ("tessera.generation", generation.to_string()),
            ("tessera.rule", rule),
        ];
        pairs.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
    }

    fn sorting_columns(&self) -> Vec<SortingColumn> {
        let Some(keys) = self.layout.keys() else { return Vec::new() };
        let ascending = |position: &usize| SortingColumn { column_idx: *position as i32, descending: false, nulls_first: true };
        let mut columns: Vec<SortingColumn> = keys.tags.iter().chain([&keys.time]).map(ascending).collect();
        columns.push(SortingColumn { column_idx: keys.sequence as i32, descending: true, nulls_first: true });
        columns
    }
}
