//! CSV files, plain or in gzip, into batches.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::SchemaRef;
use csv::ByteRecord;
use flate2::read::MultiGzDecoder;
use tessera_manifest::schema::{Column, Schema};
use tessera_manifest::value::{DataType, Value};

use super::builder::{self, ColumnBuilder};
use super::columns::{Fill, plan_fills};
use super::field::Bad;
use super::lines::LineReader;
use super::{Batch, Origin, ReadOptions};
use crate::config::limits;
use crate::error::{Code, ServerError, chain};

/// Characters of a field that a message quotes.
const FIELD_CHARS_SHOWN: usize = 60;

/// Reads one file.
pub(super) struct Reader {
    path: PathBuf,
    input: csv::Reader<LineReader<Box<dyn Read + Send>>>,
    record: ByteRecord,
    /// Fields of every record.
    width: usize,
    schema: SchemaRef,
    columns: Vec<Slot>,
    null_values: Vec<Vec<u8>>,
}

/// A column of the table.
struct Slot {
    column: Column,
    source: Source,
}

enum Source {
    File { index: usize, empty_is_null: bool, builder: ColumnBuilder },
    Constant(Value),
}

impl Reader {
    pub(super) fn open(
        path: &Path,
        file: File,
        gzip: bool,
        schema: &Schema,
        options: &ReadOptions,
        now_ms: u64,
    ) -> Result<Self, ServerError> {
        let bytes: Box<dyn Read + Send> =
            if gzip { Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(limits::CSV_BUFFER_BYTES, file))) } else { Box::new(file) };
        let input = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(options.delimiter)
            .buffer_capacity(limits::CSV_BUFFER_BYTES)
            .from_reader(LineReader::new(bytes));
        let mut reader = Self {
            path: path.to_owned(),
            input,
            record: ByteRecord::new(),
            width: schema.columns().len(),
            schema: schema.to_arrow(),
            columns: Vec::new(),
            null_values: options.null_values.iter().filter(|text| !text.is_empty()).map(|text| text.clone().into_bytes()).collect(),
        };
        let fills = if options.header {
            let names = reader.read_header()?;
            plan_fills(&path.display(), &names, schema, options.ignore_unknown, now_ms)?
        } else {
            (0..schema.columns().len()).map(Fill::File).collect()
        };
        let empty_is_null = options.null_values.iter().any(String::is_empty);
        reader.columns = schema.columns().iter().zip(fills).map(|(column, fill)| Slot::new(column, fill, empty_is_null)).collect();
        Ok(reader)
    }

    /// The next rows; `None` at the end of the file.
    pub(super) fn next_batch(&mut self) -> Result<Option<Batch>, ServerError> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        while lines.len() < limits::COPY_BATCH_ROWS && bytes < limits::COPY_BATCH_BYTES {
            if !self.read_record()? {
                break;
            }
            let line = self.line();
            if self.record.len() != self.width {
                return Err(self.wrong_width(line));
            }
            for slot in &mut self.columns {
                let Source::File { index, empty_is_null, builder } = &mut slot.source else { continue };
                let field = self.record.get(*index).unwrap_or_default();
                let is_null = if field.is_empty() { *empty_is_null } else { self.null_values.iter().any(|text| text == field) };
                if is_null {
                    if !slot.column.nullable {
                        return Err(null_error(&self.path, line, &slot.column, field));
                    }
                    builder.push_null();
                } else if let Err(bad) = builder.push(field) {
                    return Err(field_error(&self.path, line, &slot.column, field, bad));
                }
            }
            bytes += self.record.as_slice().len();
            lines.push(line);
        }
        if lines.is_empty() { Ok(None) } else { self.finish(lines).map(Some) }
    }

    fn finish(&mut self, lines: Vec<u64>) -> Result<Batch, ServerError> {
        let internal = |error| ServerError::new(Code::Internal, format!("cannot build a batch of '{}': {error}", self.path.display()));
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.columns.len());
        for slot in &mut self.columns {
            arrays.push(match &mut slot.source {
                Source::File { builder, .. } => builder.finish(),
                Source::Constant(value) => builder::constant(slot.column.data_type, value, lines.len()).map_err(internal)?,
            });
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(internal)?;
        Ok(Batch { rows, origin: Origin::Lines(lines) })
    }

    fn read_header(&mut self) -> Result<Vec<String>, ServerError> {
        if !self.read_record()? {
            return Err(invalid(format!(
                "'{}' is empty: its first line must name the columns (or add WITH (header = false))",
                self.path.display()
            )));
        }
        self.width = self.record.len();
        let line = self.line();
        let name = |field: &[u8]| match std::str::from_utf8(field) {
            Ok(text) => Ok(text.trim().to_owned()),
            Err(_) => Err(invalid(format!("'{}' line {line}: a column name is not UTF-8", self.path.display()))),
        };
        self.record.iter().map(name).collect()
    }

    fn read_record(&mut self) -> Result<bool, ServerError> {
        self.input.read_byte_record(&mut self.record).map_err(|error| {
            let start = self.input.position().byte();
            let line = self.input.get_mut().line_at(start);
            let cut = matches!(error.kind(), csv::ErrorKind::Io(source) if source.kind() == io::ErrorKind::UnexpectedEof);
            let what = if cut { "the file is cut off" } else { "the file cannot be read on" };
            invalid(format!("'{}' line {line}: {what}: {}", self.path.display(), chain(&error)))
        })
    }

    /// The line of the record just read.
    fn line(&mut self) -> u64 {
        let start = self.record.position().map_or(0, csv::Position::byte);
        self.input.get_mut().line_at(start)
    }

    fn wrong_width(&self, line: u64) -> ServerError {
        let (found, expected) = (self.record.len(), self.width);
        let next = if found < expected {
            let missing = self.columns.iter().find(|slot| matches!(slot.source, Source::File { index, .. } if index == found));
            missing.map_or_else(String::new, |slot| format!("; column '{}' is the first without one", slot.column.name))
        } else {
            let extra = self.record.get(expected).unwrap_or_default();
            format!("; the first one too many is '{}'", show(extra))
        };
        invalid(format!("'{}' line {line}: {found} fields instead of {expected}{next}", self.path.display()))
    }
}

impl Slot {
    fn new(column: &Column, fill: Fill, empty_is_null: bool) -> Self {
        let source = match fill {
            Fill::Constant(value) => Source::Constant(value),
            Fill::File(index) => {
                let is_text = matches!(column.data_type, DataType::String | DataType::Binary);
                let builder = ColumnBuilder::new(column.data_type, limits::COPY_BATCH_ROWS);
                Source::File { index, empty_is_null: empty_is_null || !is_text, builder }
            }
        };
        Self { column: column.clone(), source }
    }
}

#[cold]
fn null_error(path: &Path, line: u64, column: &Column, field: &[u8]) -> ServerError {
    let found = if field.is_empty() { "an empty field".to_owned() } else { format!("'{}'", show(field)) };
    invalid(format!("'{}' line {line}, column '{}': NULL ({found}) in a column that is NOT NULL", path.display(), column.name))
}

#[cold]
fn field_error(path: &Path, line: u64, column: &Column, field: &[u8], bad: Bad) -> ServerError {
    let (text, data_type) = (show(field), column.data_type);
    let reason = match bad {
        Bad::Form(expected) => format!("'{text}' is not {expected}; if it means NULL, list it in WITH (null_values = '...')"),
        Bad::Range => format!("'{text}' is out of range for {data_type}"),
        Bad::Inexact => format!("'{text}' has more digits after the point than {data_type} keeps"),
        Bad::Utf8 => format!("'{text}' is not UTF-8"),
    };
    invalid(format!("'{}' line {line}, column '{}': {reason}", path.display(), column.name))
}

fn show(field: &[u8]) -> String {
    let text = String::from_utf8_lossy(field);
    match text.char_indices().nth(FIELD_CHARS_SHOWN) {
        None => text.into_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn invalid(message: String) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
