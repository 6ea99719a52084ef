//! From memtable to SST.
//!
//! Invariants:
//! - One flush of a region at a time; the manifest lock is held throughout, so no other commit comes between.
//! - A memtable leaves the version in the same step in which its file enters.
//! - On an unknown outcome nothing is dropped, released or deleted: the manifest is opened again, and the file
//!   is either found there or written anew under the new epoch.

use std::sync::{Arc, PoisonError};

use tessera_manifest::action::{Action, Drop as DropAction, Edit, Flushed};
use tessera_manifest::file::{FileRef, Scope};
use tessera_manifest::id::FileKey;
use tessera_manifest::log::{Manifest, Outcome};
use tessera_manifest::state::RegionState;

use super::version::Frozen;
use super::{GateState, Region};
use crate::error::Error;
use crate::memtable::Memtable;
use crate::sst::{self, NewFile};

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
        let mut manifest = self.manifest.lock().await;
        let fenced = *self.gate.read().await == GateState::Fenced;
        if fenced {
            return Err(Error::Fenced { region: self.id });
        }
        if !manifest.is_good() {
            self.reopen_manifest(&mut manifest).await?;
        }
        if manifest.state().is_dropped() {
            return self.forget_rows(&manifest).await;
        }
        self.freeze().await;
        while let Some(frozen) = self.pin().frozen.first().cloned() {
            self.flush_one(&mut manifest, &frozen).await?;
        }
        Ok(())
    }

    /// Closes the gate for a moment and puts an empty memtable in the place of the active one.
    async fn freeze(&self) {
        let _closed = self.gate.write().await;
        let version = self.pin();
        if version.active.rows() == 0 {
            return;
        }
        self.settle_share(version.active.bytes());
        let position = *self.inserted.lock().unwrap_or_else(PoisonError::into_inner);
        let frozen = Frozen::new(Arc::clone(&version.active), position, Arc::clone(&self.shared.budget));
        self.version.update(|version| {
            version.frozen.push(Arc::new(frozen));
            version.active = Arc::new(Memtable::new(Arc::clone(&version.meta.schema)));
        });
    }

    async fn flush_one(&self, manifest: &mut Manifest, frozen: &Arc<Frozen>) -> Result<(), Error> {
        let version = self.pin();
        let key = FileKey { origin: self.id, file: self.shared.parts.env.file_id(manifest.epoch()) };
        let file = NewFile {
            key,
            schema: Arc::clone(&version.meta.schema),
            level: 0,
            generation: version.meta.generation,
            rule: Arc::clone(&version.meta.rule),
            partition_columns: version.meta.partition_columns.clone(),
        };
        let snapshot = frozen.memtable.snapshot();
        let written = sst::flush(&self.shared.access, snapshot, file, version.options.merge_mode.into())
            .await
            .map_err(|source| self.rows_error(source))?;
        let add = written.map(|meta| Arc::new(FileRef { key, scope: Scope::all(), meta }));
        let sequence = frozen.memtable.max_sequence();
        let flushed = vec![Flushed { wal: self.shared.parts.wal.id(), position: frozen.position, done: false }];
        let edit = Edit { add: add.into_iter().collect(), flushed, sequence, ..Edit::new(version.meta.generation) };
        let state = self.commit(manifest, vec![Action::Edit(edit)]).await?;
        self.flushed(frozen, state);
        metrics::counter!("tessera_flushes_total").increment(1);
        Ok(())
    }

    /// After the Edit is known to be in the manifest.
    fn flushed(&self, frozen: &Arc<Frozen>, state: RegionState) {
        self.version.update(|version| {
            version.state = state;
            version.frozen.retain(|other| !Arc::ptr_eq(other, frozen));
        });
        self.shared.parts.wal.release(self.id, frozen.position);
    }

    /// Commits and answers with the state, or says what became of the region.
    async fn commit(&self, manifest: &mut Manifest, actions: Vec<Action>) -> Result<RegionState, Error> {
        let outcome = manifest.commit(actions).await;
        match outcome.map_err(|source| self.manifest_error(source))? {
            Outcome::Committed(state) => Ok(*state),
            Outcome::Conflict { by, slot, orphans } => {
                tracing::warn!(region = %self.id, %by, %slot, "another writer has taken the region over");
                self.shut(GateState::Fenced).await;
                orphans.delete(&self.shared.context).await;
                Err(Error::Fenced { region: self.id })
            }
            Outcome::Unknown(source) => Err(self.manifest_error(source)),
        }
    }

    /// After an unknown outcome: takes the manifest over from oneself and learns what is there. Memtables whose
    /// flush turns out to be in it are dropped.
    async fn reopen_manifest(&self, manifest: &mut Manifest) -> Result<(), Error> {
        let opener = self.shared.opener();
        match Manifest::open(&self.shared.context, self.id, opener).await {
            Ok(mut reopened) => {
                reopened.keep_holds(self.version.holds());
                *manifest = reopened;
            }
            Err(tessera_manifest::error::Error::Dropped { .. }) => {
                self.forget_rows(manifest).await?;
                return Err(Error::RegionNotFound { region: self.id });
            }
            Err(source) => return Err(self.manifest_error(source)),
        }
        let state = manifest.state().clone();
        let wal = self.shared.parts.wal.id();
        let landed = state.wals().iter().find(|named| named.id == wal).map(|named| named.flushed);
        let in_ssts: Vec<Arc<Frozen>> =
            self.pin().frozen.iter().filter(|frozen| landed.is_some_and(|landed| frozen.position <= landed)).cloned().collect();
        self.version.update(|version| {
            version.state = state;
            version.frozen.retain(|frozen| !in_ssts.iter().any(|other| Arc::ptr_eq(other, frozen)));
        });
        for frozen in in_ssts {
            self.shared.parts.wal.release(self.id, frozen.position);
        }
        Ok(())
    }

    /// Flushes and ends the region; later writes are refused. Its epoch is sealed, so that the next opener knows
    /// that no log holds anything of it.
    pub(crate) async fn close(&self) -> Result<(), Error> {
        self.shut(GateState::Closed).await;
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
    pub(crate) async fn drop_all(&self) -> Result<(), Error> {
        self.shut(GateState::Closed).await;
        let mut manifest = self.manifest.lock().await;
        if !manifest.is_good() {
            self.reopen_manifest(&mut manifest).await?;
        }
        if !manifest.state().is_dropped() {
            self.commit(&mut manifest, vec![Action::Drop(DropAction {})]).await?;
        }
        self.forget_rows(&manifest).await
    }

    /// After the drop is known to be in the manifest.
    async fn forget_rows(&self, manifest: &Manifest) -> Result<(), Error> {
        self.shut(GateState::Closed).await;
        self.settle_share(0);
        self.version.update(|version| {
            version.state = manifest.state().clone();
            version.frozen.clear();
            version.active = Arc::new(Memtable::new(Arc::clone(&version.meta.schema)));
        });
        self.shared.parts.wal.forget(self.id);
        Ok(())
    }

    fn rows_error(&self, source: sst::Error) -> Error {
        Error::rows(self.id, source)
    }

    fn manifest_error(&self, source: tessera_manifest::error::Error) -> Error {
        Error::manifest(self.id, source)
    }
}
