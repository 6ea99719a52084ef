//! The one way from a region into its manifest.
//!
//! Invariants:
//! - The manifest lock is held for a commit and what decides it, never while rows are read or written.
//! - Files are deleted only when it is certain that no record names them: a commit that was not tried, that was
//!   refused before any request, or that met another writer's record.
//! - After an unknown outcome nothing is dropped, released or deleted; the manifest is opened again, which ends the
//!   epoch, and says what is in it.

use tessera_manifest::action::Action;
use tessera_manifest::id::{Epoch, FileKey};
use tessera_manifest::log::{Manifest, Outcome};
use tessera_manifest::state::RegionState;
use tokio::sync::MutexGuard;

use super::{GateState, Region};
use crate::error::Error;
use crate::sst;

/// How a commit failed.
#[derive(Debug)]
struct Failed {
    error: Error,
    /// Whether it is certain that no record names what the commit would have added.
    certain: bool,
}

impl Region {
    /// The manifest, ready for a commit: opened again if an earlier commit was left in doubt.
    pub(super) async fn committer(&self) -> Result<MutexGuard<'_, Manifest>, Error> {
        if self.is_fenced().await {
            return Err(Error::Fenced { region: self.id });
        }
        let mut manifest = self.manifest.lock().await;
        self.settle(&mut manifest).await?;
        Ok(manifest)
    }

    /// Opens the manifest again if an earlier commit was left in doubt, and takes over what a commit changed whose caller
    /// went away before the version could follow.
    pub(super) async fn settle(&self, manifest: &mut Manifest) -> Result<(), Error> {
        if !manifest.is_good() {
            return self.reopen_manifest(manifest).await;
        }
        if manifest.state().version() != self.pin().state.version() {
            return self.adopt(manifest.state().clone()).await;
        }
        self.end_doubt().await;
        Ok(())
    }

    /// The epoch in which files are to be born.
    pub(super) async fn epoch(&self) -> Result<Epoch, Error> {
        Ok(self.committer().await?.epoch())
    }

    /// Commits and answers with the state, or says what became of the region.
    pub(super) async fn commit(&self, manifest: &mut Manifest, actions: Vec<Action>) -> Result<RegionState, Error> {
        self.try_commit(manifest, actions).await.map_err(|failed| failed.error)
    }

    /// The same, and on failure whether the files that the actions add are free.
    async fn try_commit(&self, manifest: &mut Manifest, actions: Vec<Action>) -> Result<RegionState, Failed> {
        use tessera_manifest::error::Error as ManifestError;
        match manifest.commit(actions).await {
            Ok(Outcome::Committed(state)) => Ok(*state),
            Ok(Outcome::Conflict { by, slot, orphans }) => {
                tracing::warn!(region = %self.id, %by, %slot, "another writer has taken the region over");
                self.shut(GateState::Fenced).await;
                orphans.delete(&self.shared.context).await;
                Err(Failed { error: Error::Fenced { region: self.id }, certain: true })
            }
            Ok(Outcome::Unknown(source)) => Err(Failed { error: self.manifest_error(source), certain: false }),
            Err(source) => {
                let certain = matches!(source, ManifestError::Rejected { .. });
                Err(Failed { error: self.manifest_error(source), certain })
            }
        }
    }

    /// Commits an edit that adds files of `begun`; when it fails, deletes those if no record names them for certain.
    /// They are in flight until the caller's version shows the state.
    pub(super) async fn commit_files(&self, manifest: &mut Manifest, edit: Action, begun: &[FileKey]) -> Result<RegionState, Error> {
        match self.try_commit(manifest, vec![edit]).await {
            Ok(state) => Ok(state),
            Err(failed) => {
                if failed.certain {
                    self.discard(begun.iter().copied()).await;
                }
                Err(failed.error)
            }
        }
    }

    /// Deletes files that are in no record for certain.
    pub(super) async fn discard(&self, files: impl IntoIterator<Item = FileKey>) {
        for file in files {
            self.shared.access.discard(file).await;
            self.in_flight.end([file]);
        }
    }

    /// After an unknown outcome: takes the manifest over from oneself and learns what is there. Memtables whose
    /// flush turns out to be in it are dropped. Whoever has taken the region over meanwhile keeps it.
    pub(super) async fn reopen_manifest(&self, manifest: &mut Manifest) -> Result<(), Error> {
        match manifest.reopen(self.shared.opener()).await {
            Ok(()) => {}
            Err(tessera_manifest::error::Error::Dropped { .. }) => {
                self.forget_rows(manifest).await?;
                return Err(Error::RegionNotFound { region: self.id });
            }
            Err(source @ tessera_manifest::error::Error::Fenced { .. }) => {
                tracing::warn!(region = %self.id, %source, "another writer has taken the region over");
                self.shut(GateState::Fenced).await;
                return Err(Error::Fenced { region: self.id });
            }
            Err(source) => return Err(self.manifest_error(source)),
        }
        let state = manifest.state().clone();
        self.adopt(state.clone()).await?;
        self.in_flight.clear();
        self.release_behind(&state);
        Ok(())
    }

    /// Whether another writer has taken the region over, as far as this one knows.
    pub(crate) async fn is_fenced(&self) -> bool {
        *self.gate.read().await == GateState::Fenced
    }

    /// Whether it has rows that are in no file.
    pub(crate) fn has_unflushed_rows(&self) -> bool {
        let version = self.pin();
        version.memtables().chain(version.staged_memtables()).any(|memtable| memtable.rows() > 0)
    }

    pub(super) fn rows_error(&self, source: sst::Error) -> Error {
        Error::rows(self.id, source)
    }

    pub(super) fn manifest_error(&self, source: tessera_manifest::error::Error) -> Error {
        Error::manifest(self.id, source)
    }
}
