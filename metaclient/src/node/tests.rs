//! The registry in virtual time.

use tokio::time::timeout;

use super::*;
use crate::kv::MemoryBackend;
use crate::testing::{Fault, FaultKv, counting_env};

const TTL: Duration = Duration::from_secs(5);

async fn addresses(kv: &Arc<dyn KvBackend>) -> String {
    let nodes = Nodes::new(Arc::clone(kv), counting_env(9)).nodes().await.unwrap();
    nodes.iter().map(|node| format!("{}={}", node.id, node.address)).collect::<Vec<_>>().join(" ")
}

#[tokio::test(start_paused = true)]
async fn nodes_are_listed_while_they_live() {
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
    let process = FaultKv::sound(Arc::clone(&kv));
    let dying = Nodes::new(process.clone(), counting_env(1)).register(NodeId(10), "a:1", "0.1", TTL).await.unwrap();
    let living = Nodes::new(Arc::clone(&kv), counting_env(2)).register(NodeId(2), "b:1", "0.1", TTL).await.unwrap();
    env::sleep(TTL * 10).await;
    assert_eq!(addresses(&kv).await, "2=b:1 10=a:1");
    process.freeze();
    timeout(TTL, dying.lost()).await.expect("it is told");
    env::sleep(TTL).await;
    assert_eq!(addresses(&kv).await, "2=b:1");
    assert!(living.is_held());
    living.leave().await;
    assert_eq!(addresses(&kv).await, "");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_starts_again_waits_until_its_former_start_is_gone() {
    let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
    let process = FaultKv::sound(Arc::clone(&kv));
    let former = Nodes::new(process.clone(), counting_env(1)).register(NodeId(1), "old", "0.1", TTL).await.unwrap();
    let nodes = Nodes::new(Arc::clone(&kv), counting_env(2));
    assert!(timeout(TTL * 3, nodes.register(NodeId(1), "new", "0.2", TTL)).await.is_err());
    process.freeze();
    let now = timeout(TTL * 2, nodes.register(NodeId(1), "new", "0.2", TTL)).await.expect("the lease ends").unwrap();
    assert!(!former.is_held());
    assert_eq!(addresses(&kv).await, "1=new");
    assert_eq!((now.node().version.as_str(), now.is_held()), ("0.2", true));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_registers_once() {
    for fault in Fault::PASSING {
        for at in 1..3 {
            let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
            let nodes = Nodes::new(FaultKv::once(Arc::clone(&kv), at, fault), counting_env(1));
            let registration = timeout(TTL, nodes.register(NodeId(1), "a", "0.1", TTL)).await.expect("soon").unwrap();
            assert_eq!(addresses(&kv).await, "1=a");
            let written = kv.txn(crate::kv::Txn::new().when(registration.compare())).await.unwrap();
            assert!(written.succeeded, "{fault:?} at {at}");
        }
    }
}
