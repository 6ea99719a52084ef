//! What outlives processes, and the process that clients talk to.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use object_store::memory::InMemory;
use tessera_engine::config::Config;
use tessera_manifest::env::{Env, Moment, Source, sleep};
use tessera_manifest::id::{NodeId, Nonce, TableId};
use tessera_metaclient::catalog::{Bootstrap, Catalog};
use tessera_metaclient::kv::{KvBackend, MemoryBackend};
use tessera_metaclient::testing::Random;
use tokio::sync::Notify;

use super::kv::SimKv;
use super::ledger::Ledger;
use super::life::{Life, Odds};
use super::log::{Disk, SimLog};
use super::port::SimPort;
use super::possible::Mode;
use super::store::SimStore;
use super::trace::Trace;
use crate::error::ServerError;
use crate::query::session::Sessions;
use crate::router::RouteTable;
use crate::standalone::{Parts, Standalone};

/// The one table.
pub(super) const TABLE: TableId = TableId(1024);

const CLUSTER: Nonce = Nonce(1);

/// What a run counted; tests assert that runs reach what they are for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stats {
    pub(super) lives: u64,
    pub(super) kills: u64,
    pub(super) stale: u64,
    pub(super) writes: u64,
    pub(super) refused_writes: u64,
    pub(super) scans: u64,
    pub(super) refused_scans: u64,
    pub(super) truncates: u64,
    pub(super) alterations: u64,
    pub(super) cancels: u64,
    pub(super) repartitions: u64,
    pub(super) journeys: u64,
    pub(super) committed: u64,
    pub(super) failed: u64,
    pub(super) cancelled: u64,
    pub(super) regions: u64,
    pub(super) files: u64,
    pub(super) events: u64,
    pub(super) virtual_ms: u64,
}

/// Virtual time, and random bits of a seed.
#[derive(Debug)]
struct Clock {
    begin: Moment,
    random: Mutex<Random>,
}

impl Source for Clock {
    fn unix_ms(&self) -> u64 {
        let since = Moment::now().since(self.begin).as_millis();
        1_700_000_000_000 + u64::try_from(since).unwrap()
    }

    fn random_u128(&self) -> u128 {
        let mut random = self.random.lock().unwrap();
        u128::from(random.bits()) << 64 | u128::from(random.bits())
    }
}

/// A running process.
pub(super) struct Process {
    pub(super) server: Standalone,
    pub(super) life: Arc<Life>,
}

/// What became of something that a client asked for.
pub(super) enum Asked<T> {
    /// It was answered.
    Answered(T),
    /// The process went away, or the message was lost, or the client lost its patience.
    Unanswered,
}

impl Process {
    /// What a process answers, unless it goes away or the client does not wait long enough.
    pub(super) async fn ask<T>(&self, patience: Duration, question: impl Future<Output = T>) -> Asked<T> {
        tokio::select! {
            biased;
            () = self.life.gone() => Asked::Unanswered,
            answer = question => Asked::Answered(answer),
            () = sleep(patience) => Asked::Unanswered,
        }
    }
}

/// What outlives processes.
pub(super) struct World {
    begin: Moment,
    pub(super) objects: Arc<InMemory>,
    kv: Arc<dyn KvBackend>,
    /// The metadata as they are, whoever else cannot reach them.
    pub(super) catalog: Catalog,
    pub(super) trace: Arc<Trace>,
    pub(super) ledger: Ledger,
    pub(super) mode: Mode,
    /// Whether partitions go away and come home, rather than change at random.
    pub(super) travels: bool,
    pub(super) stats: Mutex<Stats>,
    log: Arc<Disk>,
    sessions: Arc<Sessions>,
    random: Mutex<Random>,
    present: Mutex<Option<Arc<Process>>>,
    over: Mutex<bool>,
    changed: Notify,
}

impl World {
    pub(super) async fn new(seed: u64, sessions: Arc<Sessions>, whole_trace: bool) -> Arc<Self> {
        let mut random = Random::new(seed);
        let mode = match random.below(8) {
            0 | 1 => Mode::Append,
            2..=4 => Mode::LastNonNull,
            _ => Mode::LastRow,
        };
        let kv: Arc<dyn KvBackend> = Arc::new(MemoryBackend::new());
        let bootstrap = Bootstrap { cluster: CLUSTER, incarnation: Nonce(2), unix_ms: 0 };
        let (catalog, _) = Catalog::bootstrap(Arc::clone(&kv), bootstrap).await.unwrap();
        Arc::new(Self {
            begin: Moment::now(),
            objects: Arc::new(InMemory::new()),
            kv,
            catalog,
            trace: Arc::new(Trace::new(whole_trace)),
            travels: random.chance(1, 3),
            ledger: Ledger::new(mode),
            mode,
            stats: Mutex::default(),
            log: Arc::default(),
            sessions,
            random: Mutex::new(random),
            present: Mutex::default(),
            over: Mutex::new(false),
            changed: Notify::new(),
        })
    }

    /// A generator of its own for whoever asks.
    pub(super) fn random(&self) -> Random {
        self.random.lock().unwrap().split()
    }

    pub(super) fn count(&self, count: impl FnOnce(&mut Stats)) {
        count(&mut self.stats.lock().unwrap());
    }

    /// Starts a process; what it meets is up to `odds`.
    pub(super) async fn open(&self, number: u64, odds: Odds) -> (Arc<Life>, Result<Standalone, ServerError>) {
        let life = Life::new(number, Arc::clone(&self.trace), odds, self.random());
        life.note(format_args!("starts with {odds:?}"));
        let random = Mutex::new(self.random());
        let env = Env::from_source(Arc::new(Clock { begin: self.begin, random }));
        // Small, so that memtables are flushed by themselves.
        let engine = Config { region_memtable_bytes: 6 << 10, region_memtable_bytes_max: 24 << 10, ..Config::default() };
        let parts = Parts {
            kv: Arc::new(SimKv::new(Arc::clone(&self.kv), Arc::clone(&life))),
            store: Arc::new(SimStore::new(Arc::clone(&self.objects), Arc::clone(&life))),
            wal: Arc::new(SimLog::open(Arc::clone(&self.log), Arc::clone(&life))),
            reachable: None,
            env,
            engine,
            node: NodeId(1),
            cluster: CLUSTER,
        };
        let through = |port| Arc::new(SimPort::new(port, Arc::clone(&life))) as _;
        let opened = tokio::select! {
            biased;
            () = life.gone() => Err(ServerError::new(crate::error::Code::Internal, "it died while it started")),
            opened = Standalone::open_through(parts, Arc::clone(&self.sessions), through) => opened,
        };
        life.note(format_args!("started: {:?}", opened.as_ref().err().map(|error| &error.message)));
        (life, opened)
    }

    /// From now on clients talk to this process.
    pub(super) fn serve(&self, process: Option<Arc<Process>>) {
        *self.present.lock().unwrap() = process;
        self.changed.notify_waiters();
    }

    /// Clients end.
    pub(super) fn end(&self) {
        *self.over.lock().unwrap() = true;
        self.changed.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        *self.over.lock().unwrap() || self.trace.failure().is_some()
    }

    /// The process that clients talk to, once there is one; none when all is over.
    pub(super) async fn process(&self) -> Option<Arc<Process>> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_over() {
                return None;
            }
            let present = self.present.lock().unwrap().clone();
            if let Some(process) = present {
                return Some(process);
            }
            changed.await;
        }
    }

    /// The routes as they are.
    pub(super) async fn routes(&self) -> RouteTable {
        RouteTable::load(&self.catalog, TABLE).await.unwrap()
    }

    /// Tells the ledger if nothing is staged now; the moment that is now.
    pub(super) async fn look(&self, what: &str) -> u64 {
        let settled = self.routes().await.is_settled();
        let now = self.trace.note(format_args!("{what}, {}", if settled { "settled" } else { "staged" }));
        if settled {
            self.ledger.settle(now);
        }
        now
    }
}

impl Stats {
    /// Adds those of another run.
    pub(super) fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, add) in self.all_mut().into_iter().zip(other.all_mut()) {
            *sum += *add;
        }
    }

    /// Asserts that what the simulation is for did happen.
    pub(super) fn expect_all(&self) {
        let Self { lives, kills, stale, writes, refused_writes, scans, refused_scans, truncates, alterations, .. } = self;
        let Self { repartitions, journeys, committed, failed, regions, files, .. } = self;
        let clients = [writes, refused_writes, scans, refused_scans, truncates, alterations, repartitions];
        let others = [journeys, lives, kills, stale, committed, failed, regions, files];
        assert!(clients.into_iter().chain(others).all(|count| *count > 0), "something never happened: {self:?}");
    }

    fn all_mut(&mut self) -> [&mut u64; 19] {
        let Self {
            lives,
            kills,
            stale,
            writes,
            refused_writes,
            scans,
            refused_scans,
            truncates,
            alterations,
            cancels,
            repartitions,
            journeys,
            committed,
            failed,
            cancelled,
            regions,
            files,
            events,
            virtual_ms,
        } = self;
        [
            lives,
            kills,
            stale,
            writes,
            refused_writes,
            scans,
            refused_scans,
            truncates,
            alterations,
            cancels,
            repartitions,
            journeys,
            committed,
            failed,
            cancelled,
            regions,
            files,
            events,
            virtual_ms,
        ]
    }
}
