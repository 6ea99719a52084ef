//! The rows of one statement on their way to regions: a lane for each region. Pure.
//!
//! Invariants:
//! - A batch is in one lane, or under way, or done; none is lost and none is sent twice unless it was refused.
//! - A lane hands its batches out in order, and takes refused ones back before those behind them.

use std::collections::{BTreeMap, VecDeque};

use tessera_manifest::id::RegionId;

/// What is left of a lane that a region refused, in order: rows that were surely not written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused<B> {
    /// The region.
    pub region: RegionId,
    /// Its rows, in their order.
    pub left: Vec<B>,
}

/// Batches by the region that they go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lanes<B> {
    lanes: BTreeMap<RegionId, VecDeque<B>>,
    refused: Vec<Refused<B>>,
}

impl<B> Default for Lanes<B> {
    fn default() -> Self {
        Self { lanes: BTreeMap::new(), refused: Vec::new() }
    }
}

impl<B> Lanes<B> {
    /// Puts a batch behind what the region gets already.
    pub fn push(&mut self, region: RegionId, batch: B) {
        self.lanes.entry(region).or_default().push_back(batch);
    }

    /// All that is to be sent, lane by lane. What comes of each lane is told by [`refuse`](Self::refuse), or it is done.
    pub fn take(&mut self) -> Vec<(RegionId, Vec<B>)> {
        std::mem::take(&mut self.lanes).into_iter().map(|(region, batches)| (region, batches.into())).collect()
    }

    /// A region did not take these: the first that it refused, and all behind it.
    pub fn refuse(&mut self, region: RegionId, left: Vec<B>) {
        if !left.is_empty() {
            self.refused.push(Refused { region, left });
        }
    }

    /// Whether nothing is left to be sent.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.lanes.is_empty() && self.refused.is_empty()
    }

    /// Whether a region refused rows that were not cut again yet.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The batches that were refused, each once.
    pub fn refused(&self) -> impl Iterator<Item = &B> {
        self.refused.iter().flat_map(|refused| &refused.left)
    }

    /// Cuts what was refused again. `cut` gives the parts of a batch with their regions; those of a batch have no row in
    /// common. On an error everything stays refused.
    ///
    /// # Errors
    /// The first that `cut` gives.
    pub fn reroute<E>(&mut self, mut cut: impl FnMut(&B) -> Result<Vec<(RegionId, B)>, E>) -> Result<(), E> {
        let mut parts = Vec::new();
        for batch in self.refused() {
            parts.extend(cut(batch)?);
        }
        self.refused.clear();
        for (region, part) in parts {
            self.push(region, part);
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
