//! The store of the simulation, with everything that the actors share.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use imbl::OrdMap;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

use super::super::guard::Guard;
use super::super::record::{Kind, Record};
use super::super::store::{Layout, SlotStore, Tuning};
use super::Stats;
use super::actor::decode_entries;
use super::oracle::Oracle;
use crate::id::{Epoch, Nonce, Slot};
use crate::testing::random::Random;

/// Versions of the key set that a stale LIST may show.
const SNAPSHOTS: usize = 12;

#[derive(Debug)]
struct Shared {
    random: Random,
    objects: Arc<InMemory>,
    snapshots: VecDeque<OrdMap<Path, u64>>,
    net: Vec<(Path, Bytes)>,
    permits: usize,
    healthy: bool,
    nonces: u128,
    named_owner: usize,
    hint: Option<Slot>,
    oracle: Oracle,
    /// What happened, if anybody wants to know.
    trace: Option<Vec<String>>,
}

/// A cheap handle to the whole simulated world.
#[derive(Debug, Clone)]
pub(super) struct World {
    shared: Arc<Mutex<Shared>>,
    without: Option<Guard>,
}

impl World {
    pub(super) fn new(seed: u64, without: Option<Guard>, traced: bool) -> Self {
        let shared = Shared {
            random: Random::new(seed),
            objects: Arc::default(),
            snapshots: VecDeque::from([OrdMap::new()]),
            net: Vec::new(),
            permits: 0,
            healthy: false,
            nonces: 0,
            named_owner: 0,
            hint: None,
            oracle: Oracle::default(),
            trace: traced.then(Vec::new),
        };
        Self { shared: Arc::new(Mutex::new(shared)), without }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    /// The log as `actor` sees it, and the switch that lets its LISTs be stale.
    pub(super) fn slots(&self, actor: usize) -> (SlotStore, Arc<AtomicBool>) {
        let stale = Arc::new(AtomicBool::new(false));
        let store = SimStore { world: self.clone(), actor, stale: Arc::clone(&stale) };
        let zero = std::time::Duration::ZERO;
        let tuning = Tuning { tries: 2, backoff_min: zero, backoff_max: zero, chase: 1, ahead: 2 };
        (SlotStore::new(Arc::new(store), layout()).with(tuning, self.without), stale)
    }

    pub(super) fn object_store(&self, actor: usize) -> impl ObjectStore {
        SimStore { world: self.clone(), actor, stale: Arc::default() }
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.shared().random.below(end)
    }

    pub(super) fn chance(&self, of: u64, out_of: u64) -> bool {
        self.shared().random.chance(of, out_of)
    }

    pub(super) fn nonce(&self) -> Nonce {
        let mut shared = self.shared();
        shared.nonces += 1;
        Nonce(shared.nonces)
    }

    pub(super) fn name_owner(&self, actor: usize) {
        self.shared().named_owner = actor;
    }

    pub(super) fn is_named_owner(&self, actor: usize) -> bool {
        self.shared().named_owner == actor
    }

    pub(super) fn hint(&self) -> Option<Slot> {
        self.shared().hint
    }

    pub(super) fn set_hint(&self, slot: Slot) {
        self.shared().hint = Some(slot);
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.shared().healthy
    }

    pub(super) fn note(&self, actor: usize, what: impl fmt::Display) {
        self.shared().note(format_args!("{actor}: {what}"));
    }

    pub(super) fn trace(&self) -> String {
        self.shared().trace.as_ref().map_or_else(String::new, |trace| trace.join("\n"))
    }

    /// One more operation may be made.
    pub(super) fn permit_one(&self) {
        self.shared().permits = 1;
    }

    /// From now on the store works.
    pub(super) fn heal(&self) {
        self.shared().healthy = true;
    }

    pub(super) fn is_sound(&self) -> bool {
        self.shared().oracle.bad.is_none()
    }

    pub(super) fn broken(&self, what: String) {
        self.shared().oracle.broken(what);
    }

    pub(super) fn oracle(&self, see: impl FnOnce(&mut Oracle)) {
        see(&mut self.shared().oracle);
    }

    pub(super) fn verdict(&self) -> std::result::Result<Stats, String> {
        let shared = self.shared();
        shared.oracle.bad.clone().map_or(Ok(shared.oracle.stats), Err)
    }

    /// A delayed put arrives; false if there is none.
    pub(super) fn land_one(&self) -> bool {
        let (path, bytes) = {
            let mut shared = self.shared();
            if shared.net.is_empty() {
                return false;
            }
            let index = shared.random.next() as usize % shared.net.len();
            shared.net.swap_remove(index)
        };
        let created = self.create(&path, bytes);
        let how = if created { "lands" } else { "comes too late" };
        self.shared().note(format_args!("net: {how} at {path}"));
        true
    }

    /// Creates the object, if there is none, and tells the oracle.
    fn create(&self, path: &Path, bytes: Bytes) -> bool {
        let mut shared = self.shared();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = shared.objects.put_opts(path, bytes.clone().into(), options).now_or_never();
        if put.expect("the in-memory store answers at once").is_err() {
            return false;
        }
        shared.changed(|keys| {
            keys.insert(path.clone(), bytes.len() as u64);
        });
        shared.appeared(path, &bytes);
        true
    }
}

impl Shared {
    fn note(&mut self, what: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("  {what}"));
        }
    }

    fn changed(&mut self, change: impl FnOnce(&mut OrdMap<Path, u64>)) {
        let mut keys = self.snapshots.back().cloned().unwrap_or_default();
        change(&mut keys);
        self.snapshots.push_back(keys);
        if self.snapshots.len() > SNAPSHOTS {
            self.snapshots.pop_front();
        }
    }

    fn appeared(&mut self, path: &Path, bytes: &Bytes) {
        let Some(slot) = path.filename().and_then(|name| layout().parse(name)) else { return };
        let record = Record::decode(slot, bytes).expect("actors write whole records");
        if record.kind == Kind::Seal && record.prev.is_none() && slot != Slot::new(Epoch(1), 0) {
            self.oracle.stats.ahead += 1;
        }
        let keys = self.snapshots.back().into_iter().flat_map(OrdMap::keys);
        let checkpoints = keys.filter_map(|path| layout().parse_checkpoint(path.filename()?));
        if record.kind == Kind::Seal && checkpoints.max() > Some(slot) {
            self.oracle.stats.void += 1;
        }
        if record.kind == Kind::Open {
            self.oracle.opened(slot.epoch, record.writer, decode_entries(&record.body));
        }
    }
}

pub(super) fn layout() -> Layout {
    Layout { folder: Path::from("log"), extension: "json" }
}

/// What becomes of a create.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Done,
    LostResponse,
    SaysExists,
    NotDone,
    ExistsWithoutObject,
    Delayed,
    DoneTwice,
}

#[derive(Debug)]
struct SimStore {
    world: World,
    actor: usize,
    stale: Arc<AtomicBool>,
}

impl SimStore {
    /// Waits for the scheduler.
    async fn turn(&self) {
        turn(self.world.clone()).await;
    }

    /// An answer may take any time.
    async fn answer(&self) {
        if self.world.chance(1, 5) {
            self.turn().await;
        }
    }

    fn fails(&self) -> bool {
        !self.world.is_healthy() && self.world.chance(1, 60)
    }

    fn fate(&self) -> Fate {
        if self.world.is_healthy() {
            return Fate::Done;
        }
        match self.world.below(40) {
            0 => Fate::LostResponse,
            1 => Fate::SaysExists,
            2 => Fate::NotDone,
            3 => Fate::ExistsWithoutObject,
            4 | 5 => Fate::Delayed,
            6 => Fate::DoneTwice,
            _ => Fate::Done,
        }
    }
}

async fn turn(world: World) {
    poll_fn(|context| {
        let mut shared = world.shared();
        if shared.permits == 0 {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        shared.permits -= 1;
        Poll::Ready(())
    })
    .await;
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

fn lost() -> object_store::Error {
    object_store::Error::Generic { store: "SimStore", source: "connection reset".into() }
}

fn exists(path: &Path) -> object_store::Error {
    object_store::Error::AlreadyExists { path: path.to_string(), source: "it is there".into() }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.turn().await;
        let bytes = Bytes::from(payload);
        let fate = self.fate();
        let created = match fate {
            Fate::NotDone | Fate::ExistsWithoutObject => false,
            Fate::Delayed => {
                self.world.shared().net.push((location.clone(), bytes.clone()));
                false
            }
            Fate::DoneTwice => {
                self.world.shared().net.push((location.clone(), bytes.clone()));
                self.world.create(location, bytes)
            }
            Fate::Done | Fate::LostResponse | Fate::SaysExists => self.world.create(location, bytes),
        };
        self.world.note(self.actor, format_args!("put {location}: {fate:?}, created: {created}"));
        self.answer().await;
        match fate {
            Fate::Done | Fate::DoneTwice if created => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            Fate::NotDone | Fate::Delayed | Fate::LostResponse => Err(lost()),
            _ => Err(exists(location)),
        }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(object_store::Error::NotImplemented { operation: "multipart".into(), implementer: "SimStore".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.turn().await;
        if self.fails() {
            return Err(lost());
        }
        let objects = Arc::clone(&self.world.shared().objects);
        let found = objects.get_opts(location, options).await;
        self.world.note(self.actor, format_args!("get {location}: found: {}", found.is_ok()));
        self.answer().await;
        found
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let objects = Arc::clone(&self.world.shared().objects);
        objects.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let (world, actor) = (self.world.clone(), self.actor);
        let delete = move |path: Result<Path>| {
            let world = world.clone();
            async move {
                let path = path?;
                turn(world.clone()).await;
                if world.chance(1, 10) {
                    return Err(lost());
                }
                let objects = Arc::clone(&world.shared().objects);
                objects.delete(&path).await?;
                let mut shared = world.shared();
                shared.changed(|keys| {
                    keys.remove(&path);
                });
                shared.note(format_args!("{actor}: delete {path}"));
                Ok(path)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.list_with_offset(prefix, &Path::default())
    }

    fn list_with_offset(&self, _: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let (world, actor, offset) = (self.world.clone(), self.actor, offset.clone());
        let stale = Arc::clone(&self.stale);
        let listing = async move {
            turn(world.clone()).await;
            let mut shared = world.shared();
            let failed = !shared.healthy && shared.random.chance(1, 60);
            let stale = !shared.healthy && stale.load(Ordering::Relaxed) && shared.random.chance(1, 3);
            let keys = shared.list(stale);
            shared.note(format_args!("{actor}: list after '{offset}', stale: {stale}, failed: {failed}"));
            if failed {
                return vec![Err(lost())];
            }
            keys.into_iter().filter(|(path, _)| *path > offset).map(|(path, size)| Ok(meta(path, size))).collect()
        };
        futures::stream::once(listing).flat_map(futures::stream::iter).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(object_store::Error::NotImplemented { operation: "delimiter".into(), implementer: "SimStore".into() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(object_store::Error::NotImplemented { operation: "copy".into(), implementer: "SimStore".into() })
    }
}

impl Shared {
    /// The key set; a stale one mixes an older set with the present one, key by key.
    fn list(&mut self, stale: bool) -> OrdMap<Path, u64> {
        let mut keys = self.snapshots.back().cloned().unwrap_or_default();
        if stale {
            let index = self.random.next() as usize % self.snapshots.len();
            let old = self.snapshots[index].clone();
            let torn = self.random.chance(1, 2);
            for (path, size) in &old {
                if !keys.contains_key(path) && (!torn || self.random.chance(1, 2)) {
                    keys.insert(path.clone(), *size);
                }
            }
            let random = &mut self.random;
            keys = keys.into_iter().filter(|(path, _)| old.contains_key(path) || (torn && random.chance(1, 2))).collect();
        }
        keys
    }
}

fn meta(location: Path, size: u64) -> ObjectMeta {
    ObjectMeta { location, last_modified: chrono::DateTime::UNIX_EPOCH, size, e_tag: None, version: None }
}
