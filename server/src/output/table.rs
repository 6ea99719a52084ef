//! Rows as a table for people, or as a line per value.
//!
//! Tables end after [`limits::TABLE_ROWS_MAX`] rows and say so, cells after [`limits::TABLE_CELL_CHARS_MAX`] characters but
//! for those of a plan; NULL is written as `NULL`, numbers are aligned right.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use comfy_table::{Cell, CellAlignment, Table};

use super::formatter;
use crate::config::limits;

/// How the rows are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// A row per line.
    Horizontal,
    /// A value per line.
    Vertical,
}

/// Collects the rows of one result.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    count: usize,
    cut: bool,
}

impl Rows {
    /// No rows of this schema yet.
    #[must_use]
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, batches: Vec::new(), count: 0, cut: false }
    }

    /// Takes the rows of a batch; `false` says that no more will be shown.
    pub fn push(&mut self, batch: &RecordBatch) -> bool {
        let left = limits::TABLE_ROWS_MAX - self.count;
        let taken = left.min(batch.num_rows());
        if taken > 0 {
            self.batches.push(batch.slice(0, taken));
            self.count += taken;
        }
        self.cut |= taken < batch.num_rows();
        !self.cut
    }

    /// The text, ended by a line with the number of rows.
    ///
    /// # Errors
    /// When a column's type has no text form.
    pub fn render(&self, layout: Layout) -> Result<String, ArrowError> {
        let mut text = match layout {
            Layout::Horizontal => self.horizontal()?,
            Layout::Vertical => self.vertical()?,
        };
        let _ = match (self.cut, self.count) {
            (true, count) => writeln!(text, "(the first {count} rows; use LIMIT, or format csv or arrow for all of them)"),
            (false, 1) => writeln!(text, "(1 row)"),
            (false, count) => writeln!(text, "({count} rows)"),
        };
        Ok(text)
    }

    fn horizontal(&self) -> Result<String, ArrowError> {
        let mut table = Table::new();
        table.load_preset("||--+-++|    ++++++");
        table.set_header(self.schema.fields().iter().map(|field| Cell::new(field.name())));
        let alignments: Vec<CellAlignment> = self.schema.fields().iter().map(|field| alignment(field.data_type())).collect();
        self.each_row(|cells| {
            table.add_row(cells.into_iter().zip(&alignments).map(|(cell, align)| Cell::new(cell).set_alignment(*align)));
        })?;
        Ok(format!("{table}\n"))
    }

    fn vertical(&self) -> Result<String, ArrowError> {
        let names: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
        let mut text = String::new();
        let mut row = 0_usize;
        self.each_row(|cells| {
            row += 1;
            let _ = writeln!(text, "-[ row {row} ]{}", "-".repeat(width));
            for (name, cell) in names.iter().zip(cells) {
                let _ = writeln!(text, "{name:<width$} | {cell}");
            }
        })?;
        Ok(text)
    }

    fn each_row(&self, mut visit: impl FnMut(Vec<String>)) -> Result<(), ArrowError> {
        let shown = if is_plan(&self.schema) { |text| text } else { cut };
        for batch in &self.batches {
            let columns = batch.columns().iter().map(|array| formatter(array.as_ref(), "NULL")).collect::<Result<Vec<_>, _>>()?;
            for row in 0..batch.num_rows() {
                let cells = columns.iter().map(|column| column.value(row).try_to_string().map(shown));
                visit(cells.collect::<Result<_, _>>()?);
            }
        }
        Ok(())
    }
}

/// The line for a statement that wrote or removed rows.
#[must_use]
pub fn affected(rows: u64) -> String {
    format!("affected rows: {rows}\n")
}

/// Whether this is what EXPLAIN answers: whoever asks for a plan wants all of it.
fn is_plan(schema: &Schema) -> bool {
    schema.fields().iter().map(|field| field.name().as_str()).eq(["plan_type", "plan"])
}

fn cut(text: String) -> String {
    match text.char_indices().nth(limits::TABLE_CELL_CHARS_MAX) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

fn alignment(data_type: &DataType) -> CellAlignment {
    if data_type.is_numeric() { CellAlignment::Right } else { CellAlignment::Left }
}
