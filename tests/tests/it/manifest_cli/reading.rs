//! Verbs that only read: show, log, diff, files.

use std::fs;

use serde_json::{Value, json as value};

use super::{Fixture, json, manifest, slot, text};
use crate::support::{Objects, Server, flip_bit};

#[test]
fn all_regions_are_listed_and_a_bad_one_is_isolated() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let shown = text(&["show", home]);
    assert!(shown.contains("1024/0") && shown.contains("1024/1") && shown.contains("public.cpu"), "{shown}");
    assert!(shown.contains("sealed cleanly") && shown.ends_with("(2 regions)\n"), "{shown}");
    assert_eq!(text(&["show", fixture.home().join("store").to_str().unwrap()]), shown);
    let record = Objects::of(fixture.home(), 1024, 1).records()[1].clone();
    flip_bit(&record, 100);
    let name = record.file_name().unwrap().to_str().unwrap();
    manifest(&["show", home]).expect(1, &["1024/0", "sealed cleanly", "unreadable", name]);
    let listed = json(&["show", home]);
    assert_eq!((&listed["regions"][0]["rows"], &listed["regions"][0]["version"]), (&value!(2), &value!(slot(2, 2))));
    assert!(listed["regions"][1]["error"].as_str().unwrap().contains(name), "{listed}");
    text(&["show", home, "1024/0"]);
}

#[test]
fn a_region_is_shown_with_everything_that_its_manifest_says() {
    let fixture = Fixture::new();
    let shown = text(&["show", fixture.path(), "1024/0"]);
    for part in [
        "region 1024/0 of public.cpu, version 2-2, written 20",
        "state        sealed cleanly\n",
        "schema       version 1, primary key (host)\n",
        "rule         host < 'm' on (host)\n",
        "generation   1\n",
        "of node 1, epochs 2, flushed up to 2:",
        "sequence     1:2\n",
        "staging      none\n",
        "files        2 files, 2 rows, ",
        "floor        1-0\n",
        "checkpoints  none logged\n",
        "snapshots    0\n",
        "replay       6 records from the first record",
        "| usage  | DOUBLE       | FIELD     | YES  | 1.5     | percent |",
    ] {
        assert!(shown.contains(part), "'{part}' is not in: {shown}");
    }
    let found = json(&["show", fixture.path(), "1024/0"]);
    assert_eq!((&found["region"], &found["version"]), (&value!("1024/0"), &value!(slot(2, 2))));
    assert_eq!([&found["sealed"], &found["clean"], &found["dropped"]], [&Value::Bool(true), &Value::Bool(true), &Value::Bool(false)]);
    assert_eq!((&found["table"]["rule"], &found["table"]["columns"][1]["semantic"]), (&value!("host < 'm'"), &value!("time_index")));
    assert_eq!((&found["totals"]["files"], &found["replay"]["records"]), (&value!(2), &value!(6)));
    assert_eq!(found["set_hash"].as_str().unwrap().len(), 32);
}

#[test]
fn an_old_version_is_shown_however_it_is_typed() {
    let fixture = Fixture::new();
    let shown = text(&["show", fixture.path(), "1024/0", "--version", "1-1"]);
    assert!(shown.contains("version 1-1,") && shown.contains("1 file, 1 row") && shown.contains("state        open"), "{shown}");
    for version in ["1/1", &slot(1, 1)] {
        assert_eq!(text(&["show", fixture.path(), "1024/0", "--version", version]), shown);
    }
    manifest(&["show", fixture.path(), "1024/0", "--version", "9-9"]).expect(1, &["1024/0", &slot(9, 9), "cannot be read"]);
}

#[test]
fn the_log_tells_what_happened_and_shows_around_a_damaged_record() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let log = text(&["log", home, "1024/0"]);
    for part in [
        "opened by node 1",
        "public.cpu: schema version 1 with 3 columns, generation 1, rule host < 'm', 0 options",
        "edit: +1 file (1 row, ",
        "flushed up to 1:",
        "sequence 1:1",
        "sealed cleanly by its writer, every row in a file",
        "(6 records)",
    ] {
        assert!(log.contains(part), "'{part}' is not in: {log}");
    }
    let whole = json(&["log", home, "1024/0"]);
    let records = whole["records"].as_array().unwrap();
    let slots: Vec<&str> = records.iter().map(|record| record["slot"].as_str().unwrap()).collect();
    let all = [slot(1, 0), slot(1, 1), slot(1, 2), slot(2, 0), slot(2, 1), slot(2, 2)];
    assert_eq!(slots, all);
    assert_eq!(records[1]["actions"][0]["edit"]["add"].as_array().unwrap().len(), 1);
    assert_eq!((&records[2]["kind"], &records[2]["prev"]), (&value!("seal"), &records[1]["commit_id"]));
    let size = fs::metadata(&Objects::of(fixture.home(), 1024, 0).records()[1]).unwrap().len();
    assert_eq!(records[1]["bytes"], value!(size));
    let slots_of = |args: &[&str]| {
        let found = json(&[&["log", home, "1024/0"], args].concat());
        found["records"].as_array().unwrap().iter().map(|record| record["slot"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(slots_of(&["--limit", "2"]), all[4..]);
    assert_eq!(slots_of(&["--from", "1-2"]), all[2..]);
    assert_eq!(slots_of(&["--from", "1-1", "--limit", "2"]), all[1..3]);
    flip_bit(&Objects::of(fixture.home(), 1024, 0).records()[1], 300);
    manifest(&["log", home, "1024/0"]).expect(1, &["damaged", "checksum mismatch", "opened by node 1", "(6 records)"]);
}

#[test]
fn a_diff_says_which_files_came_and_what_else_changed() {
    let fixture = Fixture::new();
    let diff = text(&["diff", fixture.path(), "1024/0", "1-1", "2-1"]);
    for part in [
        "region 1024/0, from 1-1 to 2-1\n1 file added: 1 row, ",
        ": 1 row, 2.2 KiB, 1970-01-01T00:00:03Z to 1970-01-01T00:00:03Z\n",
        "epoch: 1 -> 2\n",
        "sequence: 1:1 -> 1:2\n",
        "visible files: 1 -> 2\n",
    ] {
        assert!(diff.contains(part), "'{part}' is not in: {diff}");
    }
    let back = text(&["diff", fixture.path(), "1024/0", "2-1", "1-1"]);
    assert!(back.contains("1 file removed: 1 row"), "{back}");
    let found = json(&["diff", fixture.path(), "1024/0", "1-1", "2-1"]);
    assert_eq!((&found["files"]["added"][0]["rows"], &found["files"]["removed"]), (&value!(1), &value!([])));
    let epoch = value!({ "about": "epoch", "name": "", "before": "1", "after": "2" });
    assert!(found["changes"].as_array().unwrap().contains(&epoch), "{found}");
    let same = text(&["diff", fixture.path(), "1024/0", "2-1", "2-1"]);
    assert!(same.contains("no difference"), "{same}");
}

#[test]
fn files_are_listed_with_path_times_scope_and_rule() {
    let fixture = Fixture::new();
    let shown = text(&["files", fixture.path(), "1024/0"]);
    for part in ["1970-01-01T00:00:01Z", "1970-01-01T00:00:03Z", "1:1..1:1", "TRUE", "host < 'm'", "(2 files visible at 2-2, "] {
        assert!(shown.contains(part), "'{part}' is not in: {shown}");
    }
    assert!(!shown.contains("| state"), "{shown}");
    let found = json(&["files", fixture.path(), "1024/0", "--version", "1-1"]);
    let [file] = &found["files"].as_array().unwrap()[..] else { panic!("{found}") };
    let path = fixture.home().join("store").join(file["path"].as_str().unwrap());
    let bytes = fs::read(path).unwrap();
    assert_eq!((&file["bytes"], &file["crc32"]), (&value!(bytes.len()), &value!(format!("{:08x}", crc32fast::hash(&bytes)))));
    assert_eq!((&file["rows"], &file["since"], &file["state"]), (&value!(1), &value!(slot(1, 1)), &value!("visible")));
}

#[test]
fn reading_verbs_change_nothing_and_work_beside_a_server() {
    let fixture = Fixture::new();
    let home = fixture.path();
    let server = Server::start(fixture.home());
    server.run("INSERT INTO cpu VALUES ('c', 4000, 4)");
    let before = fixture.store();
    for args in [
        &["show", home][..],
        &["show", home, "1024/0"],
        &["log", home, "1024/0"],
        &["diff", home, "1024/0", "1-0", "2-1"],
        &["files", home, "1024/0", "--all"],
        &["verify", home, "--files=crc"],
        &["snapshot", "ls", home, "1024/0"],
        &["rollback", home, "1024/0", "1-1", "--dry-run"],
    ] {
        text(args);
    }
    assert_eq!(fixture.store(), before);
    assert_eq!(server.line("SELECT count(*) FROM cpu"), "4");
    assert_eq!(server.run("INSERT INTO cpu VALUES ('d', 5000, 5)"), 1);
}

#[test]
fn a_wrong_command_line_is_told_from_a_failure() {
    let fixture = Fixture::new();
    let home = fixture.path();
    for args in [
        &["show", home, "1024"][..],
        &["show", home, "1024/0", "--version", "two"],
        &["show", home, "--version", "1-1"],
        &["diff", home, "1024/0", "1-1"],
        &["verify", home, "--files=some"],
        &["snapshot", "create", home, "1024/0", "x", "--expires", "soon"],
        &["snapshot", "create", home, "1024/0", "not a name"],
        &["show", "/no/such/folder"],
        &["show", fixture.home().join("wal").to_str().unwrap()],
        &["frobnicate", home],
    ] {
        manifest(args).expect(2, &[]);
    }
    manifest(&["show", home, "1024/7"]).expect(1, &["there is no manifest at", "0000001024/0000000007"]);
    manifest(&["log", home, "1024/7"]).expect(1, &["1024/7", "has no record"]);
    manifest(&["verify", home, "1024/7"]).expect(1, &["1024/7", "there is no manifest"]);
    manifest(&["--help"]).expect(0, &["Examples:", "Exit codes:", "rollback", "verify"]);
    manifest(&["snapshot", "create", "--help"]).expect(0, &["--take-over", "--expires", "is refused unless"]);
}
