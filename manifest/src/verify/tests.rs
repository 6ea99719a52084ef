//! Tests of the check: sound logs of every shape have no problem, and each kind of damage is found by name.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures::{FutureExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use ulid::Ulid;

use super::*;
use crate::action::{Action, Edit};
use crate::env::Env;
use crate::file::{FileMeta, FileRef, Scope};
use crate::id::{ColumnId, FileId, FileKey, Generation, NodeId, RegionNumber, Sequence, TableId};
use crate::log::{Manifest, Opener, Outcome, Settings};
use crate::meta::RegionMeta;
use crate::paths::Root;
use crate::rule::Expr;
use crate::schema::{Column, Schema, SemanticType};
use crate::testing::Counting;
use crate::value::{DataType, TimeUnit};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
const OPENER: Opener = Opener { node: NodeId(1), wal: None };
const CONTENT: &[u8] = b"rows";

fn context() -> Context {
    let settings = Settings { history: Duration::ZERO, background: false, ..Settings::default() };
    let env = Env::from_source(Arc::new(Counting::default()));
    Context { settings, ..Context::new(Arc::new(InMemory::new()), Root::default(), env) }
}

fn meta() -> Arc<RegionMeta> {
    let (data_type, semantic) = (DataType::Timestamp(TimeUnit::Millisecond), SemanticType::TimeIndex);
    let ts = Column { id: ColumnId(0), name: "ts".into(), data_type, semantic, nullable: false, default: None, comment: None };
    Arc::new(RegionMeta {
        region: REGION,
        database: "public".into(),
        table: "t".into(),
        schema: Arc::new(Schema::new(vec![ts], vec![]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}

/// Writes SSTs and commits each.
async fn add(manifest: &mut Manifest, context: &Context, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let sequence = Sequence::new(Generation::FIRST, u64::from(number)).unwrap();
        let meta = FileMeta {
            time_range: (0, 10),
            rows: 5,
            deletes: 0,
            bytes: CONTENT.len() as u64,
            sequences: (sequence, sequence),
            level: 0,
            generation: Generation::FIRST,
            schema_version: 1,
            rule: Arc::new(Expr::always()),
            stats: [].into(),
            crc32: crc32fast::hash(CONTENT),
        };
        let key = FileKey { origin: REGION, file: FileId::new(manifest.epoch(), Ulid(number.into())) };
        context.store.put(&context.root.sst(key), CONTENT.into()).await.unwrap();
        let file = Arc::new(FileRef { key, scope: Scope::all(), meta });
        let edit = Edit { sequence: Some(sequence), add: vec![file], ..Edit::new(Generation::FIRST) };
        assert!(matches!(manifest.commit(vec![Action::Edit(edit)]).await, Ok(Outcome::Committed(_))));
    }
}

/// Three epochs, three checkpoints, one of them pinned and behind the floor; old records are gone.
async fn history(context: &Context) -> Manifest {
    let mut manifest = Manifest::create(context, meta(), OPENER).await.unwrap();
    add(&mut manifest, context, 1..3).await;
    let mut manifest = Manifest::open(context, REGION, OPENER).await.unwrap();
    add(&mut manifest, context, 3..5).await;
    assert!(matches!(manifest.snapshot("kept", None).await, Ok(Outcome::Committed(_))));
    for first in [5, 8, 11] {
        add(&mut manifest, context, first..first + 3).await;
        manifest.checkpoint().await.unwrap();
    }
    add(&mut manifest, context, 14..16).await;
    assert!(manifest.retain().await.unwrap().records > 0);
    let mut manifest = Manifest::open(context, REGION, OPENER).await.unwrap();
    add(&mut manifest, context, 16..18).await;
    manifest
}

async fn names(context: &Context, part: &str) -> Vec<Path> {
    let objects: Vec<_> = context.store.list(None).try_collect().await.unwrap();
    let mut paths: Vec<Path> = objects.into_iter().map(|object| object.location).collect();
    paths.retain(|path| path.as_ref().contains(part));
    paths.sort();
    paths
}

async fn report(context: &Context, files: Files) -> Report {
    verify(context, REGION, files, &()).await.unwrap()
}

/// The objects that the check complains of.
async fn complaints(context: &Context) -> Vec<String> {
    report(context, Files::Crc).await.problems.into_iter().map(|problem| problem.object).collect()
}

async fn flip(context: &Context, path: &Path, at: usize) -> Bytes {
    let before = context.store.get(path).await.unwrap().bytes().await.unwrap();
    let mut bytes = before.to_vec();
    bytes[at % before.len()] ^= 1;
    context.store.put(path, bytes.into()).await.unwrap();
    before
}

#[tokio::test]
async fn a_sound_region_has_no_problem_in_any_shape() {
    let context = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    assert_eq!(report(&context, Files::Crc).await.problems, []);
    add(&mut manifest, &context, 1..3).await;
    manifest.checkpoint().await.unwrap();
    let found = report(&context, Files::Crc).await;
    assert_eq!((found.records, found.replayed, found.checkpoints, found.compared, found.files), (3, 3, 1, 1, 2));
    assert_eq!((found.problems, found.version), (vec![], manifest.state().version()));
    manifest.seal().await.unwrap();
    assert_eq!(report(&context, Files::Size).await.problems, []);
}

#[tokio::test]
async fn what_retention_deleted_is_no_gap_and_what_it_left_is_checked() {
    let context = context();
    let manifest = history(&context).await;
    let found = report(&context, Files::Crc).await;
    assert_eq!(found.problems, []);
    assert_eq!((found.version, found.files), (manifest.state().version(), 17));
    assert!(found.replayed < found.records && found.checkpoints == 3 && found.compared == 1, "{found:?}");
}

#[tokio::test]
async fn a_region_that_is_not_there_is_an_error() {
    assert!(matches!(verify(&context(), REGION, Files::Skip, &()).await, Err(Error::NotFound { .. })));
}

#[tokio::test]
async fn a_flipped_bit_in_any_object_is_found_by_its_name() {
    let context = context();
    history(&context).await;
    let paths = names(&context, "").await;
    assert!(paths.len() > 25, "{paths:?}");
    for (index, path) in paths.iter().enumerate() {
        let before = flip(&context, path, 31 * index + 7).await;
        assert_eq!(complaints(&context).await, [path.as_ref()], "bit flipped");
        context.store.put(path, before.into()).await.unwrap();
    }
    assert_eq!(complaints(&context).await, [""; 0]);
}

#[tokio::test]
async fn every_problem_is_reported_not_just_the_first() {
    let context = context();
    history(&context).await;
    let paths = names(&context, "").await;
    let sst = paths.iter().find(|path| path.as_ref().contains("/sst/")).unwrap();
    let root = paths.iter().find(|path| path.as_ref().ends_with(".checkpoint")).unwrap();
    let record = paths.iter().find(|path| path.as_ref().ends_with(".json")).unwrap();
    context.store.delete(sst).await.unwrap();
    flip(&context, root, 400).await;
    flip(&context, record, 30).await;
    let mut found = complaints(&context).await;
    found.sort();
    assert_eq!(found, [record.as_ref(), root.as_ref(), sst.as_ref()]);
}

#[tokio::test]
async fn a_record_that_is_missing_where_retention_has_not_been_is_found() {
    let context = context();
    let manifest = history(&context).await;
    let base = manifest.state().replay_base().unwrap();
    let records = names(&context, ".json").await;
    let records: Vec<&Path> = records.iter().filter(|path| path.filename().unwrap() > base.to_string().as_str()).collect();
    let (_, inner) = records.split_last().unwrap();
    for path in inner {
        let before = context.store.get(path).await.unwrap().bytes().await.unwrap();
        context.store.delete(path).await.unwrap();
        let found = report(&context, Files::Skip).await.problems;
        assert!(found.iter().any(|problem| problem.object == path.as_ref() && problem.what.contains("missing")), "{path}: {found:?}");
        context.store.put(path, before.into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_missing_checkpoint_or_segment_that_a_record_names_is_found() {
    let context = context();
    history(&context).await;
    for path in names(&context, ".checkpoint").await.into_iter().chain(names(&context, "/seg/").await) {
        let before = context.store.get(&path).await.unwrap().bytes().await.unwrap();
        context.store.delete(&path).await.unwrap();
        let found = complaints(&context).await;
        assert!(found.iter().any(|object| object == path.as_ref()), "{path}: {found:?}");
        context.store.put(&path, before.into()).await.unwrap();
    }
}

#[tokio::test]
async fn a_checkpoint_with_honest_checksums_that_is_another_state_is_found() {
    let context = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, &context, 1..3).await;
    let version = manifest.checkpoint().await.unwrap().version;
    let (mut root, _) = crate::checkpoint::read_root(&context, REGION, version).await.unwrap();
    let text = serde_json::to_string(&root.image).unwrap().replace("\"retired\":false", "\"retired\":true");
    root.image = serde_json::from_str(&text).unwrap();
    let path = context.root.manifest(REGION).checkpoint_path(version);
    context.store.put(&path, root.encode().into()).await.unwrap();
    let found = report(&context, Files::Skip).await.problems;
    assert!(found.len() == 1 && found[0].object == path.as_ref() && found[0].what.contains("not the state"), "{found:?}");
}

#[tokio::test]
async fn a_file_of_another_size_is_found_without_reading_it() {
    let context = context();
    let mut manifest = Manifest::create(&context, meta(), OPENER).await.unwrap();
    add(&mut manifest, &context, 1..3).await;
    let sst = &names(&context, "/sst/").await[0];
    context.store.put(sst, Bytes::from_static(b"ROWS").into()).await.unwrap();
    assert_eq!(report(&context, Files::Size).await.problems, []);
    context.store.put(sst, Bytes::from_static(b"more rows").into()).await.unwrap();
    let found = report(&context, Files::Size).await.problems;
    assert!(found.len() == 1 && found[0].what.contains("9 bytes, 4 are recorded"), "{found:?}");
    assert_eq!(report(&context, Files::Skip).await.files, 0);
}

/// Lets a writer go on between the LIST and the reads.
struct Meanwhile(std::sync::Mutex<Option<(Context, Manifest)>>);

impl Progress for Meanwhile {
    fn expect(&self, _: u64) {
        let Some((context, mut manifest)) = self.0.lock().unwrap().take() else { return };
        let work = async {
            for first in [20, 23, 26] {
                add(&mut manifest, &context, first..first + 3).await;
                manifest.checkpoint().await.unwrap();
            }
            add(&mut manifest, &context, 30..32).await;
            manifest.retain().await.unwrap()
        };
        let retained = work.now_or_never().expect("a store in memory answers at once");
        assert!(retained.records > 0 && retained.checkpoints > 0, "{retained:?}");
    }

    fn done(&self, _: u64) {}
}

#[tokio::test]
async fn a_writer_and_its_retention_cause_no_false_alarm() {
    let context = context();
    let manifest = history(&context).await;
    let before = manifest.state().version();
    let meanwhile = Meanwhile(std::sync::Mutex::new(Some((context.clone(), manifest))));
    let found = verify(&context, REGION, Files::Crc, &meanwhile).await.unwrap();
    assert_eq!(found.problems, []);
    assert!(found.version > before, "{found:?}");
}
