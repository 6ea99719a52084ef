//! Rows as comma-separated values, in the form that COPY FROM reads back.
//!
//! A header line, then a line per row, each ended by `\n`; quoted where needed. NULL is an empty field, and so is
//! the empty string; times are RFC 3339 in UTC, dates `YYYY-MM-DD`, binary is hexadecimal, floats are the shortest
//! text that reads back as the same number.

use std::fmt::Write as _;
use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;

use super::formatter;

/// Writes rows to `W`.
pub struct Writer<W: Write> {
    inner: csv::Writer<W>,
    cell: String,
}

impl<W: Write> Writer<W> {
    /// A writer with this delimiter.
    pub fn new(out: W, delimiter: u8) -> Self {
        Self { inner: csv::WriterBuilder::new().delimiter(delimiter).from_writer(out), cell: String::new() }
    }

    /// Writes the header line.
    ///
    /// # Errors
    /// When `W` fails.
    pub fn header(&mut self, schema: &Schema) -> Result<(), ArrowError> {
        let names = schema.fields().iter().map(|field| field.name());
        self.inner.write_record(names).map_err(csv_error)
    }

    /// Writes a line per row.
    ///
    /// # Errors
    /// When `W` fails, or a column's type has no text form.
    pub fn rows(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        let columns = batch.columns().iter().map(|array| formatter(array.as_ref(), "")).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            for column in &columns {
                self.cell.clear();
                write!(self.cell, "{}", column.value(row))
                    .map_err(|_| ArrowError::CastError(format!("row {row} of the batch has a value without a text form")))?;
                self.inner.write_field(&self.cell).map_err(csv_error)?;
            }
            self.inner.write_record(None::<&[u8]>).map_err(csv_error)?;
        }
        Ok(())
    }

    /// Flushes and returns what was written to.
    ///
    /// # Errors
    /// When `W` fails.
    pub fn finish(self) -> Result<W, ArrowError> {
        self.inner.into_inner().map_err(|error| ArrowError::from(std::io::Error::other(error.to_string())))
    }
}

/// The text of a batch, after the header line if `schema` is given.
///
/// # Errors
/// When a column's type has no text form.
pub fn to_bytes(schema: Option<&Schema>, batch: Option<&RecordBatch>) -> Result<Vec<u8>, ArrowError> {
    let mut writer = Writer::new(Vec::new(), b',');
    if let Some(schema) = schema {
        writer.header(schema)?;
    }
    if let Some(batch) = batch {
        writer.rows(batch)?;
    }
    writer.finish()
}

fn csv_error(error: csv::Error) -> ArrowError {
    ArrowError::CsvError(error.to_string())
}
