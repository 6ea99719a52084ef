//! Verbs that write a record: snapshots and rollback. What they do, what they refuse, and what they leave to the server.

use std::fs;

use serde_json::{Value, json as value};

use super::{Fixture, json, manifest, slot, text};
use crate::support::{Objects, Server};

/// Rows of the table, as a server sees them.
fn rows(fixture: &Fixture) -> Vec<String> {
    fixture.ask("SELECT host, usage FROM cpu ORDER BY host")
}

#[test]
fn a_snapshot_is_created_listed_and_dropped_and_the_region_stays_clean() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let made = text(&["snapshot", "create", home, "1024/0", "before-import", "--expires", "7d"]);
    assert!(
        made.contains("'before-import' of region 1024/0 keeps version 3-0 until 20") && made.contains("sealed cleanly again"),
        "{made}"
    );
    let old = json(&["snapshot", "create", home, "1024/0", "old", "--version", "1-1"]);
    assert_eq!((&old["snapshot"]["checkpoint"]["version"], &old["region_left"]), (&value!(slot(1, 1)), &value!("sealed")));
    let listed = text(&["snapshot", "ls", home, "1024/0"]);
    assert!(listed.contains("before-import") && listed.contains("never") && listed.contains("(2 snapshots)"), "{listed}");
    manifest(&["snapshot", "create", home, "1024/0", "old"]).expect(1, &["has a snapshot 'old' already"]);
    manifest(&["snapshot", "create", home, "1024/0", "seal", "--version", "1-2"]).expect(1, &["1-2 is a seal", "name 1-1"]);
    manifest(&["snapshot", "create", home, "1024/0", "none", "--version", "7-7"]).expect(1, &["cannot be read"]);
    manifest(&["snapshot", "drop", home, "1024/0", "new"]).expect(1, &["no snapshot 'new'", "before-import, old"]);
    let records = Objects::of(fixture.home(), 1024, 0).records().len();
    assert_eq!(records, 12, "a refusal writes nothing");
    assert_eq!(rows(&fixture), ["a|1.0", "b|3.0", "z|2.0"]);
    let dropped = text(&["snapshot", "drop", home, "1024/0", "old"]);
    assert!(dropped.contains("'old' of region 1024/0 is dropped"), "{dropped}");
    let left = json(&["snapshot", "ls", home, "1024/0"]);
    assert_eq!((left["snapshots"].as_array().unwrap().len(), &left["snapshots"][0]["name"]), (1, &value!("before-import")));
    text(&["verify", home, "--files=crc"]);
    let diff = text(&["diff", home, "1024/0", "4-1", "6-1"]);
    assert!(diff.contains("snapshot 'old' dropped: of 1-1, kept until it is dropped"), "{diff}");
}

#[test]
fn writing_verbs_are_refused_while_a_server_runs() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let server = Server::start(fixture.home());
    let before = fixture.store();
    for args in [
        &["snapshot", "create", home, "1024/0", "x"][..],
        &["snapshot", "create", home, "1024/0", "x", "--take-over"],
        &["rollback", home, "1024/0", "1-1", "--take-over"],
        &["rollback", fixture.home().join("store").to_str().unwrap(), "1024/0", "1-1"],
    ] {
        manifest(args).expect(1, &["in use by another process", "stop that one"]);
    }
    assert_eq!(fixture.store(), before);
    assert_eq!(server.run("INSERT INTO cpu VALUES ('c', 4000, 4)"), 1);
}

#[test]
fn a_region_that_was_not_closed_cleanly_is_taken_over_only_when_told_and_loses_no_row() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let server = Server::start(fixture.home());
    server.run("INSERT INTO cpu VALUES ('c', 4000, 4)");
    server.kill();
    let before = fixture.store();
    for args in [&["snapshot", "create", home, "1024/0", "x"][..], &["rollback", home, "1024/0", "1-1"]] {
        let parts = ["1024/0 was not closed cleanly", "open at version 3-0", "local wal", "--take-over"];
        manifest(args).expect(1, &parts);
    }
    assert_eq!(fixture.store(), before);
    let made = json(&["snapshot", "create", home, "1024/0", "x", "--take-over"]);
    assert_eq!(made["region_left"], value!("open"));
    assert_eq!(json(&["show", home, "1024/0"])["sealed"], Value::Bool(false));
    assert_eq!(rows(&fixture), ["a|1.0", "b|3.0", "c|4.0", "z|2.0"]);
    text(&["verify", home, "--files=crc"]);
}

#[test]
fn a_rollback_takes_files_away_and_brings_them_back() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let before = fixture.store();
    let plan = text(&["rollback", home, "1024/0", "1-1", "--dry-run"]);
    assert!(plan.contains("would go back to the files of 1-1\n1 file removed: 1 row"), "{plan}");
    assert_eq!(fixture.store(), before);
    let done = text(&["rollback", home, "1024/0", "1-1"]);
    assert!(done.contains("is back at the files of 1-1 (record 3-1)\n1 file removed") && done.contains("sealed cleanly again"), "{done}");
    assert_eq!(rows(&fixture), ["a|1.0", "z|2.0"]);
    let all = json(&["files", home, "1024/0", "--all"]);
    let states: Vec<&Value> = all["files"].as_array().unwrap().iter().map(|file| &file["state"]).collect();
    assert_eq!(states, [&value!("visible"), &value!("removed")]);
    let shown = text(&["files", home, "1024/0", "--all"]);
    assert!(shown.contains("| removed | 3-1 ") && shown.contains("(1 file visible at "), "{shown}");
    let back = json(&["rollback", home, "1024/0", "2-1"]);
    assert_eq!((back["files"]["restored"].as_array().unwrap().len(), &back["refused"]), (1, &value!([])));
    assert_eq!(rows(&fixture), ["a|1.0", "b|3.0", "z|2.0"]);
    let version = json(&["show", home, "1024/0"])["version"].clone();
    let again = text(&["rollback", home, "1024/0", "2-1"]);
    assert!(again.contains("shows the files of 2-1 already: nothing to do"), "{again}");
    assert_eq!(json(&["show", home, "1024/0"])["version"], version);
    let diff = text(&["diff", home, "1024/0", "3-1", version.as_str().unwrap()]);
    assert!(diff.contains("1 file restored: 1 row"), "{diff}");
    text(&["verify", home, "--files=crc"]);
}

#[test]
fn a_rollback_of_a_dropped_region_is_refused_with_its_reasons_a_line_each() {
    let fixture = Fixture::new();
    fixture.serve(&["DROP TABLE cpu"]);
    let home = fixture.path();
    let ended = manifest(&["rollback", home, "1024/0", "2-1"]);
    ended.expect(1, &["region 1024/0 cannot go back to 2-1:\n  the region was dropped or retired\n"]);
    let refused = json(&["rollback", home, "1024/0", "2-1", "--dry-run"]);
    assert_eq!(refused["refused"], value!(["the region was dropped or retired"]));
    manifest(&["snapshot", "create", home, "1024/0", "x", "--take-over"]).expect(1, &["was dropped"]);
}

#[test]
fn a_store_without_a_data_home_is_written_to_as_well() {
    let fixture = Fixture::new();
    let copy = tempfile::tempdir().unwrap();
    for (path, content) in fixture.store() {
        let to = copy.path().join(path.strip_prefix(fixture.home().join("store")).unwrap());
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, content).unwrap();
    }
    let path = copy.path().to_str().unwrap();
    text(&["snapshot", "create", path, "1024/1", "kept"]);
    text(&["verify", path, "--files=crc"]);
    assert!(!copy.path().join("lock").exists());
}
