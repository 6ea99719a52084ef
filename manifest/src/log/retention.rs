//! Deleting what no readable version needs any more.
//!
//! Invariants:
//! - Only the writer of the region's newest epoch runs it, after the records that allow it are on the store: the two
//!   checkpoints and the floor.
//! - Nothing goes before the checkpoints that are needed were found to be there, whole: what cannot be read any more
//!   has its substitute behind it.
//! - Seals and Opens stay. Of the other records those before the oldest needed checkpoint go.
//! - A segment goes only if no root that stays names it, no record that stays names it, and it is either of an earlier
//!   epoch or was named by a root that goes: what is being written right now is neither. If a root that stays cannot
//!   be read, nothing goes.
//! - A delete that fails is counted and left for the next run.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::{Context, slot_store};
use crate::checkpoint::read_root;
use crate::error::Error;
use crate::id::{FileId, Slot};
use crate::slot::{DataSlot, Listing};
use crate::state::RegionState;

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Retained {
    /// Records before this one are gone; `None` if nothing may go.
    pub behind: Option<Slot>,
    /// Records that are gone.
    pub records: usize,
    /// Checkpoints that are gone.
    pub checkpoints: usize,
    /// Segments that are gone.
    pub segments: usize,
    /// Deletes that failed.
    pub failed: usize,
    /// Old slots that were looked at and stay: seals.
    pub ends: Vec<Slot>,
}

/// A run.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) context: Context,
    /// The state after the newest record.
    pub(super) state: RegionState,
    /// The segments that the next checkpoint may name.
    pub(super) kept: BTreeSet<FileId>,
    /// Slots that are known to hold neither a seal nor an Open.
    pub(super) data: Vec<DataSlot>,
    /// Slots that an earlier run found to hold a seal, or something that is no record.
    pub(super) ends: BTreeSet<Slot>,
}

impl Job {
    pub(super) async fn run(self) -> Result<Retained, Error> {
        let mut retained = Retained::default();
        let Some(base) = self.state.replay_base() else { return Ok(retained) };
        retained.behind = Some(base);
        let listing = slot_store(&self.context, self.state.region()).list(None).await?;
        let there = self.segments().await?;
        let pinned: BTreeSet<Slot> = self.state.pins().values().map(|pin| pin.checkpoint.version).collect();
        let stays = |version: &Slot| *version >= base || pinned.contains(version);
        let (stay, go): (Vec<Slot>, Vec<Slot>) = listing.checkpoints.iter().copied().partition(stays);
        let named = self.named(&stay, &there).await?;
        self.free_records(&listing, base, &mut retained).await?;
        self.free_checkpoints(go, &there, &named, &mut retained).await?;
        metrics::counter!("tessera_manifest_deletes_failed_total").increment(retained.failed as u64);
        let stay = listing.slots.len().saturating_sub(retained.records);
        metrics::histogram!("tessera_manifest_retained_records").record(stay as f64);
        Ok(retained)
    }

    /// The segments that must stay, given the checkpoints that do. Fails unless every checkpoint that the state needs
    /// is among these, as it was logged, with all its segments: if one is not, then what is behind it is all that
    /// there is of the region.
    async fn named(&self, stay: &[Slot], there: &BTreeSet<FileId>) -> Result<BTreeSet<FileId>, Error> {
        let (context, region) = (&self.context, self.state.region());
        let mut named = self.kept.clone();
        named.extend(self.state.remap_segments().map(|segment| segment.file));
        let needed = self.state.checkpoints();
        let versions: BTreeSet<Slot> = stay.iter().copied().chain(needed.iter().map(|checkpoint| checkpoint.version)).collect();
        for version in versions {
            let (root, reference) = read_root(context, region, version).await?;
            let logged = needed.iter().find(|checkpoint| checkpoint.version == version);
            if logged.is_some_and(|logged| *logged != reference) {
                let path = context.root.manifest(region).checkpoint_path(version).to_string();
                return Err(Error::Checkpoint { path, reason: "it is not the one that was logged, so nothing is deleted".into() });
            }
            let missing = root.segments.iter().find(|entry| !there.contains(&entry.segment.file));
            if let Some(missing) = missing.filter(|_| logged.is_some()) {
                return Err(Error::MissingRecord { path: context.root.segment(region, missing.segment.file).to_string() });
            }
            named.extend(root.segments.iter().map(|entry| entry.segment.file));
        }
        Ok(named)
    }

    async fn free_records(&self, listing: &Listing, base: Slot, retained: &mut Retained) -> Result<(), Error> {
        let store = slot_store(&self.context, self.state.region());
        let known: BTreeSet<Slot> = self.data.iter().map(|data| data.slot()).collect();
        let old = listing.slots.iter().copied().filter(|slot| *slot < base && slot.seq > 0);
        let (own, mut unknown): (Vec<Slot>, Vec<Slot>) = old.partition(|slot| known.contains(slot));
        unknown.retain(|slot| !self.ends.contains(slot));
        let own: BTreeSet<Slot> = own.into_iter().collect();
        let mut data: Vec<DataSlot> = self.data.iter().copied().filter(|data| own.contains(&data.slot())).collect();
        let found = store.data_slots(&unknown).await?;
        retained.ends = unknown.into_iter().filter(|slot| !found.iter().any(|data| data.slot() == *slot)).collect();
        data.extend(found);
        let freed = store.free(&data, base).await;
        retained.records = freed.freed;
        retained.failed += freed.failed.len();
        Ok(())
    }

    async fn free_checkpoints(
        &self,
        go: Vec<Slot>,
        there: &BTreeSet<FileId>,
        named: &BTreeSet<FileId>,
        retained: &mut Retained,
    ) -> Result<(), Error> {
        let region = self.state.region();
        let current = self.state.version().map(|version| version.epoch);
        let mut doomed: BTreeSet<FileId> = there.iter().copied().filter(|file| Some(file.epoch) < current).collect();
        for version in go {
            if let Ok((root, _)) = read_root(&self.context, region, version).await {
                doomed.extend(root.segments.iter().map(|entry| entry.segment.file));
            }
            let path = self.context.root.manifest(region).checkpoint_path(version);
            retained.checkpoints += self.delete(vec![path], retained).await;
        }
        doomed.retain(|file| !named.contains(file));
        let paths = doomed.iter().map(|file| self.context.root.segment(region, *file)).collect();
        retained.segments = self.delete(paths, retained).await;
        Ok(())
    }

    /// The segments that are on the store.
    async fn segments(&self) -> Result<BTreeSet<FileId>, Error> {
        let folder = self.context.root.segments(self.state.region());
        let objects: Vec<_> =
            self.context.store.list(Some(&folder)).try_collect().await.map_err(|source| Error::store("list", &folder, source))?;
        Ok(objects.iter().filter_map(|object| object.location.filename()?.strip_suffix(".parquet")?.parse().ok()).collect())
    }

    /// How many of the objects are gone now.
    async fn delete(&self, paths: Vec<Path>, retained: &mut Retained) -> usize {
        let mut gone = 0;
        let mut deletes = self.context.store.delete_stream(futures::stream::iter(paths.into_iter().map(Ok)).boxed());
        while let Some(deleted) = deletes.next().await {
            match deleted {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => gone += 1,
                Err(error) => {
                    retained.failed += 1;
                    tracing::debug!(%error, "left an object for the next run of retention");
                }
            }
        }
        gone
    }
}
