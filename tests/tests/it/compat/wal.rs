//! A local write-ahead log: its identity file and a segment.

use std::fs;
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt;
use tempfile::TempDir;
use tessera_engine::wal::{LocalWal, LogStore, Options, WalError};
use tessera_manifest::id::{Epoch, NodeId, RegionId, RegionNumber, TableId};
use tessera_manifest::wal::WalPosition;

use super::sample::env;
use super::{copy_folder, flipped, golden, path, replaced, write_missing};

const META: &str = "wal/wal.meta";
const SEGMENT: &str = "wal/00000000000000000001.wal";

fn region(number: u32) -> RegionId {
    RegionId::new(TableId(1024), RegionNumber(number))
}

/// The entries, in their order: region and text.
const ENTRIES: [(u32, &str); 5] = [(0, "first of 0"), (1, "first of 1"), (0, "second of 0, longer"), (0, ""), (1, "last")];

async fn open(dir: &Path) -> Result<LocalWal, WalError> {
    LocalWal::open(dir, Options { segment_bytes: 8 << 10, ..Options::new(NodeId(1)) }, env()).await
}

/// A copy of the golden log.
fn copy() -> TempDir {
    let dir = TempDir::new().unwrap();
    copy_folder(&path("wal"), dir.path());
    dir
}

async fn entries(wal: &LocalWal, number: u32) -> Result<Vec<(WalPosition, Bytes)>, WalError> {
    wal.replay(region(number), WalPosition::START)?.try_collect().await
}

#[tokio::test]
#[ignore = "writes golden files that are missing"]
async fn write_missing_wal() {
    let dir = TempDir::new().unwrap();
    let wal = open(dir.path()).await.unwrap();
    for (number, text) in ENTRIES {
        wal.append(region(number), vec![Bytes::from(text)]).await.unwrap();
    }
    wal.close().await.unwrap();
    for name in [META, SEGMENT] {
        write_missing(name, &fs::read(dir.path().join(name.strip_prefix("wal/").unwrap())).unwrap());
    }
}

#[tokio::test]
async fn a_log_is_read_as_ever() {
    let dir = copy();
    let wal = open(dir.path()).await.unwrap();
    assert_eq!(wal.epoch(), Epoch(2));
    for number in 0..2 {
        let expected: Vec<(WalPosition, Bytes)> = (1..)
            .zip(ENTRIES)
            .filter(|(_, entry)| entry.0 == number)
            .map(|(entry, (_, text))| (WalPosition { epoch: Epoch(1), entry }, Bytes::from(text)))
            .collect();
        assert_eq!(entries(&wal, number).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_payload_with_a_flipped_bit_is_refused() {
    let dir = copy();
    let segment = golden(SEGMENT);
    let at = segment.windows(8).position(|window| window == b"first of").unwrap();
    fs::write(dir.path().join(Path::new(SEGMENT).file_name().unwrap()), flipped(&segment, at * 8)).unwrap();
    let wal = open(dir.path()).await.unwrap();
    let error = entries(&wal, 0).await.unwrap_err();
    assert!(matches!(error, WalError::Damaged { .. }), "{error}");
    assert_eq!(entries(&wal, 1).await.unwrap().len(), 2);
}

#[tokio::test]
async fn an_identity_file_heals_from_one_flipped_bit_and_is_refused_with_two() {
    let meta = golden(META);
    let dir = copy();
    fs::write(dir.path().join("wal.meta"), flipped(&meta, 8 * 30)).unwrap();
    assert_eq!(open(dir.path()).await.unwrap().epoch(), Epoch(2));
    let dir = copy();
    let second = meta.len() / 2 + 30;
    fs::write(dir.path().join("wal.meta"), flipped(&flipped(&meta, 8 * 30), 8 * second)).unwrap();
    let error = open(dir.path()).await.unwrap_err();
    assert!(matches!(error, WalError::Identity { .. }), "{error}");
}

fn names_both_versions(error: &WalError) {
    assert!(matches!(error, WalError::Newer { min_reader: 2, reader: 1, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("format 2") && text.contains("up to 1"), "{text}");
}

#[tokio::test]
async fn an_identity_file_for_newer_readers_is_refused_with_both_versions() {
    let dir = copy();
    let text = String::from_utf8(golden(META)).unwrap();
    let json = text.lines().next().unwrap()[9..].replace("\"min_reader\":1", "\"min_reader\":2");
    let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
    fs::write(dir.path().join("wal.meta"), format!("{line}\n{line}")).unwrap();
    names_both_versions(&open(dir.path()).await.unwrap_err());
}

#[tokio::test]
async fn a_segment_for_newer_readers_is_refused_with_both_versions() {
    let segment = golden(SEGMENT);
    let old = &segment[..80];
    let mut header = old.to_vec();
    header[12] = 2;
    let crc = crc32fast::hash(&header[..72]);
    header[72..76].copy_from_slice(&crc.to_le_bytes());
    let dir = copy();
    fs::write(dir.path().join(Path::new(SEGMENT).file_name().unwrap()), replaced(&segment, old, &header)).unwrap();
    names_both_versions(&open(dir.path()).await.unwrap_err());
}
