//! Seeded simulation of the whole system in one process and in virtual time.
//!
//! ```text
//!   writers, scanner, operator,                      statements, and the layers below the planner of queries
//!   partitioner or traveller
//!        │ lost, cut off, cancelled
//!   Standalone: router, catalog, procedures, engine  one after the other, and stale ones beside their successor
//!        │ late, lost, repeated, refused; died at
//!   objects in memory   metadata in memory   log     outlive them
//! ```
//!
//! Everything but what is drawn here is the code that runs in a server: the router, the port of repartitions, the runner
//! and the procedures, the catalog, regions with their memtables, flushes, SSTs, staging, compactions and scans, and the
//! slot logs of their manifests. Work that a server hands to other threads stays on this one ([`OneThread`]).
//!
//! A run ends with a process that nothing happens to. At any time, no scan misses a row that was acknowledged before it
//! began, shows one twice, or one that was deleted before; what is staged may be hidden. In the end every acknowledged row
//! is there once, in the region whose rule it satisfies, every procedure has ended, no region is staged, and every file
//! that a manifest refers to is on the store.
//!
//! `TESSERA_SIM_SEEDS` says how many seeds each test tries, `TESSERA_SIM_SEED` runs one and shows all that happens in it. The
//! same seed is the same run: a digest of all events says so.

mod check;
mod clients;
mod journeys;
mod kv;
mod ledger;
mod life;
mod log;
mod port;
mod possible;
mod rules;
mod run;
mod store;
mod trace;
mod world;

use std::cell::Cell;
use std::sync::{Arc, Once};

use tessera_manifest::env::OneThread;

use self::run::{Ended, run};
use self::world::Stats;
use crate::query::session::Sessions;

/// Seeds of each test, where nothing else is said: so many that all tests together take about four minutes of one core.
const SEEDS: u64 = 60;
/// Tests that share the seeds.
const SHARDS: u64 = 8;

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the panics of each thread, since the runtime hides those of tasks.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// Names the seed when its run panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}: TESSERA_SIM_SEED={} shows what led to it", self.0, self.0);
        }
    }
}

/// Runs a seed on this thread, in a runtime of its own.
fn simulate(seed: u64, sessions: &Arc<Sessions>, whole_trace: bool) -> Ended {
    count_panics();
    let _named = Named(seed);
    let _one_thread = OneThread::enter();
    let panics = PANICS.get();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut ended = runtime.block_on(run(seed, Arc::clone(sessions), whole_trace));
    drop(runtime);
    if PANICS.get() > panics && ended.failure.is_none() {
        ended.failure = Some("something panicked".to_owned());
    }
    ended
}

/// Runs seeds; the first that fails is told with all that led to it.
fn run_seeds(seeds: impl Iterator<Item = u64>, whole_trace: bool) -> Stats {
    let sessions = Arc::new(Sessions::new().unwrap());
    let mut total = Stats::default();
    for seed in seeds {
        let Ended { failure, trace, stats, digest } = simulate(seed, &sessions, whole_trace);
        if whole_trace {
            eprintln!("{trace}seed {seed}: digest {digest:016x}, {stats:?}");
        }
        if let Some(failure) = failure {
            panic!(
                "{trace}\nseed {seed}: {failure}\nalone: TESSERA_SIM_SEED={seed} cargo nextest run --workspace --lib -E 'test(simulation::nothing)' --no-capture"
            );
        }
        total.add(&stats);
    }
    total
}

/// Runs the part of the seeds that is this test's.
fn shard(number: u64) {
    let all = tessera_metaclient::testing::seeds(SEEDS * SHARDS);
    let count = all.end - all.start;
    let stats = run_seeds(all.filter(|seed| seed % SHARDS == number), count == 1);
    eprintln!("{stats:?}");
    if count >= SEEDS * SHARDS {
        stats.expect_all();
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let sessions = Arc::new(Sessions::new().unwrap());
    for seed in 0..6 {
        let (first, second) = (simulate(seed, &sessions, true), simulate(seed, &sessions, true));
        let differs = first.trace.lines().zip(second.trace.lines()).position(|(one, other)| one != other);
        let shown = differs.map(|at| (first.trace.lines().nth(at), second.trace.lines().nth(at)));
        assert_eq!((first.digest, first.stats), (second.digest, second.stats), "seed {seed} differs at {differs:?}: {shown:?}");
    }
}

macro_rules! shards {
    ($($name:ident: $number:expr),+ $(,)?) => {
        $(#[test]
        fn $name() {
            shard($number);
        })+
    };
}

shards! {
    nothing_is_lost_or_doubled_whatever_fails_0: 0,
    nothing_is_lost_or_doubled_whatever_fails_1: 1,
    nothing_is_lost_or_doubled_whatever_fails_2: 2,
    nothing_is_lost_or_doubled_whatever_fails_3: 3,
    nothing_is_lost_or_doubled_whatever_fails_4: 4,
    nothing_is_lost_or_doubled_whatever_fails_5: 5,
    nothing_is_lost_or_doubled_whatever_fails_6: 6,
    nothing_is_lost_or_doubled_whatever_fails_7: 7,
}
