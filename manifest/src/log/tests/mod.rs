//! Tests of manifests on a store that fails on request.

mod abandon;
mod history;
mod reopen;

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;
use crate::action::{Change, Edit};
use crate::id::{ColumnId, Generation, RegionNumber, Sequence, TableId};
use crate::rule::Expr;
use crate::schema::{Column, Schema, SemanticType};
use crate::slot::Record;
use crate::testing::{Counting, Fault, FaultStore};
use crate::value::{DataType, TimeUnit};

fn ts() -> Column {
    Column {
        id: ColumnId(0),
        name: "ts".into(),
        data_type: DataType::Timestamp(TimeUnit::Millisecond),
        semantic: SemanticType::TimeIndex,
        nullable: false,
        default: None,
        comment: None,
    }
}

fn meta() -> Arc<RegionMeta> {
    Arc::new(RegionMeta {
        region: RegionId::new(TableId(1024), RegionNumber(0)),
        database: "public".into(),
        table: "t".into(),
        schema: Arc::new(Schema::new(vec![ts()], vec![]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}

const OPENER: Opener = Opener { node: NodeId(1), wal: None };

/// Nothing runs on its own, so that requests can be counted.
const MANUAL: Settings = Settings { checkpoint_records: 8, checkpoint_bytes: 1 << 20, history: Duration::ZERO, background: false };

fn context() -> (FaultStore, Context) {
    let store = FaultStore::default();
    let env = Env::from_source(Arc::new(Counting::default()));
    let context = Context { settings: MANUAL, ..Context::new(Arc::new(store.clone()), Root::default(), env) };
    (store, context)
}

fn bump(counter: u64) -> Vec<Action> {
    let sequence = Sequence::new(Generation::FIRST, counter);
    vec![Action::Edit(Edit { sequence, ..Edit::new(Generation::FIRST) })]
}

#[tokio::test]
async fn what_was_committed_is_what_the_next_opener_finds() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    for counter in 1..5 {
        assert!(matches!(manifest.commit(bump(counter)).await, Ok(Outcome::Committed(_))));
    }
    let before = manifest.state().clone();
    let reopened = Manifest::open(&context, meta().region, OPENER).await.unwrap();
    assert_eq!(reopened.state().flushed_sequence(), before.flushed_sequence());
    assert_eq!(reopened.epoch(), Epoch(2));
    assert_eq!(&load(&context, meta().region).await.unwrap(), reopened.state());
}

#[tokio::test]
async fn a_region_is_created_once() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    assert!(matches!(Manifest::create(&context, meta(), OPENER).await, Err(Error::Exists { .. })));
    let committed = manifest.commit(bump(1)).await;
    assert!(matches!(committed, Ok(Outcome::Committed(_))), "whoever creates it again does not fence its writer");
}

#[tokio::test]
async fn a_region_that_was_never_created_is_not_found() {
    let (_, context) = context();
    let error = Manifest::open(&context, meta().region, OPENER).await.unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }));
    assert!(error.to_string().contains("0000001024/0000000000/manifest"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_any_request() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    manifest.commit(bump(5)).await.unwrap();
    store.take_requests();
    let error = manifest.commit(bump(4)).await.unwrap_err();
    assert!(matches!(error, Error::Rejected { source: crate::state::Violation::SequenceBackward { .. }, .. }));
    assert!(store.take_requests().is_empty());
    assert!(matches!(manifest.commit(bump(6)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn an_unknown_outcome_keeps_the_old_state_and_a_reopen_finds_the_truth() {
    for landed in [true, false] {
        let (store, context) = context();
        let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
        let first = if landed { Fault::LostResponse } else { Fault::NotDone };
        let state = manifest.state().clone();
        if landed {
            store.plan([first]);
            assert!(matches!(manifest.commit(bump(1)).await, Ok(Outcome::Committed(_))));
        } else {
            store.plan([first; 16]);
            assert!(matches!(manifest.commit(bump(1)).await, Ok(Outcome::Unknown(_))));
            assert_eq!(manifest.state(), &state);
        }
        store.plan([]);
        let store_again = Context { store: Arc::new(store.clone()), ..context.clone() };
        // What is left of the plan belongs to the old writer.
        while matches!(Manifest::open(&store_again, meta().region, OPENER).await, Err(Error::Unknown { .. })) {}
        let found = load(&context, meta().region).await.unwrap();
        assert_eq!(found.flushed_sequence() > Sequence::ZERO, landed);
    }
}

#[tokio::test]
async fn a_tampered_body_with_a_sound_checksum_is_refused_by_the_set_hash() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    manifest.commit(bump(1)).await.unwrap();
    let slots = slot_store(&context, meta().region);
    let slot = Slot::new(Epoch(1), 1);
    let mut record = slots.read(slot).await.unwrap().unwrap();
    let text = String::from_utf8(record.body.to_vec()).unwrap();
    record.body = Bytes::from(text.replace(&"0".repeat(32), &"1".repeat(32)));
    store.put(&slots.path(slot), record.encode().into()).await.unwrap();
    let error = load(&context, meta().region).await.unwrap_err();
    assert!(matches!(&error, Error::SetHash { path, .. } if path.ends_with(&format!("{slot}.json"))), "{error}");
}

#[tokio::test]
async fn a_seal_that_was_put_ahead_of_the_writer_does_not_vouch_for_the_state_before_it() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    let slots = slot_store(&context, meta().region);
    let seal = Action::Seal(action::Seal { by: Nonce(77), clean: false });
    let text = String::from_utf8(Body::new(7, manifest.state().set_hash(), vec![seal]).encode().to_vec()).unwrap();
    let body = Bytes::from(text.replace(&"0".repeat(32), &"1".repeat(32)));
    let slot = Slot::new(Epoch(1), 2);
    let ahead = Record { kind: Kind::Seal, commit_id: Nonce(78), prev: None, writer: Nonce(77), slot, body };
    store.put(&slots.path(slot), ahead.encode().into()).await.unwrap();
    assert!(matches!(manifest.commit(bump(1)).await, Ok(Outcome::Committed(_))));
    assert!(matches!(manifest.commit(bump(2)).await, Ok(Outcome::Conflict { by: Nonce(77), .. })));
    assert!(load(&context, meta().region).await.unwrap().is_sealed());
    let reopened = Manifest::open(&context, meta().region, OPENER).await.unwrap();
    assert_eq!(reopened.state().flushed_sequence(), Sequence::new(Generation::FIRST, 1).unwrap());
}

#[tokio::test]
async fn an_open_is_a_list_the_reads_a_seal_a_list_and_a_put() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    manifest.commit(bump(1)).await.unwrap();
    store.take_requests();
    Manifest::open(&context, meta().region, OPENER).await.unwrap();
    assert_eq!(store.take_requests(), ["list", "get", "get", "put", "list", "put"]);
}

#[tokio::test]
async fn a_follower_sees_every_commit_and_take_over_with_one_get_each() {
    let (store, context) = context();
    let mut first = Manifest::create(&context, meta(), OPENER).await.unwrap();
    let mut follower = Follower::open(&context, meta().region).await.unwrap();
    assert_eq!(follower.state(), first.state());
    first.commit(bump(1)).await.unwrap();
    let mut second = Manifest::open(&context, meta().region, OPENER).await.unwrap();
    second.commit(bump(2)).await.unwrap();
    store.take_requests();
    for _ in 0..4 {
        assert!(follower.poll().await.unwrap());
    }
    assert!(!follower.poll().await.unwrap());
    assert_eq!(store.take_requests(), ["get"; 5]);
    assert_eq!(follower.state(), second.state());
}

#[tokio::test]
async fn a_follower_of_a_region_that_was_never_created_is_refused() {
    let (_, context) = context();
    assert!(matches!(Follower::open(&context, meta().region).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn schema_changes_are_replayed() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    let renamed = Arc::new(RegionMeta { table: "renamed".into(), ..RegionMeta::clone(&meta()) });
    manifest.commit(vec![Action::Change(Change { meta: renamed })]).await.unwrap();
    assert_eq!(load(&context, meta().region).await.unwrap().meta().unwrap().table, "renamed");
}
