//! The identity file `wal.meta`: which log this is, how often it was opened, which segments must be there.
//!
//! Invariants:
//! - It is replaced as a whole (write aside, sync, rename, sync the folder), and holds its content twice: a
//!   single flipped bit is healed.
//! - An epoch is on disk here before the first entry of it is written, and no two openings have the same.
//! - `last_segment` is on disk before the first frame of that segment is written, `kept_from` before a segment
//!   below it is reused or deleted. So a segment file that is gone is noticed.
//! - What is known to be lost stays known after its segment is gone, until every region has moved past it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tessera_manifest::id::{Epoch, NodeId, Nonce};
use tessera_manifest::wal::WalPosition;

use super::disk::Disk;
use super::error::WalError;
use super::header::{FORMAT, MIN_READER};
use crate::limits::wal as limits;

/// The file's name.
pub(super) const META_FILE: &str = "wal.meta";

/// A stretch of the log that is unreadable, and nobody knows whose entries were in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lost {
    /// The segment.
    pub(super) segment: u64,
    /// Where in its file.
    pub(super) offset: u64,
    /// The first position that may be lost.
    pub(super) from: WalPosition,
    /// The first position that is not.
    pub(super) to: WalPosition,
    /// What is wrong.
    pub(super) what: String,
}

impl Lost {
    /// Whether a region that needs everything after `after` may have lost something here. Entry numbers grow
    /// across epochs, so that either the epoch or the number can show that it is behind.
    pub(super) fn concerns(&self, after: WalPosition) -> bool {
        after < self.to && after.entry.saturating_add(1) < self.to.entry
    }
}

/// The content of the identity file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub(super) format: u32,
    pub(super) min_reader: u32,
    pub(super) log: Nonce,
    pub(super) node: NodeId,
    pub(super) epoch: Epoch,
    /// Segments below this one are not needed.
    pub(super) kept_from: u64,
    /// The newest segment.
    pub(super) last_segment: u64,
    /// Every frame up to this one is known to be on disk.
    pub(super) settled_frame: u64,
    /// No entry up to `settled_frame` has this number or a higher one.
    pub(super) next_entry: u64,
    pub(super) lost: Vec<Lost>,
}

/// What a reader needs of a newer format to say that it is newer.
#[derive(Deserialize)]
struct Versions {
    min_reader: u32,
}

impl Meta {
    /// A log that was never opened.
    pub(super) fn new(log: Nonce, node: NodeId) -> Self {
        Self {
            format: FORMAT,
            min_reader: MIN_READER,
            log,
            node,
            epoch: Epoch(0),
            kept_from: 1,
            last_segment: 0,
            settled_frame: 0,
            next_entry: 1,
            lost: Vec::new(),
        }
    }

    /// Keeps what is lost in segments that will be gone; what is lost in the others is found again at each opening.
    pub(super) fn keep_lost(&mut self, all: &[Lost]) {
        self.lost = all.iter().filter(|lost| lost.segment < self.kept_from).cloned().collect();
        // Too many become one that covers them, which can only refuse more.
        while self.lost.len() > limits::LOST_STRETCHES_MAX {
            let second = self.lost.remove(1);
            let first = &mut self.lost[0];
            first.from = first.from.min(second.from);
            first.to = WalPosition { epoch: first.to.epoch.max(second.to.epoch), entry: first.to.entry.max(second.to.entry) };
        }
    }

    /// Two equal lines of `{crc32 of the JSON, 8 hex digits} {JSON}`, with an empty line between them.
    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string(self).expect("numbers and strings always serialize");
        let line = format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes()));
        format!("{line}\n{line}").into_bytes()
    }

    /// Replaces the file.
    pub(super) fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk.replace_file(dir, META_FILE, &self.encode())
    }

    /// Reads the file; `None` if there is none.
    ///
    /// # Errors
    /// [`WalError::Identity`] when both copies are damaged, [`WalError::Newer`] for an unknown format.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, WalError> {
        let path = dir.join(META_FILE);
        let mut bytes = Vec::new();
        match File::open(&path).and_then(|f| f.take(limits::META_BYTES_MAX).read_to_end(&mut bytes)) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(WalError::io("read", &path, e)),
        }
        let damaged = |what: &str| WalError::Identity { file: path.clone(), what: what.to_owned() };
        let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').collect();
        let json = lines.iter().find_map(|line| checked_line(line)).ok_or_else(|| damaged("no line has a valid checksum"))?;
        let versions: Versions = serde_json::from_slice(json).map_err(|e| damaged(&e.to_string()))?;
        if versions.min_reader > FORMAT {
            return Err(WalError::Newer { file: path, min_reader: versions.min_reader, reader: FORMAT });
        }
        serde_json::from_slice(json).map(Some).map_err(|e| damaged(&e.to_string()))
    }
}

fn checked_line(line: &[u8]) -> Option<&[u8]> {
    let crc = std::str::from_utf8(line.get(..8)?).ok()?;
    let json = line.get(9..)?;
    (format!("{:08x}", crc32fast::hash(json)) == crc).then_some(json)
}

#[cfg(test)]
mod tests {
    use super::super::disk::OsDisk;
    use super::*;

    #[test]
    fn identity_survives_any_single_flipped_bit() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Meta::read(dir.path()).unwrap(), None);
        let mut meta = Meta::new(Nonce(5), NodeId(1));
        meta.lost.push(Lost {
            segment: 1,
            offset: 2,
            from: WalPosition::START,
            to: WalPosition { epoch: Epoch(1), entry: 5 },
            what: "x".into(),
        });
        meta.write(&OsDisk, dir.path()).unwrap();
        let bytes = meta.encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(dir.path().join(META_FILE), bad).unwrap();
            assert_eq!(Meta::read(dir.path()).unwrap(), Some(meta.clone()), "bit {bit}");
        }
        std::fs::write(dir.path().join(META_FILE), "").unwrap();
        assert!(matches!(Meta::read(dir.path()), Err(WalError::Identity { .. })));
    }

    #[test]
    fn too_many_lost_stretches_become_one_that_covers_them() {
        let at = |entry| WalPosition { epoch: Epoch(1), entry };
        let lost = |n| Lost { segment: n, offset: 0, from: at(n * 10), to: at(n * 10 + 5), what: "x".into() };
        let all: Vec<_> = (1..=limits::LOST_STRETCHES_MAX as u64 + 3).map(lost).collect();
        let mut meta = Meta { kept_from: u64::MAX, ..Meta::new(Nonce(5), NodeId(1)) };
        meta.keep_lost(&all);
        assert_eq!(meta.lost.len(), limits::LOST_STRETCHES_MAX);
        assert_eq!((meta.lost[0].from, meta.lost[0].to), (at(10), at(45)));
        meta.kept_from = 3;
        meta.keep_lost(&all);
        assert_eq!(meta.lost, all[..2]);
    }

    #[test]
    fn newer_identity_is_refused_with_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        Meta { min_reader: 9, ..Meta::new(Nonce(5), NodeId(1)) }.write(&OsDisk, dir.path()).unwrap();
        let error = Meta::read(dir.path()).unwrap_err();
        assert!(matches!(error, WalError::Newer { min_reader: 9, reader: FORMAT, .. }), "{error}");
    }

    #[test]
    fn lost_stretch_concerns_only_regions_that_need_it() {
        let at = |epoch, entry| WalPosition { epoch: Epoch(epoch), entry };
        let lost = Lost { segment: 1, offset: 0, from: at(3, 10), to: at(4, 15), what: String::new() };
        assert!(lost.concerns(WalPosition::START));
        assert!(lost.concerns(at(3, 12)));
        assert!(!lost.concerns(at(3, 14)));
        assert!(!lost.concerns(at(4, 15)));
        assert!(!lost.concerns(at(5, 0)));
    }
}
