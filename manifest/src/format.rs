//! The change log of persisted formats, as a table, and the rule by which a reader refuses a newer one.
//!
//! Invariants:
//! - Every persisted object carries `format` (the version that wrote it) and `min_reader` (the oldest reader
//!   that understands it). A reader accepts whatever has `min_reader` up to its own version.
//! - Entries are only ever appended. Each has golden bytes under `tests/compat/` that are never edited.

/// A persisted format of this project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A record of a slot log: header line and body (`manifest/*.json`).
    SlotRecord,
    /// The body of a manifest record: actions and the set hash after them.
    ManifestBody,
    /// The root of a checkpoint (`manifest/*.checkpoint`).
    CheckpointRoot,
    /// A segment of a checkpoint or of a remap (`manifest/seg/*.parquet`).
    Segment,
    /// The decision of a repartition group (`txn/*.json`).
    Txn,
}

/// One step in the life of a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Which format.
    pub format: Format,
    /// The version that the change made.
    pub version: u32,
    /// The oldest reader of what that version writes.
    pub min_reader: u32,
    /// What changed.
    pub what: &'static str,
}

/// Every change there ever was, oldest first.
pub const CHANGES: &[Change] = &[
    Change { format: Format::SlotRecord, version: 1, min_reader: 1, what: "first version" },
    Change { format: Format::ManifestBody, version: 1, min_reader: 1, what: "first version" },
    Change { format: Format::CheckpointRoot, version: 1, min_reader: 1, what: "first version" },
    Change { format: Format::Segment, version: 1, min_reader: 1, what: "first version" },
    Change { format: Format::Txn, version: 1, min_reader: 1, what: "first version" },
    Change { format: Format::ManifestBody, version: 2, min_reader: 2, what: "an Open may name abandoned logs; others stay version 1" },
    Change { format: Format::CheckpointRoot, version: 2, min_reader: 2, what: "the image may name abandoned logs; others stay version 1" },
];

/// The newest version that this build writes and reads: the last in [`CHANGES`]. What does not need it is written in the
/// version that it needs, see `version`.
#[must_use]
pub const fn current(format: Format) -> Change {
    let mut index = CHANGES.len();
    while index > 0 {
        index -= 1;
        if CHANGES[index].format as u8 == format as u8 {
            return CHANGES[index];
        }
    }
    panic!("every format has an entry in CHANGES");
}

/// A version in [`CHANGES`].
pub(crate) fn version(format: Format, version: u32) -> Change {
    let found = CHANGES.iter().find(|change| change.format == format && change.version == version);
    *found.expect("callers name versions that are in CHANGES")
}

/// What an object says of its format, when it is too new for this reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "written in format {written} which needs a reader of format {min_reader} or newer; this build reads up to format {supported}: \
     use a newer build"
)]
pub struct TooNew {
    /// The version that wrote it.
    pub written: u32,
    /// The oldest reader it admits.
    pub min_reader: u32,
    /// What this build reads.
    pub supported: u32,
}

/// Refuses what needs a newer reader than this build.
///
/// # Errors
/// [`TooNew`], naming both versions.
pub const fn check(format: Format, written: u32, min_reader: u32) -> Result<(), TooNew> {
    let supported = current(format).version;
    if min_reader > supported { Err(TooNew { written, min_reader, supported }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_each_format_only_grow() {
        for (index, change) in CHANGES.iter().enumerate() {
            assert!(change.min_reader <= change.version);
            let later = &CHANGES[index + 1..];
            assert!(later.iter().all(|l| l.format != change.format || l.version > change.version));
        }
    }

    #[test]
    fn a_newer_minimum_is_refused_with_both_versions() {
        let error = check(Format::SlotRecord, 9, 8).unwrap_err();
        assert_eq!((error.written, error.min_reader, error.supported), (9, 8, 1));
        assert_eq!(check(Format::SlotRecord, 9, 1), Ok(()));
    }
}
