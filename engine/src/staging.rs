//! Repartition, as a node's engine sees it: the steps of DESIGN section 8 for the regions of one group.
//!
//! ```text
//!   create_staged ─┐
//!   prepare ─▶ stage ─▶ (decide) ─▶ drain ─▶ remap ─▶ apply_remap ─▶ (publish) ─▶ resolve
//!                  └──▶ (decide: abort) ─▶ resolve, create_retired
//! ```
//!
//! Invariants:
//! - Every step is idempotent and may be repeated by anybody, from any process, after any crash.
//! - The engine decides nothing and publishes nothing: it does what the decision object says, and what the catalog, asked
//!   through [`ReadSet`], says of it.
//! - A new region satisfies the rule *false* until its repartition is resolved, so that the rules of a table's regions
//!   are a partition at any time.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use tessera_manifest::action::RemapStaged;
use tessera_manifest::env;
use tessera_manifest::file::FileRef;
use tessera_manifest::id::{Generation, RegionId, Slot, TableId, TxnId};
use tessera_manifest::log::load;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::repartition::{Fenced, Reference, remap, write_remap};
use tessera_manifest::rule::Expr;
use tessera_manifest::state::RegionState;
use tessera_manifest::txn::Decided;

pub use tessera_manifest::repartition::{Drained, Prepared, RemapPreview, RemapRequest, RemapTarget, Resolved, StageRequest, Staged};

use crate::engine::Engine;
use crate::error::Error;
use crate::region::Region;

/// Manifests that a remap reads at the same time; more wait.
const READS_AT_ONCE: usize = 16;
/// Targets whose references are computed at the same time: each takes memory for all files of the group, and a core.
const TARGETS_AT_ONCE: usize = 2;

/// What readers see of the regions of a table, as the catalog has it.
#[async_trait]
pub trait ReadSet: Send + Sync + fmt::Debug {
    /// The generation of the region in the published read set; `None` if it is not in it.
    ///
    /// # Errors
    /// Why the catalog does not say.
    async fn published(&self, region: RegionId) -> Result<Option<Generation>, String>;

    /// Publishes the read set of a repartition on behalf of a coordinator that is gone, if it was decided to commit and
    /// every target is remapped; false if that cannot be done now. Idempotent.
    ///
    /// # Errors
    /// Why the catalog does not do it.
    async fn publish(&self, table: TableId, txn: TxnId) -> Result<bool, String>;
}

/// A target that has its references.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remapped {
    /// Its version.
    pub version: Slot,
    /// How many they are.
    pub references: u64,
}

/// What a region holds of a repartition that is not resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StagingInfo {
    /// The repartition.
    pub txn: TxnId,
    /// The generation that its readers see.
    pub base: Generation,
    /// The generation that its writers write.
    pub generation: Generation,
    /// The version that staged it.
    pub since: Slot,
    /// When that was, in milliseconds since 1970-01-01T00:00:00Z; `None` if the record is not kept any more.
    pub since_unix_ms: Option<u64>,
    /// Whether it retires.
    pub retires: bool,
    /// Whether everything before the fence is in SSTs.
    pub drained: bool,
    /// Whether it has its references.
    pub remapped: bool,
    /// Rows that nobody sees yet.
    pub staged_rows: u64,
}

impl Engine {
    /// Creates an empty region that is staged, and opens it. Its rule is *false* until the repartition is resolved.
    ///
    /// Idempotent.
    ///
    /// # Errors
    /// Those of [`Region::stage`], and [`Error::StagedOtherwise`] for a region that has a rule of its own.
    pub async fn create_staged(&self, meta: RegionMeta, stage: StageRequest) -> Result<Staged, Error> {
        let region = self.create_or_open(meta, stage.base).await?;
        let meta = region.meta();
        if meta.generation == stage.base && *meta.rule != Expr::never() {
            let detail = "it has a rule of its own, so that it was not created for this".to_owned();
            return Err(Error::StagedOtherwise { region: region.id(), txn: stage.txn, detail });
        }
        region.stage(&stage).await
    }

    /// Makes sure that a new region of an aborted group can never be staged: creates it, if it does not exist, and retires
    /// it. One that is staged is left to [`resolve`](Self::resolve).
    ///
    /// # Errors
    /// [`Error::Staged`]; [`Error::Stale`] for a region that has a rule of its own, and lives; the manifest's.
    pub async fn create_retired(&self, meta: RegionMeta) -> Result<(), Error> {
        let base = meta.generation;
        let region = self.create_or_open(meta, base).await?;
        region.retire_new().await
    }

    async fn create_or_open(&self, meta: RegionMeta, base: Generation) -> Result<Arc<Region>, Error> {
        let region = meta.region;
        if let Ok(open) = self.region(region) {
            return Ok(open);
        }
        let new = RegionMeta { rule: Arc::new(Expr::never()), generation: base, ..meta };
        match self.create_region(new).await {
            Ok(created) => Ok(created),
            Err(Error::Manifest { source, .. }) if matches!(*source, tessera_manifest::error::Error::Exists { .. }) => {
                self.open_region(region).await
            }
            Err(error) => Err(error),
        }
    }

    /// See [`Region::prepare`].
    ///
    /// # Errors
    /// Its, and [`Error::RegionNotFound`].
    pub async fn prepare(&self, region: RegionId, txn: TxnId) -> Result<Prepared, Error> {
        self.region(region)?.prepare(txn).await
    }

    /// Ends the preparation of a region that was not staged: its compactions go on. One that is not prepared, or not open,
    /// is fine.
    pub fn release(&self, region: RegionId, txn: TxnId) {
        if let Ok(open) = self.region(region) {
            open.release_preparation(txn);
        }
    }

    /// See [`Region::stage`].
    ///
    /// # Errors
    /// Its, and [`Error::RegionNotFound`].
    pub async fn stage(&self, request: StageRequest) -> Result<Staged, Error> {
        self.region(request.region)?.stage(&request).await
    }

    /// See [`Region::drain`].
    ///
    /// # Errors
    /// Its, and [`Error::RegionNotFound`].
    pub async fn drain(&self, region: RegionId, txn: TxnId) -> Result<Drained, Error> {
        self.region(region)?.drain(txn).await
    }

    /// See [`Region::apply_remap`].
    ///
    /// # Errors
    /// Its, and [`Error::RegionNotFound`].
    pub async fn apply_remap(&self, region: RegionId, remap: RemapStaged) -> Result<Remapped, Error> {
        self.region(region)?.apply_remap(remap).await
    }

    /// See [`Region::resolve`].
    ///
    /// # Errors
    /// Its, and [`Error::RegionNotFound`].
    pub async fn resolve(&self, region: RegionId, txn: TxnId, base: Generation, decided: &Decided) -> Result<Resolved, Error> {
        self.region(region)?.resolve(txn, base, decided).await
    }

    /// See [`Region::staging`].
    ///
    /// # Errors
    /// Its, and [`Error::RegionNotFound`].
    pub async fn staging(&self, region: RegionId) -> Result<Option<StagingInfo>, Error> {
        self.region(region)?.staging().await
    }

    /// Asks for a compaction of a region, which rewrites the files of other regions and those with rows of other regions
    /// first. It runs when its turn comes.
    ///
    /// # Errors
    /// [`Error::RegionNotFound`] for a region that is not open.
    pub fn localize(&self, region: RegionId) -> Result<(), Error> {
        self.region(region)?.localize();
        Ok(())
    }

    /// What a remap would give each target if nothing were written until then. Reads the states of open regions here, of
    /// others from the store; what can fail in a remap fails here.
    ///
    /// # Errors
    /// The store's and the manifests'.
    pub async fn dry_run(&self, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, Error> {
        let reads: Vec<_> = sources.iter().map(|region| self.state_of(*region)).collect();
        let states: Arc<[RegionState]> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect::<Vec<_>>().await?.into();
        let previews = targets.iter().map(|(target, rule)| {
            let (target, references) = (*target, references_of(*target, Arc::clone(&states), Arc::clone(rule)));
            async move { Ok::<_, Error>(preview(target, &references.await?)) }
        });
        stream::iter(previews.collect::<Vec<_>>()).buffered(TARGETS_AT_ONCE).try_collect().await
    }

    async fn state_of(&self, region: RegionId) -> Result<RegionState, Error> {
        match self.region(region) {
            Ok(open) => Ok(open.state()),
            Err(_) => load(self.context(), region).await.map_err(|source| Error::manifest(region, source)),
        }
    }

    /// Computes the references of targets from what the sources have on the store, and writes them as segments into the
    /// targets' folders. Whichever node does it, and however often, the references are the same.
    ///
    /// # Errors
    /// [`Error::SourceMoved`] for a source that is not as it was drained; the store's and the manifests'.
    pub async fn remap(&self, request: RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, Error> {
        let RemapRequest { txn, targets, sources } = request;
        let reads: Vec<_> = sources.iter().map(|source| self.frozen_state(*source, txn)).collect();
        let states: Arc<[RegionState]> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect::<Vec<_>>().await?.into();
        let remapped = targets.into_iter().map(|RemapTarget { region, epoch, rule }| {
            let references = references_of(region, Arc::clone(&states), rule);
            async move {
                let files: Vec<Arc<FileRef>> = references.await?.into_iter().map(|reference| reference.file).collect();
                let written = write_remap(self.context(), region, epoch, txn, files).await;
                Ok::<_, Error>((region, written.map_err(|source| Error::manifest(region, source))?))
            }
        });
        stream::iter(remapped.collect::<Vec<_>>()).buffered(TARGETS_AT_ONCE).try_collect().await
    }

    /// The state of a source: the version that was drained, or a later one with the same files. Of a region that is open here
    /// it is at hand; its files are frozen, and their hash says that they are those that were drained, whoever has it now.
    async fn frozen_state(&self, source: Drained, txn: TxnId) -> Result<RegionState, Error> {
        let Drained { region, visible, .. } = source;
        let is_it = |state: &RegionState| {
            let staged = state.staging().is_some_and(|staging| staging.stage.txn == txn);
            staged && state.is_drained() == Some(true) && state.set_hash() == visible
        };
        if let Some(state) = self.region(region).ok().map(|open| open.state()).filter(is_it) {
            return Ok(state);
        }
        let state = load(self.context(), region).await.map_err(|source| Error::manifest(region, source))?;
        if is_it(&state) { Ok(state) } else { Err(Error::SourceMoved { region, txn }) }
    }

    /// Makes an open region anew of what its manifest says, after ending its epoch; what its memtables hold, which the log
    /// holds too, goes where its generation belongs. Opens a region that is not open.
    ///
    /// # Errors
    /// Those of [`open_region`](Self::open_region).
    pub async fn restart(&self, region: RegionId) -> Result<Arc<Region>, Error> {
        match self.region(region) {
            Ok(open) => {
                open.restart().await?;
                Ok(open)
            }
            Err(_) => self.open_region(region).await,
        }
    }
}

/// A target's references; work for every core.
async fn references_of(target: RegionId, states: Arc<[RegionState]>, rule: Arc<Expr>) -> Result<Vec<Reference>, Error> {
    let work = env::spawn_blocking(move || {
        let rules: BTreeMap<usize, Arc<Expr>> =
            states.iter().enumerate().filter_map(|(at, state)| Some((at, Arc::clone(&state.meta()?.rule)))).collect();
        let fenced = rules.iter().map(|(at, rule)| Fenced { rule, files: states[*at].files() });
        remap(&fenced.collect::<Vec<_>>(), &rule)
    });
    work.await.map_err(|_| Error::Stopped { region: target })
}

fn preview(target: RegionId, references: &[Reference]) -> RemapPreview {
    let mut preview = RemapPreview { target, files: 0, foreign_files: 0, bytes: 0, rows: 0, residual_files: 0 };
    for Reference { file, tested } in references {
        preview.files += 1;
        preview.foreign_files += u64::from(file.key.origin != target);
        preview.residual_files += u64::from(*tested);
        preview.bytes += file.meta.bytes;
        preview.rows += file.meta.rows;
    }
    preview
}

#[cfg(test)]
mod tests;
