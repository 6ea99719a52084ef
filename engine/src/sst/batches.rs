//! From selected rows of a row group to batches of some columns.
//!
//! Invariants:
//! - All that is needed of a row group is asked of the store at once.
//! - Numbers are decoded by `decode`, all else by the Parquet crate's reader; a batch has columns of both.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, RowSelection};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

use super::Error;
use super::decode::{Decoder, Fetched, RowGroup};
use super::groups::{Meaning, Places, Reading, count};
use super::pages::Group;
use super::store_reader::StoreReader;
use crate::merge::BATCH_ROWS;

/// Bytes of a decoded batch, about, as long as that is a fair number of rows.
const BATCH_BYTES: usize = 2 << 20;

/// Batches of rows.
pub(super) type Batches = BoxStream<'static, Result<RecordBatch, Error>>;

type Decoded = BoxStream<'static, Result<RecordBatch, ParquetError>>;

impl Reading {
    pub(super) fn decode(&self, group: &Group, wanted: &BTreeMap<usize, Meaning>, selected: &[Range<u32>]) -> Result<Batches, Error> {
        self.decode_with(&self.file.footer.reader, group, wanted, selected)
    }

    /// The same by other metadata of the file, which says what becomes of text.
    pub(super) fn decode_with(
        &self,
        metadata: &ArrowReaderMetadata,
        group: &Group,
        wanted: &BTreeMap<usize, Meaning>,
        selected: &[Range<u32>],
    ) -> Result<Batches, Error> {
        let file = &self.file;
        let rows = file.footer.rows_of(group.index);
        if wanted.is_empty() {
            return Ok(stream::iter(counts(selected)).boxed());
        }
        let batch_rows = batch_rows(metadata.metadata().row_group(group.index), wanted).min(file.batch_rows_max);
        let part = Part {
            metadata: metadata.clone(),
            group: group.index,
            leaves: wanted.keys().copied().collect(),
            rows,
            selected: selected.to_vec(),
            batch_rows,
        };
        let (path, reader) = (file.path.clone(), file.page_reader(group.index, wanted.keys().copied()));
        let batches = part.batches(reader).map_err(|source| Error::decode(&path, source))?;
        Ok(batches.map_err(move |source| Error::decode(&path, source)).boxed())
    }
}

/// What is decoded of a row group.
struct Part {
    metadata: ArrowReaderMetadata,
    group: usize,
    /// The columns, ascending.
    leaves: Vec<usize>,
    /// Of the row group.
    rows: usize,
    selected: Vec<Range<u32>>,
    batch_rows: usize,
}

impl Part {
    fn is_whole(&self) -> bool {
        matches!(&self.selected[..], [all] if *all == (0..self.rows as u32))
    }

    /// The rows for the Parquet crate's reader; `None` for all.
    fn selection(&self) -> Option<RowSelection> {
        let ranges = self.selected.iter().map(|range| range.start as usize..range.end as usize);
        (!self.is_whole()).then(|| RowSelection::from_consecutive_ranges(ranges, self.rows))
    }

    fn row_group(&self) -> RowGroup<'_> {
        RowGroup { metadata: self.metadata.metadata(), schema: self.metadata.schema(), index: self.group }
    }

    fn batches(self, reader: StoreReader) -> Result<Decoded, ParquetError> {
        let (numbers, others): (Vec<usize>, Vec<usize>) = self.leaves.iter().partition(|leaf| self.row_group().decodes(**leaf));
        if numbers.is_empty() {
            return self.by_reader(reader, others);
        }
        Ok(stream::once(self.numbers_and_others(reader, numbers, others)).try_flatten().boxed())
    }

    async fn numbers_and_others(self, reader: StoreReader, numbers: Vec<usize>, others: Vec<usize>) -> Result<Decoded, ParquetError> {
        let (group, selected) = (self.row_group(), (!self.is_whole()).then_some(&self.selected[..]));
        let mut ranges: Vec<Range<u64>> = numbers.iter().flat_map(|leaf| group.ranges(*leaf, selected)).collect();
        if !others.is_empty() {
            let selection = self.selection();
            ranges.extend(others.iter().flat_map(|leaf| group.ranges_of_reader(*leaf, selection.as_ref())));
        }
        ranges.sort_unstable_by_key(|range| range.start);
        let fetched = Arc::new(Fetched::new(&ranges, reader.read(&ranges).await?));
        let decoder = Decoder::new(self.row_group(), numbers.iter().copied(), &fetched)?;
        let schema = Arc::new(self.metadata.schema().project(&self.leaves)?);
        let places = Places::new(self.selected.clone());
        let rows = NumberRows { decoder, schema, left: count(&self.selected), batch_rows: self.batch_rows, places };
        if others.is_empty() {
            return Ok(stream::iter(rows).boxed());
        }
        let is_number: Vec<bool> = self.leaves.iter().map(|leaf| numbers.contains(leaf)).collect();
        let others = self.by_reader(reader.with_fetched(fetched), others)?;
        Ok(rows.beside(others, is_number))
    }

    /// These columns by the Parquet crate's reader.
    fn by_reader(self, reader: StoreReader, leaves: Vec<usize>) -> Result<Decoded, ParquetError> {
        let (mask, selection) = (ProjectionMask::leaves(self.metadata.parquet_schema(), leaves), self.selection());
        let mut builder = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, self.metadata)
            .with_batch_size(self.batch_rows)
            .with_projection(mask)
            .with_row_groups(vec![self.group]);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        Ok(builder.build()?.boxed())
    }
}

/// Batches of columns of numbers.
struct NumberRows {
    decoder: Decoder,
    /// With the columns that are not numbers.
    schema: SchemaRef,
    places: Places,
    /// Rows to come.
    left: usize,
    batch_rows: usize,
}

impl NumberRows {
    fn columns(&mut self, rows: usize) -> Result<Vec<ArrayRef>, ParquetError> {
        self.left = self.left.saturating_sub(rows);
        self.decoder.read(&self.places.take(rows as u32))
    }

    /// The columns of `others` beside those of the same rows here; `is_number` says which come from where.
    fn beside(mut self, others: Decoded, is_number: Vec<bool>) -> Decoded {
        let join = move |batch: Result<RecordBatch, ParquetError>| {
            let batch = batch?;
            let mut numbers = self.columns(batch.num_rows())?.into_iter();
            let mut others = batch.columns().iter().cloned();
            let columns = is_number.iter().filter_map(|is_number| if *is_number { numbers.next() } else { others.next() });
            Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns.collect())?)
        };
        others.map(join).boxed()
    }
}

impl Iterator for NumberRows {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.left.min(self.batch_rows);
        if rows == 0 {
            return None;
        }
        let batch = self.columns(rows).and_then(|columns| Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?));
        if batch.is_err() {
            self.left = 0;
        }
        Some(batch)
    }
}

/// Batches without columns, for so many rows.
fn counts(selected: &[Range<u32>]) -> Vec<Result<RecordBatch, Error>> {
    let total = count(selected);
    let batch = |from: usize| {
        let options = RecordBatchOptions::new().with_row_count(Some(BATCH_ROWS.min(total - from)));
        RecordBatch::try_new_with_options(Arc::new(ArrowSchema::empty()), Vec::new(), &options).map_err(Error::arrow("count rows"))
    };
    (0..total).step_by(BATCH_ROWS).map(batch).collect()
}

/// Rows of a decoded batch: fewer where rows are large.
fn batch_rows(group: &RowGroupMetaData, wanted: &BTreeMap<usize, Meaning>) -> usize {
    let bytes: i64 = wanted.keys().map(|leaf| group.column(*leaf).uncompressed_size()).sum();
    let row_bytes = usize::try_from(bytes / group.num_rows().max(1)).unwrap_or(0).max(1);
    (BATCH_BYTES / row_bytes).clamp(BATCH_ROWS / 64, BATCH_ROWS)
}
