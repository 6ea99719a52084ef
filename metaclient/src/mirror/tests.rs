//! Mirrors against the history of their store.

use std::collections::BTreeMap;

use tessera_manifest::env::sleep;
use tokio::time::timeout;

use super::*;
use crate::kv::{Entry, Key, KvError, Limits, MemoryBackend, Op, Txn, range_all};
use crate::testing::{Fault, FaultKv, Random, seeds};

fn small() -> Arc<dyn KvBackend> {
    Arc::new(MemoryBackend::with_limits(Limits { range_entries_max: 3, watch_changes_max: 40, ..Limits::EMBEDDED }))
}

async fn put(kv: &Arc<dyn KvBackend>, key: &str, value: &str) -> Revision {
    kv.txn(Txn::new().then([Op::put(key, value.to_owned())])).await.unwrap().revision
}

fn mirror(kv: &Arc<dyn KvBackend>) -> Mirror {
    Mirror::start(Arc::clone(kv), KeyRange::prefix("m/"))
}

#[tokio::test(start_paused = true)]
async fn a_write_is_seen_by_who_waits_for_its_revision() {
    let kv = small();
    put(&kv, "m/a", "1").await;
    let mirror = mirror(&kv);
    assert_eq!(mirror.view().unwrap_err(), MirrorError::NotReady);
    assert_eq!(mirror.ready().await.unwrap().get(&"m/a".into()).unwrap().value, "1");
    for number in 0..20 {
        let revision = put(&kv, &format!("m/{number}"), "x").await;
        let view = mirror.wait_for(revision).await.unwrap();
        assert!(view.get(&format!("m/{number}").into()).is_some());
        // Outside of the range nothing is delivered; that nothing was missed must be found out all the same.
        let revision = put(&kv, "other", "x").await;
        assert!(timeout(Duration::from_secs(1), mirror.wait_for(revision)).await.unwrap().unwrap().revision() >= revision);
    }
    let beyond = Revision(u64::MAX);
    assert!(timeout(Duration::from_secs(60), mirror.wait_for(beyond)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn ranges_are_read_from_memory_in_order() {
    let kv = small();
    for name in ["m/b", "m/a", "m/c/1", "m/c/2", "m/d"] {
        put(&kv, name, name).await;
    }
    let mirror = mirror(&kv);
    let view = mirror.ready().await.unwrap();
    let names = |range: &KeyRange| view.range(range).map(|entry| entry.key.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&KeyRange::all()), "m/a m/b m/c/1 m/c/2 m/d");
    assert_eq!(names(&KeyRange::prefix("m/c/")), "m/c/1 m/c/2");
    assert_eq!(names(&KeyRange::between("m/d", "m/b")), "");
    assert_eq!((view.len(), view.is_empty()), (5, false));
}

#[tokio::test(start_paused = true)]
async fn a_closed_mirror_says_so() {
    let kv = small();
    let mirror = mirror(&kv);
    let mut changes = mirror.changes();
    mirror.ready().await.unwrap();
    changes.next().await.unwrap();
    mirror.close().await;
    assert_eq!(changes.next().await.unwrap_err(), MirrorError::Closed);
}

#[tokio::test(start_paused = true)]
async fn staleness_is_small_on_a_quiet_store_and_grows_without_one() {
    let kv = small();
    let process = FaultKv::sound(Arc::clone(&kv));
    let handle: Arc<dyn KvBackend> = process.clone();
    let mirror = mirror(&handle);
    assert_eq!(mirror.staleness(), None);
    mirror.ready().await.unwrap();
    sleep(Duration::from_secs(100)).await;
    assert!(mirror.staleness().unwrap() <= crate::limits::MIRROR_PROOF_INTERVAL);
    process.freeze();
    sleep(Duration::from_secs(100)).await;
    // A watch that was waiting when the process was stopped still gives its mark.
    assert!(mirror.staleness().unwrap() >= Duration::from_secs(90) || !process.is_down());
}

/// A backend whose watches give no marks.
#[derive(Debug)]
struct NoMarks(Arc<dyn KvBackend>);

#[derive(Debug)]
struct NoMarksWatch(Box<dyn crate::kv::Watch>);

#[async_trait::async_trait]
impl crate::kv::Watch for NoMarksWatch {
    async fn next(&mut self) -> Result<crate::kv::WatchBatch, KvError> {
        self.0.next().await
    }
}

#[async_trait::async_trait]
impl KvBackend for NoMarks {
    fn limits(&self) -> Limits {
        self.0.limits()
    }
    async fn get(&self, key: &Key) -> Result<crate::kv::GetAnswer, KvError> {
        self.0.get(key).await
    }
    async fn multi_get(&self, keys: &[Key]) -> Result<crate::kv::MultiGetAnswer, KvError> {
        self.0.multi_get(keys).await
    }
    async fn range(&self, request: &crate::kv::RangeRequest) -> Result<crate::kv::RangeAnswer, KvError> {
        self.0.range(request).await
    }
    async fn txn(&self, txn: Txn) -> Result<crate::kv::TxnAnswer, KvError> {
        self.0.txn(txn).await
    }
    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Box<dyn crate::kv::Watch>, KvError> {
        Ok(Box::new(NoMarksWatch(self.0.watch(range, from).await?)))
    }
    async fn compact(&self, before: Revision) -> Result<(), KvError> {
        self.0.compact(before).await
    }
    async fn grant(&self, ttl: Duration) -> Result<crate::kv::Lease, KvError> {
        self.0.grant(ttl).await
    }
    async fn keep_alive(&self, id: crate::kv::LeaseId) -> Result<Duration, KvError> {
        self.0.keep_alive(id).await
    }
    async fn revoke(&self, id: crate::kv::LeaseId) -> Result<(), KvError> {
        self.0.revoke(id).await
    }
}

type Contents = BTreeMap<Key, Entry>;

/// Writes at random while a mirror follows through faults; each view is the range at its revision.
async fn storm(seed: u64, marks: bool) {
    let kv = small();
    let mut random = Random::new(seed);
    let mut faults = Random::new(seed ^ 0xfa17);
    let handle = FaultKv::new(Arc::clone(&kv), move |_| faults.chance(1, 8).then_some(Fault::Fail));
    let handle: Arc<dyn KvBackend> = if marks { handle } else { Arc::new(NoMarks(handle)) };
    let mirror = mirror(&handle);
    let mut history: BTreeMap<Revision, Contents> = BTreeMap::new();
    let mut checked = 0;
    for _ in 0..200 {
        let ops: BTreeMap<String, Op> = (0..=random.below(3))
            .map(|_| {
                let scope = if random.chance(3, 4) { "m" } else { "other" };
                let key = format!("{scope}/{}", random.below(12));
                let op = if random.chance(1, 3) { Op::delete(key.as_str()) } else { Op::put(key.as_str(), random.bits().to_string()) };
                (key, op)
            })
            .collect();
        let revision = kv.txn(Txn::new().then(ops.into_values())).await.unwrap().revision;
        let entries = range_all(&*kv, KeyRange::prefix("m/")).await.unwrap();
        history.insert(revision, entries.into_iter().map(|entry| (entry.key.clone(), entry)).collect());
        if random.chance(1, 4) {
            sleep(Duration::from_millis(random.below(300))).await;
        } else if random.chance(1, 2) {
            tokio::task::yield_now().await;
        }
        if random.chance(1, 10) {
            let view = timeout(Duration::from_secs(600), mirror.wait_for(revision)).await.expect("it gets there").unwrap();
            assert!(view.revision() >= revision);
        }
        if let Ok(view) = mirror.view() {
            // What the store was at that revision, if any transaction was seen by then.
            if let Some((_, expected)) = history.range(..=view.revision()).next_back() {
                let shown: Contents = view.range(&KeyRange::all()).map(|entry| (entry.key.clone(), entry.clone())).collect();
                assert_eq!(&shown, expected, "seed {seed} at revision {}", view.revision());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn every_view_is_the_range_at_its_revision() {
    for seed in seeds(40) {
        storm(seed, true).await;
        storm(seed, false).await;
    }
}
