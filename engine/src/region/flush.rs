//! From memtable to SST.
//!
//! Invariants:
//! - One flush of a region at a time, oldest memtable first. Rows are written without the manifest lock; what is
//!   committed is what still holds when the lock is taken: the memtable is still there, the generation and the
//!   epoch are those under which its file was written. Else the file is thrown away, and the flush looks again.
//! - A memtable leaves the version in the same step in which its files enter.

use std::sync::Arc;

use tessera_manifest::action::{Action, Drop as DropAction, Edit, Flushed};
use tessera_manifest::file::{FileRef, Scope};
use tessera_manifest::id::{Epoch, FileId, FileKey};
use tessera_manifest::log::{Manifest, Outcome};
use tessera_manifest::state::RegionState;
use ulid::Ulid;

use super::version::{Frozen, Version};
use super::{GateState, Region};
use crate::compaction::{Candidate, Plan, Settings, Split, Windows, write_split};
use crate::error::Error;
use crate::memtable::{Memtable, Snapshot};
use crate::merge::Layout;
use crate::sst::{self, NewFile};

/// A memtable over so many windows is cut into files by window at once; one over more becomes one file, and is for
/// compaction to cut.
const WINDOWS_MAX: u64 = 8;
/// About what a row takes in a file, to weigh a memtable against files.
const BYTES_PER_ROW: u64 = 16;

impl Region {
    /// Writes what memtables hold into SSTs. When it returns, everything that was acknowledged before it was
    /// called is in SSTs.
    ///
    /// Cancel safe: what is not flushed stays in the memtables.
    ///
    /// # Errors
    /// The failure of the store or of the manifest; rows stay in the WAL and in memtables, and the next flush
    /// tries again.
    pub async fn flush(&self) -> Result<(), Error> {
        let _one_at_a_time = self.flushing.lock().await;
        self.flush_listed(true).await
    }

    /// Writes the memtables that were frozen when they were full; the one that takes rows only if there are none, or if it is
    /// full as well.
    ///
    /// # Errors
    /// Those of [`flush`](Self::flush).
    pub(crate) async fn flush_full(&self) -> Result<(), Error> {
        let _one_at_a_time = self.flushing.lock().await;
        let full = self.active_bytes() >= self.shared.parts.config.region_memtable_bytes as u64;
        let waits = self.pin().frozen_bytes() > 0;
        self.flush_listed(full || !waits).await
    }

    async fn flush_listed(&self, active: bool) -> Result<(), Error> {
        {
            let manifest = self.committer().await?;
            if manifest.state().is_dropped() {
                return self.forget_rows(&manifest).await;
            }
        }
        if active { self.flush_all().await } else { self.flush_frozen().await }
    }

    /// Closes the gate for a moment and flushes everything that was written before. The caller has its turn.
    pub(super) async fn flush_all(&self) -> Result<(), Error> {
        self.rotate(&self.gate.write().await);
        self.flush_frozen().await
    }

    /// Flushes everything that is frozen. The caller has its turn.
    async fn flush_frozen(&self) -> Result<(), Error> {
        self.flush_visible().await?;
        // A repartition may be resolved in between: then the rows are visible ones.
        while self.flush_staged_one().await? {
            self.flush_visible().await?;
        }
        self.flush_visible().await
    }

    /// Flushes what is frozen of the rows that readers see.
    pub(super) async fn flush_visible(&self) -> Result<(), Error> {
        while let Some(frozen) = self.pin().frozen.first().cloned() {
            self.flush_one(&frozen).await?;
        }
        Ok(())
    }

    /// Flushes the oldest frozen memtable, unless something came between: then there is another look to be taken.
    async fn flush_one(&self, frozen: &Arc<Frozen>) -> Result<(), Error> {
        let version = self.pin();
        let epoch = self.epoch().await?;
        let mut begun = Vec::new();
        let written = self.write_memtable(&version, frozen, epoch, &mut begun).await;
        let add = match written {
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
        // What the file's statistics hold is of the schema's types, and no alteration since has looked at it.
        let same_meta = now.meta.generation == version.meta.generation && now.meta.schema.version() == version.meta.schema.version();
        let same = manifest.epoch() == epoch && same_meta;
        if !same || !now.frozen.iter().any(|other| Arc::ptr_eq(other, frozen)) || manifest.state().is_dropped() {
            drop(manifest);
            self.discard(begun).await;
            return Ok(());
        }
        let sequence = frozen.memtable.max_sequence();
        let flushed = vec![Flushed { wal: self.shared.parts.wal.id(), position: frozen.position, done: false }];
        let edit = Edit { add, flushed, sequence, ..Edit::new(version.meta.generation) };
        let state = self.commit_files(&mut manifest, Action::Edit(edit), &begun).await?;
        self.flushed(frozen, state);
        drop(manifest);
        self.in_flight.end(begun);
        self.shared.amplification.flushed(bytes);
        metrics::counter!("tessera_flushes_total").increment(1);
        self.shared.scheduler.compact_soon(self.id);
        Ok(())
    }

    /// Writes a memtable's rows, cut by time windows if there are few, and notes in `begun` what was begun.
    pub(super) async fn write_memtable(
        &self,
        version: &Version,
        frozen: &Frozen,
        epoch: Epoch,
        begun: &mut Vec<FileKey>,
    ) -> Result<Vec<Arc<FileRef>>, sst::Error> {
        let snapshot = frozen.memtable.snapshot();
        if snapshot.is_empty() {
            return Ok(Vec::new());
        }
        let access = &self.shared.access;
        let name = || {
            let file = self.new_file(version, epoch, 0);
            begun.push(file.key);
            file
        };
        let split = Split { windows: flush_windows(version, &snapshot), cuts: Vec::new() };
        let schema = Arc::clone(&version.meta.schema);
        let layout = Arc::new(Layout::merging(schema, None)?);
        let rows = sst::sorted(snapshot, Arc::clone(&layout), version.options.merge_mode.into()).await?;
        let plan = Plan { split: &split, from: None, files_max: WINDOWS_MAX as usize };
        let pass = write_split(access, &layout, plan, rows, name).await?;
        let reference = |(key, meta)| Arc::new(FileRef { key, scope: Scope::all(), meta });
        Ok(pass.files.into_iter().map(reference).collect())
    }

    /// A name for a file of this version's rows, noted as in flight.
    pub(super) fn new_file(&self, version: &Version, epoch: Epoch, level: u8) -> NewFile {
        let key = FileKey { origin: self.id, file: self.shared.parts.env.file_id(epoch) };
        self.in_flight.begin(key);
        NewFile {
            key,
            schema: Arc::clone(&version.meta.schema),
            level,
            generation: version.meta.generation,
            rule: Arc::clone(&version.meta.rule),
            partition_columns: version.meta.partition_columns.clone(),
            skipping: version.options.skipping.clone(),
        }
    }

    /// After the Edit is known to be in the manifest.
    fn flushed(&self, frozen: &Arc<Frozen>, state: RegionState) {
        self.version.update(|version| {
            version.state = state.clone();
            version.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
        });
        self.release_behind(&state);
    }

    /// Flushes and ends the region; later writes are refused. Its epoch is sealed, so that the next opener knows
    /// that no log holds anything of it.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.shut(GateState::Closed).await;
        self.end_compaction().await;
        self.flush().await?;
        let mut manifest = self.manifest.lock().await;
        match manifest.seal().await {
            Ok(Outcome::Committed(state)) => self.version.update(|version| version.state = *state),
            // The next opener seals the epoch itself, and replays from the flushed position.
            Ok(outcome) => tracing::warn!(region = %self.id, ?outcome, "the manifest was closed without a seal"),
            Err(error) => tracing::warn!(region = %self.id, %error, "the manifest was closed without a seal"),
        }
        Ok(())
    }

    /// Logs the drop; rows and files are gone for everybody.
    ///
    /// # Errors
    /// [`Error::Staged`]: nothing is done, and writes go on. The manifest's, after which the region is closed.
    pub(crate) async fn drop_all(&self) -> Result<(), Error> {
        self.check_unstaged()?;
        let before = std::mem::replace(&mut *self.gate.write().await, GateState::Closed);
        // A compaction that commits waits for the manifest, so it is ended before that is taken.
        self.end_compaction().await;
        let mut manifest = self.manifest.lock().await;
        self.settle(&mut manifest).await?;
        // It may have been staged before the gate was shut. What is in doubt is settled now.
        if let Err(staged) = self.check_unstaged() {
            let mut gate = self.gate.write().await;
            if *gate == GateState::Closed && matches!(before, GateState::Open | GateState::Doubt) {
                *gate = GateState::Open;
            }
            return Err(staged);
        }
        if !manifest.state().is_dropped() {
            self.commit(&mut manifest, vec![Action::Drop(DropAction {})]).await?;
        }
        self.forget_rows(&manifest).await
    }

    /// After the drop is known to be in the manifest.
    pub(super) async fn forget_rows(&self, manifest: &Manifest) -> Result<(), Error> {
        self.shut(GateState::Closed).await;
        self.settle_share(0);
        self.version.update(|version| {
            version.state = manifest.state().clone();
            version.frozen.clear();
            version.staged = None;
            version.active = Arc::new(Memtable::new(Arc::clone(&version.meta.schema)));
        });
        self.shared.parts.wal.forget(self.id);
        Ok(())
    }
}

/// The windows by which a memtable is cut, if it lies in few of them.
fn flush_windows(version: &Version, snapshot: &Snapshot) -> Option<Windows> {
    let range = snapshot.time_range()?;
    let (region, meta) = (version.meta.region, &version.meta);
    let settings = Settings::of(meta, &version.options);
    let windows = settings.window.map(Windows::new).unwrap_or_else(|| {
        let files = version.state.files().entries().map(|file| Candidate::of(region, meta, file));
        let rows = snapshot.rows() as u64;
        // Only its span and its weight among the files count.
        let key = FileKey { origin: region, file: FileId::new(Epoch(0), Ulid::nil()) };
        let bytes = rows * BYTES_PER_ROW;
        let memtable = Candidate { key, time: range, sequences: (0, 0), bytes, rows, deletes: 0, level: 0, foreign: false };
        Windows::infer(&files.chain([memtable]).collect::<Vec<_>>(), settings.ticks_per_second)
    });
    (windows.touched(range) <= WINDOWS_MAX).then_some(windows)
}
