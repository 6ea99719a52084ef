//! What is kept in memory of SSTs, each kind bounded by bytes.
//!
//! Invariants:
//! - Keys are ids of immutable files, so an entry is never wrong; one of a deleted file only takes space until it is
//!   evicted.
//! - `tessera_cache_hits_total{cache}` and `tessera_cache_misses_total{cache}` count every lookup.

#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use moka::sync::Cache;
use parquet::bloom_filter::Sbbf;
use tessera_manifest::file::Scope;
use tessera_manifest::id::FileKey;
use tessera_manifest::rule::Expr;

use crate::config::Config;
use crate::merge::series::Stretches;
use crate::sst::{Bounds, BoundsKey, Footer, bounds_bytes};

/// A cache that counts its lookups.
pub(crate) struct Counted<K, V> {
    name: &'static str,
    cache: Cache<K, V>,
}

impl<K, V> Clone for Counted<K, V> {
    fn clone(&self) -> Self {
        Self { name: self.name, cache: self.cache.clone() }
    }
}

impl<K, V> fmt::Debug for Counted<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counted").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<K: Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static> Counted<K, V> {
    fn new(name: &'static str, bytes_max: u64, weigh: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        let weigher = move |_: &K, value: &V| u32::try_from(weigh(value) + size_of::<K>()).unwrap_or(u32::MAX);
        Self { name, cache: Cache::builder().max_capacity(bytes_max).weigher(weigher).build() }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let found = self.cache.get(key);
        let counter = if found.is_some() { "tessera_cache_hits_total" } else { "tessera_cache_misses_total" };
        metrics::counter!(counter, "cache" => self.name).increment(1);
        found
    }

    /// Whether it is there, uncounted.
    pub(crate) fn has(&self, key: &K) -> bool {
        self.cache.contains_key(key)
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        self.cache.insert(key, value);
    }

    pub(crate) fn invalidate(&self, key: &K) {
        self.cache.invalidate(key);
    }

    #[cfg(test)]
    pub(crate) fn weight(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.weighted_size()
    }
}

/// Row groups of which it is counted how often their tags were tested; of others counting begins anew.
const TESTED_GROUPS_MAX: u64 = 1 << 16;

/// What a rule in a key takes, about.
const RULE_BYTES: usize = 512;

/// A row group of a file.
pub(crate) type GroupKey = (FileKey, u32);

/// A row group under the schema of a version, and what rows of it are tested with.
pub(crate) type RuleKey = (GroupKey, u32, Arc<Expr>);

/// A reference to a file, and the rule of the region that has it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ResidualKey {
    pub(crate) file: FileKey,
    pub(crate) scope: Scope,
    pub(crate) rule: Arc<Expr>,
}

impl Hash for ResidualKey {
    // A file is mostly read under one rule, or two.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.file.hash(state);
        self.scope.version().hash(state);
    }
}

/// The caches of an engine; a cheap handle.
#[derive(Debug, Clone)]
pub(crate) struct Caches {
    /// Footers with page indexes.
    pub(crate) footers: Counted<FileKey, Arc<Footer>>,
    /// Which rows of a row group are of which series, under the schema of a version.
    pub(crate) series: Counted<(GroupKey, u32), Arc<Stretches>>,
    /// Of how many rows of a row group tags were tested without knowing its series, since that was last enough to read them.
    pub(crate) tested: Cache<GroupKey, Arc<AtomicU64>>,
    /// The rows of a row group that satisfy a predicate on tags, under the schema of a version.
    pub(crate) rules: Counted<RuleKey, Arc<[Range<u32>]>>,
    /// What rows of a file must be tested with, by what is known of the whole file.
    pub(crate) residuals: Counted<ResidualKey, Arc<Expr>>,
    /// Statistics of a column in the row groups of a file, or in the pages of one.
    pub(crate) bounds: Counted<BoundsKey, Bounds>,
    /// Bloom filters of a row group, by leaf.
    pub(crate) blooms: Counted<(GroupKey, usize), Arc<Option<Sbbf>>>,
    /// Bytes of a file from a position on, as they are stored: a column of a row group, or a page.
    pub(crate) ranges: Counted<(FileKey, u64, u64), Bytes>,
    /// A range that is larger is not kept.
    pub(crate) range_bytes_max: u64,
}

impl Caches {
    /// Empty ones.
    pub(crate) fn new(config: &Config) -> Self {
        let (metadata, series, ranges) = (config.metadata_cache_bytes, config.series_cache_bytes, config.range_cache_bytes);
        Self {
            footers: Counted::new("metadata", metadata / 8 * 5, |footer: &Arc<Footer>| footer.bytes()),
            bounds: Counted::new("bounds", metadata / 8, bounds_bytes),
            blooms: Counted::new("bloom", metadata / 4, |bloom: &Arc<Option<Sbbf>>| {
                bloom.as_ref().as_ref().map_or(0, |bloom| bloom.num_blocks() * 32)
            }),
            series: Counted::new("series", series / 16 * 15, |stretches: &Arc<Stretches>| stretches.bytes()),
            tested: Cache::new(TESTED_GROUPS_MAX),
            rules: Counted::new("rule", series / 32, |rows: &Arc<[Range<u32>]>| RULE_BYTES + size_of_val(&**rows)),
            residuals: Counted::new("residual", series / 32, |residual: &Arc<Expr>| RULE_BYTES + residual.nodes() * size_of::<Expr>()),
            ranges: Counted::new("range", ranges, Bytes::len),
            range_bytes_max: ranges / 16,
        }
    }
}
