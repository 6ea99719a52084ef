//! The log that keeps nothing, for bulk loads: rows are durable only once flushed.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tessera_manifest::env::Env;
use tessera_manifest::id::{Epoch, NodeId, RegionId};
use tessera_manifest::wal::{WalId, WalKind, WalPosition};

use super::error::WalError;
use super::{EntryStream, LogStore, Pending};

/// A log that numbers entries and forgets them.
#[derive(Debug)]
pub struct NoopWal {
    id: WalId,
    next_entry: AtomicU64,
}

impl NoopWal {
    /// A log of its own for this process.
    #[must_use]
    pub fn new(node: NodeId, env: &Env) -> Self {
        Self { id: WalId { kind: WalKind::Noop, node, log: env.nonce() }, next_entry: AtomicU64::new(1) }
    }
}

#[async_trait]
impl LogStore for NoopWal {
    fn id(&self) -> WalId {
        self.id
    }

    fn epoch(&self) -> Epoch {
        Epoch(1)
    }

    fn entry_bytes_max(&self) -> u64 {
        u64::MAX
    }

    async fn submit(&self, _region: RegionId, _payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let entry = self.next_entry.fetch_add(1, Ordering::Relaxed);
        Ok(Pending::done(WalPosition { epoch: Epoch(1), entry }))
    }

    fn replay(&self, _region: RegionId, _after: WalPosition) -> Result<EntryStream, WalError> {
        Ok(stream::empty().boxed())
    }

    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        Vec::new()
    }

    fn release(&self, _region: RegionId, _up_to: WalPosition) {}

    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        None
    }

    fn bytes(&self) -> u64 {
        0
    }

    async fn close(&self) -> Result<(), WalError> {
        Ok(())
    }
}
