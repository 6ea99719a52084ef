//! Which segments of a checkpoint are written anew.
//!
//! Invariants:
//! - The pieces of a plan cover all keys, in order, without overlap: a piece goes up to where the next begins, the
//!   first from the lowest key.
//! - A segment without a changed file is kept, unless it is small and its neighbour is written anyway.

use super::dirty::Dirty;
use super::root::SegmentEntry;
use crate::id::FileKey;

/// A stretch of keys in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The segment stays as it is.
    Keep(SegmentEntry),
    /// The references from `from` (the lowest key, if `None`) up to `to` (the highest) are written to new segments.
    Write {
        /// First key.
        from: Option<FileKey>,
        /// First key that is not in it.
        to: Option<FileKey>,
    },
}

/// The plan for a checkpoint after one with these segments, since which `dirty` changed. `small` is the number of
/// rows up to which a segment is written together with its neighbour.
#[must_use]
pub fn plan(before: &[SegmentEntry], dirty: &Dirty, small: u64) -> Vec<Piece> {
    if dirty.is_all() || before.is_empty() {
        return vec![Piece::Write { from: None, to: None }];
    }
    let mut changed = vec![false; before.len()];
    for file in dirty.files() {
        // What is below the first segment belongs to it.
        let index = before.partition_point(|segment| segment.first <= file).saturating_sub(1);
        changed[index] = true;
    }
    // A small segment joins a neighbour that is written anyway, so that many removals do not leave many crumbs.
    let joins = |index: usize| {
        let beside = index.checked_sub(1).is_some_and(|left| changed[left]) || changed.get(index + 1).is_some_and(|right| *right);
        before[index].segment.rows < small && beside
    };
    let write: Vec<bool> = (0..before.len()).map(|index| changed[index] || joins(index)).collect();
    let mut pieces: Vec<Piece> = Vec::new();
    for (index, entry) in before.iter().enumerate() {
        let from = (index > 0).then_some(entry.first);
        let to = before.get(index + 1).map(|next| next.first);
        match (write[index], pieces.last_mut()) {
            (false, _) => pieces.push(Piece::Keep(entry.clone())),
            (true, Some(Piece::Write { to: end, .. })) => *end = to,
            (true, _) => pieces.push(Piece::Write { from, to }),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ulid::Ulid;

    use super::*;
    use crate::action::{Action, Edit, SegmentRef};
    use crate::id::{Epoch, FileId, Generation, RegionId, RegionNumber, Slot, TableId};

    fn key(number: u128) -> FileKey {
        FileKey { origin: RegionId::new(TableId(1024), RegionNumber(0)), file: FileId::new(Epoch(1), Ulid(number)) }
    }

    fn entry(first: u128, rows: u64) -> SegmentEntry {
        SegmentEntry { first: key(first), segment: SegmentRef { file: key(first).file, crc32: 0, bytes: 1, rows } }
    }

    fn dirty(files: &[u128]) -> Dirty {
        let remove = files.iter().map(|number| key(*number)).collect();
        let mut dirty = Dirty::default();
        dirty.record(Slot::new(Epoch(1), 1), &[Action::Edit(Edit { remove, ..Edit::new(Generation::FIRST) })]);
        dirty
    }

    #[test]
    fn only_segments_with_changes_are_written() {
        let before = [entry(10, 100), entry(20, 100), entry(30, 100)];
        let (keep, write) = (Piece::Keep, |from: Option<u128>, to: Option<u128>| Piece::Write { from: from.map(key), to: to.map(key) });
        assert_eq!(plan(&before, &dirty(&[25]), 10), [keep(entry(10, 100)), write(Some(20), Some(30)), keep(entry(30, 100))]);
        assert_eq!(plan(&before, &dirty(&[5]), 10), [write(None, Some(20)), keep(entry(20, 100)), keep(entry(30, 100))]);
        assert_eq!(plan(&before, &dirty(&[31, 99]), 10), [keep(entry(10, 100)), keep(entry(20, 100)), write(Some(30), None)]);
        assert_eq!(plan(&before, &dirty(&[]), 10), before.clone().map(keep));
        assert_eq!(plan(&before, &dirty(&[20, 30]), 10), [keep(entry(10, 100)), write(Some(20), None)]);
    }

    #[test]
    fn a_small_segment_is_written_with_its_neighbour() {
        let before = [entry(10, 100), entry(20, 5), entry(30, 100)];
        assert_eq!(plan(&before, &dirty(&[30]), 10), [Piece::Keep(entry(10, 100)), Piece::Write { from: Some(key(20)), to: None }]);
    }

    proptest! {
        #[test]
        fn pieces_cover_all_keys_and_every_change_is_in_one_that_is_written(
            firsts in proptest::collection::btree_set(0_u128..50, 0..8),
            rows in proptest::collection::vec(0_u64..20, 8),
            changes in proptest::collection::vec(0_u128..60, 0..6),
        ) {
            let before: Vec<SegmentEntry> = firsts.iter().zip(rows).map(|(first, rows)| entry(*first, rows)).collect();
            let pieces = plan(&before, &dirty(&changes), 10);
            for (index, piece) in pieces.iter().enumerate() {
                let start = |piece: &Piece| match piece {
                    Piece::Keep(kept) => Some(kept.first),
                    Piece::Write { from, .. } => *from,
                };
                if let Piece::Write { to, .. } = piece {
                    prop_assert_eq!(*to, pieces.get(index + 1).and_then(start));
                }
                prop_assert!(index > 0 || matches!(piece, Piece::Keep(_)) || start(piece).is_none());
            }
            for change in changes.into_iter().map(key) {
                let written = pieces.iter().any(|piece| match piece {
                    Piece::Keep(_) => false,
                    Piece::Write { from, to } => from.is_none_or(|from| from <= change) && to.is_none_or(|to| change < to),
                });
                prop_assert!(written);
            }
        }
    }
}
