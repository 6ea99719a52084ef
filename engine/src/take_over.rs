//! Regions whose rows are in the log of another node that this one can read.
//!
//! ```text
//!   open ─▶ refused: rows in log A ─▶ open A in its node's place ─▶ open the region as A, flush, seal ─▶ open as oneself
//! ```
//!
//! Nothing of it is new to the store: it is what A's own node does that is started again and stopped in good order. So a crash
//! anywhere leaves a region that A's node, this one, or the next one can open.
//!
//! Invariants:
//! - A log is open here only while rows are brought out of it, once for all regions that are opened meanwhile, so that several
//!   nodes can share what a dead one left.
//! - The region is sealed by the writer of A before it is opened with the own log; no two logs ever hold rows of it that are in no file.

use std::collections::HashMap;
use std::sync::Arc;

use tessera_manifest::env;
use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalId;

use crate::error::Error;
use crate::region::Region;
use crate::shared::Shared;

/// The logs of others that are open here.
#[derive(Debug, Default)]
pub(crate) struct TakeOvers {
    open: tokio::sync::Mutex<HashMap<WalId, Left>>,
}

/// A log that is open in its node's place.
#[derive(Debug)]
struct Left {
    shared: Arc<Shared>,
    users: usize,
}

impl TakeOvers {
    /// Brings the rows that a region has in `log` into files, and seals the region; false where that log cannot be read here.
    ///
    /// Goes on when this is dropped: a log that nobody closes would be locked until the end of the process.
    pub(crate) async fn bring(self: &Arc<Self>, shared: &Arc<Shared>, region: RegionId, log: WalId) -> Result<bool, Error> {
        let (take_overs, shared) = (Arc::clone(self), Arc::clone(shared));
        let brought = env::spawn(async move {
            let Some(left) = take_overs.join(&shared, region, log).await? else { return Ok(false) };
            // In a task of its own: also after a defect the log is left.
            let brought = env::spawn(bring_out(Arc::clone(&left), region)).await;
            take_overs.leave(log, left).await;
            brought.unwrap_or(Err(Error::Stopped { region })).map(|()| true)
        });
        brought.await.unwrap_or(Err(Error::Stopped { region }))
    }

    /// The engine of the node that wrote `log`.
    async fn join(&self, shared: &Shared, region: RegionId, log: WalId) -> Result<Option<Arc<Shared>>, Error> {
        let mut open = self.open.lock().await;
        if let Some(left) = open.get_mut(&log) {
            left.users += 1;
            return Ok(Some(Arc::clone(&left.shared)));
        }
        let Some(reachable) = &shared.parts.reachable else { return Ok(None) };
        let Some(wal) = reachable.open(log).await.map_err(|source| Error::TakeOver { region, log, source: Box::new(source) })? else {
            return Ok(None);
        };
        tracing::info!(%log, "opened the log of another node, to bring its rows into files");
        let left = Arc::new(shared.in_place_of(wal));
        open.insert(log, Left { shared: Arc::clone(&left), users: 1 });
        Ok(Some(left))
    }

    /// Closes the log with its last user.
    async fn leave(&self, log: WalId, shared: Arc<Shared>) {
        let mut open = self.open.lock().await;
        // Dropped before anybody may open it again: its lock goes with the last of these.
        drop(shared);
        let Some(left) = open.get_mut(&log) else { return };
        left.users -= 1;
        if left.users > 0 {
            return;
        }
        let Some(Left { shared, .. }) = open.remove(&log) else { return };
        match shared.parts.wal.close().await {
            Ok(()) => tracing::info!(%log, "closed the log of another node"),
            Err(error) => tracing::warn!(%log, %error, "the log of another node was not closed in good order"),
        }
    }
}

/// Opens the region as the node of the log would, flushes and seals it.
async fn bring_out(left: Arc<Shared>, region: RegionId) -> Result<(), Error> {
    let opened = Region::open(&left, region).await?;
    let bytes = opened.memtable_bytes();
    opened.close().await?;
    tracing::info!(%region, log = %left.parts.wal.id(), bytes, "took the region over from the log of another node");
    Ok(())
}
