//! Metadata with a fuse.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tessera_metaclient::kv::{
    GetAnswer, Key, KeyRange, KvBackend, KvError, Lease, LeaseId, Limits, MultiGetAnswer, Op, RangeAnswer, RangeRequest, Revision, Txn,
    TxnAnswer, Watch,
};

use super::Fuse;

/// The store of metadata of a process with a fuse.
#[derive(Debug)]
pub struct FusedKv {
    inner: Arc<dyn KvBackend>,
    fuse: Arc<Fuse>,
}

impl FusedKv {
    /// `inner` with this fuse.
    #[must_use]
    pub fn new(inner: Arc<dyn KvBackend>, fuse: Arc<Fuse>) -> Self {
        Self { inner, fuse }
    }
}

#[async_trait]
impl KvBackend for FusedKv {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        self.fuse.read(self.inner.get(key)).await
    }
    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        self.fuse.read(self.inner.multi_get(keys)).await
    }
    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        self.fuse.read(self.inner.range(request)).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        if txn.is_read_only() {
            return self.fuse.read(self.inner.txn(txn)).await;
        }
        self.fuse.write(named(&txn), self.inner.txn(txn)).await
    }
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        self.fuse.read(self.inner.watch(range, from)).await
    }
    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        self.fuse.read(self.inner.compact(before)).await
    }
    async fn grant(&self, ttl: Duration) -> Result<Lease, KvError> {
        self.fuse.write("grant of a lease", self.inner.grant(ttl)).await
    }
    async fn keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.fuse.read(self.inner.keep_alive(id)).await
    }
    async fn revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.fuse.write("revocation of a lease", self.inner.revoke(id)).await
    }
}

/// A transaction by what it writes.
fn named(txn: &Txn) -> String {
    let written = |op: &Op| match op {
        Op::Get { .. } | Op::Range { .. } => None,
        Op::Put { key, .. } => Some(key.to_string()),
        Op::Delete { key } => Some(format!("no {key}")),
        Op::DeleteRange { range } => Some(format!("no {range}")),
    };
    let keys: Vec<String> = txn.then_ops.iter().chain(&txn.else_ops).filter_map(written).collect();
    format!("txn of {}", keys.join(", "))
}
