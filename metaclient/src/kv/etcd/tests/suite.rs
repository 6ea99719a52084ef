//! The conformance suite on real clusters, and etcd against the interpreter.

use std::sync::Arc;
use std::time::Duration;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tessera_manifest::env::{self, Env};
use tokio::sync::Mutex;

use super::{cluster, connect, need_etcd};
use crate::conformance::etcd::Cluster;
use crate::conformance::{CASES, run_while_servers_fail};
use crate::kv::tests::txns;
use crate::kv::{Compare, EtcdBackend, EtcdOptions, Key, KeyRange, KvBackend, MemoryBackend, Op, Txn, range_all};

async fn run_suite(kv: Arc<dyn KvBackend>) {
    for (name, case) in CASES {
        println!("{name}");
        case(Arc::clone(&kv), (*name).to_owned()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_on_one_server() {
    need_etcd!();
    let cluster = Cluster::single().await;
    run_suite(Arc::new(connect(cluster.endpoints()).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_on_a_server_that_takes_little() {
    need_etcd!();
    let cluster = cluster(1, &["--max-txn-ops=16", "--max-request-bytes=65536"]).await;
    let options = EtcdOptions { txn_ops_max: 16, request_bytes_max: 65_536, ..EtcdOptions::new(cluster.endpoints()) };
    run_suite(Arc::new(EtcdBackend::connect(&options).await.unwrap())).await;
}

/// The server that leads; on a busy machine an election may be under way, or a server not up again.
pub(super) async fn leader(cluster: &Cluster) -> usize {
    for _ in 0..LOOKS_MAX {
        for (node, endpoint) in cluster.endpoints().into_iter().enumerate() {
            if leads(endpoint).await.unwrap_or(false) {
                return node;
            }
        }
        env::sleep(Duration::from_millis(100)).await;
    }
    panic!("no server leads");
}

/// Looks for a leader, a tenth of a second apart.
const LOOKS_MAX: usize = 600;

async fn leads(endpoint: String) -> Result<bool, etcd_client::Error> {
    let mut client = etcd_client::Client::connect([endpoint], None).await?;
    let status = client.status().await?;
    Ok(status.header().is_some_and(|header| header.member_id() == status.leader()))
}

/// Kills a server in a moment, at an arbitrary point of what runs.
fn kill_soon(cluster: &Arc<Mutex<Cluster>>, node: usize) -> tokio::task::JoinHandle<()> {
    let cluster = Arc::clone(cluster);
    env::spawn(async move {
        let ms = u64::try_from(Env::system().nonce().0 % 100).unwrap();
        env::sleep(Duration::from_millis(ms)).await;
        cluster.lock().await.kill(node);
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes_on_three_servers_while_the_leader_and_then_a_follower_are_killed() {
    need_etcd!();
    let cluster = cluster(3, &[]).await;
    let kv: Arc<dyn KvBackend> = Arc::new(connect(cluster.endpoints()).await);
    let cluster = Arc::new(Mutex::new(cluster));
    let mut killed: Option<(usize, tokio::task::JoinHandle<()>)> = None;
    for (at, (name, case)) in CASES.iter().enumerate() {
        match at * 8 / CASES.len() {
            // Twice the leader, then one that follows.
            1 | 4 if killed.is_none() => {
                let node = leader(&*cluster.lock().await).await;
                killed = Some((node, kill_soon(&cluster, node)));
            }
            6 if killed.is_none() => {
                let node = (leader(&*cluster.lock().await).await + 1) % 3;
                killed = Some((node, kill_soon(&cluster, node)));
            }
            3 | 5 => {
                if let Some((node, killing)) = killed.take() {
                    killing.await.unwrap();
                    cluster.lock().await.restart(node).await;
                }
            }
            _ => {}
        }
        println!("{name}, down: {:?}", killed.as_ref().map(|(node, _)| node));
        run_while_servers_fail(&kv, name, *case).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let (node, killing) = killed.expect("the last one is down");
    killing.await.unwrap();
    cluster.lock().await.restart(node).await;
    // What the others agreed on while it was down is there, and it has it too.
    let all = range_all(&*kv, KeyRange::all()).await.unwrap();
    let endpoint = cluster.lock().await.endpoint(node);
    let restarted = connect([endpoint]).await;
    assert_eq!(range_all(&restarted, KeyRange::all()).await.unwrap(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_of_compares_alone_is_not_stale_on_a_server_that_lags() {
    need_etcd!();
    let cluster = cluster(3, &[]).await;
    let leads = leader(&cluster).await;
    let writer = connect([cluster.endpoint(leads)]).await;
    let followers = [connect([cluster.endpoint((leads + 1) % 3)]).await, connect([cluster.endpoint((leads + 2) % 3)]).await];
    for round in 1..=100_u64 {
        writer.txn(Txn::new().then([Op::put("a", round.to_string())])).await.unwrap();
        for follower in &followers {
            let compare = Compare::Version { key: Key::from("a"), version: round };
            assert!(follower.txn(Txn::new().when(compare)).await.unwrap().succeeded, "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_answers_as_the_interpreter_does() {
    need_etcd!();
    let cluster = Cluster::single().await;
    let etcd = connect(cluster.endpoints()).await;
    let memory = MemoryBackend::with_limits(etcd.limits());
    let backends: [&dyn KvBackend; 2] = [&memory, &etcd];
    let mut runner = TestRunner::deterministic();
    for _ in 0..400 {
        let txn = txns().new_tree(&mut runner).unwrap().current();
        let mut outcomes = Vec::new();
        for kv in backends {
            let answer = kv.txn(txn.clone()).await.map_err(|error| error.to_string());
            outcomes.push((answer, range_all(kv, KeyRange::all()).await.unwrap()));
        }
        assert_eq!(outcomes[0], outcomes[1], "{txn:?}");
    }
    // Both have the same history too.
    let last = memory.get(&"a".into()).await.unwrap().revision;
    let (mut of_memory, mut of_etcd) = (
        memory.watch(KeyRange::all(), crate::kv::Revision(2)).await.unwrap(),
        etcd.watch(KeyRange::all(), crate::kv::Revision(2)).await.unwrap(),
    );
    loop {
        let batch = of_memory.next().await.unwrap();
        assert_eq!(of_etcd.next().await.unwrap(), batch);
        if batch.revision == last {
            break;
        }
    }
}
