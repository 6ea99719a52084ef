//! Disks that fail.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use futures::FutureExt;
use tessera_manifest::env::Env;
use tessera_manifest::wal::WalPosition;

use super::{open, payload, region, replayed, small};
use crate::limits::wal as limits;
use crate::wal::disk::{Disk, OsDisk};
use crate::wal::{LocalWal, LogStore, Pending, WalError};

/// Fails the given operation from now on.
#[derive(Debug, Default)]
struct Faulty {
    full: AtomicBool,
    meta_full: AtomicBool,
    metas_refused: AtomicU64,
    syncs_fail: AtomicBool,
    writes_fail: AtomicBool,
    syncs: AtomicU64,
    blocked: Mutex<bool>,
    unblocked: Condvar,
}

impl Faulty {
    fn block(&self, blocked: bool) {
        *self.blocked.lock().unwrap() = blocked;
        self.unblocked.notify_all();
    }
}

impl Disk for Faulty {
    fn preallocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        OsDisk.preallocate(path, bytes)
    }

    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.writes_fail.load(Ordering::SeqCst) {
            OsDisk.write_at(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::other("half a write"));
        }
        OsDisk.write_at(file, bytes, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        drop(self.unblocked.wait_while(self.blocked.lock().unwrap(), |blocked| *blocked).unwrap());
        if self.syncs_fail.load(Ordering::SeqCst) {
            return Err(io::Error::other("lost a cache page"));
        }
        OsDisk.sync_data(file)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OsDisk.create(path)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        OsDisk.sync_all(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }

    fn replace_file(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.meta_full.load(Ordering::SeqCst) {
            self.metas_refused.fetch_add(1, Ordering::SeqCst);
            return Err(io::ErrorKind::StorageFull.into());
        }
        OsDisk.replace_file(dir, name, bytes)
    }
}

fn open_faulty(dir: &Path) -> (Arc<Faulty>, LocalWal) {
    let disk = Arc::new(Faulty::default());
    let wal = LocalWal::open_on(Arc::<Faulty>::clone(&disk), dir.to_owned(), small(8192), Env::system()).unwrap();
    (disk, wal)
}

#[tokio::test]
async fn failed_sync_stops_the_log_until_it_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, wal) = open_faulty(dir.path());
    let first = wal.append(region(0), payload("first")).await.unwrap();
    disk.syncs_fail.store(true, Ordering::SeqCst);
    let error = wal.append(region(0), payload("second")).await.unwrap_err();
    assert!(matches!(error, WalError::Poisoned { .. }), "{error}");
    assert!(error.to_string().contains("restart"), "{error}");
    disk.syncs_fail.store(false, Ordering::SeqCst);
    let syncs = disk.syncs.load(Ordering::SeqCst);
    assert!(matches!(wal.append(region(1), payload("third")).await, Err(WalError::Poisoned { .. })));
    assert!(matches!(wal.close().await, Err(WalError::Poisoned { .. })));
    assert_eq!(disk.syncs.load(Ordering::SeqCst), syncs, "a file is not synced again after a failed sync");
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    let back = replayed(&wal, region(0), WalPosition::START).await.unwrap();
    assert_eq!(back[0], (first, Bytes::from("first")));
    assert_eq!(replayed(&wal, region(1), WalPosition::START).await.unwrap(), []);
    wal.append(region(1), payload("fourth")).await.unwrap();
}

#[tokio::test]
async fn failed_write_stops_the_log_and_its_torn_frame_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, wal) = open_faulty(dir.path());
    let first = wal.append(region(0), payload("first")).await.unwrap();
    disk.writes_fail.store(true, Ordering::SeqCst);
    assert!(matches!(wal.append(region(0), payload(&"second".repeat(50))).await, Err(WalError::Poisoned { .. })));
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap(), [(first, Bytes::from("first"))]);
}

#[tokio::test]
async fn full_disk_fails_cleanly_and_heals_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, wal) = open_faulty(dir.path());
    let big = || payload(&"x".repeat(3000));
    let mut acked = vec![wal.append(region(0), big()).await.unwrap()];
    disk.full.store(true, Ordering::SeqCst);
    let mut refused = 0;
    while refused < 3 {
        match wal.append(region(0), big()).await {
            Ok(position) => acked.push(position),
            Err(error) => {
                assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
                refused += 1;
            }
        }
    }
    disk.full.store(false, Ordering::SeqCst);
    acked.push(wal.append(region(0), big()).await.expect("there is room again"));
    acked.push(wal.append(region(0), big()).await.unwrap());
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    let back = replayed(&wal, region(0), WalPosition::START).await.unwrap();
    assert_eq!(back.into_iter().map(|(p, _)| p).collect::<Vec<_>>(), acked);
}

#[tokio::test]
async fn entry_is_kept_after_a_roll_that_had_no_room_for_the_identity_file() {
    for killed in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let (disk, wal) = open_faulty(dir.path());
        let mut acked = vec![wal.append(region(0), payload(&"x".repeat(3000))).await.unwrap()];
        disk.meta_full.store(true, Ordering::SeqCst);
        let error = wal.append(region(0), payload(&"x".repeat(3000))).await.unwrap_err();
        assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
        // It would fit in the old segment, but the header of the next one already says what the old one holds.
        match wal.append(region(0), payload("small")).await {
            Ok(position) => acked.push(position),
            Err(error) => assert!(matches!(error, WalError::DiskFull { .. }), "{error}"),
        }
        disk.meta_full.store(false, Ordering::SeqCst);
        acked.push(wal.append(region(0), payload("small")).await.expect("there is room again"));
        let meta = std::fs::read(dir.path().join("wal.meta")).unwrap();
        drop(wal);
        if killed {
            std::fs::write(dir.path().join("wal.meta"), meta).unwrap();
        }
        let wal = open(dir.path(), 8192).await;
        let back = replayed(&wal, region(0), WalPosition::START).await.unwrap();
        assert_eq!(back.into_iter().map(|(p, _)| p).collect::<Vec<_>>(), acked, "killed: {killed}");
    }
}

#[tokio::test]
async fn released_segments_that_a_full_disk_kept_are_used_for_the_next_ones() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), 8192).await;
    let big = || payload(&"x".repeat(3000));
    let mut last = WalPosition::START;
    for _ in 0..4 {
        last = wal.append(region(0), big()).await.unwrap();
    }
    wal.close().await.unwrap();
    drop(wal);
    let (disk, wal) = open_faulty(dir.path());
    disk.meta_full.store(true, Ordering::SeqCst);
    disk.full.store(true, Ordering::SeqCst);
    wal.release(region(0), last);
    while disk.metas_refused.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    disk.meta_full.store(false, Ordering::SeqCst);
    // At most two were ready before the disk was full; nothing is released any more.
    for n in 0..4 {
        wal.append(region(1), big()).await.unwrap_or_else(|error| panic!("append {n}: {error}"));
    }
}

#[tokio::test]
async fn small_entry_after_a_segment_that_could_not_be_begun_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), 8192).await;
    let big = || payload(&"x".repeat(3000));
    let mut acked = vec![wal.append(region(0), big()).await.unwrap()];
    // The next segment gets its name, and then the identity file cannot be written.
    let temp = dir.path().join("wal.meta.tmp");
    std::os::unix::fs::symlink("/dev/full", &temp).unwrap();
    let error = wal.append(region(0), big()).await.unwrap_err();
    assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
    acked.extend(wal.append(region(0), payload("small, while it is full")).await);
    std::fs::remove_file(&temp).unwrap();
    acked.push(wal.append(region(0), payload("small, later")).await.unwrap());
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    let back = replayed(&wal, region(0), WalPosition::START).await.unwrap();
    assert_eq!(back.into_iter().map(|(p, _)| p).collect::<Vec<_>>(), acked);
}

#[tokio::test]
async fn segment_that_cannot_be_removed_is_tried_again_and_harms_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), 8192).await;
    let mut positions = Vec::new();
    for _ in 0..3 {
        positions.push(wal.append(region(0), payload(&"x".repeat(3000))).await.unwrap());
    }
    drop(wal);
    // Another size makes the keeper delete old files, and a folder in a file's place cannot be deleted.
    let first = dir.path().join(format!("{:020}.wal", 1));
    let wal = open(dir.path(), 12288).await;
    std::fs::remove_file(&first).unwrap();
    std::fs::create_dir_all(first.join("x")).unwrap();
    wal.release(region(0), positions[1]);
    wal.append(region(1), payload("works")).await.unwrap();
    wal.close().await.unwrap();
    drop(wal);
    std::fs::remove_dir_all(&first).unwrap();
    let wal = open(dir.path(), 12288).await;
    assert_eq!(replayed(&wal, region(0), positions[1]).await.unwrap().len(), 1);
    assert_eq!(replayed(&wal, region(1), WalPosition::START).await.unwrap().len(), 1);
}

#[tokio::test]
async fn full_queue_makes_submits_wait_and_a_cancelled_one_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, wal) = open_faulty(dir.path());
    wal.append(region(0), payload("first")).await.unwrap();
    disk.block(true);
    let mut pending = Vec::new();
    while let Some(submitted) = tokio::task::unconstrained(wal.submit(region(1), payload("x"))).now_or_never() {
        pending.push(submitted.unwrap());
    }
    disk.block(false);
    let bound = limits::QUEUE_ENTRIES_MAX as usize;
    assert!((bound..=bound + 1).contains(&pending.len()), "{}", pending.len());
    // The one that had to wait was dropped; so are all waits but the last.
    let last = pending.pop().unwrap();
    let mut expected: Vec<_> = pending.iter().map(Pending::position).collect();
    expected.push(last.position());
    drop(pending);
    last.wait().await.unwrap();
    expected.push(wal.append(region(1), payload("x")).await.unwrap());
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    let back = replayed(&wal, region(1), WalPosition::START).await.unwrap();
    assert_eq!(back.into_iter().map(|(p, _)| p).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn close_writes_what_is_queued_and_drop_answers_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, wal) = open_faulty(dir.path());
    wal.append(region(0), payload("first")).await.unwrap();
    disk.block(true);
    let mut pending = Vec::new();
    for _ in 0..20 {
        pending.push(wal.submit(region(0), payload("x")).await.unwrap());
    }
    let close = wal.close();
    disk.block(false);
    close.await.unwrap();
    for entry in pending {
        entry.wait().await.unwrap();
    }
    drop(wal);
    let (disk, wal) = open_faulty(dir.path());
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap().len(), 21);
    disk.block(true);
    let entry = wal.submit(region(0), payload("y")).await.unwrap();
    disk.block(false);
    drop(wal);
    // In flight or still queued: either way there is an answer.
    assert!(matches!(entry.wait().await, Ok(_) | Err(WalError::Closed)));
}
