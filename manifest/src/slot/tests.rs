//! Tests of the slot log: take-overs, fences and unclear outcomes.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::*;
use crate::error::Error;
use crate::id::{Epoch, Nonce, Slot};
use crate::testing::{Fault, FaultStore};

mod ahead;
mod follow;
mod free;

/// A log whose bodies are their own meaning, and whose checkpoints have no content.
struct Plain {
    next: u128,
    hint: Option<Slot>,
    /// Happens between the LIST of an opener and its reads.
    after_list: Option<BoxFuture<'static, ()>>,
    /// Happens before each seal.
    before_seal: Box<dyn FnMut() + Send>,
}

impl Plain {
    fn new(writer: u128) -> Self {
        Self { next: writer * 1000, hint: None, after_list: None, before_seal: Box::new(|| {}) }
    }
}

#[async_trait]
impl CheckpointSource for Plain {
    fn hint(&self) -> Option<Slot> {
        self.hint
    }

    async fn base(&mut self, listing: &Listing) -> Result<Option<Base>, Error> {
        if let Some(meanwhile) = self.after_list.take() {
            meanwhile.await;
        }
        Ok(listing.checkpoints.last().map(|slot| Base { slot: *slot, commit_id: None }))
    }
}

#[async_trait]
impl OpenDraft for Plain {
    fn commit_id(&mut self) -> Nonce {
        self.next += 1;
        Nonce(self.next)
    }

    async fn seal_body(&mut self, _: &[Record]) -> Result<Bytes, Error> {
        (self.before_seal)();
        Ok(Bytes::from_static(b"seal"))
    }

    async fn open_body(&mut self, _: Slot, _: &[Record]) -> Result<Bytes, Error> {
        Ok(Bytes::from_static(b"open"))
    }

    fn may_create(&self) -> bool {
        true
    }
}

#[derive(Clone)]
struct Log {
    faults: FaultStore,
    store: SlotStore,
}

impl Log {
    fn new() -> Self {
        let faults = FaultStore::default();
        let layout = Layout { folder: Path::from("log"), extension: "json" };
        let store = SlotStore::new(Arc::new(faults.clone()), layout);
        Self { faults, store }
    }

    async fn open(&self, writer: u128) -> Result<Opened, Error> {
        take_over(&self.store, Nonce(writer), &mut Plain::new(writer)).await
    }

    /// The checkpoint of the state after `slot`.
    async fn checkpoint(&self, slot: Slot) {
        self.faults.put(&self.store.checkpoint_path(slot), Bytes::new().into()).await.unwrap();
    }

    /// Frees the slots of these numbers in epoch 1, whatever they hold.
    async fn delete(&self, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            self.faults.delete(&self.store.path(Slot::new(Epoch(1), seq))).await.unwrap();
        }
    }

    /// A seal in this slot of epoch 1, by an opener that knew the log up to `prev` and goes no further.
    async fn stray_seal(&self, seq: u64, prev: Option<Nonce>) {
        let slot = Slot::new(Epoch(1), seq);
        let (kind, commit_id, body) = (Kind::Seal, Nonce(u128::from(seq) + 7_000_000), Bytes::from_static(b"stray"));
        let seal = Record { kind, commit_id, prev, writer: Nonce(7), slot, body };
        self.faults.put(&self.store.path(slot), seal.encode().into()).await.unwrap();
    }

    async fn bodies(&self) -> Vec<(Slot, Bytes)> {
        load(&self.store, &mut NoCheckpoints).await.unwrap().history.into_iter().map(|record| (record.slot, record.body)).collect()
    }
}

async fn commit(writer: &mut Writer, id: u128, body: &'static str) -> Result<Outcome, Error> {
    writer.commit(Nonce(id), Kind::Data, Bytes::from_static(body.as_bytes())).await
}

#[tokio::test]
async fn a_commit_is_one_put() {
    let log = Log::new();
    let mut opened = log.open(1).await.unwrap();
    log.faults.take_requests();
    assert!(matches!(commit(&mut opened.writer, 1, "a").await, Ok(Outcome::Committed(_))));
    assert_eq!(log.faults.take_requests(), ["put"]);
}

#[tokio::test]
async fn the_next_opener_replays_everything_and_starts_the_next_epoch() {
    let log = Log::new();
    let mut first = log.open(1).await.unwrap();
    commit(&mut first.writer, 1, "a").await.unwrap();
    commit(&mut first.writer, 2, "b").await.unwrap();
    log.faults.take_requests();
    let second = log.open(2).await.unwrap();
    let bodies: Vec<&[u8]> = second.history.iter().map(|record| record.body.as_ref()).collect();
    assert_eq!(bodies, [&b"open"[..], b"a", b"b", b"seal", b"open"]);
    assert_eq!(second.writer.next_slot(), Slot::new(Epoch(2), 1));
    // LIST, one read a record, seal, LIST beyond it, Open.
    assert_eq!(log.faults.take_requests(), ["list", "get", "get", "get", "put", "list", "put"]);
}

#[tokio::test]
async fn a_log_is_begun_by_a_list_and_a_put() {
    let log = Log::new();
    log.open(1).await.unwrap();
    assert_eq!(log.faults.take_requests(), ["list", "put"]);
}

#[tokio::test]
async fn an_idle_writer_makes_no_request() {
    let log = Log::new();
    let opened = log.open(1).await.unwrap();
    log.faults.take_requests();
    tokio::task::yield_now().await;
    drop(opened);
    assert!(log.faults.take_requests().is_empty());
}

#[tokio::test]
async fn a_writer_that_was_taken_over_is_fenced_for_ever() {
    let log = Log::new();
    let mut old = log.open(1).await.unwrap().writer;
    let mut new = log.open(2).await.unwrap().writer;
    assert!(matches!(commit(&mut old, 1, "late").await, Ok(Outcome::Conflict(seal)) if seal.kind == Kind::Seal));
    assert!(matches!(commit(&mut old, 2, "later").await, Err(Error::Fenced { .. })));
    assert!(matches!(commit(&mut new, 3, "x").await, Ok(Outcome::Committed(_))));
    assert!(log.bodies().await.iter().all(|(_, body)| body != "late" && body != "later"));
}

#[tokio::test]
async fn our_own_record_behind_a_lost_or_wrong_answer_is_a_commit() {
    for fault in [Fault::LostResponse, Fault::SaysExists, Fault::NotDone] {
        let log = Log::new();
        let mut writer = log.open(1).await.unwrap().writer;
        log.faults.plan([fault]);
        assert!(matches!(commit(&mut writer, 1, "a").await, Ok(Outcome::Committed(_))), "{fault:?}");
        assert!(matches!(commit(&mut writer, 2, "b").await, Ok(Outcome::Committed(_))), "{fault:?}");
        assert_eq!(log.bodies().await.len(), 3);
    }
}

#[tokio::test]
async fn a_store_that_never_answers_leaves_the_writer_in_doubt() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    log.faults.plan([Fault::NotDone; 20]);
    assert!(matches!(commit(&mut writer, 1, "a").await, Ok(Outcome::Unknown(_))));
    assert!(!writer.is_good());
    assert!(matches!(commit(&mut writer, 2, "b").await, Err(Error::Unknown { .. })));
}

#[tokio::test]
async fn a_commit_that_is_cancelled_leaves_the_writer_in_doubt() {
    let mut log = Log::new();
    // So long that the pause cannot pass on however busy a machine.
    let long = std::time::Duration::from_secs(3600);
    log.store = log.store.with(store::Tuning { backoff_min: long, backoff_max: long, ..store::Tuning::default() }, None);
    let mut writer = log.open(1).await.unwrap().writer;
    {
        let mut pending = Box::pin(commit(&mut writer, 1, "a"));
        // The in-memory store answers at once, so a lost answer is what leaves the commit under way.
        log.faults.plan([Fault::NotDone; 4]);
        assert!(futures::poll!(&mut pending).is_pending());
    }
    assert!(matches!(commit(&mut writer, 2, "b").await, Err(Error::Unknown { .. })));
}

#[tokio::test]
async fn a_log_sealed_by_an_opener_that_crashed_is_continued() {
    let log = Log::new();
    log.open(1).await.unwrap();
    // Crash after the seal: the Open never gets through.
    let seal = Record {
        kind: Kind::Seal,
        commit_id: Nonce(77),
        prev: load(&log.store, &mut NoCheckpoints).await.unwrap().history.last().map(|record| record.commit_id),
        writer: Nonce(9),
        slot: Slot::new(Epoch(1), 1),
        body: Bytes::from_static(b"seal"),
    };
    log.faults.put(&log.store.path(seal.slot), seal.encode().into()).await.unwrap();
    let opened = log.open(2).await.unwrap();
    assert_eq!(opened.writer.next_slot(), Slot::new(Epoch(2), 1));
    assert_eq!(opened.history.len(), 3);
}

#[tokio::test]
async fn a_missing_record_below_others_is_named() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    for id in 1..4 {
        commit(&mut writer, id, "x").await.unwrap();
    }
    log.faults.delete(&log.store.path(Slot::new(Epoch(1), 2))).await.unwrap();
    let error = log.open(2).await.unwrap_err();
    assert!(matches!(&error, Error::Gap { missing, .. } if missing.ends_with("00000000000000000002.json")), "{error}");
}

#[tokio::test]
async fn a_flipped_bit_names_the_object() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    commit(&mut writer, 1, "abc").await.unwrap();
    let path = log.store.path(Slot::new(Epoch(1), 1));
    let mut bytes = log.faults.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    log.faults.put(&path, bytes.into()).await.unwrap();
    let error = log.open(2).await.unwrap_err();
    assert!(error.to_string().contains(path.as_ref()), "{error}");
}

#[tokio::test]
async fn of_many_openers_at_once_one_owns_the_newest_epoch() {
    let log = Log::new();
    log.open(1).await.unwrap();
    let openers = (2..18).map(|writer| {
        let log = log.clone();
        async move { log.open(writer).await }
    });
    let mut opened: Vec<Opened> = futures::future::join_all(openers).await.into_iter().filter_map(Result::ok).collect();
    opened.sort_by_key(|opened| opened.writer.next_slot());
    let mut newest = opened.pop().expect("one opener wins").writer;
    for mut older in opened {
        assert!(matches!(commit(&mut older.writer, 1, "stale").await, Ok(Outcome::Conflict(_)) | Err(_)));
    }
    assert!(matches!(commit(&mut newest, 2, "x").await, Ok(Outcome::Committed(_))));
}

#[tokio::test]
async fn foreign_objects_in_the_folder_are_ignored() {
    let log = Log::new();
    log.open(1).await.unwrap();
    log.faults.put(&Path::from("log/readme.txt"), Bytes::from_static(b"hi").into()).await.unwrap();
    log.faults.put(&Path::from("log/seg/0000000001-00000000000000000009.json"), Bytes::new().into()).await.unwrap();
    assert!(log.open(2).await.is_ok());
    let store: &dyn ObjectStore = &log.faults;
    assert!(store.get(&Path::from("log/readme.txt")).await.is_ok());
}
