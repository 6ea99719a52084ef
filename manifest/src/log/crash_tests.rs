//! The crash matrix of the manifest log: each scenario dies before and after each of its store operations, and
//! once more with a create that arrives after the next opener is done.

use std::collections::BTreeMap;
use std::sync::Mutex;

use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::memory::InMemory;
use ulid::Ulid;

use super::*;
use crate::action::{Change, Drop, Edit, Truncate};
use crate::file::{FileMeta, FileRef, Scope};
use crate::id::{ColumnId, FileId, FileKey, Generation, RegionNumber, Sequence, TableId};
use crate::rule::Expr;
use crate::schema::{Column, Schema, SemanticType};
use crate::testing::{Counting, Crash, CrashStore};
use crate::value::{DataType, TimeUnit};

const REGION: RegionId = RegionId::new(TableId(1024), RegionNumber(0));
const OPENER: Opener = Opener { node: NodeId(1), wal: None };

fn meta(table: &str) -> Arc<RegionMeta> {
    let ts = Column {
        id: ColumnId(0),
        name: "ts".into(),
        data_type: DataType::Timestamp(TimeUnit::Millisecond),
        semantic: SemanticType::TimeIndex,
        nullable: false,
        default: None,
        comment: None,
    };
    Arc::new(RegionMeta {
        region: REGION,
        database: "public".into(),
        table: table.into(),
        schema: Arc::new(Schema::new(vec![ts], vec![]).unwrap()),
        partition_columns: vec![],
        rule: Arc::new(Expr::always()),
        generation: Generation::FIRST,
        options: BTreeMap::new(),
    })
}

fn key(epoch: u32, ulid: u128) -> FileKey {
    FileKey { origin: REGION, file: FileId::new(Epoch(epoch), Ulid(ulid)) }
}

fn sequence(counter: u64) -> Sequence {
    Sequence::new(Generation::FIRST, counter).unwrap()
}

fn file(epoch: u32, ulid: u64) -> Arc<FileRef> {
    let meta = FileMeta {
        time_range: (0, 10),
        rows: 5,
        deletes: 0,
        bytes: 100,
        sequences: (sequence(0), sequence(ulid)),
        level: 0,
        generation: Generation::FIRST,
        schema_version: 1,
        rule: Arc::new(Expr::always()),
        stats: [].into(),
        crc32: 1,
    };
    Arc::new(FileRef { key: key(epoch, ulid.into()), scope: Scope::all(), meta })
}

fn edit(add: Vec<Arc<FileRef>>, remove: Vec<FileKey>) -> Vec<Action> {
    let sequence = add.iter().map(|file| file.meta.sequences.1).max();
    vec![Action::Edit(Edit { add, remove, sequence, ..Edit::new(Generation::FIRST) })]
}

/// What a reader could tell apart.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    table: Option<String>,
    files: Vec<FileKey>,
    removed: Vec<FileKey>,
    sequence: Sequence,
    dropped: bool,
}

fn seen(state: &RegionState) -> Seen {
    Seen {
        table: state.meta().map(|meta| meta.table.clone()),
        files: state.files().keys().collect(),
        removed: state.removed().keys().copied().collect(),
        sequence: state.flushed_sequence(),
        dropped: state.is_dropped(),
    }
}

/// What was acknowledged, in order.
#[derive(Debug, Clone, Default)]
struct Acked(Arc<Mutex<Vec<Seen>>>);

impl Acked {
    fn push(&self, state: &RegionState) {
        self.0.lock().unwrap().push(seen(state));
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

async fn commit(manifest: &mut Manifest, acked: &Acked, actions: Vec<Action>) {
    match manifest.commit(actions).await {
        Ok(Outcome::Committed(state)) => acked.push(&state),
        other => panic!("a healthy store commits: {other:?}"),
    }
}

async fn create(context: Context, acked: Acked) {
    let manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    acked.push(manifest.state());
}

async fn edits(context: Context, acked: Acked) {
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    acked.push(manifest.state());
    commit(&mut manifest, &acked, edit(vec![file(1, 1), file(1, 2)], vec![])).await;
    commit(&mut manifest, &acked, edit(vec![file(1, 3)], vec![key(1, 1), key(1, 2)])).await;
    commit(&mut manifest, &acked, vec![Action::Change(Change { meta: meta("renamed") })]).await;
    let truncate = Truncate { generation: Generation::FIRST, flushed: vec![], sequence: sequence(9) };
    commit(&mut manifest, &acked, vec![Action::Truncate(truncate)]).await;
    commit(&mut manifest, &acked, edit(vec![file(1, 10)], vec![])).await;
}

async fn take_over(context: Context, acked: Acked) {
    let mut first = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    acked.push(first.state());
    commit(&mut first, &acked, edit(vec![file(1, 1)], vec![])).await;
    let mut second = Manifest::open(&context, REGION, OPENER).await.unwrap();
    assert!(matches!(first.commit(edit(vec![file(1, 2)], vec![])).await, Ok(Outcome::Conflict { .. })));
    commit(&mut second, &acked, edit(vec![file(2, 3)], vec![key(1, 1)])).await;
    let mut third = Manifest::open(&context, REGION, OPENER).await.unwrap();
    commit(&mut third, &acked, edit(vec![file(3, 4)], vec![])).await;
}

async fn drop_region(context: Context, acked: Acked) {
    let mut manifest = Manifest::create(&context, meta("t"), OPENER).await.unwrap();
    acked.push(manifest.state());
    commit(&mut manifest, &acked, edit(vec![file(1, 1)], vec![])).await;
    commit(&mut manifest, &acked, vec![Action::Drop(Drop {})]).await;
}

type Scenario = fn(Context, Acked) -> BoxFuture<'static, ()>;

const SCENARIOS: [(&str, Scenario); 4] = [
    ("create", |context, acked| create(context, acked).boxed()),
    ("edits", |context, acked| edits(context, acked).boxed()),
    ("take-over", |context, acked| take_over(context, acked).boxed()),
    ("drop", |context, acked| drop_region(context, acked).boxed()),
];

fn context(store: CrashStore, source: &Arc<Counting>) -> Context {
    let env = Env::from_source(Arc::<Counting>::clone(source));
    let settings = Settings { background: false, history: Duration::ZERO, ..Settings::default() };
    Context { settings, ..Context::new(Arc::new(store), Root::default(), env) }
}

/// A run up to the crash: its objects, its store, and what was acknowledged.
fn run(scenario: Scenario, crash: Crash, source: &Arc<Counting>) -> (Arc<InMemory>, CrashStore, Vec<Seen>) {
    let objects = Arc::new(InMemory::new());
    let store = CrashStore::new(Arc::clone(&objects), crash);
    let acked = Acked::default();
    let finished = scenario(context(store.clone(), source), acked.clone()).now_or_never();
    assert_eq!(finished.is_some(), crash == Crash::Never, "{crash:?}");
    (objects, store, acked.all())
}

async fn check(name: &str, scenario: Scenario, crash: Crash, versions: &[Seen]) {
    let source = Arc::new(Counting::default());
    let (objects, store, acked) = run(scenario, crash, &source);
    assert_eq!(acked[..], versions[..acked.len()], "{name}, {crash:?}");
    let healthy = context(CrashStore::new(objects, Crash::Never), &source);
    let found = match Manifest::open(&healthy, REGION, OPENER).await {
        Ok(manifest) => seen(manifest.state()),
        // A dropped region is never taken over.
        Err(Error::Dropped { .. }) => seen(&load(&healthy, REGION).await.unwrap()),
        Err(Error::NotFound { .. }) if acked.is_empty() => {
            let manifest = Manifest::create(&healthy, meta("t"), OPENER).await.unwrap();
            seen(manifest.state())
        }
        Err(error) => panic!("{name}, {crash:?}: {error}"),
    };
    let at_least = acked.len().saturating_sub(1);
    assert!(versions[at_least..].contains(&found), "{name}, {crash:?}: {found:?} after {acked:?}");
    store.land();
    assert_eq!(seen(&load(&healthy, REGION).await.unwrap()), found, "{name}, {crash:?}: a late create changes history");
}

#[tokio::test]
async fn a_crash_at_any_operation_leaves_a_prefix_with_everything_acknowledged() {
    for (name, scenario) in SCENARIOS {
        let (_, store, versions) = run(scenario, Crash::Never, &Arc::default());
        let operations = store.operations();
        assert!(operations > 1, "{name}");
        for at in 0..operations {
            for crash in [Crash::Before(at), Crash::After(at), Crash::Late(at)] {
                check(name, scenario, crash, &versions).await;
            }
        }
    }
}
