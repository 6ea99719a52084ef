//! Cases on watches: order, gaps, ranges. The name of a case says what it checks.

use std::collections::BTreeMap;
use std::sync::Arc;

use tessera_manifest::env;

use super::{delete, key, put, whole};
use crate::kv::{Change, KeyRange, KvBackend, KvError, Op, Revision, Txn, Watch, WatchBatch};

type Kv = Arc<dyn KvBackend>;

/// A batch as text: its keys' last parts with their values, `-` for deleted.
fn show(scope: &str, batch: &WatchBatch) -> String {
    let name = |change: &Change| change.key().to_string().replacen(&format!("{scope}/"), "", 1);
    let change = |change: &Change| match change {
        Change::Put(entry) => format!("{}={}", name(change), String::from_utf8_lossy(&entry.value)),
        Change::Delete { .. } => format!("{}-", name(change)),
    };
    batch.changes.iter().map(change).collect::<Vec<_>>().join(" ")
}

async fn expect_next(watch: &mut Box<dyn Watch>, scope: &str, revision: Revision, text: &str) -> Result<(), KvError> {
    let batch = watch.next().await?;
    assert_eq!((batch.revision, show(scope, &batch).as_str()), (revision, text));
    Ok(())
}

pub async fn a_watch_delivers_whole_transactions_in_order(kv: Kv, scope: &str) -> Result<(), KvError> {
    let start = put(&*kv, scope, "before", "0").await?;
    let mut watch = kv.watch(whole(scope), start.next()).await?;
    let first = put(&*kv, scope, "a", "1").await?;
    let ops = [Op::put(key(scope, "c"), "3"), Op::delete(key(scope, "a")), Op::put(key(scope, "b"), "2")];
    let second = kv.txn(Txn::new().then(ops)).await?.revision;
    expect_next(&mut watch, scope, first, "a=1").await?;
    expect_next(&mut watch, scope, second, "a- b=2 c=3").await?;
    let third = put(&*kv, scope, "a", "4").await?;
    let batch = watch.next().await?;
    let Some(Change::Put(entry)) = batch.changes.first() else { panic!("a put was expected, not {batch:?}") };
    assert_eq!((entry.create_revision, entry.mod_revision, entry.version), (third, third, 1));
    Ok(())
}

pub async fn a_watch_from_the_past_is_gapless(kv: Kv, scope: &str) -> Result<(), KvError> {
    let first = put(&*kv, scope, "a", "1").await?;
    let second = put(&*kv, scope, "a", "2").await?;
    let third = delete(&*kv, scope, "a").await?;
    let mut watch = kv.watch(whole(scope), first).await?;
    expect_next(&mut watch, scope, first, "a=1").await?;
    expect_next(&mut watch, scope, second, "a=2").await?;
    expect_next(&mut watch, scope, third, "a-").await?;
    let mut resumed = kv.watch(whole(scope), third).await?;
    expect_next(&mut resumed, scope, third, "a-").await
}

pub async fn a_watch_from_the_future_waits_for_it(kv: Kv, scope: &str) -> Result<(), KvError> {
    let now = put(&*kv, scope, "a", "0").await?;
    let mut watch = kv.watch(whole(scope), now.next().next()).await?;
    put(&*kv, scope, "a", "1").await?;
    let second = put(&*kv, scope, "a", "2").await?;
    expect_next(&mut watch, scope, second, "a=2").await
}

pub async fn a_watch_sees_only_its_range(kv: Kv, scope: &str) -> Result<(), KvError> {
    let start = put(&*kv, scope, "in/a", "0").await?;
    let mut watch = kv.watch(KeyRange::prefix(key(scope, "in/")), start.next()).await?;
    put(&*kv, scope, "out", "1").await?;
    let ops = [Op::put(key(scope, "in/b"), "2"), Op::put(key(scope, "out"), "2")];
    let both = kv.txn(Txn::new().then(ops)).await?.revision;
    expect_next(&mut watch, scope, both, "in/b=2").await
}

pub async fn a_snapshot_and_a_watch_after_it_miss_nothing(kv: Kv, scope: &str) -> Result<(), KvError> {
    let writes = 60_u32;
    let (writer, owned) = (Arc::clone(&kv), scope.to_owned());
    let writing = env::spawn(async move {
        for number in 0..writes {
            put(&*writer, &owned, &format!("{}", number % 7), &number.to_string()).await?;
        }
        put(&*writer, &owned, "end", "end").await
    });
    // A backend with small pages shows the snapshot as of several revisions; what came after the first is watched.
    let end = key(scope, "end");
    let first = kv.get(&end).await?;
    let snapshot = crate::kv::range_all(&*kv, whole(scope)).await?;
    let mut mirror: BTreeMap<_, _> = snapshot.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let mut watch = kv.watch(whole(scope), first.revision.next()).await?;
    let mut ended = first.entry.is_some();
    while !ended {
        for change in watch.next().await?.changes {
            ended |= matches!(&change, Change::Put(entry) if entry.key == end);
            match change {
                Change::Put(entry) => mirror.insert(entry.key.clone(), entry),
                Change::Delete { key } => mirror.remove(&key),
            };
        }
    }
    writing.await.expect("the writer does not panic")?;
    let now = crate::kv::range_all(&*kv, whole(scope)).await?;
    assert_eq!(mirror.into_values().collect::<Vec<_>>(), now);
    Ok(())
}

/// The first changes of a watch, or why there are none; a backend may refuse at once or then.
async fn first_of(kv: &dyn KvBackend, range: KeyRange, from: Revision) -> Result<WatchBatch, KvError> {
    kv.watch(range, from).await?.next().await
}

pub async fn the_distant_past_is_delivered_whole_or_refused(kv: Kv, scope: &str) -> Result<(), KvError> {
    let first = put(&*kv, scope, "a", "first").await?;
    match first_of(&*kv, whole(scope), Revision(0)).await {
        Ok(batch) => assert_eq!((batch.revision, show(scope, &batch).as_str()), (first, "a=first")),
        Err(KvError::Compacted { requested, oldest }) => assert!(requested < oldest && oldest <= first),
        Err(other) => return Err(other),
    }
    Ok(())
}

pub async fn what_is_compacted_is_refused_and_the_rest_is_delivered(kv: Kv, scope: &str) -> Result<(), KvError> {
    let first = put(&*kv, scope, "a", "1").await?;
    put(&*kv, scope, "a", "2").await?;
    let third = put(&*kv, scope, "b", "3").await?;
    kv.compact(third).await?;
    let refused = first_of(&*kv, whole(scope), first).await;
    let Err(KvError::Compacted { requested, oldest }) = refused else { panic!("not refused: {refused:?}") };
    assert_eq!((requested, oldest), (first, third));
    let mut watch = kv.watch(whole(scope), third).await?;
    expect_next(&mut watch, scope, third, "b=3").await?;
    assert_eq!(super::values(&*kv, scope).await?, "2 3", "what is there stays");
    kv.compact(first).await?;
    kv.compact(Revision(u64::MAX)).await?;
    assert_eq!(first_of(&*kv, whole(scope), third).await?.revision, third, "the newest revision stays");
    let fourth = put(&*kv, scope, "a", "4").await?;
    expect_next(&mut watch, scope, fourth, "a=4").await
}

pub async fn a_watch_outlives_a_compaction(kv: Kv, scope: &str) -> Result<(), KvError> {
    let start = put(&*kv, scope, "a", "0").await?;
    let mut watch = kv.watch(whole(scope), start.next()).await?;
    for number in 1..6_u32 {
        let revision = put(&*kv, scope, "a", &number.to_string()).await?;
        expect_next(&mut watch, scope, revision, &format!("a={number}")).await?;
        kv.compact(revision.next()).await?;
    }
    Ok(())
}

pub async fn a_large_backlog_is_delivered_whole(kv: Kv, scope: &str) -> Result<(), KvError> {
    let limits = kv.limits();
    let total = (4 << 20).min(limits.watch_bytes_max / 2);
    let value = vec![b'x'; limits.value_bytes_max.min(limits.txn_bytes_max / 4).min(100_000)];
    let start = put(&*kv, scope, "start", "0").await?;
    let mut made = Vec::new();
    while (made.len() + 1) * 3 * value.len() <= total {
        let names = ["a", "b", "c"].map(|name| key(scope, &format!("{}{name}", made.len() % 4)));
        made.push(kv.txn(Txn::new().then(names.map(|name| Op::put(name, value.clone())))).await?.revision);
    }
    let mut watch = kv.watch(whole(scope), start.next()).await?;
    for revision in made {
        let batch = watch.next().await?;
        assert_eq!((batch.revision, batch.changes.len()), (revision, 3));
        assert!(batch.changes.iter().all(|change| matches!(change, Change::Put(entry) if entry.value.len() == value.len())));
    }
    drop(watch);
    kv.txn(Txn::new().then([Op::DeleteRange { range: whole(scope) }])).await?;
    Ok(())
}

pub async fn an_empty_range_has_no_changes(kv: Kv, scope: &str) -> Result<(), KvError> {
    let start = put(&*kv, scope, "b", "0").await?;
    let empty = KeyRange::between(key(scope, "c"), key(scope, "a"));
    let mut nothing = kv.watch(empty, start.next()).await?;
    let mut all = kv.watch(whole(scope), start.next()).await?;
    let revision = put(&*kv, scope, "b", "1").await?;
    expect_next(&mut all, scope, revision, "b=1").await?;
    tokio::select! {
        biased;
        batch = nothing.next() => panic!("a change in an empty range: {batch:?}"),
        () = std::future::ready(()) => Ok(()),
    }
}

pub async fn a_mark_comes_after_the_changes_before_it(kv: Kv, scope: &str) -> Result<(), KvError> {
    let first = put(&*kv, scope, "a", "1").await?;
    let mut watch = kv.watch(whole(scope), first).await?;
    if !watch.mark() {
        return Ok(());
    }
    expect_next(&mut watch, scope, first, "a=1").await?;
    let mark = watch.next().await?;
    assert!(mark.changes.is_empty() && mark.revision >= first, "{mark:?}");
    // One from the future has nothing to give, and does not claim more than there is.
    let future = Revision(mark.revision.0 + 1_000_000);
    let mut watch = kv.watch(whole(scope), future).await?;
    assert!(watch.mark());
    assert!(watch.next().await?.revision < future);
    Ok(())
}
