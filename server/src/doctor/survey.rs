//! What there is in the catalog and on the object store.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use object_store::ObjectStore;
use tessera_manifest::id::TableId;
use tessera_metaclient::catalog::{Catalog, CatalogError, SwitchedOn};
use tessera_metaclient::keys::Switch;

use crate::catalog::from_catalog;
use crate::ddl::marker;
use crate::error::{Code, ServerError, chain};
use crate::query::limits;

/// What the store has of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Folder {
    /// Whether there is a drop marker without a verdict.
    pub is_dropped: bool,
}

/// What there is, as of one moment each; a statement that runs meanwhile may be half in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// The id that the next table gets.
    pub next_table_id: TableId,
    /// The tables of the catalog, with `database.name`.
    pub tables: BTreeMap<TableId, String>,
    /// Tables that are dropped and not cleared away.
    pub tombstones: BTreeSet<TableId>,
    /// The table folders of the store.
    pub folders: BTreeMap<TableId, Folder>,
    /// The switches that are on.
    pub switches: Vec<(Switch, SwitchedOn)>,
}

/// Looks at everything: two reads of the whole catalog, one LIST of the store, and one of each table's drop markers.
///
/// The order makes that what is created meanwhile is no problem: a table of the catalog has its folder before, and the
/// next table id is above every folder that was there before it is read.
///
/// # Errors
/// When the catalog or the store does not answer.
pub async fn survey(catalog: &Catalog, store: &Arc<dyn ObjectStore>) -> Result<Survey, ServerError> {
    let failed = |error: CatalogError| from_catalog(&error);
    let tables = catalog.all_tables().await.map_err(failed)?;
    let tombstones = catalog.tombstones().await.map_err(failed)?;
    let ids = folders(store).await?;
    let look = stream::iter(ids).map(|id| async move {
        let is_dropped = marker::pending(store, id).await?.is_some();
        Ok::<_, ServerError>((id, Folder { is_dropped }))
    });
    let folders = look.buffer_unordered(limits::PARALLELISM).try_collect().await?;
    let mut switches = Vec::new();
    for switch in Switch::ALL {
        switches.extend(catalog.switch(switch).await.map_err(failed)?.map(|on| (switch, on)));
    }
    Ok(Survey {
        next_table_id: catalog.next_table_id().await.map_err(failed)?,
        tables: tables.into_iter().map(|info| (info.id, info.table_ref().to_string())).collect(),
        tombstones: tombstones.into_iter().map(|tombstone| tombstone.table.id).collect(),
        folders,
        switches,
    })
}

/// The tables that the store has a folder of, whatever is in it: regions, drop markers, decisions.
///
/// # Errors
/// When the store cannot be listed.
pub async fn folders(store: &Arc<dyn ObjectStore>) -> Result<BTreeSet<TableId>, ServerError> {
    let listed = store
        .list_with_delimiter(None)
        .await
        .map_err(|error| ServerError::new(Code::StorageUnavailable, format!("the store cannot be listed: {}", chain(&error))))?;
    Ok(listed.common_prefixes.iter().filter_map(|prefix| prefix.filename().and_then(table_of_folder)).collect())
}

fn table_of_folder(name: &str) -> Option<TableId> {
    let plain = name.len() == 10 && name.bytes().all(|byte| byte.is_ascii_digit());
    if plain { name.parse::<u32>().ok().map(TableId) } else { None }
}
