//! Procedures that wait for a blocked one, and such as take its place.

use std::collections::BTreeMap;

use tokio::time::timeout;

use super::verbs::{Flaky, Gate, say};
use super::*;
use crate::keys;
use crate::kv::{Change, Revision};
use crate::testing::{Fault, FaultKv};

const LONG: Duration = Duration::from_secs(3600);

fn gate() -> Gate {
    Gate(Locks::none().exclusive("flaky"))
}

async fn start_both(kv: &Arc<dyn KvBackend>, process: u64) -> Result<Runner, ProcedureError> {
    let registry = registry().with("flaky", |_| Ok(Box::new(Flaky(false)))).with("gate", |_| Ok(Box::new(Gate(Locks::none()))));
    Runner::start(Arc::clone(kv), counting_env(process), registry, RunnerOptions::DEFAULT).await
}

async fn phase(kv: &Arc<dyn KvBackend>, name: &str) -> Phase {
    procedures(kv).procedure(&id(name)).await.unwrap().phase
}

async fn open(kv: &Arc<dyn KvBackend>, name: &str) {
    kv.txn(Txn::new().then([Op::put(format!("open/{name}"), "")])).await.unwrap();
}

/// A store with procedure `p` blocked.
async fn blocked() -> Arc<dyn KvBackend> {
    let kv = memory();
    say(&kv, Some("no")).await;
    let runner = start_both(&kv, 1).await.unwrap();
    procedures(&kv).submit(&id("p"), &Flaky(false)).await.unwrap();
    assert!(timeout(LONG, procedures(&kv).wait(&id("p"))).await.unwrap().unwrap().phase.is_blocked());
    runner.close().await;
    kv
}

/// Waits for `name`, and says which blocked procedure is in its way, if one is.
async fn waited(kv: &Arc<dyn KvBackend>, name: &str) -> Result<Phase, String> {
    let client = procedures(kv);
    match timeout(LONG, client.wait_unless_obstructed(&id(name), |record| record.phase.is_settled())).await.expect("it ends").unwrap() {
        Waited::Reached(record) => Ok(record.phase),
        Waited::Obstructed { by } => Err(by.id.to_string()),
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_blocked_procedure() {
    let kv = blocked().await;
    let client = procedures(&kv);
    assert_eq!(client.obstacle(&gate().locks()).await.unwrap().unwrap().id, id("p"));
    assert!(client.obstacle(&Locks::none().exclusive("other")).await.unwrap().is_none());
    client.submit(&id("q"), &gate()).await.unwrap();
    let runner = start_both(&kv, 2).await.unwrap();
    assert_eq!(waited(&kv, "q").await, Err("p".into()));
    assert_eq!(phase(&kv, "q").await, Phase::Cancelled, "it was withdrawn, and will not run");
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_the_procedure_before_it_is_blocked_later() {
    let kv = memory();
    say(&kv, Some("later")).await;
    let runner = start_both(&kv, 1).await.unwrap();
    procedures(&kv).submit(&id("p"), &Flaky(false)).await.unwrap();
    procedures(&kv).submit(&id("q"), &gate()).await.unwrap();
    assert!(procedures(&kv).obstacle(&gate().locks()).await.unwrap().is_none(), "what is tried again goes on by itself");
    let waits = tessera_manifest::env::spawn({
        let kv = Arc::clone(&kv);
        async move { waited(&kv, "q").await }
    });
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert!(!waits.is_finished());
    say(&kv, Some("no")).await;
    assert_eq!(waits.await.unwrap(), Err("p".into()));
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_obstacle_is_found_through_those_that_wait_for_it_too() {
    let kv = blocked().await;
    let client = procedures(&kv);
    client.submit(&id("q"), &Gate(Locks::none().exclusive("flaky").exclusive("name"))).await.unwrap();
    assert_eq!(client.obstacle(&Locks::none().exclusive("name")).await.unwrap().unwrap().id, id("p"));
    client.submit(&id("r"), &Gate(Locks::none().exclusive("name"))).await.unwrap();
    assert_eq!(waited(&kv, "r").await, Err("p".into()));
    assert_eq!(waited(&kv, "q").await, Err("p".into()));
}

#[tokio::test(start_paused = true)]
async fn who_takes_the_place_of_a_blocked_procedure_goes_before_those_that_wait() {
    let kv = blocked().await;
    let client = procedures(&kv);
    client.submit(&id("a"), &gate()).await.unwrap();
    client.submit_in_place_of(&id("p"), &id("d"), &gate()).await.unwrap();
    let runner = start_both(&kv, 2).await.unwrap();
    tessera_manifest::env::sleep(Duration::from_secs(5)).await;
    assert_eq!((phase(&kv, "p").await, phase(&kv, "d").await, phase(&kv, "a").await), (Phase::Cancelled, Phase::Running, Phase::Queued));
    let ended = client.procedure(&id("p")).await.unwrap().error.unwrap();
    assert_eq!(ended, "procedure d took its place; it was blocked: no");
    assert!(matches!(client.retry(&id("p")).await, Err(ProcedureError::Refused { reason: Refused::Over, .. })));
    open(&kv, "a").await;
    tessera_manifest::env::sleep(Duration::from_secs(5)).await;
    assert_eq!(phase(&kv, "a").await, Phase::Queued, "the lock went from one to the other");
    open(&kv, "d").await;
    assert_eq!((waited(&kv, "d").await, waited(&kv, "a").await), (Ok(Phase::Done), Ok(Phase::Done)));
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_procedure_that_goes_on_again_is_waited_for_and_not_replaced() {
    let kv = blocked().await;
    let client = procedures(&kv);
    say(&kv, Some("later")).await;
    client.retry(&id("p")).await.unwrap();
    client.submit_in_place_of(&id("p"), &id("d"), &gate()).await.unwrap();
    let runner = start_both(&kv, 2).await.unwrap();
    tessera_manifest::env::sleep(Duration::from_secs(60)).await;
    assert_eq!((phase(&kv, "p").await, phase(&kv, "d").await), (Phase::Running, Phase::Queued));
    say(&kv, None).await;
    open(&kv, "d").await;
    assert_eq!((waited(&kv, "p").await, waited(&kv, "d").await), (Ok(Phase::Done), Ok(Phase::Done)));
    runner.close().await;
}

#[tokio::test(start_paused = true)]
async fn only_locks_that_are_held_are_handed_over() {
    let kv = blocked().await;
    let client = procedures(&kv);
    let more = Gate(Locks::none().exclusive("flaky").shared("other"));
    let refused = client.submit_in_place_of(&id("p"), &id("d"), &more).await.unwrap_err();
    assert!(matches!(refused, ProcedureError::LocksNotHeld { .. }), "{refused}");
    let unknown = client.submit_in_place_of(&id("x"), &id("d"), &gate()).await.unwrap_err();
    assert!(matches!(unknown, ProcedureError::NotFound { .. }), "{unknown}");
}

/// The most procedures that held the lock at once, over all transactions.
async fn most_holders(kv: &Arc<dyn KvBackend>) -> usize {
    let until = kv.get(&"any".into()).await.unwrap().revision;
    let mut watch = kv.watch(keys::procedures(), Revision(2)).await.unwrap();
    let (mut records, mut most): (BTreeMap<Key, Record>, usize) = (BTreeMap::new(), 0);
    while let Ok(Ok(batch)) = timeout(Duration::from_secs(1), watch.next()).await {
        for change in batch.changes {
            match change {
                Change::Put(entry) => drop(records.insert(entry.key.clone(), Row::of(&entry).unwrap().record)),
                Change::Delete { key } => drop(records.remove(&key)),
            }
        }
        most = most.max(records.values().filter(|record| record.standing() == Standing::Holds).count());
        if batch.revision >= until {
            break;
        }
    }
    most
}

#[tokio::test(start_paused = true)]
async fn the_lock_changes_hands_once_whatever_happens_to_the_runner() {
    let faults =
        [Fault::CrashBefore, Fault::CrashAfter, Fault::FreezeBefore, Fault::FreezeAfter, Fault::LoseAnswer, Fault::Delay, Fault::Fail];
    let mut disturbed = 0;
    for fault in faults {
        for at in 0..24 {
            let kv = blocked().await;
            let client = procedures(&kv);
            client.submit(&id("a"), &gate()).await.unwrap();
            client.submit_in_place_of(&id("p"), &id("d"), &gate()).await.unwrap();
            open(&kv, "a").await;
            open(&kv, "d").await;
            let process = FaultKv::once(Arc::clone(&kv), at, fault);
            let handle: Arc<dyn KvBackend> = Arc::clone(&process) as _;
            let starting = tessera_manifest::env::spawn(async move { start_both(&handle, 2).await });
            let down = timeout(Duration::from_secs(30), process.down()).await.is_ok();
            let next = start_both(&kv, 3).await.unwrap();
            process.thaw();
            disturbed += u32::from(down);
            assert_eq!(waited(&kv, "d").await, Ok(Phase::Done), "{fault:?} at {at}");
            assert_eq!(waited(&kv, "a").await, Ok(Phase::Done), "{fault:?} at {at}");
            assert_eq!(phase(&kv, "p").await, Phase::Cancelled, "{fault:?} at {at}");
            assert_eq!(most_holders(&kv).await, 1, "{fault:?} at {at}");
            starting.abort();
            next.close().await;
        }
    }
    assert!(disturbed > 20, "{disturbed}");
}
