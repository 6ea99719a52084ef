//! A log with a fuse.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tessera_engine::wal::{EntryStream, LogStore, Pending, WalError};
use tessera_manifest::id::{Epoch, RegionId};
use tessera_manifest::wal::{WalId, WalPosition};

use super::Fuse;

/// The log of a process with a fuse. A process that dies after an append dies when the entry is durable.
#[derive(Debug)]
pub struct FusedWal {
    inner: Arc<dyn LogStore>,
    fuse: Arc<Fuse>,
}

impl FusedWal {
    /// `inner` with this fuse.
    #[must_use]
    pub fn new(inner: Arc<dyn LogStore>, fuse: Arc<Fuse>) -> Self {
        Self { inner, fuse }
    }
}

#[async_trait]
impl LogStore for FusedWal {
    fn id(&self) -> WalId {
        self.inner.id()
    }
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
    fn entry_bytes_max(&self) -> u64 {
        self.inner.entry_bytes_max()
    }
    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let turn = self.fuse.turn(format!("append for {region}")).await;
        let mut answer = self.inner.submit(region, payload).await;
        if turn.is_last {
            answer = match answer {
                Ok(pending) => pending.wait().await.map(Pending::done),
                refused => refused,
            };
        }
        self.fuse.answered(turn).await;
        answer
    }
    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        self.inner.replay(region, after)
    }
    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        self.inner.regions()
    }
    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.fuse.write_now(format!("release of {region} up to {up_to}"), || self.inner.release(region, up_to));
    }
    fn forget(&self, region: RegionId) {
        self.fuse.write_now(format!("release of all of {region}"), || self.inner.forget(region));
    }
    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        self.inner.oldest_needed()
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
    async fn close(&self) -> Result<(), WalError> {
        self.fuse.read(self.inner.close()).await
    }
}
