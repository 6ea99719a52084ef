//! Connections that break, servers that fall silent, leaders that change.

use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Moment};

use super::proxy::Proxy;
use super::{cluster, connect, need_etcd};
use crate::conformance::etcd::Cluster;
use crate::kv::{Change, EtcdBackend, EtcdOptions, Key, KeyRange, KvBackend, KvError, Op, Revision, Txn, Watch};

async fn put(kv: &dyn KvBackend, value: u64) -> Revision {
    kv.txn(Txn::new().then([Op::put("a", value.to_string())])).await.unwrap().revision
}

async fn version(kv: &dyn KvBackend) -> u64 {
    kv.get(&"a".into()).await.unwrap().entry.map_or(0, |entry| entry.version)
}

async fn expect(watch: &mut Box<dyn Watch>, revision: Revision, value: u64) {
    let batch = watch.next().await.unwrap();
    let [Change::Put(entry)] = &batch.changes[..] else { panic!("{batch:?}") };
    assert_eq!((batch.revision, &entry.value[..]), (revision, value.to_string().as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_unknown_and_is_not_repeated() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let proxy = Proxy::to(cluster.address(0)).await;
    let (direct, kv) = (connect(cluster.endpoints()).await, Arc::new(connect([proxy.endpoint()]).await));
    for round in 1..=10 {
        proxy.mute(true);
        let writing = env::spawn({
            let kv = Arc::clone(&kv);
            async move { kv.txn(Txn::new().then([Op::put("a", "x")])).await }
        });
        while version(&direct).await < round {
            env::sleep(Duration::from_millis(1)).await;
        }
        proxy.cut();
        let answer = writing.await.unwrap();
        assert!(matches!(answer, Err(KvError::CommitUnknown { .. })), "{answer:?}");
        proxy.mute(false);
        assert_eq!(version(&*kv).await, round, "done once, and a read on a new connection sees it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_not_answered_in_time_is_unknown() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let _waits_until_it_serves = connect(cluster.endpoints()).await;
    let options = EtcdOptions { request_timeout: Duration::from_secs(1), ..EtcdOptions::new(cluster.endpoints()) };
    let kv = EtcdBackend::connect(&options).await.unwrap();
    cluster.set_paused(0, true);
    let unknown = kv.txn(Txn::new().then([Op::put("a", "1")])).await;
    assert!(matches!(unknown, Err(KvError::CommitUnknown { .. })), "{unknown:?}");
    let read = kv.get(&"a".into()).await;
    assert!(matches!(read, Err(KvError::Unavailable { .. })), "{read:?}");
    cluster.set_paused(0, false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_reaches_no_server_was_not_applied() {
    need_etcd!();
    let mut cluster = Cluster::single().await;
    let _waits_until_it_serves = connect(cluster.endpoints()).await;
    let options = EtcdOptions { request_timeout: Duration::from_secs(1), ..EtcdOptions::new(cluster.endpoints()) };
    let kv = EtcdBackend::connect(&options).await.unwrap();
    cluster.kill(0);
    // What was on its way when the connection broke may be unknown; with no connection it is not.
    let _ = kv.get(&"a".into()).await;
    let refused = kv.txn(Txn::new().then([Op::put("a", "1")])).await;
    assert!(matches!(refused, Err(KvError::Unavailable { .. })), "{refused:?}");
    cluster.restart(0).await;
    let patient = connect(cluster.endpoints()).await;
    assert_eq!(put(&patient, 2).await.0, 2, "the first revision is 1, and only this write came after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_goes_on_where_it_was_when_its_connection_breaks() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let proxy = Proxy::to(cluster.address(0)).await;
    let (direct, kv) = (connect(cluster.endpoints()).await, connect([proxy.endpoint()]).await);
    let start = put(&direct, 0).await;
    let mut watch = kv.watch(KeyRange::all(), start.next()).await.unwrap();
    for round in (1..60_u64).step_by(3) {
        let first = put(&direct, round).await;
        expect(&mut watch, first, round).await;
        proxy.refuse(true);
        proxy.cut();
        let second = put(&direct, round + 1).await;
        let third = put(&direct, round + 2).await;
        proxy.refuse(false);
        expect(&mut watch, second, round + 1).await;
        expect(&mut watch, third, round + 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_gap_was_compacted_says_so() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let proxy = Proxy::to(cluster.address(0)).await;
    let (direct, kv) = (connect(cluster.endpoints()).await, connect([proxy.endpoint()]).await);
    let start = put(&direct, 0).await;
    let mut watch = kv.watch(KeyRange::all(), start).await.unwrap();
    expect(&mut watch, start, 0).await;
    proxy.refuse(true);
    proxy.cut();
    put(&direct, 1).await;
    let third = put(&direct, 2).await;
    direct.compact(third).await.unwrap();
    proxy.refuse(false);
    let missed = watch.next().await;
    assert!(matches!(missed, Err(KvError::Compacted { requested, oldest }) if requested == start.next() && oldest == third), "{missed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_on_a_connection_that_fell_silent_goes_on_by_another() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let proxy = Proxy::to(cluster.address(0)).await;
    let (direct, kv) = (connect(cluster.endpoints()).await, connect([proxy.endpoint()]).await);
    let start = put(&direct, 0).await;
    let mut watch = kv.watch(KeyRange::all(), start.next()).await.unwrap();
    proxy.mute(true);
    let second = put(&direct, 1).await;
    let unmute = async {
        // Until the client asks for a new connection, which is then closed, the old one just stays silent.
        proxy.refuse(true);
        env::sleep(Duration::from_secs(10)).await;
        proxy.mute(false);
        proxy.refuse(false);
    };
    let (_, ()) = tokio::join!(expect(&mut watch, second, 1), unmute);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_for_changes_loses_none() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let proxy = Proxy::to(cluster.address(0)).await;
    let (direct, kv) = (connect(cluster.endpoints()).await, connect([proxy.endpoint()]).await);
    let start = put(&direct, 0).await;
    let mut watch = kv.watch(KeyRange::all(), start.next()).await.unwrap();
    let writing = env::spawn(async move {
        for value in 1..=200 {
            put(&direct, value).await;
        }
    });
    let mut seen = 0;
    while seen < 200 {
        let batch = tokio::select! {
            batch = watch.next() => batch.unwrap(),
            () = env::sleep(Duration::from_micros(300)) => continue,
        };
        seen += 1;
        assert_eq!(batch.revision.0, start.0 + seen);
        if seen % 50 == 0 {
            proxy.cut();
        }
    }
    writing.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_and_leases_outlive_a_restart_of_the_server() {
    need_etcd!();
    let mut cluster = Cluster::single().await;
    let kv = connect(cluster.endpoints()).await;
    let lease = kv.grant(Duration::from_secs(60)).await.unwrap();
    let start = kv.txn(Txn::new().then([Op::put("leased", "1").with_lease(lease.id)])).await.unwrap().revision;
    let mut watch = kv.watch(KeyRange::all(), start.next()).await.unwrap();
    cluster.kill(0);
    cluster.restart(0).await;
    assert_eq!(kv.keep_alive(lease.id).await.unwrap(), lease.ttl);
    let next = put(&kv, 1).await;
    expect(&mut watch, next, 1).await;
    kv.revoke(lease.id).await.unwrap();
    assert_eq!(watch.next().await.unwrap().changes, [Change::Delete { key: Key::from("leased") }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_kept_alive_across_the_loss_of_the_leader() {
    need_etcd!();
    let mut cluster = cluster(3, &[]).await;
    let kv = connect(cluster.endpoints()).await;
    let lease = kv.grant(Duration::from_secs(4)).await.unwrap();
    kv.txn(Txn::new().then([Op::put("leased", "1").with_lease(lease.id)])).await.unwrap();
    let started = Moment::now();
    let mut killed = false;
    while Moment::now().since(started) < Duration::from_secs(10) {
        if !killed && Moment::now().since(started) > Duration::from_secs(2) {
            cluster.kill(super::suite::leader(&cluster).await);
            killed = true;
        }
        assert_eq!(kv.keep_alive(lease.id).await.unwrap(), lease.ttl);
        env::sleep(Duration::from_millis(500)).await;
    }
    assert!(kv.get(&"leased".into()).await.unwrap().entry.is_some());
}
