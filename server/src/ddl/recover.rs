//! What a crash left behind: drops to finish, orphans to report.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use object_store::path::Path;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};

use super::{alter, drop, marker};
use crate::catalog::closed::Why;
use crate::catalog::{Catalogs, from_catalog};
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
        drop::drop_regions(table, &regions, catalogs).await;
    }
    Ok(())
}

/// Raises the next table id above every table that the store has a folder of, so that a new table never meets the
/// regions of another, even if the metadata was lost.
///
/// # Errors
/// When the catalog or the store does not answer.
pub async fn raise_table_id(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) -> Result<(), ServerError> {
    let Some(highest) = table_folders(store).await?.last().copied() else { return Ok(()) };
    let next = catalogs.catalog.next_table_id().await.map_err(|error| from_catalog(&error))?;
    if highest < next {
        return Ok(());
    }
    let raised = TableId(highest.0.saturating_add(1));
    tracing::warn!(
        %highest, %next, %raised,
        "the store has folders of tables that the metadata never gave an id to: is it the metadata of this store? New tables get ids above them"
    );
    catalogs.catalog.set_next_table_id(raised).await.map_err(|error| from_catalog(&error))
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
    let known: BTreeSet<TableId> = catalogs.all_tables().await?.iter().map(|table| table.info.id).collect();
    let mut orphans = Vec::new();
    for id in table_folders(store).await? {
        if !known.contains(&id) && marker::pending(store, id).await?.is_none() {
            orphans.push(id);
        }
    }
    Ok(orphans)
}

/// The tables that the store has a folder of.
async fn table_folders(store: &Arc<dyn ObjectStore>) -> Result<BTreeSet<TableId>, ServerError> {
    let listed = store.list_with_delimiter(None).await.map_err(|error| {
        ServerError::new(crate::error::Code::StorageUnavailable, format!("the store cannot be listed: {}", chain(&error)))
    })?;
    Ok(listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().and_then(table_of_folder)).collect())
}

fn table_of_folder(name: &str) -> Option<TableId> {
    let plain = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    if plain { name.parse::<u32>().ok().map(TableId) } else { None }
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
