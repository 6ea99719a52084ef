//! A handle to a store that stands for one process, and fails, stops or dies when it is told to.
//!
//! Invariants:
//! - The store behind it stays sound: what dies is the process that holds the handle.
//! - A dead or frozen process gets no answer any more; its calls wait. A test that kills one drops its tasks.
//! - Requests (reads, transactions, watches, leases) are counted in the order in which they begin. Waiting for the
//!   next change of a watch is not a request.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::kv::{
    GetAnswer, Key, KeyRange, KvBackend, KvError, Lease, LeaseId, Limits, MultiGetAnswer, RangeAnswer, RangeRequest, Revision, Txn,
    TxnAnswer, Watch, WatchBatch,
};
use crate::signal::Signal;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before the request reaches the store.
    CrashBefore,
    /// The store does it, and the process dies before it has the answer.
    CrashAfter,
    /// The process stops before the request reaches the store, until it is thawed.
    FreezeBefore,
    /// The store does it, and the process stops before it has the answer, until it is thawed.
    FreezeAfter,
    /// The store does it, and the answer is lost: the outcome is unknown.
    LoseAnswer,
    /// The outcome is unknown, and a transaction reaches the store later: before that process' next but one
    /// request, or never.
    Delay,
    /// The store does not answer, and does nothing.
    Fail,
}

impl Fault {
    /// Those after which the process is dead.
    pub const CRASHES: [Self; 2] = [Self::CrashBefore, Self::CrashAfter];
    /// Those after which the process sleeps.
    pub const FREEZES: [Self; 2] = [Self::FreezeBefore, Self::FreezeAfter];
    /// Those that a process survives.
    pub const PASSING: [Self; 3] = [Self::LoseAnswer, Self::Delay, Self::Fail];
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Alive,
    Frozen,
    Dead,
}

type Plan = dyn FnMut(u64) -> Option<Fault> + Send;

struct State {
    requests: u64,
    plan: Box<Plan>,
    /// A delayed transaction, and after how many further requests it arrives.
    delayed: Option<(u32, Txn)>,
}

/// The handle of one process.
pub struct FaultKv {
    store: Arc<dyn KvBackend>,
    state: Mutex<State>,
    life: Arc<Signal<Life>>,
}

impl fmt::Debug for FaultKv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultKv").field("life", &self.life.get()).finish_non_exhaustive()
    }
}

fn unavailable() -> KvError {
    KvError::Storage { path: PathBuf::from("fault"), doing: "reach", source: "the test says so".into() }
}

fn unknown() -> KvError {
    KvError::CommitUnknown { store: "fault".into(), source: "the test says so".into() }
}

/// What to do with a request that has passed the gate.
struct Admitted {
    fault: Option<Fault>,
}

impl FaultKv {
    /// A handle to `store`; `plan` says for each request, counted from 0, what becomes of it.
    pub fn new(store: Arc<dyn KvBackend>, plan: impl FnMut(u64) -> Option<Fault> + Send + 'static) -> Arc<Self> {
        let state = State { requests: 0, plan: Box::new(plan), delayed: None };
        Arc::new(Self { store, state: Mutex::new(state), life: Arc::new(Signal::new(Life::Alive)) })
    }

    /// A handle whose request number `at` meets `fault`.
    pub fn once(store: Arc<dyn KvBackend>, at: u64, fault: Fault) -> Arc<Self> {
        Self::new(store, move |request| (request == at).then_some(fault))
    }

    /// A handle on which all goes well.
    pub fn sound(store: Arc<dyn KvBackend>) -> Arc<Self> {
        Self::new(store, |_| None)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests there have been.
    pub fn requests(&self) -> u64 {
        self.state().requests
    }

    /// Whether the process is dead or frozen.
    pub fn is_down(&self) -> bool {
        self.life.get() != Life::Alive
    }

    /// Waits until the process is dead or frozen.
    pub async fn down(&self) {
        self.life.wait_until(|life| *life != Life::Alive).await;
    }

    /// Stops the process between two requests.
    pub fn freeze(&self) {
        self.life.update(|life| (life == Life::Alive).then_some(Life::Frozen));
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.life.update(|life| (life == Life::Frozen).then_some(Life::Alive));
    }

    /// Ends the process where it stands, between two requests or within another kind of request; never returns.
    pub async fn die(&self) {
        self.down_as(Life::Dead).await;
    }

    /// Stops the process within another kind of request, until it is thawed.
    pub async fn doze(&self) {
        self.down_as(Life::Frozen).await;
    }

    /// Waits until the process is alive; for ever when it is dead.
    pub async fn alive(&self) {
        self.life.wait_until(|life| *life == Life::Alive).await;
    }

    async fn down_as(&self, life: Life) {
        self.life.update(|_| Some(life));
        self.alive().await;
    }

    async fn admit(&self) -> Result<Admitted, KvError> {
        self.alive().await;
        let (fault, arrived) = {
            let mut state = self.state();
            let number = state.requests;
            state.requests += 1;
            let arrived = match state.delayed.take() {
                Some((0, txn)) => Some(txn),
                Some((left, txn)) => {
                    state.delayed = Some((left - 1, txn));
                    None
                }
                None => None,
            };
            ((state.plan)(number), arrived)
        };
        if let Some(txn) = arrived {
            // Nobody waits for the answer any more.
            let _ = self.store.txn(txn).await;
        }
        match fault {
            Some(Fault::CrashBefore) => self.down_as(Life::Dead).await,
            Some(Fault::FreezeBefore) => self.down_as(Life::Frozen).await,
            Some(Fault::Fail) => return Err(unavailable()),
            _ => {}
        }
        Ok(Admitted { fault })
    }

    async fn answer<T>(&self, admitted: &Admitted, answer: Result<T, KvError>) -> Result<T, KvError> {
        match admitted.fault {
            Some(Fault::CrashAfter) => self.down_as(Life::Dead).await,
            Some(Fault::FreezeAfter) => self.down_as(Life::Frozen).await,
            Some(Fault::LoseAnswer | Fault::Delay) => return Err(unavailable()),
            _ => {}
        }
        // A process that was frozen by another of its requests gets this answer only when it is thawed.
        self.alive().await;
        answer
    }
}

#[async_trait]
impl KvBackend for FaultKv {
    fn limits(&self) -> Limits {
        self.store.limits()
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.get(key).await;
        self.answer(&admitted, answer).await
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.multi_get(keys).await;
        self.answer(&admitted, answer).await
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.range(request).await;
        self.answer(&admitted, answer).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        let admitted = self.admit().await?;
        if admitted.fault == Some(Fault::Delay) {
            self.state().delayed = Some((1, txn));
            return Err(unknown());
        }
        let answer = self.store.txn(txn).await;
        if admitted.fault == Some(Fault::LoseAnswer) {
            return Err(unknown());
        }
        self.answer(&admitted, answer).await
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.watch(range, from).await;
        let watch = self.answer(&admitted, answer).await?;
        Ok(Box::new(FaultWatch { watch, life: Arc::clone(&self.life) }))
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.grant(ttl).await;
        self.answer(&admitted, answer).await
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.keep_alive(id).await;
        self.answer(&admitted, answer).await
    }

    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.compact(before).await;
        self.answer(&admitted, answer).await
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        let admitted = self.admit().await?;
        let answer = self.store.revoke(id).await;
        self.answer(&admitted, answer).await
    }
}

#[derive(Debug)]
struct FaultWatch {
    watch: Box<dyn Watch>,
    life: Arc<Signal<Life>>,
}

#[async_trait]
impl Watch for FaultWatch {
    async fn next(&mut self) -> Result<WatchBatch, KvError> {
        self.life.wait_until(|life| *life == Life::Alive).await;
        self.watch.next().await
    }

    fn mark(&mut self) -> bool {
        self.watch.mark()
    }
}
