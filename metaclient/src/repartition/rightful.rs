//! The regions, as the steps of a runner reach them: a region that another writer has taken over is taken back, by the
//! runner whose epoch is current and by nobody else.
//!
//! Two processes that both live can take a region from each other: one that is slow, and does not know that it has a
//! successor, opens what it finds closed. Of the two, the metadata names the one that goes on: the one whose claim of the
//! procedures is current. Claims are never taken back, so that of any number of processes one takes regions back, and all
//! others stop as soon as they meet a region that is not theirs any more.
//!
//! Invariants:
//! - A region is taken back only after the claim was found current, and once for each time that it was found taken.
//! - No clock decides: who has been overtaken is told so by the metadata.
//! - Who loses its claim between the question and the taking takes one region late, once; the current runner takes it back.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use tessera_manifest::action::RemapStaged;
use tessera_manifest::id::{Generation, NodeId, RegionId, TableId, TxnId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;

use super::port::{Applied, Decided, Drained, PortError, Prepared, RegionPort, RemapPreview, RemapRequest, Resolved, StageRequest, Staged};
use crate::procedure::{StepContext, StepError};

/// The regions, for the steps of one runner.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rightful<'a> {
    port: &'a dyn RegionPort,
    context: &'a StepContext,
}

impl<'a> Rightful<'a> {
    pub(super) fn new(port: &'a dyn RegionPort, context: &'a StepContext) -> Self {
        Self { port, context }
    }

    /// Does `work`; where the region is found to be another writer's, once more after it was taken back.
    async fn keep<T, F>(&self, node: NodeId, region: RegionId, work: impl Fn() -> F + Send) -> Result<T, PortError>
    where
        T: Send,
        F: Future<Output = Result<T, PortError>> + Send,
    {
        let error = match work().await {
            Err(error) if error.overtaken => error,
            other => return other,
        };
        match self.context.check_fence().await {
            Ok(()) => {}
            // The region stays whose it is.
            Err(StepError::Fenced) => return Err(error),
            Err(unknown) => return Err(PortError::retryable(format!("{error}, and it cannot be found out who is to have it: {unknown}"))),
        }
        tracing::warn!(%region, epoch = self.context.epoch(), "takes a region back from another process");
        self.port.take_back(node, region).await?;
        work().await
    }
}

#[async_trait]
impl RegionPort for Rightful<'_> {
    async fn create_staged(&self, node: NodeId, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError> {
        self.keep(node, meta.region, || self.port.create_staged(node, meta, stage)).await
    }

    async fn prepare(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Prepared, PortError> {
        self.keep(node, region, || self.port.prepare(node, region, txn)).await
    }

    async fn dry_run(&self, node: NodeId, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        self.port.dry_run(node, targets, sources).await
    }

    async fn stage(&self, node: NodeId, request: &StageRequest) -> Result<Staged, PortError> {
        self.keep(node, request.region, || self.port.stage(node, request)).await
    }

    async fn drain(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Drained, PortError> {
        self.keep(node, region, || self.port.drain(node, region, txn)).await
    }

    async fn remap(&self, node: NodeId, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError> {
        self.port.remap(node, request).await
    }

    async fn apply_remap(&self, node: NodeId, region: RegionId, remap: &RemapStaged) -> Result<Applied, PortError> {
        self.keep(node, region, || self.port.apply_remap(node, region, remap)).await
    }

    async fn resolve(&self, node: NodeId, region: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError> {
        self.keep(node, region, || self.port.resolve(node, region, base, decided)).await
    }

    async fn create_retired(&self, node: NodeId, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError> {
        self.keep(node, meta.region, || self.port.create_retired(node, meta, decided)).await
    }

    async fn restart(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        self.keep(node, region, || self.port.restart(node, region)).await
    }

    async fn take_back(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        self.port.take_back(node, region).await
    }

    async fn release(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<(), PortError> {
        self.port.release(node, region, txn).await
    }

    async fn localize(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        self.port.localize(node, region).await
    }

    async fn decide(&self, proposal: &Decided) -> Result<Decided, PortError> {
        self.port.decide(proposal).await
    }

    async fn decided(&self, table: TableId, txn: TxnId) -> Result<Option<Decided>, PortError> {
        self.port.decided(table, txn).await
    }
}
