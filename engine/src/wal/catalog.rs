//! Which segment holds entries of which region, and where the entries of earlier openings are.
//!
//! Pure: no I/O. Invariants:
//! - A segment may go once every region in it has released its entries *and* all older segments may go, so the
//!   segments that are kept are always a row without holes, and a hole is always damage.
//! - The index costs 40 bytes for each unreleased entry of an earlier opening; entries of this opening are only
//!   counted per segment and region.

use std::collections::BTreeMap;

use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalPosition;

use super::meta::Lost;

/// Where the payload of an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Located {
    pub(super) position: WalPosition,
    pub(super) segment: u64,
    pub(super) offset: u32,
    pub(super) len: u32,
    pub(super) crc: u32,
}

#[derive(Debug, Default)]
struct Segment {
    /// The last position of each region that has unreleased entries here.
    regions: BTreeMap<RegionId, WalPosition>,
}

/// What is in the segments.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    segments: BTreeMap<u64, Segment>,
    entries: BTreeMap<RegionId, Vec<Located>>,
    lost: Vec<Lost>,
    last: Option<WalPosition>,
    /// The segment that is being written.
    active: Option<u64>,
}

impl Catalog {
    /// Nothing but what was lost earlier.
    pub(super) fn new(lost: Vec<Lost>) -> Self {
        Self { lost, ..Self::default() }
    }

    /// A segment of an earlier opening.
    pub(super) fn add_segment(&mut self, number: u64) {
        self.segments.entry(number).or_default();
    }

    /// A segment that cannot be read at all.
    pub(super) fn add_unreadable(&mut self, number: u64, lost: Lost) {
        self.segments.entry(number).or_default();
        self.lost.push(lost);
    }

    /// An entry of an earlier opening; called in order of position.
    pub(super) fn add_entry(&mut self, region: RegionId, located: Located) {
        self.segments.entry(located.segment).or_default().regions.insert(region, located.position);
        self.entries.entry(region).or_default().push(located);
        self.last = Some(located.position);
    }

    /// A stretch that cannot be read.
    pub(super) fn add_lost(&mut self, lost: Lost) {
        self.lost.push(lost);
    }

    /// What cannot be read and may concern any region.
    pub(super) fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// The last entry that recovery saw.
    pub(super) fn last_position(&self) -> Option<WalPosition> {
        self.last
    }

    /// Begins to write segment `number`.
    pub(super) fn activate(&mut self, number: u64) {
        self.segments.entry(number).or_default();
        self.active = Some(number);
    }

    /// An entry of this opening is about to be written into the active segment.
    pub(super) fn wrote(&mut self, region: RegionId, position: WalPosition) {
        if let Some(segment) = self.active.and_then(|number| self.segments.get_mut(&number)) {
            segment.regions.insert(region, position);
        }
    }

    /// The entries of `region` after `after`, of earlier openings.
    pub(super) fn entries_after(&self, region: RegionId, after: WalPosition) -> Vec<Located> {
        let all = self.entries.get(&region).map_or(&[][..], Vec::as_slice);
        all[all.partition_point(|e| e.position <= after)..].to_vec()
    }

    /// Regions with unreleased entries, each with its last position.
    pub(super) fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        let mut last = BTreeMap::new();
        for segment in self.segments.values() {
            last.extend(segment.regions.iter().map(|(r, p)| (*r, *p)));
        }
        last.into_iter().collect()
    }

    /// Forgets the entries of `region` up to `up_to`.
    pub(super) fn release(&mut self, region: RegionId, up_to: WalPosition) {
        for segment in self.segments.values_mut() {
            if segment.regions.get(&region).is_some_and(|last| *last <= up_to) {
                segment.regions.remove(&region);
            }
        }
        if let Some(entries) = self.entries.get_mut(&region) {
            entries.drain(..entries.partition_point(|e| e.position <= up_to));
            if entries.is_empty() {
                self.entries.remove(&region);
            } else if entries.capacity() > 2 * entries.len() {
                entries.shrink_to_fit();
            }
        }
    }

    /// Takes out the oldest segments that nobody needs.
    pub(super) fn take_released(&mut self) -> Vec<u64> {
        let mut released = Vec::new();
        while let Some(first) = self.segments.first_entry() {
            if Some(*first.key()) == self.active || !first.get().regions.is_empty() {
                break;
            }
            released.push(first.remove_entry().0);
        }
        released
    }

    /// Whether [`take_released`](Self::take_released) would take any.
    pub(super) fn has_released(&self) -> bool {
        self.segments.first_key_value().is_some_and(|(number, s)| Some(*number) != self.active && s.regions.is_empty())
    }

    /// The oldest segment that is kept, or the one after the newest.
    pub(super) fn kept_from(&self) -> Option<u64> {
        self.segments.keys().next().copied()
    }

    /// Segments that are kept.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The region whose release lets the oldest segment go, with its last position there. When several do, the
    /// one with the oldest last entry.
    pub(super) fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        let segment = self.segments.values().find(|s| !s.regions.is_empty())?;
        segment.regions.iter().map(|(r, p)| (*r, *p)).min_by_key(|(_, p)| *p)
    }
}

#[cfg(test)]
mod tests {
    use tessera_manifest::id::{Epoch, RegionNumber, TableId};

    use super::*;

    fn region(number: u32) -> RegionId {
        RegionId::new(TableId(1024), RegionNumber(number))
    }

    fn at(entry: u64) -> WalPosition {
        WalPosition { epoch: Epoch(1), entry }
    }

    #[test]
    fn segments_go_oldest_first_and_never_the_active_one() {
        let mut catalog = Catalog::default();
        catalog.activate(1);
        catalog.wrote(region(0), at(1));
        catalog.activate(2);
        catalog.wrote(region(1), at(2));
        catalog.activate(3);
        catalog.release(region(1), at(2));
        assert_eq!(catalog.take_released(), Vec::<u64>::new(), "segment 1 still pins");
        assert_eq!(catalog.oldest_needed(), Some((region(0), at(1))));
        catalog.release(region(0), at(1));
        assert!(catalog.has_released());
        assert_eq!(catalog.take_released(), [1, 2]);
        assert_eq!((catalog.kept_from(), catalog.oldest_needed()), (Some(3), None));
    }

    #[test]
    fn entries_are_found_after_a_position_and_freed_by_release() {
        let mut catalog = Catalog::default();
        for entry in 1..=5 {
            catalog.add_entry(region(0), Located { position: at(entry), segment: 1, offset: 0, len: 0, crc: 0 });
        }
        assert_eq!(catalog.entries_after(region(0), at(3)).len(), 2);
        assert_eq!(catalog.entries_after(region(1), WalPosition::START), []);
        catalog.release(region(0), at(4));
        assert_eq!(catalog.entries_after(region(0), WalPosition::START).len(), 1);
        assert_eq!(catalog.regions(), [(region(0), at(5))]);
    }
}
