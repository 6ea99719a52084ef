//! Reading an SST: footer, pruning, and a stream of batches in a layout.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema};
use futures::StreamExt;
use object_store::path::Path;
use parquet::DecodeResult;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::{ColumnId, FileKey};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, Schema, SemanticType};
use tessera_manifest::value::Value;

use super::memory::Memory;
use super::pages::{Group, Known, Selected};
use super::store_reader::{read_range, verify};
use super::{Access, Error, FORMAT};
use crate::merge::block::{Assembly, Need};
use crate::merge::layout::{Layout, field_id};
use crate::merge::{BATCH_ROWS, BatchStream, Output, Run, RunTraits, Seen};

/// Bytes at the end of a file that are read first; footer and page index mostly fit.
const TAIL_BYTES: u64 = 64 << 10;

/// Of pages on which some rows may satisfy a filter, one row in so many is thought to: a page has rows of many series.
const MATCHING_SHARE: u64 = 8;

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

/// Which conditions of a filter choose rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conditions {
    /// Those that hold for all rows of a key or for none.
    OfKeys,
    /// All: no row of the file meets another of its key.
    All,
}

/// A planned read of one file.
#[derive(Debug)]
pub struct Scan {
    /// What is known of the rows.
    pub traits: RunTraits,
    /// Row groups that are read.
    pub row_groups: usize,
    /// Row groups that could be skipped.
    pub row_groups_skipped: usize,
    pub(crate) read: FileRead,
}

impl Scan {
    /// Without the rows that do not satisfy a predicate: one over the key, or of rows that meet no other of their key.
    #[must_use]
    pub fn only(mut self, predicate: Option<Arc<Expr>>) -> Self {
        self.read.exact = predicate;
        self
    }

    /// Itself as an input of a merge.
    #[must_use]
    pub fn into_run(self) -> Run {
        let read = self.read;
        Run::of_blocks(move |need| read.blocks(need), self.traits)
    }

    /// Its rows in sort order, as batches of the layout.
    #[must_use]
    pub fn into_stream(self) -> BatchStream {
        let assembly = Arc::new(Assembly::new(&self.read.layout, Output::Storage));
        let need = Need { assembly, times: false, sequences: false, op_types: false };
        let blocks = self.read.blocks(&need);
        blocks.map(move |block| block.and_then(|block| block.finish(&need.assembly, &block.pieces(false)))).boxed()
    }
}

/// The part of a file that is read, and how.
#[derive(Debug, Clone)]
pub(crate) struct FileRead {
    pub(super) access: Access,
    pub(super) key: FileKey,
    pub(super) path: Path,
    pub(super) footer: Arc<Footer>,
    pub(super) layout: Arc<Layout>,
    pub(super) filter: Arc<Expr>,
    pub(crate) groups: Vec<Group>,
    /// Rows that do not satisfy it are left out.
    pub(crate) exact: Option<Arc<Expr>>,
    /// Nor are those that do not satisfy it; it names tags alone, and what it selects is remembered.
    pub(crate) rule: Option<Arc<Expr>>,
    /// Rows outside of it are left out; `None` if there are none.
    pub(crate) time: Option<(i64, i64)>,
    /// Rows that do not satisfy it are not needed, but for those at contested times; it names fields and the time alone.
    pub(crate) fields: Option<Arc<Expr>>,
    /// The times, inclusive, at which rows may meet others of their keys.
    pub(crate) contested: Vec<(i64, i64)>,
    /// Of each series in a row group only the last row is needed.
    pub(crate) last_rows: bool,
    /// Of that, only those that are not older than what is known here.
    pub(crate) newest: Option<Seen>,
    /// Rows decoded at a time, at most.
    pub(crate) batch_rows_max: usize,
    /// Series that are not needed.
    pub(crate) seen: Option<Seen>,
    pub(crate) memory: Option<Arc<Memory>>,
    /// Rows that were tested for a rule; `None` when the exact predicate has nothing to do with one.
    pub(crate) rows_tested: Option<Arc<AtomicU64>>,
}

/// The metadata of a file and where its columns are.
#[derive(Debug)]
pub(crate) struct Footer {
    pub(super) reader: ArrowReaderMetadata,
    /// For reading text as dictionaries.
    pub(super) tags: ArrowReaderMetadata,
    /// By field id.
    leaves: BTreeMap<i32, usize>,
}

impl Footer {
    pub(crate) fn bytes(&self) -> usize {
        self.reader.metadata().memory_size()
    }

    pub(super) fn row_groups(&self) -> usize {
        self.reader.metadata().num_row_groups()
    }

    pub(super) fn rows_of(&self, group: usize) -> usize {
        usize::try_from(self.reader.metadata().row_group(group).num_rows()).unwrap_or(0)
    }

    pub(super) fn leaf(&self, column: ColumnId) -> Option<usize> {
        self.leaf_of(field_id(column)?)
    }

    pub(super) fn leaf_of(&self, field_id: i32) -> Option<usize> {
        self.leaves.get(&field_id).copied()
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
        let merging = options.layout.keys().is_some();
        self.scan_by(file, options, if merging { Conditions::OfKeys } else { Conditions::All }).await
    }

    /// [`scan`](Self::scan), with the conditions to use.
    pub(crate) async fn scan_by(&self, file: &FileRef, options: &ReadOptions, conditions: Conditions) -> Result<Scan, Error> {
        let path = self.path(file.key);
        self.verify_once(file, &path).await?;
        let footer = self.footer(file, &path).await?;
        let layout = Arc::clone(&options.layout);
        if layout.keys().is_none() && file.meta.deletes > 0 {
            return Err(Error::BatchShape { detail: format!("sst '{path}' holds deletes and needs a merging layout") });
        }
        let usable = |column: &Column| conditions == Conditions::All || column.semantic != SemanticType::Field;
        let known = Known { key: file.key, footer: &footer, schema: layout.schema(), bounds: &self.caches.bounds };
        let Selected { groups, skipped } = known.select(&options.filter, usable);
        let read = FileRead {
            access: self.clone(),
            key: file.key,
            path,
            footer,
            layout,
            filter: Arc::clone(&options.filter),
            groups,
            exact: None,
            rule: None,
            time: None,
            fields: None,
            contested: Vec::new(),
            last_rows: false,
            newest: None,
            batch_rows_max: BATCH_ROWS,
            seen: None,
            memory: None,
            rows_tested: None,
        };
        let (read, excluded) = read.without_excluded(usable).await?;
        Ok(Scan { traits: traits(file), row_groups: read.groups.len(), row_groups_skipped: skipped + excluded, read })
    }

    /// About how many rows of a file satisfy a filter on tags and the time, not counted far beyond `enough`: all of a row
    /// group where its statistics say so, and one in [`MATCHING_SHARE`] on pages that may have some. `None` if the file's footer
    /// is not in memory.
    pub(crate) fn estimate_rows(&self, file: &FileRef, schema: &Schema, filter: &Expr, enough: u64) -> Option<u64> {
        let footer = self.caches.footers.get(&file.key)?;
        let known = Known { key: file.key, footer: &footer, schema, bounds: &self.caches.bounds };
        let (mut matching, mut possible) = (0, 0_u64);
        for (group, all) in known.selected(filter, |column| column.semantic != SemanticType::Field) {
            *(if all { &mut matching } else { &mut possible }) += group.selected() as u64;
            if matching + possible.div_ceil(MATCHING_SHARE) >= enough {
                break;
            }
        }
        Some(matching + possible.div_ceil(MATCHING_SHARE))
    }

    /// Values of the first tag at which a file's rows are cut into about so many equal parts.
    pub(crate) async fn cuts(&self, file: &FileRef, schema: &Schema, column: &Column, parts: usize) -> Result<Vec<Value>, Error> {
        let path = self.path(file.key);
        self.verify_once(file, &path).await?;
        let footer = self.footer(file, &path).await?;
        Ok(Known { key: file.key, footer: &footer, schema, bounds: &self.caches.bounds }.cuts(column, parts))
    }

    async fn verify_once(&self, file: &FileRef, path: &Path) -> Result<(), Error> {
        if !self.verify {
            return Ok(());
        }
        let cell = self.verified.get_with(file.key, Arc::default);
        cell.get_or_try_init(|| verify(&*self.store, path, &file.meta)).await.copied()
    }

    async fn footer(&self, file: &FileRef, path: &Path) -> Result<Arc<Footer>, Error> {
        if let Some(footer) = self.caches.footers.get(&file.key) {
            return Ok(footer);
        }
        let metadata = self.read_footer(path, file.meta.bytes).await?;
        check_format(&metadata, path)?;
        let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
        if u64::try_from(rows) != Ok(file.meta.rows) {
            return Err(Error::Mismatch { path: path.clone(), detail: format!("{rows} rows, expected {}", file.meta.rows) });
        }
        let damaged = |source| Error::decode(path, source);
        let metadata = Arc::new(metadata);
        let reader = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new()).map_err(damaged)?;
        let options = ArrowReaderOptions::new().with_schema(Arc::new(with_dictionaries(reader.schema())));
        let tags = ArrowReaderMetadata::try_new(metadata, options).map_err(damaged)?;
        let descriptors = reader.parquet_schema().columns().iter().enumerate();
        let with_id = descriptors.filter(|(_, c)| c.self_type().get_basic_info().has_id());
        let leaves = with_id.map(|(leaf, c)| (c.self_type().get_basic_info().id(), leaf)).collect();
        let footer = Arc::new(Footer { reader, tags, leaves });
        self.caches.footers.insert(file.key, Arc::clone(&footer));
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

/// The same, with text as dictionaries.
fn with_dictionaries(schema: &ArrowSchema) -> ArrowSchema {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        ArrowType::Utf8 | ArrowType::Binary => {
            let values = Box::new(field.data_type().clone());
            field.as_ref().clone().with_data_type(ArrowType::Dictionary(Box::new(ArrowType::Int32), values))
        }
        _ => field.as_ref().clone(),
    });
    ArrowSchema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}
