//! The whole server dies before and after every operation of its metadata, its store and its log, while a table is
//! repartitioned and clients write, delete and read: the next process ends what was begun, every acknowledged row is there
//! once, deleted ones are gone, and catalog, regions, decisions and files agree.
//!
//! ```text
//!   prepared disk ─► process: clients + ALTER TABLE, dies at write n ─► [process that dies at write m of its recovery]
//!                 ─► process that recovers, is audited, writes, and is killed ─► process that finds the same, and closes
//! ```
//!
//! Invariants:
//! - Time is virtual, each process has a runtime of its own with one thread, and ids are drawn from a counter: the n-th write
//!   is the same in each run of a scenario.
//! - Each request to a store takes [`WAY`] there and back, so that the process dies with others under way.
//! - `TESSERA_CRASH_CASES` says how many deaths of each scenario, evenly spread; `all` is every one of them.

mod audit;
mod clients;
mod crashes;
mod ledger;
mod races;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tessera_manifest::env::{Moment, Source, sleep};
use tessera_metaclient::procedure::{Procedures, Record};
use tessera_metaclient::repartition::KIND;

use self::audit::{audit, committed};
use self::clients::Clients;
use self::ledger::Ledger;
use super::super::failing::FailingStore;
use super::super::kept::{KeptEntries, KeptLog};
use super::*;
use crate::failpoint::{Death, Fuse, Side, Stores};

/// How long a request takes to its store, and an answer back.
const WAY: Duration = Duration::from_millis(1);
/// In virtual time: how long anything may take.
const PATIENCE: Duration = Duration::from_secs(3_600);

/// What outlives a process.
pub(super) struct Disk {
    pub(super) kv: Arc<dyn KvBackend>,
    pub(super) store: Arc<dyn ObjectStore>,
    log: Arc<KeptEntries>,
    /// Whether its processes have no log.
    is_noop: bool,
    /// How many processes there were.
    processes: AtomicU64,
}

/// The virtual clock of a process, and what it draws.
#[derive(Debug)]
struct Drawn {
    start: Moment,
    process: u64,
    draws: AtomicU64,
}

impl Source for Drawn {
    fn unix_ms(&self) -> u64 {
        // Each process lives an hour after the one before.
        let elapsed = u64::try_from(Moment::now().since(self.start).as_millis()).unwrap();
        1_800_000_000_000 + self.process * 3_600_000 + elapsed
    }

    fn random_u128(&self) -> u128 {
        let half = || {
            // Splitmix64.
            let draw = self.draws.fetch_add(1, Ordering::Relaxed) + (self.process << 32);
            let z = draw.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            u128::from(z ^ (z >> 31))
        };
        half() << 64 | half()
    }
}

impl Disk {
    fn new(is_noop: bool) -> Self {
        let (kv, store) = (Arc::new(MemoryBackend::new()), Arc::new(InMemory::new()));
        Self { kv, store, log: Arc::default(), is_noop, processes: AtomicU64::new(0) }
    }

    /// Starts a server whose stores are behind `fuse`.
    async fn open(&self, fuse: &Arc<Fuse>, store: Arc<dyn ObjectStore>) -> Result<Session, ServerError> {
        let process = self.processes.fetch_add(1, Ordering::Relaxed);
        let env = Env::from_source(Arc::new(Drawn { start: Moment::now(), process, draws: AtomicU64::new(0) }));
        let wal: Arc<dyn LogStore> =
            if self.is_noop { Arc::new(NoopWal::new(NodeId(0), &env)) } else { Arc::new(KeptLog::open(&self.log)) };
        let Stores { kv, store, wal } = Stores { kv: Arc::clone(&self.kv), store, wal }.fused(fuse);
        let parts = Parts { kv, store, wal, reachable: None, env, engine: Config::default(), node: NodeId(0), cluster: Nonce(1) };
        Ok(Session { server: Standalone::open(parts).await? })
    }

    /// Runs a process until `life` ends or the fuse has burnt, and leaves nothing of it behind.
    fn run<T>(&self, fuse: &Arc<Fuse>, life: impl AsyncFnOnce(&Session) -> T) -> Option<T> {
        self.run_on(fuse, Arc::clone(&self.store), life)
    }

    fn run_on<T>(&self, fuse: &Arc<Fuse>, store: Arc<dyn ObjectStore>, life: impl AsyncFnOnce(&Session) -> T) -> Option<T> {
        let life = async || life(&self.open(fuse, store).await.unwrap()).await;
        self.alone(async {
            tokio::select! {
                biased;
                () = fuse.burnt() => None,
                ended = life() => Some(ended),
            }
        })
    }

    /// Runs `work` in virtual time.
    fn alone<T>(&self, work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                ended = work => ended,
                () = sleep(PATIENCE) => {
                    let records = Procedures::new(Arc::clone(&self.kv), Env::system()).list(None, 100).await.unwrap();
                    panic!("it hangs: {records:#?}");
                }
            }
        });
        runtime.shutdown_background();
        ended
    }
}

/// A fuse that nobody lights.
fn unlit() -> Arc<Fuse> {
    Fuse::far(Side::Before, Death::Silence, WAY)
}

/// What goes wrong in the process that dies, besides its death.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    /// Nothing.
    None,
    /// The statement's time is up after this many milliseconds.
    Timeout(u64),
    /// Somebody cancels the procedure as soon as it is there.
    Cancel,
    /// The second region cannot be flushed: the group is undone before its fence.
    Flush,
    /// The second region cannot be staged: the group is aborted while the first is staged.
    Stage,
}

/// A repartition, and what is wrong.
#[derive(Debug, Clone, Copy)]
struct Scene {
    before: &'static [&'static str],
    sql: &'static str,
    trouble: Trouble,
    is_noop: bool,
}

impl Scene {
    const fn new(before: &'static [&'static str], sql: &'static str) -> Self {
        Self { before, sql, trouble: Trouble::None, is_noop: false }
    }

    /// Without a log: what is not flushed goes with its process.
    const fn without_log(self) -> Self {
        Self { is_noop: true, ..self }
    }

    const fn with(self, trouble: Trouble) -> Self {
        Self { trouble, ..self }
    }

    /// A table with rows in files, in memtables and in the log, some of them deleted.
    fn prepare(&self) -> (Disk, Ledger) {
        let (disk, ledger) = (Disk::new(self.is_noop), if self.is_noop { Ledger::volatile() } else { Ledger::default() });
        disk.run(&unlit(), async |session| {
            let clients = Clients::new(session, &ledger);
            session.run(&create("")).await;
            assert!(clients.insert(12).await && clients.delete().await);
            session.rows("ADMIN flush_table('t')").await;
            for sql in self.before {
                session.repartition(sql).await;
            }
            if self.is_noop {
                session.rows("ADMIN flush_table('t')").await;
                ledger.see_flushed();
            }
            assert!(clients.insert(6).await && clients.delete().await && clients.delete().await);
        });
        (disk, ledger)
    }

    fn store(&self, disk: &Disk) -> Arc<dyn ObjectStore> {
        let store = FailingStore::new(Arc::clone(&disk.store));
        match self.trouble {
            Trouble::Flush => store.refuse(|name, _| name.contains("/0000000001/sst/")),
            Trouble::Stage => {
                store.refuse(|name, bytes| name.contains("/0000000001/manifest/") && bytes.windows(7).any(|part| part == b"\"stage\""));
            }
            Trouble::None | Trouble::Timeout(_) | Trouble::Cancel => {}
        }
        Arc::new(store)
    }

    /// Runs the statement; whether it was done.
    async fn repartition(&self, session: &Session) -> bool {
        let sql = match self.trouble {
            Trouble::Timeout(ms) => format!("{} WITH (timeout = '{ms}ms')", self.sql),
            _ => self.sql.to_owned(),
        };
        let statement = session.batches(&sql);
        let Trouble::Cancel = self.trouble else { return statement.await.is_ok() };
        let client = session.server.procedures().client();
        let cancel = async {
            let begun = loop {
                let records = client.list(None, 100).await.unwrap();
                if let Some(record) = records.into_iter().find(|record| record.kind == KIND && !record.phase.is_over()) {
                    break record.id;
                }
                sleep(WAY).await;
            };
            session.execute(&format!("ADMIN cancel_procedure('{begun}')")).await.unwrap();
        };
        futures::join!(statement, cancel).0.is_ok()
    }

    /// The process that may die. Whether the statement was done, if it was answered.
    fn run(&self, disk: &Disk, ledger: &Ledger, fuse: &Arc<Fuse>, writes: u64) -> Option<bool> {
        ledger.see();
        disk.run_on(fuse, self.store(disk), async |session| {
            fuse.light(writes);
            let clients = Clients::new(session, ledger);
            clients.run(self.repartition(session)).await
        })
    }
}

/// Waits until no procedure has anything to do; what became of them.
async fn settle(session: &Session) -> Vec<Record> {
    let client = session.server.procedures().client();
    let mut ends = Vec::new();
    for record in client.list(None, 1000).await.unwrap() {
        let end = client.wait(&record.id).await.unwrap();
        assert!(end.phase.is_over(), "{end:?}");
        ends.push(end);
    }
    ends
}

/// Recovers, and dies at the write with this number of that, if there are so many; whether it did.
fn recover_and_die(disk: &Disk, ledger: &Ledger, side: Side, at: u64) -> Option<String> {
    let fuse = Fuse::far(side, Death::Silence, WAY);
    fuse.light(at);
    let ended = disk.run(&fuse, async |session| {
        settle(session).await;
        ledger.see();
    });
    if ended.is_none() { fuse.last() } else { None }
}

/// How the rules of the table are in the end.
struct Ends {
    before: Vec<String>,
    after: Vec<String>,
}

/// Lets a process recover, looks at everything, and at all of it again in a process after that.
fn check(disk: &Disk, ledger: &Ledger, scene: &Scene, ends: &Ends, answered: Option<bool>, when: &str) {
    let rules = disk.run(&unlit(), async |session| {
        let due = ledger.due();
        ledger.expect(&due, &session.keys().await.unwrap(), when);
        let records = settle(session).await;
        let due = ledger.due_in_the_end();
        ledger.expect(&due, &session.keys().await.unwrap(), when);
        audit(session, disk, &records, when).await;
        let rules = sorted(session.rules().await);
        let committed = committed(&records, scene.before.len()).unwrap_or(false);
        assert_eq!(rules, if committed { ends.after.clone() } else { ends.before.clone() }, "{when}: {records:#?}");
        assert!(answered.is_none_or(|done| done == committed), "{when}: {records:#?}");
        if matches!(scene.trouble, Trouble::None) {
            let failed = records.iter().find(|record| record.phase != tessera_metaclient::procedure::Phase::Done);
            assert!(failed.is_none(), "{when}: {failed:?}");
        }
        // The table takes rows in all of its regions. The process is killed with them in the log only.
        let clients = Clients::new(session, ledger);
        assert!(clients.insert(6).await, "{when}");
        // Without a log the row may be gone already.
        assert!(ledger.is_volatile() || clients.delete().await, "{when}");
        rules
    });
    disk.run(&unlit(), async |session| {
        let due = ledger.due_in_the_end();
        ledger.expect(&due, &session.keys().await.unwrap(), when);
        let records = settle(session).await;
        audit(session, disk, &records, when).await;
        assert_eq!(Some(sorted(session.rules().await)), rules, "{when}");
        session.server.close().await.unwrap();
    });
    assert_eq!(disk.log.len(), 0, "{when}: everything is in files, and the log is not let go");
}

fn sorted(mut rules: Vec<String>) -> Vec<String> {
    rules.sort();
    rules
}

/// The rules before and after an undisturbed run, and its writes.
fn undisturbed(scene: &Scene) -> (Ends, u64) {
    let plain = Scene { trouble: Trouble::None, ..*scene };
    let (disk, ledger) = plain.prepare();
    let rules = |disk: &Disk| disk.run(&unlit(), async |session| sorted(session.rules().await)).unwrap();
    let before = rules(&disk);
    assert_eq!(plain.run(&disk, &ledger, &unlit(), u64::MAX), Some(true));
    let ends = Ends { before, after: rules(&disk) };
    assert_ne!(ends.before, ends.after);
    check(&disk, &ledger, &plain, &ends, Some(true), "nobody died");
    let (disk, ledger) = scene.prepare();
    let fuse = unlit();
    let done = scene.run(&disk, &ledger, &fuse, u64::MAX - 1);
    check(&disk, &ledger, scene, &ends, done, "nobody died");
    assert_eq!(done, Some(matches!(scene.trouble, Trouble::None)), "what goes wrong goes wrong");
    (ends, fuse.writes())
}

/// Which of so many cases are tried, evenly spread: `cases` of them, or as many as the environment says.
fn tried(all: u64, cases: u64) -> impl Iterator<Item = u64> {
    let cases = match std::env::var("TESSERA_CRASH_CASES") {
        Err(_) => cases,
        Ok(text) if text == "all" => all,
        Ok(text) => text.parse().expect("TESSERA_CRASH_CASES is a number or `all`"),
    };
    // Steps of the golden section, coprime to the whole, so that every case comes once.
    let mut step = (all * 618 / 1000).max(1);
    while greatest_common_divisor(step, all) != 1 {
        step += 1;
    }
    (0..cases.min(all)).map(move |case| case * step % all)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
