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
use crate::file::{ColumnStats, FileMeta, FileRef, Listed, Scope};
use crate::id::{FileKey, Sequence};
use crate::limits;
use crate::rule::Expr;

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

    /// All references where they lie, ascending by key.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.places(None, None).map(|(_, entry)| entry)
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
        self.places(None, None).filter(move |(_, entry)| overlaps(entry.numbers().time_range)).map(|(_, entry)| entry.listed().file)
    }

    /// The references from `from` (included) up to `to` (not included), ascending by key.
    pub(super) fn range(&self, from: Option<FileKey>, to: Option<FileKey>) -> impl Iterator<Item = (FileKey, Listed)> + '_ {
        self.places(from, to).map(|(key, entry)| (key, entry.listed()))
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

    fn places(&self, from: Option<FileKey>, to: Option<FileKey>) -> impl Iterator<Item = (FileKey, Entry<'_>)> {
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
            left: kept.map(|(key, block, row, _)| (key, Entry(Place::Block(block, row)))).peekable(),
            right: added.map(|(key, listed)| (*key, Entry(Place::Added(listed)))).peekable(),
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

/// A visible reference where it lies: what is asked of it is read there, without a copy of all of it.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a>(Place<'a>);

#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    Block(&'a Block, usize),
    Added(&'a Listed),
}

/// What a file is in numbers; see [`FileMeta`](crate::file::FileMeta).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbers {
    /// Least and greatest time, both inclusive.
    pub time_range: (i64, i64),
    /// Rows, deletes included.
    pub rows: u64,
    /// How many of the rows are deletes.
    pub deletes: u64,
    /// Size of the object.
    pub bytes: u64,
    /// Least and greatest row sequence, both inclusive.
    pub sequences: (Sequence, Sequence),
    /// 0 for a flush; compaction raises it.
    pub level: u8,
}

impl<'a> Entry<'a> {
    /// Which file.
    #[must_use]
    pub fn key(&self) -> FileKey {
        match self.0 {
            Place::Block(block, row) => block.key(row),
            Place::Added(listed) => listed.file.key,
        }
    }

    /// The part of its rows that the reference stands for.
    #[must_use]
    pub fn scope(&self) -> &'a Scope {
        match self.0 {
            Place::Block(block, row) => block.scope(row),
            Place::Added(listed) => &listed.file.scope,
        }
    }

    /// The region rule under which the file was written.
    #[must_use]
    pub fn rule(&self) -> &'a Arc<Expr> {
        match self.0 {
            Place::Block(block, row) => block.rule(row),
            Place::Added(listed) => &listed.file.meta.rule,
        }
    }

    /// Statistics of each partition column.
    #[must_use]
    pub fn stats(&self) -> &'a Arc<[ColumnStats]> {
        match self.0 {
            Place::Block(block, row) => block.stats(row),
            Place::Added(listed) => &listed.file.meta.stats,
        }
    }

    /// Size, rows and the like.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        match self.0 {
            Place::Block(block, row) => block.numbers(row),
            Place::Added(listed) => {
                let FileMeta { time_range, rows, deletes, bytes, sequences, level, .. } = listed.file.meta;
                Numbers { time_range, rows, deletes, bytes, sequences, level }
            }
        }
    }

    /// The reference itself.
    #[must_use]
    pub fn listed(&self) -> Listed {
        match self.0 {
            Place::Block(block, row) => block.listed(row),
            Place::Added(listed) => listed.clone(),
        }
    }

    /// A reference to the same file that stands for another part of its rows.
    #[must_use]
    pub fn with_scope(&self, scope: &Scope) -> Arc<FileRef> {
        match self.0 {
            Place::Block(block, row) => Arc::new(block.file(row, scope)),
            Place::Added(listed) if listed.file.scope == *scope => Arc::clone(&listed.file),
            Place::Added(Listed { file, .. }) => Arc::new(FileRef { key: file.key, scope: scope.clone(), meta: file.meta.clone() }),
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
