//! `information_schema`: what there is, as tables.
//!
//! A table is built when a statement names it, from the catalog and the engine as they are then.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array, UInt64Array};
use datafusion::catalog::{MemTable, TableProvider};
use tessera_engine::options::SkippingIndex;
use tessera_engine::request::RegionInfo;
use tessera_metaclient::catalog::Route;

use super::partitions::{Partition, present};
use super::{Catalogs, Table};
use crate::error::{Code, ServerError, chain};
use crate::query::error::{from_arrow, unwrap};
use crate::query::rules;
use crate::sql::parser::CATALOG;
use crate::sql::show::{default_text, semantic_text};
use crate::sql::types;

/// The name of the schema.
pub const NAME: &str = "information_schema";

/// The names of its tables.
pub const TABLES: [&str; 5] = ["columns", "partitions", "regions", "schemata", "tables"];

type Columns = Vec<(&'static str, ArrayRef)>;

/// One of its tables.
///
/// # Errors
/// An unknown name, or a catalog that does not answer.
pub async fn table(catalogs: &Catalogs, name: &str) -> Result<Arc<dyn TableProvider>, ServerError> {
    let columns = match name {
        "tables" => tables(&catalogs.all_tables().await?),
        "columns" => columns(&catalogs.all_tables().await?),
        "partitions" => partitions(catalogs, &catalogs.all_tables().await?).await,
        "regions" => regions(catalogs, &catalogs.all_tables().await?),
        "schemata" => schemata(&catalogs.databases().await?),
        _ => {
            let message = format!("there is no table '{name}' in {NAME}; tables are {}", TABLES.join(", "));
            return Err(ServerError::new(Code::TableNotFound, message));
        }
    };
    let columns = columns.into_iter().map(|(name, array)| (name, array, true));
    let batch = RecordBatch::try_from_iter_with_nullable(columns).map_err(from_arrow)?;
    let table = MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(unwrap)?;
    Ok(Arc::new(table))
}

fn text(values: impl Iterator<Item = String>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

fn text_or_null(values: impl Iterator<Item = Option<String>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn number(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(UInt64Array::from_iter_values(values))
}

fn number_or_null(values: impl Iterator<Item = Option<u64>>) -> ArrayRef {
    Arc::new(values.collect::<UInt64Array>())
}

/// The three columns with which each table here starts.
fn table_names<'a, T: 'a>(rows: &'a [T], table: impl Fn(&'a T) -> &'a Table + Copy) -> Columns {
    vec![
        ("table_catalog", text(rows.iter().map(|_| CATALOG.to_owned()))),
        ("table_schema", text(rows.iter().map(|row| table(row).info.database.clone()))),
        ("table_name", text(rows.iter().map(|row| table(row).info.name.clone()))),
    ]
}

fn tables(tables: &[Arc<Table>]) -> Columns {
    let mut columns = table_names(tables, |table| table);
    let created = tables.iter().map(|table| i64::try_from(table.info.created_unix_ms).ok());
    let options = |table: &Arc<Table>| {
        let shown = table.info.options.iter().filter(|(key, _)| !key.starts_with(SkippingIndex::OPTION_PREFIX));
        let pairs = shown.map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    columns.extend([
        ("table_type", text(tables.iter().map(|_| "BASE TABLE".to_owned()))),
        ("table_id", Arc::new(UInt32Array::from_iter_values(tables.iter().map(|table| table.info.id.0))) as ArrayRef),
        ("engine", text(tables.iter().map(|_| "mito".to_owned()))),
        ("region_count", number(tables.iter().map(|table| table.routes().len() as u64))),
        ("create_options", text(tables.iter().map(options))),
        ("create_time", Arc::new(created.collect::<TimestampMillisecondArray>()) as ArrayRef),
    ]);
    columns
}

fn columns(tables: &[Arc<Table>]) -> Columns {
    let each = |table: &Arc<Table>| (0..table.info.schema.columns().len()).map(|at| (Arc::clone(table), at)).collect::<Vec<_>>();
    let rows: Vec<(Arc<Table>, usize)> = tables.iter().flat_map(each).collect();
    let column = |row: &(Arc<Table>, usize)| row.0.info.schema.columns().get(row.1).cloned();
    let found: Vec<_> = rows.iter().filter_map(column).collect();
    let yes_no = |yes: bool| if yes { "Yes" } else { "No" }.to_owned();
    let default = |c: &tessera_manifest::schema::Column| c.default.as_ref().map(|default| default_text(default, c.data_type));
    let mut columns = table_names(&rows, |row| &row.0);
    columns.extend([
        ("column_name", text(found.iter().map(|c| c.name.clone()))),
        ("ordinal_position", number(rows.iter().map(|row| row.1 as u64 + 1))),
        ("data_type", text(found.iter().map(|c| types::name(c.data_type)))),
        ("greptime_data_type", text(found.iter().map(|c| c.data_type.to_string()))),
        ("semantic_type", text(found.iter().map(|c| semantic_text(c.semantic).to_owned()))),
        ("is_nullable", text(found.iter().map(|c| yes_no(c.nullable)))),
        ("column_default", text_or_null(found.iter().map(default))),
        ("column_comment", text_or_null(found.iter().map(|c| c.comment.clone()))),
        ("column_id", Arc::new(UInt32Array::from_iter_values(found.iter().map(|c| c.id.0))) as ArrayRef),
    ]);
    columns
}

fn routes(tables: &[Arc<Table>]) -> Vec<(Arc<Table>, Route)> {
    let each = |table: &Arc<Table>| table.routes().iter().map(|route| (Arc::clone(table), route.clone())).collect::<Vec<_>>();
    tables.iter().flat_map(each).collect()
}

fn rule_text(row: &(Arc<Table>, Route)) -> String {
    rules::text(&row.1.rule, &row.0.info.schema)
}

async fn partitions(catalogs: &Catalogs, tables: &[Arc<Table>]) -> Columns {
    let mut rows: Vec<Partition> = Vec::new();
    for table in tables {
        rows.extend(Partition::of(table, catalogs).await);
    }
    let on = |row: &Partition| {
        let names = row.table.info.partition_columns.iter().filter_map(|id| row.table.info.schema.column(*id));
        names.map(|column| column.name.clone()).collect::<Vec<_>>().join(", ")
    };
    let mut columns = table_names(&rows, |row| &row.table);
    columns.extend([
        ("partition_name", text(rows.iter().map(Partition::name))),
        ("partition_ordinal_position", number(rows.iter().map(|row| u64::from(row.region.number().0)))),
        ("partition_expression", text(rows.iter().map(on))),
        ("partition_description", text(rows.iter().map(Partition::rule))),
        ("greptime_partition_id", number(rows.iter().map(|row| row.region.as_u64()))),
        ("region_id", text(rows.iter().map(|row| row.region.to_string()))),
    ]);
    columns.extend(present(&rows));
    columns
}

fn regions(catalogs: &Catalogs, tables: &[Arc<Table>]) -> Columns {
    let rows = routes(tables);
    let states: Vec<Result<RegionInfo, String>> = rows.iter().map(|row| region_info(catalogs, row)).collect();
    let size = |get: fn(&RegionInfo) -> u64| number_or_null(states.iter().map(move |state| state.as_ref().ok().map(get)));
    let mut columns = table_names(&rows, |row| &row.0);
    columns.extend([
        ("region_id", text(rows.iter().map(|row| row.1.region.to_string()))),
        ("region_number", number(rows.iter().map(|row| u64::from(row.1.region.number().0)))),
        ("region_id_number", number(rows.iter().map(|row| row.1.region.as_u64()))),
        ("node", number(rows.iter().map(|row| row.1.node.0))),
        ("generation", number(rows.iter().map(|row| u64::from(row.1.generation.as_u32())))),
        ("rule", text(rows.iter().map(rule_text))),
        ("state", text(states.iter().map(|state| if state.is_ok() { "open" } else { "failed" }.to_owned()))),
        ("manifest_version", text_or_null(states.iter().map(|state| state.as_ref().ok().map(|info| info.manifest_version.to_string())))),
        ("files", size(|info| info.files as u64)),
        ("file_bytes", size(|info| info.file_bytes)),
        ("file_rows", size(|info| info.file_rows)),
        ("memtable_bytes", size(|info| info.memtable_bytes as u64)),
        ("memtable_rows", size(|info| info.memtable_rows as u64)),
        ("error", text_or_null(states.iter().map(|state| state.as_ref().err().cloned()))),
    ]);
    columns
}

fn region_info(catalogs: &Catalogs, (table, route): &(Arc<Table>, Route)) -> Result<RegionInfo, String> {
    catalogs.closed.check(table).map_err(|error| error.message)?;
    catalogs.engine.region(route.region).map(|region| region.info()).map_err(|error| chain(&error))
}

fn schemata(databases: &[String]) -> Columns {
    let names: Vec<String> = databases.iter().cloned().chain(std::iter::once(NAME.to_owned())).collect();
    vec![("catalog_name", text(names.iter().map(|_| CATALOG.to_owned()))), ("schema_name", text(names.into_iter()))]
}
