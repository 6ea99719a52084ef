//! The steps of one group, acted out on regions.
//!
//! Invariants:
//! - Each function does what one [`GroupStep`](super::GroupStep) says, changes nothing of the group, and answers the event
//!   that it leads to. Done again, wholly or after a part, it ends the same.
//! - Work on many regions goes side by side; of what fails, the first failure for good is told, else the first.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream;
use tessera_manifest::action::{RemapStaged, StageTarget};
use tessera_manifest::id::{Epoch, Generation, NodeId, RegionId, Slot};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;

use super::group::{Cause, Event, Group};
use super::plan::{PlannedSource, PlannedTarget};
use super::port::{Applied, Decided, PortError, RegionPort, RemapRequest, RemapTarget, StageRequest, Verdict};
use super::rightful::Rightful;
use crate::catalog::TableInfo;
use crate::limits::{REPARTITION_PARALLEL_MAX, REPARTITION_RELEASES_MAX, REPARTITION_REMAPS_MAX, REPARTITION_STAGES_MAX};

/// The generation of a new region until it is resolved; every generation that is drawn is above it.
const NEW: Generation = Generation::FIRST;

/// Why a step of a group failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub cause: Cause,
    pub retryable: bool,
}

impl Failure {
    pub(super) fn of(region: Option<RegionId>, error: PortError) -> Self {
        let PortError { retryable, not_found: _, overtaken: _, message, code } = error;
        let message = match region {
            Some(region) if !message.contains(&region.to_string()) => format!("region {region}: {message}"),
            _ => message,
        };
        Self { cause: Cause { message, code, region }, retryable }
    }

    fn defect(message: impl Into<String>) -> Self {
        Self { cause: Cause::new(message), retryable: false }
    }
}

/// What the steps of a group work on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ops<'a> {
    pub port: Rightful<'a>,
    pub group: &'a Group,
    /// The table as it is now.
    pub info: &'a TableInfo,
    /// The partition columns that its regions get.
    pub columns: &'a [tessera_manifest::id::ColumnId],
}

/// How a target took its references, and whether it was opened anew for that.
#[derive(Debug, Clone, Copy)]
struct Taken {
    applied: Applied,
    was_restarted: bool,
}

/// Runs all of `works` side by side, at most `parallel` at once.
async fn all<T, E>(works: impl IntoIterator<Item = impl Future<Output = Result<T, E>>>, parallel: usize) -> Vec<Result<T, E>> {
    // In the order given, so that a run follows from its inputs.
    let works: Vec<_> = works.into_iter().collect();
    stream::iter(works).buffered(parallel.max(1)).collect().await
}

/// All results, or the first failure for good, or else the first failure.
fn every<T>(results: Vec<Result<T, Failure>>) -> Result<Vec<T>, Failure> {
    let fatal = results.iter().position(|result| result.as_ref().is_err_and(|failure| !failure.retryable));
    match fatal {
        Some(at) => results.into_iter().nth(at).into_iter().collect(),
        None => results.into_iter().collect(),
    }
}

impl Ops<'_> {
    fn target_of(&self, target: &PlannedTarget) -> StageTarget {
        StageTarget { rule: Arc::new(target.rule.clone()), partition_columns: self.columns.to_vec() }
    }

    /// The metadata that a new region is created with: of no rows, until it is resolved.
    fn meta_of(&self, target: &PlannedTarget) -> RegionMeta {
        RegionMeta {
            region: target.region,
            database: self.info.database.clone(),
            table: self.info.name.clone(),
            schema: Arc::new(self.info.schema.clone()),
            partition_columns: Vec::new(),
            rule: Arc::new(Expr::never()),
            generation: NEW,
            options: self.info.options.clone(),
        }
    }

    fn stage_of(&self, region: RegionId, base: Generation) -> StageRequest {
        let target = self.group.plan.targets.iter().find(|target| target.region == region);
        StageRequest {
            region,
            txn: self.group.txn,
            base,
            generation: self.group.commit,
            abort: self.group.abort,
            target: target.map(|target| self.target_of(target)),
            schema_version: self.info.schema.version(),
        }
    }

    fn central(&self) -> NodeId {
        self.group.plan.targets.first().map_or(NodeId(0), |target| target.node)
    }

    /// Creates the new regions.
    pub(super) async fn create(&self) -> Result<Event, Failure> {
        let create = |target: &PlannedTarget| {
            let (meta, stage, region, node) = (self.meta_of(target), self.stage_of(target.region, NEW), target.region, target.node);
            async move { self.port.create_staged(node, &meta, &stage).await.map_err(|error| Failure::of(Some(region), error)) }
        };
        let works: Vec<_> = self.group.plan.created().map(create).collect();
        Ok(Event::Created(every(all(works, REPARTITION_PARALLEL_MAX).await)?))
    }

    /// Makes sure that the new regions are open where they are to be; they were created before. A failure is tried again
    /// only at once, since writes may wait.
    pub(super) async fn open_new(&self) -> Result<(), Failure> {
        let mut tries = 1;
        loop {
            match self.create().await {
                Err(failure) if failure.retryable && tries < REPARTITION_STAGES_MAX => tries += 1,
                created => return created.map(|_| ()),
            }
        }
    }

    /// Gets the sources ready, and tries the remap.
    pub(super) async fn prepare(&self) -> Result<Event, Failure> {
        let prepare = |source: &PlannedSource| {
            let (node, region) = (source.node, source.region);
            async move { self.port.prepare(node, region, self.group.txn).await.map_err(|error| Failure::of(Some(region), error)) }
        };
        let works: Vec<_> = self.group.plan.sources.iter().map(prepare).collect();
        every(all(works, REPARTITION_PARALLEL_MAX).await)?;
        let targets: Vec<(RegionId, Arc<Expr>)> =
            self.group.plan.targets.iter().map(|target| (target.region, Arc::new(target.rule.clone()))).collect();
        let sources: Vec<RegionId> = self.group.plan.sources.iter().map(|source| source.region).collect();
        let previews = self.port.dry_run(self.central(), &targets, &sources).await;
        Ok(Event::Prepared(previews.map_err(|error| Failure::of(None, error))?))
    }

    /// Stages every source, all at once; answers the stages by region. A failure is tried again only at once, since
    /// writes wait.
    pub(super) async fn stage(&self) -> Result<Vec<(RegionId, Slot)>, Failure> {
        let stage = |source: &PlannedSource| {
            let (node, request) = (source.node, self.stage_of(source.region, source.generation));
            async move {
                let mut tries = 1;
                loop {
                    match self.port.stage(node, &request).await {
                        Ok(staged) => return Ok((request.region, staged.version)),
                        Err(error) if error.retryable && tries < REPARTITION_STAGES_MAX => tries += 1,
                        Err(error) => return Err(Failure::of(Some(request.region), error)),
                    }
                }
            }
        };
        let works: Vec<_> = self.group.plan.sources.iter().map(stage).collect();
        every(all(works, usize::MAX).await)
    }

    /// Decides, or finds out what was decided. As with stages, a failure is tried again at once.
    pub(super) async fn decide(&self, verdict: Verdict) -> Result<Decided, Failure> {
        let proposal = self.group.proposal(self.info.id, verdict);
        let mut tries = 1;
        loop {
            match self.port.decide(&proposal).await {
                Err(error) if error.retryable && tries < REPARTITION_STAGES_MAX => tries += 1,
                other => return other.map_err(|error| Failure::of(None, error)),
            }
        }
    }

    /// Flushes the sources up to their fences.
    pub(super) async fn drain(&self) -> Result<Event, Failure> {
        let drain = |source: &PlannedSource| {
            let (node, region) = (source.node, source.region);
            async move { self.or_restart(node, region, || self.port.drain(node, region, self.group.txn)).await }
        };
        let works: Vec<_> = self.group.plan.sources.iter().map(drain).collect();
        Ok(Event::Drained(every(all(works, REPARTITION_PARALLEL_MAX).await)?))
    }

    /// Gives every target its references. Segments that a target cannot read are written anew once, for the next epoch of
    /// the target: what was damaged once may be well then. If they are damaged again, somebody has to look.
    pub(super) async fn remap(&self) -> Result<Event, Failure> {
        let mut epochs: BTreeMap<RegionId, Epoch> = self.group.epochs.clone();
        let mut left: Vec<&PlannedTarget> = self.group.plan.targets.iter().collect();
        let mut restarted: BTreeSet<RegionId> = BTreeSet::new();
        let mut references = 0_u64;
        for _ in 0..REPARTITION_REMAPS_MAX {
            let remaps = self.port.remap(self.central(), &self.remap_of(&left, &epochs)).await;
            let remaps: BTreeMap<RegionId, RemapStaged> = remaps.map_err(|error| Failure::of(None, error))?.into_iter().collect();
            let works: Vec<_> =
                left.iter().map(|target| self.apply(target, remaps.get(&target.region), restarted.contains(&target.region))).collect();
            for (region, taken) in every(all(works, REPARTITION_PARALLEL_MAX).await)? {
                let Taken { applied, was_restarted } = taken;
                if was_restarted {
                    restarted.insert(region);
                }
                match applied {
                    Applied::Remapped { references: found, version: _ } => {
                        references = references.saturating_add(found);
                        left.retain(|target| target.region != region);
                    }
                    Applied::StaleEpoch { epoch } => drop(epochs.insert(region, epoch)),
                }
            }
            if left.is_empty() {
                return Ok(Event::Remapped { references });
            }
        }
        let regions: Vec<String> = left.iter().map(|target| target.region.to_string()).collect();
        let message = format!("regions {} change their epoch again and again", regions.join(", "));
        Err(Failure { cause: Cause::new(message), retryable: true })
    }

    /// Has a target take its references; where it cannot for good, once more after it was opened anew, unless it was.
    async fn apply(&self, target: &PlannedTarget, remap: Option<&RemapStaged>, was_restarted: bool) -> Result<(RegionId, Taken), Failure> {
        let (node, region) = (target.node, target.region);
        let remap = remap.ok_or_else(|| Failure::defect(format!("the remap has no references for region {region}")))?;
        let failed = |error| Failure::of(Some(region), error);
        let taken = |applied| (region, Taken { applied, was_restarted });
        match self.port.apply_remap(node, region, remap).await {
            Err(error) if !error.retryable && !was_restarted => {
                self.port.restart(node, region).await.map_err(|_| failed(error))?;
                let applied = self.port.apply_remap(node, region, remap).await.map_err(failed)?;
                Ok((region, Taken { applied, was_restarted: true }))
            }
            other => other.map(taken).map_err(failed),
        }
    }

    fn remap_of(&self, targets: &[&PlannedTarget], epochs: &BTreeMap<RegionId, Epoch>) -> RemapRequest {
        let target = |target: &&PlannedTarget| RemapTarget {
            region: target.region,
            // A region that nobody has heard of says its epoch when it is asked to apply.
            epoch: epochs.get(&target.region).copied().unwrap_or(Epoch(1)),
            rule: Arc::new(target.rule.clone()),
        };
        RemapRequest { txn: self.group.txn, targets: targets.iter().map(target).collect(), sources: self.group.drained.clone() }
    }

    /// Has every region follow a commit.
    pub(super) async fn resolve_commit(&self, decided: &Decided) -> Result<Event, Failure> {
        let retired: Vec<RegionId> = self.group.plan.retired().collect();
        let sources = self.group.plan.sources.iter().map(|source| (source.node, source.region, source.generation));
        let created = self.group.plan.created().map(|target| (target.node, target.region, NEW));
        let resolve = |(node, region, base): (NodeId, RegionId, Generation)| {
            let retires = retired.contains(&region);
            async move {
                let resolving = self.port.resolve(node, region, base, decided).await;
                match resolving {
                    // It was retired, and its history has ended.
                    Err(error) if error.not_found && retires => Ok(()),
                    Err(error) if !error.retryable => {
                        self.or_restart(node, region, || self.port.resolve(node, region, base, decided)).await.map(drop)
                    }
                    other => other.map(drop).map_err(|error| Failure::of(Some(region), error)),
                }
            }
        };
        let works: Vec<_> = sources.chain(created).map(resolve).collect();
        every(all(works, REPARTITION_PARALLEL_MAX).await)?;
        Ok(Event::Resolved { notes: Vec::new() })
    }

    /// Has every source follow an abort, and ends the new regions.
    pub(super) async fn resolve_abort(&self, decided: &Decided) -> Result<Event, Failure> {
        let resolve = |source: &PlannedSource| {
            let (node, region, base) = (source.node, source.region, source.generation);
            async move { self.or_restart(node, region, || self.port.resolve(node, region, base, decided)).await }
        };
        let works: Vec<_> = self.group.plan.sources.iter().map(resolve).collect();
        every(all(works, REPARTITION_PARALLEL_MAX).await)?;
        self.retire_created(decided).await?;
        Ok(Event::Resolved { notes: self.restart_suspect().await })
    }

    /// Ends the new regions of a group that came to nothing. Any node can; where its own does not, that of a source does.
    async fn retire_created(&self, decided: &Decided) -> Result<(), Failure> {
        let other = self.group.plan.sources.first().map(|source| source.node);
        let retire = |target: &PlannedTarget| {
            let (node, region, meta) = (target.node, target.region, self.meta_of(target));
            async move {
                let failed = match (self.port.create_retired(node, &meta, decided).await, other) {
                    (Err(_), Some(other)) if other != node => self.port.create_retired(other, &meta, decided).await,
                    (result, _) => result,
                };
                failed.map_err(|error| Failure::of(Some(region), error))
            }
        };
        let works: Vec<_> = self.group.plan.created().map(retire).collect();
        every(all(works, REPARTITION_PARALLEL_MAX).await).map(drop)
    }

    /// Undoes what was done before the fence.
    pub(super) async fn undo(&self) -> Result<Event, Failure> {
        // First, so that whoever opens a new region learns that it comes to nothing.
        let decided = self.decide(Verdict::Abort).await?;
        if decided.verdict != Verdict::Abort {
            let message = format!("repartition {} was decided as commit before its sources were fenced", self.group.txn);
            return Err(Failure::defect(message));
        }
        self.retire_created(&decided).await?;
        let mut notes = Vec::new();
        if self.group.prepared {
            for source in &self.group.plan.sources {
                if let Err(error) = self.release(source).await {
                    notes.push(format!("region {} was not released, which its next start does: {error}", source.region));
                }
            }
        }
        Ok(Event::Undone { notes })
    }

    /// Ends the preparation of a source. It is given up after a few attempts: a node that is gone holds nothing.
    async fn release(&self, source: &PlannedSource) -> Result<(), PortError> {
        let mut tries = 1;
        loop {
            match self.port.release(source.node, source.region, self.group.txn).await {
                Err(error) if error.retryable && tries < REPARTITION_RELEASES_MAX => tries += 1,
                other => return other,
            }
        }
    }

    /// Schedules what makes reading fast again.
    pub(super) async fn localize(&self) -> Event {
        let mut notes = Vec::new();
        for target in &self.group.plan.targets {
            if let Err(error) = self.port.localize(target.node, target.region).await {
                notes.push(format!("region {} was not asked to localize its files: {error}", target.region));
            }
        }
        Event::Finished { notes }
    }

    /// Opens the region anew whose operation failed, so that nothing in memory is left of it.
    async fn restart_suspect(&self) -> Vec<String> {
        let region = self.group.cause.as_ref().and_then(|cause| cause.region);
        let source = region.and_then(|region| self.group.plan.sources.iter().find(|source| source.region == region));
        let Some(source) = source else { return Vec::new() };
        match self.port.restart(source.node, source.region).await {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("region {} was not opened anew: {error}", source.region)],
        }
    }

    /// Does `work`; where it fails for good, once more after the region was opened anew from its manifest.
    async fn or_restart<T, F: Future<Output = Result<T, PortError>>>(
        &self,
        node: NodeId,
        region: RegionId,
        work: impl Fn() -> F,
    ) -> Result<T, Failure> {
        let failed = |error| Failure::of(Some(region), error);
        let error = match work().await {
            Err(error) if !error.retryable => error,
            other => return other.map_err(failed),
        };
        if self.port.restart(node, region).await.is_err() {
            return Err(failed(error));
        }
        work().await.map_err(failed)
    }
}
