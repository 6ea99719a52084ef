//! A leader in a process of its own that is stopped (SIGSTOP), and wakes long after its lease is gone.
//!
//! The leader is this test program again, which runs [`a_leader`] on the cluster that its environment names.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tessera_manifest::env::{self, Env};

use super::{cluster, connect, need_etcd};
use crate::election::Election;
use crate::kv::{Key, KvBackend, Op, Txn};

const ENDPOINTS: &str = "TESSERA_TEST_LEADER_ENDPOINTS";
const TTL: Duration = Duration::from_secs(2);
/// What a leader alone may write.
const STEERED: &str = "steered";

fn election(kv: &Arc<dyn KvBackend>) -> Election {
    Election::new(Arc::clone(kv), Env::system(), "steer", TTL)
}

fn signal(process: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

/// Leads, and writes as fast as it can, until a write is refused; it never asks whether it still leads.
#[tokio::test]
#[ignore = "the process of a leader, started by the test below"]
async fn a_leader() {
    let Ok(endpoints) = std::env::var(ENDPOINTS) else { return };
    let kv: Arc<dyn KvBackend> = Arc::new(connect([endpoints]).await);
    let leadership = election(&kv).campaign("first").await.unwrap();
    println!("leads");
    loop {
        let write = Txn::new().when(leadership.compare()).then([Op::put(STEERED, "first")]);
        match kv.txn(write).await {
            Ok(answer) if answer.succeeded => env::sleep(Duration::from_millis(5)).await,
            Ok(_) => {
                println!("refused, and {}", if leadership.is_held() { "believes to lead" } else { "knows" });
                return;
            }
            // A call that was under way while the process was stopped may have run out of time.
            Err(error) => println!("unknown: {error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_leader_that_wakes_after_its_lease_changes_nothing() {
    need_etcd!();
    let servers = cluster(1, &[]).await;
    let kv: Arc<dyn KvBackend> = Arc::new(connect(servers.endpoints()).await);
    let program = std::env::current_exe().unwrap();
    let mut leader = Command::new(program)
        .args(["--exact", "kv::etcd::tests::stopped::a_leader", "--ignored", "--nocapture"])
        .env(ENDPOINTS, servers.endpoint(0))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(leader.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(told.by_ref().any(|line| line.contains("leads")), "the first leader did not come to lead");
    // It is stopped once it has written, in the middle of whatever it does.
    let steered = Key::from(STEERED);
    while kv.get(&steered).await.unwrap().entry.is_none() {
        env::sleep(Duration::from_millis(5)).await;
    }
    signal(&leader, "-STOP");
    let second = election(&kv).campaign("second").await.unwrap();
    let write = Txn::new().when(second.compare()).then([Op::put(STEERED, "second")]);
    assert!(kv.txn(write).await.unwrap().succeeded);
    let before = kv.get(&steered).await.unwrap().entry.unwrap();
    signal(&leader, "-CONT");
    let last: Vec<String> = told.collect();
    assert!(leader.wait().unwrap().success(), "{last:?}");
    assert!(last.iter().any(|line| line.contains("refused")), "{last:?}");
    assert_eq!(kv.get(&steered).await.unwrap().entry, Some(before), "the woken leader has changed what it no longer steers");
    second.resign().await;
}
