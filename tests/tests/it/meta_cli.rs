//! `tessera meta` as a process, on the data home of a real server.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Server, binary};

/// Runs `tessera meta` with these arguments; exit code, stdout, stderr.
fn meta(args: &[&str]) -> (i32, String, String) {
    meta_with_input(args, "")
}

fn meta_with_input(args: &[&str], input: &str) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.arg("meta").args(args).env_remove("RUST_LOG").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!err.contains("panicked"), "{err}");
    (output.status.code().unwrap(), out, err)
}

#[track_caller]
fn expect(args: &[&str], code: i32, parts: &[&str]) -> String {
    let (found, out, err) = meta(args);
    assert_eq!(found, code, "{args:?}: {out}{err}");
    for part in parts {
        assert!(format!("{out}{err}").contains(part), "{args:?}: '{part}' is not in: {out}{err}");
    }
    out
}

#[track_caller]
fn json_of(args: &[&str]) -> Value {
    let (_, out, err) = meta(&[args, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}{err}"))
}

/// A data home with tables `a` and `b`, stopped.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run("CREATE TABLE a (ts TIMESTAMP TIME INDEX, v INT)");
    server.run("CREATE TABLE b (ts TIMESTAMP TIME INDEX, v INT)");
    assert_eq!(server.terminate().code, Some(0));
    home
}

fn path(home: &TempDir) -> &str {
    home.path().to_str().unwrap()
}

#[test]
fn what_a_server_stored_is_shown_as_json_and_everything_can_be_read() {
    let home = home();
    let home = path(&home);
    let got = json_of(&["get", home, "table/name/public/b"]);
    assert_eq!((&got["kind"], &got["value"]["table_id"], &got["version"]), (&json!("table name"), &json!(1025), &json!(1)));
    expect(&["get", home, "table/id/0000001024"], 0, &["(table)", "\"name\": \"a\"", "created at revision"]);
    expect(&["get", home, "table/id/0000009999"], 1, &["there is no key 'table/id/0000009999'"]);
    let status = json_of(&["status", home]);
    assert_eq!((&status["next_table_id"], &status["problems"]), (&json!(1026), &json!([])));
    assert_eq!(status["families"]["table/id/{table}"]["keys"], json!(2));
    assert_eq!(status["families"].get("(other)"), None, "every key is one of ours: {status}");
    expect(&["status", home], 0, &["next table id  1026", "table/name/{database}/{table name}", "procedure/row/{id}"]);
    let keys = expect(&["list", home, "table/name/", "--keys-only"], 0, &[]);
    assert_eq!(keys, "table/name/public/a\ntable/name/public/b\n");
    let lines = expect(&["list", home, "--json"], 0, &[]);
    let entries: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(entries.iter().all(|entry| entry["value"].is_object()), "{lines}");
    assert_eq!(expect(&["list", home, "--limit", "2"], 0, &[]).lines().count(), 2);
    expect(&["keys-layout"], 0, &["switch/{switch}", "sequence/table", "route"]);
}

#[test]
fn values_are_put_checked_and_only_with_force_where_they_are_ours() {
    let folder = home();
    let home = path(&folder);
    expect(&["put", home, "sequence/table", r#"{"next": 3000}"#], 1, &["--force"]);
    expect(&["put", home, "sequence/table", "3000", "--force"], 2, &["sequence"]);
    expect(&["put", home, "sequence/table", r#"{"next": "x"}"#, "--force"], 2, &["sequence"]);
    expect(&["put", home, "sequence/table", r#"{"next": 3000}"#, "--force"], 0, &["written"]);
    let shown = json_of(&["get", home, "sequence/table"]).to_string();
    let (code, _, err) = meta_with_input(&["put", home, "sequence/table", "-", "--force"], &shown);
    assert_eq!(code, 0, "what get prints can be put: {err}");
    expect(&["put", home, "mine", "hello"], 0, &["written"]);
    expect(&["put", home, "mine", "again", "--if-version", "0"], 1, &["not done"]);
    assert_eq!(expect(&["get", home, "mine", "--raw"], 0, &[]), "hello");
    expect(&["del", home, "mine"], 0, &["deleted 1"]);
    expect(&["del", home, "mine"], 1, &["deleted 0"]);
    expect(&["del", home, "table/", "--prefix"], 1, &["--force"]);
    expect(&["del", home, "switch/recovery", "--force"], 1, &["deleted 0"]);
    let server = Server::start(folder.path());
    server.run("CREATE TABLE c (ts TIMESTAMP TIME INDEX)");
    assert_eq!(server.line("SELECT max(table_id) FROM information_schema.tables"), "3000");
}

#[test]
fn transactions_are_done_whole_and_say_which_branch() {
    let home = home();
    let home = path(&home);
    let words = ["txn", home, "--if", "absent:x", "--then", "put:x=1", "--then", "put:y=2", "--else", "get:x"];
    expect(&words, 0, &["the conditions hold"]);
    expect(&words, 1, &["do not hold", "get: x  \"1\""]);
    let script = json!({"if": [{"value": {"key": "x", "value": "1"}}], "then": [{"del_prefix": "x"}, {"list": "y"}, {"put": {"key": "z", "value": "3"}}]});
    let (code, out, err) = meta_with_input(&["txn", home, "-", "--json", "--force"], &script.to_string());
    assert_eq!(code, 0, "{err}");
    let outcome: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&outcome["succeeded"], &outcome["answers"][0]["deleted"]), (&json!(true), &json!(1)));
    assert_eq!(outcome["answers"][1]["entries"][0]["text"], json!("2"));
    expect(&["get", home, "x"], 1, &[]);
    expect(&["txn", home, "--then", "del:table/id/0000001024"], 1, &["--force"]);
    expect(&["txn", home], 2, &["does nothing"]);
}

#[test]
fn what_cannot_be_looked_into_says_why() {
    let home = home();
    let server = Server::start(home.path());
    expect(&["status", path(&home)], 1, &["is in use by another process"]);
    server.kill();
    expect(&["watch", path(&home)], 2, &["etcd://HOST:PORT", "/admin/procedures"]);
    expect(&["status", "/nowhere"], 2, &["is not a data home"]);
    expect(&["status", "http://127.0.0.1:4000"], 2, &["neither a data home nor etcd://"]);
    assert!(!Path::new("/nowhere").exists());
    expect(&["get", path(&home)], 2, &["KEY"]);
}

#[test]
fn a_key_that_is_none_of_ours_is_counted_as_such() {
    let home = home();
    let home = path(&home);
    // It looks like one of ours, but ids have ten digits.
    let script = json!({"then": [{"put": {"key": "table/id/1", "value": "x"}}]});
    let (code, _, err) = meta_with_input(&["txn", home, "-"], &script.to_string());
    assert_eq!(code, 0, "{err}");
    expect(&["status", home], 0, &["(other)"]);
}

#[test]
fn the_store_of_a_data_home_keeps_its_word_and_is_measured() {
    let home = home();
    let home = path(&home);
    let report = json_of(&["verify", home, "--calls", "400", "--writers", "4"]);
    assert_eq!(report["violations"], json!(0), "{report}");
    let rows = json_of(&["bench", home, "--calls", "20", "--clients", "1,2", "--raw"]);
    let of: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["of"].as_str().unwrap()).collect();
    assert!(of.contains(&"tessera") && of.contains(&"redb"), "{rows}");
    expect(&["bench", home, "--calls", "20", "--clients", "1"], 0, &["calls/s", "watch"]);
    let left = expect(&["list", home, "--keys-only"], 0, &[]);
    assert!(!left.contains("bench/") && !left.contains("verify/"), "{left}");
    assert!(!Path::new(home).join("meta/bench.redb").exists());
}
