//! Cases on transactions: compares, branches, refusals, concurrency. The name of a case says what it checks.

use std::sync::Arc;

use bytes::Bytes;
use tessera_manifest::env;

use super::{delete, key, put, values, whole};
use crate::kv::{Compare, Entry, Key, KvBackend, KvError, Op, OpAnswer, RangeRequest, Revision, Txn};

type Kv = Arc<dyn KvBackend>;

async fn holds(kv: &dyn KvBackend, compare: Compare) -> Result<bool, KvError> {
    Ok(kv.txn(Txn::new().when(compare)).await?.succeeded)
}

pub async fn each_compare_holds_exactly_when_documented(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "here", "old").await?;
    let revision = put(&*kv, scope, "here", "v").await?;
    let (here, absent) = (key(scope, "here"), key(scope, "absent"));
    let value = |key: &Key, value: &str| Compare::Value { key: key.clone(), value: value.to_owned().into() };
    let version = |key: &Key, version| Compare::Version { key: key.clone(), version };
    let written = |key: &Key, revision| Compare::ModRevision { key: key.clone(), revision };
    let cases = [
        (value(&here, "v"), true),
        (value(&here, "old"), false),
        (value(&here, ""), false),
        (version(&here, 2), true),
        (version(&here, 1), false),
        (version(&here, 0), false),
        (version(&absent, 0), true),
        (version(&absent, 1), false),
        (written(&here, revision), true),
        (written(&here, revision.next()), false),
        (written(&absent, Revision(0)), true),
        (written(&absent, revision), false),
        (Compare::Absent { key: here.clone() }, false),
        (Compare::Absent { key: absent.clone() }, true),
        (Compare::Exists { key: here.clone() }, true),
        (Compare::Exists { key: absent.clone() }, false),
        (Compare::PrefixEmpty { prefix: here.clone() }, false),
        (Compare::PrefixEmpty { prefix: format!("{scope}/").into() }, false),
        (Compare::PrefixEmpty { prefix: absent }, true),
        (Compare::PrefixEmpty { prefix: format!("{scope}/here/").into() }, true),
    ];
    for (compare, expected) in cases {
        assert_eq!(holds(&*kv, compare.clone()).await?, expected, "{compare:?}");
    }
    assert!(kv.txn(Txn::new()).await?.succeeded, "no compares always hold");
    Ok(())
}

pub async fn an_absent_key_equals_no_value(kv: Kv, scope: &str) -> Result<(), KvError> {
    assert!(!holds(&*kv, Compare::Value { key: key(scope, "a"), value: Bytes::new() }).await?);
    put(&*kv, scope, "a", "").await?;
    assert!(holds(&*kv, Compare::Value { key: key(scope, "a"), value: Bytes::new() }).await?);
    Ok(())
}

pub async fn a_failed_compare_runs_the_else_branch_only(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "a", "1").await?;
    let txn = Txn::new()
        .when(Compare::Exists { key: key(scope, "a") })
        .when(Compare::Exists { key: key(scope, "absent") })
        .then([Op::put(key(scope, "b"), "then"), Op::get(key(scope, "a"))])
        .otherwise([Op::get(key(scope, "a")), Op::put(key(scope, "c"), "else")]);
    let answer = kv.txn(txn).await?;
    assert!(!answer.succeeded);
    assert_eq!(answer.entry(0).map(|entry| entry.value.clone()), Some("1".into()));
    assert_eq!(answer.answers.get(1), Some(&OpAnswer::Put));
    assert_eq!(values(&*kv, scope).await?, "1 else");
    Ok(())
}

pub async fn operations_see_those_before_them(kv: Kv, scope: &str) -> Result<(), KvError> {
    let created = put(&*kv, scope, "a", "old").await?;
    put(&*kv, scope, "b", "gone").await?;
    let range = || Op::Range { request: RangeRequest::new(whole(scope)).with_limit(2) };
    let txn = Txn::new().then([
        Op::get(key(scope, "a")),
        Op::put(key(scope, "a"), "new"),
        Op::get(key(scope, "a")),
        range(),
        Op::delete(key(scope, "b")),
        Op::put(key(scope, "c"), "c"),
        Op::put(key(scope, "d"), "d"),
        range(),
        Op::get(key(scope, "b")),
    ]);
    let answer = kv.txn(txn).await?;
    let text = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
    let texts = |index: usize| answer.entries(index).iter().map(text).collect::<Vec<_>>();
    assert_eq!(answer.entry(0).map(text).as_deref(), Some("old"));
    let seen = answer.entry(2).expect("it was put");
    assert_eq!((text(seen).as_str(), seen.create_revision, seen.mod_revision, seen.version), ("new", created, answer.revision, 2));
    assert_eq!(texts(3), ["new", "gone"]);
    assert_eq!(texts(7), ["new", "c"]);
    assert!(matches!(answer.answers.get(3), Some(OpAnswer::Range { more: false, .. })));
    assert!(matches!(answer.answers.get(7), Some(OpAnswer::Range { more: true, .. })));
    assert_eq!(answer.answers.get(4), Some(&OpAnswer::Delete { deleted: 1 }));
    assert_eq!(answer.entry(8), None);
    Ok(())
}

pub async fn one_branch_may_not_write_a_key_twice(kv: Kv, scope: &str) -> Result<(), KvError> {
    let a = || key(scope, "a");
    let clashes = [
        [Op::put(a(), "1"), Op::put(a(), "2")],
        [Op::put(a(), "1"), Op::delete(a())],
        [Op::delete(a()), Op::put(a(), "1")],
        [Op::DeleteRange { range: whole(scope) }, Op::put(a(), "1")],
        [Op::put(a(), "1"), Op::DeleteRange { range: whole(scope) }],
    ];
    for ops in clashes {
        let refused = kv.txn(Txn::new().then(ops.clone())).await;
        assert!(matches!(&refused, Err(KvError::DuplicateKey { key }) if *key == a()), "{ops:?}: {refused:?}");
    }
    let both = Txn::new().then([Op::put(a(), "1")]).otherwise([Op::put(a(), "2")]);
    assert!(kv.txn(both).await?.succeeded, "each branch may write it once");
    assert_eq!(values(&*kv, scope).await?, "1");
    Ok(())
}

pub async fn the_branch_not_taken_is_checked_too(kv: Kv, scope: &str) -> Result<(), KvError> {
    let a = || key(scope, "a");
    let refused = kv.txn(Txn::new().then([Op::put(key(scope, "b"), "1")]).otherwise([Op::put(a(), "1"), Op::put(a(), "2")])).await;
    assert!(matches!(refused, Err(KvError::DuplicateKey { .. })), "{refused:?}");
    assert_eq!(values(&*kv, scope).await?, "");
    Ok(())
}

pub async fn deletes_may_overlap(kv: Kv, scope: &str) -> Result<(), KvError> {
    put(&*kv, scope, "a", "1").await?;
    put(&*kv, scope, "b", "1").await?;
    let range = || Op::DeleteRange { range: whole(scope) };
    let answer = kv.txn(Txn::new().then([Op::delete(key(scope, "a")), range(), range(), Op::delete(key(scope, "a"))])).await?;
    let expected = [1, 1, 0, 0].map(|deleted| OpAnswer::Delete { deleted });
    assert_eq!(answer.answers, expected);
    assert_eq!(values(&*kv, scope).await?, "");
    Ok(())
}

pub async fn delete_range_counts_what_it_deletes(kv: Kv, scope: &str) -> Result<(), KvError> {
    for name in ["a", "b/1", "b/2", "b0"] {
        put(&*kv, scope, name, name).await?;
    }
    let range = crate::kv::KeyRange::prefix(key(scope, "b/"));
    let answer = kv.txn(Txn::new().then([Op::DeleteRange { range }])).await?;
    assert_eq!(answer.answers, [OpAnswer::Delete { deleted: 2 }]);
    assert_eq!(values(&*kv, scope).await?, "a b0");
    Ok(())
}

pub async fn what_changes_nothing_makes_no_revision(kv: Kv, scope: &str) -> Result<(), KvError> {
    let before = put(&*kv, scope, "a", "1").await?;
    let idle = [
        Txn::new(),
        Txn::new().then([Op::get(key(scope, "a"))]),
        Txn::new().then([Op::delete(key(scope, "absent")), Op::DeleteRange { range: whole(&format!("{scope}/none")) }]),
        Txn::new().when(Compare::Absent { key: key(scope, "a") }).then([Op::put(key(scope, "a"), "2")]),
    ];
    for txn in idle {
        assert_eq!(kv.txn(txn.clone()).await?.revision, before, "{txn:?}");
    }
    assert_eq!(kv.get(&key(scope, "a")).await?.revision, before);
    Ok(())
}

pub async fn a_put_of_the_same_value_makes_a_revision(kv: Kv, scope: &str) -> Result<(), KvError> {
    let before = put(&*kv, scope, "a", "1").await?;
    assert_eq!(put(&*kv, scope, "a", "1").await?, before.next());
    assert_eq!(kv.get(&key(scope, "a")).await?.entry.map(|entry| entry.version), Some(2));
    Ok(())
}

pub async fn all_writes_of_a_transaction_share_its_revision(kv: Kv, scope: &str) -> Result<(), KvError> {
    let before = put(&*kv, scope, "gone", "1").await?;
    let ops = [Op::put(key(scope, "a"), "1"), Op::put(key(scope, "b"), "2"), Op::delete(key(scope, "gone"))];
    let answer = kv.txn(Txn::new().then(ops)).await?;
    assert_eq!(answer.revision, before.next());
    for entry in crate::kv::range_all(&*kv, whole(scope)).await? {
        assert_eq!((entry.create_revision, entry.mod_revision), (answer.revision, answer.revision));
    }
    Ok(())
}

pub async fn too_many_parts_are_refused_and_nothing_is_written(kv: Kv, scope: &str) -> Result<(), KvError> {
    let limits = kv.limits();
    let numbered = |number: usize| key(scope, &format!("{number:06}"));
    let puts = |count: usize| (0..count).map(|number| Op::put(numbered(number), "x")).collect::<Vec<_>>();
    let compares = |count: usize| Txn { compares: (0..count).map(|n| Compare::Absent { key: numbered(n) }).collect(), ..Txn::new() };
    let too_many = limits.txn_ops_max + 1;
    for txn in [Txn::new().then(puts(too_many)), Txn::new().otherwise(puts(too_many)), compares(too_many).then(puts(1))] {
        let refused = kv.txn(txn).await;
        assert!(matches!(refused, Err(KvError::TooManyOps { .. })), "{refused:?}");
    }
    let asked: Vec<Key> = (0..too_many).map(numbered).collect();
    let refused = kv.multi_get(&asked).await;
    assert!(matches!(refused, Err(KvError::TooManyOps { .. })));
    let value = Bytes::from(vec![1; limits.value_bytes_max]);
    let count = limits.txn_bytes_max / limits.value_bytes_max + 1;
    if count <= limits.txn_ops_max {
        let refused = kv.txn(Txn::new().then((0..count).map(|n| Op::put(numbered(n), value.clone())))).await;
        assert!(matches!(refused, Err(KvError::TxnTooLarge { .. })), "{refused:?}");
    }
    assert_eq!(values(&*kv, scope).await?, "");
    let full = kv.txn(compares(limits.txn_ops_max).then(puts(limits.txn_ops_max))).await?;
    assert!(full.succeeded, "what just fits is taken");
    Ok(())
}

pub async fn an_empty_key_is_refused_everywhere(kv: Kv, _scope: &str) -> Result<(), KvError> {
    let empty = || Key::from("");
    assert!(matches!(kv.get(&empty()).await, Err(KvError::EmptyKey)));
    assert!(matches!(kv.multi_get(&[empty()]).await, Err(KvError::EmptyKey)));
    for op in [Op::get(""), Op::put("", "1"), Op::delete("")] {
        assert!(matches!(kv.txn(Txn::new().then([op])).await, Err(KvError::EmptyKey)));
    }
    let refused = kv.txn(Txn::new().when(Compare::Absent { key: empty() })).await;
    assert!(matches!(refused, Err(KvError::EmptyKey)));
    Ok(())
}

async fn increment(kv: &dyn KvBackend, counter: &Key) -> Result<(), KvError> {
    loop {
        let entry = kv.get(counter).await?.entry;
        let count: u64 = entry.as_ref().map_or(0, |entry| String::from_utf8_lossy(&entry.value).parse().unwrap_or(0));
        let version = entry.map_or(0, |entry| entry.version);
        let compare = Compare::Version { key: counter.clone(), version };
        let txn = Txn::new().when(compare).then([Op::put(counter.clone(), (count + 1).to_string())]);
        if kv.txn(txn).await?.succeeded {
            return Ok(());
        }
    }
}

pub async fn concurrent_increments_are_all_counted(kv: Kv, scope: &str) -> Result<(), KvError> {
    let (tasks, rounds) = (8_u64, 10_u64);
    let mut running = Vec::new();
    for _ in 0..tasks {
        let (kv, counter) = (Arc::clone(&kv), key(scope, "counter"));
        running.push(env::spawn(async move {
            for _ in 0..rounds {
                increment(&*kv, &counter).await?;
            }
            Ok::<(), KvError>(())
        }));
    }
    for task in running {
        task.await.expect("an increment does not panic")?;
    }
    let entry = kv.get(&key(scope, "counter")).await?.entry.expect("it was counted");
    assert_eq!(entry.value, (tasks * rounds).to_string());
    assert_eq!(entry.version, tasks * rounds);
    Ok(())
}

pub async fn of_concurrent_creates_one_wins(kv: Kv, scope: &str) -> Result<(), KvError> {
    let mut running = Vec::new();
    for number in 0..8 {
        let (kv, name) = (Arc::clone(&kv), key(scope, "name"));
        let txn = Txn::new().when(Compare::Absent { key: name.clone() }).then([Op::put(name, format!("{number}"))]);
        running.push(env::spawn(async move { kv.txn(txn).await }));
    }
    let mut winners = Vec::new();
    for (number, task) in running.into_iter().enumerate() {
        if task.await.expect("a create does not panic")?.succeeded {
            winners.push(number.to_string());
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(values(&*kv, scope).await?, winners.concat());
    delete(&*kv, scope, "name").await?;
    Ok(())
}

pub async fn an_empty_prefix_has_no_key_at_all(kv: Kv, scope: &str) -> Result<(), KvError> {
    let empty = |prefix: Vec<u8>| Compare::PrefixEmpty { prefix: prefix.into() };
    let highest = || [format!("{scope}/p").as_bytes(), &[u8::MAX]].concat();
    let (below, above) = (format!("{scope}/o"), format!("{scope}/q"));
    kv.txn(Txn::new().then([Op::put(below, "1"), Op::put(above, "1")])).await?;
    let p = || format!("{scope}/p").into_bytes();
    assert!(holds(&*kv, empty(p())).await?);
    assert!(!holds(&*kv, empty(Vec::new())).await?, "every key starts with the empty prefix");
    for number in 0..3 {
        kv.txn(Txn::new().then([Op::put([highest(), vec![number]].concat(), "")])).await?;
        assert!(!holds(&*kv, empty(highest())).await?, "a prefix may end in 0xff");
        assert!(!holds(&*kv, empty(p())).await?);
    }
    let create = Txn::new().when(empty(p())).then([Op::put(key(scope, "made"), "1")]).otherwise([Op::get(key(scope, "made"))]);
    assert!(!kv.txn(create.clone()).await?.succeeded);
    let gone = crate::kv::KeyRange::prefix(p());
    kv.txn(Txn::new().when(Compare::Exists { key: key(scope, "o") }).then([Op::DeleteRange { range: gone }])).await?;
    assert!(holds(&*kv, empty(p())).await? && holds(&*kv, empty(highest())).await?);
    assert!(kv.txn(create).await?.succeeded);
    Ok(())
}

pub async fn values_that_fill_a_transaction_survive(kv: Kv, scope: &str) -> Result<(), KvError> {
    let limits = kv.limits();
    let (mut left, mut ops) = (limits.txn_bytes_max, Vec::new());
    while ops.len() < limits.txn_ops_max {
        let name = key(scope, &format!("{:04}", ops.len()));
        let bytes = limits.value_bytes_max.min(left.saturating_sub(name.as_bytes().len()));
        if bytes == 0 {
            break;
        }
        left -= bytes + name.as_bytes().len();
        ops.push(Op::put(name, vec![b'x'; bytes]));
    }
    let count = ops.len();
    kv.txn(Txn::new().then(ops)).await?;
    let entries = crate::kv::range_all(&*kv, whole(scope)).await?;
    assert_eq!(entries.len(), count);
    let bytes: usize = entries.iter().map(|entry| entry.key.as_bytes().len() + entry.value.len()).sum();
    assert_eq!(bytes, limits.txn_bytes_max - left);
    kv.txn(Txn::new().then([Op::DeleteRange { range: whole(scope) }])).await?;
    Ok(())
}
