//! A ledger kept beside the real binary while its table is repartitioned all the time and the process is killed at random.
//!
//! Writers insert rows with keys of their own, a deleter takes acknowledged ones away, scanners read everything over HTTP,
//! and the table goes from one set of partition rules to another: splits, merges, N to M, other columns, none at all. Every
//! second or so the process is killed: from outside, or at a chosen write of its work or of its recovery
//! (`TESSERA_FAIL_AT`). At any time:
//!
//! - no scan fails, or sees a row twice, or one that nobody sent;
//! - a scan sees every row that was acknowledged before it began, and none whose delete was; except for what was
//!   acknowledged since the repartition began that is under way, which queries see when that is published;
//! - a statement fails only as one that may be tried again, and with its process.
//!
//! In the end exactly the acknowledged rows are there, and of those that were sent and not acknowledged some.
//! `TESSERA_LEDGER_SECONDS` sets for how long it goes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tessera_manifest::env::Stopwatch;

use crate::support::{Server, random, try_settle};

const SECONDS: u64 = 20;
const WRITERS: usize = 3;
const HOSTS: [&str; 8] = ["alpha", "delta", "golf", "kilo", "mike", "quebec", "tango", "zulu"];
const CREATE: &str = "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')";
const SMALL: &[&str] = &["engine.region_memtable_bytes=64KiB", "engine.memtable_bytes_max=256KiB", "wal.segment_bytes=64KiB"];
/// Sets of rules that the table goes through.
const RULES: [&str; 6] = [
    "(host) (host < 'm', host >= 'm')",
    "(host) (host < 'f', host >= 'f' AND host < 'm', host >= 'm')",
    "(host) (host < 'd', host >= 'd' AND host < 'l', host >= 'l' AND host < 'r', host >= 'r')",
    "(host) (host IN ('alpha', 'zulu'), host NOT IN ('alpha', 'zulu') OR host IS NULL)",
    "() ()",
    "(host, ts) (host < 'k' AND ts < 500, host < 'k' AND ts >= 500, host >= 'k')",
];
/// The code of an error after which a statement may be tried again.
const BUSY: u64 = 4009;

type Key = (String, u64);

/// What clients know, in the order in which they learned it.
#[derive(Default)]
struct Ledger {
    sent: BTreeSet<Key>,
    acknowledged: Vec<Key>,
    delete_sent: BTreeSet<Key>,
    deleted: Vec<Key>,
    /// How much of both was known when the repartition began that may be under way.
    staged_from: Option<(usize, usize)>,
}

/// What a scan that begins now must see, and must not.
struct Due {
    present: Vec<Key>,
    absent: Vec<Key>,
}

impl Ledger {
    fn due(&self) -> Due {
        let (rows, deletes) = self.staged_from.unwrap_or((self.acknowledged.len(), self.deleted.len()));
        let present = self.acknowledged[..rows].iter().filter(|key| !self.delete_sent.contains(*key)).cloned().collect();
        Due { present, absent: self.deleted[..deletes].to_vec() }
    }
}

fn seconds() -> u64 {
    std::env::var("TESSERA_LEDGER_SECONDS").map_or(SECONDS, |text| text.parse().expect("TESSERA_LEDGER_SECONDS is a number"))
}

/// Runs a statement until it is done or the server is gone; how many rows it affected.
fn run(server: &Server, stop: &AtomicBool, sql: &str) -> Option<u64> {
    while !stop.load(Ordering::Relaxed) {
        match server.send(sql, "json").ok()?.outputs() {
            Ok(outputs) => return Some(outputs[0]["affectedrows"].as_u64().unwrap_or(0)),
            Err(refusal) => assert_eq!(refusal.code, BUSY, "{sql}: {refusal:?}: {}", server.log()),
        }
    }
    None
}

fn write(server: &Server, stop: &AtomicBool, next: &AtomicU64, ledger: &Mutex<Ledger>) {
    for turn in 1.. {
        let rows = 1 + turn % 7;
        let first = next.fetch_add(rows, Ordering::Relaxed);
        let keys: Vec<Key> = (first..first + rows).map(|n| (HOSTS[(n % HOSTS.len() as u64) as usize].to_owned(), n)).collect();
        let values: Vec<String> = keys.iter().map(|(host, n)| format!("('{host}', {n}, {n})")).collect();
        ledger.lock().unwrap().sent.extend(keys.iter().cloned());
        let Some(affected) = run(server, stop, &format!("INSERT INTO t VALUES {}", values.join(", "))) else { return };
        assert_eq!(affected, rows);
        ledger.lock().unwrap().acknowledged.extend(keys);
    }
}

fn delete(server: &Server, stop: &AtomicBool, ledger: &Mutex<Ledger>, mut random: StdRng) {
    while !stop.load(Ordering::Relaxed) {
        let victim = {
            let mut ledger = ledger.lock().unwrap();
            let at = random.random_range(0..ledger.acknowledged.len().max(1));
            // Only of rows that queries see by now: a delete reads the keys of the rows that match.
            let limit = ledger.staged_from.map_or(usize::MAX, |(rows, _)| rows);
            let found = ledger.acknowledged.get(at).filter(|key| at < limit && !ledger.delete_sent.contains(*key)).cloned();
            ledger.delete_sent.extend(found.clone());
            found
        };
        let Some((host, ts)) = victim else { continue };
        if run(server, stop, &format!("DELETE FROM t WHERE host = '{host}' AND CAST(ts AS BIGINT) = {ts}")).is_none() {
            return;
        }
        ledger.lock().unwrap().deleted.push((host, ts));
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// The rows that a query sees; none when the server is gone.
fn scan(server: &Server) -> Option<BTreeSet<Key>> {
    let reply = server.send("SELECT host, CAST(ts AS BIGINT), v FROM t", "csv").ok()?;
    assert_eq!(reply.status, 200, "a scan failed: {}: {}", reply.body, server.log());
    let mut found = BTreeSet::new();
    for line in reply.body.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [host, ts, v] = fields[..] else { return None };
        // An answer that breaks off with the process may end anywhere.
        let (Ok(ts), Ok(_)) = (ts.parse::<u64>(), v.parse::<u64>()) else { return None };
        assert!(found.insert((host.to_owned(), ts)), "twice: {line}: {}", server.log());
    }
    Some(found)
}

fn expect(server: &Server, due: &Due, found: &BTreeSet<Key>, ledger: &Mutex<Ledger>) {
    let ledger = ledger.lock().unwrap();
    let missing: Vec<&Key> = due.present.iter().filter(|key| !found.contains(*key) && !ledger.delete_sent.contains(*key)).collect();
    assert!(missing.is_empty(), "{} acknowledged rows are not seen, the first {:?}: {}", missing.len(), missing[0], server.log());
    let risen: Vec<&Key> = due.absent.iter().filter(|key| found.contains(*key)).collect();
    assert!(risen.is_empty(), "{} deleted rows are seen, the first {:?}: {}", risen.len(), risen[0], server.log());
    let strange = found.iter().find(|key| !ledger.sent.contains(*key));
    assert!(strange.is_none(), "nobody sent {strange:?}");
}

fn read(server: &Server, stop: &AtomicBool, ledger: &Mutex<Ledger>, scans: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let due = ledger.lock().unwrap().due();
        let Some(found) = scan(server) else { return };
        // A broken answer is one of a process that was killed.
        if stop.load(Ordering::Relaxed) || !lives(server) {
            return;
        }
        expect(server, &due, &found, ledger);
        scans.fetch_add(1, Ordering::Relaxed);
    }
}

/// Goes from one set of rules to another until the server is gone.
fn repartition(server: &Server, stop: &AtomicBool, ledger: &Mutex<Ledger>, done: &AtomicU64, mut random: StdRng) {
    while !stop.load(Ordering::Relaxed) {
        {
            let mut ledger = ledger.lock().unwrap();
            ledger.staged_from = Some((ledger.acknowledged.len(), ledger.deleted.len()));
        }
        let sql = format!("ALTER TABLE t PARTITION ON COLUMNS {}", RULES[random.random_range(0..RULES.len())]);
        let Ok(reply) = server.send(&sql, "json") else { return };
        match reply.outputs() {
            Ok(_) => drop(done.fetch_add(1, Ordering::Relaxed)),
            Err(refusal) if refusal.error.contains("nothing to do") => {}
            Err(refusal) => assert!(refusal.code == BUSY || stop.load(Ordering::Relaxed), "{sql}: {refusal:?}: {}", server.log()),
        }
        ledger.lock().unwrap().staged_from = None;
    }
}

/// Waits until no procedure goes on; false when the server is gone.
fn settle(server: &Server, ledger: &Mutex<Ledger>) -> bool {
    let is_settled = try_settle(server).is_some();
    if is_settled {
        ledger.lock().unwrap().staged_from = None;
    }
    is_settled
}

/// How one life of the server ends, as `TESSERA_FAIL_AT` names it; none is by a kill from outside.
fn end_of_life(random: &mut StdRng) -> Option<String> {
    let side = if random.random() { "+" } else { "" };
    match random.random_range(0..4) {
        0 => Some(format!("{}{side}", random.random_range(0..600))),
        1 => Some(format!("start:{}{side}", random.random_range(0..80))),
        _ => None,
    }
}

/// Whether the server lives, so that what it said last was whole.
fn lives(server: &Server) -> bool {
    server.send("SELECT 1", "json").is_ok()
}

/// Starts the server for one life; none when it dies while it recovers, or before it was looked at.
fn begin_life(home: &Path, ledger: &Mutex<Ledger>, end: Option<&str>) -> Option<Server> {
    let env: Vec<(&str, &str)> = end.map(|end| ("TESSERA_FAIL_AT", end)).into_iter().collect();
    let server = match Server::try_start_with_env(home, SMALL, &env) {
        Ok(server) => server,
        Err(ended) => {
            assert!(end.is_some() && ended.code.is_none(), "the server did not start: {ended:?}");
            return None;
        }
    };
    let due = ledger.lock().unwrap().due();
    let found = scan(&server);
    if !lives(&server) {
        assert!(end.is_some(), "{}", server.log());
        return None;
    }
    expect(&server, &due, &found.unwrap(), ledger);
    Some(server)
}

#[test]
fn nothing_is_lost_or_doubled_while_a_table_is_repartitioned_and_its_process_killed() {
    let mut random = random("ledger");
    let home = TempDir::new().unwrap();
    let (ledger, next, scans, changes) = (Mutex::new(Ledger::default()), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let server = Server::start_with(home.path(), SMALL);
    server.run(CREATE);
    server.kill();
    let (watch, mut kills) = (Stopwatch::start(), 0);
    let mut burnt = 0;
    // A machine that has much else to do may need longer until the first repartition is answered.
    let is_busy = || changes.load(Ordering::Relaxed) == 0 && watch.elapsed() < Duration::from_secs(10 * seconds());
    while watch.elapsed() < Duration::from_secs(seconds()) || is_busy() {
        let end = end_of_life(&mut random);
        let Some(server) = begin_life(home.path(), &ledger, end.as_deref()) else {
            burnt += 1;
            continue;
        };
        let stop = AtomicBool::new(false);
        let life = Duration::from_millis(random.random_range(200..2_500));
        let seeds: (StdRng, StdRng) =
            (rand::SeedableRng::seed_from_u64(random.random()), rand::SeedableRng::seed_from_u64(random.random()));
        thread::scope(|scope| {
            let (server, stop, ledger) = (&server, &stop, &ledger);
            let (next, scans, changes) = (&next, &scans, &changes);
            for _ in 0..WRITERS {
                scope.spawn(move || write(server, stop, next, ledger));
            }
            scope.spawn(move || read(server, stop, ledger, scans));
            scope.spawn(move || delete(server, stop, ledger, seeds.0));
            scope.spawn(move || {
                if settle(server, ledger) {
                    repartition(server, stop, ledger, changes, seeds.1);
                }
            });
            thread::park_timeout(life);
            burnt += usize::from(!lives(server));
            stop.store(true, Ordering::Relaxed);
            server.kill_now();
        });
        server.kill();
        kills += 1;
    }
    let server = Server::start_with(home.path(), SMALL);
    assert!(settle(&server, &ledger));
    let due = ledger.lock().unwrap().due();
    let found = scan(&server).unwrap();
    expect(&server, &due, &found, &ledger);
    assert_eq!(server.line("SELECT count(*) FROM t"), found.len().to_string());
    assert_eq!(server.line("SELECT count(DISTINCT leader_state) FROM information_schema.partitions"), "1");
    eprintln!(
        "ledger: {} rows sent, {} acknowledged, {} deleted, {} scans, {} repartitions, {kills} kills, {burnt} deaths at a chosen write",
        ledger.lock().unwrap().sent.len(),
        due.present.len(),
        due.absent.len(),
        scans.load(Ordering::Relaxed),
        changes.load(Ordering::Relaxed)
    );
    assert!(changes.load(Ordering::Relaxed) > 0 && scans.load(Ordering::Relaxed) > 0);
    assert_eq!(server.terminate().code, Some(0));
}
