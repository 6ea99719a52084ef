//! The probe against stores that keep their promises, and stores that do not.

mod liar;

use std::sync::Arc;

use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::*;
use crate::env::Env;
use crate::paths::Root;
use crate::testing::{Counting, FaultStore};
use liar::{Liar, Manner};

const SMALL: Settings = Settings { races: 5, writers: 4, steps: 4, listed: 10 };

fn context(store: Arc<dyn ObjectStore>) -> Context {
    Context::new(store, Root::new(Path::from("c1")), Env::from_source(Arc::new(Counting::default())))
}

async fn objects(store: &dyn ObjectStore) -> Vec<Path> {
    let all: Vec<ObjectMeta> = store.list(None).try_collect().await.unwrap();
    all.into_iter().map(|meta| meta.location).collect()
}

/// Probes a store of this manner, which must be left empty.
async fn probe(manner: Manner) -> Result<Report, ProbeError> {
    let store = Liar::new(manner);
    let probed = run(&context(Arc::new(store.clone())), SMALL).await;
    assert_eq!(objects(&*store.inner).await, [], "{manner:?}");
    probed
}

#[tokio::test]
async fn a_sound_store_passes_and_the_report_counts_what_was_tested() {
    let report = run(&context(Arc::new(InMemory::new())), SMALL).await.unwrap();
    assert_eq!((report.races, report.races_unclear, report.writers), (5, 0, 4));
    assert_eq!(report.answers, Answers { created: 5, exists: 15, unclear: 0 });
    assert_eq!((report.reads, report.lists_after_write, report.lists_after_delete, report.listed), (14, 10, 5, 10));
    assert!(report.list_ordered && report.offset_exact && report.left_behind == 0);
    assert!(report.folder == "c1/probe" && report.to_string().contains("5 races of 4"), "{report}");
}

#[tokio::test]
async fn a_local_file_system_with_fsync_passes() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap().with_fsync(true);
    let report = run(&context(Arc::new(store)), Settings { listed: 1100, ..SMALL }).await.unwrap();
    assert_eq!((report.races, report.listed, report.left_behind), (5, 1100, 0));
}

#[tokio::test]
async fn requests_are_bounded() {
    for settings in [SMALL, Settings::CHEAP, Settings { races: 0, writers: 0, steps: 0, listed: 0 }] {
        let store = FaultStore::default();
        let report = run(&context(Arc::new(store.clone())), settings).await.unwrap();
        let seen = store.take_requests().len() as u64;
        assert!(seen <= report.requests && report.requests <= settings.requests_max(), "{seen}, {report:?}, {settings:?}");
    }
    assert!(Settings::CHEAP.requests_max() < 200);
    let absurd = Settings { races: u32::MAX, writers: u32::MAX, steps: u32::MAX, listed: u32::MAX };
    assert!(absurd.requests_max() < 100_000, "{}", absurd.requests_max());
}

#[tokio::test]
async fn objects_of_others_are_left_alone() {
    let store = Arc::new(InMemory::new());
    let others = [Path::from("c1/probe/other-race-000000"), Path::from("c1/tessera.json"), Path::from("c1/0000000001/x")];
    for path in &others {
        store.put(path, "x".into()).await.unwrap();
    }
    run(&context(Arc::clone(&store) as Arc<dyn ObjectStore>), SMALL).await.unwrap();
    let mut left = objects(&*store).await;
    left.sort();
    let mut expected = others.to_vec();
    expected.sort();
    assert_eq!(left, expected);
}

#[tokio::test]
async fn a_store_without_exclusive_creates_is_refused_with_numbers() {
    for (manner, numbers) in [
        (Manner::IgnoresConditions, "in 5 of 5 tests (up to 5 of 5 creates of one object succeeded, 4 of them"),
        (Manner::LooksThenWrites, "in 5 of 5 tests (up to 4 of 5 creates"),
        (Manner::KeepsTheLast, "in 5 of 5 tests (5 times an object was replaced"),
        (Manner::HasNoCreate, "in 1 of 1 tests"),
    ] {
        let error = probe(manner).await.unwrap_err();
        assert!(matches!(error, ProbeError::Refused { capability: Capability::ExclusiveCreate, .. }), "{manner:?}: {error}");
        let text = error.to_string();
        assert!(text.contains(numbers) && text.contains("If-None-Match"), "{manner:?}: {text}");
    }
}

#[tokio::test]
async fn a_store_that_is_not_consistent_is_refused() {
    for (manner, capability) in [
        (Manner::RemembersMisses, Capability::ReadAfterWrite),
        (Manner::ListsLate, Capability::ListAfterWrite),
        (Manner::SkipsOne, Capability::ListAfterWrite),
        (Manner::ListsGhosts, Capability::ReadAfterDelete),
    ] {
        match probe(manner).await {
            Err(ProbeError::Refused { capability: found, .. }) => assert_eq!(found, capability, "{manner:?}"),
            other => panic!("{manner:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn odd_answers_are_not_held_against_a_store() {
    assert_eq!(probe(Manner::ConflictsOnce).await.unwrap().races, 5);
    assert!(!probe(Manner::IgnoresOffset).await.unwrap().offset_exact);
}

#[tokio::test]
async fn a_store_whose_answers_are_lost_is_judged_by_what_is_read() {
    let report = probe(Manner::LosesAnswers).await.unwrap();
    assert_eq!((report.races, report.answers), (5, Answers { created: 0, exists: 15, unclear: 5 }));
}

#[tokio::test]
async fn a_store_that_only_has_conflicts_cannot_be_judged() {
    let error = probe(Manner::OnlyConflicts).await.unwrap_err();
    assert!(matches!(error, ProbeError::Unclear { unclear: 5, races: 5, .. }), "{error:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_not_refused_but_unavailable() {
    for manner in [Manner::Fails, Manner::Forbids] {
        let error = probe(manner).await.unwrap_err();
        assert!(matches!(error, ProbeError::Failed { verb: "create", .. }), "{error:?}");
        assert_eq!(error.class(), crate::error::ErrorClass::Unavailable);
    }
}
