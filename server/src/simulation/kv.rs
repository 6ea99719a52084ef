//! The metadata as one process sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_manifest::env::{sleep, spawn};
use tessera_metaclient::kv::{
    GetAnswer, Key, KeyRange, KvBackend, KvError, Lease, LeaseId, Limits, MultiGetAnswer, RangeAnswer, RangeRequest, Revision, Txn,
    TxnAnswer, Watch, WatchBatch,
};

use super::life::{Fate, Life};

/// A handle of one process.
#[derive(Debug)]
pub(super) struct SimKv {
    inner: Arc<dyn KvBackend>,
    life: Arc<Life>,
}

fn failed() -> KvError {
    KvError::Storage { path: PathBuf::from("simulation"), doing: "reach", source: "no answer".into() }
}

fn unknown() -> KvError {
    KvError::CommitUnknown { store: "simulation".into(), source: "no answer".into() }
}

impl SimKv {
    pub(super) fn new(inner: Arc<dyn KvBackend>, life: Arc<Life>) -> Self {
        Self { inner, life }
    }

    async fn read<T>(&self, verb: &'static str, what: &str, work: impl Future<Output = Result<T, KvError>>) -> Result<T, KvError> {
        let answer = match self.life.send(verb, what).await {
            Fate::Done | Fate::Repeated => work.await,
            Fate::Refused | Fate::Lost | Fate::Late(_) => Err(failed()),
        };
        self.life.receive().await;
        answer
    }
}

#[async_trait]
impl KvBackend for SimKv {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        self.read("kv get", &key.to_string(), self.inner.get(key)).await
    }

    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        self.read("kv multi-get", "", self.inner.multi_get(keys)).await
    }

    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        self.read("kv range", &request.range.start.to_string(), self.inner.range(request)).await
    }

    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        if txn.is_read_only() {
            return self.read("kv read", "", self.inner.txn(txn)).await;
        }
        let answer = match self.life.send("kv txn", "").await {
            Fate::Done | Fate::Repeated => self.inner.txn(txn).await,
            Fate::Refused => Err(failed()),
            Fate::Lost => self.inner.txn(txn).await.and_then(|_| Err(unknown())),
            Fate::Late(after) => {
                let (inner, life) = (Arc::clone(&self.inner), Arc::clone(&self.life));
                spawn(async move {
                    sleep(after).await;
                    let done = inner.txn(txn).await.is_ok_and(|answer| answer.succeeded);
                    life.note(format_args!("late kv txn {done}"));
                });
                Err(unknown())
            }
        };
        if let Ok(answer) = &answer {
            self.life.note(format_args!("kv txn {} at {}", answer.succeeded, answer.revision));
        }
        self.life.receive().await;
        answer
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        let watch = self.read("kv watch", &range.start.to_string(), self.inner.watch(range.clone(), from)).await?;
        Ok(Box::new(SimWatch { watch, batch: None, life: Arc::clone(&self.life) }))
    }

    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        self.inner.compact(before).await
    }

    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.inner.keep_alive(id).await
    }

    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.inner.revoke(id).await
    }
}

/// A watch that a dead process hears nothing of.
#[derive(Debug)]
struct SimWatch {
    watch: Box<dyn Watch>,
    batch: Option<Result<WatchBatch, KvError>>,
    life: Arc<Life>,
}

#[async_trait]
impl Watch for SimWatch {
    async fn next(&mut self) -> Result<WatchBatch, KvError> {
        // Kept while it is on its way: a call that is cancelled loses nothing.
        if self.batch.is_none() {
            self.batch = Some(self.watch.next().await);
        }
        self.life.receive().await;
        self.batch.take().unwrap()
    }

    fn mark(&mut self) -> bool {
        self.watch.mark()
    }
}
