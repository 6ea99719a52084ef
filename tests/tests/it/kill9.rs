//! SIGKILL in the middle of loads: whatever was acknowledged is there, once, and nothing that nobody sent.
//!
//! One data home goes through all rounds. In each round several writers insert rows with keys of their own, as fast as
//! they are acknowledged, into regions with the smallest memtables, so that flushes go on all the time; after a random
//! number of acknowledged statements, and a random while, the process is killed. Every third round it is killed again
//! while it starts. `TESSERA_KILL_ROUNDS` sets how many rounds there are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tessera_manifest::env::Stopwatch;

use crate::support::{Server, copy_weather, create_weather, random};

const ROUNDS: u32 = 12;
const WRITERS: u64 = 4;
const ROWS_MAX: u64 = 12;
/// Statements that are acknowledged before a kill, at most.
const ACKS_MAX: u32 = 150;
const HOSTS: [&str; 6] = ["alpha", "golf", "hotel", "papa", "quebec", "zulu"];
const CREATE: &str = "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, note STRING, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'h', host >= 'h' AND host < 'q', host >= 'q')";
/// Memtables of 64 KiB, log segments of 64 KiB: a flush and a new segment every few dozen statements.
const SMALL: &[&str] = &["engine.region_memtable_bytes=64KiB", "engine.memtable_bytes_max=256KiB", "wal.segment_bytes=64KiB"];

/// A key: host and time.
type Key = (String, u64);

/// What clients know.
#[derive(Default)]
struct Known {
    sent: BTreeSet<Key>,
    acknowledged: BTreeSet<Key>,
}

/// The value that the row of a key has.
fn value_of(key: &Key) -> u64 {
    (key.1 + key.0.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 12
}

fn note_of(key: &Key) -> String {
    format!("{}-{:0160}", key.0, key.1)
}

fn rounds() -> u32 {
    std::env::var("TESSERA_KILL_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("TESSERA_KILL_ROUNDS is a number"))
}

/// The keys of the next statement.
fn next_keys(next: &AtomicU64, rows: u64) -> Vec<Key> {
    let first = next.fetch_add(rows, Ordering::Relaxed);
    (first..first + rows).map(|n| (HOSTS[(n % HOSTS.len() as u64) as usize].to_owned(), n)).collect()
}

fn insert(keys: &[Key]) -> String {
    let rows: Vec<String> = keys.iter().map(|key| format!("('{}', {}, {}, '{}')", key.0, key.1, value_of(key), note_of(key))).collect();
    format!("INSERT INTO t VALUES {}", rows.join(", "))
}

/// Inserts until the server is gone.
fn write(server: &Server, next: &AtomicU64, known: &Mutex<Known>, acks: &SyncSender<()>, rows_max: u64) {
    for turn in 1.. {
        let keys = next_keys(next, 1 + turn % rows_max);
        known.lock().unwrap().sent.extend(keys.iter().cloned());
        let Ok(reply) = server.send(&insert(&keys), "json") else { return };
        match reply.outputs() {
            Ok(outputs) => assert_eq!(outputs[0]["affectedrows"].as_u64(), Some(keys.len() as u64)),
            Err(refusal) => panic!("{refusal:?}: {}", server.log()),
        }
        known.lock().unwrap().acknowledged.extend(keys);
        if acks.send(()).is_err() {
            return;
        }
    }
}

/// Takes acknowledgements until there were `count` and then `more` has passed.
fn wait_for_acks(acks: &Receiver<()>, count: u32, more: Duration) {
    for _ in 0..count {
        acks.recv_timeout(Duration::from_secs(60)).expect("statements are acknowledged");
    }
    let watch = Stopwatch::start();
    while let Some(left) = more.checked_sub(watch.elapsed()) {
        if acks.recv_timeout(left).is_err() {
            return;
        }
    }
}

/// Asserts that every acknowledged row is there once, and that all rows are ones that were sent.
fn verify(server: &Server, known: &Known) {
    let reply = server.send("SELECT host, CAST(ts AS BIGINT), v, note FROM t", "csv").unwrap();
    assert_eq!(reply.status, 200, "{}", reply.body);
    let mut found: BTreeMap<Key, (u64, String)> = BTreeMap::new();
    for line in reply.body.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let [host, ts, v, note] = fields[..] else { panic!("{line}") };
        let key = (host.to_owned(), ts.parse().unwrap());
        assert!(found.insert(key, (v.parse().unwrap(), note.to_owned())).is_none(), "twice: {line}");
    }
    let lost: Vec<&Key> = known.acknowledged.iter().filter(|key| !found.contains_key(*key)).collect();
    assert!(lost.is_empty(), "{} acknowledged rows are lost, the first {:?}: {}", lost.len(), lost[0], server.log());
    for (key, (v, note)) in &found {
        assert!(known.sent.contains(key), "nobody sent {key:?}");
        assert_eq!((*v, note), (value_of(key), &note_of(key)), "{key:?}");
    }
    assert_eq!(server.line("SELECT count(*) FROM t"), found.len().to_string());
}

/// Writes from many clients at once and kills the server under them.
fn load_and_kill(server: Server, known: &Mutex<Known>, next: &AtomicU64, random: &mut StdRng) {
    let (send, acks) = sync_channel(16);
    let (count, more) = (random.random_range(1..=ACKS_MAX), Duration::from_micros(random.random_range(0..30_000)));
    let rows_max = random.random_range(1..=ROWS_MAX);
    thread::scope(|scope| {
        let server = &server;
        for _ in 0..WRITERS {
            let send = send.clone();
            scope.spawn(move || write(server, next, known, &send, rows_max));
        }
        drop(send);
        wait_for_acks(&acks, count, more);
        server.kill_now();
        while acks.recv().is_ok() {}
    });
    server.kill();
}

#[test]
fn every_acknowledged_row_is_there_once_after_kills_at_random_points() {
    let mut random = random("kill9");
    let home = TempDir::new().unwrap();
    let (known, next) = (Mutex::new(Known::default()), AtomicU64::new(0));
    let server = Server::start_with(home.path(), SMALL);
    server.run(CREATE);
    server.kill();
    for round in 0..rounds() {
        if round % 3 == 2 {
            Server::start_and_kill(home.path(), SMALL, Duration::from_millis(random.random_range(0..400)));
        }
        let server = Server::start_with(home.path(), SMALL);
        verify(&server, &known.lock().unwrap());
        load_and_kill(server, &known, &next, &mut random);
    }
    let server = Server::start_with(home.path(), SMALL);
    let known = known.into_inner().unwrap();
    verify(&server, &known);
    let files = server.line("SELECT sum(files) FROM information_schema.regions");
    eprintln!("kill9: {} rows sent, {} acknowledged, {files} files", known.sent.len(), known.acknowledged.len());
    assert_eq!(server.terminate().code, Some(0));
    verify(&Server::start(home.path()), &known);
}

/// Starts a COPY and kills the server some time after.
fn copy_and_kill(home: &Path, delay: Duration) {
    let server = Server::start_with(home, SMALL);
    let (done, ended) = sync_channel::<()>(0);
    thread::scope(|scope| {
        let server = &server;
        scope.spawn(move || {
            // The connection breaks, unless the COPY is faster than the kill.
            let _ = server.send(&copy_weather(), "json");
            drop(done);
        });
        let _ = ended.recv_timeout(delay);
        server.kill_now();
    });
    server.kill();
}

#[test]
fn a_copy_that_was_killed_can_be_repeated() {
    let mut random = random("copy");
    for round in 0..rounds().div_ceil(4) {
        let home = TempDir::new().unwrap();
        let server = Server::start(home.path());
        server.run(create_weather());
        server.kill();
        copy_and_kill(home.path(), Duration::from_millis(random.random_range(0..2_500)));
        let server = Server::start(home.path());
        let part: u64 = server.line("SELECT count(*) FROM weather").parse().unwrap();
        let keys = server.line("SELECT count(*) FROM (SELECT DISTINCT origin, time_hour FROM weather)");
        assert!(part <= 26_115 && keys == part.to_string(), "{part} rows, {keys} keys");
        eprintln!("copy, round {round}: {part} rows were there");
        for _ in 0..2 {
            assert_eq!(server.run(&copy_weather()), 26_115);
            let counts = server.lines("SELECT origin, count(*) FROM weather GROUP BY origin ORDER BY origin");
            assert_eq!(counts, ["EWR|8703", "JFK|8706", "LGA|8706"]);
        }
    }
}
