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

pub async fn the_distant_past_is_delivered_whole_or_refused(kv: Kv, scope: &str) -> Result<(), KvError> {
    let first = put(&*kv, scope, "a", "first").await?;
    match kv.watch(whole(scope), Revision(0)).await {
        Ok(mut watch) => expect_next(&mut watch, scope, first, "a=first").await,
        Err(KvError::Compacted { requested, oldest }) => {
            assert!(requested < oldest && oldest <= first);
            Ok(())
        }
        Err(other) => Err(other),
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
