//! `tessera.json`, which says to which cluster a store belongs, and the marker of a dropped table.

use std::fs;

use tempfile::TempDir;
use tessera_manifest::id::{RegionId, RegionNumber, TableId};
use tessera_server::ddl::marker::{self, Drop};

use super::{flipped, golden, replaced, write_missing};
use crate::support::{Ended, Server};

const CLUSTER: &str = "tessera.json";
const MARKER: &str = "drop_marker.json";

fn dropped() -> Drop {
    let regions = (0..2).map(|number| RegionId::new(TableId(1024), RegionNumber(number))).collect();
    Drop { table: TableId(1024), database: "public".into(), name: "cpu/älter".into(), unix_ms: 1_700_000_000_123, regions }
}

/// Starts a server on a store with this cluster file.
fn start(bytes: &[u8]) -> Result<(TempDir, Server), Ended> {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("store")).unwrap();
    fs::write(home.path().join("store").join(CLUSTER), bytes).unwrap();
    Server::try_start(home.path(), "127.0.0.1:0", &[]).map(|server| (home, server))
}

#[test]
#[ignore = "writes golden files that are missing"]
fn write_missing_cluster_file_and_marker() {
    let home = TempDir::new().unwrap();
    Server::start(home.path()).kill();
    write_missing(CLUSTER, &fs::read(home.path().join("store").join(CLUSTER)).unwrap());
    write_missing(MARKER, &marker::encode(&dropped()).unwrap());
}

#[test]
fn a_cluster_file_is_read_as_ever() {
    let (home, server) = start(&golden(CLUSTER)).unwrap();
    assert_eq!(server.line("SELECT 1"), "1");
    assert_eq!(fs::read(home.path().join("store").join(CLUSTER)).unwrap(), golden(CLUSTER));
}

#[test]
fn a_cluster_file_with_a_flipped_bit_is_refused() {
    let bytes = golden(CLUSTER);
    let at = bytes.windows(9).position(|window| window == b"\"cluster\"").unwrap() + 14;
    let ended = start(&flipped(&bytes, at * 8)).err().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("'tessera.json' is damaged"), "{}", ended.log);
}

#[test]
fn a_cluster_file_for_newer_readers_is_refused_with_both_versions() {
    let ended = start(&replaced(&golden(CLUSTER), b"\"min_reader\":1", b"\"min_reader\":2")).err().unwrap();
    assert_eq!(ended.code, Some(1));
    assert!(ended.log.contains("format 2") && ended.log.contains("up to 1"), "{}", ended.log);
}

#[test]
fn a_drop_marker_is_read_and_written_as_ever() {
    let bytes = golden(MARKER);
    assert_eq!(marker::decode(MARKER, &bytes).unwrap(), dropped());
    assert_eq!(marker::encode(&dropped()).unwrap(), bytes, "what is written has changed, and that needs a new version");
}

#[test]
fn a_drop_marker_with_any_flipped_bit_never_reads_as_another_drop() {
    let bytes = golden(MARKER);
    for bit in 0..bytes.len() * 8 {
        if let Ok(found) = marker::decode(MARKER, &flipped(&bytes, bit)) {
            // The digit of `format` alone decides nothing.
            assert_eq!(found, dropped(), "bit {bit}");
        }
    }
    let at = bytes.windows(6).position(|window| window == b"public").unwrap();
    let error = marker::decode(MARKER, &flipped(&bytes, at * 8)).unwrap_err();
    assert!(error.message.contains(MARKER) && error.message.contains("damaged"), "{error}");
}

#[test]
fn a_drop_marker_for_newer_readers_is_refused_with_both_versions() {
    let error = marker::decode(MARKER, &replaced(&golden(MARKER), b"\"min_reader\":1", b"\"min_reader\":2")).unwrap_err();
    assert!(error.message.contains("reader of 2") && error.message.contains("this is 1"), "{error}");
}
