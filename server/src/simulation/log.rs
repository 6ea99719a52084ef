//! A write-ahead log in memory that outlives its processes.
//!
//! Invariants:
//! - Entries become durable in their order, some at a time. Of those that were not when the process died, some of the
//!   first are found by the next one: nobody was told of them.
//! - What was released may be found once more after a restart, since segments go later.
//! - Who opens the log ends the opening before: it can neither add nor release any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use tessera_engine::wal::{EntryStream, LogStore, Pending, WalError};
use tessera_manifest::env::{sleep, spawn};
use tessera_manifest::id::{Epoch, NodeId, Nonce, RegionId};
use tessera_manifest::wal::{WalId, WalKind, WalPosition};
use tokio::sync::{Notify, oneshot};

use super::life::Life;

/// What is on the disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    epoch: u32,
    last: u64,
    entries: Vec<Entry>,
    /// Queued by the present opening, and not durable.
    queued: Vec<(Entry, oneshot::Sender<Result<(), WalError>>)>,
    released: BTreeMap<RegionId, WalPosition>,
}

#[derive(Debug, Clone)]
struct Entry {
    region: RegionId,
    position: WalPosition,
    payload: Bytes,
}

/// One opening.
#[derive(Debug)]
pub(super) struct SimLog {
    disk: Arc<Disk>,
    epoch: Epoch,
    life: Arc<Life>,
    more: Arc<Notify>,
}

impl SimLog {
    /// Opens the log for a process.
    pub(super) fn open(disk: Arc<Disk>, life: Arc<Life>) -> Self {
        let epoch = {
            let mut kept = disk.kept.lock().unwrap();
            let queued = std::mem::take(&mut kept.queued);
            let survive = life.below(queued.len() as u64 + 1);
            let survivors = queued.into_iter().take(usize::try_from(survive).unwrap()).map(|(entry, _)| entry);
            kept.entries.extend(survivors);
            kept.epoch += 1;
            Epoch(kept.epoch)
        };
        life.note(format_args!("opens the log in epoch {epoch}"));
        let more = Arc::new(Notify::new());
        spawn(write(Arc::clone(&disk), epoch, Arc::clone(&life), Arc::clone(&more)));
        Self { disk, epoch, life, more }
    }
}

/// Makes durable what is queued, until another opening takes over or the process dies.
async fn write(disk: Arc<Disk>, epoch: Epoch, life: Arc<Life>, more: Arc<Notify>) {
    loop {
        more.notified().await;
        sleep(Duration::from_micros(life.below(1_500))).await;
        let mut kept = disk.kept.lock().unwrap();
        if life.is_dead() || kept.epoch != epoch.0 {
            return;
        }
        let written = std::mem::take(&mut kept.queued);
        let mut answers = Vec::with_capacity(written.len());
        for (entry, answer) in written {
            kept.entries.push(entry);
            answers.push(answer);
        }
        drop(kept);
        life.note(format_args!("log syncs {}", answers.len()));
        for answer in answers {
            // Who went away does not want to know.
            let _ = answer.send(Ok(()));
        }
    }
}

#[async_trait]
impl LogStore for SimLog {
    fn id(&self) -> WalId {
        WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(7) }
    }

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn entry_bytes_max(&self) -> u64 {
        1 << 20
    }

    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        if self.life.is_dead() {
            std::future::pending::<()>().await;
        }
        let mut kept = self.disk.kept.lock().unwrap();
        if kept.epoch != self.epoch.0 {
            return Err(WalError::Closed);
        }
        kept.last += 1;
        let position = WalPosition { epoch: self.epoch, entry: kept.last };
        let (answer, answered) = oneshot::channel();
        kept.queued.push((Entry { region, position, payload: Bytes::from(payload.concat()) }, answer));
        drop(kept);
        self.life.note(format_args!("log {region} {position}"));
        self.more.notify_one();
        Ok(Pending::new(position, answered))
    }

    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        let kept = self.disk.kept.lock().unwrap();
        let wanted = kept.entries.iter().filter(|entry| entry.region == region);
        let wanted = wanted.filter(|entry| entry.position > after && entry.position.epoch < self.epoch);
        let entries: Vec<_> = wanted.map(|entry| Ok((entry.position, entry.payload.clone()))).collect();
        drop(kept);
        self.life.note(format_args!("replays {} of {region} after {after}", entries.len()));
        Ok(stream::iter(entries).boxed())
    }

    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        let kept = self.disk.kept.lock().unwrap();
        let mut last = BTreeMap::new();
        for entry in &kept.entries {
            if kept.released.get(&entry.region).is_none_or(|released| entry.position > *released) {
                last.insert(entry.region, entry.position);
            }
        }
        last.into_iter().collect()
    }

    fn release(&self, region: RegionId, up_to: WalPosition) {
        let mut kept = self.disk.kept.lock().unwrap();
        if kept.epoch != self.epoch.0 || self.life.is_dead() {
            return;
        }
        let released = kept.released.entry(region).or_insert(up_to);
        *released = (*released).max(up_to);
        drop(kept);
        self.life.note(format_args!("releases {region} up to {up_to}"));
        if self.life.below(2) == 0 {
            let mut kept = self.disk.kept.lock().unwrap();
            let Kept { entries, released, .. } = &mut *kept;
            entries.retain(|entry| released.get(&entry.region).is_none_or(|released| entry.position > *released));
        }
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
