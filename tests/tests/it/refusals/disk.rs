//! A full disk: writes fail and say so, reads go on, and once there is room again everything works without a restart.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rand::RngExt;
use tempfile::TempDir;

use crate::support::{Ended, Refusal, Server, random, skipped};

const ROW_BYTES: u64 = 20_000;
/// Far more than the disk holds.
const STATEMENTS_MAX: u64 = 4_000;
const SMALL: &[&str] = &["engine.region_memtable_bytes=256KiB", "engine.memtable_bytes_max=64MiB", "wal.segment_bytes=256KiB"];

/// A small file system of its own, unmounted when it is dropped.
struct Disk {
    folder: TempDir,
}

impl Disk {
    fn mount(size: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self { folder })
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Leaves no more than `bytes` free.
    fn fill(&self, bytes: u64) -> PathBuf {
        let file = self.path().join("ballast");
        let mut size = self.free().saturating_sub(bytes);
        while fs::write(&file, vec![1; usize::try_from(size).unwrap()]).is_err() {
            size = size.saturating_sub(64 << 10);
        }
        file
    }

    fn free(&self) -> u64 {
        let output = Command::new("df").args(["-k", "--output=avail"]).arg(self.path()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().nth(1).unwrap().trim().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, since the server may still be ending; if it fails the folder stays behind.
        let _ = Command::new("umount").arg("-l").arg(self.folder.path()).status();
    }
}

/// Inserts rows that hardly compress until one is refused; how many were acknowledged from `first` on, and the refusal.
fn insert_until_refused(server: &Server, first: u64) -> (u64, Refusal) {
    let mut random = random("disk");
    for n in first..first + STATEMENTS_MAX {
        let note: String = (0..ROW_BYTES).map(|_| char::from(random.random_range(b'A'..=b'z')).to_string().replace('\\', "x")).collect();
        let reply = server.send(&format!("INSERT INTO t VALUES ('h', {n}, '{note}')"), "json").unwrap();
        if let Err(refusal) = reply.outputs() {
            return (n - first, refusal);
        }
    }
    panic!("{STATEMENTS_MAX} statements fit: {}", server.log());
}

#[test]
fn a_full_disk_refuses_writes_clearly_keeps_reads_and_heals_without_a_restart() {
    let Some(disk) = Disk::mount("24m") else {
        return skipped("a full disk", "a small file system cannot be mounted here; it needs root");
    };
    let home = disk.path().join("data");
    let server = Server::start_with(&home, SMALL);
    server.run("CREATE TABLE t (host STRING, ts TIMESTAMP TIME INDEX, note STRING, PRIMARY KEY (host))");
    server.run("INSERT INTO t VALUES ('h', 0, 'first')");
    let ballast = disk.fill(3 << 20);
    let (acknowledged, refusal) = insert_until_refused(&server, 1);
    eprintln!("full after {acknowledged} statements: {}", refusal.error);
    assert!(acknowledged > 0);
    assert!([429, 503, 507].contains(&refusal.status) && refusal.error.contains("space"), "{refusal:?}");
    let seen = server.line("SELECT count(*) FROM t");
    assert_eq!(seen, (acknowledged + 1).to_string());
    assert_eq!(server.line("SELECT note FROM t WHERE CAST(ts AS BIGINT) = 0"), "first");
    // A table can be asked to be made; it fails, and leaves nothing half-made that stops later statements.
    let refused = server.send("CREATE TABLE u (ts TIMESTAMP TIME INDEX)", "json").unwrap();
    eprintln!("CREATE TABLE on a full disk: {} {}", refused.status, refused.body);

    fs::remove_file(&ballast).unwrap();
    let next = acknowledged + 1_000;
    for n in next..next + 20 {
        assert_eq!(server.run(&format!("INSERT INTO t VALUES ('h', {n}, 'later')")), 1);
    }
    let all = (acknowledged + 1 + 20).to_string();
    assert_eq!(server.line("SELECT count(*) FROM t"), all);
    server.run("CREATE TABLE IF NOT EXISTS u (ts TIMESTAMP TIME INDEX)");
    server.kill();
    let server = Server::start_with(&home, SMALL);
    let found: u64 = server.line("SELECT count(*) FROM t").parse().unwrap();
    // The refused statement may have reached the log; nothing else may.
    assert!((acknowledged + 21..=acknowledged + 22).contains(&found), "{found} rows, {all} acknowledged");
    let Ended { code, log } = server.terminate();
    assert_eq!(code, Some(0), "{log}");
}
