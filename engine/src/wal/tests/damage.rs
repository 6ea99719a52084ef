//! Torn tails and flipped bits, everywhere.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tessera_manifest::env::Env;
use tessera_manifest::id::RegionId;
use tessera_manifest::wal::WalPosition;

use super::{open, payload, region, replayed, small};
use crate::wal::meta::Meta;
use crate::wal::recover::{Listing, Recovered, recover};
use crate::wal::{LocalWal, LogStore, WalError};

type Entries = BTreeMap<RegionId, Vec<(WalPosition, Bytes)>>;

const SEGMENT: u64 = 8192;

/// Three openings, several segments, two regions, one entry per frame. Closed in the end if `clean`.
async fn small_log(dir: &Path, clean: bool) -> Entries {
    let mut entries = Entries::new();
    for opening in 0..3u32 {
        let wal = open(dir, SEGMENT).await;
        for n in 0..5u32 {
            let (region, text) = (region(n % 2), format!("{opening}/{n} {}", "p".repeat(150 * n as usize)));
            let position = wal.append(region, payload(&text)).await.unwrap();
            entries.entry(region).or_default().push((position, Bytes::from(text)));
        }
        if opening < 2 || clean {
            wal.close().await.unwrap();
            continue;
        }
        // As if killed: the identity file keeps what it said after the first append.
        let meta = fs::read(dir.join("wal.meta")).unwrap();
        wal.close().await.unwrap();
        fs::write(dir.join("wal.meta"), meta).unwrap();
    }
    entries
}

fn recovered(dir: &Path) -> Result<Recovered, WalError> {
    recover(&Meta::read(dir)?.unwrap(), &Listing::read(dir).unwrap())
}

/// What a replay of `region` would give, without a runtime and without writing anything.
fn read_back(dir: &Path, recovered: &Recovered, region: RegionId, after: WalPosition) -> Result<Vec<(WalPosition, Bytes)>, (PathBuf, u64)> {
    let file = |segment: u64| dir.join(format!("{segment:020}.wal"));
    if let Some(lost) = recovered.catalog.lost().iter().find(|lost| lost.concerns(after)) {
        return Err((file(lost.segment), lost.offset));
    }
    let entries = recovered.catalog.entries_after(region, after).into_iter().map(|entry| {
        let mut bytes = vec![0; entry.len as usize];
        let read = File::open(file(entry.segment)).unwrap().read_exact_at(&mut bytes, u64::from(entry.offset));
        let good = read.is_ok() && crc32fast::hash(&bytes) == entry.crc;
        if good { Ok((entry.position, Bytes::from(bytes))) } else { Err((file(entry.segment), u64::from(entry.offset))) }
    });
    entries.collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// The last frame's file, offset and length.
fn last_frame(dir: &Path) -> (PathBuf, u64, u64) {
    let frame = recovered(dir).unwrap().unsettled.pop().expect("the log was not closed");
    (frame.path, frame.offset, frame.block.frame_bytes())
}

#[tokio::test]
async fn torn_tail_is_cut_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), false).await;
    let (path, offset, bytes) = last_frame(dir.path());
    let whole = fs::read(&path).unwrap();
    for torn_at in offset..offset + bytes {
        let cut = usize::try_from(torn_at).unwrap();
        let zeros = [&whole[..cut], &vec![0; whole.len() - cut]].concat();
        for tail in [zeros, whole[..cut].to_vec()] {
            fs::write(&path, tail).unwrap();
            let recovered = recovered(dir.path()).unwrap();
            assert_eq!(recovered.catalog.lost(), [], "torn at {torn_at}");
            for (region, expected) in &entries {
                let back = read_back(dir.path(), &recovered, *region, WalPosition::START).unwrap();
                let cut_one = *region == super::region(0) && back[..] == expected[..expected.len() - 1];
                assert!(back == *expected || cut_one, "torn at {torn_at}");
            }
        }
    }
}

#[tokio::test]
async fn torn_tail_stays_cut_once_a_later_epoch_has_written() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), false).await;
    let (path, offset, bytes) = last_frame(dir.path());
    for torn in [1, bytes / 2, bytes - 100] {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let torn_file = copied.path().join(path.file_name().unwrap());
        let whole = fs::read(&torn_file).unwrap();
        let file = OpenOptions::new().write(true).open(&torn_file).unwrap();
        file.write_all_at(&vec![0; usize::try_from(bytes - torn).unwrap()], offset + torn).unwrap();
        let wal = open(copied.path(), SEGMENT).await;
        let position = wal.append(region(0), payload("later")).await.unwrap();
        drop(wal);
        // The lost bytes turn up again, as from a disk cache.
        fs::write(&torn_file, whole).unwrap();
        let wal = open(copied.path(), SEGMENT).await;
        let mut expected = entries[&region(0)].clone();
        expected.pop();
        expected.push((position, Bytes::from("later")));
        assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap(), expected);
    }
}

/// Flips one bit of each byte that a log consists of and checks what comes back.
async fn flip_everything(clean: bool) {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), clean).await;
    let files: Vec<_> = Listing::read(dir.path()).unwrap().segments.into_values().collect();
    assert!(files.len() >= 3);
    let last = (!clean).then(|| last_frame(dir.path()));
    let (mut healed, mut named) = (0, 0);
    for path in files.iter().chain([&dir.path().join("wal.meta")]) {
        let bytes = fs::read(path).unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 64;
        for (at, byte) in bytes.iter().enumerate().take(end) {
            if at % 64 != 0 && at > 128 && at < 4096 && *byte == 0 && path.extension().is_some_and(|e| e == "wal") {
                continue;
            }
            file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64).unwrap();
            let recovered = recovered(dir.path()).unwrap();
            let in_last = last.as_ref().is_some_and(|(p, o, n)| p == path && (*o..o + n).contains(&(at as u64)));
            for (region, expected) in &entries {
                match read_back(dir.path(), &recovered, *region, WalPosition::START) {
                    Ok(back) if back == *expected => healed += 1,
                    Ok(back) => assert!(in_last && back[..] == expected[..expected.len() - 1], "silent loss at {at} of {}", path.display()),
                    Err((named_file, offset)) => {
                        named += 1;
                        assert!(named_file == *path && offset <= at as u64 && at as u64 - offset < 1000, "{at} of {}", path.display());
                        let hit = expected.iter().map(|e| e.0).find(|p| read_back(dir.path(), &recovered, *region, *p).is_ok());
                        assert!(hit.is_some(), "a region past the damage is not stopped");
                        let other = entries.keys().find(|r| *r != region).unwrap();
                        assert!(read_back(dir.path(), &recovered, *other, WalPosition::START).is_ok(), "{at} stops one region only");
                    }
                }
            }
            file.write_all_at(&[*byte], at as u64).unwrap();
        }
    }
    assert!(healed > 1000 && named > 1000, "{healed} healed, {named} named");
}

#[tokio::test]
async fn any_flipped_bit_of_a_killed_log_is_healed_or_named() {
    flip_everything(false).await;
}

#[tokio::test]
async fn any_flipped_bit_of_a_closed_log_is_healed_or_named() {
    flip_everything(true).await;
}

#[tokio::test]
async fn damaged_payload_stops_its_region_and_names_file_and_offset() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), true).await;
    let located = recovered(dir.path()).unwrap().catalog.entries_after(region(1), WalPosition::START)[1];
    let path = dir.path().join(format!("{:020}.wal", located.segment));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"!", u64::from(located.offset) + 2).unwrap();
    let wal = open(dir.path(), SEGMENT).await;
    let error = replayed(&wal, region(1), WalPosition::START).await.unwrap_err();
    assert!(matches!(&error, WalError::Damaged { region: r, offset, .. } if *r == region(1) && *offset == u64::from(located.offset)));
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    let after = replayed(&wal, region(1), located.position).await.unwrap();
    assert_eq!(after, entries[&region(1)][2..]);
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap(), entries[&region(0)]);
    let position = wal.append(region(1), payload("still works")).await.unwrap();
    assert!(position > entries[&region(1)].last().unwrap().0);
}

#[tokio::test]
async fn two_bad_directories_stop_every_region_that_needs_the_stretch() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), true).await;
    let located = recovered(dir.path()).unwrap().catalog.entries_after(region(1), WalPosition::START)[0];
    let path = dir.path().join(format!("{:020}.wal", located.segment));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let head = u64::from(located.offset) - 72;
    let tail = u64::from(located.offset) + u64::from(located.len).next_multiple_of(8);
    file.write_all_at(b"!", head + 20).unwrap();
    file.write_all_at(b"!", tail + 20).unwrap();
    let wal = open(dir.path(), SEGMENT).await;
    for region in entries.keys() {
        let error = replayed(&wal, *region, WalPosition::START).await.unwrap_err();
        assert!(matches!(&error, WalError::Damaged { file, offset, .. } if *file == path && *offset == head), "{error}");
        let after = replayed(&wal, *region, located.position).await.unwrap();
        assert_eq!(after, entries[region][1..], "a region that has flushed the stretch is not stopped");
    }
    let first_epoch = WalPosition { epoch: wal.epoch(), entry: 0 };
    assert_eq!(replayed(&wal, region(5), first_epoch).await.unwrap(), [], "nor is one that began later");
}

#[tokio::test]
async fn stale_bytes_of_a_reused_segment_never_come_back() {
    for _ in 0..50 {
        if an_entry_beside_stale_bytes().await {
            return;
        }
    }
    panic!("no segment was used again");
}

/// Writes an entry into a released segment, and looks for it and for what was there before. Whether the segment was used again,
/// which depends on whether it was cleared away before the log was closed.
async fn an_entry_beside_stale_bytes() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let wal = open(dir.path(), SEGMENT).await;
    let mut last = WalPosition::START;
    for _ in 0..8 {
        last = wal.append(region(0), payload(&"stale".repeat(350))).await.unwrap();
    }
    drop(wal);
    let wal = open(dir.path(), SEGMENT).await;
    wal.release(region(0), last);
    drop(wal);
    let wal = open(dir.path(), SEGMENT).await;
    let position = wal.append(region(1), payload("fresh")).await.unwrap();
    drop(wal);
    let path = Listing::read(dir.path()).unwrap().segments.pop_last().unwrap().1;
    let used_before = fs::read(&path).unwrap()[4096..].windows(5).any(|w| w == b"stale");
    let wal = open(dir.path(), SEGMENT).await;
    assert_eq!(replayed(&wal, region(1), WalPosition::START).await.unwrap(), [(position, Bytes::from("fresh"))]);
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap(), []);
    used_before
}

#[tokio::test]
async fn missing_segment_is_named_and_stays_known_after_its_neighbours_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), true).await;
    let files = Listing::read(dir.path()).unwrap().segments;
    for (number, path) in &files {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let path = copied.path().join(path.file_name().unwrap());
        fs::remove_file(&path).unwrap();
        for _ in 0..3 {
            let wal = open(copied.path(), SEGMENT).await;
            for region in entries.keys() {
                let error = replayed(&wal, *region, WalPosition::START).await.unwrap_err();
                assert!(matches!(&error, WalError::Damaged { file, .. } if *file == path), "segment {number}: {error}");
            }
            let last = wal.append(region(0), payload("x")).await.unwrap();
            wal.forget(region(0));
            wal.forget(region(1));
            wal.close().await.unwrap();
            drop(wal);
            let wal = open(copied.path(), SEGMENT).await;
            assert_eq!(replayed(&wal, region(0), last).await.unwrap(), [], "a region that has moved past it");
        }
    }
}

#[tokio::test]
async fn missing_last_segment_of_a_killed_log_is_never_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), false).await;
    let (number, path) = Listing::read(dir.path()).unwrap().segments.pop_last().unwrap();
    fs::remove_file(&path).unwrap();
    let seen = recovered(dir.path()).unwrap().catalog.last_position().unwrap();
    for opening in 0..3 {
        let wal = open(dir.path(), SEGMENT).await;
        let error = replayed(&wal, region(0), seen).await.unwrap_err();
        assert!(matches!(&error, WalError::Damaged { file, .. } if *file == path), "segment {number}, opening {opening}: {error}");
        let position = wal.append(region(0), payload("new")).await.unwrap();
        assert!(position.entry > entries[&region(0)].last().unwrap().0.entry);
        assert_eq!(replayed(&wal, region(0), position).await.unwrap(), []);
    }
}

#[tokio::test]
async fn unreadable_segment_header_stops_only_who_needs_it() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), true).await;
    let (number, path) = Listing::read(dir.path()).unwrap().segments.pop_first().unwrap();
    assert_eq!(number, 1);
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 100], 0).unwrap();
    file.write_all_at(&[0xff; 100], 2048).unwrap();
    let wal = open(dir.path(), SEGMENT).await;
    let error = replayed(&wal, region(0), WalPosition::START).await.unwrap_err();
    assert!(error.to_string().contains("header"), "{error}");
    let (last, _) = entries[&region(0)][2];
    assert_eq!(replayed(&wal, region(0), last).await.unwrap(), entries[&region(0)][3..]);
}

#[tokio::test]
async fn segments_without_identity_are_refused_until_it_is_restored() {
    let dir = tempfile::tempdir().unwrap();
    let entries = small_log(dir.path(), true).await;
    let file = dir.path().join("wal.meta");
    let backup = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    for gone in [true, false] {
        if !gone {
            fs::write(&file, "damaged").unwrap();
        }
        let error = LocalWal::open(dir.path(), small(SEGMENT), Env::system()).await.unwrap_err();
        assert!(matches!(error, WalError::Identity { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(file.to_str().unwrap()) && text.contains("restore") && !text.contains("move"), "{error}");
    }
    fs::write(&file, backup).unwrap();
    let wal = open(dir.path(), SEGMENT).await;
    assert_eq!(replayed(&wal, region(0), WalPosition::START).await.unwrap(), entries[&region(0)]);
}
