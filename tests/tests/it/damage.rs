//! Damaged and missing files: what is hit says which object and where, everything else works, nothing panics.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Objects, Refusal, Server, files, flip_bit, one_file};

const STORAGE: u64 = 5000;

fn create(table: &str) -> String {
    format!("CREATE TABLE {table} (host STRING, ts TIMESTAMP(3) TIME INDEX, v BIGINT, PRIMARY KEY (host))")
}

/// A home with the tables `bad` (1024) and `good` (1025), each with 20 rows that were inserted one by one and in turn.
fn two_tables() -> (TempDir, Server) {
    let home = TempDir::new().unwrap();
    let server = Server::start(home.path());
    server.run(&create("bad"));
    server.run(&create("good"));
    for n in 0..20 {
        server.run(&format!("INSERT INTO bad VALUES ('needle-{n:04}', {n}, {n})"));
        server.run(&format!("INSERT INTO good VALUES ('needle-{n:04}-good', {n}, {n})"));
    }
    (home, server)
}

/// The same after a clean end: all rows are in one SST per table.
fn two_flushed_tables() -> TempDir {
    let (home, server) = two_tables();
    assert_eq!(server.terminate().code, Some(0));
    home
}

/// Asserts that the other table answers and takes rows, and that the bad one refuses both; its refusal.
fn only_bad_is_hit(server: &Server) -> Refusal {
    assert_eq!(server.line("SELECT count(*), sum(v) FROM good"), "20|190");
    assert_eq!(server.run("INSERT INTO good VALUES ('another', 1, 10)"), 1);
    assert_eq!(server.line("SELECT count(*), sum(v) FROM good"), "21|200");
    let refusal = server.refused("INSERT INTO bad VALUES ('another', 1, 1)");
    assert_eq!((refusal.status, refusal.code), (503, STORAGE), "{}", refusal.error);
    server.refused("SELECT count(*) FROM bad")
}

fn segment(home: &Path) -> PathBuf {
    one_file(&files(&home.join("wal"), ".wal")).to_owned()
}

/// Where `text` stands in a file, for the first time.
fn offset_of(file: &Path, text: &str) -> usize {
    let bytes = fs::read(file).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn a_region_with_a_flipped_bit_in_any_manifest_record_refuses_and_names_the_record() {
    let home = two_flushed_tables();
    let records = Objects::of(home.path(), 1024, 0).records();
    assert!(records.len() >= 2, "{records:?}");
    for (index, record) in records.iter().enumerate() {
        let bytes = fs::read(record).unwrap();
        flip_bit(record, bytes.len() * (index + 1) / (records.len() + 1));
        let server = Server::start(home.path());
        let refusal = only_bad_is_hit(&server);
        refusal.expect(503, STORAGE, &["1024/0", "0000001024/0000000000/manifest", name(record)]);
        assert!(refusal.error.contains("offset") || refusal.error.contains("bytes 0 to"), "{}", refusal.error);
        let shown = server.line("SELECT state, error FROM information_schema.regions WHERE table_name = 'bad'");
        assert!(shown.contains(name(record)), "{shown}");
        server.run("DELETE FROM good WHERE host = 'another'");
        server.kill();
        fs::write(record, bytes).unwrap();
    }
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "20|190");
}

#[test]
fn a_region_with_a_missing_manifest_record_refuses_and_names_the_record() {
    let home = two_flushed_tables();
    let records = Objects::of(home.path(), 1024, 0).records();
    fs::remove_file(&records[records.len() - 2]).unwrap();
    let server = Server::start(home.path());
    only_bad_is_hit(&server).expect(503, STORAGE, &["1024/0", name(&records[records.len() - 2]), "missing"]);
}

#[test]
fn a_region_with_a_flipped_bit_in_the_middle_of_the_wal_refuses_and_names_file_and_offset() {
    let (home, server) = two_tables();
    server.kill();
    let segment = segment(home.path());
    let offset = offset_of(&segment, "needle-0007");
    flip_bit(&segment, offset);
    let server = Server::start(home.path());
    let refusal = only_bad_is_hit(&server);
    refusal.expect(503, STORAGE, &["1024/0", name(&segment), "byte "]);
    let named: usize = refusal.error.split("byte ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(named <= offset && offset - named < 512, "byte {offset} was flipped: {}", refusal.error);
    assert!(server.log().contains(name(&segment)), "{}", server.log());
    server.kill();
    flip_bit(&segment, offset);
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "20|190");
}

#[test]
fn a_damaged_region_can_be_dropped_and_created_anew() {
    let (home, server) = two_tables();
    server.kill();
    let segment = segment(home.path());
    flip_bit(&segment, offset_of(&segment, "needle-0007"));
    let server = Server::start(home.path());
    server.refused("SELECT count(*) FROM bad").expect(503, STORAGE, &["1024/0"]);
    server.run("DROP TABLE bad");
    server.run(&create("bad"));
    assert_eq!(server.run("INSERT INTO bad VALUES ('x', 1, 1)"), 1);
    server.kill();
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "1|1");
    assert_eq!(server.line("SELECT count(*), sum(v) FROM good"), "20|190");
}

#[test]
fn a_torn_wal_tail_is_cut_with_no_more_than_a_debug_line() {
    let (home, server) = two_tables();
    server.run("INSERT INTO bad VALUES ('the-last-one', 99, 99)");
    server.kill();
    let segment = segment(home.path());
    let end = offset_of(&segment, "the-last-one");
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, &bytes[..end]).unwrap();
    let server = Server::start_with(home.path(), &["log.level=info,tessera_engine=debug"]);
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "20|190");
    assert_eq!(server.line("SELECT count(*), sum(v) FROM good"), "20|190");
    let log = server.log();
    assert!(!log.contains("ERROR") && !log.contains("WARN"), "{log}");
    assert!(log.lines().any(|line| line.contains("DEBUG") && line.contains("torn")), "{log}");
    server.run("INSERT INTO bad VALUES ('after', 100, 10)");
    server.kill();
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "21|200");
}

#[test]
fn a_flipped_bit_in_the_very_last_entry_counts_as_a_torn_tail() {
    let (home, server) = two_tables();
    server.run("INSERT INTO bad VALUES ('the-last-one', 99, 99)");
    server.kill();
    let segment = segment(home.path());
    flip_bit(&segment, offset_of(&segment, "the-last-one"));
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "20|190");
    assert!(!server.log().contains("ERROR"), "{}", server.log());
}

#[test]
fn a_query_names_the_sst_that_is_damaged() {
    let home = two_flushed_tables();
    let sst = one_file(&Objects::of(home.path(), 1024, 0).ssts()).to_owned();
    let bytes = fs::read(&sst).unwrap();
    let object = format!("0000001024/0000000000/sst/{}", name(&sst));
    for offset in [4, bytes.len() / 2, bytes.len() - 6] {
        flip_bit(&sst, offset);
        let server = Server::start(home.path());
        server.refused("SELECT count(*), sum(v) FROM bad").expect(503, STORAGE, &[&object, "damaged"]);
        server.refused("SELECT v FROM bad WHERE host = 'needle-0003'").expect(503, STORAGE, &[&object]);
        assert_eq!(server.line("SELECT count(*), sum(v) FROM good"), "20|190");
        server.kill();
        fs::write(&sst, &bytes).unwrap();
    }
    fs::write(&sst, &bytes[..bytes.len() - 10]).unwrap();
    let server = Server::start(home.path());
    server.refused("SELECT count(*), sum(v) FROM bad").expect(503, STORAGE, &[&object, "bytes"]);
}

#[test]
fn a_query_names_the_sst_that_is_missing_and_writes_go_on() {
    let home = two_flushed_tables();
    let sst = one_file(&Objects::of(home.path(), 1024, 0).ssts()).to_owned();
    let bytes = fs::read(&sst).unwrap();
    fs::remove_file(&sst).unwrap();
    let server = Server::start(home.path());
    server.refused("SELECT count(*), sum(v) FROM bad").expect(503, STORAGE, &[name(&sst), "missing"]);
    assert_eq!(server.line("SELECT count(*), sum(v) FROM good"), "20|190");
    assert_eq!(server.run("INSERT INTO bad VALUES ('another', 1, 10)"), 1);
    fs::write(&sst, bytes).unwrap();
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "21|200");
}

#[test]
fn a_server_with_a_damaged_cluster_file_does_not_start_and_names_it() {
    let home = two_flushed_tables();
    let file = home.path().join("store/tessera.json");
    flip_bit(&file, offset_of(&file, "false"));
    let ended = Server::try_start(home.path(), "127.0.0.1:0", &[]).err().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("'tessera.json' is damaged"), "{}", ended.log);
}

#[test]
fn a_wal_whose_identity_is_gone_is_refused_rather_than_begun_anew() {
    let (home, server) = two_tables();
    server.kill();
    let file = home.path().join("wal/wal.meta");
    let bytes = fs::read(&file).unwrap();
    for content in [None, Some(&b"nonsense"[..])] {
        match content {
            None => fs::remove_file(&file).unwrap(),
            Some(content) => fs::write(&file, content).unwrap(),
        }
        let ended = Server::try_start(home.path(), "127.0.0.1:0", &[]).err().unwrap();
        assert_eq!(ended.code, Some(1));
        assert!(ended.log.contains("wal.meta is damaged"), "{}", ended.log);
    }
    fs::write(&file, bytes).unwrap();
    let server = Server::start(home.path());
    assert_eq!(server.line("SELECT count(*), sum(v) FROM bad"), "20|190");
}
