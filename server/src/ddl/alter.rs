//! ALTER TABLE and ALTER DATABASE.
//!
//! ```text
//!   settle what an earlier one left ─► plan ─► alter each region ─► one catalog transaction: statements see it
//! ```
//!
//! Invariants:
//! - Regions first, the catalog last. Whatever statement is planned knows a schema that every region has had, and each
//!   region reads and writes under the schema of the statement; so statements go on while the regions differ.
//! - Each alteration takes the next version of the schema, which names all of it. A region that is ahead of the catalog
//!   has an alteration that was begun: it is finished, at the next start or before the next alteration of the table.
//! - Everything that a region could refuse is refused before the first region is altered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, stream};
use tessera_engine::options::{SkippingIndex, TableOptions};
use tessera_engine::region::Region;
use tessera_engine::request::Alteration;
use tessera_manifest::id::{ColumnId, RegionId};
use tessera_manifest::schema::{Column, ColumnChange, EvolveError, Schema};
use tessera_metaclient::catalog::{CatalogError, TableInfo};

use super::create::{check_name, define_column, writable};
use super::{Ddl, options, procedure};
use crate::catalog::{Catalogs, Table, from_catalog, information_schema};
use crate::error::{Code, ServerError};
use crate::query::error::from_engine;
use crate::query::limits;
use crate::query::session::Sessions;
use crate::sql::ast::{AlterClause, OptionChange};

/// Alters a table.
///
/// # Errors
/// An unknown table, a change that cannot be, a region that is not open, or a store that does not answer; the message
/// says if the alteration was begun.
pub async fn alter_table(database: &str, name: &str, clauses: &[AlterClause], ddl: &Ddl, sessions: &Sessions) -> Result<(), ServerError> {
    writable(database)?;
    let catalogs = &ddl.tools.catalogs;
    let table = catalogs.table(database, name).await?;
    // Said at once, before anything is waited for.
    catalogs.check_unobstructed(&table).await?;
    let table = settle(catalogs.settled(table).await?, catalogs).await?;
    let new = plan(&table.info, clauses, sessions)?;
    let named = table.info.partition_columns.iter().copied().collect();
    check_columns(&table.info, &new, &named, &table.regions(), catalogs)?;
    if unchanged(&table.info, &new) {
        return Ok(());
    }
    if new.name != table.info.name && catalogs.find(database, &new.name).await?.is_some() {
        let message = format!("table '{}' already exists in database '{database}'", new.name);
        return Err(ServerError::new(Code::TableAlreadyExists, message));
    }
    let altered = ddl.procedures.carry_out(&procedure::AlterTable::new(&table, new, ddl.tools.clone())).await;
    altered.map(|_| ())
}

/// The table after the clauses, in order. Pure but for constants that are evaluated.
fn plan(info: &TableInfo, clauses: &[AlterClause], sessions: &Sessions) -> Result<TableInfo, ServerError> {
    let mut new = info.clone();
    let mut columns: Vec<ColumnChange> = Vec::new();
    let mut indexes: Vec<(&str, Option<SkippingIndex>)> = Vec::new();
    for clause in clauses {
        match clause {
            AlterClause::Add { column, if_not_exists, .. } if *if_not_exists && info.schema.column_by_name(&column.name).is_some() => {}
            AlterClause::Add { column, is_key, place, .. } => {
                let id = ColumnId(u32::MAX);
                let defined = define_column(column, id, *is_key, sessions)?;
                columns.push(ColumnChange::Add { column: defined, place: place.clone() });
                if column.skipping.is_some() {
                    indexes.push((&column.name, column.skipping));
                }
            }
            AlterClause::Drop { column } => columns.push(ColumnChange::Drop { name: column.clone() }),
            AlterClause::Modify { column, data_type } => {
                columns.push(ColumnChange::Modify { name: column.clone(), data_type: *data_type });
            }
            AlterClause::Index { column, skipping } => indexes.push((column, *skipping)),
            AlterClause::Rename { to } => {
                check_name("table", to)?;
                new.name.clone_from(to);
            }
            AlterClause::Options(change) => new.options = options::changed(&new.options, change)?,
        }
    }
    new.schema = info.schema.evolve(&columns, &info.partition_columns).map_err(|error| refused(&error))?;
    let dropped = info.schema.columns().iter().filter(|column| new.schema.column(column.id).is_none());
    for column in dropped {
        options::set_skipping(&mut new.options, column.id, None);
    }
    for (name, index) in indexes {
        let column = new.schema.column_by_name(name);
        let column = column.ok_or_else(|| refused(&EvolveError::NoColumn { column: name.to_owned() }))?;
        options::set_skipping(&mut new.options, column.id, index);
    }
    check_merge_mode(&info.options, &new.options)?;
    Ok(new)
}

fn check_merge_mode(present: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Result<(), ServerError> {
    let mode = |options| TableOptions::parse(options).map(|parsed| parsed.merge_mode).map_err(|error| options::refused(&error));
    if mode(present)? == mode(new)? {
        return Ok(());
    }
    let text = "append_mode and merge_mode are for life: the rows that there are would mean something else; make another table";
    Err(ServerError::new(Code::InvalidArguments, text))
}

fn refused(error: &EvolveError) -> ServerError {
    let code = if matches!(error, EvolveError::NoColumn { .. }) { Code::ColumnNotFound } else { Code::InvalidArguments };
    ServerError::new(code, error.to_string())
}

/// That no column is dropped, or gets another type, that tells which rows of a table are in which region: by the rules,
/// whose columns are `named`, or by what files that regions share stand for until they are localized; and that none gets
/// another type of which the regions' lists of files hold values.
///
/// # Errors
/// Such a column; a region that is not open.
pub(super) fn check_columns(
    old: &TableInfo,
    new: &TableInfo,
    named: &BTreeSet<ColumnId>,
    regions: &[RegionId],
    catalogs: &Catalogs,
) -> Result<(), ServerError> {
    let changed = |column: &&Column| new.schema.column(column.id).is_none_or(|now| now.data_type != column.data_type);
    let changed: Vec<&Column> = old.schema.columns().iter().filter(changed).collect();
    let retyped = changed.iter().any(|column| new.schema.column(column.id).is_some());
    for region in regions {
        let open = catalogs.engine.region(*region).map_err(|error| from_engine(&error))?;
        if changed.is_empty() {
            continue;
        }
        let scopes = open.scope_columns();
        let valued = if retyped { open.valued_columns() } else { BTreeSet::new() };
        for Column { id, name, .. } in &changed {
            let text = if named.contains(id) {
                format!("column '{name}' is part of the partition rules: repartition the table without it first")
            } else if scopes.contains(id) {
                format!(
                    "files of region {region} hold rows of other regions since a repartition, and column '{name}' tells which: \
                     run ADMIN compact_table('{}'), which rewrites them, and then the statement again",
                    old.table_ref()
                )
            } else if valued.contains(id) && new.schema.column(*id).is_some() {
                format!(
                    "the list of files of region {region} holds values of column '{name}', by which the table was partitioned: \
                     change the region's rule by a repartition, run ADMIN compact_table('{}'), which rewrites the files, and then \
                     the statement again",
                    old.table_ref()
                )
            } else {
                continue;
            };
            return Err(ServerError::new(Code::InvalidArguments, text));
        }
    }
    Ok(())
}

/// Whether an alteration changes nothing but the version.
fn unchanged(old: &TableInfo, new: &TableInfo) -> bool {
    let columns = |schema: &Schema| (schema.columns().to_vec(), schema.next_column_id());
    old.name == new.name && old.options == new.options && columns(&old.schema) == columns(&new.schema)
}

pub(super) fn alteration(info: &TableInfo) -> Alteration {
    Alteration {
        database: info.database.clone(),
        table: info.name.clone(),
        schema: Arc::new(info.schema.clone()),
        options: info.options.clone(),
    }
}

/// Alters the regions, then the catalog. Idempotent.
async fn apply(table: &Table, new: &TableInfo, catalogs: &Catalogs) -> Result<(), ServerError> {
    let regions = open_regions(table, catalogs)?;
    let to = alteration(new);
    let alter = |region: Arc<Region>| {
        let to = &to;
        async move { region.alter(to).await }
    };
    let alters: Vec<_> = regions.into_iter().map(alter).collect();
    let results: Vec<Result<(), _>> = stream::iter(alters).buffer_unordered(limits::PARALLELISM).collect().await;
    let begun = |error: &ServerError| {
        let text = "the alteration is begun; it will be finished before the next ALTER of the table or at the next start";
        ServerError::new(error.code, format!("{}: {text}", error.message))
    };
    if let Some(error) = results.into_iter().find_map(Result::err) {
        return Err(begun(&from_engine(&error)));
    }
    match catalogs.catalog.alter_table(&table.info, new).await {
        Ok(()) => Ok(()),
        Err(error @ CatalogError::TableExists { .. }) => Err(from_catalog(&error)),
        Err(error) => Err(begun(&from_catalog(&error))),
    }
}

/// All regions of the table; an alteration that could not reach one is not begun.
fn open_regions(table: &Table, catalogs: &Catalogs) -> Result<Vec<Arc<Region>>, ServerError> {
    let regions = table.regions().into_iter().map(|region| catalogs.engine.region(region));
    regions.collect::<Result<_, _>>().map_err(|error| from_engine(&error))
}

/// Finishes what an interrupted alteration left: brings the regions and the catalog to the newest schema that any of
/// them has. Answers the table as it is then.
///
/// # Errors
/// A region that is not open, or a store that does not answer.
pub async fn settle(table: Arc<Table>, catalogs: &Catalogs) -> Result<Arc<Table>, ServerError> {
    let regions = open_regions(&table, catalogs)?;
    let info = &table.info;
    let mut metas = Vec::with_capacity(regions.len());
    for region in &regions {
        metas.push(region.settled_meta().await.map_err(|error| from_engine(&error))?);
    }
    let Some(newest) = metas.iter().max_by_key(|meta| meta.schema.version()) else { return Ok(table) };
    let version = info.schema.version();
    if metas.iter().all(|meta| meta.schema.version() == version) {
        return Ok(table);
    }
    let mut new = TableInfo::clone(info);
    if newest.schema.version() > version {
        new.name.clone_from(&newest.table);
        new.options.clone_from(&newest.options);
        new.schema = Schema::clone(&newest.schema);
    }
    tracing::warn!(table = %table.shown(), from = version, to = new.schema.version(), "finishing an interrupted ALTER TABLE");
    match apply(&table, &new, catalogs).await {
        Err(error) if error.code == Code::TableAlreadyExists => {
            // Its new name was given to another table meanwhile; so it keeps its old one, as a further alteration.
            new.name.clone_from(&info.name);
            new.schema = new.schema.evolve(&[], &[]).map_err(|error| refused(&error))?;
            apply(&table, &new, catalogs).await?;
        }
        other => other?,
    }
    catalogs.table(&new.database, &new.name).await
}

/// Gives a database other options.
///
/// # Errors
/// An unknown database, or an option that cannot be.
pub async fn alter_database(name: &str, change: &OptionChange, catalogs: &Catalogs) -> Result<(), ServerError> {
    if name == information_schema::NAME {
        return writable(name);
    }
    let altered = catalogs.catalog.alter_database(name, |present| options::changed_of_database(present, change).map_err(Refusal::Options));
    match altered.await {
        Ok(_) => Ok(()),
        Err(Refusal::Options(error)) => Err(error),
        Err(Refusal::Catalog(error)) => Err(from_catalog(&error)),
    }
}

/// Why a database was not altered.
enum Refusal {
    Options(ServerError),
    Catalog(CatalogError),
}

impl From<CatalogError> for Refusal {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}
