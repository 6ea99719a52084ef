//! Elections in virtual time.

use tessera_manifest::env::sleep;
use tokio::time::timeout;

use super::*;
use crate::kv::{MemoryBackend, Op, Txn};
use crate::testing::{FaultKv, counting_env};

const TTL: Duration = Duration::from_secs(5);

fn election(kv: Arc<dyn KvBackend>, process: u64) -> Election {
    Election::new(kv, counting_env(process), "metasrv", TTL)
}

async fn next(leaders: &mut Leaders) -> Option<String> {
    timeout(TTL * 3, leaders.next()).await.expect("the leader changes").map(|leader| leader.candidate)
}

#[tokio::test(start_paused = true)]
async fn leaders_follow_each_other_and_observers_see_each() {
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
    let mut leaders = election(Arc::clone(&kv), 9).observe();
    assert_eq!(next(&mut leaders).await, None);
    let a = election(Arc::clone(&kv), 1).campaign("a").await.unwrap();
    assert_eq!(next(&mut leaders).await.as_deref(), Some("a"));
    let candidate = election(Arc::clone(&kv), 2);
    let (b, ()) = tokio::join!(candidate.campaign("b"), async {
        sleep(TTL * 2).await;
        assert_eq!(candidate.leader().await.unwrap().unwrap().candidate, "a");
        a.resign().await;
    });
    let b = b.unwrap();
    let seen = timeout(TTL, leaders.next()).await.unwrap().unwrap();
    assert_eq!((seen.candidate.as_str(), seen.token), ("b", b.token()));
    b.resign().await;
    assert_eq!(next(&mut leaders).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_stopped_changes_nothing_when_it_wakes() {
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
    let process = FaultKv::sound(Arc::clone(&kv));
    let old = election(process.clone(), 1).campaign("old").await.unwrap();
    process.freeze();
    let new = election(Arc::clone(&kv), 2).campaign("new").await.unwrap();
    assert!(!old.is_held() && new.is_held() && old.token() < new.token());
    process.thaw();
    let write = |leader: &Leadership, value: &str| Txn::new().when(leader.compare()).then([Op::put("k", value.to_owned())]);
    assert!(!process.txn(write(&old, "old")).await.unwrap().succeeded);
    assert!(kv.txn(write(&new, "new")).await.unwrap().succeeded);
    timeout(TTL, old.lost()).await.expect("it knows");
}
