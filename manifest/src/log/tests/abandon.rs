//! Tests of a region whose node is gone for good.

use super::*;
use crate::wal::{WalKind, WalPosition, WalRef};

const fn log(node: u64, log: u128) -> WalId {
    WalId { kind: WalKind::Local, node: NodeId(node), log: Nonce(log) }
}

const LOST: WalId = log(1, 7);
const NEW: WalId = log(2, 8);
const OLD_NODE: Opener = Opener { node: NodeId(1), wal: Some((LOST, Epoch(4))) };
const NEW_NODE: Opener = Opener { node: NodeId(2), wal: Some((NEW, Epoch(1))) };

fn region() -> RegionId {
    meta().region
}

fn reference(id: WalId, epoch: u32) -> WalRef {
    WalRef { id, epochs: vec![Epoch(epoch)], flushed: WalPosition::START }
}

#[tokio::test]
async fn a_region_whose_log_is_gone_opens_by_force_only_and_then_as_ever() {
    let (store, context) = context();
    let mut old = Manifest::create(&context, meta(), OLD_NODE).await.unwrap();
    old.commit(bump(1)).await.unwrap();
    store.take_requests();
    let refused = Manifest::open(&context, region(), NEW_NODE).await.unwrap_err();
    assert!(matches!(refused, Error::WalUnreachable { wal: LOST, own: NEW, .. }), "{refused}");
    let command = format!("tessera region abandon-wal STORE 1024/0 --wal {}", LOST.log);
    assert!(refused.to_string().contains(&command), "{refused}");
    assert!(!store.take_requests().contains(&"put"), "a refused opener changes nothing");

    let mut new = Manifest::open_abandoning(&context, region(), NEW_NODE, &[LOST]).await.unwrap();
    let record = new.state().abandoned().to_vec();
    assert_eq!(record.len(), 1);
    assert_eq!((record[0].by, &record[0].wal), (Slot::new(Epoch(2), 0), &reference(LOST, 4)));
    assert_eq!(new.state().wals(), [reference(NEW, 1)]);
    assert!(matches!(old.commit(bump(2)).await, Ok(Outcome::Conflict { .. })), "the old node is fenced");
    assert!(matches!(old.commit(bump(2)).await, Err(Error::Fenced { .. })));

    new.commit(bump(3)).await.unwrap();
    new.checkpoint().await.unwrap();
    let again = Manifest::open(&context, region(), NEW_NODE).await.unwrap();
    assert_eq!(again.state().abandoned(), record, "also from a checkpoint");
    assert_eq!(&load(&context, region()).await.unwrap(), again.state());
}

#[tokio::test]
async fn the_old_node_gets_in_again_with_a_new_epoch_of_its_log_only() {
    let (store, context) = context();
    Manifest::create(&context, meta(), OLD_NODE).await.unwrap();
    let new = Manifest::open_abandoning(&context, region(), OPENER, &[LOST]).await.unwrap();
    assert!(new.state().wals().is_empty(), "whoever comes next needs no log");
    store.take_requests();
    let refused = Manifest::open(&context, region(), OLD_NODE).await.unwrap_err();
    let at = Slot::new(Epoch(2), 0);
    assert!(matches!(refused, Error::WalAbandoned { wal: LOST, epoch: Epoch(4), by, .. } if by == at), "{refused}");
    assert!(!store.take_requests().contains(&"put"));
    let restarted = Opener { wal: Some((LOST, Epoch(5))), ..OLD_NODE };
    let back = Manifest::open(&context, region(), restarted).await.unwrap();
    assert_eq!(back.state().wals(), [reference(LOST, 5)], "its earlier epochs are set aside");
}

#[tokio::test]
async fn no_log_is_abandoned_but_those_that_were_named() {
    let (store, context) = context();
    Manifest::create(&context, meta(), OLD_NODE).await.unwrap();
    let third = Opener { node: NodeId(3), wal: Some((log(3, 9), Epoch(1))) };
    Manifest::open_abandoning(&context, region(), NEW_NODE, &[LOST]).await.unwrap();
    store.take_requests();
    for (opener, logs, part) in [
        (third, &[LOST][..], "no row of the region is only there"),
        (third, &[], "which this opener does not have"),
        (NEW_NODE, &[NEW], "the opener's own"),
    ] {
        let refused = Manifest::open_abandoning(&context, region(), opener, logs).await.unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert!(!store.take_requests().contains(&"put"));
    assert_eq!(Manifest::open_abandoning(&context, region(), third, &[NEW]).await.unwrap().state().abandoned().len(), 2);
}

#[tokio::test]
async fn a_region_that_ended_cleanly_has_nothing_to_give_up() {
    let (_, context) = context();
    let mut old = Manifest::create(&context, meta(), OLD_NODE).await.unwrap();
    old.seal().await.unwrap();
    let refused = Manifest::open_abandoning(&context, region(), NEW_NODE, &[LOST]).await.unwrap_err();
    assert!(matches!(refused, Error::CannotAbandon { wal: LOST, .. }), "{refused}");
    assert!(Manifest::open(&context, region(), NEW_NODE).await.unwrap().state().abandoned().is_empty());
}

#[tokio::test]
async fn records_and_checkpoints_say_version_two_only_where_a_log_was_abandoned() {
    let (store, context) = context();
    let mut old = Manifest::create(&context, meta(), OLD_NODE).await.unwrap();
    old.commit(bump(1)).await.unwrap();
    let mut new = Manifest::open_abandoning(&context, region(), NEW_NODE, &[LOST]).await.unwrap();
    new.commit(bump(2)).await.unwrap();
    let slots = slot_store(&context, region());
    for (epoch, seq, version) in [(1, 0, 1), (1, 1, 1), (1, 2, 1), (2, 0, 2), (2, 1, 1)] {
        let record = slots.read(Slot::new(Epoch(epoch), seq)).await.unwrap().unwrap();
        let begin = format!("{{\"format\":{version},\"min_reader\":{version},");
        assert!(record.body.starts_with(begin.as_bytes()), "{epoch}-{seq}");
        assert_eq!(version == 2, String::from_utf8_lossy(&record.body).contains("abandoned"));
    }
    let checkpoint = new.checkpoint().await.unwrap();
    let path = context.root.manifest(region()).checkpoint_path(checkpoint.version);
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert!(bytes.starts_with(b"{\"format\":2,\"min_reader\":2,\"kind\":\"checkpoint\""));
}
