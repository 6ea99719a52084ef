//! The real binary, killed at each write of a statement that changes tables: the next start finishes it, or nothing was
//! begun.
//!
//! The server kills itself (`TESSERA_FAIL_AT`, a feature of test builds): at the n-th write to metadata or object store after
//! it was ready, before or after it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tessera_manifest::env::Stopwatch;

use crate::support::Server;

const SMALL: &[&str] = &["wal.segment_bytes=64KiB"];
const CREATE: &str = "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v INT, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'h', host >= 'h')";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &target) } else { drop(fs::copy(entry.path(), target).unwrap()) }
    }
}

/// Waits until no procedure goes on; how many were submitted.
fn settle(server: &Server) -> usize {
    let watch = Stopwatch::start();
    loop {
        let list: Value = serde_json::from_str(&server.get("/admin/procedures").body).unwrap();
        let list = list["procedures"].as_array().unwrap().clone();
        if list.iter().all(|procedure| procedure["status"] == "done") {
            return list.len();
        }
        assert!(watch.elapsed() < Duration::from_secs(60), "{list:?}: {}", server.log());
        std::thread::yield_now();
    }
}

/// What a restart finds: tables as they would be created again, the next table id, drop markers; and how many procedures.
fn remains(home: &Path) -> (Vec<String>, String, usize, usize) {
    let server = Server::start_with(home, SMALL);
    let procedures = settle(&server);
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
