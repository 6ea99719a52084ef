//! One open region.

use std::sync::Arc;

use tessera_manifest::id::RegionId;
use tessera_manifest::meta::RegionMeta;

use crate::error::Error;
use crate::request::{RegionInfo, RegionScan, ScanRequest, WriteOutcome, WriteRequest};

/// An open region.
pub struct Region {}

impl Region {
    /// Its id.
    pub fn id(&self) -> RegionId { unimplemented!() }
    /// Its metadata now.
    pub fn meta(&self) -> Arc<RegionMeta> { unimplemented!() }
    /// Writes rows; they are durable and visible when this returns.
    pub async fn write(&self, request: WriteRequest) -> Result<WriteOutcome, Error> { unimplemented!() }
    /// Writes what memtables hold into SSTs.
    pub async fn flush(&self) -> Result<(), Error> { unimplemented!() }
    /// Reads a snapshot of the region as of now.
    pub async fn scan(&self, request: ScanRequest) -> Result<RegionScan, Error> { unimplemented!() }
    /// What there is of it.
    pub fn info(&self) -> RegionInfo { unimplemented!() }
}
