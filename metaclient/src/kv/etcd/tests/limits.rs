//! What is too large for the servers, whether or not the client knows.

use super::{cluster, connect, need_etcd};
use crate::conformance::etcd::Cluster;
use crate::kv::{Compare, EtcdBackend, EtcdOptions, KeyRange, KvBackend, KvError, Op, RangeRequest, Txn, range_all};

const SMALL: &[&str] = &["--max-txn-ops=16", "--max-request-bytes=65536"];

fn puts(count: usize, bytes: usize) -> Vec<Op> {
    (0..count).map(|number| Op::put(format!("k{number:05}"), vec![b'x'; bytes])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_less_than_the_client_was_told_refuses_with_the_same_errors() {
    need_etcd!();
    let cluster = cluster(1, SMALL).await;
    let kv = connect(cluster.endpoints()).await;
    assert!(kv.limits().txn_ops_max > 16);
    let before = kv.get(&"a".into()).await.unwrap().revision;
    for txn in [
        Txn::new().then(puts(17, 1)),
        Txn::new().otherwise(puts(17, 1)),
        Txn { compares: (0..17).map(|n| Compare::Absent { key: format!("k{n}").into() }).collect(), ..Txn::new() }.then(puts(1, 1)),
    ] {
        let refused = kv.txn(txn).await;
        assert!(matches!(refused, Err(KvError::TooManyOps { ops: 17, ops_max: 16, .. })), "{refused:?}");
    }
    // The raft log refuses the first, the transport the others.
    for (count, bytes) in [(1, 65_536), (2, 40_000), (16, 40_000), (1, 700_000)] {
        let refused = kv.txn(Txn::new().then(puts(count, bytes))).await;
        assert!(matches!(refused, Err(KvError::TxnTooLarge { .. })), "{count} of {bytes}: {refused:?}");
    }
    let keys: Vec<_> = (0..17).map(|n| format!("k{n}").into()).collect();
    assert!(matches!(kv.multi_get(&keys).await, Err(KvError::TooManyOps { .. })));
    assert!(range_all(&kv, KeyRange::all()).await.unwrap().is_empty(), "nothing is written in part");
    assert_eq!(kv.get(&"a".into()).await.unwrap().revision, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_the_limits_does_not_even_ask() {
    need_etcd!();
    let cluster = cluster(1, SMALL).await;
    let options = EtcdOptions { txn_ops_max: 16, request_bytes_max: 65_536, ..EtcdOptions::new(cluster.endpoints()) };
    let kv = EtcdBackend::connect(&options).await.unwrap();
    drop(cluster);
    // No server is left to ask.
    assert!(matches!(kv.txn(Txn::new().then(puts(17, 1))).await, Err(KvError::TooManyOps { ops: 17, ops_max: 16, .. })));
    assert!(matches!(kv.txn(Txn::new().then(puts(3, 30_000))).await, Err(KvError::TxnTooLarge { .. })));
    assert!(matches!(kv.txn(Txn::new().then(puts(1, 65_536))).await, Err(KvError::ValueTooLarge { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_too_large_to_read_at_once_is_cut_and_says_so() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let options = EtcdOptions { answer_bytes_max: 300_000, ..EtcdOptions::new(cluster.endpoints()) };
    let kv = EtcdBackend::connect(&options).await.unwrap();
    for op in puts(20, 50_000) {
        kv.txn(Txn::new().then([op])).await.unwrap();
    }
    let page = kv.range(&RangeRequest::new(KeyRange::all())).await.unwrap();
    assert!(page.more && !page.entries.is_empty() && page.entries.len() < 20, "{} entries", page.entries.len());
    let all = range_all(&kv, KeyRange::all()).await.unwrap();
    assert_eq!(all.len(), 20);
    // A transaction that was done, and whose answer cannot be read, is not called undone.
    let reading = Txn::new().then([Op::put("z", "1"), Op::Range { request: RangeRequest::new(KeyRange::all()) }]);
    let unknown = kv.txn(reading).await;
    assert!(matches!(unknown, Err(KvError::CommitUnknown { .. })), "{unknown:?}");
    assert!(kv.get(&"z".into()).await.unwrap().entry.is_some());
}
