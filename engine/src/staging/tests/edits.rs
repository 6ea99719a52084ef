//! Edits of a region's file set.

use tempfile::TempDir;
use tessera_manifest::error::ErrorClass;

use super::flow::start;
use super::table::*;
use crate::compaction::Strategy;
use crate::error::Error;
use crate::region::RegionEdit;

#[tokio::test]
async fn an_edit_is_applied_once_and_taken_back_once() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    let region = region(&engine, 0).await;
    promise(&engine, &kv, &promises, (1, 1), Some(1)).await;
    region.flush().await.unwrap();
    let one = scan(&engine, &kv).await;
    promise(&engine, &kv, &promises, (2, 500_000_000), Some(2)).await;
    region.flush().await.unwrap();
    let both = scan(&engine, &kv).await;
    let state = region.state();
    let newest = state.files().values().map(|listed| listed.file).max_by_key(|file| file.meta.sequences.1).unwrap();
    let edit = RegionEdit {
        generation: state.meta().unwrap().generation,
        before: state.set_hash(),
        add: Vec::new(),
        remove: vec![newest],
        restore: Vec::new(),
    };
    assert!(region.apply_edit(&edit).await.unwrap().applied);
    assert_eq!(scan(&engine, &kv).await, one);
    assert!(!region.apply_edit(&edit).await.unwrap().applied, "again is nothing");
    assert_eq!(region.state().set_hash(), edit.after());
    assert!(region.roll_back_edit(&edit).await.unwrap().applied);
    assert!(!region.roll_back_edit(&edit).await.unwrap().applied);
    assert_eq!(scan(&engine, &kv).await, both);
    promise(&engine, &kv, &promises, (3, 3), Some(3)).await;
    region.flush().await.unwrap();
    let error = region.apply_edit(&edit).await.unwrap_err();
    assert!(matches!(error, Error::EditConflict { .. }), "{error}");
    assert_eq!(error.class(), ErrorClass::Refresh);
    drop(region);
    engine.close().await.unwrap();
}

#[tokio::test]
async fn a_region_goes_back_to_a_version_and_forward_again() {
    let (dir, kv, promises) = (TempDir::new().unwrap(), Kv::default(), Promises::default());
    let engine = start(dir.path(), &kv).await;
    create(&engine, &kv, &[""], "last_row").await;
    let region = region(&engine, 0).await;
    for ts in 1..4 {
        promise(&engine, &kv, &promises, (1, ts), Some(ts)).await;
        region.flush().await.unwrap();
    }
    let (before, version) = (region.state().set_hash(), region.state().version().unwrap());
    region.compact(Strategy::StrictWindow).await.unwrap();
    let compacted = region.state().set_hash();
    let back = region.plan_rollback(version).await.unwrap();
    region.apply_edit(&back).await.unwrap();
    assert_eq!((region.state().set_hash(), back.after()), (before, before));
    promises.check(&once(&scan(&engine, &kv).await));
    region.roll_back_edit(&back).await.unwrap();
    assert_eq!(region.state().set_hash(), compacted);
    promises.check(&once(&scan(&engine, &kv).await));
    let plan = kv.plan(&[0], &[(Some(0), "k < 5"), (None, "k >= 5")], "last_row");
    plan.fence(&engine).await.unwrap();
    assert!(matches!(region.apply_edit(&back).await, Err(Error::Staged { .. })));
    assert!(matches!(region.plan_rollback(version).await, Err(Error::Rollback { .. })));
    drop(region);
    engine.close().await.unwrap();
}
