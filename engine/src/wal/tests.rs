//! Tests of the local log: conformance, locks, reuse of segments, failing disks, a model.

mod crashes;
mod damage;
mod faults;
mod model;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tessera_manifest::env::Env;
use tessera_manifest::id::NodeId;
use tessera_manifest::wal::WalPosition;

use super::conformance::{Subject, payload, region, replayed, run};
use super::recover::Listing;
use super::{LocalWal, LogStore, NoopWal, Options, SyncMode, WalError};
use crate::limits::wal::SPARE_SEGMENTS_MAX;

pub(super) fn small(segment_bytes: u64) -> Options {
    Options { node: NodeId(1), segment_bytes, sync: SyncMode::Always }
}

pub(super) async fn open(dir: &Path, segment_bytes: u64) -> LocalWal {
    LocalWal::open(dir, small(segment_bytes), Env::system()).await.unwrap()
}

struct Local {
    dir: PathBuf,
    options: Options,
}

#[async_trait]
impl Subject for Local {
    async fn open(&mut self) -> Arc<dyn LogStore> {
        Arc::new(LocalWal::open(&self.dir, self.options.clone(), Env::system()).await.unwrap())
    }
}

#[tokio::test]
async fn local_log_conforms() {
    let dir = tempfile::tempdir().unwrap();
    run(&mut Local { dir: dir.path().join("wal"), options: small(8192) }).await;
}

#[tokio::test]
async fn local_log_with_interval_sync_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let sync = SyncMode::Interval(std::time::Duration::from_millis(5));
    run(&mut Local { dir: dir.path().to_owned(), options: Options { sync, ..small(1 << 20) } }).await;
}

#[tokio::test]
async fn noop_log_numbers_and_forgets() {
    let wal = NoopWal::new(NodeId(1), &Env::system());
    let first = wal.append(region(0), payload("x")).await.unwrap();
    let second = wal.append(region(0), payload("y")).await.unwrap();
    assert!(second > first);
    assert_eq!(wal.entry_bytes_max(), u64::MAX);
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap(), []);
    wal.close().await.unwrap();
}

#[tokio::test]
async fn second_opener_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), 8192).await;
    let error = LocalWal::open(dir.path(), small(8192), Env::system()).await.unwrap_err();
    assert!(matches!(error, WalError::Locked { .. }));
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    drop(first);
    open(dir.path(), 8192).await;
}

#[tokio::test]
async fn another_nodes_log_and_odd_sizes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path(), 8192).await);
    let other = Options { node: NodeId(2), ..small(8192) };
    assert!(matches!(LocalWal::open(dir.path(), other, Env::system()).await, Err(WalError::OtherNode { .. })));
    for bytes in [0, 4096, 8193, (1 << 30) + 4096, 1 << 40] {
        let error = LocalWal::open(dir.path(), small(bytes), Env::system()).await.unwrap_err();
        assert!(matches!(error, WalError::Option { .. }), "{error}");
        let asked = format!("segment_bytes (a multiple of 4096) is {bytes}, it must be from 8192 to 1073741824");
        assert!(error.to_string().contains(&asked), "{error}");
    }
}

#[tokio::test]
async fn entry_that_fits_no_segment_is_refused_and_the_largest_fits() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), 8192).await;
    let max = wal.entry_bytes_max();
    assert_eq!(max, 8192 - 4096 - 2 * 72, "a segment without its header and the blocks of one frame");
    let text = |bytes: u64| payload(&"x".repeat(usize::try_from(bytes).unwrap()));
    let error = wal.append(region(0), text(max + 1)).await.unwrap_err();
    assert!(matches!(error, WalError::TooLarge { bytes, max: named } if bytes == max + 1 && named == max), "{error}");
    wal.append(region(0), payload("small")).await.unwrap();
    wal.append(region(0), text(max)).await.unwrap();
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap().len(), 2);
}

#[tokio::test]
async fn released_segments_are_reused() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = WalPosition::START;
    // A sweep happens at each opening, so that what is there after one does not depend on the keeper's pace.
    for _ in 0..6 {
        let wal = open(dir.path(), 8192).await;
        wal.release(region(0), last);
        for _ in 0..4 {
            last = wal.append(region(0), payload(&"x".repeat(3000))).await.unwrap();
        }
        drop(wal);
    }
    let files = Listing::read(dir.path()).unwrap();
    assert!(files.segments.len() < 20, "of 24 segments that were written {files:?}");
    let newest = *files.segments.keys().next_back().unwrap();
    assert_eq!(newest, 24);
    let wal = open(dir.path(), 8192).await;
    assert_eq!(replayed(&wal, region(0), last).await.unwrap(), []);
    assert_eq!(wal.regions(), [(region(0), last)]);
    wal.forget(region(0));
    assert_eq!(wal.oldest_needed(), None);
}

#[tokio::test]
async fn segments_of_earlier_openings_go_when_their_regions_release_without_writing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), 8192).await;
    let mut last = [WalPosition::START; 2];
    for n in 0..6u32 {
        let region_number = n % 2;
        last[region_number as usize] = wal.append(region(region_number), payload(&"x".repeat(3000))).await.unwrap();
    }
    wal.close().await.unwrap();
    drop(wal);
    assert_eq!(Listing::read(dir.path()).unwrap().segments.len(), 6);
    let wal = open(dir.path(), 8192).await;
    wal.release(region(0), last[0]);
    assert_eq!(wal.regions(), [(region(1), last[1])]);
    wal.release(region(1), last[1]);
    assert_eq!((wal.regions(), wal.oldest_needed()), (Vec::new(), None));
    wal.close().await.unwrap();
    assert_eq!(wal.bytes(), 0);
    drop(wal);
    let files = Listing::read(dir.path()).unwrap();
    assert_eq!(files.segments.len(), 0, "{files:?}");
    assert!((1..=SPARE_SEGMENTS_MAX + 1).contains(&files.spares.len()), "some are kept for reuse: {files:?}");
    let wal = open(dir.path(), 8192).await;
    assert_eq!(wal.regions(), [], "released for good");
    let next = wal.append(region(0), payload("next")).await.unwrap();
    assert!(next > last[1] && next.entry > last[1].entry);
    wal.close().await.unwrap();
    assert_eq!(Listing::read(dir.path()).unwrap().segments.keys().copied().collect::<Vec<_>>(), [7]);
}

#[tokio::test]
async fn opening_without_appends_uses_no_segment() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        open(dir.path(), 8192).await.close().await.unwrap();
    }
    assert_eq!(Listing::read(dir.path()).unwrap().segments.len(), 0);
}

#[tokio::test]
async fn entry_numbers_go_on_after_every_segment_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), 8192).await;
    let first = wal.append(region(0), payload("x")).await.unwrap();
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    wal.forget(region(0));
    wal.close().await.unwrap();
    drop(wal);
    let wal = open(dir.path(), 8192).await;
    let second = wal.append(region(0), payload("y")).await.unwrap();
    assert!(second.entry > first.entry);
}
