//! Coordinators, flushes and regions that are given up between two polls, as when a step times out or its runner ends.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::NodeId;

use super::table::*;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::testing::PlanStore;
use crate::wal::{LocalWal, LogStore, Options};

const N_TO_M: [(Option<u32>, &str); 2] = [(Some(1), "k < 6"), (None, "k >= 6")];
/// Every so many polls is enough: an operation of the store takes two, and a commit several operations.
const STEP: usize = 4;
/// Polls after which a coordinator is given up at the latest; one that is not is done by then.
const POLLS_MAX: usize = 400;

/// What `work` gives, unless it is not ready after so many polls: then it is dropped.
async fn within<F: Future>(polls: usize, work: F) -> Option<F::Output> {
    let (mut work, mut left) = (pin!(work), polls);
    poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

async fn start(dir: &Path, store: &PlanStore, kv: &Kv) -> Engine {
    let wal: Arc<dyn LogStore> = Arc::new(LocalWal::open(dir, Options::new(NodeId(1)), Env::system()).await.unwrap());
    let read_set = Some(Arc::new(kv.clone()) as Arc<dyn crate::staging::ReadSet>);
    let (config, env) = (Config::default(), Env::system());
    Engine::start(Parts { store: Arc::new(store.clone()), wal, node: NodeId(1), env, config, read_set, reachable: None })
}

/// A repartition whose coordinator is given up after so many polls, and what then happens to the regions; then the rest
/// of it, beside writes. Whether it was given up.
async fn give_up_after(polls: usize, mode: &str, abort: Option<usize>, restarts: bool) -> bool {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let store = PlanStore::new();
    store.yields.store(true, Ordering::Relaxed);
    let engine = start(dir.path(), &store, &kv).await;
    create(&engine, &kv, &["k < 3", "k >= 3"], mode).await;
    for index in 0..KEYS {
        promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
    }
    let plan = kv.plan(&[0, 1], &N_TO_M, mode);
    let given_up = within(polls, plan.run(&engine, &kv, abort)).await.is_none();
    for region in engine.regions() {
        if restarts {
            engine.restart(region.id()).await.unwrap();
        }
        let _ = within(polls % 7, region.flush()).await;
    }
    promises.check(&once(&scan(&engine, &kv).await));
    let writes = async {
        for index in 0..KEYS {
            promise(&engine, &kv, &promises, (index, 2), Some(index)).await;
        }
    };
    let (done, ()) = futures::join!(plan.run(&engine, &kv, abort), writes);
    done.unwrap();
    promises.check(&once(&scan(&engine, &kv).await));
    for region in engine.regions() {
        assert_eq!(region.staging().await.unwrap(), None, "{}", region.id());
        region.flush().await.unwrap();
    }
    promises.check(&once(&scan(&engine, &kv).await));
    engine.stop_background().await;
    drop(engine);
    let engine = start(dir.path(), &store, &kv).await;
    open(&engine, &kv, None).await;
    promises.check(&once(&scan(&engine, &kv).await));
    engine.close().await.unwrap();
    given_up
}

async fn give_up_everywhere(mode: &str, abort: Option<usize>, restarts: bool) {
    let mut given_up = 0;
    while given_up < POLLS_MAX && give_up_after(given_up, mode, abort, restarts).await {
        given_up += STEP;
    }
    assert!((10..POLLS_MAX).contains(&given_up), "{given_up}");
}

#[tokio::test]
async fn a_coordinator_that_is_given_up_anywhere_is_followed_by_one_that_finishes() {
    give_up_everywhere("append", None, false).await;
}

#[tokio::test]
async fn regions_that_are_opened_anew_wherever_their_coordinator_is_given_up_go_on() {
    give_up_everywhere("append", None, true).await;
}

#[tokio::test]
async fn a_coordinator_that_is_given_up_in_an_abort_is_followed_by_one_that_finishes() {
    give_up_everywhere("append", Some(1), false).await;
    give_up_everywhere("append", Some(3), true).await;
}
