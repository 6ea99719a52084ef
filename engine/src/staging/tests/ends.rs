//! Regions that retired, and new ones that are created twice: what others do to them meanwhile, and after a restart.

use tempfile::TempDir;
use tessera_manifest::error::ErrorClass;

use super::flow::{restart, start};
use super::table::*;
use crate::error::Error;

const SPLIT: [(Option<u32>, &str); 2] = [(Some(0), "k < 5"), (None, "k >= 5")];
const ALL_NEW: [(Option<u32>, &str); 2] = [(None, "k < 5"), (None, "k >= 5")];

#[tokio::test]
async fn entries_of_a_region_that_retired_do_not_keep_the_log_over_a_restart() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let mut engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
    promise(&engine, &kv, &promises, (8, 1), Some(1)).await;
    assert!(kv.plan(&[0], &ALL_NEW, "last_row").run(&engine, &kv, None).await.unwrap());
    // Only regions that have a route are opened.
    engine = restart(engine, dir.path(), &kv, None).await;
    engine.forget_dropped().await;
    assert!(!engine.wal().regions().iter().any(|(region, _)| *region == id(0)));
    promises.check(&once(&scan(&engine, &kv).await));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn entries_of_a_region_that_is_staged_and_has_no_route_yet_stay_in_the_log() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let mut engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (8, 1), Some(1)).await;
    let plan = kv.plan(&[0], &ALL_NEW, "last_row");
    let staged = plan.fence(&engine).await.unwrap();
    plan.decide(&engine, Some(&staged)).await;
    plan.admit(&kv);
    promise(&engine, &kv, &promises, (1, 2), Some(2)).await;
    engine.stop_background().await;
    drop(engine);
    engine = start(dir.path(), &kv).await;
    engine.forget_dropped().await;
    open(&engine, &kv, Some(&plan)).await;
    assert!(plan.run(&engine, &kv, None).await.unwrap());
    promises.check(&once(&scan(&engine, &kv).await));
    engine.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_region_that_is_created_twice_at_once_is_open_once_and_not_fenced_by_itself() {
    for _ in 0..20 {
        let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
        let engine = start(dir.path(), &kv).await;
        create(&engine, &kv, &[""], "last_row").await;
        promise(&engine, &kv, &promises, (8, 1), Some(1)).await;
        let plan = kv.plan(&[0], &SPLIT, "last_row");
        let new = meta(id(1), &parsed(""), plan.base(id(1)), &plan.options);
        let create = || {
            let (engine, new, request) = (engine.clone(), new.clone(), plan.request(id(1)));
            tessera_manifest::env::spawn(async move { engine.create_staged(new, request).await })
        };
        let (one, other) = (create(), create());
        let (one, other) = (one.await.unwrap().unwrap(), other.await.unwrap().unwrap());
        assert_eq!(one.version, other.version);
        assert!(plan.run(&engine, &kv, None).await.unwrap());
        promise(&engine, &kv, &promises, (8, 2), Some(2)).await;
        promises.check(&once(&scan(&engine, &kv).await));
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn whoever_truncates_a_region_that_retired_learns_that_its_routes_are_old() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (8, 1), Some(1)).await;
    let old = region(&engine, 0).await;
    assert!(kv.plan(&[0], &ALL_NEW, "last_row").run(&engine, &kv, None).await.unwrap());
    for refused in [old.truncate().await, old.truncate_ranges(&[(0, 9)]).await.map(|_| ())] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Retired { .. }), "{error}");
        assert_eq!(error.class(), ErrorClass::Refresh);
    }
    promises.check(&once(&scan(&engine, &kv).await));
    engine.close().await.unwrap();
}
