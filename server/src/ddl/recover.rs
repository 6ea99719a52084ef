//! What a crash left behind: drops to finish, orphans to report.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::{drop, marker};
use crate::catalog::{Catalogs, from_catalog};
use crate::error::{ServerError, chain};
use crate::query::limits;

/// Finishes drops: tables with a marker leave the catalog, and regions of tables that have left it are dropped.
///
/// # Errors
/// When the catalog or the store does not answer, or a marker is damaged.
pub async fn finish_drops(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) -> Result<(), ServerError> {
    let tables = catalogs.catalog.all_tables().await.map_err(|error| from_catalog(&error))?;
    let find = stream::iter(tables).map(|table| async move { marker::find(store, table.id).await });
    let found: Vec<Option<marker::Drop>> = find.buffer_unordered(limits::PARALLELISM).try_collect().await?;
    for drop in found.into_iter().flatten() {
        tracing::warn!(table = %drop.table, name = %format!("{}.{}", drop.database, drop.name), "finishing an interrupted DROP TABLE");
        drop::leave_catalog(&drop, catalogs).await.map_err(|error| from_catalog(&error))?;
    }
    for tombstone in catalogs.catalog.tombstones().await.map_err(|error| from_catalog(&error))? {
        let (id, numbers) = (tombstone.table.id, tombstone.table.next_region_number.0);
        let regions = (0..numbers).map(|number| RegionId::new(id, RegionNumber(number)));
        drop_leftovers(id, regions.collect(), catalogs).await;
    }
    Ok(())
}

/// A region is dropped by its writer, so it is opened first; one that was dropped before does not open.
async fn drop_leftovers(table: TableId, regions: Vec<RegionId>, catalogs: &Catalogs) {
    let mut left = Vec::new();
    for (region, result) in catalogs.engine.open_regions(regions).await {
        match result {
            Ok(_) => left.push(region),
            Err(error) => tracing::debug!(%region, error = %chain(&error), "a region of a dropped table does not open, as it should"),
        }
    }
    if !left.is_empty() {
        tracing::info!(%table, regions = left.len(), "dropping what an interrupted DROP TABLE left");
        drop::drop_regions(table, &left, catalogs).await;
    }
}

/// Logs folders of tables that neither the catalog nor a drop marker knows, as a CREATE TABLE that crashed leaves
/// them. Nothing is deleted.
pub async fn report_orphans(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) {
    match orphans(catalogs, store).await {
        Ok(orphans) => {
            for table in orphans {
                tracing::warn!(%table, "the store has a folder of a table that the catalog does not have");
            }
        }
        Err(error) => tracing::warn!(error = %error, "orphans could not be looked for"),
    }
}

async fn orphans(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) -> Result<Vec<TableId>, ServerError> {
    let listed = store.list_with_delimiter(None).await.map_err(|error| {
        ServerError::new(crate::error::Code::StorageUnavailable, format!("the store cannot be listed: {}", chain(&error)))
    })?;
    let known: BTreeSet<TableId> = catalogs.all_tables().await?.iter().map(|table| table.info.id).collect();
    let mut orphans = Vec::new();
    for prefix in listed.common_prefixes {
        let Some(id) = prefix.filename().and_then(table_of_folder) else { continue };
        if !known.contains(&id) && marker::find(store, id).await?.is_none() {
            orphans.push(id);
        }
    }
    Ok(orphans)
}

fn table_of_folder(name: &str) -> Option<TableId> {
    let plain = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    if plain { name.parse::<u32>().ok().map(TableId) } else { None }
}
