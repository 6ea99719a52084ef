//! Rows of a statement, made fit for a table and cut by its rules.
//!
//! Invariants:
//! - Nothing leaves here that a region would refuse: types, NOT NULL and rules are checked first.
//! - The order of rows is kept within a region, so that the last row of a key wins.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{cast_with_options, filter_record_batch};
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use datafusion::common::format::DEFAULT_CAST_OPTIONS;
use tessera_manifest::id::ColumnId;
use tessera_manifest::schema::{Schema, SemanticType};

use super::error::from_arrow;
use super::{rules, value};
use crate::catalog::Table;
use crate::error::{Code, ServerError};
use crate::sql::show::value_text;

/// Rows of one region.
#[derive(Debug, Clone)]
pub struct Part {
    /// The position of the region's route among those that the table is written by.
    pub route: usize,
    /// The rows, in their order.
    pub batch: RecordBatch,
}

/// Where a row of a batch comes from, for messages: `file.csv, line 12`.
pub type Place<'a> = &'a (dyn Fn(usize) -> Option<String> + Sync);

/// Rows that come from no file.
#[must_use]
pub fn nowhere(_row: usize) -> Option<String> {
    None
}

/// The columns that make a row's key, as positions in display order.
#[must_use]
pub fn key_positions(schema: &Schema) -> Vec<usize> {
    let keys = schema.columns().iter().enumerate().filter(|(_, column)| column.semantic != SemanticType::Field);
    keys.map(|(position, _)| position).collect()
}

/// The Arrow schema of a batch that holds the columns at these positions.
#[must_use]
pub fn arrow_schema(schema: &Schema, positions: &[usize]) -> SchemaRef {
    let columns = positions.iter().filter_map(|position| schema.columns().get(*position));
    Arc::new(ArrowSchema::new(columns.map(tessera_manifest::schema::Column::to_arrow).collect::<Vec<_>>()))
}

/// The batch with exactly the types of the columns at `positions`, in this order; no NULL where none may be.
///
/// # Errors
/// Another number of columns, a value that the column's type cannot hold, or a NULL in a NOT NULL column.
pub fn conform(batch: &RecordBatch, table: &Table, positions: &[usize], place: Place<'_>) -> Result<RecordBatch, ServerError> {
    if batch.num_columns() != positions.len() {
        let message = format!("table {} takes {} columns, not {}", table.shown(), positions.len(), batch.num_columns());
        return Err(ServerError::new(Code::InvalidArguments, message));
    }
    let schema = &table.info.schema;
    let mut arrays = Vec::with_capacity(positions.len());
    for (array, position) in batch.columns().iter().zip(positions) {
        let Some(column) = schema.columns().get(*position) else { continue };
        let wanted = column.data_type.to_arrow();
        let array = if *array.data_type() == wanted {
            Arc::clone(array)
        } else {
            cast_with_options(array, &wanted, &DEFAULT_CAST_OPTIONS).map_err(|error| {
                let cause = from_arrow(error).message;
                ServerError::new(Code::InvalidArguments, format!("column '{}' of type {}: {cause}", column.name, column.data_type))
            })?
        };
        if !column.nullable && array.null_count() > 0 {
            return Err(null_error(table, &column.name, batch, positions, first_null(&array), place));
        }
        arrays.push(array);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(arrow_schema(schema, positions), arrays, &options).map_err(from_arrow)
}

fn first_null(array: &dyn Array) -> usize {
    (0..array.len()).find(|row| array.is_null(*row)).unwrap_or(0)
}

fn null_error(table: &Table, column: &str, batch: &RecordBatch, positions: &[usize], row: usize, place: Place<'_>) -> ServerError {
    let keys: Vec<ColumnId> =
        key_positions(&table.info.schema).iter().filter_map(|at| Some(table.info.schema.columns().get(*at)?.id)).collect();
    let shown = show_row(&table.info.schema, batch, positions, &keys, row, place);
    let message = format!("column '{column}' of table {} is NOT NULL, but the row {shown} has no value in it", table.shown());
    ServerError::new(Code::InvalidArguments, message)
}

/// Cuts a batch, made by [`conform`] with the same positions, into one part for each region that has rows in it.
///
/// # Errors
/// A row that no rule covers: it is shown, and nothing of the batch may be written.
pub fn split(batch: RecordBatch, table: &Table, positions: &[usize], place: Place<'_>) -> Result<Vec<Part>, ServerError> {
    let rows = batch.num_rows();
    let mut parts = Vec::new();
    let mut covered = vec![false; rows];
    let mut total = 0;
    for (route, target) in table.write_routes().iter().enumerate() {
        let mask = rules::mask(&target.rule, &batch, &table.info.schema)?;
        let count = mask.true_count();
        if count == rows {
            return Ok(vec![Part { route, batch }]);
        }
        if count == 0 {
            continue;
        }
        total += count;
        mark(&mut covered, &mask);
        parts.push(Part { route, batch: filter_record_batch(&batch, &mask).map_err(from_arrow)? });
    }
    match covered.iter().position(|covered| !covered) {
        Some(row) => Err(uncovered(table, &batch, positions, row, place)),
        None if total == rows => Ok(parts),
        None => Err(ServerError::new(Code::Internal, format!("the rules of table {} overlap", table.shown()))),
    }
}

fn mark(covered: &mut [bool], mask: &BooleanArray) {
    for (row, covered) in covered.iter_mut().enumerate() {
        *covered |= mask.is_valid(row) && mask.value(row);
    }
}

fn uncovered(table: &Table, batch: &RecordBatch, positions: &[usize], row: usize, place: Place<'_>) -> ServerError {
    let shown = show_row(&table.info.schema, batch, positions, &table.info.partition_columns, row, place);
    let message = format!("no partition of table {} takes the row {shown}; add a partition whose rule covers it", table.shown());
    ServerError::new(Code::InvalidArguments, message)
}

/// `(host = 'x', dc = NULL) of file.csv, line 12`: the named columns of one row, and where it comes from.
fn show_row(schema: &Schema, batch: &RecordBatch, positions: &[usize], columns: &[ColumnId], row: usize, place: Place<'_>) -> String {
    let mut shown = Vec::with_capacity(columns.len());
    for id in columns {
        let Some(column) = schema.column(*id) else { continue };
        let place = schema.position(*id).and_then(|position| positions.iter().position(|other| *other == position));
        let Some(array) = place.and_then(|place| batch.columns().get(place)) else { continue };
        let value = value::value_at(array, row, column.data_type);
        shown.push(format!("{} = {}", column.name, value_text(&value, column.data_type)));
    }
    let place = place(row).map_or_else(String::new, |place| format!(" of {place}"));
    format!("({}){place}", shown.join(", "))
}
