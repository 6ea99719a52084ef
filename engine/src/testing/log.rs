//! A log in memory that outlives its process.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tessera_manifest::id::{Epoch, NodeId, Nonce, RegionId};
use tessera_manifest::wal::{WalId, WalKind, WalPosition};

use super::fuse::Fuse;
use crate::wal::{EntryStream, LogStore, Pending, WalError};

#[derive(Debug, Default)]
pub(super) struct DiskLog {
    state: Mutex<Kept>,
}

#[derive(Debug, Default, Clone)]
struct Kept {
    epoch: u32,
    last: u64,
    entries: Vec<(RegionId, WalPosition, Bytes)>,
}

impl DiskLog {
    pub(super) fn copy(&self) -> Self {
        Self { state: Mutex::new(self.state.lock().unwrap().clone()) }
    }
}

#[derive(Debug)]
pub(super) struct MemoryLog {
    disk: Arc<DiskLog>,
    epoch: Epoch,
    fuse: Fuse,
}

impl MemoryLog {
    pub(super) fn open(disk: Arc<DiskLog>, fuse: Fuse) -> Self {
        let mut kept = disk.state.lock().unwrap();
        kept.epoch += 1;
        let epoch = Epoch(kept.epoch);
        drop(kept);
        Self { disk, epoch, fuse }
    }
}

#[async_trait]
impl LogStore for MemoryLog {
    fn id(&self) -> WalId {
        WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(7) }
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn entry_bytes_max(&self) -> u64 {
        u64::MAX
    }

    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let append = async {
            let mut kept = self.disk.state.lock().unwrap();
            kept.last += 1;
            let position = WalPosition { epoch: self.epoch, entry: kept.last };
            kept.entries.push((region, position, Bytes::from(payload.concat())));
            position
        };
        Ok(Pending::done(self.fuse.step("append", append).await))
    }

    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        let kept = self.disk.state.lock().unwrap();
        let wanted = kept.entries.iter().filter(|(of, position, _)| *of == region && *position > after && position.epoch < self.epoch);
        let entries: Vec<_> = wanted.map(|(_, position, bytes)| Ok((*position, bytes.clone()))).collect();
        Ok(stream::iter(entries).boxed())
    }

    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        Vec::new()
    }

    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.disk.state.lock().unwrap().entries.retain(|(of, position, _)| *of != region || *position > up_to);
    }

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
