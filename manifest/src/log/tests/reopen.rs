//! Finding out what became of an own commit takes a region from nobody.

use super::*;
use crate::wal::WalKind;
/// A writer whose commit was not answered, and the store, which answers again.
async fn in_doubt() -> (FaultStore, Context, Manifest) {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    store.plan([Fault::NotDone; 16]);
    assert!(matches!(manifest.commit(bump(1)).await, Ok(Outcome::Unknown(_))));
    store.heal();
    (store, context, manifest)
}

#[tokio::test]
async fn a_writer_in_doubt_goes_on_in_its_next_epoch() {
    let (_, _, mut manifest) = in_doubt().await;
    manifest.reopen(OPENER).await.unwrap();
    assert_eq!(manifest.epoch(), Epoch(2));
    assert!(matches!(manifest.commit(bump(2)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_writer_in_doubt_leaves_a_region_that_another_has_taken_over_to_it() {
    let (store, context, mut manifest) = in_doubt().await;
    let mut successor = Manifest::open(&context, meta().region, OPENER).await.unwrap();
    store.take_requests();
    for _ in 0..2 {
        let error = manifest.reopen(OPENER).await.unwrap_err();
        assert!(matches!(&error, Error::Fenced { .. }), "{error}");
    }
    let wrote = store.take_requests().contains(&"put");
    assert!(!wrote, "it asks, and writes nothing");
    assert!(matches!(successor.commit(bump(2)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_writer_in_doubt_whose_epoch_another_ends_yields_to_it() {
    let (store, context, mut manifest) = in_doubt().await;
    // A successor that has sealed the epoch, and has not begun its own yet.
    let slots = slot_store(&context, meta().region);
    let seal = Action::Seal(action::Seal { by: Nonce(77), clean: false });
    let body = Body::new(7, manifest.state().set_hash(), vec![seal]).encode();
    let open = slots.read(Slot::new(Epoch(1), 0)).await.unwrap().unwrap();
    let slot = Slot::new(Epoch(1), 1);
    let record = Record { kind: Kind::Seal, commit_id: Nonce(78), prev: Some(open.commit_id), writer: Nonce(77), slot, body };
    store.put(&slots.path(slot), record.encode().into()).await.unwrap();
    assert!(matches!(manifest.reopen(OPENER).await, Err(Error::Fenced { .. })));
    let mut successor = Manifest::open(&context, meta().region, OPENER).await.unwrap();
    assert!(matches!(successor.commit(bump(2)).await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn a_reopening_that_failed_at_any_record_is_not_taken_for_another_writer() {
    let mut failed = 0;
    for at in 0..4 {
        let (store, _, mut manifest) = in_doubt().await;
        store.plan(std::iter::repeat_n(Fault::None, at).chain(std::iter::repeat_n(Fault::NotDone, 16)));
        let first = manifest.reopen(OPENER).await;
        store.heal();
        if first.is_err() {
            failed += 1;
            manifest.reopen(OPENER).await.unwrap_or_else(|error| panic!("from record {at} on, {first:?}, then {error}"));
        }
        assert!(matches!(manifest.commit(bump(2)).await, Ok(Outcome::Committed(_))), "from record {at} on");
    }
    assert_eq!(failed, 2, "the seal and the open");
}

/// A refused opener changes nothing: a seal of its would fence the one that it was refused for.
#[tokio::test]
async fn an_opener_whose_log_was_opened_again_since_leaves_no_trace() {
    let (store, context) = context();
    let log = WalId { kind: WalKind::Local, node: NodeId(1), log: Nonce(5) };
    let [slow, successor] = [1, 2].map(|epoch| Opener { node: NodeId(1), wal: Some((log, Epoch(epoch))) });
    Manifest::create(&context, meta(), slow).await.unwrap();
    let mut successor = Manifest::open(&context, meta().region, successor).await.unwrap();
    store.take_requests();
    let error = Manifest::open(&context, meta().region, slow).await.unwrap_err();
    assert!(matches!(&error, Error::Fenced { .. }), "{error}");
    assert!(!store.take_requests().contains(&"put"));
    assert!(matches!(successor.commit(bump(1)).await, Ok(Outcome::Committed(_))));
}
