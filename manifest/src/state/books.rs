//! The references of a region: visible, ended, doomed; with their sums and their hash.
//!
//! Invariants:
//! - A file is in at most one of the three lists.
//! - The hash, the totals and the count of scopes are those of the visible references.
//! - All maps share structure with the books they came from: a change of k files costs O(k log n).

use std::sync::Arc;

use imbl::OrdMap;

use super::block::Block;
use super::{Files, Totals, Violation};
use crate::file::{Doomed, FileRef, Listed, Removed, Scope, StagedFile};
use crate::id::{FileKey, Slot};
use crate::rule::RuleVersion;
use crate::set_hash::{MemberHash, SetHash};

/// See the module.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Books {
    pub(super) visible: Files,
    pub(super) removed: OrdMap<FileKey, Removed>,
    pub(super) doomed: OrdMap<FileKey, Doomed>,
    /// The scopes of visible references that are not simply all rows, with how many have each.
    pub(super) scopes: OrdMap<RuleVersion, (Scope, u64)>,
    pub(super) totals: Totals,
    pub(super) hash: SetHash,
}

impl Books {
    /// Books with these lists, each ascending by key.
    pub(super) fn from_lists(
        visible: Vec<Listed>,
        removed: impl IntoIterator<Item = (FileKey, Removed)>,
        doomed: impl IntoIterator<Item = (FileKey, Doomed)>,
    ) -> Self {
        let mut books = Self { removed: removed.into_iter().collect(), doomed: doomed.into_iter().collect(), ..Self::default() };
        for listed in &visible {
            books.count(&listed.file);
        }
        books.visible = visible.into_iter().collect();
        books
    }

    /// Makes the references of blocks visible, of books that have no visible ones.
    pub(super) fn with_blocks(mut self, blocks: Vec<Block>) -> Self {
        for block in &blocks {
            for row in 0..block.len() {
                let (rows, bytes, hash, scope) = block.counted(row);
                self.hash = self.hash.with(hash);
                self.totals.rows = self.totals.rows.wrapping_add(rows);
                self.totals.bytes = self.totals.bytes.wrapping_add(bytes);
                if !scope.is_all() {
                    self.scopes.entry(scope.version()).or_insert_with(|| (scope.clone(), 0)).1 += 1;
                }
            }
        }
        self.visible = Files::from_blocks(blocks);
        self
    }

    /// Whether the file is listed in any way.
    pub(super) fn knows(&self, key: &FileKey) -> bool {
        self.visible.contains_key(key) || self.removed.contains_key(key) || self.doomed.contains_key(key)
    }

    /// Makes a reference visible that is not.
    pub(super) fn list(&mut self, file: Arc<FileRef>, since: Slot) {
        self.count(&file);
        self.visible.insert(Listed { file, since });
    }

    /// Makes references visible that are not, ascending by key, of books that have no visible ones.
    pub(super) fn list_all(&mut self, references: &[Listed]) {
        for listed in references {
            self.count(&listed.file);
        }
        self.visible = Files::from_sorted(references);
    }

    /// Takes files, ascending by key, out of the removed ones; those that were among these, ascending, each with the version
    /// that listed it first.
    pub(super) fn take_removed(&mut self, files: &[&StagedFile]) -> Vec<(FileKey, Slot)> {
        if self.removed.len() / 4 > files.len() {
            return files.iter().filter_map(|file| Some((file.key(), self.removed.remove(&file.key())?.since))).collect();
        }
        let mut wanted = files.iter().map(|file| file.key()).peekable();
        let mut taken = Vec::new();
        for (key, removed) in &self.removed {
            while wanted.next_if(|wanted| wanted < key).is_some() {}
            taken.extend(wanted.next_if_eq(key).map(|key| (key, removed.since)));
        }
        // Taking most of them one by one costs more than to begin anew with the rest.
        if self.removed.len() <= 2 * taken.len() {
            let mut gone = taken.iter().map(|(key, _)| key).peekable();
            let kept = self.removed.iter().filter(|(key, _)| gone.next_if_eq(key).is_none());
            self.removed = kept.map(|(key, removed)| (*key, removed.clone())).collect();
        } else {
            for (key, _) in &taken {
                self.removed.remove(key);
            }
        }
        taken
    }

    /// Ends a visible reference.
    pub(super) fn remove(&mut self, key: FileKey, by: Slot) -> Result<(), Violation> {
        let Listed { file, since } = self.visible.remove(&key).ok_or(Violation::FileNotListed { file: key })?;
        self.uncount(&file);
        self.removed.insert(key, Removed { file, since, by });
        Ok(())
    }

    /// Ends every visible reference.
    pub(super) fn remove_all(&mut self, by: Slot) {
        for (key, Listed { file, since }) in std::mem::take(&mut self.visible).iter() {
            self.removed.insert(key, Removed { file, since, by });
        }
        self.scopes = OrdMap::new();
        self.totals = Totals::default();
        self.hash = SetHash::EMPTY;
    }

    fn count(&mut self, file: &FileRef) {
        self.hash = self.hash.with(MemberHash::of(file));
        self.totals.rows = self.totals.rows.wrapping_add(file.meta.rows);
        self.totals.bytes = self.totals.bytes.wrapping_add(file.meta.bytes);
        if !file.scope.is_all() {
            self.scopes.entry(file.scope.version()).or_insert_with(|| (file.scope.clone(), 0)).1 += 1;
        }
    }

    fn uncount(&mut self, file: &FileRef) {
        self.hash = self.hash.without(MemberHash::of(file));
        self.totals.rows = self.totals.rows.wrapping_sub(file.meta.rows);
        self.totals.bytes = self.totals.bytes.wrapping_sub(file.meta.bytes);
        if file.scope.is_all() {
            return;
        }
        let version = file.scope.version();
        match self.scopes.get_mut(&version) {
            Some((_, count)) if *count > 1 => *count -= 1,
            _ => drop(self.scopes.remove(&version)),
        }
    }
}
