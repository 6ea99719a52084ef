//! Bugs that databases of this kind had, each as a test with its number in GreptimeDB's list.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::{Epoch, NodeId, RegionId};
use tessera_manifest::value::Value;
use tessera_manifest::wal::{WalId, WalPosition};
use tokio::sync::Semaphore;

use super::flow::{restart, start};
use super::table::*;
use crate::compaction::Strategy;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::error::Error;
use crate::merge::fixtures::{batch, rows_of};
use crate::request::{OpType, ScanRequest, WriteRequest};
use crate::wal::{EntryStream, LocalWal, LogStore, Options, Pending, WalError};

const HALVES: [(Option<u32>, &str); 2] = [(Some(0), "k < 5"), (None, "k >= 5")];

async fn flush(engine: &Engine) {
    for region in engine.regions() {
        region.flush().await.unwrap();
    }
}

async fn compact(engine: &Engine) {
    for region in engine.regions() {
        region.compact(Strategy::StrictWindow).await.unwrap();
    }
}

async fn check(engine: &Engine, kv: &Kv, promises: &Promises) {
    promises.check(&once(&scan(engine, kv).await));
}

#[tokio::test]
async fn bug_7561_every_row_is_there_once_after_split_and_merge() {
    for mode in ["last_row", "last_non_null", "append"] {
        for flushed in [false, true] {
            let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
            let engine = start(dir.path(), &kv).await;
            create(&engine, &kv, &[""], mode).await;
            for index in 0..KEYS {
                promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
            }
            if flushed {
                flush(&engine).await;
            }
            kv.plan(&[0], &HALVES, mode).run(&engine, &kv, None).await.unwrap();
            check(&engine, &kv, &promises).await;
            kv.plan(&[0, 1], &[(Some(0), "")], mode).run(&engine, &kv, None).await.unwrap();
            check(&engine, &kv, &promises).await;
            let engine = restart(engine, dir.path(), &kv, None).await;
            check(&engine, &kv, &promises).await;
            engine.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn bug_7678_sequential_inserts_through_split_and_merge_leave_no_gap() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "append").await;
    let stop = std::sync::atomic::AtomicBool::new(false);
    let inserts = async {
        let mut ts = 0;
        while !stop.load(std::sync::atomic::Ordering::SeqCst) {
            promise(&engine, &kv, &promises, (ts % KEYS, ts), Some(ts)).await;
            ts += 1;
            tokio::task::yield_now().await;
        }
        ts
    };
    let repartitions = async {
        for right in 1..4 {
            kv.plan(&[0], &HALVES, "append").run(&engine, &kv, None).await.unwrap();
            flush(&engine).await;
            kv.plan(&[0, right], &[(Some(0), "")], "append").run(&engine, &kv, None).await.unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let (written, ()) = futures::join!(inserts, repartitions);
    let rows = scan(&engine, &kv).await;
    let mut times: Vec<i64> = rows.iter().map(|(_, ts, _)| *ts).collect();
    times.sort_unstable();
    assert!(written > 20);
    assert_eq!(times, (0..written).collect::<Vec<_>>());
    engine.close().await.unwrap();
}

#[tokio::test]
async fn bug_8946_an_old_row_with_a_large_counter_does_not_beat_a_newer_write() {
    for kept in [0, 1] {
        let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
        let engine = start(dir.path(), &kv).await;
        create(&engine, &kv, &["k < 5", "k >= 5"], "last_row").await;
        for v in 0..200 {
            promise(&engine, &kv, &promises, (7, 1), Some(v)).await;
        }
        promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
        flush(&engine).await;
        kv.plan(&[0, 1], &[(Some(kept), "")], "last_row").run(&engine, &kv, None).await.unwrap();
        promise(&engine, &kv, &promises, (7, 1), Some(-1)).await;
        check(&engine, &kv, &promises).await;
        flush(&engine).await;
        check(&engine, &kv, &promises).await;
        let engine = restart(engine, dir.path(), &kv, None).await;
        compact(&engine).await;
        check(&engine, &kv, &promises).await;
        promise(&engine, &kv, &promises, (7, 1), None).await;
        flush(&engine).await;
        compact(&engine).await;
        check(&engine, &kv, &promises).await;
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_row_deleted_after_a_split_stays_deleted_after_compaction_and_merge() {
    for mode in ["last_row", "last_non_null"] {
        for kept in [0, 1] {
            let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
            let engine = start(dir.path(), &kv).await;
            create(&engine, &kv, &[""], mode).await;
            for index in 0..KEYS {
                promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
            }
            flush(&engine).await;
            kv.plan(&[0], &HALVES, mode).run(&engine, &kv, None).await.unwrap();
            for index in [0, 2, 9] {
                promise(&engine, &kv, &promises, (index, 1), None).await;
            }
            flush(&engine).await;
            // One half writes its rows anew and drops its deletes; the other still refers to the file that has the rows.
            region(&engine, 0).await.compact(Strategy::StrictWindow).await.unwrap();
            let deletes: u64 = region(&engine, 0).await.state().files().values().map(|listed| listed.file.meta.deletes).sum();
            assert_eq!(deletes, 0, "nothing in this region is left for the deletes to hide");
            check(&engine, &kv, &promises).await;
            kv.plan(&[0, 1], &[(Some(kept), "")], mode).run(&engine, &kv, None).await.unwrap();
            check(&engine, &kv, &promises).await;
            compact(&engine).await;
            check(&engine, &kv, &promises).await;
            engine.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_row_deleted_while_staged_stays_deleted() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    for index in 0..KEYS {
        promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
    }
    let plan = kv.plan(&[0], &HALVES, "last_row");
    let staged = plan.fence(&engine).await.unwrap();
    plan.decide(&engine, Some(&staged)).await;
    plan.admit(&kv);
    for index in [2, 7] {
        promise(&engine, &kv, &promises, (index, 1), None).await;
    }
    flush(&engine).await;
    let engine = restart(engine, dir.path(), &kv, Some(&plan)).await;
    assert_eq!(once(&scan(&engine, &kv).await).len(), KEYS as usize, "not seen before the publish");
    plan.run(&engine, &kv, None).await.unwrap();
    check(&engine, &kv, &promises).await;
    compact(&engine).await;
    check(&engine, &kv, &promises).await;
    engine.close().await.unwrap();
}

#[tokio::test]
async fn rows_truncated_after_a_split_stay_gone_after_the_merge() {
    for mode in ["last_row", "append"] {
        for kept in [0, 1] {
            let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
            let engine = start(dir.path(), &kv).await;
            create(&engine, &kv, &[""], mode).await;
            for index in 0..KEYS {
                promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
            }
            flush(&engine).await;
            kv.plan(&[0], &HALVES, mode).run(&engine, &kv, None).await.unwrap();
            region(&engine, 0).await.truncate().await.unwrap();
            for index in 0..5 {
                promises.done((index, 1), None);
            }
            promise(&engine, &kv, &promises, (1, 2), Some(12)).await;
            check(&engine, &kv, &promises).await;
            kv.plan(&[0, 1], &[(Some(kept), "")], mode).run(&engine, &kv, None).await.unwrap();
            check(&engine, &kv, &promises).await;
            let engine = restart(engine, dir.path(), &kv, None).await;
            compact(&engine).await;
            check(&engine, &kv, &promises).await;
            engine.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_writer_delayed_over_a_rule_and_back_is_refused() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    let before = kv.routes()[0].1.clone();
    let late = WriteRequest {
        generation: before.generation,
        rule_version: before.rule.version(),
        batch: batch(&schema(), OpType::Put, &[row(3, 1, 1)]),
        op: OpType::Put,
    };
    kv.plan(&[0], &HALVES, "last_row").run(&engine, &kv, None).await.unwrap();
    kv.plan(&[0, 1], &[(Some(0), "")], "last_row").run(&engine, &kv, None).await.unwrap();
    assert_eq!(kv.routes()[0].1.rule, before.rule, "the rule is what it was");
    let error = region(&engine, 0).await.write(late).await.unwrap_err();
    assert!(matches!(error, Error::Stale { .. }), "{error}");
    check(&engine, &kv, &promises).await;
    engine.close().await.unwrap();
}

#[tokio::test]
async fn values_that_were_staged_complete_those_before_in_last_non_null_mode() {
    let (dir, kv) = (TempDir::new().unwrap(), Kv::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_non_null").await;
    let put = async |engine: &Engine, v: Value, w: Value| {
        let (region, route) = kv.routes().into_iter().find(|(_, route)| route.rule.matches(|_| &Value::Float(7.0))).unwrap();
        let rows = [vec![Value::Float(7.0), Value::Timestamp(1), v, w]];
        let (generation, rule_version) = (route.generation, route.rule.version());
        let request = WriteRequest { generation, rule_version, batch: batch(&schema(), OpType::Put, &rows), op: OpType::Put };
        engine.region(region).unwrap().write(request).await.unwrap();
    };
    put(&engine, Value::Int(1), Value::Null).await;
    flush(&engine).await;
    let plan = kv.plan(&[0], &HALVES, "last_non_null");
    let staged = plan.fence(&engine).await.unwrap();
    plan.decide(&engine, Some(&staged)).await;
    plan.admit(&kv);
    put(&engine, Value::Null, Value::Int(5)).await;
    plan.run(&engine, &kv, None).await.unwrap();
    for _ in 0..2 {
        let scan = region(&engine, 1).await.scan(ScanRequest::default()).await.unwrap();
        let batches: Vec<_> = scan.into_stream().try_collect().await.unwrap();
        assert_eq!(rows_of(&batches), [vec![Value::Float(7.0), Value::Timestamp(1), Value::Int(1), Value::Int(5)]]);
        flush(&engine).await;
        compact(&engine).await;
    }
    engine.close().await.unwrap();
}

/// A log whose entries are durable before the writer hears of it.
#[derive(Debug)]
struct SlowWal {
    inner: LocalWal,
    durable: Semaphore,
    answers: Semaphore,
}

#[async_trait]
impl LogStore for SlowWal {
    fn id(&self) -> WalId {
        self.inner.id()
    }
    fn epoch(&self) -> Epoch {
        self.inner.epoch()
    }
    fn entry_bytes_max(&self) -> u64 {
        self.inner.entry_bytes_max()
    }
    async fn submit(&self, region: RegionId, payload: Vec<Bytes>) -> Result<Pending, WalError> {
        let position = self.inner.submit(region, payload).await?.wait().await?;
        self.durable.add_permits(1);
        self.answers.acquire().await.unwrap().forget();
        Ok(Pending::done(position))
    }
    fn replay(&self, region: RegionId, after: WalPosition) -> Result<EntryStream, WalError> {
        self.inner.replay(region, after)
    }
    fn regions(&self) -> Vec<(RegionId, WalPosition)> {
        self.inner.regions()
    }
    fn release(&self, region: RegionId, up_to: WalPosition) {
        self.inner.release(region, up_to);
    }
    fn oldest_needed(&self) -> Option<(RegionId, WalPosition)> {
        self.inner.oldest_needed()
    }
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
    async fn close(&self) -> Result<(), WalError> {
        self.inner.close().await
    }
}

#[tokio::test]
async fn a_row_that_is_durable_and_not_applied_at_the_fence_is_on_this_side_of_it() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let inner = LocalWal::open(dir.path(), Options::new(NodeId(1)), Env::system()).await.unwrap();
    let wal = Arc::new(SlowWal { inner, durable: Semaphore::new(0), answers: Semaphore::new(0) });
    let parts = Parts {
        store: Arc::new(InMemory::new()),
        wal: Arc::clone(&wal) as Arc<dyn LogStore>,
        node: NodeId(1),
        env: Env::system(),
        config: Config::default(),
        read_set: None,
        reachable: None,
    };
    let engine = Engine::start(parts);
    create(&engine, &kv, &[""], "last_row").await;
    let plan = kv.plan(&[0], &HALVES, "last_row");
    let order = std::sync::Mutex::new(Vec::new());
    let write = async {
        promise(&engine, &kv, &promises, (7, 1), Some(1)).await;
        order.lock().unwrap().push("written");
    };
    let fence = async {
        wal.durable.acquire().await.unwrap().forget();
        let stage = async {
            let staged = plan.fence(&engine).await.unwrap();
            order.lock().unwrap().push("staged");
            staged
        };
        let answer = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            order.lock().unwrap().push("answered");
            wal.answers.add_permits(1);
        };
        futures::join!(stage, answer).0
    };
    let ((), staged) = futures::join!(write, fence);
    assert_eq!(order.lock().unwrap()[0], "answered", "no fence is drawn through a write");
    plan.decide(&engine, Some(&staged)).await;
    wal.answers.add_permits(1000);
    plan.run(&engine, &kv, None).await.unwrap();
    check(&engine, &kv, &promises).await;
    engine.close().await.unwrap();
}
