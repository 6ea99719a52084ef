//! A region's part in a repartition: fence, staged rows, drain, remap, resolution.
//!
//! ```text
//!   write ─▶ gate ─┬─ base ───▶ active memtable ─▶ frozen ─▶ SST ─▶ Edit up to the fence ─▶ drained: frozen files
//!                  │ fence                                                                        │ remap
//!                  └─ staged ─▶ staged memtable ─▶ frozen ─▶ SST ─▶ StagedEdit                     ▼
//!                                     └────────── visible from Resolve{commit} on ◀──── references of the target
//! ```
//!
//! Invariants:
//! - The fence is drawn under a closed gate: what is before it is inserted and frozen, with a position. From the moment
//!   at which the Stage may be on the store until it is known whether it is, no row is written. So no row of the base
//!   generation is acknowledged behind a fence.
//! - A row says by its sequence of which generation it is, in the log and everywhere else. A replay puts it where its
//!   generation belongs; of the log's positions it believes only how far they are flushed.
//! - Staged rows are in memtables and files of their own, which scans do not see. A flush never mixes the two, and staged
//!   files keep their deletes.
//! - The log is released behind both flushed positions only: up to the visible one until everything before the fence is
//!   in SSTs, then up to the staged one.
//! - What a resolution changes, memtables, rule, generation and files, readers and writers see change in one step.
//!
//! Crash order: every step is one record of the manifest, and is repeated if need be. What each crash leaves is in
//! `docs/repartition.md`.

mod advance;
mod fence;
mod flush;
mod meet;
mod remap;
mod replay;
mod resolve;

use std::sync::{Arc, Mutex, PoisonError};

use tessera_manifest::action::Stage;
use tessera_manifest::id::{Generation, Slot, TxnId};
use tessera_manifest::log::Manifest;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::{Expr, RuleVersion};
use tessera_manifest::state::{RegionState, Staging};
use tokio::sync::{MutexGuard, OwnedRwLockReadGuard};

use super::version::{Frozen, Version};
use super::{GateState, Region};
use crate::error::Error;
use crate::memtable::Memtable;
use crate::request::WriteRequest;
use crate::staging::{StageRequest, StagingInfo};

pub(super) use replay::{Place, Sorter};

/// The rows that a region has taken since its fence, and what they are written under.
#[derive(Debug, Clone)]
pub(super) struct StagedRows {
    pub(super) txn: TxnId,
    pub(super) generation: Generation,
    /// What the region becomes if the repartition commits; `None`: it retires, and takes no rows.
    pub(super) meta: Option<Arc<RegionMeta>>,
    pub(super) rule_version: RuleVersion,
    pub(super) active: Arc<Memtable>,
    /// Oldest first.
    pub(super) frozen: Vec<Arc<Frozen>>,
}

/// What an open region remembers of repartitions besides its manifest.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// The repartition for which no compaction begins, from its preparation on.
    hold: Mutex<Option<TxnId>>,
    /// One at a time asks what was decided.
    asking: tokio::sync::Mutex<()>,
    /// When the version that staged the region was written.
    since: Mutex<Option<(Slot, u64)>>,
}

impl Control {
    /// Whether compactions wait for a repartition.
    pub(super) fn holds_compactions(&self) -> bool {
        self.hold().is_some()
    }

    fn hold(&self) -> std::sync::MutexGuard<'_, Option<TxnId>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StagedRows {
    /// None yet, of a region that was staged so.
    pub(super) fn of(meta: &RegionMeta, stage: &Stage) -> Self {
        let target = stage.target.as_ref().map(|target| {
            Arc::new(RegionMeta {
                rule: Arc::clone(&target.rule),
                partition_columns: target.partition_columns.clone(),
                generation: stage.generation,
                ..meta.clone()
            })
        });
        let rule_version = target.as_ref().map_or_else(|| meta.rule_version(), |meta| meta.rule_version());
        let active = Arc::new(Memtable::new(Arc::clone(&meta.schema)));
        Self { txn: stage.txn, generation: stage.generation, meta: target, rule_version, active, frozen: Vec::new() }
    }

    fn rows(&self) -> usize {
        self.frozen.iter().map(|frozen| frozen.memtable.rows()).sum::<usize>() + self.active.rows()
    }
}

/// A write that has passed the gate, and what it is written under.
type Entered = (OwnedRwLockReadGuard<GateState>, Arc<Version>, Arc<RegionMeta>);

/// Whether the region was created for a repartition that is not resolved yet: no row is its own before.
pub(super) fn is_new(meta: &RegionMeta) -> bool {
    *meta.rule == Expr::never()
}

impl Region {
    /// Passes the gate for a write that was routed as the region takes rows now.
    pub(super) async fn enter(&self, request: &WriteRequest) -> Result<Entered, Error> {
        let mut asked = false;
        loop {
            let permit = Arc::clone(&self.gate).read_owned().await;
            if *permit == GateState::Doubt {
                drop(permit);
                // Waits for the fence, or finds out about it.
                drop(self.committer().await?);
                continue;
            }
            self.check_gate(*permit)?;
            let version = self.pin();
            match self.route(&version, request) {
                Ok(meta) => return Ok((permit, version, meta)),
                Err(error) if asked || version.staged.is_none() => return Err(error),
                Err(_) => {
                    drop(permit);
                    self.meet_as_writer().await;
                    asked = true;
                }
            }
        }
    }

    /// The metadata under which the request's rows are written.
    fn route(&self, version: &Version, request: &WriteRequest) -> Result<Arc<RegionMeta>, Error> {
        if version.state.is_retired() {
            return Err(Error::Retired { region: self.id });
        }
        let (generation, rule_version, meta) = match &version.staged {
            None => (version.meta.generation, version.rule_version, Some(&version.meta)),
            Some(staged) => (staged.generation, staged.rule_version, staged.meta.as_ref()),
        };
        let same = request.generation == generation && request.rule_version == rule_version;
        meta.filter(|_| same).cloned().ok_or(Error::Stale { region: self.id, generation, rule_version })
    }

    /// Refuses while a repartition is under way.
    pub(super) fn check_unstaged(&self) -> Result<(), Error> {
        let staged = self.pin().state.staging().map(|staging| staging.stage.txn);
        staged.map_or(Ok(()), |txn| Err(Error::Staged { region: self.id, txn }))
    }

    /// The right to commit, in a region that is open and neither being repartitioned nor retired by a repartition.
    pub(super) async fn unstaged_manifest(&self) -> Result<MutexGuard<'_, Manifest>, Error> {
        let manifest = self.writable_manifest().await?;
        self.check_unstaged()?;
        if manifest.state().is_retired() { Err(Error::Retired { region: self.id }) } else { Ok(manifest) }
    }

    /// Opens the gate if it was left in doubt. The caller has the manifest and knows what is in it.
    pub(super) async fn end_doubt(&self) {
        let doubt = *self.gate.read().await == GateState::Doubt;
        if doubt {
            let mut gate = self.gate.write().await;
            // It may have been shut in between, and stays so.
            if *gate == GateState::Doubt {
                *gate = GateState::Open;
            }
        }
    }

    /// Tells the log what it may let go.
    pub(super) fn release_behind(&self, state: &RegionState) {
        let wal = &self.shared.parts.wal;
        if state.is_retired() {
            // No entry is waited for: the gate was closed when it retired, and takes no row since.
            return wal.forget(self.id);
        }
        let Some(visible) = state.wals().iter().find(|named| named.id == wal.id()).map(|named| named.flushed) else { return };
        let staged = state.staging().filter(|_| state.is_drained() == Some(true)).map(|staging| staging.flushed(wal.id()));
        wal.release(self.id, staged.unwrap_or(visible).max(visible));
    }

    /// What the region holds of a repartition that is not resolved; `None` if there is none.
    ///
    /// # Errors
    /// The store's, when it is asked since when.
    pub async fn staging(&self) -> Result<Option<StagingInfo>, Error> {
        let version = self.pin();
        let (Some(staging), Some(rows)) = (version.state.staging(), &version.staged) else { return Ok(None) };
        let in_files: u64 = staging.added().values().map(|file| file.meta().rows).sum();
        Ok(Some(StagingInfo {
            txn: staging.stage.txn,
            base: staging.stage.base,
            generation: staging.stage.generation,
            since: staging.since,
            since_unix_ms: self.staged_at(staging.since).await?,
            retires: staging.stage.target.is_none(),
            drained: version.state.is_drained() == Some(true),
            remapped: staging.remap().is_some(),
            staged_rows: in_files + rows.rows() as u64,
        }))
    }

    /// When a version was written, by its writer's clock; `None` if its record is not kept any more.
    async fn staged_at(&self, slot: Slot) -> Result<Option<u64>, Error> {
        let known = *self.repartition.since.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, time_ms)) = known.filter(|(of, _)| *of == slot) {
            return Ok(Some(time_ms));
        }
        let records = tessera_manifest::log::record_bodies(&self.shared.context, self.id, Some(slot)).await;
        let records = records.map_err(|source| self.manifest_error(source))?;
        let time_ms = records.iter().find(|(record, _)| record.slot == slot).map(|(_, body)| body.time_ms);
        if let Some(time_ms) = time_ms {
            *self.repartition.since.lock().unwrap_or_else(PoisonError::into_inner) = Some((slot, time_ms));
        }
        Ok(time_ms)
    }

    /// What the state says of this repartition.
    fn staging_of<'s>(&self, state: &'s RegionState, txn: TxnId) -> Result<&'s Staging, Error> {
        if state.is_retired() {
            return Err(Error::Retired { region: self.id });
        }
        match state.staging() {
            Some(staging) if staging.stage.txn == txn => Ok(staging),
            Some(other) => Err(Error::Staged { region: self.id, txn: other.stage.txn }),
            None => Err(Error::NotStaged { region: self.id, txn }),
        }
    }

    fn otherwise(&self, txn: TxnId, detail: impl ToString) -> Error {
        Error::StagedOtherwise { region: self.id, txn, detail: detail.to_string() }
    }
}

/// Whether a request asks for what is recorded.
fn asks_for(request: &StageRequest, stage: &Stage) -> bool {
    (request.txn, request.base, request.generation) == (stage.txn, stage.base, stage.generation) && request.target == stage.target
}
