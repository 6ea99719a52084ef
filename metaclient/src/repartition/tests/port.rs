//! The fake regions behind a port of one process, which fails, stops or dies when it is told to.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::action::RemapStaged;
use tessera_manifest::env;
use tessera_manifest::id::{Generation, NodeId, RegionId, TableId, TxnId};
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::rule::Expr;

use super::super::*;
use super::Ledger;
use super::fake::{Ask, Told, World};
use crate::catalog::Catalog;
use crate::kv::KvBackend;
use crate::testing::{Fault, FaultKv, Random};

type Plan = dyn FnMut(u64) -> Option<Fault> + Send;
type Refuse = dyn Fn(&Ask) -> Option<PortError> + Send + Sync;

struct State {
    requests: u64,
    plan: Box<Plan>,
    delayed: Option<(u32, Ask)>,
    latency: Option<Random>,
}

pub(super) struct FakePort {
    world: Arc<World>,
    /// A sound handle to the metadata, to look at what is published.
    kv: Arc<dyn KvBackend>,
    /// The process, which lives and dies with its handle to the metadata.
    process: Arc<FaultKv>,
    state: Mutex<State>,
    refuse: Box<Refuse>,
    /// What is never answered, though it may be done.
    hang: Option<fn(&Ask) -> bool>,
    /// Writes a row before each request, as a router would.
    ledger: Option<Arc<Ledger>>,
}

impl fmt::Debug for FakePort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakePort")
    }
}

impl FakePort {
    pub(super) fn new(world: &Arc<World>, kv: &Arc<dyn KvBackend>, process: &Arc<FaultKv>) -> Self {
        let state = State { requests: 0, plan: Box::new(|_| None), delayed: None, latency: None };
        let (world, kv, process) = (Arc::clone(world), Arc::clone(kv), Arc::clone(process));
        Self { world, kv, process, state: Mutex::new(state), refuse: Box::new(|_| None), hang: None, ledger: None }
    }

    pub(super) fn with_plan(self, plan: impl FnMut(u64) -> Option<Fault> + Send + 'static) -> Self {
        self.state.lock().unwrap().plan = Box::new(plan);
        self
    }

    pub(super) fn with_latency(self, random: Random) -> Self {
        self.state.lock().unwrap().latency = Some(random);
        self
    }

    pub(super) fn refusing(self, refuse: impl Fn(&Ask) -> Option<PortError> + Send + Sync + 'static) -> Self {
        Self { refuse: Box::new(refuse), ..self }
    }

    pub(super) fn hanging(self, hang: fn(&Ask) -> bool) -> Self {
        Self { hang: Some(hang), ..self }
    }

    pub(super) fn with_writes(self, ledger: &Arc<Ledger>) -> Self {
        Self { ledger: Some(Arc::clone(ledger)), ..self }
    }

    pub(super) fn requests(&self) -> u64 {
        self.state.lock().unwrap().requests
    }

    /// What must hold before a region may follow a commit.
    async fn check(&self, ask: &Ask) {
        if let Ask::Resolve(region, _, decided) = ask
            && let Verdict::Commit { stages } = &decided.verdict
            && self.world.is_staged(*region, decided.txn)
        {
            let sources: Vec<RegionId> = stages.iter().map(|(region, _)| *region).collect();
            let view = Catalog::on(Arc::clone(&self.kv)).table_view(decided.table).await.unwrap();
            assert!(view.is_published(decided.commit, &sources), "resolved before the read set was published: {decided:?}");
        }
    }

    fn admit(&self) -> (Option<Fault>, Option<Ask>, Option<Duration>) {
        let mut state = self.state.lock().unwrap();
        let number = state.requests;
        state.requests += 1;
        let arrived = match state.delayed.take() {
            Some((0, ask)) => Some(ask),
            Some((left, ask)) => {
                state.delayed = Some((left - 1, ask));
                None
            }
            None => None,
        };
        let latency = state.latency.as_mut().map(|random| Duration::from_millis(1 + random.below(30)));
        ((state.plan)(number), arrived, latency)
    }

    async fn call(&self, ask: Ask) -> Result<Told, PortError> {
        self.process.alive().await;
        if let Some(ledger) = &self.ledger {
            ledger.write_one().await;
        }
        let (fault, arrived, latency) = self.admit();
        if let Some(latency) = latency {
            env::sleep(latency).await;
        }
        if let Some(late) = arrived {
            self.check(&late).await;
            let _ = self.world.run(&late);
        }
        match fault {
            Some(Fault::CrashBefore) => self.process.die().await,
            Some(Fault::FreezeBefore) => self.process.doze().await,
            Some(Fault::Fail) => return Err(PortError::retryable("the test says so")),
            Some(Fault::Delay) => {
                self.state.lock().unwrap().delayed = Some((1, ask));
                return Err(PortError::retryable("it takes too long"));
            }
            _ => {}
        }
        if let Some(refused) = (self.refuse)(&ask) {
            return Err(refused);
        }
        self.check(&ask).await;
        self.world.inner().asked_after.push(self.process.requests());
        let told = self.world.run(&ask);
        if self.hang.is_some_and(|hang| hang(&ask)) {
            std::future::pending::<()>().await;
        }
        match fault {
            Some(Fault::CrashAfter) => self.process.die().await,
            Some(Fault::FreezeAfter) => self.process.doze().await,
            Some(Fault::LoseAnswer) => return Err(PortError::retryable("the answer is lost")),
            _ => {}
        }
        self.process.alive().await;
        told
    }
}

/// The answer of one kind.
macro_rules! told {
    ($answer:expr, $kind:ident) => {
        match $answer {
            Told::$kind(found) => Ok(found),
            other => panic!("{other:?}"),
        }
    };
}

#[async_trait]
impl RegionPort for FakePort {
    async fn create_staged(&self, _: NodeId, meta: &RegionMeta, stage: &StageRequest) -> Result<Staged, PortError> {
        told!(self.call(Ask::CreateStaged(meta.clone(), stage.clone())).await?, Staged)
    }

    async fn prepare(&self, _: NodeId, region: RegionId, txn: TxnId) -> Result<Prepared, PortError> {
        told!(self.call(Ask::Prepare(region, txn)).await?, Prepared)
    }

    async fn dry_run(&self, _: NodeId, targets: &[(RegionId, Arc<Expr>)], sources: &[RegionId]) -> Result<Vec<RemapPreview>, PortError> {
        told!(self.call(Ask::DryRun(targets.to_vec(), sources.to_vec())).await?, Previews)
    }

    async fn stage(&self, _: NodeId, request: &StageRequest) -> Result<Staged, PortError> {
        told!(self.call(Ask::Stage(request.clone())).await?, Staged)
    }

    async fn drain(&self, _: NodeId, region: RegionId, txn: TxnId) -> Result<Drained, PortError> {
        told!(self.call(Ask::Drain(region, txn)).await?, Drained)
    }

    async fn remap(&self, _: NodeId, request: &RemapRequest) -> Result<Vec<(RegionId, RemapStaged)>, PortError> {
        told!(self.call(Ask::Remap(request.clone())).await?, Remaps)
    }

    async fn apply_remap(&self, _: NodeId, region: RegionId, remap: &RemapStaged) -> Result<Applied, PortError> {
        told!(self.call(Ask::ApplyRemap(region, remap.clone())).await?, Applied)
    }

    async fn resolve(&self, _: NodeId, region: RegionId, base: Generation, decided: &Decided) -> Result<Resolved, PortError> {
        told!(self.call(Ask::Resolve(region, base, decided.clone())).await?, Resolved)
    }

    async fn create_retired(&self, _: NodeId, meta: &RegionMeta, decided: &Decided) -> Result<(), PortError> {
        self.call(Ask::CreateRetired(meta.clone(), decided.clone())).await.map(drop)
    }

    async fn restart(&self, _: NodeId, region: RegionId) -> Result<(), PortError> {
        self.call(Ask::Restart(region)).await.map(drop)
    }

    async fn take_back(&self, _: NodeId, region: RegionId) -> Result<(), PortError> {
        self.call(Ask::TakeBack(region)).await.map(drop)
    }

    async fn release(&self, _: NodeId, region: RegionId, txn: TxnId) -> Result<(), PortError> {
        self.call(Ask::Release(region, txn)).await.map(drop)
    }

    async fn localize(&self, _: NodeId, region: RegionId) -> Result<(), PortError> {
        self.call(Ask::Localize(region)).await.map(drop)
    }

    async fn decide(&self, proposal: &Decided) -> Result<Decided, PortError> {
        Ok(told!(self.call(Ask::Decide(proposal.clone())).await?, Decided)?.unwrap())
    }

    async fn decided(&self, _: TableId, txn: TxnId) -> Result<Option<Decided>, PortError> {
        told!(self.call(Ask::Decided(txn)).await?, Decided)
    }
}
