//! The regions as the steps of a repartition reach them: messages that are late, lost, repeated or refused.

use std::sync::Arc;

use async_trait::async_trait;
use tessera_manifest::action::RemapStaged;
use tessera_manifest::env::{sleep, spawn};
use tessera_manifest::id::{Generation, NodeId, RegionId, TableId, TxnId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;
use tessera_metaclient::repartition::{
    Applied, Decided, Drained, PortError, Prepared, RegionPort, RemapPreview, RemapRequest, Resolved, StageRequest, Staged,
};

use super::life::{Fate, Life};

/// The port of one process.
#[derive(Debug)]
pub(super) struct SimPort {
    inner: Arc<dyn RegionPort>,
    life: Arc<Life>,
}

impl SimPort {
    pub(super) fn new(inner: Arc<dyn RegionPort>, life: Arc<Life>) -> Self {
        Self { inner, life }
    }

    async fn call<T, F>(
        &self,
        name: &'static str,
        region: Option<RegionId>,
        work: impl Fn(Arc<dyn RegionPort>) -> F,
    ) -> Result<T, PortError>
    where
        T: Send,
        F: Future<Output = Result<T, PortError>> + Send + 'static,
    {
        let work = || work(Arc::clone(&self.inner));
        let whom = region.map_or_else(String::new, |region| region.to_string());
        if matches!(name, "create_staged" | "prepare" | "stage") && self.life.refuses() {
            self.life.note(format_args!("port {name} {whom} refused for good"));
            return Err(PortError::fatal("the disk is on fire"));
        }
        if matches!(name, "drain" | "remap" | "apply_remap" | "resolve") {
            self.life.linger().await;
        }
        let failed = || PortError::retryable("no answer");
        let answer = match self.life.send(name, &whom).await {
            Fate::Done => work().await,
            Fate::Refused => Err(failed()),
            Fate::Lost => work().await.and_then(|_| Err(failed())),
            Fate::Repeated => {
                drop(work().await);
                work().await
            }
            Fate::Late(after) => {
                let (late, life) = (work(), Arc::clone(&self.life));
                spawn(async move {
                    sleep(after).await;
                    let done = late.await.is_ok();
                    life.note(format_args!("late {name} {whom} {done}"));
                });
                Err(failed())
            }
        };
        if let Err(error) = &answer {
            self.life.note(format_args!("port {name} answers {error}"));
        }
        self.life.receive().await;
        answer
    }
}

#[async_trait]
impl RegionPort for SimPort {
    async fn create_staged(&self, node: NodeId, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let (meta, stage) = (meta.clone(), stage.clone());
            async move { port.create_staged(node, &meta, &stage).await }
        };
        self.call("create_staged", Some(meta.region), work).await
    }

    async fn prepare(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Prepared, PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.prepare(node, region, txn).await };
        self.call("prepare", Some(region), work).await
    }

    async fn dry_run(&self, node: NodeId, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let (targets, sources) = (targets.to_vec(), sources.to_vec());
            async move { port.dry_run(node, &targets, &sources).await }
        };
        self.call("dry_run", None, work).await
    }

    async fn stage(&self, node: NodeId, request: &StageRequest) -> Result<Staged, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let request = request.clone();
            async move { port.stage(node, &request).await }
        };
        self.call("stage", Some(request.region), work).await
    }

    async fn drain(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<Drained, PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.drain(node, region, txn).await };
        self.call("drain", Some(region), work).await
    }

    async fn remap(&self, node: NodeId, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let request = request.clone();
            async move { port.remap(node, &request).await }
        };
        self.call("remap", None, work).await
    }

    async fn apply_remap(&self, node: NodeId, region: RegionId, remap: &RemapStaged) -> Result<Applied, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let remap = remap.clone();
            async move { port.apply_remap(node, region, &remap).await }
        };
        self.call("apply_remap", Some(region), work).await
    }

    async fn resolve(&self, node: NodeId, region: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let decided = decided.clone();
            async move { port.resolve(node, region, base, &decided).await }
        };
        self.call("resolve", Some(region), work).await
    }

    async fn create_retired(&self, node: NodeId, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let (meta, decided) = (meta.clone(), decided.clone());
            async move { port.create_retired(node, &meta, &decided).await }
        };
        self.call("create_retired", Some(meta.region), work).await
    }

    async fn restart(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.restart(node, region).await };
        self.call("restart", Some(region), work).await
    }

    async fn take_back(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.take_back(node, region).await };
        self.call("take_back", Some(region), work).await
    }

    async fn release(&self, node: NodeId, region: RegionId, txn: TxnId) -> Result<(), PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.release(node, region, txn).await };
        self.call("release", Some(region), work).await
    }

    async fn localize(&self, node: NodeId, region: RegionId) -> Result<(), PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.localize(node, region).await };
        self.call("localize", Some(region), work).await
    }

    async fn decide(&self, proposal: &Decided) -> Result<Decided, PortError> {
        let work = |port: Arc<dyn RegionPort>| {
            let proposal = proposal.clone();
            async move { port.decide(&proposal).await }
        };
        self.call("decide", None, work).await
    }

    async fn decided(&self, table: TableId, txn: TxnId) -> Result<Option<Decided>, PortError> {
        let work = |port: Arc<dyn RegionPort>| async move { port.decided(table, txn).await };
        self.call("decided", None, work).await
    }
}
