//! DROP TABLE and DROP DATABASE.
//!
//! Invariant: once a drop marker is there, or may be, no write to the table begins any more: its rows would be gone when
//! the drop is finished.
//!
//! A repartition or an alteration that is blocked would keep the table for ever; the drop takes its place, and its locks
//! with it, so that nothing else comes in between.

use futures::{StreamExt, stream};
use tessera_manifest::id::{RegionId, TableId};
use tessera_metaclient::catalog::CatalogError;
use tessera_metaclient::procedure::{Procedure, Record};

use super::create::writable;
use super::marker::Drop;
use super::{Ddl, procedure};
use crate::catalog::{Catalogs, DEFAULT_DATABASE, from_catalog, information_schema};
use crate::error::{Code, ServerError, chain};
use crate::query::limits;

/// Drops a table; whether there was one (it may be missing where that is fine).
///
/// # Errors
/// An unknown table, or a store that does not answer: the table is closed then, and a procedure goes on with the drop. A
/// blocked procedure that is neither a repartition nor an alteration.
pub async fn drop_table(database: &str, name: &str, if_exists: bool, ddl: &Ddl) -> Result<bool, ServerError> {
    writable(database)?;
    let catalogs = &ddl.tools.catalogs;
    let table = match catalogs.listed(database, name).await {
        Ok(table) => table,
        Err(error) if if_exists && matches!(error.code, Code::TableNotFound | Code::DatabaseNotFound) => return Ok(false),
        Err(error) => return Err(error),
    };
    let plan = |over: Option<&Record>| {
        let drop = procedure::DropTable::new(&table, ddl.tools.clone());
        match over {
            Some(blocked) => drop.over(blocked),
            None => Some(drop),
        }
    };
    let locks = procedure::DropTable::new(&table, ddl.tools.clone()).locks();
    let output = ddl.procedures.carry_out_over(&locks, plan).await?;
    match output == procedure::GONE {
        false => Ok(true),
        true if if_exists => Ok(false),
        // Another statement dropped it meanwhile.
        true => Err(ServerError::new(Code::TableNotFound, format!("table {} was dropped", table.shown()))),
    }
}

/// The id decides, not the name: another table may have the name by now.
pub(super) async fn leave_catalog(drop: &Drop, catalogs: &Catalogs) -> Result<(), CatalogError> {
    let info = catalogs.catalog.table_by_id(drop.table).await?;
    catalogs.catalog.drop_table(&info.table_ref(), drop.unix_ms).await.map(|_| ())
}

/// Drops the regions of a table that is gone; whether that was all. Its tombstone may go then: nothing is left to do at
/// the next start. The drop marker stays.
pub(super) async fn drop_regions(table: TableId, regions: &[RegionId], catalogs: &Catalogs) -> bool {
    let engine = &catalogs.engine;
    let drops = stream::iter(regions.to_vec()).map(|region| async move { (region, engine.drop_region(region).await) });
    let results: Vec<_> = drops.buffer_unordered(limits::PARALLELISM).collect().await;
    let mut left = 0_usize;
    for (region, result) in results {
        match result {
            Ok(()) => {}
            Err(error) if is_gone(&error) => tracing::debug!(%table, %region, "a region of a dropped table has no manifest any more"),
            Err(error) => {
                left += 1;
                tracing::warn!(%table, %region, error = %chain(&error), "a region of a dropped table could not be dropped yet");
            }
        }
    }
    left == 0
}

/// Whether there is nothing of the region.
pub(super) fn is_gone(error: &tessera_engine::error::Error) -> bool {
    use tessera_engine::error::Error;
    match error {
        Error::OpenFailed { source, .. } => is_gone(source),
        Error::Manifest { source, .. } => matches!(source.as_ref(), tessera_manifest::error::Error::NotFound { .. }),
        _ => false,
    }
}

/// Drops an empty database; whether there was one.
///
/// # Errors
/// An unknown database, one that holds tables, or the one that every session starts in.
pub async fn drop_database(name: &str, if_exists: bool, catalogs: &Catalogs) -> Result<bool, ServerError> {
    if name == DEFAULT_DATABASE || name == information_schema::NAME {
        return Err(ServerError::new(Code::InvalidArguments, format!("database '{name}' cannot be dropped")));
    }
    match catalogs.require_database(name).await {
        Err(error) if if_exists && error.code == Code::DatabaseNotFound => return Ok(false),
        other => other?,
    }
    let tables = catalogs.tables(name).await?;
    if !tables.is_empty() {
        let names: Vec<&str> = tables.iter().map(|table| table.info.name.as_str()).take(5).collect();
        let message = format!("database '{name}' still has {} tables ({}, ...): drop them first", tables.len(), names.join(", "));
        return Err(ServerError::new(Code::InvalidArguments, message));
    }
    catalogs.catalog.drop_database(name).await.map_err(|error| from_catalog(&error))?;
    Ok(true)
}
