//! Which references changed since a version, so that a checkpoint writes only the segments that hold these.

use std::collections::BTreeMap;

use crate::action::Action;
use crate::id::{FileKey, Slot};

/// What an action changes of the references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// These files, and no other.
    Files(Vec<FileKey>),
    /// Any.
    All,
}

/// What `action` changes of the references.
#[must_use]
pub fn touched(action: &Action) -> Touched {
    match action {
        Action::Edit(edit) => {
            let added = edit.add.iter().map(|file| file.key);
            Touched::Files(added.chain(edit.remove.iter().copied()).chain(edit.restore.iter().copied()).collect())
        }
        Action::StagedEdit(edit) => Touched::Files(edit.add.iter().map(|file| file.key).collect()),
        Action::Doom(doom) => Touched::Files(doom.files.iter().chain(&doom.forget).copied().collect()),
        Action::Truncate(_) | Action::RemapStaged(_) | Action::Resolve(_) | Action::Retire(_) | Action::Drop(_) => Touched::All,
        Action::Open(_) | Action::Seal(_) | Action::Change(_) | Action::Stage(_) => Touched::Files(Vec::new()),
        Action::Checkpointed(_) | Action::Floor(_) | Action::Pin(_) | Action::Unpin(_) => Touched::Files(Vec::new()),
    }
}

/// The files that changed after some version, each with its last change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    files: BTreeMap<FileKey, Slot>,
    all: Option<Slot>,
}

impl Dirty {
    /// Takes in the record in `slot`.
    pub fn record(&mut self, slot: Slot, actions: &[Action]) {
        for action in actions {
            match touched(action) {
                Touched::Files(files) => self.files.extend(files.into_iter().map(|file| (file, slot))),
                Touched::All => self.all = Some(slot),
            }
        }
    }

    /// Forgets changes up to and including `version`, which a checkpoint holds.
    pub fn forget(&mut self, version: Slot) {
        self.files.retain(|_, changed| *changed > version);
        self.all = self.all.filter(|changed| *changed > version);
    }

    /// Whether any file may have changed.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.all.is_some()
    }

    /// The changed files, ascending; meaningless if [`is_all`](Self::is_all).
    pub fn files(&self) -> impl Iterator<Item = FileKey> + '_ {
        self.files.keys().copied()
    }
}
