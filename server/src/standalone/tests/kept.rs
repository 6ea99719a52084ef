//! A log in memory that outlives its process.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tessera_engine::wal::{EntryStream, LogStore, Pending, WalError};
use tessera_manifest::id::{Epoch, NodeId, Nonce, RegionId};
use tessera_manifest::wal::{WalId, WalKind, WalPosition};

type Entry = (RegionId, WalPosition, Bytes);

/// What outlives the process.
#[derive(Debug, Default)]
pub(super) struct KeptEntries(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    epoch: u32,
    last: u64,
    entries: Vec<Entry>,
}

impl KeptEntries {
    /// How many entries nobody has released.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().entries.len()
    }
}

/// One opening of the log. It takes entries until the next opening, as if that had locked the log.
#[derive(Debug)]
pub(super) struct KeptLog {
    kept: Arc<KeptEntries>,
    epoch: Epoch,
}

impl KeptLog {
    pub(super) fn open(kept: &Arc<KeptEntries>) -> Self {
        let mut state = kept.0.lock().unwrap();
        state.epoch += 1;
        Self { kept: Arc::clone(kept), epoch: Epoch(state.epoch) }
    }
}

#[async_trait]
impl LogStore for KeptLog {
    fn id(&self) -> WalId {
        WalId { kind: WalKind::Local, node: NodeId(0), log: Nonce(7) }
    }
    fn epoch(&self) -> Epoch {
        self.epoch
    }
    fn entry_bytes_max(&self) -> u64 {
        u64::MAX
    }
    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let mut kept = self.kept.0.lock().unwrap();
        if kept.epoch != self.epoch.0 {
            return Err(WalError::Closed);
        }
        kept.last += 1;
        let position = WalPosition { epoch: self.epoch, entry: kept.last };
        kept.entries.push((region, position, Bytes::from(payload.concat())));
        Ok(Pending::done(position))
    }
    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        let kept = self.kept.0.lock().unwrap();
        let wanted = |(of, position, _): &&Entry| *of == region && *position > after && position.epoch < self.epoch;
        let entries: Vec<_> = kept.entries.iter().filter(wanted).map(|(_, position, bytes)| Ok((*position, bytes.clone()))).collect();
        Ok(stream::iter(entries).boxed())
    }
    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        let kept = self.kept.0.lock().unwrap();
        let last: std::collections::BTreeMap<_, _> = kept.entries.iter().map(|(region, position, _)| (*region, *position)).collect();
        last.into_iter().collect()
    }
    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.kept.0.lock().unwrap().entries.retain(|(of, position, _)| *of != region || *position > up_to);
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
