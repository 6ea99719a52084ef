//! Tests of checkpoints, retention, old versions, snapshots and rollback.

use futures::TryStreamExt;
use object_store::ObjectStore;
use ulid::Ulid;

use super::*;
use crate::action::{CheckpointRef, Doom, Fence, Floor, RemapStaged, Resolve, SegmentRef, Stage, StageTarget};
use crate::checkpoint::encode_segment;
use crate::error::ErrorClass;
use crate::file::{ColumnStats, FileMeta, FileRef, Scope, StagedFile};
use crate::id::{FileId, FileKey, TxnId};
use crate::schema::ColumnChange;
use crate::set_hash::{MemberHash, SetHash};
use crate::state::Row;
use crate::value::Value;

fn file(epoch: u32, number: u32) -> Arc<FileRef> {
    let sequence = Sequence::new(Generation::FIRST, u64::from(number)).unwrap();
    let meta = FileMeta {
        time_range: (0, 10),
        rows: 5,
        deletes: 0,
        bytes: 100,
        sequences: (sequence, sequence),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: 1,
    };
    let key = FileKey { origin: meta_region(), file: FileId::new(Epoch(epoch), Ulid(number.into())) };
    Arc::new(FileRef { key, scope: Scope::all(), meta })
}

fn meta_region() -> RegionId {
    super::meta().region
}

async fn commit(manifest: &mut Manifest, actions: Vec<Action>) {
    assert!(matches!(manifest.commit(actions).await, Ok(Outcome::Committed(_))));
}

async fn add(manifest: &mut Manifest, numbers: std::ops::Range<u32>) {
    let epoch = manifest.epoch().0;
    for number in numbers {
        let file = file(epoch, number);
        let edit = Edit { sequence: Some(file.meta.sequences.1), add: vec![file], ..Edit::new(Generation::FIRST) };
        commit(manifest, vec![Action::Edit(edit)]).await;
    }
}

async fn remove(manifest: &mut Manifest, epoch: u32, numbers: &[u32]) {
    let remove = numbers.iter().map(|number| file(epoch, *number).key).collect();
    commit(manifest, vec![Action::Edit(Edit { remove, ..Edit::new(Generation::FIRST) })]).await;
}

async fn names(store: &FaultStore) -> Vec<String> {
    let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
    objects.into_iter().map(|object| object.location.filename().unwrap().to_owned()).collect()
}

fn slot(epoch: u32, seq: u64) -> Slot {
    Slot::new(Epoch(epoch), seq)
}

/// Twelve files, two checkpoints that are noted, and everything before the first of these gone.
async fn retained() -> (FaultStore, Context, Manifest) {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    for round in 0..3 {
        add(&mut manifest, round * 4..round * 4 + 4).await;
        manifest.checkpoint().await.unwrap();
    }
    add(&mut manifest, 12..13).await;
    (store, context, manifest)
}

#[tokio::test]
async fn a_checkpoint_and_its_tail_are_the_replay_from_zero() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..9).await;
    remove(&mut manifest, 1, &[2, 3]).await;
    let from_zero = load(&context, meta_region()).await.unwrap();
    manifest.checkpoint().await.unwrap();
    assert_eq!(load(&context, meta_region()).await.unwrap(), from_zero);
    add(&mut manifest, 9..12).await;
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
    store.take_requests();
    load(&context, meta_region()).await.unwrap();
    // LIST, root, three segments, three records.
    assert_eq!(store.take_requests(), ["list", "get", "get", "get", "get", "get", "get", "get"]);
    let reopened = Manifest::open(&context, meta_region(), OPENER).await.unwrap();
    assert_eq!(reopened.state().files(), manifest.state().files());
}

#[tokio::test]
async fn only_segments_in_which_something_changed_are_written() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..40).await;
    manifest.checkpoint().await.unwrap();
    let before = names(&store).await.iter().filter(|name| name.ends_with(".parquet")).count();
    assert_eq!(before, 10);
    add(&mut manifest, 40..41).await;
    store.take_requests();
    manifest.checkpoint().await.unwrap();
    // The last segment, which overflows into a new one, and the root.
    assert_eq!(store.take_requests(), ["put", "put", "put"]);
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
}

#[tokio::test]
async fn a_checkpoint_is_noted_by_the_next_commit_which_is_still_one_put() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..2).await;
    let checkpoint = manifest.checkpoint().await.unwrap();
    store.take_requests();
    add(&mut manifest, 2..3).await;
    assert_eq!(store.take_requests(), ["put"]);
    assert_eq!(manifest.state().checkpoints(), [checkpoint]);
    assert_eq!(manifest.checkpoint_lag().0, 1);
}

#[tokio::test]
async fn a_damaged_checkpoint_is_passed_over() {
    for damage in ["root", "segment", "missing segment"] {
        let (store, context, manifest) = retained().await;
        let newest = manifest.state().checkpoints().last().unwrap().version;
        let root = context.root.manifest(meta_region()).checkpoint_path(newest);
        let bytes = store.get(&root).await.unwrap().bytes().await.unwrap();
        let entry = crate::checkpoint::Root::decode(meta_region(), newest, &bytes).unwrap().segments.last().unwrap().clone();
        let segment = context.root.segment(meta_region(), entry.segment.file);
        match damage {
            "root" => drop(store.put(&root, bytes.slice(1..).into()).await.unwrap()),
            "segment" => drop(store.put(&segment, Bytes::from_static(b"?").into()).await.unwrap()),
            _ => store.delete(&segment).await.unwrap(),
        }
        assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state(), "{damage}");
        let mut reopened = Manifest::open(&context, meta_region(), OPENER).await.unwrap();
        assert_eq!(reopened.state().files(), manifest.state().files(), "{damage}");
        reopened.checkpoint().await.unwrap();
    }
}

#[tokio::test]
async fn a_region_without_any_usable_checkpoint_is_damaged_and_says_so() {
    for damage in ["roots", "missing segments"] {
        let (store, context, mut manifest) = retained().await;
        manifest.retain().await.unwrap();
        for checkpoint in manifest.state().checkpoints() {
            let path = context.root.manifest(meta_region()).checkpoint_path(checkpoint.version);
            let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
            let root = crate::checkpoint::Root::decode(meta_region(), checkpoint.version, &bytes).unwrap();
            match damage {
                "roots" => drop(store.put(&path, Bytes::from_static(b"?").into()).await.unwrap()),
                // The next one may have it as well.
                _ => drop(store.delete(&context.root.segment(meta_region(), root.segments[0].segment.file)).await),
            }
        }
        let error = load(&context, meta_region()).await.unwrap_err();
        assert!(matches!(&error, Error::Checkpoint { .. }) && error.to_string().contains("backup"), "{damage}: {error}");
        let error = Manifest::open(&context, meta_region(), OPENER).await.unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{damage}: {error}");
    }
}

#[tokio::test]
async fn nothing_goes_while_a_checkpoint_that_stays_cannot_be_read() {
    let (store, context, mut manifest) = retained().await;
    let oldest = manifest.state().checkpoints()[0].version;
    store.put(&context.root.manifest(meta_region()).checkpoint_path(oldest), Bytes::from_static(b"?").into()).await.unwrap();
    let before = names(&store).await;
    assert!(matches!(manifest.retain().await, Err(Error::Checkpoint { .. })));
    assert_eq!(names(&store).await, before);
}

#[tokio::test]
async fn retention_keeps_what_the_two_newest_checkpoints_need_and_every_seal_and_open() {
    let (store, context, mut manifest) = retained().await;
    let kept: Vec<CheckpointRef> = manifest.state().checkpoints().to_vec();
    assert_eq!(manifest.state().replay_base(), Some(kept[0].version));
    let retained = manifest.retain().await.unwrap();
    assert_eq!((retained.behind, retained.checkpoints, retained.failed), (Some(kept[0].version), 1, 0));
    let left = names(&store).await;
    assert!(left.contains(&format!("{}.json", slot(1, 0))) && !left.contains(&format!("{}.json", slot(1, 1))));
    assert_eq!(left.iter().filter(|name| name.ends_with(".checkpoint")).count(), 2);
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
    // A second run finds nothing more to do.
    let again = manifest.retain().await.unwrap();
    assert_eq!((again.records, again.checkpoints, again.segments), (0, 0, 0));
    let mut next = Manifest::open(&context, meta_region(), OPENER).await.unwrap();
    assert!(matches!(manifest.commit(bump(50)).await, Ok(Outcome::Conflict { .. })));
    add(&mut next, 60..61).await;
    assert_eq!(&load(&context, meta_region()).await.unwrap(), next.state());
}

#[tokio::test]
async fn segments_that_nobody_names_are_swept_by_a_later_epoch() {
    let (store, context, manifest) = retained().await;
    let stray = |epoch| context.root.segment(meta_region(), FileId::new(Epoch(epoch), Ulid(1 << 90)));
    store.put(&stray(1), Bytes::from_static(b"crashed").into()).await.unwrap();
    drop(manifest);
    let mut next = Manifest::open(&context, meta_region(), OPENER).await.unwrap();
    store.put(&stray(2), Bytes::from_static(b"being written").into()).await.unwrap();
    next.retain().await.unwrap();
    assert!(store.get(&stray(1)).await.is_err());
    assert!(store.get(&stray(2)).await.is_ok());
    assert_eq!(&load(&context, meta_region()).await.unwrap(), next.state());
}

#[tokio::test]
async fn a_failed_delete_blocks_nothing_and_is_tried_again() {
    let (store, context, mut manifest) = retained().await;
    let before = names(&store).await.len();
    store.fail_deletes(true);
    let retained = manifest.retain().await.unwrap();
    assert!(retained.failed > 0 && names(&store).await.len() == before);
    add(&mut manifest, 20..21).await;
    store.fail_deletes(false);
    assert_eq!(manifest.retain().await.unwrap().failed, 0);
    assert!(names(&store).await.len() < before);
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
}

#[tokio::test]
async fn a_follower_that_retention_has_passed_is_told_to_open_again() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    let mut follower = Follower::open(&context, meta_region()).await.unwrap();
    for round in 0..3 {
        add(&mut manifest, round * 4..round * 4 + 4).await;
        manifest.checkpoint().await.unwrap();
    }
    add(&mut manifest, 12..13).await;
    manifest.retain().await.unwrap();
    let error = loop {
        match follower.poll().await {
            Ok(found) => assert!(!found),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::MissingRecord { .. }), "{error}");
    let again = Follower::open(&context, meta_region()).await.unwrap();
    assert_eq!(again.state(), manifest.state());
}

#[tokio::test]
async fn every_version_from_the_floor_on_can_be_read() {
    let (_, context, mut manifest) = retained().await;
    manifest.retain().await.unwrap();
    let floor = manifest.state().floor();
    let second = Manifest::open(&context, meta_region(), OPENER).await.unwrap();
    for seq in floor.seq..=13 {
        let state = load_at(&context, meta_region(), slot(1, seq)).await.unwrap();
        assert_eq!((state.version(), state.files().len() as u64), (Some(slot(1, seq)), seq), "{seq}");
    }
    assert_eq!(&load_at(&context, meta_region(), slot(2, 0)).await.unwrap(), second.state());
    for gone in [slot(1, 2), slot(1, 40), slot(2, 1), slot(9, 0)] {
        let error = load_at(&context, meta_region(), gone).await.unwrap_err();
        assert!(matches!(error, Error::NoVersion { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_snapshot_outlives_the_floor_until_it_is_unpinned() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..5).await;
    assert!(matches!(manifest.snapshot("monday", None).await, Ok(Outcome::Committed(_))));
    let pinned = manifest.state().pins()["monday"].checkpoint.version;
    remove(&mut manifest, 1, &[0]).await;
    for round in 2..5 {
        add(&mut manifest, round * 4..round * 4 + 4).await;
        manifest.checkpoint().await.unwrap();
    }
    add(&mut manifest, 40..41).await;
    manifest.retain().await.unwrap();
    assert!(manifest.state().floor() > pinned);
    assert_eq!(load_at(&context, meta_region(), pinned).await.unwrap().files().len(), 5);
    let doom = || vec![Action::Doom(Doom { files: vec![file(1, 0).key], forget: vec![] })];
    assert!(matches!(manifest.commit(doom()).await, Err(Error::Rejected { .. })));
    commit(&mut manifest, vec![Action::Unpin(action::Unpin { name: "monday".into() })]).await;
    manifest.retain().await.unwrap();
    assert!(matches!(load_at(&context, meta_region(), pinned).await, Err(Error::NoVersion { .. })));
    commit(&mut manifest, doom()).await;
}

#[tokio::test]
async fn a_snapshot_that_is_over_ends_with_the_next_commit() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    let now = context.env.unix_ms();
    for (name, end) in [("over", Some(now)), ("later", Some(now + 1)), ("never", None)] {
        assert!(matches!(manifest.snapshot(name, end).await, Ok(Outcome::Committed(_))));
    }
    add(&mut manifest, 0..1).await;
    assert_eq!(manifest.state().pins().keys().collect::<Vec<_>>(), ["later", "never"]);
}

#[tokio::test]
async fn a_held_version_holds_the_floor_back() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..4).await;
    manifest.checkpoint().await.unwrap();
    let hold = manifest.hold();
    for round in 1..5 {
        add(&mut manifest, round * 4..round * 4 + 4).await;
        manifest.checkpoint().await.unwrap();
    }
    assert!(manifest.state().floor() <= slot(1, 4));
    drop(hold);
    add(&mut manifest, 30..31).await;
    assert!(manifest.state().floor() > slot(1, 4));
}

#[tokio::test]
async fn a_rollback_is_a_new_version_that_shows_the_old_files() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..4).await;
    let then = manifest.state().clone();
    remove(&mut manifest, 1, &[1, 2]).await;
    add(&mut manifest, 7..9).await;
    let edit = plan_rollback(manifest.state(), &load_at(&context, meta_region(), then.version().unwrap()).await.unwrap()).unwrap();
    commit(&mut manifest, vec![Action::Edit(edit)]).await;
    let keys = |state: &RegionState| state.files().keys().collect::<Vec<_>>();
    assert_eq!(keys(manifest.state()), keys(&then));
    assert_eq!(manifest.state().set_hash(), then.set_hash());
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
}

#[tokio::test]
async fn a_rollback_is_refused_with_every_file_that_is_gone() {
    let (_, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..4).await;
    let then = manifest.state().clone();
    remove(&mut manifest, 1, &[1, 2]).await;
    let version = manifest.state().version().unwrap();
    commit(&mut manifest, vec![Action::Floor(Floor { version })]).await;
    commit(&mut manifest, vec![Action::Doom(Doom { files: vec![file(1, 1).key], forget: vec![] })]).await;
    let error = plan_rollback(manifest.state(), &then).unwrap_err();
    assert_eq!(error.reasons.len(), 2);
    assert!(error.to_string().contains("doomed") && error.to_string().contains("below the floor"), "{error}");
}

#[tokio::test]
async fn a_rollback_is_refused_where_a_column_has_another_type_now() {
    let (_, context) = context();
    let with_field = |data_type| {
        let field = Column { id: ColumnId(1), name: "n".into(), data_type, semantic: SemanticType::Field, nullable: true, ..ts() };
        Schema::new(vec![ts(), field], vec![]).unwrap()
    };
    let before = with_field(DataType::Int32);
    let meta = RegionMeta { schema: Arc::new(before.clone()), ..RegionMeta::clone(&super::meta()) };
    let mut manifest = Manifest::create(&context, Arc::new(meta.clone()), OPENER).await.unwrap();
    let plain = file(1, 1);
    let range = Some((Value::Int(1), Value::Int(5)));
    let stats = [ColumnStats { column: ColumnId(1), range, has_null: false, has_nan: false }].into();
    let of_ints = Arc::new(FileRef { meta: FileMeta { stats, ..plain.meta.clone() }, ..FileRef::clone(&plain) });
    let edit = Edit { sequence: Some(plain.meta.sequences.1), add: vec![Arc::clone(&of_ints)], ..Edit::new(Generation::FIRST) };
    commit(&mut manifest, vec![Action::Edit(edit)]).await;
    let then = manifest.state().clone();
    remove(&mut manifest, 1, &[1]).await;
    let retyped = before.evolve(&[ColumnChange::Modify { name: "n".into(), data_type: DataType::Float64 }], &[]).unwrap();
    commit(&mut manifest, vec![Action::Change(Change { meta: Arc::new(RegionMeta { schema: Arc::new(retyped), ..meta }) })]).await;
    let error = plan_rollback(manifest.state(), &then).unwrap_err();
    assert_eq!(error.reasons, [Refusal::OtherType { file: of_ints.key, column: ColumnId(1) }]);
    let planned_before = Edit { restore: vec![of_ints.key], ..Edit::new(Generation::FIRST) };
    let error = manifest.commit(vec![Action::Edit(planned_before)]).await.unwrap_err();
    assert!(matches!(&error, Error::Rejected { source: Violation::FileOfOtherTypes { .. }, .. }), "{error:?}");
}

/// A region with three files that is staged, and a remap onto nine, whose segment is on the store.
async fn staged_remap(store: &FaultStore, context: &Context) -> (Manifest, RemapStaged) {
    let mut manifest = Manifest::create(context, meta(), OPENER).await.unwrap();
    add(&mut manifest, 0..3).await;
    let txn = TxnId(Ulid(5));
    let generation = Generation::new(2).unwrap();
    let target = Some(StageTarget { rule: Arc::new(Expr::always()), partition_columns: vec![] });
    let stage = Stage { txn, base: Generation::FIRST, generation, target, fence: Vec::<Fence>::new(), schema_version: 1 };
    commit(&mut manifest, vec![Action::Stage(stage)]).await;
    // Its own files and some of another region.
    let remapped = |number: u32| {
        let mut file = FileRef::clone(&file(1, number));
        file.key.origin = RegionId::new(TableId(1024), RegionNumber(number / 3));
        Arc::new(file)
    };
    let rows: Vec<Row> = (0..9).map(|number| Row::Remapped(StagedFile::new(remapped(number)))).collect();
    let bytes = encode_segment(&rows);
    let segment = SegmentRef { file: FileId::new(Epoch(1), Ulid(77)), crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: 9 };
    store.put(&context.root.segment(meta_region(), segment.file), bytes.into()).await.unwrap();
    let set_hash = (0..9).fold(SetHash::EMPTY, |hash, number| hash.with(MemberHash::of(&remapped(number))));
    (manifest, RemapStaged { txn, segments: vec![segment], set_hash })
}

#[tokio::test]
async fn a_remap_is_replayed_from_its_segments_also_when_a_checkpoint_holds_it() {
    let (store, context) = context();
    let (mut manifest, remap) = staged_remap(&store, &context).await;
    let txn = remap.txn;
    commit(&mut manifest, vec![Action::RemapStaged(remap)]).await;
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
    manifest.checkpoint().await.unwrap();
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
    let resolve = Resolve { txn, base: Generation::FIRST, decision: action::Decision::Commit };
    commit(&mut manifest, vec![Action::Resolve(resolve)]).await;
    assert_eq!(manifest.state().files().len(), 9);
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
}

/// No try finds it: that is damage, which somebody has to mend, not a race with retention.
#[tokio::test]
async fn a_segment_that_is_named_and_missing_is_damage_and_named() {
    let (store, context) = context();
    let (mut manifest, remap) = staged_remap(&store, &context).await;
    let path = context.root.segment(meta_region(), remap.segments[0].file);
    let bytes = store.get(&path).await.unwrap().bytes().await.unwrap();
    let expect_lost = |error: Error| {
        assert!(matches!(&error, Error::Checkpoint { path: named, .. } if *named == path.to_string()), "{error}");
        assert_eq!(error.class(), ErrorClass::Corrupt);
    };
    store.delete(&path).await.unwrap();
    let remap = vec![Action::RemapStaged(remap)];
    // Whether a successor has swept it cannot be told here.
    let error = manifest.commit(remap.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::MissingRecord { path: named } if *named == path.to_string()), "{error}");
    store.put(&path, bytes.clone().into()).await.unwrap();
    commit(&mut manifest, remap).await;
    store.delete(&path).await.unwrap();
    expect_lost(load(&context, meta_region()).await.unwrap_err());
    expect_lost(Manifest::open(&context, meta_region(), OPENER).await.unwrap_err());
    store.put(&path, bytes.into()).await.unwrap();
    let reopened = Manifest::open(&context, meta_region(), OPENER).await.unwrap();
    assert_eq!(reopened.state().files(), manifest.state().files());
}

#[tokio::test]
async fn checkpoints_and_retention_run_on_their_own() {
    let (store, mut context) = context();
    context.settings.background = true;
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    for number in 0..60 {
        add(&mut manifest, number..number + 1).await;
        manifest.settle().await;
    }
    assert!(manifest.checkpoint_lag().0 <= 2 * context.settings.checkpoint_records);
    let records = names(&store).await.iter().filter(|name| name.ends_with(".json")).count();
    assert!(records < 40, "{records} records are left");
    assert_eq!(&load(&context, meta_region()).await.unwrap(), manifest.state());
}

#[tokio::test]
async fn many_regions_open_at_once_and_a_bad_one_stops_none() {
    use futures::StreamExt;
    let (store, context) = context();
    let region = |number| RegionId::new(TableId(1024), RegionNumber(number));
    for number in 0..8 {
        let meta = Arc::new(RegionMeta { region: region(number), ..RegionMeta::clone(&meta()) });
        Manifest::create(&context, meta, OPENER).await.unwrap();
    }
    let bad = slot_store(&context, region(3)).path(slot(1, 0));
    store.put(&bad, Bytes::from_static(b"?").into()).await.unwrap();
    let opened: Vec<_> = open_many(&context, (0..8).map(region).collect(), OPENER, 3).collect().await;
    let failed: Vec<RegionId> = opened.iter().filter(|(_, opened)| opened.is_err()).map(|(region, _)| *region).collect();
    assert_eq!((opened.len(), failed), (8, vec![region(3)]));
}

#[tokio::test]
async fn the_files_of_a_commit_come_back_only_when_no_record_can_name_them() {
    let (store, context) = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    let orphan = file(1, 1);
    let path = context.root.sst(orphan.key);
    store.put(&path, Bytes::from_static(b"sst").into()).await.unwrap();
    Manifest::open(&context, meta_region(), OPENER).await.unwrap();
    let edit = Edit { sequence: Some(orphan.meta.sequences.1), add: vec![orphan], ..Edit::new(Generation::FIRST) };
    let Ok(Outcome::Conflict { orphans, .. }) = manifest.commit(vec![Action::Edit(edit)]).await else { panic!("the writer is fenced") };
    orphans.delete(&context).await;
    assert!(store.get(&path).await.is_err());
}
