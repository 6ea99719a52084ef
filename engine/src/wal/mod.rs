//! Write-ahead logs behind one trait.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tessera_manifest::id::{Epoch, RegionId};
use tessera_manifest::wal::{WalId, WalPosition};

/// An error of a log.
#[derive(Debug, thiserror::Error)]
#[error("wal error")]
pub struct WalError;

/// A log of one node, shared by all of its regions.
#[async_trait]
pub trait LogStore: fmt::Debug + Send + Sync {
    /// Which log this is.
    fn id(&self) -> WalId;

    /// The epoch of this opening.
    fn epoch(&self) -> Epoch;

    /// Appends an entry; it is durable when this returns. Entries of one region that are submitted one after the other get
    /// growing positions.
    async fn append(&self, region: RegionId, payload: Vec<Bytes>) -> Result<WalPosition, WalError>;
}
