//! What a scan pins: manifest state and memtables at one moment.

use std::sync::{Arc, PoisonError, RwLock};

use tessera_manifest::id::Slot;
use tessera_manifest::log::{Hold, Holds};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::RuleVersion;
use tessera_manifest::state::RegionState;
use tessera_manifest::wal::{WalId, WalPosition};

use super::staging::StagedRows;
use crate::budget::Budget;
use crate::memtable::Memtable;
use crate::options::TableOptions;

/// A memtable that takes no more rows and waits to be flushed.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) memtable: Arc<Memtable>,
    /// Every entry of the region up to here is in this memtable, an older one or an SST.
    pub(super) position: WalPosition,
    /// Gives the bytes back when the memtable is in no version any more.
    _share: Share,
}

impl Frozen {
    pub(super) fn new(memtable: Arc<Memtable>, position: WalPosition, budget: Arc<Budget>) -> Self {
        let bytes = memtable.bytes();
        Self { memtable, position, _share: Share { budget, bytes } }
    }
}

/// A memtable's part of the budget.
#[derive(Debug)]
struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.free(self.bytes);
    }
}

/// Manifest state and memtables at one moment.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) state: RegionState,
    pub(super) meta: Arc<RegionMeta>,
    /// The hash of the rule in `meta`.
    pub(super) rule_version: RuleVersion,
    /// What the options in `meta` mean.
    pub(super) options: Arc<TableOptions>,
    pub(super) active: Arc<Memtable>,
    /// Oldest first.
    pub(super) frozen: Vec<Arc<Frozen>>,
    /// Rows that no reader sees until a repartition is resolved.
    pub(super) staged: Option<StagedRows>,
    /// Keeps the files of the version from retention while anybody reads it.
    pub(super) hold: Option<Arc<Hold>>,
}

impl Version {
    /// Bytes of the memtables that wait to be flushed.
    pub(super) fn frozen_bytes(&self) -> usize {
        let staged = self.staged.iter().flat_map(|staged| &staged.frozen);
        self.frozen.iter().chain(staged).map(|frozen| frozen.memtable.bytes()).sum()
    }

    /// The memtable that takes rows.
    pub(super) fn writing(&self) -> &Arc<Memtable> {
        self.staged.as_ref().map_or(&self.active, |staged| &staged.active)
    }

    /// The memtables that readers do not see yet, oldest first.
    pub(super) fn staged_memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        let staged = self.staged.iter();
        staged.flat_map(|staged| staged.frozen.iter().map(|frozen| &frozen.memtable).chain(std::iter::once(&staged.active)))
    }

    /// Puts an empty memtable in the place of the one that takes rows, which is frozen.
    pub(super) fn rotate(&mut self, frozen: Arc<Frozen>, empty: Arc<Memtable>) {
        let (all, active) = match &mut self.staged {
            Some(staged) => (&mut staged.frozen, &mut staged.active),
            None => (&mut self.frozen, &mut self.active),
        };
        all.push(frozen);
        *active = empty;
    }

    /// Drops the frozen memtables whose rows are in files of the state, as its flushed positions say.
    pub(super) fn drop_landed(&mut self, wal: WalId) {
        let landed = self.state.wals().iter().find(|named| named.id == wal).map(|named| named.flushed);
        self.frozen.retain(|frozen| landed.is_none_or(|landed| frozen.position > landed));
        let staged = self.state.staging().map(|staging| staging.flushed(wal));
        if let Some(rows) = &mut self.staged {
            rows.frozen.retain(|frozen| staged.is_none_or(|staged| frozen.position > staged));
        }
    }

    /// The memtables that readers see, oldest first.
    pub(super) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        self.frozen.iter().map(|frozen| &frozen.memtable).chain(std::iter::once(&self.active))
    }
}

/// The current version. It is always held, so that there is no moment between pinning and holding.
#[derive(Debug)]
pub(super) struct VersionCell {
    current: RwLock<Arc<Version>>,
    holds: Holds,
}

impl VersionCell {
    pub(super) fn new(mut version: Version, holds: Holds) -> Self {
        version.hold = Some(Arc::new(holds.hold(version.state.version())));
        Self { current: RwLock::new(Arc::new(version)), holds }
    }

    pub(super) fn load(&self) -> Arc<Version> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a version from retention.
    pub(super) fn hold(&self, version: Option<Slot>) -> Hold {
        self.holds.hold(version)
    }

    /// Replaces the version by `change` of it.
    pub(super) fn update(&self, change: impl FnOnce(&mut Version)) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Version::clone(&current);
        change(&mut next);
        if next.state.version() != current.state.version() {
            next.hold = Some(Arc::new(self.holds.hold(next.state.version())));
        }
        *current = Arc::new(next);
    }
}
