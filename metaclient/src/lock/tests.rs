//! Locks in virtual time: order, loss, fencing, faults.

use std::cell::RefCell;
use std::rc::Rc;

use tessera_manifest::env::{Moment, sleep};
use tokio::time::timeout;

use super::*;
use crate::kv::{KeyRange, MemoryBackend, Op, Txn, range_all};
use crate::testing::{Fault, FaultKv, Random, counting_env, seeds};

const TTL: Duration = Duration::from_secs(8);

fn memory() -> Arc<dyn KvBackend> {
    Arc::new(MemoryBackend::new())
}

fn semaphore(kv: &Arc<dyn KvBackend>, process: u64, permits: u32) -> Semaphore {
    Semaphore::new(Arc::clone(kv), counting_env(process), "s", permits, TTL)
}

async fn queue(kv: &Arc<dyn KvBackend>) -> String {
    let holders = semaphore(kv, 999, 1).holders().await.unwrap();
    holders.into_iter().map(|(_, holder)| holder.name).collect::<Vec<_>>().join(" ")
}

/// Changes the store only under the permit.
async fn write_as(kv: &Arc<dyn KvBackend>, permit: &Permit, value: &str) -> bool {
    kv.txn(Txn::new().when(permit.compare()).then([Op::put("guarded", value.to_owned())])).await.unwrap().succeeded
}

#[tokio::test(start_paused = true)]
async fn permits_are_given_in_order_and_tokens_grow() {
    let kv = memory();
    let first = semaphore(&kv, 1, 2).acquire("a").await.unwrap();
    let second = semaphore(&kv, 2, 2).acquire("b").await.unwrap();
    let (third_of, fourth_of) = (semaphore(&kv, 3, 2), semaphore(&kv, 4, 2));
    let order = RefCell::new(Vec::new());
    let third = async {
        let permit = third_of.acquire("c").await.unwrap();
        order.borrow_mut().push("c");
        permit
    };
    let fourth = async {
        sleep(Duration::from_millis(1)).await;
        let permit = fourth_of.acquire("d").await.unwrap();
        order.borrow_mut().push("d");
        permit
    };
    let driver = async {
        sleep(TTL * 3).await;
        assert!(order.borrow().is_empty(), "both permits are held");
        assert_eq!(queue(&kv).await, "a b c d");
        assert!(semaphore(&kv, 5, 2).try_acquire("e").await.unwrap().is_none());
        assert!(first.token() < second.token());
        second.release().await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(*order.borrow(), ["c"]);
        first.release().await;
    };
    let (third, fourth, ()) = tokio::join!(third, fourth, driver);
    assert!(third.token() < fourth.token());
    assert_eq!(queue(&kv).await, "c d");
    drop((third, fourth));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue(&kv).await, "", "what is dropped is given up");
    assert!(semaphore(&kv, 6, 2).try_acquire("f").await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_kept_for_as_long_as_its_holder_lives() {
    let kv = memory();
    let permit = semaphore(&kv, 1, 1).acquire("a").await.unwrap();
    for _ in 0..100 {
        sleep(TTL).await;
        assert!(permit.is_held());
    }
    assert!(timeout(TTL * 10, permit.lost()).await.is_err());
    assert!(write_as(&kv, &permit, "a").await);
}

#[tokio::test(start_paused = true)]
async fn an_expired_holder_is_told_before_another_can_hold() {
    let kv = memory();
    // Cut off from the store at every moment of a term.
    for cut_ms in (0..9000).step_by(250) {
        let process = FaultKv::sound(Arc::clone(&kv));
        let handle: Arc<dyn KvBackend> = process.clone();
        let permit = semaphore(&handle, 1, 1).acquire("a").await.unwrap();
        sleep(Duration::from_millis(cut_ms)).await;
        process.freeze();
        let told = async {
            permit.lost().await;
            Moment::now()
        };
        let other = async {
            let permit = semaphore(&kv, 2 + cut_ms, 1).acquire("b").await.unwrap();
            (Moment::now(), permit)
        };
        let (told, (given, new)) = tokio::join!(told, other);
        assert!(told < given, "cut off after {cut_ms} ms");
        assert!(!permit.is_held() && permit.token() < new.token());
        process.thaw();
        sleep(Duration::from_secs(1)).await;
        assert!(!permit.is_held(), "lost is lost");
        assert!(!write_as(&kv, &permit, "a").await && write_as(&kv, &new, "b").await);
        new.release().await;
        permit.release().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_does_not_move_the_deadline_beyond_that_of_the_store() {
    let kv = memory();
    // Requests: grant, put, revision, queue; then the first renewal, whose answer takes two seconds.
    let process = FaultKv::once(Arc::clone(&kv), 4, Fault::FreezeAfter);
    let handle: Arc<dyn KvBackend> = process.clone();
    let permit = semaphore(&handle, 1, 1).acquire("a").await.unwrap();
    assert_eq!(process.requests(), 4);
    timeout(TTL, process.down()).await.expect("the renewal is under way");
    sleep(Duration::from_secs(2)).await;
    process.thaw();
    sleep(Duration::from_millis(100)).await;
    process.freeze();
    let told = async {
        permit.lost().await;
        Moment::now()
    };
    let other = semaphore(&kv, 2, 1);
    let given = async {
        let _permit = other.acquire("b").await.unwrap();
        Moment::now()
    };
    let (told, given) = tokio::join!(told, given);
    assert!(told < given);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_was_stopped_knows_at_once_when_it_wakes() {
    let kv = memory();
    let process = FaultKv::sound(Arc::clone(&kv));
    let handle: Arc<dyn KvBackend> = process.clone();
    let permit = semaphore(&handle, 1, 1).acquire("a").await.unwrap();
    process.freeze();
    // Time goes on, and no task of the process runs in between: the clock alone tells.
    let before = permit.is_held();
    tokio::time::advance(TTL * 2).await;
    assert!(before && !permit.is_held());
    let new = semaphore(&kv, 2, 1).acquire("b").await.unwrap();
    process.thaw();
    assert!(!write_as(&kv, &permit, "a").await && write_as(&kv, &new, "b").await);
}

#[tokio::test(start_paused = true)]
async fn a_short_outage_of_the_store_loses_nothing() {
    let kv = memory();
    let process = FaultKv::new(Arc::clone(&kv), |request| (request % 3 != 0 && request > 8).then_some(Fault::Fail));
    let handle: Arc<dyn KvBackend> = process;
    let permit = semaphore(&handle, 1, 1).acquire("a").await.unwrap();
    sleep(TTL * 20).await;
    assert!(permit.is_held());
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_leaves_the_queue() {
    let kv = memory();
    let permit = semaphore(&kv, 1, 1).acquire("a").await.unwrap();
    assert!(timeout(TTL * 2, semaphore(&kv, 2, 1).acquire("b")).await.is_err());
    let behind = semaphore(&kv, 3, 1);
    let next = async { timeout(TTL, behind.acquire("c")).await.expect("nobody is before it").unwrap() };
    let release = async {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(queue(&kv).await, "a c");
        permit.release().await;
    };
    tokio::join!(next, release);
}

#[tokio::test(start_paused = true)]
async fn all_must_mean_the_same_number_of_permits() {
    let kv = memory();
    let _permit = semaphore(&kv, 1, 2).acquire("a").await.unwrap();
    let refused = semaphore(&kv, 2, 3).acquire("b").await.unwrap_err();
    assert!(matches!(&refused, LockError::PermitsDiffer { asked: 3, found: 2, holder, .. } if holder == "a"), "{refused}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(queue(&kv).await, "a");
}

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_request_leaves_one_place_or_none() {
    for at in 0..12 {
        for fault in [Fault::PASSING.as_slice(), &Fault::CRASHES].concat() {
            let kv = memory();
            let process = FaultKv::once(Arc::clone(&kv), at, fault);
            let handle: Arc<dyn KvBackend> = process.clone();
            let lock = semaphore(&handle, 1, 1);
            let result = timeout(TTL, lock.acquire("a")).await;
            if let Ok(Ok(permit)) = &result {
                assert_eq!(queue(&kv).await, "a", "{fault:?} at request {at}");
                assert!(process.is_down() || write_as(&kv, permit, "a").await);
            }
            drop(result);
            sleep(TTL * 2).await;
            assert_eq!(queue(&kv).await, "", "{fault:?} at request {at}: a dead holder's lease expires");
            assert!(timeout(TTL, semaphore(&kv, 2, 1).acquire("b")).await.is_ok());
        }
    }
}

/// Processes that come, hold, freeze, lose requests and die; never more believe to hold than there are permits.
async fn storm(seed: u64) {
    let kv = memory();
    let mut random = Random::new(seed);
    let permits = 1 + u32::try_from(random.below(2)).unwrap();
    let held: Rc<RefCell<Vec<Permit>>> = Rc::default();
    let local = tokio::task::LocalSet::new();
    let mut processes = Vec::new();
    for process in 0..5 {
        let (kv, held, mut random) = (Arc::clone(&kv), Rc::clone(&held), Random::new(seed * 31 + process));
        processes.push(local.spawn_local(async move {
            for round in 0..6 {
                let mut faults = Random::new(seed * 1000 + process * 10 + round);
                let plan = move |_| faults.chance(1, 6).then(|| Fault::PASSING[faults.below(3) as usize]);
                let handle = FaultKv::new(Arc::clone(&kv), plan);
                let backend: Arc<dyn KvBackend> = handle.clone();
                let lock = semaphore(&backend, seed * 100_000 + process * 100 + round, permits);
                let Ok(Ok(permit)) = timeout(TTL * 10, lock.acquire("x")).await else { continue };
                held.borrow_mut().push(permit);
                sleep(Duration::from_millis(random.below(4000))).await;
                if random.chance(1, 2) {
                    handle.freeze();
                    sleep(Duration::from_millis(random.below(20_000))).await;
                    handle.thaw();
                }
                sleep(Duration::from_millis(random.below(4000))).await;
            }
        }));
    }
    let watched = Rc::clone(&held);
    let watching = local.spawn_local(async move {
        loop {
            sleep(Duration::from_millis(100)).await;
            let held = watched.borrow();
            let believing: Vec<Revision> = held.iter().filter(|permit| permit.is_held()).map(Permit::token).collect();
            assert!(believing.len() <= permits as usize, "seed {seed}: {believing:?} of {permits}");
            drop(held);
            // Some let go in time.
            watched.borrow_mut().retain(|permit| permit.is_held() && permit.token().0 % 7 != 0);
        }
    });
    let all = async {
        for process in processes {
            process.await.unwrap();
        }
    };
    local.run_until(all).await;
    assert!(!watching.is_finished(), "seed {seed}");
    watching.abort();
}

#[tokio::test(start_paused = true)]
async fn never_do_more_hold_than_there_are_permits_with_even_seeds() {
    for seed in seeds(20).filter(|seed| seed % 2 == 0) {
        storm(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn never_do_more_hold_than_there_are_permits_with_odd_seeds() {
    for seed in seeds(20).filter(|seed| seed % 2 == 1) {
        storm(seed).await;
    }
}

#[tokio::test(start_paused = true)]
async fn names_do_not_mix() {
    let kv = memory();
    let lock = |name: &str, process| Semaphore::lock(Arc::clone(&kv), counting_env(process), name, TTL);
    let _a = lock("a", 1).acquire("x").await.unwrap();
    let _b = lock("a/b", 2).try_acquire("x").await.unwrap().expect("another lock");
    assert_eq!(range_all(&*kv, KeyRange::prefix("lock/")).await.unwrap().len(), 2);
}
