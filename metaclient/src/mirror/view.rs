//! A range of the store as it was at one revision.

use imbl::OrdMap;

use crate::kv::{Change, Entry, Key, KeyRange, Revision};

/// The range at one revision. Cheap to clone; it never changes.
#[derive(Debug, Clone)]
pub struct View {
    entries: OrdMap<Key, Entry>,
    revision: Revision,
}

impl View {
    pub(super) fn of(entries: Vec<Entry>, revision: Revision) -> Self {
        Self { entries: entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect(), revision }
    }

    /// The revision: everything of the range up to it is here, and nothing after it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// What `key` held.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The entries of `range`, in byte order.
    pub fn range(&self, range: &KeyRange) -> impl Iterator<Item = &Entry> {
        let inside = |(key, _): &(&Key, &Entry)| range.contains(key);
        let empty = range.is_empty();
        self.entries.range(range.start.clone()..).take_while(move |item| !empty && inside(item)).map(|(_, entry)| entry)
    }

    /// How many entries there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes the changes of a transaction. What is known to be newer stays: pages of a snapshot may be ahead.
    pub(super) fn apply(&mut self, revision: Revision, changes: Vec<Change>) {
        for change in changes {
            let known = self.entries.get(change.key()).map(|entry| entry.mod_revision);
            if known.is_some_and(|known| known >= revision) {
                continue;
            }
            match change {
                Change::Put(entry) => self.entries.insert(entry.key.clone(), entry),
                Change::Delete { key } => self.entries.remove(&key),
            };
        }
        self.revision = self.revision.max(revision);
    }
}
