//! What the actors share: the objects, the tickets, what is under way, and what must hold.
//!
//! - A commit is acknowledged only if its record was created before the `Open` of any later epoch.
//! - Whatever anybody reads of a version is what replay of all records ever written gives for it.
//! - Every acknowledged record is part of the log for ever, and nobody ever takes the log for damaged.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures::FutureExt;
use imbl::OrdSet;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use tokio::sync::oneshot;

use super::store::SimStore;
use crate::env::{Env, Source};
use crate::error::{Error, ErrorClass};
use crate::id::Slot;
use crate::log::{Context, Settings};
use crate::paths::Root;
use crate::slot::Kind;
use crate::state::RegionState;
use crate::testing::Archive;
use crate::testing::random::Random;
use crate::testing::sample::REGION;

/// Versions of the key set that a stale LIST may show.
const SNAPSHOTS: usize = 16;

/// What a run did, to show that the runs reach what they should.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Stats {
    pub(super) operations: usize,
    pub(super) opened: usize,
    pub(super) acked: usize,
    pub(super) fenced: usize,
    pub(super) unknown: usize,
    pub(super) checkpoints: usize,
    pub(super) zombie_checkpoints: usize,
    pub(super) retained: usize,
    pub(super) zombie_retentions: usize,
    pub(super) snapshots: usize,
    pub(super) remaps: usize,
    pub(super) reads: usize,
    pub(super) ended: usize,
}

impl Stats {
    fn fields(&mut self) -> [(&'static str, &mut usize); 13] {
        let Self { operations, opened, acked, fenced, unknown, checkpoints, zombie_checkpoints, .. } = self;
        let Self { retained, zombie_retentions, snapshots, remaps, reads, ended, .. } = self;
        [
            ("operations", operations),
            ("take-overs", opened),
            ("acknowledged commits", acked),
            ("fenced writers", fenced),
            ("unknown outcomes", unknown),
            ("checkpoints", checkpoints),
            ("checkpoints by zombies", zombie_checkpoints),
            ("retention runs", retained),
            ("retention runs by zombies", zombie_retentions),
            ("snapshots", snapshots),
            ("remaps", remaps),
            ("reads", reads),
            ("ended regions", ended),
        ]
    }

    pub(super) fn add(&mut self, mut other: Self) {
        for ((_, sum), (_, more)) in self.fields().into_iter().zip(other.fields()) {
            *sum += *more;
        }
    }

    pub(super) fn assert_all_reached(mut self) {
        for (name, count) in self.fields() {
            assert!(*count > 0, "no run reaches {name}");
        }
    }
}

struct Ticket {
    process: usize,
    /// Paused until this many tickets were handed out.
    frozen: usize,
    go: oneshot::Sender<()>,
}

#[derive(Debug, Clone, Copy)]
struct Pace {
    weight: u64,
    frozen: bool,
    cut_off: usize,
    dead: bool,
}

struct Shared {
    random: Random,
    clock: u64,
    objects: Arc<InMemory>,
    keys: VecDeque<OrdSet<Path>>,
    archive: Archive,
    /// When each object first appeared.
    born: BTreeMap<Path, usize>,
    opens: BTreeMap<Slot, usize>,
    acked: BTreeMap<Slot, RegionState>,
    creates: Vec<(Path, Bytes)>,
    deletes: Vec<Path>,
    waiting: Vec<Ticket>,
    paces: BTreeMap<usize, Pace>,
    /// Whether checkpoints often arrive late, and deletes later still: the runs in which zombies do most harm.
    stormy: bool,
    healthy: bool,
    stats: Stats,
    bad: Option<String>,
    trace: Option<Vec<String>>,
}

/// A cheap handle to the simulated world.
#[derive(Clone)]
pub(super) struct World(Arc<Mutex<Shared>>);

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl Source for World {
    fn unix_ms(&self) -> u64 {
        let mut shared = self.shared();
        shared.clock += 1;
        shared.clock
    }

    fn random_u128(&self) -> u128 {
        let mut shared = self.shared();
        u128::from(shared.random.next()) << 64 | u128::from(shared.random.next())
    }
}

impl World {
    pub(super) fn new(seed: u64, traced: bool) -> Self {
        let mut random = Random::new(seed);
        Self(Arc::new(Mutex::new(Shared {
            stormy: random.chance(1, 2),
            random,
            clock: 1,
            objects: Arc::default(),
            keys: VecDeque::from([OrdSet::new()]),
            archive: Archive::default(),
            born: BTreeMap::new(),
            opens: BTreeMap::new(),
            acked: BTreeMap::new(),
            creates: Vec::new(),
            deletes: Vec::new(),
            waiting: Vec::new(),
            paces: BTreeMap::new(),
            healthy: false,
            stats: Stats::default(),
            bad: None,
            trace: traced.then(Vec::new),
        })))
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap()
    }

    /// What `process` works with; its first LIST may be stale.
    pub(super) fn context(&self, process: usize) -> Context {
        let env = Env::from_source(Arc::new(self.clone()));
        let settings = Settings {
            checkpoint_records: 3 + self.below(4) as usize,
            checkpoint_bytes: 1 << 20,
            history: std::time::Duration::from_millis([0, 0, 0, 60][self.below(4) as usize]),
            background: self.chance(1, 2),
        };
        let store = SimStore::new(self.clone(), process);
        Context { settings, ..Context::new(Arc::new(store), Root::default(), env) }
    }

    pub(super) fn objects(&self) -> Arc<InMemory> {
        Arc::clone(&self.shared().objects)
    }

    pub(super) fn below(&self, end: u64) -> u64 {
        self.shared().random.below(end)
    }

    pub(super) fn chance(&self, of: u64, out_of: u64) -> bool {
        self.shared().random.chance(of, out_of)
    }

    /// A generator of one's own, so that long work need not hold the world.
    pub(super) fn random(&self) -> Random {
        Random::new(self.shared().random.next())
    }

    pub(super) fn note(&self, process: usize, what: impl fmt::Display) {
        self.shared().note(format_args!("{process}: {what}"));
    }

    pub(super) fn trace(&self) -> String {
        self.shared().trace.as_ref().map_or_else(String::new, |trace| trace.join("\n"))
    }

    pub(super) fn count(&self, which: impl FnOnce(&mut Stats) -> &mut usize) {
        *which(&mut self.shared().stats) += 1;
    }

    pub(super) fn is_sound(&self) -> bool {
        self.shared().bad.is_none()
    }

    pub(super) fn broken(&self, what: String) {
        let mut shared = self.shared();
        shared.note(format_args!("BROKEN: {what}"));
        shared.bad.get_or_insert(what);
    }

    pub(super) fn verdict(&self) -> Result<Stats, String> {
        let shared = self.shared();
        shared.bad.clone().map_or(Ok(shared.stats), Err)
    }

    /// From now on the store works.
    pub(super) fn heal(&self) {
        let mut shared = self.shared();
        shared.healthy = true;
        shared.waiting.iter_mut().for_each(|ticket| ticket.frozen = 0);
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.shared().healthy
    }

    pub(super) fn is_stormy(&self) -> bool {
        self.shared().stormy
    }

    /// Whether a storm delays this.
    pub(super) fn is_delayed_by_storm(&self) -> bool {
        let mut shared = self.shared();
        shared.stormy && !shared.healthy && shared.random.chance(1, 2)
    }

    pub(super) fn weigh(&self, process: usize, weight: u64) {
        self.shared().pace(process).weight = weight;
    }

    pub(super) fn freeze(&self, process: usize, frozen: bool) {
        self.shared().pace(process).frozen = frozen;
    }

    /// The next requests of the process fail, and what they do may still arrive.
    pub(super) fn cut_off(&self, process: usize, requests: usize) {
        self.shared().pace(process).cut_off = requests;
    }

    /// Whether this request meets a network that is down.
    pub(super) fn is_cut_off(&self, process: usize) -> bool {
        let mut shared = self.shared();
        let healthy = shared.healthy;
        let pace = shared.pace(process);
        pace.cut_off = pace.cut_off.saturating_sub(1);
        !healthy && pace.cut_off > 0
    }

    pub(super) fn kill(&self, process: usize) {
        let mut shared = self.shared();
        shared.note(format_args!("{process}: killed"));
        shared.pace(process).dead = true;
        shared.waiting.retain(|ticket| ticket.process != process);
    }

    /// Waits for the scheduler; for ever, if the process is dead. A pause is the likelier the greater `pause` is, of 100.
    pub(super) async fn turn(&self, process: usize, pause: u64) {
        let (go, turn) = oneshot::channel();
        {
            let mut shared = self.shared();
            if !shared.pace(process).dead {
                let until = shared.stats.operations + shared.random.below(400) as usize;
                let frozen = if !shared.healthy && shared.random.chance(pause, 100) { until } else { 0 };
                shared.waiting.push(Ticket { process, frozen, go });
            }
        }
        if turn.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Hands out one ticket; false if nobody who may have one waits.
    pub(super) fn admit_one(&self) -> bool {
        let mut shared = self.shared();
        let now = shared.stats.operations;
        let mut weights: Vec<u64> = Vec::with_capacity(shared.waiting.len());
        for index in 0..shared.waiting.len() {
            let (process, frozen) = (shared.waiting[index].process, shared.waiting[index].frozen);
            let pace = *shared.pace(process);
            weights.push(if pace.frozen || frozen > now { 0 } else { pace.weight });
        }
        let mut total: u64 = weights.iter().sum();
        if total == 0 {
            // Everybody who waits is paused: the pauses end, but for those that wait for the last owner to be done.
            for (index, weight) in weights.iter_mut().enumerate() {
                let process = shared.waiting[index].process;
                *weight = u64::from(!shared.pace(process).frozen);
            }
            total = weights.iter().sum();
        }
        if total == 0 {
            return false;
        }
        let mut pick = shared.random.below(total);
        let chosen = weights.iter().position(|weight| {
            let hit = pick < *weight;
            pick = pick.saturating_sub(*weight);
            hit
        });
        let ticket = shared.waiting.remove(chosen.expect("the pick is below the sum"));
        shared.stats.operations += 1;
        let _ = ticket.go.send(());
        true
    }

    /// Something that was delayed arrives; false if there is nothing.
    pub(super) fn land_one(&self) -> bool {
        let (create, delete) = {
            let mut shared = self.shared();
            let (creates, deletes) = (shared.creates.len(), shared.deletes.len());
            if creates + deletes == 0 {
                return false;
            }
            let index = shared.random.below((creates + deletes) as u64) as usize;
            match index.checked_sub(creates) {
                None => (Some(shared.creates.swap_remove(index)), None),
                Some(index) => (None, Some(shared.deletes.swap_remove(index))),
            }
        };
        if let Some((path, bytes)) = create {
            let created = self.create(&path, bytes);
            self.shared().note(format_args!("net: create {path} arrives: {created}"));
        }
        if let Some(path) = delete {
            self.delete(&path);
            self.shared().note(format_args!("net: delete {path} arrives"));
        }
        true
    }

    pub(super) fn create_later(&self, path: &Path, bytes: Bytes) {
        self.shared().creates.push((path.clone(), bytes));
    }

    pub(super) fn delete_later(&self, path: &Path) {
        self.shared().deletes.push(path.clone());
    }

    /// Creates the object, if there is none.
    pub(super) fn create(&self, path: &Path, bytes: Bytes) -> bool {
        let mut shared = self.shared();
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let put = shared.objects.put_opts(path, bytes.clone().into(), options).now_or_never();
        if put.expect("the in-memory store answers at once").is_err() {
            return false;
        }
        shared.changed(|keys| drop(keys.insert(path.clone())));
        shared.archive.created(path, &bytes);
        let order = shared.born.len();
        shared.born.entry(path.clone()).or_insert(order);
        let slot = path.filename().and_then(|name| Root::default().manifest(REGION).parse(name));
        if let Some(slot) = slot.filter(|slot| slot.seq == 0) {
            shared.opens.insert(slot, order);
        }
        true
    }

    pub(super) fn delete(&self, path: &Path) {
        let mut shared = self.shared();
        let deleted = shared.objects.delete(path).now_or_never();
        let _ = deleted.expect("the in-memory store answers at once");
        shared.changed(|keys| drop(keys.remove(path)));
    }

    /// The names on the store; stale ones are those of some time ago, or a mixture of then and now.
    pub(super) fn list(&self, stale: bool) -> Vec<Path> {
        let mut shared = self.shared();
        let now = shared.keys.back().cloned().unwrap_or_default();
        if !stale {
            return now.into_iter().collect();
        }
        let snapshots = shared.keys.len() as u64;
        let index = shared.random.below(snapshots) as usize;
        let then = shared.keys[index].clone();
        let torn = shared.random.chance(1, 2);
        let all = now.clone().union(then.clone());
        let random = &mut shared.random;
        all.into_iter().filter(|path| if torn && random.chance(1, 2) { now.contains(path) } else { then.contains(path) }).collect()
    }

    /// A writer takes a commit for committed, after which this is the state.
    pub(super) fn acknowledged(&self, state: &RegionState) {
        self.count(|stats| &mut stats.acked);
        let version = state.version().expect("a state after a record has a version");
        let bad = {
            let mut shared = self.shared();
            let path = Root::default().manifest(REGION).path(version);
            let born = shared.born.get(&path).copied();
            let later = shared.opens.range(version.next_epoch()..).find(|(_, opened)| born.is_none_or(|born| born > **opened));
            let later = later.map(|(slot, _)| *slot);
            let writer = shared.archive.record(version).map(|record| record.writer);
            let another = shared.acked.insert(version, state.clone()).is_some_and(|before| before != *state);
            match later {
                Some(open) => Some(format!("record {version} is acknowledged and came after {open}")),
                None if writer != state.writer() => Some(format!("record {version} is acknowledged and is another's")),
                None => another.then(|| format!("two records are acknowledged in {version}")),
            }
        };
        bad.into_iter().for_each(|bad| self.broken(bad));
    }

    /// Somebody read this.
    pub(super) fn saw(&self, process: usize, how: &str, state: &RegionState) {
        self.count(|stats| &mut stats.reads);
        let version = state.version().expect("a state after a record has a version");
        self.note(process, format_args!("{how} {version}"));
        let expected = self.shared().archive.states().get(&version).cloned();
        if expected.as_ref() != Some(state) {
            self.broken(format!("{process}: {how} {version} and it is not the replay: {state:?} instead of {expected:?}"));
        }
    }

    /// The replay of everything.
    pub(super) fn newest(&self) -> Option<RegionState> {
        self.shared().archive.newest()
    }

    pub(super) fn states(&self) -> BTreeMap<Slot, RegionState> {
        self.shared().archive.states().clone()
    }

    /// Everything acknowledged is part of the log.
    pub(super) fn check_acknowledged(&self) {
        let states = self.states();
        let acked = self.shared().acked.clone();
        for (version, state) in acked {
            if states.get(&version) != Some(&state) {
                self.broken(format!("the acknowledged record {version} is lost or changed"));
            }
        }
        let sealed = |slot: &Slot| self.shared().archive.record(*slot).is_some_and(|record| record.kind == Kind::Seal);
        let opens: Vec<Slot> = self.shared().opens.keys().copied().collect();
        for open in opens.into_iter().filter(|open| !states.contains_key(open) || sealed(open)) {
            self.broken(format!("the epoch of {open} is no part of the log"));
        }
    }

    /// Errors that an actor may meet while the store fails and others get in between; any other is a finding.
    pub(super) fn expected(&self, process: usize, error: &Error) {
        self.note(process, format_args!("error: {error}"));
        match error {
            Error::Fenced { .. } => self.count(|stats| &mut stats.fenced),
            Error::Unknown { .. } => self.count(|stats| &mut stats.unknown),
            Error::NotFound { .. } => return,
            _ => {}
        }
        if matches!(error.class(), ErrorClass::Corrupt | ErrorClass::Bug) {
            self.broken(format!("{process} takes the log for damaged: {error}"));
        }
    }
}

impl Shared {
    fn pace(&mut self, process: usize) -> &mut Pace {
        self.paces.entry(process).or_insert(Pace { weight: 1, frozen: false, cut_off: 0, dead: false })
    }

    fn note(&mut self, what: fmt::Arguments<'_>) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("  {what}"));
        }
    }

    fn changed(&mut self, change: impl FnOnce(&mut OrdSet<Path>)) {
        let mut keys = self.keys.back().cloned().unwrap_or_default();
        change(&mut keys);
        self.keys.push_back(keys);
        if self.keys.len() > SNAPSHOTS {
            self.keys.pop_front();
        }
    }
}
