//! Which column of a file fills which column of the table.
//!
//! Invariants:
//! - A table column is filled by at most one file column; a file column fills at most one table column.
//! - A table column that no file column fills has a default or may be NULL.

use std::fmt::Display;

use tessera_manifest::schema::{Column, ColumnDefault, Schema};
use tessera_manifest::value::{DataType, TimeUnit, Value};

use crate::error::{Code, ServerError};

/// What fills a column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fill {
    /// The file's column at this position.
    File(usize),
    /// This value in every row.
    Constant(Value),
}

/// What fills each column of the table, in its order.
///
/// `file` is how messages name the file; `names` are its columns.
pub(super) fn plan_fills(
    file: &dyn Display,
    names: &[String],
    schema: &Schema,
    ignore_unknown: bool,
    now_ms: u64,
) -> Result<Vec<Fill>, ServerError> {
    let mut fills: Vec<Option<Fill>> = vec![None; schema.columns().len()];
    let mut unknown = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let Some(position) = find(schema.columns(), names, name) else {
            unknown.push(format!("'{name}'"));
            continue;
        };
        if fills[position].replace(Fill::File(index)).is_some() {
            let column = &schema.columns()[position].name;
            return Err(invalid(format!("'{file}' has two columns for column '{column}' of the table")));
        }
    }
    if !unknown.is_empty() && !ignore_unknown {
        let (columns, verb) = if unknown.len() == 1 { ("column", "is") } else { ("columns", "are") };
        let list = unknown.join(", ");
        return Err(ServerError::new(
            Code::ColumnNotFound,
            format!("{columns} {list} of '{file}' {verb} not in the table; add WITH (ignore_unknown = true) to skip"),
        ));
    }
    let filled = schema.columns().iter().zip(fills);
    filled.map(|(column, fill)| fill.map_or_else(|| default_of(file, column, now_ms), Ok)).collect()
}

/// The position of the table's column that a file's column of this name fills.
fn find(columns: &[Column], names: &[String], name: &str) -> Option<usize> {
    if let Some(exact) = columns.iter().position(|column| column.name == name) {
        return Some(exact);
    }
    let mut alike = columns.iter().enumerate().filter(|(_, column)| column.name.to_lowercase() == name.to_lowercase());
    let (position, column) = alike.next()?;
    let ambiguous = alike.next().is_some() || names.contains(&column.name);
    (!ambiguous).then_some(position)
}

fn default_of(file: &dyn Display, column: &Column, now_ms: u64) -> Result<Fill, ServerError> {
    match &column.default {
        Some(ColumnDefault::Value(value)) => Ok(Fill::Constant(value.clone())),
        Some(ColumnDefault::CurrentTimestamp) => Ok(Fill::Constant(Value::Timestamp(now_in(column.data_type, now_ms)))),
        None if column.nullable => Ok(Fill::Constant(Value::Null)),
        None => Err(invalid(format!("'{file}' has no column '{}', which is NOT NULL and has no default", column.name))),
    }
}

fn now_in(data_type: DataType, now_ms: u64) -> i64 {
    let now_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
    match data_type {
        DataType::Timestamp(TimeUnit::Second) => now_ms / 1_000,
        DataType::Timestamp(unit) => now_ms.saturating_mul(unit.per_second() / 1_000),
        _ => now_ms,
    }
}

fn invalid(message: String) -> ServerError {
    ServerError::new(Code::InvalidArguments, message)
}
