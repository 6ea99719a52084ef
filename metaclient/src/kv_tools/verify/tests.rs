//! The check passes on stores that keep their word, and fails on each way of not doing so.

use std::sync::atomic::Ordering;

use async_trait::async_trait;

use super::*;
use crate::kv::{
    Change, GetAnswer, Key, Lease, LeaseId, Limits, MemoryBackend, MultiGetAnswer, RangeAnswer, RangeRequest, RedbBackend, TxnAnswer, Watch,
};

fn options(calls: u64) -> Options {
    Options { prefix: "verify/".to_owned(), writers: 6, keys: 12, calls, duration: None, seed: 7 }
}

fn assert_clean(report: &Report) {
    assert_eq!(report.violations, 0, "{report:#?}");
    assert!(report.applied > 0 && report.refused > 0 && report.idle > 0 && report.reads > 0, "{report:#?}");
    assert_eq!(report.history, report.applied + report.unknown_applied, "{report:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_embedded_stores_keep_their_word() {
    let folder = tempfile::tempdir().unwrap();
    let redb = RedbBackend::open(folder.path().join("meta.redb")).await.unwrap();
    for kv in [Arc::new(MemoryBackend::new()) as Arc<dyn KvBackend>, Arc::new(redb)] {
        for _ in 0..2 {
            // The second run finds nothing of the first one.
            assert_clean(&run(Arc::clone(&kv), options(3000)).await.unwrap());
        }
    }
}

#[tokio::test]
async fn a_prefix_in_use_is_refused() {
    let kv = Arc::new(MemoryBackend::new());
    kv.txn(Txn::new().then([Op::put("verify/x", "mine")])).await.unwrap();
    assert!(matches!(run(kv, options(10)).await, Err(Error::NotEmpty { .. })));
}

#[tokio::test]
async fn a_run_ends_in_time() {
    let kv = Arc::new(MemoryBackend::new());
    let options = Options { duration: Some(Duration::ZERO), ..options(u64::MAX) };
    assert_eq!(run(kv, options).await.unwrap().applied, 0);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// Some transactions are acknowledged and not done.
    LosesWrites,
    /// Deletes are acknowledged and not done.
    LosesDeletes,
    /// Some transactions are done twice.
    RepeatsWrites,
    /// Of two puts the first is done.
    TearsTransactions,
    /// Compares hold always.
    IgnoresCompares,
    /// Something fails and was done.
    FailsAfterTheFact,
    /// A refusal is told though the compare holds.
    RefusesForNothing,
    /// Some reads are of a state that was.
    ReadsThePast,
    /// Some reads say that a key is absent.
    ForgetsKeys,
    /// The watch skips a transaction.
    WatchSkips,
    /// The watch says something twice.
    WatchRepeats,
    /// Some answers bear another revision.
    WrongRevisions,
}

const LIES: [Lie; 12] = [
    Lie::LosesWrites,
    Lie::LosesDeletes,
    Lie::RepeatsWrites,
    Lie::TearsTransactions,
    Lie::IgnoresCompares,
    Lie::FailsAfterTheFact,
    Lie::RefusesForNothing,
    Lie::ReadsThePast,
    Lie::ForgetsKeys,
    Lie::WatchSkips,
    Lie::WatchRepeats,
    Lie::WrongRevisions,
];

/// A store that breaks its word now and then.
#[derive(Debug)]
struct Liar {
    inner: MemoryBackend,
    lie: Lie,
    calls: AtomicU64,
    past: std::sync::Mutex<Option<GetAnswer>>,
}

impl Liar {
    fn now_and_then(&self) -> bool {
        self.calls.fetch_add(1, Ordering::SeqCst) % 13 == 12
    }
}

/// Whether the run itself does it, to mark its end or to delete what it wrote: no writer is told of that.
fn is_of_the_run(op: &Op) -> bool {
    match op {
        Op::Put { key, .. } => key.to_string().contains("~end"),
        Op::DeleteRange { range } => *range == KeyRange::prefix("verify/"),
        _ => false,
    }
}

#[async_trait]
impl KvBackend for Liar {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }
    async fn get(&self, key: &Key) -> Result<GetAnswer, KvError> {
        let answer = self.inner.get(key).await?;
        if self.lie == Lie::ForgetsKeys {
            return Ok(GetAnswer { entry: None, ..answer });
        }
        if self.lie == Lie::ReadsThePast {
            let mut past = self.past.lock().unwrap();
            if let Some(kept) = past.as_ref().filter(|kept| kept.entry.as_ref().is_none_or(|entry| entry.key == *key)) {
                return Ok(kept.clone());
            }
            *past = Some(answer.clone());
        }
        Ok(answer)
    }
    async fn multi_get(&self, keys: &[Key]) -> Result<MultiGetAnswer, KvError> {
        self.inner.multi_get(keys).await
    }
    async fn range(&self, request: &RangeRequest) -> Result<RangeAnswer, KvError> {
        self.inner.range(request).await
    }
    async fn txn(&self, mut txn: Txn) -> Result<TxnAnswer, KvError> {
        if txn.then_ops.is_empty() || txn.then_ops.iter().any(is_of_the_run) {
            return self.inner.txn(txn).await;
        }
        let mut reported = txn.clone();
        match self.lie {
            Lie::LosesWrites if self.now_and_then() => reported = Txn::new(),
            Lie::LosesDeletes => reported.then_ops.retain(|op| !matches!(op, Op::DeleteRange { .. })),
            Lie::TearsTransactions if txn.then_ops.len() == 2 => drop(reported.then_ops.pop()),
            Lie::IgnoresCompares => reported.compares.clear(),
            _ => {}
        }
        if self.lie == Lie::RefusesForNothing && !txn.compares.is_empty() && self.now_and_then() {
            txn.then_ops.clear();
            return Ok(TxnAnswer { succeeded: false, ..self.inner.txn(txn).await? });
        }
        let mut answer = self.inner.txn(reported).await?;
        match self.lie {
            Lie::RepeatsWrites if self.now_and_then() => drop(self.inner.txn(txn).await?),
            Lie::FailsAfterTheFact if self.now_and_then() => return Err(KvError::TooManyLeases { leases_max: 0 }),
            Lie::WrongRevisions if self.now_and_then() => answer.revision = answer.revision.next(),
            _ => {}
        }
        Ok(answer)
    }
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn Watch>, KvError> {
        let inner = self.inner.watch(range, from).await?;
        Ok(Box::new(LyingWatch { inner, lie: self.lie, seen: 0, again: None }))
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

#[derive(Debug)]
struct LyingWatch {
    inner: Box<dyn Watch>,
    lie: Lie,
    seen: u64,
    again: Option<WatchBatch>,
}

#[async_trait]
impl Watch for LyingWatch {
    async fn next(&mut self) -> Result<WatchBatch, KvError> {
        if let Some(batch) = self.again.take() {
            return Ok(batch);
        }
        let batch = self.inner.next().await?;
        self.seen += 1;
        let is_end = batch.changes.iter().any(|change| matches!(change, Change::Put(entry) if entry.value == "end"));
        if self.seen.is_multiple_of(50) && !is_end {
            match self.lie {
                Lie::WatchSkips => return self.inner.next().await,
                Lie::WatchRepeats => self.again = Some(batch.clone()),
                _ => {}
            }
        }
        Ok(batch)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_broken_promise_shows() {
    for lie in LIES {
        let liar = Liar { inner: MemoryBackend::new(), lie, calls: AtomicU64::new(0), past: std::sync::Mutex::default() };
        let report = run(Arc::new(liar), options(2000)).await.unwrap();
        assert!(report.violations > 0, "{lie:?} went unnoticed: {report:#?}");
        assert!(!report.told.is_empty() && report.told.len() <= 20);
    }
}
