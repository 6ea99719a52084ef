//! Interleavings of writers, openers and their background work that matter, step by step.

use futures::FutureExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;

use super::*;
use crate::action::Edit;
use crate::id::Generation;
use crate::testing::sample::{OPENER, REGION, file, meta};
use crate::testing::{Counting, Fault, FaultStore};

fn context() -> (FaultStore, Context) {
    let store = FaultStore::default();
    let env = Env::from_source(Arc::new(Counting::default()));
    let settings = Settings { background: false, history: Duration::ZERO, ..Settings::default() };
    let context = Context { settings, ..Context::new(Arc::new(store.clone()), Root::default(), env) };
    (store, context)
}

async fn add(manifest: &mut Manifest, numbers: std::ops::Range<u64>) {
    let epoch = manifest.epoch().0;
    for number in numbers {
        let file = file(epoch, number);
        let edit = Edit { sequence: Some(file.meta.sequences.1), add: vec![file], ..Edit::new(Generation::FIRST) };
        assert!(matches!(manifest.commit(vec![Action::Edit(edit)]).await, Ok(Outcome::Committed(_))));
    }
}

fn root_of(context: &Context, checkpoint: CheckpointRef) -> Path {
    context.root.manifest(REGION).checkpoint_path(checkpoint.version)
}

/// What must hold whatever happened: the log can be read, and a newcomer can take it over and go on.
async fn check(context: &Context, newest: &RegionState) {
    assert_eq!(&load(context, REGION).await.unwrap(), newest);
    let mut next = Manifest::open(context, REGION, OPENER).await.unwrap();
    assert_eq!(next.state().files(), newest.files());
    next.checkpoint().await.unwrap();
    assert_eq!(&load(context, REGION).await.unwrap(), next.state());
}

/// Two more checkpoints are logged, so that retention goes as far as it may.
async fn go_on(manifest: &mut Manifest, from: u64) {
    for round in 0..3 {
        add(manifest, from + round * 2..from + round * 2 + 2).await;
        manifest.checkpoint().await.unwrap();
    }
    add(manifest, from + 6..from + 7).await;
    manifest.retain().await.unwrap();
}

/// A writes a checkpoint whose root is late; B sweeps its segments, but its deletes are late too; A's root arrives, C
/// opens from it, and only then B's deletes arrive. What C builds on must not be what B deleted.
#[tokio::test]
async fn a_checkpoint_that_nobody_logged_is_not_built_upon() {
    let (store, context) = context();
    let mut first = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    go_on(&mut first, 1).await;
    add(&mut first, 10..19).await;
    let late = first.checkpoint().await.unwrap();
    let bytes = store.get(&root_of(&context, late)).await.unwrap().bytes().await.unwrap();
    store.delete(&root_of(&context, late)).await.unwrap();

    let mut second = Manifest::open(&context, REGION, OPENER).await.unwrap();
    store.delay_deletes(true);
    second.retain().await.unwrap();
    store.delay_deletes(false);

    store.put(&root_of(&context, late), bytes.into()).await.unwrap();
    let mut third = Manifest::open(&context, REGION, OPENER).await.unwrap();
    assert!(store.land_deletes() > 0, "the second writer sweeps what the first one wrote");
    go_on(&mut third, 100).await;
    check(&context, third.state()).await;
}

/// The answer to A's root is lost, so that A does not know of that checkpoint; B loads it and pauses; A's retention
/// passes it; B catches up. What B builds on must not be what A deleted.
#[tokio::test]
async fn a_checkpoint_that_retention_has_passed_is_not_built_upon() {
    let (store, context) = context();
    let mut first = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    add(&mut first, 1..10).await;
    // Three segments and the root, whose answer is lost.
    store.plan([Fault::None, Fault::None, Fault::None, Fault::LostResponse]);
    first.checkpoint().await.unwrap_err();
    add(&mut first, 10..20).await;

    let mut opening = Box::pin(Manifest::open(&context, REGION, OPENER));
    let paused = store.pause_next_put();
    assert!((&mut opening).now_or_never().is_none(), "the opener has read everything and is about to seal");
    for round in 0..2 {
        first.checkpoint().await.unwrap();
        add(&mut first, 20 + round..21 + round).await;
    }
    first.retain().await.unwrap();
    drop(paused);
    let mut second = opening.await.unwrap();
    go_on(&mut second, 100).await;
    check(&context, second.state()).await;
}

#[tokio::test]
async fn a_seal_is_no_commit() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    let seal = Action::Seal(action::Seal { by: Nonce(1), clean: false });
    assert!(matches!(manifest.commit(vec![seal]).await, Err(Error::Rejected { .. })));
    add(&mut manifest, 1..2).await;
    check(&context, &manifest.state().clone()).await;
}

/// What is behind a checkpoint that is damaged is all that there is.
#[tokio::test]
async fn retention_deletes_nothing_behind_a_checkpoint_that_cannot_be_read() {
    for damage in ["root", "segment"] {
        let (store, context) = context();
        let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
        for round in 0..3 {
            add(&mut manifest, round * 4 + 1..round * 4 + 4).await;
            manifest.checkpoint().await.unwrap();
        }
        add(&mut manifest, 20..21).await;
        let needed = manifest.state().checkpoints().to_vec();
        assert_eq!(needed.len(), 2);
        for checkpoint in &needed {
            let (root, _) = crate::checkpoint::read_root(&context, REGION, checkpoint.version).await.unwrap();
            let last = context.root.segment(REGION, root.segments.last().unwrap().segment.file);
            store.delete(&if damage == "root" { root_of(&context, *checkpoint) } else { last }).await.unwrap();
        }
        manifest.retain().await.unwrap_err();
        check(&context, manifest.state()).await;
        let mut next = Manifest::open(&context, REGION, OPENER).await.unwrap();
        go_on(&mut next, 40).await;
        check(&context, next.state()).await;
    }
}

/// The protocol takes it that a create is all or nothing, as it is on object stores and, by a link to a finished file,
/// on a local file system. Where it was not, the half of a record is no commit, its writer is fenced, and whoever
/// comes next says which object is damaged; nothing is sealed or deleted.
#[tokio::test]
async fn half_a_record_is_no_commit_and_is_named_by_whoever_meets_it() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    add(&mut manifest, 1..5).await;
    let path = context.root.manifest(REGION).path(manifest.state().version().unwrap().next());
    store.put(&path, bytes::Bytes::from_static(b"{\"format\":1,\"min_re").into()).await.unwrap();
    let edit = || vec![Action::Edit(Edit::new(Generation::FIRST))];
    assert!(matches!(manifest.commit(edit()).await, Err(Error::Record { path: named, .. }) if named == path.to_string()));
    assert!(matches!(manifest.commit(edit()).await, Err(Error::Fenced { .. })));
    store.take_requests();
    let error = Manifest::open(&context, REGION, OPENER).await.unwrap_err();
    assert!(matches!(error, Error::Record { path: named, .. } if named == path.to_string()));
    assert!(!store.take_requests().contains(&"put"));
}
