//! Edits of a region's file set from outside: applied once, applied again without effect, taken back.
//!
//! Invariants:
//! - An edit says for which file set it is, by its hash, and which file set it makes. So one that was applied is known when
//!   it comes again, and one for another file set is refused; nobody has to remember an answer.
//! - The manifest's state machine has the last word: added files are born in the region's present epoch, restored ones
//!   are such that no collector can have taken them.

use std::sync::Arc;

use tessera_manifest::action::{Action, Edit};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::{FileKey, Generation, Slot};
use tessera_manifest::log::{load_at, plan_rollback};
use tessera_manifest::set_hash::{MemberHash, SetHash};
use tessera_manifest::state::RegionState;

use super::Region;
use crate::error::Error;

/// A change of a region's visible files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionEdit {
    /// The generation that it was planned in.
    pub generation: Generation,
    /// The hash of the file set that it is for.
    pub before: SetHash,
    /// References that come in.
    pub add: Vec<Arc<FileRef>>,
    /// References that go; nothing is deleted.
    pub remove: Vec<Arc<FileRef>>,
    /// References that went and come back, as they were.
    pub restore: Vec<Arc<FileRef>>,
}

/// What came of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edited {
    /// The region's version after it.
    pub version: Slot,
    /// Whether it was applied by this call; else it had been before.
    pub applied: bool,
}

impl RegionEdit {
    /// The hash of the file set that it makes.
    #[must_use]
    pub fn after(&self) -> SetHash {
        let coming = self.add.iter().chain(&self.restore).fold(self.before, |hash, file| hash.with(MemberHash::of(file)));
        self.remove.iter().fold(coming, |hash, file| hash.without(MemberHash::of(file)))
    }

    /// The edit that takes this one back.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let remove = self.add.iter().chain(&self.restore).cloned().collect();
        Self { generation: self.generation, before: self.after(), add: Vec::new(), remove, restore: self.remove.clone() }
    }

    fn action(&self) -> Edit {
        let keys = |files: &[Arc<FileRef>]| files.iter().map(|file| file.key).collect::<Vec<FileKey>>();
        Edit { add: self.add.clone(), remove: keys(&self.remove), restore: keys(&self.restore), ..Edit::new(self.generation) }
    }
}

impl Region {
    /// Applies an edit, unless it is applied already.
    ///
    /// Idempotent. Not cancel safe: apply it again.
    ///
    /// # Errors
    /// [`Error::EditConflict`] when the region has neither the file set that it is for nor the one that it makes;
    /// [`Error::Staged`] while a repartition is under way; the manifest's, with what its state machine refuses.
    pub async fn apply_edit(&self, edit: &RegionEdit) -> Result<Edited, Error> {
        let _no_compaction = self.pause_compaction().await;
        let mut manifest = self.unstaged_manifest().await?;
        let (found, mut applied) = (manifest.state().set_hash(), false);
        if found != edit.after() {
            if found != edit.before {
                return Err(Error::EditConflict { region: self.id, expected: edit.before, found });
            }
            let state = self.commit(&mut manifest, vec![Action::Edit(edit.action())]).await?;
            self.version.update(|version| version.state = state);
            applied = true;
        }
        let version = manifest.state().version().ok_or(Error::RegionNotFound { region: self.id })?;
        Ok(Edited { version, applied })
    }

    /// Takes an edit back, unless it is not applied.
    ///
    /// # Errors
    /// As [`apply_edit`](Self::apply_edit); also when files that it removed were collected since.
    pub async fn roll_back_edit(&self, edit: &RegionEdit) -> Result<Edited, Error> {
        self.apply_edit(&edit.inverse()).await
    }

    /// The edit after which readers see the files that they saw at `version`. Rows that are not flushed stay.
    ///
    /// # Errors
    /// [`Error::Rollback`] with every reason against it; the manifest's, if the version cannot be read.
    pub async fn plan_rollback(&self, version: Slot) -> Result<RegionEdit, Error> {
        let then = load_at(&self.shared.context, self.id, version).await.map_err(|source| self.manifest_error(source))?;
        let now = self.pin();
        let plan = plan_rollback(&now.state, &then).map_err(|source| Error::Rollback { region: self.id, source })?;
        let removed = |state: &RegionState, key: &FileKey| state.removed().get(key).map(|removed| Arc::clone(&removed.file));
        Ok(RegionEdit {
            generation: plan.generation,
            before: now.state.set_hash(),
            add: Vec::new(),
            remove: plan.remove.iter().filter_map(|key| now.state.file(*key)).collect(),
            restore: plan.restore.iter().filter_map(|key| removed(&now.state, key)).collect(),
        })
    }
}
