//! Logs in memory that outlive the processes of their nodes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tessera_manifest::id::{Epoch, NodeId, Nonce, RegionId};
use tessera_manifest::wal::{WalId, WalKind, WalPosition};

use super::fuse::Fuse;
use crate::wal::{EntryStream, LogStore, Pending, ReachableLogs, WalError};

/// The logs of all nodes.
#[derive(Debug, Default)]
pub(super) struct DiskLogs {
    nodes: Mutex<BTreeMap<NodeId, Kept>>,
}

#[derive(Debug, Default, Clone)]
struct Kept {
    epoch: u32,
    last: u64,
    entries: Vec<(RegionId, WalPosition, Bytes)>,
}

impl DiskLogs {
    pub(super) fn copy(&self) -> Self {
        Self { nodes: Mutex::new(self.nodes.lock().unwrap().clone()) }
    }

    pub(super) fn entries(&self, node: NodeId) -> usize {
        self.nodes.lock().unwrap().get(&node).map_or(0, |kept| kept.entries.len())
    }

    fn of<T>(&self, node: NodeId, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(self.nodes.lock().unwrap().entry(node).or_default())
    }
}

fn id(node: NodeId) -> WalId {
    WalId { kind: WalKind::Local, node, log: Nonce(7) }
}

/// All of them, for a process on any node.
#[derive(Debug)]
pub(super) struct Logs {
    pub(super) disk: Arc<DiskLogs>,
    pub(super) fuse: Fuse,
}

#[async_trait]
impl ReachableLogs for Logs {
    async fn open(&self, log: WalId) -> Result<Option<Arc<dyn LogStore>>, WalError> {
        assert_eq!(log, id(log.node));
        let open = async { MemoryLog::open(Arc::clone(&self.disk), log.node, self.fuse.clone()) };
        Ok(Some(Arc::new(self.fuse.step("open log", open).await)))
    }
}

#[derive(Debug)]
pub(super) struct MemoryLog {
    disk: Arc<DiskLogs>,
    node: NodeId,
    epoch: Epoch,
    fuse: Fuse,
}

impl MemoryLog {
    pub(super) fn open(disk: Arc<DiskLogs>, node: NodeId, fuse: Fuse) -> Self {
        let epoch = disk.of(node, |kept| {
            kept.epoch += 1;
            Epoch(kept.epoch)
        });
        Self { disk, node, epoch, fuse }
    }
}

#[async_trait]
impl LogStore for MemoryLog {
    fn id(&self) -> WalId {
        id(self.node)
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn entry_bytes_max(&self) -> u64 {
        u64::MAX
    }

    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let append = async {
            self.disk.of(self.node, |kept| {
                kept.last += 1;
                let position = WalPosition { epoch: self.epoch, entry: kept.last };
                kept.entries.push((region, position, Bytes::from(payload.concat())));
                position
            })
        };
        Ok(Pending::done(self.fuse.step("append", append).await))
    }

    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        let is_wanted = |of: RegionId, position: WalPosition| of == region && position > after && position.epoch < self.epoch;
        let entries: Vec<_> = self.disk.of(self.node, |kept| {
            let wanted = kept.entries.iter().filter(|(of, position, _)| is_wanted(*of, *position));
            wanted.map(|(_, position, bytes)| Ok((*position, bytes.clone()))).collect()
        });
        Ok(stream::iter(entries).boxed())
    }

    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        Vec::new()
    }

    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.disk.of(self.node, |kept| kept.entries.retain(|(of, position, _)| *of != region || *position > up_to));
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
