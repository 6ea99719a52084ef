//! How many requests to the metadata store statements make.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tessera_metaclient::kv::{
    GetAnswer, Key, KeyRange, KvError, Lease, LeaseId, Limits, MultiGetAnswer, RangeAnswer, RangeRequest, Revision, Txn, TxnAnswer, Watch,
};

use super::*;

/// A metadata store that counts what is asked of it.
#[derive(Debug)]
struct Counted {
    inner: MemoryBackend,
    requests: AtomicUsize,
}

impl Counted {
    fn count(&self) -> &MemoryBackend {
        self.requests.fetch_add(1, Ordering::SeqCst);
        &self.inner
    }
}

#[async_trait]
impl KvBackend for Counted {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        self.count().get(key).await
    }
    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        self.count().multi_get(keys).await
    }
    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        self.count().range(request).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnAnswer, KvError> {
        self.count().txn(txn).await
    }
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        // The runner of procedures follows its keys all the time.
        self.inner.watch(range, from).await
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

#[tokio::test]
async fn statements_ask_the_metadata_store_so_often_and_no_more() {
    let kv = Arc::new(Counted { inner: MemoryBackend::new(), requests: AtomicUsize::new(0) });
    let world = World { kv: Arc::clone(&kv) as Arc<dyn KvBackend>, ..World::new() };
    let session = world.open().await;
    session.run(CPU).await;
    session.run("INSERT INTO cpu (host, ts) VALUES ('a', 1)").await;
    // The table is read with its routes and what its name stands for; who reads rows looks at the routes again after the last pin.
    let budgets = [
        ("INSERT INTO cpu (host, ts) VALUES ('a', 2), ('x', 2)", 1),
        ("SELECT count(*) FROM cpu", 2),
        ("SELECT count(*) FROM cpu a JOIN cpu b ON a.host = b.host", 2),
        ("INSERT INTO cpu SELECT * FROM cpu", 2),
        ("DELETE FROM cpu WHERE host = 'a'", 2),
    ];
    let requests = async |sql: &str, database: &str| {
        let before = kv.requests.load(Ordering::SeqCst);
        match session.server.execute(sql, database, &CancellationToken::new()).await.unwrap().pop().unwrap() {
            Output::Rows { stream, .. } => drop(stream.try_collect::<Vec<_>>().await.unwrap()),
            Output::Affected(_) => {}
        }
        kv.requests.load(Ordering::SeqCst) - before
    };
    for (sql, budget) in budgets {
        assert_eq!(requests(sql, "public").await, budget, "{sql}");
    }
    // Another database is looked for first; how many there are makes no difference.
    for database in 0..9 {
        session.run(&format!("CREATE DATABASE d{database}")).await;
    }
    session.run("CREATE TABLE d3.t (ts TIMESTAMP TIME INDEX)").await;
    requests("SELECT * FROM t", "d3").await;
    assert_eq!(requests("SELECT * FROM t", "d3").await, 3);
}
