//! What a crash, or a backup that was brought back, left behind: drops to finish, folders and ids to report.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::{alter, drop, marker};
use crate::catalog::closed::Why;
use crate::catalog::{Catalogs, from_catalog};
use crate::doctor::{self, Severity};
use crate::error::{ServerError, chain};
use crate::query::limits;

/// Finishes drops: tables with a marker leave the catalog, and regions of tables that have left it are dropped. A
/// table whose marker cannot be read is closed, and the others go on.
///
/// # Errors
/// When the catalog or the store does not answer.
pub async fn finish_drops(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) -> Result<(), ServerError> {
    let tables = catalogs.catalog.all_tables().await.map_err(|error| from_catalog(&error))?;
    let find = stream::iter(tables).map(|table| async move { marker::pending(store, table.id).await.map(|path| (table.id, path)) });
    let found: Vec<(TableId, Option<Path>)> = find.buffer_unordered(limits::PARALLELISM).try_collect().await?;
    for (table, path) in found {
        let Some(path) = path else { continue };
        match marker::read(store, &path).await {
            Ok(drop) => {
                tracing::warn!(%table, name = %format!("{}.{}", drop.database, drop.name), "finishing an interrupted DROP TABLE");
                drop::leave_catalog(&drop, catalogs).await.map_err(|error| from_catalog(&error))?;
            }
            Err(error) => {
                tracing::error!(%table, %error, "a drop marker cannot be read; its table stays closed, the others work");
                catalogs.closed.close(table, Why::Marker(error.message));
            }
        }
    }
    for tombstone in catalogs.catalog.tombstones().await.map_err(|error| from_catalog(&error))? {
        let (table, numbers) = (tombstone.table.id, tombstone.table.next_region_number.0);
        let regions: Vec<RegionId> = (0..numbers).map(|number| RegionId::new(table, RegionNumber(number))).collect();
        tracing::info!(%table, regions = regions.len(), "dropping what an interrupted DROP TABLE left");
        if drop::drop_regions(table, &regions, catalogs).await
            && let Err(error) = catalogs.catalog.remove_tombstone(table).await
        {
            tracing::warn!(%table, error = %chain(&error), "the tombstone of a dropped table stays until the next start");
        }
    }
    Ok(())
}

/// Says in the log what does not fit between catalog and store; answers the highest table id that the store has a folder
/// of, above which new tables must lie. Nothing is changed: an id that is behind is raised by whoever knows why it is.
///
/// # Errors
/// When the catalog or the store does not answer.
pub async fn examine(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) -> Result<Option<TableId>, ServerError> {
    let report = doctor::check(&doctor::survey(&catalogs.catalog, store).await?);
    for found in &report.findings {
        match found.severity {
            Severity::Problem => tracing::error!(advice = found.advice, "{}", found.message),
            Severity::Note => tracing::warn!(advice = found.advice, "{}", found.message),
        }
    }
    Ok(report.highest_on_store)
}

/// Finishes alterations that reached some regions and not the catalog. A table of which a region is not open stays as
/// the catalog says it is, which every region can be read and written as; the next alteration tries again.
///
/// # Errors
/// When the catalog does not answer.
pub async fn finish_alterations(catalogs: &Catalogs) -> Result<(), ServerError> {
    for table in catalogs.all_tables().await? {
        if catalogs.closed.contains(table.info.id) {
            continue;
        }
        let shown = table.shown();
        if let Err(error) = alter::settle(table, catalogs).await {
            tracing::warn!(table = %shown, %error, "whether its regions have one schema could not be settled");
        }
    }
    Ok(())
}
