//! The published read set, for regions that meet a repartition whose coordinator is gone.

use std::fmt;

use async_trait::async_trait;
use tessera_engine::staging::ReadSet;
use tessera_manifest::id::{Generation, RegionId, TableId, TxnId};
use tessera_manifest::log::{Context, load};
use tessera_manifest::txn::{self, Verdict};
use tessera_metaclient::catalog::Catalog;

use crate::error::chain;

/// The read set of a catalog.
pub struct CatalogReadSet {
    catalog: Catalog,
    context: Context,
}

impl fmt::Debug for CatalogReadSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CatalogReadSet")
    }
}

impl CatalogReadSet {
    /// The read set of `catalog`; decisions and manifests are where `context` says.
    #[must_use]
    pub fn new(catalog: Catalog, context: Context) -> Self {
        Self { catalog, context }
    }

    /// Whether a region has the references that the transaction gives it, or is past it.
    async fn is_remapped(&self, region: RegionId, txn: TxnId, commit: Generation) -> Result<bool, String> {
        let state = load(&self.context, region).await.map_err(|error| chain(&error))?;
        if state.meta().is_some_and(|meta| meta.generation >= commit) {
            return Ok(true);
        }
        let staging = state.staging().filter(|staging| staging.stage.txn == txn);
        Ok(staging.is_some_and(|staging| staging.remap().is_some()))
    }
}

#[async_trait]
impl ReadSet for CatalogReadSet {
    async fn published(&self, region: RegionId) -> Result<Option<Generation>, String> {
        let routes = self.catalog.routes(region.table()).await.map_err(|error| chain(&error))?;
        Ok(routes.into_iter().find(|route| route.region == region).map(|route| route.generation))
    }

    async fn publish(&self, table: TableId, txn: TxnId) -> Result<bool, String> {
        let Some(decided) = txn::read(&self.context, table, txn).await.map_err(|error| chain(&error))? else { return Ok(false) };
        let Verdict::Commit { stages } = &decided.verdict else { return Ok(false) };
        let view = self.catalog.table_view(table).await.map_err(|error| chain(&error))?;
        let targets: Vec<RegionId> =
            view.write_routes().iter().filter(|route| route.generation == decided.commit).map(|route| route.region).collect();
        // Without a write set of that generation nobody was admitted yet: that is the coordinator's to do.
        if targets.is_empty() {
            return Ok(false);
        }
        for region in targets {
            if !self.is_remapped(region, txn, decided.commit).await? {
                return Ok(false);
            }
        }
        let sources: Vec<RegionId> = stages.iter().map(|(region, _)| *region).collect();
        self.catalog.publish_read_set(table, decided.commit, &sources).await.map_err(|error| chain(&error))
    }
}
