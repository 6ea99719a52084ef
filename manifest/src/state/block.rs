//! Many visible references in columns: what a segment of a checkpoint is in memory.
//!
//! Invariants:
//! - Immutable, and ascending by key without duplicates.
//! - A reference costs about a hundred bytes and no allocation of its own; it becomes a [`FileRef`] when it is asked for.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::buffer::ScalarBuffer;

use crate::file::{ColumnStats, FileMeta, FileRef, Listed, Scope};
use crate::id::{Epoch, FileId, FileKey, Generation, RegionId, Sequence, Slot};
use crate::rule::Expr;
use crate::set_hash::MemberHash;
use ulid::Ulid;

/// A column of which few values are distinct.
#[derive(Debug, Clone)]
pub(crate) struct Coded<V> {
    /// For each row the place of its value.
    pub(crate) places: ScalarBuffer<i32>,
    /// The distinct values; `None` for one that no visible reference has.
    pub(crate) values: Arc<[Option<V>]>,
}

impl<V> Coded<V> {
    pub(crate) fn at(&self, row: usize) -> Option<&V> {
        self.values.get(usize::try_from(self.places[row]).ok()?)?.as_ref()
    }
}

/// See the module. Every column has as many values as there are rows.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) origin: ScalarBuffer<u64>,
    pub(crate) epoch: ScalarBuffer<u32>,
    pub(crate) ulid_high: ScalarBuffer<u64>,
    pub(crate) ulid_low: ScalarBuffer<u64>,
    pub(crate) since_epoch: ScalarBuffer<u32>,
    pub(crate) since_seq: ScalarBuffer<u64>,
    pub(crate) time_min: ScalarBuffer<i64>,
    pub(crate) time_max: ScalarBuffer<i64>,
    pub(crate) rows: ScalarBuffer<u64>,
    pub(crate) deletes: ScalarBuffer<u64>,
    pub(crate) bytes: ScalarBuffer<u64>,
    pub(crate) sequence_min: ScalarBuffer<u64>,
    pub(crate) sequence_max: ScalarBuffer<u64>,
    pub(crate) level: ScalarBuffer<u8>,
    pub(crate) generation: ScalarBuffer<u32>,
    pub(crate) schema_version: ScalarBuffer<u32>,
    pub(crate) crc32: ScalarBuffer<u32>,
    pub(crate) scope: Coded<Scope>,
    pub(crate) rule: Coded<Arc<Expr>>,
    pub(crate) stats: Coded<Arc<[ColumnStats]>>,
}

impl Block {
    /// References in it.
    pub(crate) fn len(&self) -> usize {
        self.origin.len()
    }

    pub(crate) fn key(&self, row: usize) -> FileKey {
        let ulid = Ulid(u128::from(self.ulid_high[row]) << 64 | u128::from(self.ulid_low[row]));
        FileKey { origin: RegionId::from_u64(self.origin[row]), file: FileId::new(Epoch(self.epoch[row]), ulid) }
    }

    /// The least and the greatest time of a file.
    pub(super) fn time_range(&self, row: usize) -> (i64, i64) {
        (self.time_min[row], self.time_max[row])
    }

    /// The first row that is out of order, or lacks a text, or has a generation that cannot be.
    pub(crate) fn first_bad_row(&self) -> Option<usize> {
        let ordered = |row: usize| row == 0 || self.compare(row, &Probe::of(self.key(row - 1))) == Ordering::Greater;
        let complete = |row: usize| {
            let texts = self.scope.at(row).is_some() && self.rule.at(row).is_some() && self.stats.at(row).is_some();
            texts && Generation::new(self.generation[row]).is_some()
        };
        (0..self.len()).find(|row| !ordered(*row) || !complete(*row))
    }

    /// The reference of a row, of a block without a bad row.
    pub(super) fn listed(&self, row: usize) -> Listed {
        let nothing = || -> Arc<[ColumnStats]> { Arc::from([]) };
        let meta = FileMeta {
            time_range: self.time_range(row),
            rows: self.rows[row],
            deletes: self.deletes[row],
            bytes: self.bytes[row],
            sequences: (Sequence::from_u64(self.sequence_min[row]), Sequence::from_u64(self.sequence_max[row])),
            level: self.level[row],
            generation: Generation::new(self.generation[row]).unwrap_or(Generation::FIRST),
            schema_version: self.schema_version[row],
            rule: self.rule.at(row).map_or_else(|| Arc::new(Expr::always()), Arc::clone),
            stats: self.stats.at(row).map_or_else(nothing, Arc::clone),
            crc32: self.crc32[row],
        };
        let scope = self.scope.at(row).cloned().unwrap_or_else(Scope::all);
        let since = Slot::new(Epoch(self.since_epoch[row]), self.since_seq[row]);
        Listed { file: Arc::new(FileRef { key: self.key(row), scope, meta }), since }
    }

    /// What a row adds to the sums and to the hash of a set; and its scope.
    pub(super) fn counted(&self, row: usize) -> (u64, u64, MemberHash, &Scope) {
        let scope = self.scope.at(row).unwrap_or_else(|| Scope::everything());
        let hash = MemberHash::of_parts(self.key(row), self.bytes[row], self.crc32[row], scope.version());
        (self.rows[row], self.bytes[row], hash, scope)
    }

    /// The row of a key.
    pub(super) fn position(&self, key: &FileKey) -> Option<usize> {
        let row = self.lower_bound(key);
        (row < self.len() && self.compare(row, &Probe::of(*key)) == Ordering::Equal).then_some(row)
    }

    /// The first row whose key is not below `key`.
    pub(super) fn lower_bound(&self, key: &FileKey) -> usize {
        let probe = Probe::of(*key);
        let below = |row: usize| self.compare(row, &probe) == Ordering::Less;
        let (mut low, mut high) = self.window(&probe, below);
        while low < high {
            let middle = low.midpoint(high);
            if below(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// A stretch of rows that holds the lower bound. Ulids begin with the time of their birth, so where among them a
    /// time is can be guessed well; from the guess on the stretch grows until the bound is in it, so that a bad guess
    /// costs twice the steps of a plain binary search and no more.
    fn window(&self, probe: &Probe, below: impl Fn(usize) -> bool) -> (usize, usize) {
        let len = self.len();
        if len < 64 || !self.uniform(probe) {
            return (0, len);
        }
        let (first, last) = (self.ulid_high[0], self.ulid_high[len - 1]);
        let share = probe.high.saturating_sub(first) as f64 / (last.saturating_sub(first).max(1)) as f64;
        let guess = ((len - 1) as f64 * share.min(1.0)) as usize;
        let mut step = 2;
        if below(guess) {
            let mut low = guess;
            loop {
                let high = low.saturating_add(step).min(len);
                if high == len || !below(high) {
                    return (low + 1, high);
                }
                (low, step) = (high, step * 4);
            }
        }
        let mut high = guess;
        loop {
            let low = high.saturating_sub(step);
            if low == 0 || below(low) {
                return (low, high);
            }
            (high, step) = (low, step * 4);
        }
    }

    /// How the key of a row compares with another: by origin and epoch, which hardly differ in a block, then by ulid.
    fn compare(&self, row: usize, probe: &Probe) -> Ordering {
        let high = self.ulid_high[row].cmp(&probe.high);
        if self.uniform(probe) && high != Ordering::Equal {
            return high;
        }
        let key = (self.origin[row], self.epoch[row], self.ulid_high[row], self.ulid_low[row]);
        key.cmp(&(probe.origin, probe.epoch, probe.high, probe.low))
    }

    /// Whether all rows are of the probe's origin and epoch, as is usual; then only ulids differ.
    fn uniform(&self, probe: &Probe) -> bool {
        let last = self.len() - 1;
        let ends = (self.origin[0], self.origin[last], self.epoch[0], self.epoch[last]);
        ends == (probe.origin, probe.origin, probe.epoch, probe.epoch)
    }
}

/// A key, taken apart.
struct Probe {
    origin: u64,
    epoch: u32,
    high: u64,
    low: u64,
}

impl Probe {
    fn of(key: FileKey) -> Self {
        let ulid = key.file.ulid().0;
        Self { origin: key.origin.as_u64(), epoch: key.file.epoch.0, high: (ulid >> 64) as u64, low: ulid as u64 }
    }
}
