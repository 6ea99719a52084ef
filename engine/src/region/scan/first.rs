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
use crate::request::FirstBuckets;
use crate::sst;

/// Rows from which on it may pay to look; few in tests, so that the models meet it.
const ROWS_MIN: u64 = if cfg!(test) { 2 } else { 4 * BATCH_ROWS as u64 };
/// Buckets that are looked for.
const COUNT_MAX: usize = 64 * 1024;
/// It pays where they are at most one in so many of those that there can be.
const SPANNED_SHARE: i64 = 2;
/// Steps, of which each looks at four times as many buckets as the one before.
const STEPS: u32 = 3;
/// Rows that are looked at, at least where buckets are found; at most one in so many of all if that is more.
const LOOKED_AT: u64 = if cfg!(test) { 2 } else { 2 * BATCH_ROWS as u64 };
const SHARE: u64 = 16;
/// Stretches of time, each that of a source, of which rows are looked at.
const PARTS_MAX: u32 = 4;
/// Sources that are opened for a look.
const OPENED_MAX: usize = 16;

impl Reader {
    /// The bounds of the time, inclusive, without what lies beyond the buckets that are wanted.
    pub(super) async fn time_of_first(&self, sources: &[Source], wanted: FirstBuckets) -> Result<(i64, i64), sst::Error> {
        let (rows, width) = (sources.iter().map(Source::rows).sum::<u64>(), wanted.of.width());
        let times = || sources.iter().map(|source| clipped(source, self.time));
        let in_buckets = times().all(|(from, to)| wanted.of.hold((from, to)) && from.checked_sub(from.rem_euclid(width)).is_some());
        let in_memory = sources.iter().all(|source| source.file().is_none());
        let oldest = times().map(|(from, _)| from.div_euclid(width)).min().unwrap_or(0);
        let newest = times().map(|(_, to)| to.div_euclid(width)).max().unwrap_or(0);
        let spanned = newest.saturating_sub(oldest) / SPANNED_SHARE;
        let mut buckets = i64::try_from(wanted.count).unwrap_or(i64::MAX);
        if !(1..=COUNT_MAX).contains(&wanted.count) || buckets > spanned || rows < ROWS_MIN || in_memory || !in_buckets {
            return Ok(self.time);
        }
        let reader = Self { rows_tested: Arc::default(), ..self.under(self.with_time(&[])?.0) };
        let part = |time| reader.under(Arc::clone(&reader.layout)).within(time);
        let most = LOOKED_AT.max(rows / SHARE);
        let mut found = Found { wanted, buckets: BTreeSet::new() };
        // Mostly each of the first buckets that there can be has rows. Where series are long, few pages have them all.
        let mut next = if wanted.newest_first { newest } else { oldest };
        for _ in 0..STEPS {
            if buckets > spanned {
                break;
            }
            let (first, last) = if wanted.newest_first { (next - buckets + 1, next) } else { (next, next + buckets - 1) };
            let part = part(reader.times_of_buckets(first, last, width));
            if part.rows_on_pages(sources).await?.is_none_or(|rows| rows > most) {
                break;
            }
            if part.look(sources, &mut found, (0, most)).await? {
                return Ok(found.bound(self.time));
            }
            (next, buckets) = (if wanted.newest_first { first - 1 } else { last + 1 }, buckets.saturating_mul(4));
        }
        // Where they are short, a few have rows of all times.
        let mut left = self.time;
        for _ in 0..PARTS_MAX {
            let there = sources.iter().filter(|source| source.overlaps(left));
            let first = match wanted.newest_first {
                true => there.max_by_key(|source| clipped(source, left).1),
                false => there.min_by_key(|source| clipped(source, left).0),
            };
            let Some(first) = first else { break };
            let (from, to) = clipped(first, left);
            let part = part((from, to));
            if part.may_look(first, sources, most).await? && part.look_around(first, sources, &mut found, (LOOKED_AT, most)).await? {
                break;
            }
            let rest = match wanted.newest_first {
                true => from.checked_sub(1).map(|to| (left.0, to)),
                false => to.checked_add(1).map(|from| (from, left.1)),
            };
            let Some(rest) = rest.filter(|(from, to)| from <= to) else { break };
            left = rest;
        }
        Ok(found.bound(self.time))
    }

    /// Whether looking at rows of a source decodes few others: of a plain one it depends on how much of its time is left.
    async fn may_look(&self, source: &Source, sources: &[Source], most: u64) -> Result<bool, sst::Error> {
        let length = |(from, to): (i64, i64)| i128::from(to) - i128::from(from) + 1;
        let decoded = i128::from(LOOKED_AT) * length(source.time_range()) / length(clipped(source, self.time)).max(1);
        if self.of_tags.is_empty() && !self.meets_deletes(sources) && decoded <= i128::from(most) {
            return Ok(true);
        }
        Ok(self.rows_on_pages(sources).await?.is_some_and(|rows| rows <= most))
    }

    /// Whether a row may be there no more, because another source deletes it.
    fn meets_deletes(&self, sources: &[Source]) -> bool {
        sources.iter().any(|source| source.has_deletes() && source.overlaps(self.time))
    }

    /// Looks at rows of one source, or of all that it may meet.
    async fn look_around(&self, first: &Source, sources: &[Source], found: &mut Found, rows: (u64, u64)) -> Result<bool, sst::Error> {
        match self.meets_deletes(sources) {
            true => self.look(sources, found, rows).await,
            false => self.look(std::slice::from_ref(first), found, rows).await,
        }
    }

    /// Looks at rows, of which only the time is read, until there is a bound: at least at so many, and at most. Whether
    /// there is one.
    async fn look(&self, sources: &[Source], found: &mut Found, (least, most): (u64, u64)) -> Result<bool, sst::Error> {
        let mut within: Vec<Source> = sources.iter().filter(|source| source.overlaps(self.time)).cloned().collect();
        // A memtable is sorted first.
        within.sort_by_key(|source| source.file().is_none());
        // Where nothing is deleted a row need not meet others to prove that its key is there.
        let pieces: Vec<Vec<Source>> = if self.meets_deletes(&within) {
            if within.len() > OPENED_MAX {
                return Ok(false);
            }
            vec![within]
        } else {
            within.truncate(OPENED_MAX);
            within.into_iter().map(|source| vec![source]).collect()
        };
        let mut looked_at = 0;
        for sources in pieces {
            let mut batches = self.read_piece(&Piece { sources, slice: Slice::All }, None).await?;
            while let Some(batch) = batches.try_next().await? {
                times_of(batch.column(0))?.iter().for_each(|time| found.add(*time));
                looked_at += batch.num_rows() as u64;
                if looked_at >= most || (looked_at >= least && found.last().is_some()) {
                    return Ok(found.last().is_some());
                }
            }
        }
        Ok(found.last().is_some())
    }

    /// How many rows would be decoded, by what the statistics of pages say; `None` for those of too many sources.
    async fn rows_on_pages(&self, sources: &[Source]) -> Result<Option<u64>, sst::Error> {
        let within: Vec<&Source> = sources.iter().filter(|source| source.overlaps(self.time)).collect();
        if within.len() > OPENED_MAX {
            return Ok(None);
        }
        let mut rows = 0;
        for source in within {
            rows += match source {
                Source::File { file, residual } => {
                    let piece = Piece { sources: vec![source.clone()], slice: Slice::All };
                    let scan = self.open_file(&piece, file, residual.as_ref(), None).await?;
                    scan.read.groups.iter().map(|group| group.selected() as u64).sum::<u64>()
                }
                Source::Memtable(snapshot) => snapshot.rows() as u64,
            };
        }
        Ok(Some(rows))
    }

    /// The times, inclusive, of the buckets from one to another.
    fn times_of_buckets(&self, first: i64, last: i64, width: i64) -> (i64, i64) {
        let (from, to) = (first.saturating_mul(width), last.saturating_mul(width).saturating_add(width - 1));
        (from.max(self.time.0), to.min(self.time.1))
    }
}

/// The times of a source within others, inclusive.
fn clipped(source: &Source, (from, to): (i64, i64)) -> (i64, i64) {
    let (first, last) = source.time_range();
    (first.max(from), last.min(to))
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
