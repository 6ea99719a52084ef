//! Regions whose answer to one step is held back, so that a test acts, or ends the process, right there.

use std::sync::Arc;

use async_trait::async_trait;
use tessera_manifest::action::RemapStaged;
use tessera_manifest::id::{Generation, NodeId, RegionId, TableId, TxnId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_metaclient::repartition::{
    Applied, Decided, Drained, PortError, Prepared, RegionPort, RemapPreview, RemapRequest, Resolved, StageRequest, Staged,
};
use tokio::sync::Semaphore;

use super::*;
use crate::query::session::Sessions;

/// Where a step is held.
#[derive(Debug, Clone, Copy)]
pub(super) enum At {
    /// Before it is done.
    Before(&'static str),
    /// When it is done, and nobody has heard of it.
    After(&'static str),
}

/// Says when a step is reached, and lets it go on.
#[derive(Debug)]
pub(super) struct Hold {
    at: At,
    reached: Semaphore,
    free: Semaphore,
}

impl Hold {
    pub(super) fn new(at: At) -> Arc<Self> {
        Arc::new(Self { at, reached: Semaphore::new(0), free: Semaphore::new(0) })
    }

    /// Waits until the step is held.
    pub(super) async fn reached(&self) {
        self.reached.acquire().await.unwrap().forget();
    }

    /// It is held no more.
    pub(super) fn free(&self) {
        self.free.add_permits(1);
    }

    async fn hold(&self) {
        self.reached.add_permits(1);
        // The permit is given back: once free, all are.
        drop(self.free.acquire().await.unwrap());
    }

    async fn around<T>(&self, step: &'static str, work: impl Future<Output = T> + Send) -> T {
        if matches!(self.at, At::Before(held) if held == step) {
            self.hold().await;
        }
        let answer = work.await;
        if matches!(self.at, At::After(held) if held == step) {
            self.hold().await;
        }
        answer
    }
}

impl World {
    /// A process whose repartitions are held.
    pub(super) async fn open_held(&self, hold: &Arc<Hold>) -> Session {
        let (kv, store, hold) = (Arc::clone(&self.kv), Arc::clone(&self.store), Arc::clone(hold));
        let wal = Arc::new(NoopWal::new(NodeId(0), &Env::system()));
        let parts =
            Parts { kv, store, wal, reachable: None, env: Env::system(), engine: Config::default(), node: NodeId(0), cluster: Nonce(1) };
        let through = |inner| Arc::new(Held { inner, hold }) as _;
        Session { server: Standalone::open_through(parts, Arc::new(Sessions::new().unwrap()), through).await.unwrap() }
    }
}

#[derive(Debug)]
struct Held {
    inner: Arc<dyn RegionPort>,
    hold: Arc<Hold>,
}

#[async_trait]
impl RegionPort for Held {
    async fn create_staged(&self, node: NodeId, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError> {
        self.hold.around("create_staged", self.inner.create_staged(node, meta, stage)).await
    }
    async fn prepare(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Prepared, PortError> {
        self.hold.around("prepare", self.inner.prepare(node, region, txn)).await
    }
    async fn dry_run(&self, node: NodeId, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        self.inner.dry_run(node, targets, sources).await
    }
    async fn stage(&self, node: NodeId, request: &StageRequest) -> Result<Staged, PortError> {
        self.hold.around("stage", self.inner.stage(node, request)).await
    }
    async fn drain(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Drained, PortError> {
        self.hold.around("drain", self.inner.drain(node, region, txn)).await
    }
    async fn remap(&self, node: NodeId, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError> {
        self.inner.remap(node, request).await
    }
    async fn apply_remap(&self, node: NodeId, region: RegionId, remap: &RemapStaged) -> Result<Applied, PortError> {
        self.hold.around("apply_remap", self.inner.apply_remap(node, region, remap)).await
    }
    async fn resolve(&self, node: NodeId, region: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError> {
        self.hold.around("resolve", self.inner.resolve(node, region, base, decided)).await
    }
    async fn create_retired(&self, node: NodeId, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError> {
        self.inner.create_retired(node, meta, decided).await
    }
    async fn restart(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        self.inner.restart(node, region).await
    }
    async fn take_back(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        self.inner.take_back(node, region).await
    }
    async fn release(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<(), PortError> {
        self.inner.release(node, region, txn).await
    }
    async fn localize(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        self.inner.localize(node, region).await
    }
    async fn decide(&self, proposal: &Decided) -> Result<Decided, PortError> {
        self.hold.around("decide", self.inner.decide(proposal)).await
    }
    async fn decided(&self, table: TableId, txn: TxnId) -> Result<Option<Decided>, PortError> {
        self.inner.decided(table, txn).await
    }
}
