//! Many regions on one store and one WAL.

use std::sync::Arc;

use object_store::ObjectStore;
use tessera_manifest::env::Env;
use tessera_manifest::id::RegionId;
use tessera_manifest::meta::RegionMeta;

use crate::config::Config;
use crate::error::Error;
use crate::region::Region;
use crate::wal::LogStore;

/// What an engine is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where SSTs and manifests are.
    pub store: Arc<dyn ObjectStore>,
    /// Where acknowledged rows are kept until they are in SSTs.
    pub wal: Arc<dyn LogStore>,
    /// Time and ids.
    pub env: Env,
    /// Settings.
    pub config: Config,
}

/// The open regions of a node; a cheap handle.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// Starts an engine without open regions.
    pub fn start(parts: Parts) -> Self { unimplemented!() }
    /// Creates an empty region and opens it.
    pub async fn create_region(&self, meta: RegionMeta) -> Result<Arc<Region>, Error> { unimplemented!() }
    /// Opens a region: takes its manifest over, replays its WAL entries.
    pub async fn open_region(&self, region: RegionId) -> Result<Arc<Region>, Error> { unimplemented!() }
    /// Opens many, in parallel; a bad one does not stop the others.
    pub async fn open_regions(&self, regions: Vec<RegionId>) -> Vec<(RegionId, Result<Arc<Region>, Error>)> { unimplemented!() }
    /// The open region with this id. For one that failed to open, the error says why (kept from open_regions).
    pub fn region(&self, region: RegionId) -> Result<Arc<Region>, Error> { unimplemented!() }
    /// Drops a region: logs the drop in its manifest and forgets its memtable and WAL entries.
    pub async fn drop_region(&self, region: RegionId) -> Result<(), Error> { unimplemented!() }
    /// Flushes and closes every region, and stops background work.
    pub async fn close(&self) -> Result<(), Error> { unimplemented!() }
}
