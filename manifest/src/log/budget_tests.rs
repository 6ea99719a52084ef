//! How many requests each thing costs.

use super::*;
use crate::action::Edit;
use crate::id::Generation;
use crate::testing::sample::{OPENER, REGION, file, meta};
use crate::testing::{Counting, FaultStore};

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

/// How many requests of each kind: LISTs, GETs, PUTs, streams of deletes.
fn kinds(requests: &[&'static str]) -> [usize; 4] {
    ["list", "get", "put", "delete"].map(|kind| requests.iter().filter(|request| **request == kind).count())
}

#[tokio::test]
async fn a_commit_is_one_put_with_any_number_of_files_and_checkpoints() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    for round in 0..3 {
        store.take_requests();
        add(&mut manifest, round * 20 + 1..round * 20 + 21).await;
        assert_eq!(store.take_requests(), ["put"; 20]);
        manifest.checkpoint().await.unwrap();
        manifest.retain().await.unwrap();
    }
    store.take_requests();
    let files = (100..200).map(|number| file(1, number)).collect();
    let edit = Edit { add: files, sequence: Some(file(1, 200).meta.sequences.1), ..Edit::new(Generation::FIRST) };
    assert!(matches!(manifest.commit(vec![Action::Edit(edit)]).await, Ok(Outcome::Committed(_))));
    assert_eq!(store.take_requests(), ["put"]);
}

#[tokio::test]
async fn an_idle_region_makes_no_request() {
    let (store, mut context) = context();
    context.settings.background = true;
    context.settings.checkpoint_records = 4;
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    add(&mut manifest, 1..30).await;
    manifest.settle().await;
    store.take_requests();
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    manifest.settle().await;
    let hold = manifest.hold();
    assert!(manifest.checkpoint_lag().0 < 30 && manifest.is_good());
    drop((hold, manifest));
    assert!(store.take_requests().is_empty());
}

#[tokio::test]
async fn an_open_with_a_checkpoint_reads_the_root_its_segments_and_the_tail() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    add(&mut manifest, 1..13).await;
    manifest.checkpoint().await.unwrap();
    add(&mut manifest, 13..16).await;
    store.take_requests();
    Manifest::open(&context, REGION, OPENER).await.unwrap();
    let requests = store.take_requests();
    // Root, three segments, three records.
    let reads = ["get"; 1 + 3 + 3];
    assert_eq!(requests, [&["list"][..], &reads, &["put", "list", "put"]].concat());
}

#[tokio::test]
async fn a_poll_is_one_get_and_a_list_in_thirty_two_when_nothing_comes() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    let mut follower = Follower::open(&context, REGION).await.unwrap();
    store.take_requests();
    for number in 1..9 {
        add(&mut manifest, number..number + 1).await;
        assert!(follower.poll().await.unwrap());
        assert_eq!(store.take_requests(), ["put", "get"]);
    }
    let mut lists = 0;
    for _ in 0..limits::FOLLOWER_POLLS_PER_LIST {
        assert!(!follower.poll().await.unwrap());
        let [list, get, put, delete] = kinds(&store.take_requests());
        assert!((put, delete) == (0, 0) && get <= 2);
        lists += list;
    }
    assert_eq!(lists, 1);
}

#[tokio::test]
async fn retention_reads_the_checkpoints_and_no_record_that_it_knows() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    for round in 0..3 {
        add(&mut manifest, round * 8 + 1..round * 8 + 9).await;
        manifest.checkpoint().await.unwrap();
    }
    add(&mut manifest, 30..31).await;
    store.take_requests();
    let retained = manifest.retain().await.unwrap();
    assert!(retained.records > 10 && retained.checkpoints == 1, "{retained:?}");
    let [lists, gets, puts, deletes] = kinds(&store.take_requests());
    assert_eq!((lists, puts), (2, 0));
    // The two that stay are read twice, once to see that they are there; the one that goes once.
    assert!(gets <= 5, "{gets}");
    assert!(deletes <= 3, "records, roots, segments: {deletes}");
    // With nothing to do, it costs the LISTs and the roots.
    manifest.retain().await.unwrap();
    assert!(kinds(&store.take_requests())[1] <= 4);
}

#[tokio::test]
async fn a_checkpoint_of_one_change_is_two_puts() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    add(&mut manifest, 1..39).await;
    manifest.checkpoint().await.unwrap();
    add(&mut manifest, 39..40).await;
    store.take_requests();
    manifest.checkpoint().await.unwrap();
    assert_eq!(store.take_requests(), ["put", "put"]);
    manifest.checkpoint().await.unwrap();
    assert!(store.take_requests().is_empty(), "there is one already");
}
