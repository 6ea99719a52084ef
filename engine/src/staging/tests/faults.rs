//! A store that refuses, or does what it is asked and does not say so, at each operation of a repartition; and one that
//! is gone for so long that outcomes are not known.

use std::sync::Arc;

use tempfile::TempDir;
use tessera_manifest::env::Env;
use tessera_manifest::id::NodeId;

use super::table::*;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::error::Error;
use crate::testing::{Fault, PlanStore};
use crate::wal::{LocalWal, LogStore, Options};

const N_TO_M: [(Option<u32>, &str); 2] = [(Some(1), "k < 6"), (None, "k >= 6")];

struct World {
    _dir: TempDir,
    store: PlanStore,
    engine: Engine,
    kv: Kv,
    promises: Promises,
    plan: Plan,
}

impl World {
    async fn new() -> Self {
        let (dir, store, kv, promises) = (TempDir::new().unwrap(), PlanStore::new(), Kv::default(), Promises::default());
        let wal: Arc<dyn LogStore> = Arc::new(LocalWal::open(dir.path(), Options::new(NodeId(1)), Env::system()).await.unwrap());
        let read_set = Some(Arc::new(kv.clone()) as Arc<dyn crate::staging::ReadSet>);
        let (config, env) = (Config::default(), Env::system());
        let engine = Engine::start(Parts { store: Arc::new(store.clone()), wal, node: NodeId(1), env, config, read_set, reachable: None });
        create(&engine, &kv, &["k < 3", "k >= 3"], "last_row").await;
        for index in 0..KEYS {
            promise(&engine, &kv, &promises, (index, 1), Some(index)).await;
        }
        let plan = kv.plan(&[0, 1], &N_TO_M, "last_row");
        Self { _dir: dir, store, engine, kv, promises, plan }
    }

    /// A repartition that is tried again until it is done, beside writes.
    async fn run(&self, abort: Option<usize>) {
        let Self { engine, kv, promises, plan, .. } = self;
        let repartition = async {
            for _ in 0..40 {
                match plan.run(engine, kv, abort).await {
                    Ok(_) => return,
                    Err(error) => drop(error),
                }
            }
            panic!("the repartition never ends");
        };
        let writes = async {
            for turn in 0..6 {
                let at = ((turn * 3) % KEYS, 2);
                promises.begin(at, Some(turn));
                // Whether the region is staged may not be known while the store is gone: then nothing is written.
                for _ in 0..40 {
                    match write(engine, kv, at, Some(turn)).await {
                        Ok(()) => {
                            promises.done(at, Some(turn));
                            break;
                        }
                        Err(Error::Manifest { .. } | Error::ReadSet { .. }) => tokio::task::yield_now().await,
                        Err(error) => panic!("{}", crate::error_chain(&error)),
                    }
                }
            }
        };
        futures::join!(repartition, writes);
    }

    async fn check(self) {
        self.store.heal();
        let Self { engine, kv, promises, .. } = &self;
        promises.check(&once(&scan(engine, kv).await));
        for region in engine.regions() {
            assert_eq!(region.staging().await.unwrap(), None);
        }
        for index in 0..KEYS {
            promise(engine, kv, promises, (index, 3), Some(index)).await;
        }
        promises.check(&once(&scan(engine, kv).await));
        engine.close().await.unwrap();
    }
}

async fn operations(abort: Option<usize>) -> usize {
    let world = World::new().await;
    world.store.plan(|_| Fault::None);
    world.run(abort).await;
    world.store.heal()
}

async fn fail_everywhere(abort: Option<usize>, step: usize, length: usize, fault: Fault) {
    let count = operations(abort).await;
    assert!(count > 6, "{count}");
    for at in (0..count).step_by(step) {
        println!("{fault:?} from {at} for {length} of {count}");
        let world = World::new().await;
        let hit = move |number: usize| (at..at + length).contains(&number);
        // A decision and a read of the own test's are not retried here.
        world.store.plan(move |op| if hit(op.number) && !op.path.contains("/txn/") { fault } else { Fault::None });
        world.run(abort).await;
        world.check().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_fails_or_whose_answer_is_lost_is_made_up_for() {
    for fault in [Fault::Refused, Fault::Lost] {
        fail_everywhere(None, 1, 1, fault).await;
        fail_everywhere(Some(1), 1, 1, fault).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_gone_for_a_while_leaves_nothing_lost_and_nothing_twice() {
    for fault in [Fault::Refused, Fault::Lost] {
        fail_everywhere(None, 3, 14, fault).await;
        fail_everywhere(Some(3), 5, 14, fault).await;
    }
}
