//! DROP TABLE and DROP DATABASE.
//!
//! Invariant: once a drop marker is there, or may be, no write to the table is acknowledged any more: its rows would be
//! gone when the drop is finished.

use std::sync::Arc;

use futures::{StreamExt, stream};
use object_store::ObjectStore;
use tessera_manifest::id::{RegionId, TableId};
use tessera_metaclient::catalog::CatalogError;

use super::create::writable;
use super::marker::{self, Drop, WriteError};
use crate::catalog::closed::Why;
use crate::catalog::{Catalogs, DEFAULT_DATABASE, Table, from_catalog, information_schema};
use crate::error::{Code, ServerError, chain};
use crate::query::limits;

/// Drops a table; whether there was one (it may be missing where that is fine).
///
/// # Errors
/// An unknown table, or a store that does not answer.
pub async fn drop_table(
    database: &str,
    name: &str,
    if_exists: bool,
    catalogs: &Catalogs,
    store: &Arc<dyn ObjectStore>,
) -> Result<bool, ServerError> {
    writable(database)?;
    let table = match catalogs.listed(database, name).await {
        Ok(table) => table,
        Err(error) if if_exists && matches!(error.code, Code::TableNotFound | Code::DatabaseNotFound) => return Ok(false),
        Err(error) => return Err(error),
    };
    let drop = describe(&table, catalogs);
    match marker::write(store, &catalogs.env, &drop).await {
        Ok(()) => {}
        Err(WriteError::Absent(error)) => return Err(error),
        Err(WriteError::Unknown(error)) => {
            close_regions(&drop, &error, catalogs).await;
            let text = format!("{}; the table is closed until DROP TABLE is repeated or the server restarted", error.message);
            return Err(ServerError::new(error.code, text));
        }
    }
    if let Err(error) = finish(&drop, catalogs).await {
        close_regions(&drop, &error, catalogs).await;
        return Err(error);
    }
    Ok(true)
}

/// Ends all writes to a table whose drop is decided, or may be, and could not be finished.
async fn close_regions(drop: &Drop, why: &ServerError, catalogs: &Catalogs) {
    catalogs.closed.close(drop.table, Why::Undecided(why.message.clone()));
    let engine = &catalogs.engine;
    let closes = stream::iter(drop.regions.clone()).map(|region| async move { (region, engine.close_region(region).await) });
    let results: Vec<_> = closes.buffer_unordered(limits::PARALLELISM).collect().await;
    for (region, result) in results {
        if let Err(error) = result {
            // It takes no writes all the same; what it could not flush is in the log.
            tracing::warn!(table = %drop.table, %region, error = %chain(&error), "a region was closed without a flush");
        }
    }
}

fn describe(table: &Table, catalogs: &Catalogs) -> Drop {
    Drop {
        table: table.info.id,
        database: table.info.database.clone(),
        name: table.info.name.clone(),
        unix_ms: catalogs.env.unix_ms(),
        regions: table.routes.iter().map(|route| route.region).collect(),
    }
}

/// What follows from a drop marker; done again after a crash, as often as it takes.
///
/// # Errors
/// When the catalog does not answer; a region that cannot be dropped is logged and left to the next start.
async fn finish(drop: &Drop, catalogs: &Catalogs) -> Result<(), ServerError> {
    match leave_catalog(drop, catalogs).await {
        Ok(()) | Err(CatalogError::TableIdNotFound { .. } | CatalogError::TableNotFound { .. }) => {}
        Err(error) => {
            let inner = from_catalog(&error);
            let message = format!(
                "the drop of table {}.{} is decided and will be finished at the next start: {}",
                drop.database, drop.name, inner.message
            );
            return Err(ServerError::new(inner.code, message));
        }
    }
    catalogs.closed.close(drop.table, Why::Dropped);
    drop_regions(drop.table, &drop.regions, catalogs).await;
    Ok(())
}

/// The id decides, not the name: another table may have the name by now.
pub(super) async fn leave_catalog(drop: &Drop, catalogs: &Catalogs) -> Result<(), CatalogError> {
    let info = catalogs.catalog.table_by_id(drop.table).await?;
    catalogs.catalog.drop_table(&info.table_ref(), drop.unix_ms).await.map(|_| ())
}

/// Drops the regions of a table that is gone, and its tombstone once all of them are: then nothing is left to do at
/// the next start. The drop marker stays.
pub(super) async fn drop_regions(table: TableId, regions: &[RegionId], catalogs: &Catalogs) {
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
    if left == 0
        && let Err(error) = catalogs.catalog.remove_tombstone(table).await
    {
        tracing::warn!(%table, error = %chain(&error), "the tombstone of a dropped table stays until the next start");
    }
}

/// Whether there is nothing of the region.
fn is_gone(error: &tessera_engine::error::Error) -> bool {
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
