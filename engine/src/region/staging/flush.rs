//! From staged memtable to staged SST.
//!
//! Invariants:
//! - As for other flushes, rows are written without the manifest lock, and what is committed is what still holds when it
//!   is taken. A flush in flight across a resolution is thrown away: its rows are then another kind's, and are flushed
//!   again as such.
//! - Deletes stay: older rows of their keys may be in files that the region does not refer to yet.

use std::sync::Arc;

use tessera_manifest::action::{Action, Flushed, StagedEdit};

use super::StagedRows;
use crate::error::Error;
use crate::region::Region;
use crate::region::version::{Frozen, Version};

impl Region {
    /// Flushes the oldest frozen memtable of staged rows; false if there is none. The caller has its turn of flushes.
    pub(in crate::region) async fn flush_staged_one(&self) -> Result<bool, Error> {
        let version = self.pin();
        let Some((rows, frozen)) = oldest(&version) else { return Ok(false) };
        let Some(meta) = rows.meta.clone() else {
            return Err(self.otherwise(rows.txn, "a region that retires has staged rows"));
        };
        let epoch = self.epoch().await?;
        let under = Version { rule_version: rows.rule_version, meta, ..Version::clone(&version) };
        let mut begun = Vec::new();
        let add = match self.write_memtable(&under, &frozen, epoch, &mut begun).await {
            Ok(add) => add,
            Err(source) => {
                self.discard(begun).await;
                return Err(self.rows_error(source));
            }
        };
        let bytes = add.iter().map(|file| file.meta.bytes).sum::<u64>();
        let mut manifest = match self.committer().await {
            Ok(manifest) => manifest,
            Err(error) => {
                self.discard(begun).await;
                return Err(error);
            }
        };
        let now = self.pin();
        let same = oldest(&now).is_some_and(|(now, oldest)| now.txn == rows.txn && Arc::ptr_eq(&oldest, &frozen));
        if !same || manifest.epoch() != epoch {
            drop(manifest);
            self.discard(begun).await;
            return Ok(true);
        }
        let flushed = vec![Flushed { wal: self.shared.parts.wal.id(), position: frozen.position, done: false }];
        let sequence = frozen.memtable.max_sequence();
        let edit = StagedEdit { txn: rows.txn, generation: rows.generation, add, flushed, sequence };
        let state = self.commit_files(&mut manifest, Action::StagedEdit(edit), &begun).await?;
        self.version.update(|version| {
            version.state = state.clone();
            if let Some(rows) = &mut version.staged {
                rows.frozen.retain(|other| !Arc::ptr_eq(other, &frozen));
            }
        });
        self.release_behind(&state);
        drop(manifest);
        self.in_flight.end(begun);
        self.shared.amplification.flushed(bytes);
        metrics::counter!("tessera_staged_flushes_total").increment(1);
        Ok(true)
    }
}

fn oldest(version: &Version) -> Option<(&StagedRows, Arc<Frozen>)> {
    let rows = version.staged.as_ref()?;
    rows.frozen.first().map(|frozen| (rows, Arc::clone(frozen)))
}
