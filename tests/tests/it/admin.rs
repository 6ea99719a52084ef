//! Table ids and switches over HTTP, and `tessera doctor`, on real servers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, binary};

const NEXT: &str = "/admin/sequence/table/next-id";
const SET: &str = "/admin/sequence/table/set-next-id";

fn create(name: &str) -> String {
    format!("CREATE TABLE {name} (ts TIMESTAMP TIME INDEX, v INT)")
}

#[track_caller]
fn next_id(server: &Server) -> u64 {
    let reply = server.get(NEXT);
    assert_eq!(reply.status, 200, "{}", reply.body);
    serde_json::from_str::<Value>(&reply.body).unwrap()["next_table_id"].as_u64().unwrap()
}

/// Posts and expects this status; the body.
#[track_caller]
fn post(server: &Server, path: &str, body: &str, status: u16) -> String {
    let reply = server.post(path, body);
    assert_eq!(reply.status, status, "{path}: {}", reply.body);
    reply.body
}

#[track_caller]
fn set_next_id(server: &Server, next: u64) {
    let body = json!({ "next_table_id": next }).to_string();
    assert_eq!(post(server, SET, &body, 200), body);
}

fn table_ids(server: &Server) -> Vec<u64> {
    server.lines("SELECT table_id FROM information_schema.tables ORDER BY table_id").iter().map(|id| id.parse().unwrap()).collect()
}

/// Runs `tessera doctor` with these arguments; exit code and what it printed.
fn doctor(args: &[&str]) -> (i32, String) {
    let output = Command::new(binary()).arg("doctor").args(args).env_remove("RUST_LOG").output().unwrap();
    let text = format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap(), text)
}

#[track_caller]
fn expect(found: &(i32, String), code: i32, parts: &[&str]) {
    assert_eq!(found.0, code, "{}", found.1);
    for part in parts {
        assert!(found.1.contains(part), "'{part}' is not in: {}", found.1);
    }
}

#[test]
fn the_next_table_id_is_exact_set_at_once_and_kept_over_a_restart() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    assert_eq!(next_id(&server), 1024);
    server.run(&create("a"));
    assert_eq!((next_id(&server), next_id(&server)), (1025, 1025), "asking takes nothing");
    post(&server, SET, r#"{"next_table_id":2048}"#, 409);
    assert_eq!(post(&server, "/admin/recovery/enable", "", 200), r#"{"enabled":true}"#);
    for low in [0, 1024, 1025] {
        let refused = post(&server, SET, &json!({ "next_table_id": low }).to_string(), 400);
        assert!(refused.contains("1025") && refused.contains("greater"), "{refused}");
    }
    set_next_id(&server, 2048);
    server.refused(&create("b")).expect(409, 1006, &["recovery mode is on", "POST /admin/recovery/disable"]);
    server.refused("CREATE DATABASE d").expect(409, 1006, &["recovery mode is on"]);
    server.run("INSERT INTO a VALUES (1, 1)");
    // The switch and the id are kept; the kill is in recovery mode.
    server.kill();
    let server = Server::start(home.path());
    assert_eq!(server.get("/admin/recovery/status").body, r#"{"enabled":true}"#);
    server.refused(&create("b")).expect(409, 1006, &["recovery mode is on"]);
    assert_eq!(post(&server, "/admin/recovery/disable", "", 200), r#"{"enabled":false}"#);
    for name in ["b", "c"] {
        server.run(&create(name));
    }
    server.refused(&create("c")).expect(409, 4000, &["'c'"]);
    server.run("CREATE TABLE IF NOT EXISTS c (ts TIMESTAMP TIME INDEX)");
    assert_eq!(next_id(&server), 2050, "a name that is taken costs no id");
    assert_eq!(server.terminate().code, Some(0));
    let server = Server::start(home.path());
    server.run(&create("d"));
    assert_eq!(table_ids(&server), [1024, 2048, 2049, 2050]);
    assert_eq!(server.line("SELECT count(*) FROM a"), "1");
}

#[test]
fn tables_created_while_the_next_id_is_set_get_ids_of_one_order() {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    let done = AtomicBool::new(false);
    let (server, done) = (&server, &done);
    let (created, marks) = thread::scope(|scope| {
        let create_many = |worker: u32| {
            move || {
                let mut created = 0_u64;
                while !done.load(Ordering::SeqCst) {
                    match server.send(&create(&format!("t{worker}_{created}")), "json").unwrap().outputs() {
                        Ok(_) => created += 1,
                        Err(refusal) => refusal.expect(409, 1006, &["recovery mode is on"]),
                    }
                }
                created
            }
        };
        let workers: Vec<_> = (0..3).map(|worker| scope.spawn(create_many(worker))).collect();
        let mut marks = Vec::new();
        for _ in 0..8 {
            post(server, "/admin/recovery/enable", "", 200);
            // From here on no id is taken. A statement that took one before and has no table yet is refused, and its id is not
            // given again.
            let next = next_id(server);
            set_next_id(server, next + 1000);
            assert_eq!(next_id(server), next + 1000);
            post(server, SET, &json!({ "next_table_id": next + 1000 }).to_string(), 400);
            marks.push((next, next + 1000));
            post(server, "/admin/recovery/disable", "", 200);
            // Until a table has the new id.
            while next_id(server) == next + 1000 {
                thread::yield_now();
            }
        }
        done.store(true, Ordering::SeqCst);
        (workers.into_iter().map(|worker| worker.join().unwrap()).sum::<u64>(), marks)
    });
    let ids = table_ids(server);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len() as u64, created, "every table has an id of its own");
    for (next, set) in &marks {
        assert!(!ids.iter().any(|id| (*next..*set).contains(id)), "an id between {next} and {set} was given");
    }
    expect(&doctor(&[server.url()]), 0, &["healthy"]);
}

/// A data home whose metadata is older than its store: `a` is there before the copy, `b` and `c` came after, and `c` was
/// dropped.
fn with_old_metadata() -> TempDir {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(&create("a"));
    server.run("INSERT INTO a VALUES (1, 7)");
    assert_eq!(server.terminate().code, Some(0));
    let metadata = home.path().join("meta/metadata.redb");
    let copy = home.path().join("copy");
    fs::copy(&metadata, &copy).unwrap();
    let server = Server::start(home.path());
    server.run(&create("b"));
    server.run(&create("c"));
    server.run("DROP TABLE c");
    assert_eq!(server.terminate().code, Some(0));
    fs::rename(&copy, &metadata).unwrap();
    home
}

fn files(home: &Path, table: u32) -> usize {
    let regions = home.join(format!("store/{table:010}/0000000000/manifest"));
    fs::read_dir(regions).unwrap().count()
}

#[test]
fn metadata_older_than_its_store_gives_no_id_twice_and_doctor_mends_it() {
    let home = with_old_metadata();
    let path = home.path().to_str().unwrap();
    let before = files(home.path(), 1025);
    let server = Server::start(home.path());
    assert!(server.log().contains("the next table id is 1025, but id 1026 is in use"), "{}", server.log());
    let told = ["1026", "tessera doctor DATA_HOME --fix", r#"{"next_table_id":1027}"#];
    server.refused(&create("fresh")).expect(409, 1006, &told);
    assert_eq!((server.line("SELECT v FROM a"), next_id(&server)), ("7".to_owned(), 1025));
    expect(&doctor(&[server.url()]), 1, &["id 1026 is in use", "table 1025, which the catalog does not have", "not healthy"]);
    expect(&doctor(&[server.url(), "--fix"]), 2, &["stopped server"]);
    expect(&doctor(&[path]), 1, &["is in use by another process"]);
    server.kill();

    expect(&doctor(&[path]), 1, &["problem: the next table id is 1025", "not healthy"]);
    let report: Value = serde_json::from_str(&doctor(&[path, "--json"]).1).unwrap();
    assert_eq!((&report["healthy"], &report["next_table_id"], &report["highest_on_store"]), (&json!(false), &json!(1025), &json!(1026)));
    assert_eq!((&report["findings"][0]["kind"], &report["findings"][0]["severity"]), (&json!("next_id_too_low"), &json!("problem")));
    expect(&doctor(&[path, "--fix"]), 0, &["raised to 1027", "\nhealthy"]);
    expect(&doctor(&[path, "--fix"]), 0, &["next table id 1027", "healthy"]);

    let server = Server::start(home.path());
    server.run(&create("fresh"));
    assert_eq!(table_ids(&server), [1024, 1027]);
    assert_eq!(server.line("SELECT v FROM a"), "7");
    server.kill();
    assert_eq!(files(home.path(), 1025), before, "the folder of the old table is as it was");
}

#[test]
fn a_running_server_is_mended_over_http() {
    let home = with_old_metadata();
    let server = Server::start(home.path());
    post(&server, "/admin/recovery/enable", "", 200);
    let refused = post(&server, SET, r#"{"next_table_id":1026}"#, 400);
    assert!(refused.contains("table 1026 exists"), "{refused}");
    set_next_id(&server, 1027);
    post(&server, "/admin/recovery/disable", "", 200);
    server.run(&create("fresh"));
    assert_eq!(table_ids(&server), [1024, 1027]);
    expect(&doctor(&[server.url()]), 0, &["note: the store has a folder of table 1025", "healthy"]);
}

#[test]
fn doctor_creates_nothing_where_there_is_no_data_home() {
    let folder = TempDir::new().unwrap();
    expect(&doctor(&[folder.path().to_str().unwrap()]), 2, &["is not a data home"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    expect(&doctor(&["http://127.0.0.1:1"]), 3, &["no server answers"]);
    expect(&doctor(&["ftp://x"]), 2, &["is not a data home"]);
}
