//! Followers.

use super::*;
use crate::limits::FOLLOWER_POLLS_PER_LIST;

async fn follower(log: &Log) -> Follower {
    Follower::after(log.store.clone(), &load(&log.store, &mut NoCheckpoints).await.unwrap())
}

async fn drain(follower: &mut Follower) -> Vec<Slot> {
    let mut slots = Vec::new();
    while let Some(record) = follower.poll().await.unwrap() {
        slots.push(record.slot);
    }
    slots
}

#[tokio::test]
async fn a_poll_is_one_get_whether_there_is_something_or_not() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    let mut follower = follower(&log).await;
    log.faults.take_requests();
    for _ in 1..FOLLOWER_POLLS_PER_LIST {
        assert_eq!(follower.poll().await.unwrap(), None);
        assert_eq!(log.faults.take_requests(), ["get"]);
    }
    commit(&mut writer, 1, "a").await.unwrap();
    log.faults.take_requests();
    assert_eq!(follower.poll().await.unwrap().map(|record| record.commit_id), Some(Nonce(1)));
    assert_eq!(log.faults.take_requests(), ["get"]);
}

#[tokio::test]
async fn one_poll_in_many_is_backed_by_a_list() {
    let log = Log::new();
    log.open(1).await.unwrap();
    let mut follower = follower(&log).await;
    log.faults.take_requests();
    for _ in 0..3 * FOLLOWER_POLLS_PER_LIST {
        assert_eq!(follower.poll().await.unwrap(), None);
    }
    let lists = log.faults.take_requests().into_iter().filter(|kind| *kind == "list").count();
    assert_eq!(lists, 3);
}

#[tokio::test]
async fn a_follower_moves_on_from_epoch_to_epoch() {
    let log = Log::new();
    let mut follower = Follower::after(log.store.clone(), &load(&log.store, &mut NoCheckpoints).await.unwrap());
    assert_eq!(drain(&mut follower).await, []);
    commit(&mut log.open(1).await.unwrap().writer, 1, "a").await.unwrap();
    commit(&mut log.open(2).await.unwrap().writer, 2, "b").await.unwrap();
    let slot = |epoch, seq| Slot::new(Epoch(epoch), seq);
    assert_eq!(drain(&mut follower).await, [slot(1, 0), slot(1, 1), slot(1, 2), slot(2, 0), slot(2, 1)]);
    assert_eq!(follower.next_slot(), slot(2, 2));
}

#[tokio::test]
async fn a_follower_waits_at_a_seal_without_an_open_and_at_a_gap_below_a_seal() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    let mut follower = follower(&log).await;
    log.stray_seal(3, None).await;
    assert_eq!(follower.confirm().await.unwrap(), None);
    commit(&mut writer, 1, "a").await.unwrap();
    commit(&mut writer, 2, "b").await.unwrap();
    assert_eq!(drain(&mut follower).await.len(), 3, "two records and the seal");
    assert_eq!(follower.confirm().await.unwrap(), None);
    log.open(2).await.unwrap();
    assert_eq!(drain(&mut follower).await, [Slot::new(Epoch(2), 0)]);
}

#[tokio::test]
async fn a_follower_that_retention_passed_is_told_to_open_again() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    let follower = follower(&log).await;
    for id in 1..6 {
        commit(&mut writer, id, "x").await.unwrap();
    }
    log.checkpoint(Slot::new(Epoch(1), 4)).await;
    log.delete(1..4).await;
    let error = follower.clone().confirm().await.unwrap_err();
    assert!(matches!(&error, Error::MissingRecord { path } if path.ends_with("00000000000000000001.json")), "{error}");
    assert_eq!(error.class(), crate::error::ErrorClass::Retry);
    let mut polling = follower;
    for _ in 1..FOLLOWER_POLLS_PER_LIST {
        assert_eq!(polling.poll().await.unwrap(), None);
    }
    assert!(matches!(polling.poll().await, Err(Error::MissingRecord { .. })));
}

#[tokio::test]
async fn a_follower_is_passed_also_when_the_whole_epoch_is_over() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    let mut follower = follower(&log).await;
    commit(&mut writer, 1, "x").await.unwrap();
    commit(&mut log.open(2).await.unwrap().writer, 2, "y").await.unwrap();
    log.delete([1]).await;
    assert!(matches!(follower.confirm().await, Err(Error::MissingRecord { .. })));
}

#[tokio::test]
async fn a_follower_does_not_go_beyond_a_void_seal() {
    for sealed_for_real in [false, true] {
        let log = Log::new();
        let mut writer = log.open(1).await.unwrap().writer;
        let mut follower = follower(&log).await;
        let open = load(&log.store, &mut NoCheckpoints).await.unwrap().history[0].commit_id;
        for id in 1..6 {
            commit(&mut writer, id, "x").await.unwrap();
        }
        if sealed_for_real {
            log.open(2).await.unwrap();
        }
        log.checkpoint(Slot::new(Epoch(1), 4)).await;
        log.delete(1..4).await;
        log.stray_seal(1, Some(open)).await;
        assert_eq!(follower.poll().await.unwrap().map(|record| record.kind), Some(Kind::Seal));
        assert!(matches!(follower.poll().await, Err(Error::MissingRecord { .. })), "{sealed_for_real}");
    }
}

#[tokio::test]
async fn a_poll_that_is_dropped_has_read_nothing() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    let mut follower = follower(&log).await;
    commit(&mut writer, 1, "a").await.unwrap();
    drop(follower.poll());
    assert_eq!(drain(&mut follower).await.len(), 1);
}
