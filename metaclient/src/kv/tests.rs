//! The conformance suite on both embedded backends, the interpreter against a naive model, and what only
//! the embedded backends promise.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use proptest::prelude::*;
use tessera_manifest::error::ErrorClass;

use super::*;

mod memory_conforms {
    use std::sync::Arc;

    use crate::kv::{KvBackend, MemoryBackend};

    crate::conformance_tests!(((), Arc::new(MemoryBackend::new()) as Arc<dyn KvBackend>));
}

mod redb_conforms {
    use std::sync::Arc;

    use crate::kv::{KvBackend, RedbBackend};

    crate::conformance_tests!({
        let folder = tempfile::tempdir().unwrap();
        let kv = RedbBackend::open(folder.path().join("meta.redb")).await.unwrap();
        (folder, Arc::new(kv) as Arc<dyn KvBackend>)
    });
}

/// The limits of a small etcd.
const SMALL: Limits = Limits {
    txn_ops_max: 16,
    txn_bytes_max: 64 << 10,
    value_bytes_max: 16 << 10,
    key_bytes_max: 512,
    range_entries_max: 4,
    watch_changes_max: 16,
    watch_bytes_max: 64 << 10,
};

mod memory_with_small_limits_conforms {
    use std::sync::Arc;

    use super::SMALL;
    use crate::kv::{KvBackend, Limits, MemoryBackend};

    crate::conformance_tests!({
        let limits = Limits { watch_changes_max: 1024, ..SMALL };
        ((), Arc::new(MemoryBackend::with_limits(limits)) as Arc<dyn KvBackend>)
    });
}

fn put(key: &str, value: &str) -> Txn {
    Txn::new().then([Op::put(key, value.to_owned())])
}

#[tokio::test]
async fn a_slow_watcher_is_told_and_can_start_again() {
    let kv = MemoryBackend::with_limits(SMALL);
    let start = kv.txn(put("a", "0")).await.unwrap().revision;
    let mut slow = kv.watch(KeyRange::all(), start).await.unwrap();
    for number in 1..=20 {
        kv.txn(put("a", &number.to_string())).await.unwrap();
    }
    let missed = slow.next().await.unwrap_err();
    assert_eq!(missed.class(), ErrorClass::Refresh);
    let KvError::Compacted { requested, oldest } = missed else { panic!("not compacted: {missed}") };
    assert_eq!((requested, oldest), (start, Revision(start.0 + 5)));
    let mut again = kv.watch(KeyRange::all(), oldest).await.unwrap();
    assert_eq!(again.next().await.unwrap().revision, oldest);
}

#[tokio::test]
async fn a_transaction_larger_than_the_history_compacts_it_and_later_ones_are_delivered() {
    let kv = MemoryBackend::with_limits(Limits { watch_changes_max: 2, ..SMALL });
    let start = kv.txn(put("a", "0")).await.unwrap().revision;
    let mut watch = kv.watch(KeyRange::all(), start.next()).await.unwrap();
    let large = kv.txn(Txn::new().then(["a", "b", "c"].map(|key| Op::put(key, "1")))).await.unwrap().revision;
    assert!(matches!(watch.next().await, Err(KvError::Compacted { .. })));
    let mut watch = kv.watch(KeyRange::all(), large.next()).await.unwrap();
    let after = kv.txn(put("a", "2")).await.unwrap().revision;
    assert_eq!(watch.next().await.unwrap().revision, after);
}

#[tokio::test]
async fn a_watch_ends_when_its_store_is_dropped() {
    let kv = MemoryBackend::new();
    let mut watch = kv.watch(KeyRange::all(), Revision(100)).await.unwrap();
    drop(kv);
    assert!(matches!(watch.next().await, Err(KvError::Closed)));
}

#[tokio::test]
async fn redb_keeps_revisions_and_versions_across_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/er/meta.redb");
    let kv = RedbBackend::open(&path).await.unwrap();
    kv.txn(put("a", "1")).await.unwrap();
    let last = kv.txn(put("a", "2")).await.unwrap().revision;
    let before = kv.get(&"a".into()).await.unwrap();
    drop(kv);
    let kv = RedbBackend::open(&path).await.unwrap();
    assert_eq!(kv.get(&"a".into()).await.unwrap(), before);
    assert!(matches!(kv.watch(KeyRange::all(), last).await, Err(KvError::Compacted { .. })));
    let mut watch = kv.watch(KeyRange::all(), last.next()).await.unwrap();
    assert_eq!(kv.txn(put("b", "3")).await.unwrap().revision, last.next());
    assert_eq!(watch.next().await.unwrap().revision, last.next());
}

#[tokio::test]
async fn what_redb_acknowledged_is_in_the_file_even_when_it_is_never_closed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let kv = RedbBackend::open(&path).await.unwrap();
    let mut expected = BTreeMap::new();
    for number in 0..40_u32 {
        let name = format!("key/{}", number % 9);
        if number % 5 == 4 {
            kv.txn(Txn::new().then([Op::delete(name.as_str())])).await.unwrap();
            expected.remove(&name);
        } else {
            kv.txn(put(&name, &number.to_string())).await.unwrap();
            expected.insert(name, number.to_string());
        }
        if number % 8 != 7 {
            continue;
        }
        // The file as a crash would leave it: the store is still open and has written no farewell.
        let left = folder.path().join(format!("left-{number}.redb"));
        std::fs::copy(&path, &left).unwrap();
        let survivor = RedbBackend::open(&left).await.unwrap();
        let found = range_all(&survivor, KeyRange::all()).await.unwrap();
        let found: BTreeMap<_, _> =
            found.into_iter().map(|e| (e.key.to_string(), String::from_utf8_lossy(&e.value).into_owned())).collect();
        assert_eq!(found, expected, "after {number}");
        let revision = kv.get(&"key/0".into()).await.unwrap().revision;
        assert_eq!(survivor.txn(put("key/x", "x")).await.unwrap().revision, revision.next());
    }
}

#[tokio::test]
async fn a_cancelled_transaction_lets_the_next_ones_in() {
    let folder = tempfile::tempdir().unwrap();
    let kv = RedbBackend::open(folder.path().join("meta.redb")).await.unwrap();
    for number in 0..20 {
        let running = kv.txn(put("a", &number.to_string()));
        tokio::select! { biased; _ = running => {}, () = std::future::ready(()) => {} }
    }
    let last = kv.txn(put("b", "1")).await.unwrap().revision;
    assert_eq!(kv.get(&"b".into()).await.unwrap().revision, last);
}

#[tokio::test]
async fn a_second_opener_of_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    let _open = RedbBackend::open(&path).await.unwrap();
    let refused = RedbBackend::open(&path).await.unwrap_err();
    assert!(matches!(&refused, KvError::AlreadyOpen { path: named } if *named == path), "{refused}");
    assert!(refused.to_string().contains("in use by another process"));
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meta.redb");
    std::fs::write(&path, vec![b'x'; 8192]).unwrap();
    assert!(RedbBackend::open(&path).await.is_err());
    assert_eq!(std::fs::read(&path).unwrap(), vec![b'x'; 8192], "it is left as it is");
}

/// Every key with all it holds, by the plainest means.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model(BTreeMap<Key, Entry>);

impl View for Model {
    type Error = Infallible;
    fn get(&self, key: &Key) -> Result<Option<Entry>, Infallible> {
        Ok(self.0.get(key).cloned())
    }
    fn range(&self, range: &KeyRange, limit: usize) -> Result<Vec<Entry>, Infallible> {
        Ok(self.0.values().filter(|entry| range.contains(&entry.key)).take(limit).cloned().collect())
    }
}

impl Model {
    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Value { key, value } => self.0.get(key).is_some_and(|e| e.value == value),
            Compare::Version { key, version } => self.0.get(key).map_or(0, |e| e.version) == *version,
            Compare::ModRevision { key, revision } => self.0.get(key).map_or(0, |e| e.mod_revision.0) == revision.0,
            Compare::Absent { key } => !self.0.contains_key(key),
            Compare::Exists { key } => self.0.contains_key(key),
            Compare::PrefixEmpty { prefix } => !self.0.keys().any(|key| key.as_bytes().starts_with(prefix.as_bytes())),
        }
    }

    /// Applies one operation in place.
    fn apply(&mut self, op: &Op, revision: Revision) -> OpAnswer {
        match op {
            Op::Get { key } => OpAnswer::Get(self.0.get(key).cloned()),
            Op::Range { request } => {
                let all: Vec<Entry> = self.0.values().filter(|e| request.range.contains(&e.key)).cloned().collect();
                let limit = request.limit.clamp(1, SMALL.range_entries_max);
                OpAnswer::Range { more: all.len() > limit, entries: all.into_iter().take(limit).collect() }
            }
            Op::Put { key, value, lease } => {
                let old = self.0.get(key);
                let create_revision = old.map_or(revision, |e| e.create_revision);
                let version = old.map_or(1, |e| e.version + 1);
                let entry =
                    Entry { key: key.clone(), value: value.clone(), create_revision, mod_revision: revision, version, lease: *lease };
                self.0.insert(key.clone(), entry);
                OpAnswer::Put
            }
            Op::Delete { key } => OpAnswer::Delete { deleted: u64::from(self.0.remove(key).is_some()) },
            Op::DeleteRange { range } => {
                let before = self.0.len();
                self.0.retain(|key, _| !range.contains(key));
                OpAnswer::Delete { deleted: (before - self.0.len()) as u64 }
            }
        }
    }
}

fn keys() -> impl Strategy<Value = Key> {
    "[ab]{1,2}".prop_map(Key::from)
}

fn ranges() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        (keys(), proptest::option::of(keys())).prop_map(|(start, end)| KeyRange { start, end }),
        "[ab]{0,2}".prop_map(KeyRange::prefix),
    ]
}

fn compares() -> impl Strategy<Value = Compare> {
    prop_oneof![
        (keys(), "[xy]").prop_map(|(key, value)| Compare::Value { key, value: value.into() }),
        (keys(), 0..3_u64).prop_map(|(key, version)| Compare::Version { key, version }),
        (keys(), 0..6_u64).prop_map(|(key, revision)| Compare::ModRevision { key, revision: Revision(revision) }),
        keys().prop_map(|key| Compare::Absent { key }),
        keys().prop_map(|key| Compare::Exists { key }),
        "[ab]{0,2}".prop_map(|prefix| Compare::PrefixEmpty { prefix: prefix.into() }),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        1 => keys().prop_map(Op::get),
        1 => (ranges(), 0..6_usize).prop_map(|(range, limit)| Op::Range { request: RangeRequest { range, limit } }),
        4 => (keys(), "[xy]").prop_map(|(key, value)| Op::put(key, value)),
        1 => keys().prop_map(Op::delete),
        1 => ranges().prop_map(|range| Op::DeleteRange { range }),
    ]
}

pub(in crate::kv) fn txns() -> impl Strategy<Value = Txn> {
    let branch = || proptest::collection::vec(ops(), 0..5);
    (proptest::collection::vec(compares(), 0..2), branch(), branch()).prop_map(|(compares, then_ops, else_ops)| Txn {
        compares,
        then_ops,
        else_ops,
    })
}

/// Whether a branch breaks the rule on keys written twice, checked pair by pair.
fn clashes(ops: &[Op]) -> bool {
    ops.iter().enumerate().any(|(at, op)| {
        let Op::Put { key, .. } = op else { return false };
        ops.iter().enumerate().any(|(other_at, other)| match other {
            Op::Put { key: other, .. } => at != other_at && key == other,
            Op::Delete { key: other } => key == other,
            Op::DeleteRange { range } => range.contains(key),
            Op::Get { .. } | Op::Range { .. } => false,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_interpreter_agrees_with_a_naive_model(txns in proptest::collection::vec(txns(), 1..12)) {
        let (mut store, mut revision) = (Model::default(), Revision(1));
        for txn in txns {
            let refused = clashes(&txn.then_ops) || clashes(&txn.else_ops);
            prop_assert_eq!(check_txn(&txn, &SMALL).is_err(), refused);
            if refused {
                continue;
            }
            let plan = plan_txn(&store, revision, &txn, &SMALL).unwrap();
            let succeeded = txn.compares.iter().all(|compare| store.holds(compare));
            let mut after = store.clone();
            let branch = if succeeded { &txn.then_ops } else { &txn.else_ops };
            let answers: Vec<OpAnswer> = branch.iter().map(|op| after.apply(op, revision.next())).collect();
            let wrote = after != store;
            let expected = TxnAnswer { succeeded, revision: if wrote { revision.next() } else { revision }, answers };
            prop_assert_eq!(&plan.answer, &expected);
            prop_assert!(plan.changes.is_sorted_by(|a, b| a.key() < b.key()));
            for change in plan.changes {
                match change {
                    Change::Put(entry) => store.0.insert(entry.key.clone(), entry),
                    Change::Delete { key } => store.0.remove(&key),
                };
            }
            prop_assert_eq!(&store, &after);
            revision = plan.answer.revision;
        }
    }
}

#[tokio::test]
async fn both_backends_give_the_same_answers() {
    let folder = tempfile::tempdir().unwrap();
    let redb = RedbBackend::open_with_limits(folder.path().join("meta.redb"), SMALL).await.unwrap();
    let backends: [Arc<dyn KvBackend>; 2] = [Arc::new(MemoryBackend::with_limits(SMALL)), Arc::new(redb)];
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..150 {
        let txn = proptest::strategy::ValueTree::current(&txns().new_tree(&mut runner).unwrap());
        let mut outcomes = Vec::new();
        for kv in &backends {
            let answer = kv.txn(txn.clone()).await.map_err(|error| error.to_string());
            outcomes.push((answer, range_all(&**kv, KeyRange::all()).await.unwrap()));
        }
        assert_eq!(outcomes[0], outcomes[1], "{txn:?}");
    }
}
