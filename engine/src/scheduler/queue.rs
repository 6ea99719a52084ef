//! Who comes next for one kind of work. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tessera_manifest::id::RegionId;

/// Regions that want work of one kind, that are at it, and that rest.
#[derive(Debug)]
pub(super) struct Queue {
    slots: usize,
    /// In order of arrival, each once.
    waiting: VecDeque<RegionId>,
    /// The same as a set.
    wanted: BTreeSet<RegionId>,
    running: BTreeSet<RegionId>,
    /// Failures in a row.
    failures: BTreeMap<RegionId, u32>,
    resting: BTreeSet<RegionId>,
}

/// How a piece of work ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// There is nothing more to do for now.
    Done,
    /// There may be more to do.
    More,
    /// It failed; how often in a row, this time included, is answered.
    Failed,
}

impl Queue {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            slots,
            waiting: VecDeque::new(),
            wanted: BTreeSet::new(),
            running: BTreeSet::new(),
            failures: BTreeMap::new(),
            resting: BTreeSet::new(),
        }
    }

    /// Queues a region up, unless it waits already. Answers whether it does anew.
    pub(super) fn wish(&mut self, region: RegionId) -> bool {
        let new = self.wanted.insert(region);
        if new {
            self.waiting.push_back(region);
        }
        new
    }

    /// The next region, which is at work from now on. `slots` are as many as may be taken just now.
    pub(super) fn next(&mut self, slots: usize) -> Option<RegionId> {
        if !self.has_room(slots) {
            return None;
        }
        let ready = |region: &RegionId| !self.running.contains(region) && !self.resting.contains(region);
        let at = self.waiting.iter().position(ready)?;
        let region = self.waiting.remove(at)?;
        self.wanted.remove(&region);
        self.running.insert(region);
        Some(region)
    }

    /// Puts a region that did not ask for it to work.
    pub(super) fn start(&mut self, region: RegionId) {
        if self.wanted.remove(&region) {
            self.waiting.retain(|other| *other != region);
        }
        self.running.insert(region);
    }

    pub(super) fn has_room(&self, slots: usize) -> bool {
        self.running.len() < slots.min(self.slots)
    }

    /// Whether the region is at work, or rests.
    pub(super) fn is_out(&self, region: RegionId) -> bool {
        self.running.contains(&region) || self.resting.contains(&region)
    }

    /// Ends a region's turn. Answers how often in a row it failed; if it did, it waits and rests until
    /// [`rested`](Self::rested).
    pub(super) fn ended(&mut self, region: RegionId, how: Ended) -> u32 {
        self.running.remove(&region);
        match how {
            Ended::Done | Ended::More => drop(self.failures.remove(&region)),
            Ended::Failed => {
                let failures = self.failures.entry(region).or_default();
                *failures = failures.saturating_add(1);
                self.resting.insert(region);
            }
        }
        if how != Ended::Done {
            self.wish(region);
        }
        self.failures.get(&region).copied().unwrap_or(0)
    }

    /// The region may work again.
    pub(super) fn rested(&mut self, region: RegionId) {
        self.resting.remove(&region);
    }

    /// The region is gone.
    pub(super) fn forget(&mut self, region: RegionId) {
        self.running.remove(&region);
        self.resting.remove(&region);
        self.failures.remove(&region);
        if self.wanted.remove(&region) {
            self.waiting.retain(|other| *other != region);
        }
    }
}
