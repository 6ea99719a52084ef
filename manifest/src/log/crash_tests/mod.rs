//! The crash matrix of the manifest log: each scenario dies before and after each of its store operations, and
//! once more with a create that arrives after the next opener is done.
//!
//! After each crash: what is found is a prefix of the scenario that holds everything acknowledged; a reader and an
//! opener agree; what checkpoints and tail give is the replay of all records from the first on; every version that
//! is promised can be read; and retention cleans up and leaves a region that can be read.

mod scenarios;

use std::sync::Mutex;

use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use object_store::memory::InMemory;

use super::*;
use crate::testing::sample::{OPENER, REGION, meta};
use crate::testing::{Archive, Counting, Crash, CrashStore};

type Scenario = fn(Context, Acked) -> BoxFuture<'static, ()>;

/// What was acknowledged, in order: the states, without what differs from one opening to the next.
#[derive(Debug, Clone, Default)]
struct Acked(Arc<Mutex<Vec<RegionState>>>);

impl Acked {
    fn push(&self, state: &RegionState) {
        self.0.lock().unwrap().push(state.clone());
    }

    fn all(&self) -> Vec<RegionState> {
        self.0.lock().unwrap().clone()
    }
}

/// Whether readers of the two states could not tell them apart: all but who writes, and what is noted of history.
fn same(one: &RegionState, other: &RegionState) -> bool {
    let seen = |state: &RegionState| {
        let files = (state.files().clone(), state.removed().clone(), state.doomed().clone());
        let of_wals = state.wals().iter().map(|wal| (wal.id, wal.flushed)).collect::<Vec<_>>();
        let ends = (state.is_dropped(), state.is_retired(), state.staging().cloned());
        (state.meta().cloned(), files, of_wals, ends, state.flushed_sequence(), state.pins().clone())
    };
    seen(one) == seen(other)
}

fn context(store: CrashStore, source: &Arc<Counting>) -> Context {
    let env = Env::from_source(Arc::<Counting>::clone(source));
    let settings = Settings { background: false, history: Duration::ZERO, ..Settings::default() };
    Context { settings, ..Context::new(Arc::new(store), Root::default(), env) }
}

/// A run up to the crash.
struct Run {
    source: Arc<Counting>,
    objects: Arc<InMemory>,
    archive: Arc<Mutex<Archive>>,
    store: CrashStore,
    acked: Vec<RegionState>,
}

fn run(scenario: Scenario, crash: Crash) -> Run {
    let (source, objects, archive) = (Arc::<Counting>::default(), Arc::new(InMemory::new()), Arc::default());
    let store = CrashStore::new(Arc::clone(&objects), Arc::clone(&archive), crash);
    let acked = Acked::default();
    let finished = scenario(context(store.clone(), &source), acked.clone()).now_or_never();
    assert_eq!(finished.is_some(), crash == Crash::Never, "{crash:?}");
    Run { source, objects, archive, store, acked: acked.all() }
}

/// What a crash left behind, seen by processes that live on.
struct Aftermath {
    what: String,
    context: Context,
    archive: Arc<Mutex<Archive>>,
}

impl Aftermath {
    /// What a reader finds, which must be what replay of everything ever written gives.
    async fn found(&self) -> RegionState {
        let found = load(&self.context, REGION).await.unwrap_or_else(|error| panic!("{}: {error}", self.what));
        assert_eq!(Some(&found), self.archive.lock().unwrap().newest().as_ref(), "{}: checkpoint and tail are not the replay", self.what);
        found
    }

    /// The oldest versions that are promised, and every pinned one, read as they were.
    async fn check_history(&self, newest: &RegionState) {
        let states = self.archive.lock().unwrap().states().clone();
        let pinned: Vec<Slot> = newest.pins().values().map(|pin| pin.checkpoint.version).collect();
        let promised = states.range(newest.floor()..).take(2);
        for (version, state) in promised.chain(states.iter().filter(|(version, _)| pinned.contains(version))) {
            let found = load_at(&self.context, REGION, *version).await.unwrap_or_else(|error| panic!("{}, {version}: {error}", self.what));
            assert_eq!(&found, state, "{}: version {version}", self.what);
        }
    }

    /// Goes on after the crash for long enough that retention leaves nothing of what was before; and nothing is left
    /// that no root names.
    async fn go_on(&self, mut manifest: Manifest) {
        for _ in 0..3 {
            let version = manifest.state().floor();
            manifest.checkpoint().await.unwrap();
            let committed = manifest.commit(vec![Action::Floor(action::Floor { version })]).await;
            assert!(matches!(committed, Ok(Outcome::Committed(_))), "{}: {committed:?}", self.what);
        }
        let retained = manifest.retain().await.unwrap();
        assert!(retained.behind.is_some() && retained.failed == 0, "{}: {retained:?}", self.what);
        let found = self.found().await;
        assert_eq!(&found, manifest.state(), "{}", self.what);
        self.check_history(&found).await;
        self.check_nothing_is_left(&found).await;
    }

    async fn check_nothing_is_left(&self, state: &RegionState) {
        let base = state.replay_base().expect("there are two checkpoints");
        let listing = slot_store(&self.context, REGION).list(None).await.unwrap();
        let needed: Vec<Slot> = state.pins().values().map(|pin| pin.checkpoint.version).collect();
        let stray = listing.checkpoints.iter().find(|version| **version < base && !needed.contains(version));
        assert_eq!(stray, None, "{}: a checkpoint is left", self.what);
        let mut named: Vec<_> = state.remap_segments().map(|segment| segment.file).collect();
        for version in listing.checkpoints {
            let (root, _) = crate::checkpoint::read_root(&self.context, REGION, version).await.unwrap();
            named.extend(root.segments.iter().map(|entry| entry.segment.file));
        }
        let folder = self.context.root.segments(REGION);
        let objects: Vec<_> = self.context.store.list(Some(&folder)).try_collect().await.unwrap();
        let named: Vec<_> = named.into_iter().map(|file| self.context.root.segment(REGION, file)).collect();
        let stray: Vec<_> = objects.iter().map(|object| &object.location).filter(|path| !named.contains(path)).collect();
        assert!(stray.is_empty(), "{}: segments are left: {stray:?}", self.what);
    }
}

async fn check(name: &str, scenario: Scenario, crash: Crash, versions: &[RegionState]) {
    let Run { source, objects, archive, store, acked } = run(scenario, crash);
    assert_eq!(acked[..], versions[..acked.len()], "{name}, {crash:?}");
    let healthy = context(CrashStore::new(objects, Arc::clone(&archive), Crash::Never), &source);
    let after = Aftermath { what: format!("{name}, {crash:?}"), context: healthy.clone(), archive };
    let before = match load(&healthy, REGION).await {
        Ok(_) => Some(after.found().await),
        Err(Error::NotFound { .. }) if acked.is_empty() => None,
        Err(error) => panic!("{name}, {crash:?}: {error}"),
    };
    let mut manifest = match &before {
        None => Manifest::create(&healthy, meta("t"), OPENER).await.unwrap(),
        // A dropped region is taken over only to look after what is left of it.
        Some(state) if state.is_dropped() => Manifest::open_ownerless(&healthy, REGION, NodeId(1)).await.unwrap(),
        Some(_) => Manifest::open(&healthy, REGION, OPENER).await.unwrap(),
    };
    let found = manifest.state().clone();
    assert_eq!(found, after.found().await, "{name}, {crash:?}: a reader and an opener differ");
    assert!(before.is_none_or(|before| same(&before, &found)), "{name}, {crash:?}: opening changes the region");
    let at_least = acked.len().saturating_sub(1);
    assert!(versions[at_least..].iter().any(|state| same(state, &found)), "{name}, {crash:?}: {found:?} after {acked:?}");
    store.land();
    assert_eq!(after.found().await, found, "{name}, {crash:?}: a late create changes history");
    after.check_history(&found).await;
    manifest.retain().await.unwrap();
    assert_eq!(after.found().await, found, "{name}, {crash:?}: retention changes the region");
    after.go_on(manifest).await;
}

/// Runs the whole matrix of one scenario; answers with how often it crashed.
async fn crash_everywhere(name: &str, scenario: Scenario) -> usize {
    let Run { store, acked: versions, .. } = run(scenario, Crash::Never);
    let operations = store.operations();
    assert!(operations > 1, "{name}");
    for at in 0..operations {
        for crash in [Crash::Before(at), Crash::After(at), Crash::Late(at)] {
            check(name, scenario, crash, &versions).await;
        }
    }
    3 * operations
}

/// Every crash leaves a prefix with everything acknowledged.
macro_rules! matrix {
    ($($scenario:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $scenario() {
            let crashes = crash_everywhere(stringify!($scenario), |context, acked| scenarios::$scenario(context, acked).boxed()).await;
            println!("{} crashes", crashes);
        }
    )*};
}

matrix!(
    create,
    edits,
    take_over,
    clean_end,
    drop_region,
    checkpoint,
    many_checkpoints,
    checkpoints_of_two_epochs,
    repartition,
    checkpointed_repartition,
    abort,
    retire,
    snapshot,
    rollback,
);
