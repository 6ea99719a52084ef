//! Parquet files into batches.
//!
//! A column of another type is converted within its family (numbers, texts, bytes, times); a value that does not
//! survive the way there and back (a fraction into an integer, nanoseconds into milliseconds) is an error.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType as ArrowType, SchemaRef, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use arrow::util::display::FormatOptions;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use tessera_manifest::schema::{Column, Schema};

use super::builder;
use super::columns::{Fill, plan_fills};
use super::{Batch, Origin, ReadOptions};
use crate::config::limits;
use crate::error::{Code, ServerError};

/// Reads one file.
pub(super) struct Reader {
    path: PathBuf,
    input: ParquetRecordBatchReader,
    schema: SchemaRef,
    columns: Vec<(Column, Fill)>,
    rows_read: u64,
}

impl Reader {
    pub(super) fn open(path: &Path, file: File, schema: &Schema, options: &ReadOptions, now_ms: u64) -> Result<Self, ServerError> {
        let unreadable = |error| invalid(format!("'{}' is not a readable Parquet file: {error}", path.display()));
        let input = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
        let names: Vec<String> = input.schema().fields().iter().map(|field| field.name().clone()).collect();
        let fills = plan_fills(&path.display(), &names, schema, options.ignore_unknown, now_ms)?;
        let mut roots: Vec<usize> =
            fills.iter().filter_map(|fill| if let Fill::File(index) = fill { Some(*index) } else { None }).collect();
        roots.sort_unstable();
        let mask = ProjectionMask::roots(input.parquet_schema(), roots.iter().copied());
        // What the file lacks has bytes, too, which it does not say.
        let lacks = fills.iter().any(|fill| matches!(fill, Fill::Constant(_)));
        let rows = batch_rows(input.metadata(), &roots).min(if lacks { limits::COPY_BATCH_ROWS } else { usize::MAX });
        let input = input.with_projection(mask).with_batch_size(rows).build().map_err(unreadable)?;
        let projected = |fill| match fill {
            Fill::File(index) => Fill::File(roots.partition_point(|root| *root < index)),
            constant => constant,
        };
        let columns = schema.columns().iter().cloned().zip(fills.into_iter().map(projected)).collect();
        Ok(Self { path: path.to_owned(), input, schema: schema.to_arrow(), columns, rows_read: 0 })
    }

    /// The next rows; `None` at the end of the file.
    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>, ServerError> {
        let first = self.rows_read + 1;
        let Some(found) = self.input.next() else { return Ok(None) };
        let found = found.map_err(|error| invalid(format!("'{}' from row {first}: cannot be read on: {error}", self.path.display())))?;
        let count = found.num_rows();
        let mut arrays = Vec::with_capacity(self.columns.len());
        for (column, fill) in &self.columns {
            arrays.push(match fill {
                Fill::File(index) => self.convert(found.column(*index), column, first)?,
                Fill::Constant(value) => builder::constant(column.data_type, value, count)
                    .map_err(|error| ServerError::new(Code::Internal, format!("cannot fill column '{}': {error}", column.name)))?,
            });
        }
        self.rows_read += count as u64;
        // Rows stay in memory for a while, and what texts were gathered in is up to twice as large.
        drop(found);
        arrays.iter_mut().for_each(Array::shrink_to_fit);
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(|error| ServerError::new(Code::Internal, format!("cannot build a batch of '{}': {error}", self.path.display())))?;
        Ok(Some(Batch { rows, origin: Origin::FirstRow(first) }))
    }

    fn convert(&self, array: &ArrayRef, column: &Column, first: u64) -> Result<ArrayRef, ServerError> {
        let at = |row: usize| format!("'{}' row {}, column '{}'", self.path.display(), first + row as u64, column.name);
        if let (false, Some(nulls)) = (column.nullable, array.logical_nulls()) {
            let row = (0..nulls.len()).find(|row| nulls.is_null(*row));
            if let Some(row) = row {
                return Err(invalid(format!("{}: NULL in a column that is NOT NULL", at(row))));
            }
        }
        let target = column.data_type.to_arrow();
        let array = &without_zone(array);
        if *array.data_type() == target {
            return Ok(Arc::clone(array));
        }
        if family(array.data_type()) == 0 || family(array.data_type()) != family(&target) {
            let (path, name) = (self.path.display(), &column.name);
            return Err(invalid(format!("'{path}' column '{name}': {} cannot become {}", array.data_type(), column.data_type)));
        }
        let options = CastOptions { safe: false, format_options: FormatOptions::default() };
        let to = |from: &ArrayRef, to: &ArrowType| {
            cast_with_options(from, to, &options)
                .map_err(|error| invalid(format!("'{}' from row {first}, column '{}': {error}", self.path.display(), column.name)))
        };
        let converted = to(array, &target)?;
        let plain = plain_type(array.data_type());
        let (before, after) = (to(array, &plain)?, to(&converted, &plain)?);
        let differs = distinct(&before, &after).map_err(|error| ServerError::new(Code::Internal, error.to_string()))?;
        match (0..differs.len()).find(|row| differs.value(*row)) {
            None => Ok(converted),
            Some(row) => {
                Err(invalid(format!("{}: the value of type {} does not fit {} exactly", at(row), array.data_type(), column.data_type)))
            }
        }
    }
}

/// Rows of a batch, so that it is one write to a region where the file says how many bytes its rows have.
fn batch_rows(metadata: &ParquetMetaData, roots: &[usize]) -> usize {
    let (schema, mut rows_max) = (metadata.file_metadata().schema_descr(), limits::COPY_WHOLE_ROWS);
    for group in metadata.row_groups().iter().filter(|group| group.num_rows() > 0) {
        let wanted = |leaf: &usize| roots.contains(&schema.get_column_root_idx(*leaf));
        let mut bytes = (0..group.num_columns()).filter(wanted).map(|leaf| bytes_of(group.column(leaf)));
        let bytes = bytes.try_fold(0, |sum: u64, bytes| Some(sum.saturating_add(bytes?)));
        let Some(bytes) = bytes else { return limits::COPY_BATCH_ROWS };
        let rows = limits::COPY_WHOLE_BYTES.saturating_mul(group.num_rows().unsigned_abs()) / bytes.max(1);
        rows_max = rows_max.min(usize::try_from(rows).unwrap_or(usize::MAX));
    }
    rows_max.max(limits::COPY_ROWS_MIN)
}

/// Bytes of the values of a column chunk in memory; `None` if the file does not say.
fn bytes_of(chunk: &ColumnChunkMetaData) -> Option<u64> {
    let (rows, text) = (chunk.num_values().unsigned_abs(), chunk.unencoded_byte_array_data_bytes());
    let of_each = match chunk.column_type() {
        Type::BOOLEAN => 1,
        Type::INT32 | Type::FLOAT => 4,
        Type::INT64 | Type::DOUBLE => 8,
        Type::INT96 => 12,
        Type::FIXED_LEN_BYTE_ARRAY => u64::try_from(chunk.column_descr().type_length()).ok()?,
        Type::BYTE_ARRAY => return Some(text?.unsigned_abs().saturating_add(rows.saturating_mul(size_of::<i32>() as u64))),
    };
    Some(rows.saturating_mul(of_each))
}

/// Types between which values are converted; 0 is none.
fn family(data_type: &ArrowType) -> u8 {
    match data_type {
        ArrowType::Dictionary(_, values) => family(values),
        ArrowType::Decimal128(..) | ArrowType::Decimal256(..) => 1,
        numeric if numeric.is_numeric() => 1,
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => 2,
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => 3,
        ArrowType::Timestamp(..) | ArrowType::Date32 | ArrowType::Date64 => 4,
        ArrowType::Boolean => 5,
        _ => 0,
    }
}

/// The type in which values before and after a conversion are compared.
fn plain_type(data_type: &ArrowType) -> ArrowType {
    match data_type {
        ArrowType::Dictionary(_, values) => plain_type(values),
        ArrowType::Utf8View | ArrowType::LargeUtf8 => ArrowType::Utf8,
        ArrowType::BinaryView | ArrowType::LargeBinary | ArrowType::FixedSizeBinary(_) => ArrowType::Binary,
        other => other.clone(),
    }
}

/// The same instants without the name of a zone, which says nothing about the instant.
fn without_zone(array: &ArrayRef) -> ArrayRef {
    let ArrowType::Timestamp(unit, Some(_)) = array.data_type() else { return Arc::clone(array) };
    match unit {
        TimeUnit::Second => Arc::new(array.as_primitive::<TimestampSecondType>().clone().with_timezone_opt(None::<Arc<str>>)),
        TimeUnit::Millisecond => Arc::new(array.as_primitive::<TimestampMillisecondType>().clone().with_timezone_opt(None::<Arc<str>>)),
        TimeUnit::Microsecond => Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone_opt(None::<Arc<str>>)),
        TimeUnit::Nanosecond => Arc::new(array.as_primitive::<TimestampNanosecondType>().clone().with_timezone_opt(None::<Arc<str>>)),
    }
}

fn invalid(message: String) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
