//! Rows into Parquet: row groups, and which encoder each column gets.
//!
//! Invariants:
//! - A row group ends at so many rows, or at about so many encoded bytes, whichever comes first.
//! - From its second batch on a file has two threads: each encodes some of the columns of a batch, and both are done
//!   before the next batch, so that memory is the same.
//! - Tags of text are encoded by runs ([`text_column`]); they may come as dictionaries. Numbers with a dictionary are encoded by
//!   [`number_column`], all other columns by the Parquet crate.

mod chunk;
pub(super) mod hybrid;
mod interner;
mod lane;
mod number_column;
#[cfg(test)]
mod number_tests;
#[cfg(test)]
mod tests;
mod text_column;

use std::mem;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, FieldRef, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::ZstdLevel;
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use chunk::ChunkWriter;
use lane::Lane;
use text_column::TextColumn;

/// What encoding a column by the Parquet crate costs, in columns that are encoded by runs.
const ARROW_WEIGHT: usize = 8;
/// What encoding a column of numbers costs.
const NUMBERS_WEIGHT: usize = 4;

/// How row groups are cut and text is compressed; the rest is in the Parquet properties.
#[derive(Debug, Clone, Copy)]
pub(super) struct Settings {
    pub(super) group_rows_max: usize,
    pub(super) group_bytes_max: usize,
    pub(super) page_rows_max: usize,
    pub(super) zstd: ZstdLevel,
}

/// Writes a file into a buffer that may be emptied meanwhile.
pub(super) struct FileWriter {
    writer: SerializedFileWriter<Vec<u8>>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// The columns that are encoded by runs.
    texts: Vec<bool>,
    settings: Settings,
    group: Option<Group>,
    /// The second thread; `None` as long as there is little to do.
    lane: Option<Lane>,
    batches: usize,
}

struct Group {
    /// In two halves of about the same work.
    columns: [Vec<Column>; 2],
    rows: usize,
}

/// A column of the file.
struct Column {
    leaf: usize,
    field: FieldRef,
    writer: ColumnWriter,
}

enum ColumnWriter {
    Arrow(Box<ArrowColumnWriter>),
    Own(Box<dyn ChunkWriter>),
}

impl FileWriter {
    /// A file of these columns; `tags` are the positions of the tags.
    pub(super) fn new(schema: &SchemaRef, tags: &[usize], mut properties: WriterProperties, settings: Settings) -> Result<Self> {
        let converted = ArrowSchemaConverter::new().with_coerce_types(properties.coerce_types()).convert(schema)?;
        add_encoded_arrow_schema_to_metadata(schema, &mut properties);
        let writer = SerializedFileWriter::new(Vec::with_capacity(1 << 20), converted.root_schema_ptr(), Arc::new(properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(schema));
        let is_text = |(position, field): (usize, &FieldRef)| tags.contains(&position) && *field.data_type() == ArrowType::Utf8;
        let texts = schema.fields().iter().enumerate().map(is_text).collect();
        Ok(Self { writer, factory, schema: Arc::clone(schema), texts, settings, group: None, lane: None, batches: 0 })
    }

    /// Adds rows. Tags of text may be dictionaries with numbers of 32 bits.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.batches += 1;
        if self.batches == 2 {
            self.lane = Lane::start();
        }
        let mut at = 0;
        while at < batch.num_rows() {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => self.begin_group()?,
            };
            let taken = self.room(&group).min(batch.num_rows() - at);
            if taken > 0 {
                group.write(self.lane.as_ref(), &batch.slice(at, taken))?;
                at += taken;
            }
            if self.room(&group) == 0 {
                self.end_group(group)?;
            } else {
                self.group = Some(group);
            }
        }
        Ok(())
    }

    /// What was written since the caller last emptied it.
    pub(super) fn buffer(&mut self) -> Result<&mut Vec<u8>> {
        // The Parquet crate keeps the last few KiB to itself.
        self.writer.flush()?;
        Ok(self.writer.inner_mut())
    }

    /// Ends the file; what is left of its bytes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        if let Some(group) = self.group.take() {
            self.end_group(group)?;
        }
        self.writer.into_inner()
    }

    /// Rows that the group may still take.
    fn room(&self, group: &Group) -> usize {
        let Settings { group_rows_max, group_bytes_max, .. } = self.settings;
        let rows = group_rows_max.saturating_sub(group.rows);
        let bytes = group.bytes();
        match bytes.checked_div(group.rows) {
            Some(each) if each > 0 => rows.min(group_bytes_max.saturating_sub(bytes) / each),
            _ => rows,
        }
    }

    fn begin_group(&self) -> Result<Group> {
        let writers = self.factory.create_column_writers(self.writer.flushed_row_groups().len())?;
        let mut columns = [Vec::new(), Vec::new()];
        let (mut weights, fields) = ([0, 0], self.schema.fields());
        for (leaf, ((arrow, text), field)) in writers.into_iter().zip(&self.texts).zip(fields).enumerate() {
            let (writer, weight) = if *text {
                (ColumnWriter::Own(Box::new(self.text_column(leaf)?)), 1)
            } else if let Some(numbers) = self.number_column(leaf, field)? {
                (ColumnWriter::Own(numbers), NUMBERS_WEIGHT)
            } else {
                (ColumnWriter::Arrow(Box::new(arrow)), ARROW_WEIGHT)
            };
            let half = usize::from(weights[1] < weights[0]);
            weights[half] += weight;
            columns[half].push(Column { leaf, field: Arc::clone(field), writer });
        }
        Ok(Group { columns, rows: 0 })
    }

    fn text_column(&self, leaf: usize) -> Result<TextColumn> {
        let descr = self.writer.schema_descr().column(leaf);
        let bloom = self.writer.properties().bloom_filter_properties(descr.path());
        let settings = text_column::Settings {
            page_rows_max: self.settings.page_rows_max,
            zstd: self.settings.zstd,
            bloom: bloom.map(|bloom| (bloom.fpp(), self.settings.group_rows_max as u64)),
        };
        TextColumn::new(descr, settings)
    }

    /// A writer of numbers with a dictionary and without a bloom filter; `None` for other columns.
    fn number_column(&self, leaf: usize, field: &FieldRef) -> Result<Option<Box<dyn ChunkWriter>>> {
        let (descr, properties) = (self.writer.schema_descr().column(leaf), self.writer.properties());
        let path = descr.path();
        if !properties.dictionary_enabled(path) || properties.bloom_filter_properties(path).is_some() {
            return Ok(None);
        }
        number_column::writer(&descr, field.data_type(), properties.compression(path), self.settings.page_rows_max)
    }

    fn end_group(&mut self, group: Group) -> Result<()> {
        let mut chunks = group.close(self.lane.as_ref())?;
        chunks.sort_unstable_by_key(|(leaf, _)| *leaf);
        let mut row_group = self.writer.next_row_group()?;
        for (_, chunk) in chunks {
            match chunk {
                Chunk::Arrow(chunk) => chunk.append_to_row_group(&mut row_group)?,
                Chunk::Own(bytes, close) => row_group.append_column(&bytes, close)?,
            }
        }
        row_group.close()?;
        Ok(())
    }
}

/// A column's part of a row group.
enum Chunk {
    Arrow(ArrowColumnChunk),
    Own(Bytes, ColumnCloseResult),
}

impl Group {
    /// Encodes rows, half of the columns on the lane.
    fn write(&mut self, lane: Option<&Lane>, batch: &RecordBatch) -> Result<()> {
        let [own, other] = &mut self.columns;
        let asked = lane.map(|lane| {
            let (columns, batch) = (mem::take(other), batch.clone());
            lane.ask(move || write_columns(columns, &batch))
        });
        *own = write_columns(mem::take(own), batch)?;
        *other = match asked {
            Some(asked) => asked.wait()??,
            None => write_columns(mem::take(other), batch)?,
        };
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Ends the columns, half of them on the lane; with their places.
    fn close(self, lane: Option<&Lane>) -> Result<Vec<(usize, Chunk)>> {
        let [own, other] = self.columns;
        let Some(lane) = lane else { return close_columns(own.into_iter().chain(other)) };
        let asked = lane.ask(move || close_columns(other));
        let mut chunks = close_columns(own)?;
        chunks.extend(asked.wait()??);
        Ok(chunks)
    }

    /// Encoded bytes, about.
    fn bytes(&self) -> usize {
        self.columns.iter().flatten().map(|column| column.writer.bytes()).sum()
    }
}

fn write_columns(mut columns: Vec<Column>, batch: &RecordBatch) -> Result<Vec<Column>> {
    for Column { leaf, field, writer } in &mut columns {
        writer.write(field, batch.column(*leaf))?;
    }
    Ok(columns)
}

fn close_columns(columns: impl IntoIterator<Item = Column>) -> Result<Vec<(usize, Chunk)>> {
    columns.into_iter().map(|column| Ok((column.leaf, column.writer.close()?))).collect()
}

impl ColumnWriter {
    fn write(&mut self, field: &FieldRef, array: &ArrayRef) -> Result<()> {
        match self {
            Self::Arrow(column) => compute_leaves(field, array)?.iter().try_for_each(|leaf| column.write(leaf)),
            Self::Own(column) => column.write(array),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Arrow(column) => column.get_estimated_total_bytes(),
            Self::Own(column) => column.bytes(),
        }
    }

    fn close(self) -> Result<Chunk> {
        match self {
            Self::Arrow(column) => Ok(Chunk::Arrow(column.close()?)),
            Self::Own(column) => column.close().map(|(bytes, close)| Chunk::Own(bytes, close)),
        }
    }
}
