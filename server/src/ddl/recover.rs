//! What a crash left behind: drops to finish, orphans to report.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use tessera_manifest::id::TableId;

use super::{drop, marker};
use crate::catalog::Catalogs;
use crate::error::{ServerError, chain};
use crate::query::limits;

/// Finishes drops whose marker was written: tables that are still in the catalog leave it, and regions of tables
/// that have left it are dropped.
///
/// # Errors
/// When the catalog or the store does not answer, or a marker is damaged.
pub async fn finish_drops(catalogs: &Catalogs, store: &Arc<dyn ObjectStore>) -> Result<(), ServerError> {
    let tables = catalogs.all_tables().await?;
    let ids: Vec<TableId> = tables.iter().map(|table| table.info.id).collect();
    let found: Vec<Option<marker::Drop>> = stream::iter(ids)
        .map(|id| async move { marker::find(store, id).await })
        .buffer_unordered(limits::PARALLELISM)
        .try_collect()
        .await?;
    for drop in found.into_iter().flatten() {
        tracing::warn!(table = %drop.table, name = %format!("{}.{}", drop.database, drop.name), "finishing an interrupted DROP TABLE");
        open_for_drop(&drop, catalogs).await;
        drop::finish(&drop, catalogs).await?;
    }
    Ok(())
}

/// A region is dropped by its writer; one that does not open is left to the collector.
async fn open_for_drop(drop: &marker::Drop, catalogs: &Catalogs) {
    for (region, result) in catalogs.engine.open_regions(drop.regions.clone()).await {
        if let Err(error) = result {
            tracing::warn!(%region, error = %chain(&error), "a region of a dropped table did not open");
        }
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
