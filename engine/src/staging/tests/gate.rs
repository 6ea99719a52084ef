//! The fence, and what a staged region admits.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tessera_manifest::error::ErrorClass;
use tessera_manifest::txn::{Decided, Verdict};

use super::flow::{restart, start};
use super::table::*;
use crate::compaction::Strategy;
use crate::error::Error;
use crate::request::Alteration;

const SPLIT: [(Option<u32>, &str); 2] = [(Some(0), "k < 5"), (None, "k >= 5")];

#[tokio::test]
async fn a_staged_region_refuses_what_would_change_its_files_and_says_that_it_passes() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
    let plan = kv.plan(&[0], &SPLIT, "last_row");
    plan.fence(&engine).await.unwrap();
    let staged = region(&engine, 0).await;
    let current = staged.meta();
    let changed = BTreeMap::from([("ttl".to_owned(), "1d".to_owned())]);
    let schema = current.schema.evolve(&[], &[]);
    let alteration = Alteration {
        database: current.database.clone(),
        table: "renamed".into(),
        schema: schema.map_or_else(|_| current.schema.clone(), std::sync::Arc::new),
        options: changed,
    };
    let truncate_ranges = staged.truncate_ranges(&[(0, 9)]).await.map(|_| ());
    for refused in [staged.truncate().await, staged.alter(&alteration).await, truncate_ranges, engine.drop_region(id(0)).await] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Staged { txn, .. } if txn == plan.txn), "{error}");
        assert_eq!(error.class(), ErrorClass::Retry);
    }
    assert_eq!(staged.expire(i64::MAX).await.unwrap(), 0);
    assert_eq!(staged.compact(Strategy::StrictWindow).await.unwrap().rounds, 0);
    let other = kv.plan(&[0], &SPLIT, "last_row");
    assert!(matches!(engine.stage(other.request(id(0))).await, Err(Error::Staged { .. })));
    assert!(plan.run(&engine, &kv, None).await.unwrap());
    staged.truncate().await.unwrap();
    engine.close().await.unwrap();
}

#[tokio::test]
async fn what_a_staged_region_tells_of_itself_is_so() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
    let plan = kv.plan(&[0], &SPLIT, "last_row");
    let staged = plan.fence(&engine).await.unwrap();
    assert_eq!(plan.fence(&engine).await.unwrap(), staged, "again is the same");
    let info = engine.staging(id(0)).await.unwrap().unwrap();
    assert_eq!((info.txn, info.base, info.generation, info.retires), (plan.txn, plan.base(id(0)), plan.commit, false));
    assert!(info.since_unix_ms.is_some() && !info.remapped);
    let decided = plan.decide(&engine, Some(&staged)).await;
    plan.admit(&kv);
    promise(&engine, &kv, &promises, (1, 2), Some(2)).await;
    assert_eq!(engine.staging(id(0)).await.unwrap().unwrap().staged_rows, 1);
    region(&engine, 0).await.flush().await.unwrap();
    assert_eq!(engine.staging(id(0)).await.unwrap().unwrap().staged_rows, 1);
    let engine = restart(engine, dir.path(), &kv, Some(&plan)).await;
    assert_eq!(engine.staging(id(0)).await.unwrap().unwrap().staged_rows, 1);
    plan.drain_and_remap(&engine, &staged).await.unwrap();
    let info = engine.staging(id(0)).await.unwrap().unwrap();
    assert!(info.drained && info.remapped);
    plan.publish(&kv).await;
    plan.resolve(&engine, &decided).await.unwrap();
    plan.resolve(&engine, &decided).await.unwrap();
    assert_eq!(engine.staging(id(0)).await.unwrap(), None);
    engine.close().await.unwrap();
}

#[tokio::test]
async fn steps_out_of_order_or_for_another_decision_are_refused() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
    let plan = kv.plan(&[0], &SPLIT, "last_row");
    assert!(matches!(engine.drain(id(0), plan.txn).await, Err(Error::NotStaged { .. })));
    let staged = plan.fence(&engine).await.unwrap();
    let decided = plan.decide(&engine, Some(&staged)).await;
    let resolve = |decided: Decided| {
        let (engine, plan) = (&engine, &plan);
        async move { engine.resolve(id(0), plan.txn, plan.base(id(0)), &decided).await }
    };
    engine.drain(id(0), plan.txn).await.unwrap();
    assert!(matches!(resolve(decided.clone()).await, Err(Error::StagedTooEarly { .. })), "no remap");
    let unnamed = Decided { verdict: Verdict::Commit { stages: Vec::new() }, ..decided.clone() };
    assert!(matches!(resolve(unnamed).await, Err(Error::StagedOtherwise { .. })));
    plan.admit(&kv);
    promise(&engine, &kv, &promises, (1, 2), Some(2)).await;
    let abort = Decided { verdict: Verdict::Abort, ..decided.clone() };
    assert!(matches!(resolve(abort).await, Err(Error::StagedOtherwise { .. })), "a row was acknowledged under the new rule");
    promise(&engine, &kv, &promises, (1, 3), Some(3)).await;
    assert!(plan.run(&engine, &kv, None).await.unwrap());
    promises.check(&once(&scan(&engine, &kv).await));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn whoever_meets_a_staged_region_does_what_was_decided() {
    for opener in [true, false] {
        let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
        let mut engine = start(dir.path(), &kv).await;
        create(&engine, &kv, &[""], "last_row").await;
        promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
        promise(&engine, &kv, &promises, (8, 1), Some(1)).await;
        let plan = kv.plan(&[0], &[(None, "k < 5"), (None, "k >= 5")], "last_row");
        let staged = plan.fence(&engine).await.unwrap();
        plan.decide(&engine, Some(&staged)).await;
        let old = kv.routes()[0].clone();
        plan.admit(&kv);
        plan.drain_and_remap(&engine, &staged).await.unwrap();
        // The coordinator dies here; what it had left to do may be done by anybody.
        kv.sets().publishable.insert(plan.txn);
        if opener {
            engine = restart(engine, dir.path(), &kv, Some(&plan)).await;
        } else {
            let stale = crate::request::WriteRequest {
                generation: old.1.generation,
                rule_version: old.1.rule.version(),
                batch: crate::merge::fixtures::batch(&schema(), crate::request::OpType::Put, &[row(1, 9, 9)]),
                op: crate::request::OpType::Put,
            };
            let error = region(&engine, 0).await.write(stale).await.unwrap_err();
            assert!(matches!(error, Error::Retired { .. }), "{error}");
        }
        promises.check(&once(&scan(&engine, &kv).await));
        assert_eq!(kv.sets().read.len(), 2);
        for number in [0, 1, 2] {
            assert_eq!(engine.staging(id(number)).await.unwrap(), None, "{number}");
        }
        engine.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_region_that_is_restarted_is_what_its_manifest_says() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
    let plan = kv.plan(&[0], &SPLIT, "last_row");
    let staged = plan.fence(&engine).await.unwrap();
    let decided = plan.decide(&engine, Some(&staged)).await;
    plan.admit(&kv);
    promise(&engine, &kv, &promises, (8, 2), Some(2)).await;
    for number in [0, 1] {
        engine.restart(id(number)).await.unwrap();
    }
    promise(&engine, &kv, &promises, (8, 3), Some(3)).await;
    plan.drain_and_remap(&engine, &staged).await.unwrap();
    plan.publish(&kv).await;
    for number in [0, 1] {
        engine.restart(id(number)).await.unwrap();
    }
    plan.resolve(&engine, &decided).await.unwrap();
    for number in [0, 1] {
        engine.restart(id(number)).await.unwrap();
    }
    promises.check(&once(&scan(&engine, &kv).await));
    engine.close().await.unwrap();
}
