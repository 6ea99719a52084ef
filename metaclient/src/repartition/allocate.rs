//! Where new regions go: the hook for whoever provides their resources.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use tessera_manifest::id::{NodeId, RegionId};

use super::port::PortError;
use crate::procedure::ProcedureId;

/// A region that is to be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewRegion {
    /// The region.
    pub region: RegionId,
    /// The node of the source that most of its rows come from.
    pub near: NodeId,
}

/// Provides what new regions need, before anything else is done, and takes it back when they do not come to be. Both
/// are idempotent by the procedure's name.
#[async_trait]
pub trait ResourceAllocator: fmt::Debug + Send + Sync {
    /// Provides for the regions, and says which node each goes to.
    ///
    /// # Errors
    /// When there is no room: the repartition ends, and nothing of it is left.
    async fn allocate(&self, procedure: &ProcedureId, regions: &[NewRegion]) -> Result<BTreeMap<RegionId, NodeId>, PortError>;

    /// Takes back what was, or may have been, provided for these regions.
    ///
    /// # Errors
    /// When that cannot be done now.
    async fn release(&self, procedure: &ProcedureId, regions: &[RegionId]) -> Result<(), PortError>;
}

/// Provides nothing: a region goes to the node of its rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct NearAllocator;

#[async_trait]
impl ResourceAllocator for NearAllocator {
    async fn allocate(&self, _: &ProcedureId, regions: &[NewRegion]) -> Result<BTreeMap<RegionId, NodeId>, PortError> {
        Ok(regions.iter().map(|new| (new.region, new.near)).collect())
    }

    async fn release(&self, _: &ProcedureId, _: &[RegionId]) -> Result<(), PortError> {
        Ok(())
    }
}
