//! The real binary, killed at each write of a statement that changes tables: the next start finishes it, or nothing was
//! begun.
//!
//! The server kills itself (`TESSERA_FAIL_AT`, a feature of test builds): at the n-th write to metadata, object store or
//! log after it was ready, before or after it. Of the writes of repartitions some are tried, evenly spread;
//! `TESSERA_CRASH_CASES` says about how many, and `all` is every one.

use std::fs;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, settle};

const SMALL: &[&str] = &["wal.segment_bytes=64KiB"];
const CREATE: &str = "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v INT, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'h', host >= 'h')";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What a restart finds: tables as they would be created again, the next table id, drop markers; and how many procedures.
fn remains(home: &Path) -> (Vec<String>, String, usize, usize) {
    let server = Server::start_with(home, SMALL);
    let procedures = settle(&server);
    assert!(procedures.iter().all(|one| one["status"] == "done"), "{procedures:?}");
    let procedures = procedures.len();
    let names = server.lines("SHOW TABLES");
    let tables = names.iter().map(|name| server.line(&format!("SHOW CREATE TABLE {name}"))).collect();
    for name in &names {
        server.run(&format!("INSERT INTO {name} (host, ts) VALUES ('a', 1), ('z', 1)"));
        assert_eq!(server.line(&format!("SELECT count(*) FROM {name}")), "2");
    }
    let next = server.get("/admin/sequence/table/next-id").body;
    let report: Value = serde_json::from_str(&server.get("/admin/doctor").body).unwrap();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
    let markers = fs::read_dir(home.join("store/0000001024/drop")).map_or(0, Iterator::count);
    assert_eq!(server.terminate().code, Some(0));
    (tables, next, markers, procedures)
}

fn die_at_every_write(before: &[&str], sql: &str) {
    let prepared = TempDir::new().unwrap();
    let server = Server::start_with(prepared.path(), SMALL);
    for sql in before {
        server.run(sql);
    }
    assert_eq!(server.terminate().code, Some(0));
    let fresh = || {
        let home = TempDir::new().unwrap();
        copy(prepared.path(), home.path());
        home
    };
    let untouched = remains(fresh().path());
    let home = fresh();
    let server = Server::start_with(home.path(), SMALL);
    server.run(sql);
    server.kill();
    let done = remains(home.path());
    assert_ne!(done, untouched);
    let mut deaths = 0;
    for side in ["", "+"] {
        for at in 0.. {
            let home = fresh();
            let server = Server::start_with_env(home.path(), SMALL, &[("TESSERA_FAIL_AT", &format!("{at}{side}"))]);
            if server.send(sql, "json").is_ok() {
                server.kill();
                break;
            }
            let ended = server.join();
            assert_eq!(ended.code, None, "a signal ended it");
            deaths += 1;
            let found = remains(home.path());
            assert!(
                found == done || found == untouched,
                "died at write {at}{side}: {found:#?}\ndone: {done:#?}\nuntouched: {untouched:#?}"
            );
        }
    }
    eprintln!("{sql}: {deaths} deaths");
    assert!(deaths >= 8, "{deaths} deaths");
}

#[test]
fn a_create_table_is_finished_or_was_never_begun() {
    die_at_every_write(&[], CREATE);
}

#[test]
fn a_drop_table_is_finished_or_was_never_begun() {
    die_at_every_write(&[CREATE], "DROP TABLE t");
}

#[test]
fn an_alter_table_is_finished_or_was_never_begun() {
    die_at_every_write(&[CREATE], "ALTER TABLE t ADD COLUMN extra DOUBLE");
}

const SPLIT: &str = "ALTER TABLE t SPLIT PARTITION (host < 'h') INTO (host < 'd', host >= 'd' AND host < 'h')";
const MERGE: &str = "ALTER TABLE t MERGE PARTITION (host < 'd', host >= 'd' AND host < 'h')";
/// About how many writes a repartition has.
const WRITES: u64 = 60;

/// How many writes apart those are at which a repartition dies.
fn step() -> usize {
    let cases = match std::env::var("TESSERA_CRASH_CASES") {
        Err(_) => 5,
        Ok(text) if text == "all" => WRITES,
        Ok(text) => text.parse().expect("TESSERA_CRASH_CASES is a number or `all`"),
    };
    usize::try_from(WRITES / cases.clamp(1, WRITES)).unwrap()
}

const ALL: &str = "SELECT host, CAST(ts AS BIGINT), v FROM t ORDER BY 1, 2";
const RULES: &str = "SELECT rule FROM information_schema.regions WHERE table_name = 't' ORDER BY rule";

/// A home with rows in files, and in the log only: its server was killed.
fn table_with_rows(before: &[&str]) -> TempDir {
    let home = TempDir::new().unwrap();
    let server = Server::start_with(home.path(), SMALL);
    server.run(CREATE);
    server.run("INSERT INTO t VALUES ('a', 1, 1), ('e', 2, 2), ('g', 3, 3), ('p', 4, 4), ('z', 5, 5)");
    server.lines("ADMIN flush_table('t')");
    for sql in before {
        server.lines(sql);
    }
    server.run("INSERT INTO t VALUES ('g', 3, 30), ('b', 6, 6), ('z', 7, 7)");
    assert_eq!(server.run("DELETE FROM t WHERE host = 'e'"), 1);
    server.kill();
    home
}

/// The rules of the table after a restart, once everything has ended, and it was looked at twice.
fn rules_after_restart(home: &Path, rows: &[String]) -> Vec<String> {
    let server = Server::start_with(home, SMALL);
    assert_eq!(server.lines(ALL), rows);
    let procedures = settle(&server);
    assert!(procedures.iter().all(|one| one["status"] == "done"), "{procedures:?}");
    assert_eq!(server.lines(ALL), rows);
    assert_eq!(server.lines("SELECT DISTINCT leader_state FROM information_schema.partitions WHERE table_name = 't'"), ["LEADER"]);
    let report: Value = serde_json::from_str(&server.get("/admin/doctor").body).unwrap();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
    let rules = server.lines(RULES);
    server.run("INSERT INTO t VALUES ('a', 8, 8), ('e', 8, 8), ('z', 8, 8)");
    server.kill();
    let server = Server::start_with(home, SMALL);
    assert_eq!(server.lines(ALL).len(), rows.len() + 3);
    assert_eq!(server.lines(RULES), rules);
    assert_eq!(server.terminate().code, Some(0));
    rules
}

fn die_in_a_repartition(before: &[&str], sql: &str) {
    let prepared = table_with_rows(before);
    let fresh = || {
        let home = TempDir::new().unwrap();
        copy(prepared.path(), home.path());
        home
    };
    let server = Server::start_with(prepared.path(), SMALL);
    let (rows, untouched) = (server.lines(ALL), server.lines(RULES));
    server.kill();
    let home = fresh();
    let server = Server::start_with(home.path(), SMALL);
    server.lines(sql);
    let done = server.lines(RULES);
    server.kill();
    assert_ne!(done, untouched);
    assert_eq!(rules_after_restart(home.path(), &rows), done);
    let (mut deaths, mut finished) = (0, 0);
    for (side, first) in [("", 0), ("+", step() / 2)] {
        for at in (first..).step_by(step()) {
            let home = fresh();
            let server = Server::start_with_env(home.path(), SMALL, &[("TESSERA_FAIL_AT", &format!("{at}{side}"))]);
            let answered = server.send(sql, "json").is_ok();
            let ended = if answered { server.kill() } else { server.join() };
            assert_eq!(ended.code, None, "a signal ended it: {}", ended.log);
            let found = rules_after_restart(home.path(), &rows);
            assert!(found == done || !answered && found == untouched, "died at write {at}{side}: {found:#?}");
            if answered {
                break;
            }
            deaths += 1;
            finished += usize::from(found == done);
        }
    }
    eprintln!("{sql}: {deaths} deaths, {finished} of them were finished by the next start");
    assert!(deaths >= 4 && finished > 0, "{deaths} deaths, {finished} finished");
}

#[test]
fn a_split_is_finished_or_was_never_begun() {
    die_in_a_repartition(&[], SPLIT);
}

#[test]
fn a_merge_is_finished_or_was_never_begun() {
    die_in_a_repartition(&[SPLIT], MERGE);
}
