//! The first buckets of time that have rows, so that later ones need not be read.
//!
//! Any row that comes out proves that its bucket has one. Where k buckets are found, the first k of all buckets are none
//! beyond the last of them, whatever the other rows are: so some rows are looked at, and the more alike the series are,
//! the fewer do.
//!
//! Invariants:
//! - A bound lies between two buckets: of a bucket that is wanted every row is read.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::TryStreamExt;

use super::pieces::{Piece, Slice, Source};
use super::reader::Reader;
use crate::merge::BATCH_ROWS;
use crate::merge::block::times_of;
use crate::request::{FirstBuckets, Order};
use crate::sst;

/// Rows from which on it may pay to look; few in tests, so that the models meet it.
const ROWS_MIN: u64 = if cfg!(test) { 2 } else { 4 * BATCH_ROWS as u64 };
/// Steps, of which each looks at four times as many buckets as the one before.
const STEPS: u32 = 3;
/// They pay while they are at most one in so many of those that there can be.
const SPANNED_SHARE: i64 = 4;
/// Rows of a group that are looked at where too few of these buckets have any; more, up to one in so many, until a bound is found.
const LOOKED_AT: u64 = if cfg!(test) { 2 } else { 2 * BATCH_ROWS as u64 };
const SHARE: u64 = 16;

impl Reader {
    /// The bounds of the time, inclusive, without what lies beyond the buckets that are wanted.
    pub(super) async fn time_of_first(&self, sources: &[Source], wanted: FirstBuckets) -> Result<(i64, i64), sst::Error> {
        let rows: u64 = sources.iter().map(Source::rows).sum();
        let in_buckets = sources.iter().all(|source| wanted.of.hold(source.time_range()));
        let in_memory = sources.iter().all(|source| source.file().is_none());
        if wanted.count == 0 || rows < ROWS_MIN || in_memory || !in_buckets {
            return Ok(self.time);
        }
        let width = wanted.of.width();
        let (oldest, newest) = self.buckets_between(sources, width);
        let (spanned, mut buckets) = (newest.saturating_sub(oldest), i64::try_from(wanted.count).unwrap_or(i64::MAX));
        let (layout, _) = self.with_time(&[])?;
        let order = if wanted.newest_first { Order::NewestFirst } else { Order::Time };
        let reader = Self { order, rows_tested: Arc::default(), ..self.under(layout) };
        let groups = reader.groups(sources.to_vec());
        let mut found = Found { wanted, buckets: BTreeSet::new() };
        // Mostly each of the first buckets that there can be has rows; else more of them, and more, are looked at.
        let mut next = if wanted.newest_first { newest } else { oldest };
        for _ in 0..STEPS {
            if buckets > spanned / SPANNED_SHARE {
                break;
            }
            let (first, last) = if wanted.newest_first { (next - buckets + 1, next) } else { (next, next + buckets - 1) };
            let time = reader.times_of_buckets(first, last, width);
            let part = reader.under(Arc::clone(&reader.layout)).within(time);
            for group in groups.iter().filter(|group| group.iter().any(|source| source.overlaps(time))) {
                part.look(group, &mut found, (0, u64::MAX)).await?;
                if found.last().is_some() {
                    return Ok(found.bound(self.time));
                }
            }
            (next, buckets) = (if wanted.newest_first { first - 1 } else { last + 1 }, buckets.saturating_mul(4));
        }
        for group in &groups {
            let rows: u64 = group.iter().map(Source::rows).sum();
            reader.look(group, &mut found, (LOOKED_AT, LOOKED_AT.max(rows / SHARE))).await?;
            if found.last().is_some() {
                break;
            }
        }
        Ok(found.bound(self.time))
    }

    /// Looks at rows of a group, of which only the time is read, until there is a bound: at least at so many, and at most.
    async fn look(&self, group: &[Source], found: &mut Found, (least, most): (u64, u64)) -> Result<(), sst::Error> {
        let mut batches = self.read_piece(&Piece { sources: group.to_vec(), slice: Slice::All }, None).await?;
        let mut looked_at = 0;
        while let Some(batch) = batches.try_next().await? {
            times_of(batch.column(0))?.iter().for_each(|time| found.add(*time));
            looked_at += batch.num_rows() as u64;
            if looked_at >= most || (looked_at >= least && found.last().is_some()) {
                break;
            }
        }
        Ok(())
    }

    /// The oldest and the newest bucket in which there can be rows.
    fn buckets_between(&self, sources: &[Source], width: i64) -> (i64, i64) {
        let times = || sources.iter().map(Source::time_range);
        let oldest = times().map(|(first, _)| first.max(self.time.0)).min().unwrap_or(0);
        let newest = times().map(|(_, last)| last.min(self.time.1)).max().unwrap_or(0);
        (oldest.div_euclid(width), newest.div_euclid(width))
    }

    /// The times, inclusive, of the buckets from one to another.
    fn times_of_buckets(&self, first: i64, last: i64, width: i64) -> (i64, i64) {
        let (from, to) = (first.saturating_mul(width), last.saturating_mul(width).saturating_add(width - 1));
        (from.max(self.time.0), to.min(self.time.1))
    }
}

/// The first buckets of some rows.
struct Found {
    wanted: FirstBuckets,
    buckets: BTreeSet<i64>,
}

impl Found {
    fn add(&mut self, time: i64) {
        let bucket = time.div_euclid(self.wanted.of.width());
        // Most lie beyond those that are kept.
        let beyond = |last: i64| if self.wanted.newest_first { bucket <= last } else { bucket >= last };
        if self.last().is_some_and(beyond) || !self.buckets.insert(bucket) || self.buckets.len() <= self.wanted.count {
            return;
        }
        match self.wanted.newest_first {
            true => self.buckets.pop_first(),
            false => self.buckets.pop_last(),
        };
    }

    /// The last bucket that can be wanted, once there are as many as are.
    fn last(&self) -> Option<i64> {
        let last = if self.wanted.newest_first { self.buckets.first() } else { self.buckets.last() };
        last.copied().filter(|_| self.buckets.len() == self.wanted.count)
    }

    /// Bounds of the time without what lies beyond the last bucket that can be wanted.
    fn bound(&self, (from, to): (i64, i64)) -> (i64, i64) {
        let width = self.wanted.of.width();
        let Some(start) = self.last().map(|last| last.saturating_mul(width)) else { return (from, to) };
        match self.wanted.newest_first {
            true => (from.max(start), to),
            false => (from, to.min(start.saturating_add(width - 1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buckets::Buckets;

    fn bound(newest_first: bool, count: usize, times: &[i64]) -> (i64, i64) {
        let mut found = Found { wanted: FirstBuckets { of: Buckets::new(10).unwrap(), count, newest_first }, buckets: BTreeSet::new() };
        times.iter().for_each(|time| found.add(*time));
        found.bound((i64::MIN, i64::MAX))
    }

    #[test]
    fn a_bound_lies_at_the_end_of_a_bucket() {
        assert_eq!(bound(true, 2, &[41, 5, 49, 40, 33, 37]), (30, i64::MAX));
        assert_eq!(bound(false, 2, &[41, 49, 40, 33, 37]), (i64::MIN, 49));
        assert_eq!(bound(false, 1, &[-1, -10, 5]), (i64::MIN, -1), "buckets of negative times begin at their least");
        assert_eq!(bound(true, 1, &[-11, -1, -10]), (-10, i64::MAX));
    }

    #[test]
    fn too_few_buckets_bound_nothing() {
        assert_eq!(bound(true, 3, &[1, 2, 11, 12]), (i64::MIN, i64::MAX));
    }

    #[test]
    fn the_ends_of_all_times_bound_nothing_beyond_them() {
        assert_eq!(bound(true, 1, &[i64::MIN]), (i64::MIN, i64::MAX));
        assert_eq!(bound(false, 1, &[i64::MAX]), (i64::MIN, i64::MAX));
    }
}
