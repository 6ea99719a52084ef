//! The visible references of a region, by key.
//!
//! ```text
//!   blocks (from a checkpoint, immutable, packed)   −   gone   +   added (B-tree)
//! ```
//!
//! Invariants:
//! - A value: a copy is a handful of pointers, and a change of k files costs O(k log n), whatever n.
//! - Opening costs no allocation per file: blocks are as the checkpoint has them.
//! - A block of which every file is gone is let go.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::block::Block;
use crate::file::{FileRef, Listed};
use crate::id::FileKey;
use crate::limits;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Files {
    /// By first key, each with how many of its files are gone.
    blocks: OrdMap<FileKey, (Arc<Block>, usize)>,
    gone: OrdSet<FileKey>,
    added: OrdMap<FileKey, Listed>,
    len: usize,
}

impl Files {
    /// The files of these blocks, of which each is above the one before it.
    pub(super) fn from_blocks(blocks: Vec<Block>) -> Self {
        let blocks = blocks.into_iter().filter(|block| block.len() > 0);
        let blocks: OrdMap<_, _> = blocks.map(|block| (block.key(0), (Arc::new(block), 0))).collect();
        let len = blocks.values().map(|(block, _)| block.len()).sum();
        Self { blocks, len, ..Self::default() }
    }

    /// These references, ascending by key without duplicates, packed as a checkpoint would have them.
    pub(super) fn from_sorted(references: &[Listed]) -> Self {
        Self::from_blocks(references.chunks(limits::SEGMENT_ROWS_MAX).map(Block::pack).collect())
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The reference to a file.
    #[must_use]
    pub fn get(&self, key: &FileKey) -> Option<Listed> {
        if let Some(listed) = self.added.get(key) {
            return Some(listed.clone());
        }
        let (_, block, row) = self.in_blocks(key)?;
        Some(block.listed(row))
    }

    /// Whether a file is visible.
    #[must_use]
    pub fn contains_key(&self, key: &FileKey) -> bool {
        self.added.contains_key(key) || self.in_blocks(key).is_some()
    }

    /// All references, ascending by key.
    pub fn iter(&self) -> impl Iterator<Item = (FileKey, Listed)> + '_ {
        self.range(None, None)
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl Iterator<Item = FileKey> + '_ {
        self.places(None, None).map(|(key, _)| key)
    }

    /// All references, ascending by key.
    pub fn values(&self) -> impl Iterator<Item = Listed> + '_ {
        self.iter().map(|(_, listed)| listed)
    }

    /// The references whose files have rows within `time`, both ends inclusive, ascending by key.
    pub fn in_time(&self, time: (i64, i64)) -> impl Iterator<Item = Arc<FileRef>> + '_ {
        let overlaps = move |range: (i64, i64)| range.0 <= time.1 && time.0 <= range.1;
        self.places(None, None).filter(move |(_, place)| overlaps(place.time_range())).map(|(_, place)| place.listed().file)
    }

    /// The references from `from` (included) up to `to` (not included), ascending by key.
    pub(super) fn range(&self, from: Option<FileKey>, to: Option<FileKey>) -> impl Iterator<Item = (FileKey, Listed)> + '_ {
        self.places(from, to).map(|(key, place)| (key, place.listed()))
    }

    /// Makes a file visible that is not.
    pub(super) fn insert(&mut self, listed: Listed) {
        self.len += 1;
        self.added.insert(listed.file.key, listed);
    }

    /// Takes a file out.
    pub(super) fn remove(&mut self, key: &FileKey) -> Option<Listed> {
        if let Some(listed) = self.added.remove(key) {
            self.len -= 1;
            return Some(listed);
        }
        let (first, block, row) = self.in_blocks(key)?;
        let (listed, last) = (block.listed(row), block.key(block.len() - 1));
        self.len -= 1;
        self.gone.insert(*key);
        let whole = self.blocks.get_mut(&first).is_some_and(|(block, gone)| {
            *gone += 1;
            *gone == block.len()
        });
        if whole {
            self.blocks.remove(&first);
            let keys: Vec<FileKey> = self.gone.range(first..=last).copied().collect();
            for key in keys {
                self.gone.remove(&key);
            }
        }
        Some(listed)
    }

    /// Where a file is in the blocks, unless it is gone.
    fn in_blocks(&self, key: &FileKey) -> Option<(FileKey, &Block, usize)> {
        let (first, (block, gone)) = self.blocks.get_prev(key)?;
        let row = block.position(key)?;
        (*gone == 0 || !self.gone.contains(key)).then_some((*first, block.as_ref(), row))
    }

    fn places(&self, from: Option<FileKey>, to: Option<FileKey>) -> impl Iterator<Item = (FileKey, Place<'_>)> {
        let below = move |key: &FileKey| to.is_none_or(|to| *key < to);
        let start = from.and_then(|from| self.blocks.get_prev(&from)).map(|(first, _)| *first).or(from);
        let blocks = self.blocks.range((start.map_or(Bound::Unbounded, Bound::Included), Bound::Unbounded));
        let rows = blocks.flat_map(move |(_, (block, gone))| {
            let begin = from.map_or(0, |from| block.lower_bound(&from));
            (begin..block.len()).map(move |row| (block.key(row), block.as_ref(), row, *gone > 0))
        });
        let kept = rows.take_while(move |(key, ..)| below(key)).filter(|(key, _, _, some_gone)| !some_gone || !self.gone.contains(key));
        let bounds = (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
        let empty = from.is_some_and(|from| to.is_some_and(|to| from >= to));
        let added = (!empty).then(|| self.added.range(bounds)).into_iter().flatten();
        Merge {
            left: kept.map(|(key, block, row, _)| (key, Place::Block(block, row))).peekable(),
            right: added.map(|(key, listed)| (*key, Place::Added(listed))).peekable(),
        }
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl FromIterator<Listed> for Files {
    fn from_iter<I: IntoIterator<Item = Listed>>(files: I) -> Self {
        let added: OrdMap<FileKey, Listed> = files.into_iter().map(|listed| (listed.file.key, listed)).collect();
        Self { len: added.len(), added, ..Self::default() }
    }
}

/// Where a reference is.
enum Place<'a> {
    Block(&'a Block, usize),
    Added(&'a Listed),
}

impl Place<'_> {
    fn listed(&self) -> Listed {
        match self {
            Self::Block(block, row) => block.listed(*row),
            Self::Added(listed) => Listed::clone(listed),
        }
    }

    fn time_range(&self) -> (i64, i64) {
        match self {
            Self::Block(block, row) => block.time_range(*row),
            Self::Added(listed) => listed.file.meta.time_range,
        }
    }
}

/// Two ascending iterators as one.
struct Merge<L: Iterator, R: Iterator> {
    left: std::iter::Peekable<L>,
    right: std::iter::Peekable<R>,
}

impl<T, L: Iterator<Item = (FileKey, T)>, R: Iterator<Item = (FileKey, T)>> Iterator for Merge<L, R> {
    type Item = (FileKey, T);

    fn next(&mut self) -> Option<Self::Item> {
        match (self.left.peek(), self.right.peek()) {
            (Some((left, _)), Some((right, _))) if right < left => self.right.next(),
            (None, _) => self.right.next(),
            _ => self.left.next(),
        }
    }
}

#[cfg(test)]
mod tests;
