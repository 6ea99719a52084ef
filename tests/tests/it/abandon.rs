//! `tessera region abandon-wal` as a process: a log that is gone for good, and one that is not.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Server, binary};

const CREATE: &str = "CREATE TABLE t (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (host)) \
     PARTITION ON COLUMNS (host) (host < 'm', host >= 'm')";
const ALL: &str = "SELECT host, CAST(ts AS BIGINT), v FROM t ORDER BY 1, 2";

/// Runs `tessera` with these arguments; exit code and what it printed.
fn tessera(args: &[&str]) -> (i32, String) {
    let output = Command::new(binary()).args(args).env_remove("RUST_LOG").output().unwrap();
    let text = format!("{}{}", String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!text.contains("panicked"), "{text}");
    (output.status.code().unwrap(), text)
}

#[track_caller]
fn expect(args: &[&str], code: i32, parts: &[&str]) -> String {
    let (found, text) = tessera(args);
    assert_eq!(found, code, "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: '{part}' is not in: {text}");
    }
    text
}

/// A home whose server was killed, with rows in files and rows in the log only.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(CREATE);
    server.run("INSERT INTO t VALUES ('a', 1, 1), ('b', 2, 2), ('z', 3, 3)");
    server.lines("ADMIN flush_table('t')");
    server.run("INSERT INTO t VALUES ('a', 4, 4), ('z', 5, 5)");
    server.kill();
    home
}

/// The id of the log of a home.
fn log_of(home: &Path) -> String {
    let text = fs::read_to_string(home.join("wal/wal.meta")).unwrap();
    let line = text.lines().next().unwrap();
    let meta: Value = serde_json::from_str(&line[9..]).unwrap();
    meta["log"].as_str().unwrap().to_owned()
}

#[test]
fn a_region_whose_log_is_gone_opens_with_what_was_flushed_once_the_log_is_given_up() {
    let home = home();
    let path = home.path().to_str().unwrap();
    let lost = log_of(home.path());
    fs::rename(home.path().join("wal"), home.path().join("wal.lost")).unwrap();
    let server = Server::start(home.path());
    let give_up = format!("tessera region abandon-wal STORE 1024/0 --wal {lost}");
    for sql in [ALL, "INSERT INTO t VALUES ('a', 9, 9)"] {
        server.refused(sql).expect(503, 5000, &["1024/0", "may have rows in the local wal", &lost, &give_up]);
    }
    let verb = ["region", "abandon-wal", path, "1024/0", "--wal", &lost];
    // Not while a server has the data home, and not without a yes.
    expect(&[&verb[..], &["--yes"]].concat(), 1, &["in use by another process"]);
    expect(&verb, 1, &["may be lost", "nothing was changed"]);
    server.kill();
    let other = "00000000000000000000000000000abc";
    expect(&["region", "abandon-wal", path, "1024/0", "--wal", other, "--yes"], 1, &["no row of it is only in log", &lost]);
    let done = expect(&[&verb[..], &["--yes"]].concat(), 0, &["has abandoned the local wal", &lost, "behind position"]);
    assert!(done.contains("record "), "{done}");
    expect(&[&verb[..], &["--yes"]].concat(), 1, &["was abandoned in record"]);
    // The other region still misses its log; this one is served.
    let server = Server::start(home.path());
    server.refused(ALL).expect(503, 5000, &["1024/1", &lost]);
    let flushed = ["a|1|1", "b|2|2"];
    assert_eq!(server.lines("SELECT host, CAST(ts AS BIGINT), v FROM t WHERE host < 'm' ORDER BY 1, 2"), flushed);
    server.kill();
    expect(&["region", "abandon-wal", path, "1024/1", "--wal", &lost, "--yes"], 0, &["has abandoned"]);
    let server = Server::start(home.path());
    assert_eq!(server.lines(ALL), ["a|1|1", "b|2|2", "z|3|3"]);
    server.run("INSERT INTO t VALUES ('a', 6, 6)");
    // That it was taken over by force is on record, and stays there.
    for region in ["1024/0", "1024/1"] {
        expect(&["region", "show", path, region], 0, &["abandoned", &lost, "may be lost"]);
        let shown = expect(&["region", "show", path, region, "--json"], 0, &[]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert!(shown.to_string().contains(&lost), "{shown}");
        expect(&["manifest", "log", path, region], 0, &["by force without the local wal", &lost, "may be lost"]);
    }
    assert_eq!(server.terminate().code, Some(0));
    // The log turns up again: what was given up does not come back, and nothing written since is hurt.
    fs::rename(home.path().join("wal"), home.path().join("wal.new")).unwrap();
    fs::rename(home.path().join("wal.lost"), home.path().join("wal")).unwrap();
    let server = Server::start(home.path());
    assert_eq!(server.lines(ALL), ["a|1|1", "a|6|6", "b|2|2", "z|3|3"]);
    server.run("INSERT INTO t VALUES ('b', 7, 7)");
    server.kill();
    let server = Server::start(home.path());
    assert_eq!(server.lines(ALL), ["a|1|1", "a|6|6", "b|2|2", "b|7|7", "z|3|3"]);
}

#[test]
fn the_log_of_the_data_home_itself_is_not_given_up_by_mistake() {
    let home = home();
    let path = home.path().to_str().unwrap();
    let own = log_of(home.path());
    let verb = ["region", "abandon-wal", path, "1024/0", "--wal", &own];
    for more in [&[][..], &["--yes"], &["--yes", "--json"]] {
        expect(&[&verb[..], more].concat(), 1, &["is not gone", "replays it", "--force", "nothing was changed"]);
    }
    // Nothing was changed indeed.
    let server = Server::start(home.path());
    assert_eq!(server.lines(ALL), ["a|1|1", "a|4|4", "b|2|2", "z|3|3", "z|5|5"]);
    server.kill();
    expect(&[&verb[..], &["--force"]].concat(), 1, &["may be lost", "nothing was changed"]);
    expect(&[&verb[..], &["--force", "--yes"]].concat(), 0, &["has abandoned", &own]);
    let server = Server::start(home.path());
    let left = server.lines(ALL);
    assert!(left.contains(&"a|1|1".to_owned()) && left.ends_with(&["z|3|3".to_owned(), "z|5|5".to_owned()]), "{left:?}");
    assert_eq!(server.run("INSERT INTO t VALUES ('a', 6, 6)"), 1);
    assert!(server.lines(ALL).contains(&"a|6|6".to_owned()));
}
