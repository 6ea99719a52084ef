//! What can go wrong with a log, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::{NodeId, RegionId};
use tessera_manifest::wal::WalId;

/// An error of a log. Cheap to clone, because one failed write answers every entry of its frame.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// Another process (or another opening in this process) has the log.
    #[error("wal folder {} is in use by another process; stop it, or give this one its own data home", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds the log of another node.
    #[error("wal folder {} belongs to node {found}, not to node {expected}; check the data home and the node id", dir.display())]
    OtherNode {
        /// The folder.
        dir: PathBuf,
        /// The node that was configured.
        expected: NodeId,
        /// The node that wrote the log.
        found: NodeId,
    },
    /// A log that is to be read in its node's place is in two folders, of which one may be an old copy.
    #[error("the {log} is in {} and in {}; leave only the one that its node wrote to last", folders[0].display(), folders[1].display())]
    Twice {
        /// The log.
        log: WalId,
        /// Two folders that hold it.
        folders: [PathBuf; 2],
    },
    /// A file was written by a newer release.
    #[error("{} needs a reader of wal format {min_reader}, this release reads up to {reader}; use a newer release", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// The oldest format version whose readers can read it.
        min_reader: u32,
        /// The newest format version that this release reads.
        reader: u32,
    },
    /// An option is out of range.
    #[error("wal option {option} is {value}, it must be from {min} to {max}")]
    Option {
        /// The name of the option.
        option: &'static str,
        /// What was asked for.
        value: u64,
        /// The smallest allowed value.
        min: u64,
        /// The largest allowed value.
        max: u64,
    },
    /// The identity file is gone, or damaged so badly that neither of its two copies can be read. An empty log in
    /// its place helps nobody: regions refuse a log that is not the one that holds their entries.
    #[error("{} is damaged: {what}; restore it, or the whole folder of the wal, from a backup", file.display())]
    Identity {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Entries that the region needs are damaged or missing.
    #[error(
        "region {region} needs entries that are damaged at byte {offset} of {}: {what}; restore the file from a backup, or drop the region",
        file.display()
    )]
    Damaged {
        /// The region that asked.
        region: RegionId,
        /// The segment file.
        file: PathBuf,
        /// Where in the file the damage begins.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The entry does not fit in a segment.
    #[error("a wal entry of {bytes} bytes is larger than {max}, the most that fits in a segment; write smaller batches")]
    TooLarge {
        /// Bytes of the entry.
        bytes: u64,
        /// The most that fits.
        max: u64,
    },
    /// There is no room for the next segment. Nothing was written; appends work again once there is room.
    #[error("no space left for the wal in {}; free some, appends then work again by themselves", dir.display())]
    DiskFull {
        /// The folder.
        dir: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// A write or sync failed, so that nobody knows what is on the disk. Entries that were not acknowledged may
    /// or may not be found at the next opening; nothing more is written until then.
    #[error(
        "the wal stopped at a failed write to {}; no more is written until the process is restarted: check the disk, then restart",
        file.display()
    )]
    Poisoned {
        /// The file that could not be written.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The operating system refused something and nothing was written.
    #[error("cannot {action} {}", file.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        file: PathBuf,
        /// What the operating system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The log is closed.
    #[error("the wal is closed")]
    Closed,
}

impl WalError {
    /// Wraps an I/O error with what was tried on what.
    pub(super) fn io(action: &'static str, file: &Path, source: io::Error) -> Self {
        Self::Io { action, file: file.to_owned(), source: Arc::new(source) }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Option { .. } | Self::TooLarge { .. } | Self::OtherNode { .. } | Self::Newer { .. } => ErrorClass::Invalid,
            Self::Identity { .. } | Self::Damaged { .. } => ErrorClass::Corrupt,
            Self::DiskFull { .. } => ErrorClass::Retry,
            Self::Locked { .. } | Self::Twice { .. } | Self::Poisoned { .. } | Self::Io { .. } | Self::Closed => ErrorClass::Unavailable,
        }
    }
}

/// Whether the operating system says that there is no room.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the operating system says that this process may not write there. It has changed nothing then.
pub(super) fn is_denied(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}
