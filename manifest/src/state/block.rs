//! Many visible references, packed: what a segment of a checkpoint is in memory.
//!
//! Invariants:
//! - Immutable, and ascending by key without duplicates.
//! - A reference takes 128 bytes, which are two lines of cache, and no allocation of its own; it becomes a [`FileRef`]
//!   when it is asked for. Scopes, rules and statistics, of which few are distinct, are kept once.

use std::cmp::Ordering;
use std::sync::{Arc, LazyLock};

use super::files::Numbers;
use crate::by_address::ByAddress;
use crate::file::{ColumnStats, FileMeta, FileRef, Listed, Scope};
use crate::id::{Epoch, FileId, FileKey, Generation, RegionId, Sequence, Slot};
use crate::rule::Expr;
use crate::set_hash::MemberHash;
use ulid::Ulid;

/// A reference without what many have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed {
    pub(crate) origin: u64,
    pub(crate) ulid: (u64, u64),
    pub(crate) since_seq: u64,
    pub(crate) time: (i64, i64),
    pub(crate) rows: u64,
    pub(crate) deletes: u64,
    pub(crate) bytes: u64,
    pub(crate) sequences: (u64, u64),
    pub(crate) epoch: u32,
    pub(crate) since_epoch: u32,
    /// The generation in the lower 24 bits, the level in the upper 8.
    pub(crate) generation_and_level: u32,
    pub(crate) schema_version: u32,
    pub(crate) crc32: u32,
    /// Places among the distinct values.
    pub(crate) scope: u32,
    pub(crate) rule: u32,
    pub(crate) stats: u32,
}

/// The distinct values of a block; `None` for one that no visible reference has.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) scopes: Box<[Option<Scope>]>,
    pub(crate) rules: Box<[Option<Arc<Expr>>]>,
    pub(crate) stats: Box<[Option<Arc<[ColumnStats]>>]>,
}

fn at<V>(values: &[Option<V>], place: u32) -> Option<&V> {
    values.get(place as usize)?.as_ref()
}

/// The distinct values of a block in the making, by where they are in memory.
struct Distinct<'a, P: ?Sized, V> {
    places: ByAddress<'a, P, u32>,
    values: Vec<Option<V>>,
}

impl<P: ?Sized, V> Default for Distinct<'_, P, V> {
    fn default() -> Self {
        Self { places: ByAddress::default(), values: Vec::new() }
    }
}

impl<'a, P: ?Sized, V: Clone> Distinct<'a, P, V> {
    /// The place of a value, which is at `at`.
    fn place(&mut self, at: &'a P, value: &V) -> u32 {
        let Self { places, values } = self;
        places.get_or_insert_with(at, || {
            values.push(Some(value.clone()));
            (values.len() - 1) as u32
        })
    }
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// The upper halves of the ulids, by which rows are searched.
    high: Box<[u64]>,
    /// Origin and epoch, if all rows have the same.
    common: Option<(u64, u32)>,
    rows: Box<[Packed]>,
    shared: Shared,
}

impl Block {
    /// The block of these rows. Whether it is one, [`first_bad_row`](Self::first_bad_row) says.
    pub(crate) fn new(rows: Vec<Packed>, shared: Shared) -> Self {
        // Rows are in order, or the block is refused: so the ends tell.
        let ends = rows.first().zip(rows.last()).map(|(first, last)| ((first.origin, first.epoch), (last.origin, last.epoch)));
        let common = ends.filter(|(first, last)| first == last).map(|(first, _)| first);
        Self { high: rows.iter().map(|row| row.ulid.0).collect(), common, rows: rows.into(), shared }
    }

    /// The block of references, ascending by key without duplicates.
    pub(super) fn pack<'a>(references: &'a [Listed]) -> Self {
        let (mut scopes, mut rules, mut stats) = (Distinct::default(), Distinct::default(), Distinct::default());
        let pack = |Listed { file, since }: &'a Listed| {
            let FileRef { key, scope, meta } = file.as_ref();
            let ulid = key.file.ulid().0;
            Packed {
                origin: key.origin.as_u64(),
                ulid: ((ulid >> 64) as u64, ulid as u64),
                since_seq: since.seq,
                time: meta.time_range,
                rows: meta.rows,
                deletes: meta.deletes,
                bytes: meta.bytes,
                sequences: (meta.sequences.0.as_u64(), meta.sequences.1.as_u64()),
                epoch: key.file.epoch.0,
                since_epoch: since.epoch.0,
                generation_and_level: meta.generation.as_u32() | u32::from(meta.level) << 24,
                schema_version: meta.schema_version,
                crc32: meta.crc32,
                scope: scopes.place(&**scope, scope),
                rule: rules.place(&*meta.rule, &meta.rule),
                stats: stats.place(&*meta.stats, &meta.stats),
            }
        };
        let rows = references.iter().map(pack).collect();
        Self::new(rows, Shared { scopes: scopes.values.into(), rules: rules.values.into(), stats: stats.values.into() })
    }

    /// References in it.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn key(&self, row: usize) -> FileKey {
        let Packed { origin, epoch, ulid: (high, low), .. } = self.rows[row];
        let ulid = Ulid(u128::from(high) << 64 | u128::from(low));
        FileKey { origin: RegionId::from_u64(origin), file: FileId::new(Epoch(epoch), ulid) }
    }

    /// What the file of a row is in numbers.
    pub(super) fn numbers(&self, row: usize) -> Numbers {
        let packed = &self.rows[row];
        Numbers {
            time_range: packed.time,
            rows: packed.rows,
            deletes: packed.deletes,
            bytes: packed.bytes,
            sequences: (Sequence::from_u64(packed.sequences.0), Sequence::from_u64(packed.sequences.1)),
            level: (packed.generation_and_level >> 24) as u8,
        }
    }

    /// The scope of a row, of a block without a bad row.
    pub(super) fn scope(&self, row: usize) -> &Scope {
        at(&self.shared.scopes, self.rows[row].scope).unwrap_or_else(|| Scope::everything())
    }

    /// The rule under which the file of a row was written, of a block without a bad row.
    pub(super) fn rule(&self, row: usize) -> &Arc<Expr> {
        static ALWAYS: LazyLock<Arc<Expr>> = LazyLock::new(|| Arc::new(Expr::always()));
        at(&self.shared.rules, self.rows[row].rule).unwrap_or(&ALWAYS)
    }

    /// The statistics of the file of a row, of a block without a bad row.
    pub(super) fn stats(&self, row: usize) -> &Arc<[ColumnStats]> {
        static NOTHING: LazyLock<Arc<[ColumnStats]>> = LazyLock::new(|| Arc::from([]));
        at(&self.shared.stats, self.rows[row].stats).unwrap_or(&NOTHING)
    }

    /// The first row that is out of order, or lacks a text, or has a generation that cannot be.
    pub(crate) fn first_bad_row(&self) -> Option<usize> {
        let place = |row: &Packed| (row.origin, row.epoch, row.ulid);
        let complete = |row: &Packed| {
            let Shared { scopes, rules, stats } = &self.shared;
            let texts = at(scopes, row.scope).is_some() && at(rules, row.rule).is_some() && at(stats, row.stats).is_some();
            texts && Generation::new(row.generation_and_level & 0x00ff_ffff).is_some()
        };
        let bad = |row: usize| (row > 0 && place(&self.rows[row - 1]) >= place(&self.rows[row])) || !complete(&self.rows[row]);
        (0..self.len()).find(|row| bad(*row))
    }

    /// The reference of a row, of a block without a bad row.
    pub(super) fn listed(&self, row: usize) -> Listed {
        let packed = &self.rows[row];
        let since = Slot::new(Epoch(packed.since_epoch), packed.since_seq);
        Listed { file: Arc::new(self.file(row, self.scope(row))), since }
    }

    /// The same, for another part of the file's rows.
    pub(super) fn file(&self, row: usize, scope: &Scope) -> FileRef {
        let packed = &self.rows[row];
        let Numbers { time_range, rows, deletes, bytes, sequences, level } = self.numbers(row);
        let meta = FileMeta {
            time_range,
            rows,
            deletes,
            bytes,
            sequences,
            level,
            generation: Generation::new(packed.generation_and_level & 0x00ff_ffff).unwrap_or(Generation::FIRST),
            schema_version: packed.schema_version,
            rule: Arc::clone(self.rule(row)),
            stats: Arc::clone(self.stats(row)),
            crc32: packed.crc32,
        };
        FileRef { key: self.key(row), scope: scope.clone(), meta }
    }

    /// What a row adds to the sums and to the hash of a set; and its scope.
    pub(super) fn counted(&self, row: usize) -> (u64, u64, MemberHash, &Scope) {
        let packed = &self.rows[row];
        let scope = self.scope(row);
        let hash = MemberHash::of_parts(self.key(row), packed.bytes, packed.crc32, scope.version());
        (packed.rows, packed.bytes, hash, scope)
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
        let (first, last) = (self.high[0], self.high[len - 1]);
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
        let high = self.high[row].cmp(&probe.high);
        if self.uniform(probe) && high != Ordering::Equal {
            return high;
        }
        let packed = &self.rows[row];
        (packed.origin, packed.epoch, packed.ulid).cmp(&(probe.origin, probe.epoch, (probe.high, probe.low)))
    }

    /// Whether all rows are of the probe's origin and epoch, as is usual; then only ulids differ.
    fn uniform(&self, probe: &Probe) -> bool {
        self.common == Some((probe.origin, probe.epoch))
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
