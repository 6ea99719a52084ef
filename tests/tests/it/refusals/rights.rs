//! Folders that the server may not write to any more: what needs them fails and says so, the rest goes on, and once it
//! may again everything works without a restart.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{Ended, Server, binary};

/// The user `nobody`, whom rights bind; root is bound by none.
const NOBODY: u32 = 65_534;
const SMALL: &[&str] = &["engine.region_memtable_bytes=64MiB", "wal.segment_bytes=256KiB"];
/// More than two segments of the log.
const LONG: usize = 600 << 10;

/// A folder of a user whom rights bind, and the binary where this user can run it.
struct Home {
    folder: TempDir,
    uid: u32,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let own = fs::metadata(folder.path()).unwrap().uid();
        let uid = if own == 0 { NOBODY } else { own };
        if own == 0 {
            chown(folder.path(), Some(uid), Some(uid)).unwrap();
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        let copy = folder.path().join("tessera");
        if fs::hard_link(binary(), &copy).is_err() {
            fs::copy(binary(), &copy).unwrap();
        }
        Self { folder, uid }
    }

    fn start(&self) -> Server {
        match self.uid {
            NOBODY => Server::start_as(NOBODY, &self.folder.path().join("tessera"), &self.data(), SMALL),
            _ => Server::start_with(&self.data(), SMALL),
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

/// Takes the right to write to a folder and to all below it, or gives it back.
fn set_writable(folder: &Path, writable: bool) {
    fs::set_permissions(folder, Permissions::from_mode(if writable { 0o755 } else { 0o555 })).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            set_writable(&entry.path(), writable);
        }
    }
}

#[test]
fn a_store_that_may_not_be_written_refuses_flushes_and_heals_without_a_restart() {
    let home = Home::new();
    let server = home.start();
    server.run("CREATE TABLE t (host STRING, ts TIMESTAMP TIME INDEX, PRIMARY KEY (host))");
    server.run("INSERT INTO t VALUES ('a', 1)");
    server.line("ADMIN flush_table('t')");
    let store = home.data().join("store");
    set_writable(&store, false);

    server.run("INSERT INTO t VALUES ('b', 2)");
    let refused = server.refused("ADMIN flush_table('t')");
    eprintln!("flush: {} {}", refused.status, refused.error);
    assert!(refused.error.to_lowercase().contains("permission denied"), "{refused:?}");
    assert!(refused.error.contains("1024"), "the error names the object: {refused:?}");
    let refused = server.refused("CREATE TABLE u (ts TIMESTAMP TIME INDEX)");
    assert!(refused.error.to_lowercase().contains("permission denied"), "{refused:?}");
    server.run("INSERT INTO t VALUES ('c', 3)");
    assert_eq!(server.line("SELECT count(*) FROM t"), "3", "rows that are acknowledged are seen");

    set_writable(&store, true);
    server.line("ADMIN flush_table('t')");
    server.run("CREATE TABLE u (ts TIMESTAMP TIME INDEX)");
    server.kill();
    let server = home.start();
    assert_eq!(server.lines("SELECT host FROM t ORDER BY host"), ["a", "b", "c"]);
    let Ended { code, log } = server.terminate();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_log_that_may_not_grow_refuses_writes_and_heals_without_a_restart() {
    let home = Home::new();
    let server = home.start();
    server.run("CREATE TABLE t (host STRING, ts TIMESTAMP TIME INDEX, note STRING, PRIMARY KEY (host))");
    let wal = home.data().join("wal");
    set_writable(&wal, false);
    let note = "x".repeat(20_000);
    let statement = |n: usize| format!("INSERT INTO t VALUES ('a', {n}, '{note}')");
    let refused = (0..LONG / note.len()).find_map(|n| Some((n, server.send(&statement(n), "json").unwrap().outputs().err()?)));
    let (acknowledged, refused) = refused.expect("segments of 256 KiB are full by now");
    eprintln!("after {acknowledged} inserts: {} {}", refused.status, refused.error);
    assert!(refused.error.to_lowercase().contains("permission denied") && refused.error.contains("wal"), "{refused:?}");
    assert_eq!(server.line("SELECT count(*) FROM t"), acknowledged.to_string());

    set_writable(&wal, true);
    server.run(&statement(LONG));
    assert_eq!(server.line("SELECT count(*) FROM t"), (acknowledged + 1).to_string());
    server.kill();
    let server = home.start();
    let found: usize = server.line("SELECT count(*) FROM t").parse().unwrap();
    assert!((acknowledged + 1..=acknowledged + 2).contains(&found), "{found} rows, {acknowledged} and one acknowledged");
    let Ended { code, log } = server.terminate();
    assert_eq!(code, Some(0), "{log}");
}
