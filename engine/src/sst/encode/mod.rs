//! Rows into Parquet: row groups, and which encoder each column gets.
//!
//! Invariants:
//! - A row group ends at so many rows, or at about so many encoded bytes, whichever comes first.
//! - Tags of text are encoded by runs ([`text_column`]); they may come as dictionaries. All other columns are encoded
//!   by the Parquet crate.

mod hybrid;
mod interner;
#[cfg(test)]
mod tests;
mod text_column;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, SchemaRef};
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::ZstdLevel;
use parquet::errors::Result;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use text_column::TextColumn;

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
}

struct Group {
    columns: Vec<ColumnWriter>,
    rows: usize,
}

#[expect(clippy::large_enum_variant, reason = "a row group has a handful, and moves them only when it ends")]
enum ColumnWriter {
    Arrow(ArrowColumnWriter),
    Text(TextColumn),
}

impl FileWriter {
    /// A file of these columns; `tags` are the positions of the tags.
    pub(super) fn new(schema: &SchemaRef, tags: &[usize], mut properties: WriterProperties, settings: Settings) -> Result<Self> {
        let converted = ArrowSchemaConverter::new().with_coerce_types(properties.coerce_types()).convert(schema)?;
        add_encoded_arrow_schema_to_metadata(schema, &mut properties);
        let writer = SerializedFileWriter::new(Vec::with_capacity(1 << 20), converted.root_schema_ptr(), Arc::new(properties))?;
        let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(schema));
        let is_text =
            |(position, field): (usize, &Arc<arrow::datatypes::Field>)| tags.contains(&position) && *field.data_type() == ArrowType::Utf8;
        let texts = schema.fields().iter().enumerate().map(is_text).collect();
        Ok(Self { writer, factory, schema: Arc::clone(schema), texts, settings, group: None })
    }

    /// Adds rows. Tags of text may be dictionaries with numbers of 32 bits.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let mut at = 0;
        while at < batch.num_rows() {
            let mut group = match self.group.take() {
                Some(group) => group,
                None => self.begin_group()?,
            };
            let taken = self.room(&group).min(batch.num_rows() - at);
            if taken > 0 {
                group.write(&self.schema, &batch.slice(at, taken))?;
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
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        self.writer.inner_mut()
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
        let columns = writers.into_iter().zip(&self.texts).enumerate().map(|(leaf, (arrow, text))| {
            if !text {
                return Ok(ColumnWriter::Arrow(arrow));
            }
            let descr = self.writer.schema_descr().column(leaf);
            let bloom = self.writer.properties().bloom_filter_properties(descr.path());
            let settings = text_column::Settings {
                page_rows_max: self.settings.page_rows_max,
                zstd: self.settings.zstd,
                bloom: bloom.map(|bloom| (bloom.fpp(), self.settings.group_rows_max as u64)),
            };
            Ok(ColumnWriter::Text(TextColumn::new(descr, settings)?))
        });
        Ok(Group { columns: columns.collect::<Result<_>>()?, rows: 0 })
    }

    fn end_group(&mut self, group: Group) -> Result<()> {
        let mut row_group = self.writer.next_row_group()?;
        for column in group.columns {
            match column {
                ColumnWriter::Arrow(column) => column.close()?.append_to_row_group(&mut row_group)?,
                ColumnWriter::Text(column) => {
                    let (bytes, close) = column.close()?;
                    row_group.append_column(&bytes, close)?;
                }
            }
        }
        row_group.close()?;
        Ok(())
    }
}

impl Group {
    fn write(&mut self, schema: &SchemaRef, batch: &RecordBatch) -> Result<()> {
        for ((column, array), field) in self.columns.iter_mut().zip(batch.columns()).zip(schema.fields()) {
            column.write(field, array)?;
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    /// Encoded bytes, about.
    fn bytes(&self) -> usize {
        let bytes = |column: &ColumnWriter| match column {
            ColumnWriter::Arrow(column) => column.get_estimated_total_bytes(),
            ColumnWriter::Text(column) => column.bytes(),
        };
        self.columns.iter().map(bytes).sum()
    }
}

impl ColumnWriter {
    fn write(&mut self, field: &arrow::datatypes::Field, array: &ArrayRef) -> Result<()> {
        match self {
            Self::Arrow(column) => compute_leaves(field, array)?.iter().try_for_each(|leaf| column.write(leaf)),
            Self::Text(column) => column.write(array),
        }
    }
}
