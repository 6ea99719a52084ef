//! Sealing ahead of a busy writer, and gaps below seals.

use std::sync::Mutex;
use std::time::Duration;

use futures::FutureExt;

use super::super::store::Tuning;
use super::*;

/// What a writer that is quicker than the opener got acknowledged, and whether it was fenced.
#[derive(Clone)]
struct Busy {
    writer: Arc<Mutex<Writer>>,
    acked: Arc<Mutex<Vec<Nonce>>>,
}

impl Busy {
    fn new(writer: Writer) -> Self {
        Self { writer: Arc::new(Mutex::new(writer)), acked: Arc::default() }
    }

    /// Commits up to `records`, as many as it is let.
    fn commit(&self, records: usize) {
        let mut writer = self.writer.lock().unwrap();
        for _ in 0..records {
            let id = Nonce(500_000 + self.acked.lock().unwrap().len() as u128);
            let outcome = writer.commit(id, Kind::Data, Bytes::from_static(b"busy")).now_or_never().unwrap();
            match outcome {
                Ok(Outcome::Committed(_)) => self.acked.lock().unwrap().push(id),
                _ => return,
            }
        }
    }
}

fn tuning(chase: u32, ahead: u32) -> Tuning {
    Tuning { tries: 2, backoff_min: Duration::ZERO, backoff_max: Duration::ZERO, chase, ahead }
}

/// Opens against a writer that commits `bursts[n]` records before the n-th seal, and the last number for ever.
async fn open_against(bursts: &'static [usize], chase: u32, ahead: u32) -> (Log, Busy, Result<Opened, Error>) {
    let log = Log::new();
    let busy = Busy::new(log.open(1).await.unwrap().writer);
    let store = log.store.clone().with(tuning(chase, ahead), None);
    let (writer, mut seals) = (busy.clone(), 0);
    let before_seal = Box::new(move || {
        writer.commit(bursts[seals.min(bursts.len() - 1)]);
        seals += 1;
    });
    let mut draft = Plain { before_seal, ..Plain::new(2) };
    let opened = take_over(&store, Nonce(2), &mut draft).await;
    (log, busy, opened)
}

fn assert_all_replayed(busy: &Busy, opened: &Opened) {
    let busy_records = |record: &&Record| record.kind == Kind::Data;
    let replayed: Vec<Nonce> = opened.history.iter().filter(busy_records).map(|record| record.commit_id).collect();
    assert_eq!(replayed, *busy.acked.lock().unwrap());
    let [.., seal, open] = &opened.history[..] else { panic!("a history ends with seal and open") };
    assert_eq!((seal.kind, open.kind), (Kind::Seal, Kind::Open));
}

#[tokio::test]
async fn a_writer_that_is_always_quicker_is_stopped_by_a_seal_ahead() {
    let (log, busy, opened) = open_against(&[1], 2, 4).await;
    let mut opened = opened.unwrap();
    assert_all_replayed(&busy, &opened);
    assert!(busy.acked.lock().unwrap().len() > 3, "the writer took the gap as well");
    assert!(!busy.writer.lock().unwrap().is_good());
    let acked = busy.acked.lock().unwrap().len();
    busy.commit(1);
    assert_eq!(busy.acked.lock().unwrap().len(), acked);
    assert!(matches!(commit(&mut opened.writer, 10, "x").await, Ok(Outcome::Committed(_))));
    assert!(log.open(3).await.is_ok(), "the log with a seal that names no record before it is read again");
}

#[tokio::test]
async fn the_gap_below_a_seal_ahead_is_sealed_where_the_writer_stopped() {
    let (log, busy, opened) = open_against(&[1, 1, 1, 0], 1, 6).await;
    let opened = opened.unwrap();
    assert_all_replayed(&busy, &opened);
    let slots = log.store.list(None).await.unwrap().slots;
    let seals: Vec<u64> = slots.iter().filter(|slot| slot.epoch == Epoch(1) && slot.seq > 3).map(|slot| slot.seq).collect();
    assert_eq!(seals, [4, 8], "the first seal ends the epoch, the one ahead stays where it is");
    busy.commit(1);
    assert_eq!(busy.acked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_writer_that_outran_the_seal_ahead_is_caught_further_on() {
    let (_, busy, opened) = open_against(&[1, 8, 1], 1, 2).await;
    assert_all_replayed(&busy, &opened.unwrap());
    assert!(busy.acked.lock().unwrap().len() > 9);
}

/// Found by the simulation.
#[tokio::test]
async fn a_void_seal_among_the_records_to_catch_up_with_is_no_damage() {
    let log = Log::new();
    let busy = Busy::new(log.open(1).await.unwrap().writer);
    let store = log.store.clone().with(tuning(1, 2), None);
    let (there, writer, mut seals) = (log.clone(), busy.clone(), 0);
    let before_seal = Box::new(move || {
        seals += 1;
        writer.commit(match seals {
            1 => 4,
            2 => 6,
            _ => 0,
        });
        if seals == 2 {
            let before = writer.acked.lock().unwrap()[1];
            let retention = async {
                there.checkpoint(Slot::new(Epoch(1), 7)).await;
                there.checkpoint(Slot::new(Epoch(1), 8)).await;
                there.delete([3]).await;
                there.stray_seal(3, Some(before)).await;
            };
            retention.now_or_never().expect("the in-memory store answers at once");
        }
    });
    let opened = take_over(&store, Nonce(2), &mut Plain { before_seal, ..Plain::new(2) }).await.unwrap();
    assert_eq!(opened.base.map(|base| base.slot), Some(Slot::new(Epoch(1), 8)));
    busy.commit(1);
    assert_eq!(busy.acked.lock().unwrap().len(), 10);
}

#[tokio::test]
async fn an_opener_gives_up_on_a_writer_that_outruns_every_seal() {
    let (_, _, opened) = open_against(&[2000], 1, 2).await;
    assert!(matches!(opened, Err(Error::Contended { .. })));
}

#[tokio::test]
async fn a_gap_below_the_seal_of_a_crashed_opener_is_sealed_by_the_next() {
    let log = Log::new();
    let mut old = log.open(1).await.unwrap().writer;
    commit(&mut old, 1, "a").await.unwrap();
    log.stray_seal(5, None).await;
    let opened = log.open(2).await.unwrap();
    assert_eq!(opened.history.last().map(|open| open.slot), Some(Slot::new(Epoch(2), 0)));
    assert_eq!(opened.history[2].slot, Slot::new(Epoch(1), 2));
    assert!(matches!(commit(&mut old, 2, "late").await, Ok(Outcome::Conflict(_))));
    assert_eq!(log.bodies().await.len(), 4);
}

#[tokio::test]
async fn a_record_beyond_a_gap_is_an_error_that_names_the_gap() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    for id in 1..4 {
        commit(&mut writer, id, "x").await.unwrap();
    }
    log.stray_seal(9, None).await;
    log.delete([2]).await;
    assert!(matches!(log.open(2).await, Err(Error::Gap { missing, .. }) if missing.ends_with("00000000000000000002.json")));
}
