//! Retention: freed slots, void seals, and reading from a checkpoint.

use super::super::guard::Guard;
use super::super::store::Tuning;
use super::*;

fn at(seq: u64) -> Slot {
    Slot::new(Epoch(1), seq)
}

async fn commits(writer: &mut Writer, ids: std::ops::Range<u128>) {
    for id in ids {
        assert!(matches!(commit(writer, id, "x").await, Ok(Outcome::Committed(_))), "{id}");
    }
}

#[tokio::test]
async fn retention_frees_data_below_the_record_that_stays_and_nothing_else() {
    let log = Log::new();
    commits(&mut log.open(1).await.unwrap().writer, 1..4).await;
    commits(&mut log.open(2).await.unwrap().writer, 4..7).await;
    let slots = log.store.list(None).await.unwrap().slots;
    let data = log.store.data_slots(&slots).await.unwrap();
    assert_eq!(data.len(), 6);
    let freed = log.store.free(&data, Slot::new(Epoch(2), 2)).await;
    assert_eq!((freed.freed, freed.failed.len()), (4, 0));
    let left = log.store.list(None).await.unwrap().slots;
    let second = [0, 2, 3].map(|seq| Slot::new(Epoch(2), seq));
    assert_eq!(left, [[at(0), at(4)].as_slice(), &second].concat());
    assert_eq!(log.store.free(&data, Slot::new(Epoch(2), 2)).await.freed, 4, "freeing again is harmless");
}

#[tokio::test]
async fn a_seal_and_an_open_are_not_data() {
    let log = Log::new();
    log.open(1).await.unwrap();
    let opened = log.open(2).await.unwrap();
    assert!(opened.history.iter().all(|record| record.data_slot().is_none()));
}

#[tokio::test]
async fn a_log_is_read_from_the_checkpoint_at_the_hint() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    commits(&mut writer, 1..6).await;
    log.checkpoint(at(3)).await;
    log.delete(1..3).await;
    log.faults.take_requests();
    let mut source = Plain { hint: Some(at(3)), ..Plain::new(2) };
    let loaded = load(&log.store, &mut source).await.unwrap();
    assert_eq!(loaded.base.map(|base| base.slot), Some(at(3)));
    assert_eq!(loaded.history.iter().map(|record| record.slot.seq).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(log.faults.take_requests(), ["list", "get", "get"]);
    let opened = take_over(&log.store, Nonce(2), &mut source).await.unwrap();
    assert_eq!(opened.history.len(), 4);
    assert_eq!(log.faults.take_requests(), ["list", "get", "get", "put", "list", "put"]);
}

#[tokio::test]
async fn a_local_file_system_lists_after_a_slot_as_any_store_does() {
    let folder = tempfile::tempdir().unwrap();
    let local: Arc<dyn ObjectStore> = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap());
    let store = SlotStore::new(Arc::clone(&local), Layout { folder: Path::from("log"), extension: "json" });
    let mut writer = take_over(&store, Nonce(1), &mut Plain::new(1)).await.unwrap().writer;
    commits(&mut writer, 1..6).await;
    local.put(&store.checkpoint_path(at(3)), Bytes::new().into()).await.unwrap();
    let listing = store.list(Some(at(3))).await.unwrap();
    assert_eq!((listing.slots, listing.checkpoints), (vec![at(4), at(5)], vec![at(3)]));
    let data = store.data_slots(&[at(0), at(1), at(2)]).await.unwrap();
    assert_eq!(store.free(&data, at(3)).await.freed, 2);
    assert_eq!(store.free(&data, at(3)).await.freed, 2, "what is gone counts as freed");
    assert_eq!(take_over(&store, Nonce(2), &mut Plain::new(2)).await.unwrap().history.len(), 4);
}

#[tokio::test]
async fn a_hint_beyond_the_checkpoints_is_not_followed() {
    let log = Log::new();
    commits(&mut log.open(1).await.unwrap().writer, 1..6).await;
    log.checkpoint(at(3)).await;
    let mut source = Plain { hint: Some(at(5)), ..Plain::new(2) };
    let loaded = load(&log.store, &mut source).await.unwrap();
    assert_eq!((loaded.base.map(|base| base.slot), loaded.history.len()), (Some(at(3)), 2));
}

#[tokio::test]
async fn the_first_record_after_a_checkpoint_must_follow_its_commit() {
    struct Wrong;
    #[async_trait]
    impl CheckpointSource for Wrong {
        async fn base(&mut self, _: &Listing) -> Result<Option<Base>, Error> {
            Ok(Some(Base { slot: at(1), commit_id: Some(Nonce(999)) }))
        }
    }
    let log = Log::new();
    commits(&mut log.open(1).await.unwrap().writer, 1..4).await;
    assert!(matches!(load(&log.store, &mut Wrong).await, Err(Error::BrokenChain { .. })));
}

/// The writer goes on, checkpoints twice, and frees slot 2 but not the slots around it.
async fn move_on(log: &Log, writer: &mut Writer) {
    commits(writer, 3..7).await;
    log.checkpoint(at(4)).await;
    log.checkpoint(at(5)).await;
    log.delete([2]).await;
}

#[tokio::test]
async fn a_seal_put_into_a_freed_slot_is_void_and_stays() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    commits(&mut writer, 1..2).await;
    let (there, mut late) = (log.clone(), writer);
    let (send, receive) = futures::channel::oneshot::channel();
    let after_list = async move {
        commits(&mut late, 2..3).await;
        move_on(&there, &mut late).await;
        assert!(send.send(late).is_ok());
    };
    let mut draft = Plain { after_list: Some(Box::pin(after_list)), ..Plain::new(2) };
    let opened = take_over(&log.store, Nonce(2), &mut draft).await.unwrap();
    assert_eq!(log.store.read(at(2)).await.unwrap().map(|seal| seal.kind), Some(Kind::Seal));
    assert_eq!(opened.base.map(|base| base.slot), Some(at(5)));
    assert_eq!(opened.history.iter().map(|record| record.slot).collect::<Vec<_>>(), [at(6), at(7), Slot::new(Epoch(2), 0)]);
    let mut old = receive.await.unwrap();
    assert!(matches!(commit(&mut old, 50, "late").await, Ok(Outcome::Conflict(_))));
}

/// An opener lists the log, then stops; the writer moves on and frees slot 2, which yet another opener, paused
/// for long, seals. Is the first writer's next commit acknowledged after the opener owns the next epoch?
async fn old_writer_commits_after_a_void_seal_was_met(without: Option<Guard>) -> bool {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    commits(&mut writer, 1..3).await;
    let (there, mut late) = (log.clone(), writer);
    let (send, receive) = futures::channel::oneshot::channel();
    let after_list = async move {
        move_on(&there, &mut late).await;
        there.stray_seal(2, Some(Nonce(1))).await;
        assert!(send.send(late).is_ok());
    };
    let mut draft = Plain { after_list: Some(Box::pin(after_list)), ..Plain::new(2) };
    let store = log.store.clone().with(Tuning::default(), without);
    take_over(&store, Nonce(2), &mut draft).await.unwrap();
    let mut old = receive.await.unwrap();
    matches!(commit(&mut old, 50, "late").await, Ok(Outcome::Committed(_)))
}

#[tokio::test]
async fn a_seal_of_another_opener_in_a_freed_slot_is_void_too() {
    assert!(!old_writer_commits_after_a_void_seal_was_met(None).await);
    assert!(
        old_writer_commits_after_a_void_seal_was_met(Some(Guard::ListAfterFoundSeal)).await,
        "the LIST after a seal that was met is what keeps the old writer from committing unseen",
    );
}

#[tokio::test]
async fn a_reader_does_not_end_at_a_void_seal() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    commits(&mut writer, 1..3).await;
    let there = log.clone();
    let after_list = async move {
        move_on(&there, &mut writer).await;
        there.stray_seal(2, Some(Nonce(1))).await;
    };
    let mut source = Plain { after_list: Some(Box::pin(after_list)), ..Plain::new(2) };
    let loaded = load(&log.store, &mut source).await.unwrap();
    assert_eq!(loaded.history.last().map(|record| record.slot), Some(at(6)));
}

#[tokio::test]
async fn records_freed_between_the_list_and_the_reads_are_no_damage() {
    let log = Log::new();
    let mut writer = log.open(1).await.unwrap().writer;
    commits(&mut writer, 1..3).await;
    let there = log.clone();
    let after_list = async move { move_on(&there, &mut writer).await };
    let mut draft = Plain { after_list: Some(Box::pin(after_list)), ..Plain::new(2) };
    let opened = take_over(&log.store, Nonce(2), &mut draft).await.unwrap();
    assert_eq!(opened.base.map(|base| base.slot), Some(at(5)));
}
