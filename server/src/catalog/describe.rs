//! Tables and names as the rows of SHOW and DESC.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use tessera_manifest::rule::Expr;
use tessera_manifest::schema::{Column, SemanticType};

use super::Table;
use crate::error::ServerError;
use crate::query::error::from_arrow;
use crate::query::rules;
use crate::service::Output;
use crate::sql::show::{Shown, create_table, default_text, semantic_text};

/// Rows that are already there.
///
/// # Errors
/// Columns of different lengths.
pub(crate) fn rows(columns: Vec<(&str, ArrayRef)>) -> Result<Output, ServerError> {
    let columns = columns.into_iter().map(|(name, array)| (name, array, false));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(from_arrow)?;
    Ok(Output::Rows { schema: batch.schema(), stream: Box::pin(futures::stream::iter([Ok(batch)])) })
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

/// One column of names.
///
/// # Errors
/// None in practice.
pub fn names_output(title: &str, names: Vec<String>) -> Result<Output, ServerError> {
    rows(vec![(title, text(names.into_iter()))])
}

/// `DESC TABLE`.
///
/// # Errors
/// None in practice.
pub fn describe(table: &Table) -> Result<Output, ServerError> {
    let columns = table.info.schema.columns();
    let each = |show: fn(&Column) -> String| text(columns.iter().map(show));
    rows(vec![
        ("Column", each(|column| column.name.clone())),
        ("Type", each(|column| crate::sql::types::name(column.data_type))),
        ("Key", each(|column| if column.semantic == SemanticType::Field { "" } else { "PRI" }.to_owned())),
        ("Null", each(|column| if column.nullable { "YES" } else { "NO" }.to_owned())),
        ("Default", each(|column| column.default.as_ref().map_or_else(String::new, |default| default_text(default, column.data_type)))),
        ("Semantic Type", each(|column| semantic_text(column.semantic).to_owned())),
    ])
}

/// `SHOW CREATE TABLE`.
///
/// # Errors
/// None in practice.
pub fn show_create(table: &Table) -> Result<Output, ServerError> {
    let name = std::iter::once(table.info.name.clone());
    rows(vec![("Table", text(name)), ("Create Table", text(std::iter::once(create_text(table))))])
}

/// The text of a `CREATE TABLE` that makes an equal table.
#[must_use]
pub fn create_text(table: &Table) -> String {
    let schema = &table.info.schema;
    let shown = table.routes().iter().filter(|route| route.rule != Expr::always());
    let rules: Vec<String> = shown.map(|route| rules::text(&route.rule, schema)).collect();
    create_table(Shown {
        name: &table.info.name,
        schema,
        partition_columns: &table.info.partition_columns,
        rules: &rules,
        options: &table.info.options,
    })
}
