//! Whole repartitions on a local store with a local log, with writers, restarts and every merge mode.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tessera_manifest::id::NodeId;

use super::table::*;
use crate::compaction::Strategy;
use crate::config::Config;
use crate::engine::{Engine, Parts};
use crate::wal::{LocalWal, LogStore, Options};

pub(super) async fn start(dir: &Path, kv: &Kv) -> Engine {
    use std::sync::Arc;
    let options = Options { segment_bytes: 1 << 20, ..Options::new(NodeId(1)) };
    let wal: Arc<dyn LogStore> = Arc::new(LocalWal::open(&dir.join("wal"), options, tessera_manifest::env::Env::system()).await.unwrap());
    std::fs::create_dir_all(dir.join("store")).unwrap();
    let store = Arc::new(LocalFileSystem::new_with_prefix(dir.join("store")).unwrap());
    let env = tessera_manifest::env::Env::system();
    let read_set = Some(Arc::new(kv.clone()) as Arc<dyn crate::staging::ReadSet>);
    Engine::start(Parts { store, wal, node: NodeId(1), env, config: Config::default(), read_set, reachable: None })
}

/// Ends an engine as a crash would, and starts another with all regions open.
pub(super) async fn restart(engine: Engine, dir: &Path, kv: &Kv, plan: Option<&Plan>) -> Engine {
    engine.stop_background().await;
    drop(engine);
    let engine = start(dir, kv).await;
    open(&engine, kv, plan).await;
    engine
}

/// A row for each key, some flushed.
async fn fill(engine: &Engine, kv: &Kv, promises: &Promises, ts: i64) {
    for index in 0..KEYS {
        promise(engine, kv, promises, (index, ts), Some(ts * 100 + index)).await;
        if index == 4 {
            for region in engine.regions() {
                region.flush().await.unwrap();
            }
        }
    }
}

async fn check(engine: &Engine, kv: &Kv, promises: &Promises) {
    promises.check(&once(&scan(engine, kv).await));
}

const SPLIT: [(Option<u32>, &str); 2] = [(Some(0), "k < 5"), (None, "k >= 5")];

#[tokio::test]
async fn rows_are_there_once_after_split_merge_and_n_to_m_in_every_mode() {
    for mode in ["last_row", "last_non_null", "append"] {
        let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
        let engine = start(dir.path(), &kv).await;
        create(&engine, &kv, &[""], mode).await;
        fill(&engine, &kv, &promises, 1).await;
        assert!(kv.plan(&[0], &SPLIT, mode).run(&engine, &kv, None).await.unwrap());
        check(&engine, &kv, &promises).await;
        fill(&engine, &kv, &promises, 2).await;
        let three = [(Some(1), "k < 3"), (None, "k >= 3 AND k < 8"), (Some(0), "k >= 8")];
        assert!(kv.plan(&[0, 1], &three, mode).run(&engine, &kv, None).await.unwrap());
        check(&engine, &kv, &promises).await;
        fill(&engine, &kv, &promises, 3).await;
        let engine = restart(engine, dir.path(), &kv, None).await;
        check(&engine, &kv, &promises).await;
        assert!(kv.plan(&[0, 1, 2], &[(Some(2), "")], mode).run(&engine, &kv, None).await.unwrap());
        check(&engine, &kv, &promises).await;
        let merged = region(&engine, 2).await;
        assert!(matches!(region(&engine, 0).await.scan(Default::default()).await, Err(crate::error::Error::Retired { .. })));
        merged.flush().await.unwrap();
        merged.compact(Strategy::StrictWindow).await.unwrap();
        check(&engine, &kv, &promises).await;
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_restart_after_every_step_loses_nothing() {
    for clean in [false, true] {
        let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
        let mut engine = start(dir.path(), &kv).await;
        create(&engine, &kv, &["k < 3", "k >= 3"], "last_row").await;
        fill(&engine, &kv, &promises, 1).await;
        let plan = kv.plan(&[0, 1], &[(Some(1), "k < 6"), (None, "k >= 6")], "last_row");
        let again = async |engine: Engine| {
            if clean {
                engine.close().await.unwrap();
            }
            restart(engine, dir.path(), &kv, Some(&plan)).await
        };
        plan.fence(&engine).await.unwrap();
        engine = again(engine).await;
        check(&engine, &kv, &promises).await;
        let staged = plan.fence(&engine).await.unwrap();
        let decided = plan.decide(&engine, Some(&staged)).await;
        engine = again(engine).await;
        plan.admit(&kv);
        let before = promises.clone();
        fill(&engine, &kv, &promises, 2).await;
        let seen = once(&scan(&engine, &kv).await);
        assert!(seen.keys().all(|(_, ts)| *ts == 1) && seen.len() == KEYS as usize, "staged rows are not seen");
        engine = again(engine).await;
        assert_eq!(once(&scan(&engine, &kv).await), seen);
        for region in engine.regions() {
            region.flush().await.unwrap();
        }
        promise(&engine, &kv, &promises, (2, 1), None).await;
        engine = again(engine).await;
        for region in plan.sources.keys() {
            engine.drain(*region, plan.txn).await.unwrap();
        }
        promise(&engine, &kv, &promises, (7, 2), Some(-7)).await;
        engine = again(engine).await;
        plan.drain_and_remap(&engine, &staged).await.unwrap();
        engine = again(engine).await;
        plan.drain_and_remap(&engine, &staged).await.unwrap();
        assert_eq!(once(&scan(&engine, &kv).await), seen);
        plan.publish(&kv).await;
        engine = again(engine).await;
        check(&engine, &kv, &promises).await;
        plan.resolve(&engine, &decided).await.unwrap();
        engine = again(engine).await;
        fill(&engine, &kv, &promises, 3).await;
        before.check(&once(&scan(&engine, &kv).await));
        for region in engine.regions() {
            assert_eq!(region.staging().await.unwrap(), None);
        }
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn aborts_before_and_after_some_and_all_stages_change_nothing() {
    for stages in 0..4 {
        let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
        let engine = start(dir.path(), &kv).await;
        create(&engine, &kv, &["k < 3", "k >= 3"], "last_row").await;
        fill(&engine, &kv, &promises, 1).await;
        let plan = kv.plan(&[0, 1], &[(Some(1), "k < 6"), (None, "k >= 6")], "last_row");
        assert!(!plan.run(&engine, &kv, Some(stages)).await.unwrap());
        check(&engine, &kv, &promises).await;
        fill(&engine, &kv, &promises, 2).await;
        // Unflushed rows of both generations come back in their order.
        let engine = restart(engine, dir.path(), &kv, Some(&plan)).await;
        promise(&engine, &kv, &promises, (3, 1), Some(33)).await;
        check(&engine, &kv, &promises).await;
        for number in [0, 1] {
            let late = engine.stage(plan.request(id(number))).await.unwrap_err();
            assert!(matches!(late, crate::error::Error::Stale { .. }), "{late}");
        }
        let new = engine.create_staged(meta(id(2), &parsed(""), plan.base(id(2)), &plan.options), plan.request(id(2))).await;
        assert!(matches!(new, Err(crate::error::Error::Retired { .. })), "{new:?}");
        let next = kv.plan(&[0, 1], &[(Some(1), "k < 6"), (None, "k >= 6")], "last_row");
        assert!(next.run(&engine, &kv, None).await.unwrap());
        check(&engine, &kv, &promises).await;
        engine.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_readers_run_through_repartitions() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    let stop = AtomicBool::new(false);
    let writer = |from: i64| {
        let (engine, kv, promises, stop) = (&engine, &kv, &promises, &stop);
        async move {
            let mut ts = from;
            while !stop.load(Ordering::SeqCst) {
                let index = ts % KEYS;
                promise(engine, kv, promises, (index, ts), Some(ts)).await;
                if ts % 3 == 0 {
                    promise(engine, kv, promises, (index, ts), None).await;
                }
                ts += 2;
                tokio::task::yield_now().await;
            }
            ts
        }
    };
    let reader = async {
        let mut scans = 0;
        while !stop.load(Ordering::SeqCst) {
            once(&scan(&engine, &kv).await);
            scans += 1;
            tokio::task::yield_now().await;
        }
        scans
    };
    let repartitions = async {
        for _ in 0..4 {
            kv.plan(&[0], &SPLIT, "last_row").run(&engine, &kv, None).await.unwrap();
            let right = *kv.sets().write.keys().last().unwrap();
            let right = right.number().0;
            let abort = kv.plan(&[0, right], &[(Some(0), "")], "last_row");
            abort.run(&engine, &kv, Some(1)).await.unwrap();
            kv.plan(&[0, right], &[(Some(0), "")], "last_row").run(&engine, &kv, None).await.unwrap();
        }
        stop.store(true, Ordering::SeqCst);
    };
    let (even, odd, scans, ()) = futures::join!(writer(0), writer(1), reader, repartitions);
    assert!(even > 10 && odd > 10 && scans > 2, "{even} {odd} {scans}");
    check(&engine, &kv, &promises).await;
    let engine = restart(engine, dir.path(), &kv, None).await;
    check(&engine, &kv, &promises).await;
    engine.close().await.unwrap();
}
