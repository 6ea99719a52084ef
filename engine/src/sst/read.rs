//! Reading an SST: footer, pruning, and a stream of batches in a layout.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::StreamExt;
use object_store::path::Path;
use parquet::DecodeResult;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::ColumnId;
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::SemanticType;

use super::pages::select;
use super::store_reader::{StoreReader, read_range, verify};
use super::{Access, Error, FORMAT};
use crate::merge::layout::{Layout, OP_TYPE_FIELD_ID, SEQUENCE_FIELD_ID, Source, field_id};
use crate::merge::{BATCH_ROWS, BatchStream, Run, RunTraits};

/// Bytes at the end of a file that are read first; footer and page index mostly fit.
const TAIL_BYTES: u64 = 64 << 10;

/// What to read of a file.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// The columns, of the file's schema or a later one.
    pub layout: Arc<Layout>,
    /// Rows that cannot satisfy it may be left out; none are filtered one by one. With a merging layout only its
    /// conditions on tags and time index are used, because they hold for all rows of a key or for none. With a
    /// plain layout all conditions are used.
    pub filter: Arc<Expr>,
}

/// A running read of one file.
pub struct Scan {
    /// Its rows in sort order.
    pub stream: BatchStream,
    /// What is known of the rows.
    pub traits: RunTraits,
    /// Row groups that are read.
    pub row_groups: usize,
    /// Row groups that could be skipped.
    pub row_groups_skipped: usize,
}

impl Scan {
    /// Itself as an input of a merge.
    #[must_use]
    pub fn into_run(self) -> Run {
        Run::new(self.stream, self.traits)
    }
}

/// The metadata of a file and where its columns are.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) reader: ArrowReaderMetadata,
    /// By field id.
    leaves: BTreeMap<i32, usize>,
}

impl Footer {
    pub(super) fn bytes(&self) -> usize {
        self.reader.metadata().memory_size()
    }

    pub(super) fn row_groups(&self) -> usize {
        self.reader.metadata().num_row_groups()
    }

    pub(super) fn rows_of(&self, group: usize) -> usize {
        usize::try_from(self.reader.metadata().row_group(group).num_rows()).unwrap_or(0)
    }

    pub(super) fn leaf(&self, column: ColumnId) -> Option<usize> {
        self.leaves.get(&field_id(column)?).copied()
    }
}

impl Access {
    /// Opens a file and plans what to read of it; rows are read as the stream is polled.
    ///
    /// The first read of a file in this process verifies all its bytes, if so configured; others that come
    /// meanwhile wait for it.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::WrongSize`], [`Error::Checksum`], [`Error::Damaged`] or [`Error::Mismatch`]
    /// when the object is not what the manifest says; [`Error::Store`] when the store fails. The stream gives
    /// the same errors.
    pub async fn scan(&self, file: &FileRef, options: &ReadOptions) -> Result<Scan, Error> {
        let path = self.path(file.key);
        self.verify_once(file, &path).await?;
        let footer = self.footer(file, &path).await?;
        let layout = Arc::clone(&options.layout);
        let merging = layout.keys().is_some();
        if !merging && file.meta.deletes > 0 {
            return Err(Error::BatchShape { detail: format!("sst '{path}' holds deletes and needs a merging layout") });
        }
        let usable = |column: &tessera_manifest::schema::Column| !merging || column.semantic != SemanticType::Field;
        let selected = select(&footer, layout.schema(), &options.filter, usable);
        let (row_groups, row_groups_skipped) = (selected.row_groups.len(), selected.skipped);
        let wanted = Wanted::new(&footer, &layout, &path)?;
        let reader = StoreReader { store: Arc::clone(&self.store), path: path.clone(), metadata: Arc::clone(footer.reader.metadata()) };
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, footer.reader.clone())
            .with_batch_size(BATCH_ROWS)
            .with_projection(wanted.mask.clone())
            .with_row_groups(selected.row_groups);
        if let Some(rows) = selected.rows {
            builder = builder.with_row_selection(rows);
        }
        let stream = builder.build().map_err(|source| Error::decode(&path, source))?;
        let stream = stream.map(move |batch| wanted.conform(&layout, &batch.map_err(|source| Error::decode(&path, source))?));
        Ok(Scan { stream: stream.boxed(), traits: traits(file), row_groups, row_groups_skipped })
    }

    async fn verify_once(&self, file: &FileRef, path: &Path) -> Result<(), Error> {
        if !self.verify {
            return Ok(());
        }
        let cell = self.verified.get_with(file.key, Arc::default);
        cell.get_or_try_init(|| verify(&*self.store, path, &file.meta)).await.copied()
    }

    async fn footer(&self, file: &FileRef, path: &Path) -> Result<Arc<Footer>, Error> {
        if let Some(footer) = self.footers.get(&file.key) {
            return Ok(footer);
        }
        let metadata = self.read_footer(path, file.meta.bytes).await?;
        check_format(&metadata, path)?;
        let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
        if u64::try_from(rows) != Ok(file.meta.rows) {
            return Err(Error::Mismatch { path: path.clone(), detail: format!("{rows} rows, expected {}", file.meta.rows) });
        }
        let reader = ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new());
        let reader = reader.map_err(|source| Error::decode(path, source))?;
        let descriptors = reader.parquet_schema().columns().iter().enumerate();
        let with_id = descriptors.filter(|(_, c)| c.self_type().get_basic_info().has_id());
        let leaves = with_id.map(|(leaf, c)| (c.self_type().get_basic_info().id(), leaf)).collect();
        let footer = Arc::new(Footer { reader, leaves });
        self.footers.insert(file.key, Arc::clone(&footer));
        Ok(footer)
    }

    async fn read_footer(&self, path: &Path, bytes: u64) -> Result<ParquetMetaData, Error> {
        let damaged = |source| Error::decode(path, source);
        let mut decoder = ParquetMetaDataPushDecoder::try_new(bytes).map_err(damaged)?;
        let tail = bytes.saturating_sub(TAIL_BYTES)..bytes;
        let mut ranges = vec![tail];
        loop {
            for range in ranges {
                if range.start > range.end || range.end > bytes {
                    return Err(Error::Mismatch { path: path.clone(), detail: "its footer points outside of it".to_owned() });
                }
                let read = read_range(&*self.store, path, bytes, range.clone()).await?;
                decoder.push_range(range, read).map_err(damaged)?;
            }
            match decoder.try_decode().map_err(damaged)? {
                DecodeResult::Data(metadata) => return Ok(metadata),
                DecodeResult::NeedsData(needed) => ranges = needed,
                DecodeResult::Finished => return Err(Error::Mismatch { path: path.clone(), detail: "it has no footer".to_owned() }),
            }
        }
    }
}

/// A key with deletes may be there twice: as the row that stands for its newer puts, and as the delete.
fn traits(file: &FileRef) -> RunTraits {
    let sequences = Some((file.meta.sequences.0.as_u64(), file.meta.sequences.1.as_u64()));
    RunTraits { deletes: file.meta.deletes > 0, duplicates: file.meta.deletes > 0, sequences }
}

fn check_format(metadata: &ParquetMetaData, path: &Path) -> Result<(), Error> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let needed = pairs.and_then(|pairs| pairs.iter().find(|pair| pair.key == "tessera.min_reader"));
    let needed = needed.and_then(|pair| pair.value.as_deref()?.parse::<u32>().ok());
    match needed {
        Some(needed) if needed > FORMAT => Err(Error::NewerFormat { path: path.clone(), needed, supported: FORMAT }),
        Some(_) => Ok(()),
        None => Err(Error::Mismatch { path: path.clone(), detail: "it is a parquet file, but not an sst".to_owned() }),
    }
}

/// The columns of a file that a layout needs.
struct Wanted {
    mask: ProjectionMask,
    /// For each column of a decoded batch, what it is.
    columns: Vec<Meaning>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Meaning {
    User(ColumnId),
    Sequence,
    OpType,
}

impl Wanted {
    fn new(footer: &Footer, layout: &Layout, path: &Path) -> Result<Self, Error> {
        let mut found: BTreeMap<usize, Meaning> = BTreeMap::new();
        for column in layout.columns() {
            if let Some(leaf) = footer.leaf(column.id) {
                found.insert(leaf, Meaning::User(column.id));
            }
        }
        if layout.keys().is_some() {
            for (id, meaning) in [(SEQUENCE_FIELD_ID, Meaning::Sequence), (OP_TYPE_FIELD_ID, Meaning::OpType)] {
                let missing = || Error::Mismatch { path: path.clone(), detail: "it has no internal columns".to_owned() };
                found.insert(*footer.leaves.get(&id).ok_or_else(missing)?, meaning);
            }
        }
        let mask = ProjectionMask::leaves(footer.reader.parquet_schema(), found.keys().copied());
        Ok(Self { mask, columns: found.into_values().collect() })
    }

    fn conform(&self, layout: &Layout, batch: &RecordBatch) -> Result<RecordBatch, Error> {
        let mut source =
            Source { columns: HashMap::with_capacity(self.columns.len()), sequence: None, op_type: None, rows: batch.num_rows() };
        for (meaning, array) in self.columns.iter().zip(batch.columns()) {
            let array = Arc::clone(array);
            match meaning {
                Meaning::User(id) => drop(source.columns.insert(*id, array)),
                Meaning::Sequence => source.sequence = Some(array),
                Meaning::OpType => source.op_type = Some(array),
            }
        }
        layout.conform(&source)
    }
}
