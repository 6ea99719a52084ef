//! What every log that keeps entries must do; run against each of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};
use tessera_manifest::wal::WalPosition;

use super::{LogStore, WalError};

/// Opens the same log again and again.
#[async_trait]
pub(super) trait Subject: Send {
    /// The next opening; the one before was closed or dropped.
    async fn open(&mut self) -> Arc<dyn LogStore>;
}

pub(super) fn region(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

pub(super) fn payload(text: &str) -> Vec<Bytes> {
    vec![Bytes::copy_from_slice(text.as_bytes())]
}

/// Everything that a replay gives, or its error.
pub(super) async fn replayed(wal: &dyn LogStore, region: RegionId, after: WalPosition) -> Result<Vec<(WalPosition, Bytes)>, WalError> {
    wal.replay(region, after)?.collect::<Vec<_>>().await.into_iter().collect()
}

pub(super) async fn run(subject: &mut dyn Subject) {
    entries_of_earlier_openings_come_back_in_order(subject).await;
    epochs_and_positions_grow(subject).await;
    only_entries_after_the_position_come_back(subject).await;
    released_and_forgotten_entries_stay_away(subject).await;
    submits_keep_their_order_when_waits_are_dropped(subject).await;
    parallel_appends_all_come_back(subject).await;
    closed_log_refuses(subject).await;
}

async fn entries_of_earlier_openings_come_back_in_order(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    let mut expected = Vec::new();
    for n in 0..20 {
        let parts = vec![Bytes::from(format!("a{n}")), Bytes::new(), Bytes::from(vec![7; n])];
        let position = wal.append(region(0), parts.clone()).await.unwrap();
        expected.push((position, Bytes::from(parts.concat())));
        wal.append(region(1), payload("other")).await.unwrap();
    }
    assert_eq!(replayed(&*wal, region(0), WalPosition::START).await.unwrap(), [], "of this opening");
    assert_eq!(wal.regions().iter().map(|(r, _)| *r).collect::<Vec<_>>(), [region(0), region(1)]);
    wal.close().await.unwrap();
    drop(wal);
    let wal = subject.open().await;
    assert_eq!(replayed(&*wal, region(0), WalPosition::START).await.unwrap(), expected);
    assert_eq!(wal.regions()[0], (region(0), expected.last().unwrap().0));
    assert!(wal.oldest_needed().is_some());
    wal.forget(region(0));
    wal.forget(region(1));
    assert_eq!((wal.regions(), wal.oldest_needed()), (vec![], None));
    wal.close().await.unwrap();
}

async fn epochs_and_positions_grow(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    let (id, epoch) = (wal.id(), wal.epoch());
    let first = wal.append(region(0), payload("x")).await.unwrap();
    assert_eq!(first.epoch, epoch);
    drop(wal);
    let wal = subject.open().await;
    assert_eq!((wal.id(), wal.epoch()), (id, epoch.next()));
    let second = wal.append(region(0), payload("y")).await.unwrap();
    assert!(second > first && second.entry > first.entry);
    wal.forget(region(0));
    wal.close().await.unwrap();
}

async fn only_entries_after_the_position_come_back(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    let mut positions = Vec::new();
    for n in 0..5 {
        positions.push(wal.append(region(2), payload(&n.to_string())).await.unwrap());
    }
    drop(wal);
    let wal = subject.open().await;
    let after = replayed(&*wal, region(2), positions[2]).await.unwrap();
    assert_eq!(after.iter().map(|(p, _)| *p).collect::<Vec<_>>(), positions[3..]);
    assert_eq!(replayed(&*wal, region(2), positions[4]).await.unwrap(), []);
    assert_eq!(replayed(&*wal, region(77), WalPosition::START).await.unwrap(), []);
    wal.forget(region(2));
    wal.close().await.unwrap();
}

async fn released_and_forgotten_entries_stay_away(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    let first = wal.append(region(3), payload("1")).await.unwrap();
    let second = wal.append(region(3), payload("2")).await.unwrap();
    wal.append(region(4), payload("3")).await.unwrap();
    drop(wal);
    let wal = subject.open().await;
    wal.release(region(3), first);
    let left = replayed(&*wal, region(3), WalPosition::START).await.unwrap();
    assert_eq!(left, [(second, Bytes::from("2"))]);
    // Entries that earlier openings released may be there again.
    for (region, _) in wal.regions() {
        wal.forget(region);
    }
    assert_eq!(replayed(&*wal, region(3), WalPosition::START).await.unwrap(), []);
    assert_eq!(wal.oldest_needed(), None);
    wal.close().await.unwrap();
}

async fn submits_keep_their_order_when_waits_are_dropped(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    let mut positions = Vec::new();
    for n in 0..50 {
        let pending = wal.submit(region(5), payload(&n.to_string())).await.unwrap();
        positions.push(pending.position());
        if n == 49 {
            pending.wait().await.unwrap();
        }
    }
    assert!(positions.is_sorted());
    drop(wal);
    let wal = subject.open().await;
    let back = replayed(&*wal, region(5), WalPosition::START).await.unwrap();
    let expected: Vec<_> = positions.into_iter().zip((0..50).map(|n| Bytes::from(n.to_string()))).collect();
    assert_eq!(back, expected);
    wal.forget(region(5));
    wal.close().await.unwrap();
}

async fn parallel_appends_all_come_back(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    let appends = (0..200u32).map(|n| {
        let wal = Arc::clone(&wal);
        async move { (wal.append(region(10 + n % 3), payload(&n.to_string())).await.unwrap(), n) }
    });
    let acked: BTreeMap<_, _> = futures::future::join_all(appends).await.into_iter().collect();
    assert_eq!(acked.len(), 200, "positions are unique");
    drop(wal);
    let wal = subject.open().await;
    for number in 0..3 {
        let back = replayed(&*wal, region(10 + number), WalPosition::START).await.unwrap();
        let expected: Vec<_> = acked.iter().filter(|(_, n)| *n % 3 == number).map(|(p, n)| (*p, Bytes::from(n.to_string()))).collect();
        assert_eq!(back, expected);
        wal.forget(region(10 + number));
    }
    wal.close().await.unwrap();
}

async fn closed_log_refuses(subject: &mut dyn Subject) {
    let wal = subject.open().await;
    wal.close().await.unwrap();
    wal.close().await.unwrap();
    assert!(matches!(wal.append(region(0), payload("x")).await, Err(WalError::Closed)));
}
