//! The crate's error type, and what a caller should do about an error.

use object_store::path::Path;

use crate::action::Action;
use crate::id::{Epoch, Nonce, RegionId, Slot};
use crate::slot::DecodeError;
use crate::state::Violation;
use crate::wal::WalId;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Try the same again, with backoff: it was not done, or doing it again is harmless.
    Retry,
    /// Read routes and schema again, then try: the request was made under an old state.
    Refresh,
    /// Stop: another writer owns the object now.
    Fenced,
    /// Change the request: it can never succeed as it is.
    Invalid,
    /// Stop and look: stored bytes are damaged or missing.
    Corrupt,
    /// The store, the disk or the network does not answer; it may come back.
    Unavailable,
    /// A defect of this program; please report it.
    Bug,
}

/// Why a slot log or manifest could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error("cannot {verb} '{path}' on the object store")]
    Store {
        /// What was tried: list, read, write.
        verb: &'static str,
        /// The object or folder.
        path: String,
        /// The store's own words.
        source: Box<object_store::Error>,
    },
    /// A record is damaged or of a newer format.
    #[error("record '{path}' cannot be used")]
    Record {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A record was listed and is gone.
    #[error("record '{path}' was listed but is gone: retention passed, open again")]
    MissingRecord {
        /// The object.
        path: String,
    },
    /// A record is missing below others.
    #[error("record '{missing}' is missing although '{found}' exists: restore it from a backup of the store")]
    Gap {
        /// The object that should be there.
        missing: String,
        /// The object beyond it.
        found: String,
    },
    /// A record does not name the one before it.
    #[error("record '{path}' follows commit {found:?}, but the record before it is commit {expected:?}")]
    BrokenChain {
        /// The object.
        path: String,
        /// The commit before it.
        expected: Option<Nonce>,
        /// The commit that it names.
        found: Option<Nonce>,
    },
    /// A checkpoint or one of its segments is damaged or of a newer format.
    #[error("'{path}' cannot be used: {reason}")]
    Checkpoint {
        /// The object.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A version that retention has passed, or that was never written.
    #[error("version {version} of region {region} cannot be read: {why}")]
    NoVersion {
        /// The region.
        region: RegionId,
        /// The version.
        version: Slot,
        /// Which versions can be read.
        why: String,
    },
    /// The body of a record is not a list of actions.
    #[error("the body of record '{path}' cannot be read: {reason}")]
    Body {
        /// The object.
        path: String,
        /// What the parser says.
        reason: String,
    },
    /// A record in the log cannot follow the ones before it.
    #[error("record '{path}' cannot be applied")]
    Replay {
        /// The object.
        path: String,
        /// Why.
        source: Violation,
    },
    /// The state after a record is not what its writer had.
    #[error("after record '{path}' the file set hashes to {computed}, its writer recorded {recorded}")]
    SetHash {
        /// The object.
        path: String,
        /// In the record.
        recorded: crate::set_hash::SetHash,
        /// From the replayed state.
        computed: crate::set_hash::SetHash,
    },
    /// An action that cannot be was about to be committed; nothing was written.
    #[error("region {region} refuses {action}")]
    Rejected {
        /// The region.
        region: RegionId,
        /// The kinds of the refused actions.
        action: String,
        /// Why.
        source: Violation,
    },
    /// There is no such log.
    #[error("there is no manifest at '{path}'")]
    NotFound {
        /// The object that would be its first.
        path: String,
    },
    /// There is such a log already.
    #[error("region {region} exists already")]
    Exists {
        /// The region.
        region: RegionId,
    },
    /// The region was dropped.
    #[error("region {region} was dropped")]
    Dropped {
        /// The region.
        region: RegionId,
    },
    /// A log that may hold rows of the region cannot be read here.
    #[error(
        "region {region} may have rows in the {wal}, which this opener does not have (its own is the {own}): bring that log back, \
         say where it is with `wal.take_over`, or, if it is gone for good, give it and its rows up with `tessera region abandon-wal STORE {region} --wal {}`",
        .wal.log
    )]
    WalUnreachable {
        /// The region.
        region: RegionId,
        /// The log that is named.
        wal: WalId,
        /// The log that the opener has.
        own: WalId,
    },
    /// A log was to be abandoned that is not the region's, or is the opener's own.
    #[error("region {region} cannot abandon the {wal}: {why}")]
    CannotAbandon {
        /// The region.
        region: RegionId,
        /// The log that was named.
        wal: WalId,
        /// What is the matter with it.
        why: &'static str,
    },
    /// The opener's own log, in the very epoch that somebody gave up.
    #[error("epoch {epoch} of the {wal} was abandoned for region {region} by {by}: restart its server, whose log then begins a new epoch")]
    WalAbandoned {
        /// The region.
        region: RegionId,
        /// The log.
        wal: WalId,
        /// Its epoch that the opener has.
        epoch: Epoch,
        /// The version that abandoned it.
        by: Slot,
    },
    /// Another writer has taken over.
    #[error("another writer has taken over before slot '{path}': this one is fenced")]
    Fenced {
        /// The slot that was wanted.
        path: String,
    },
    /// The outcome of a commit is not known.
    #[error("it is not known whether slot '{path}' was written: open the log again to find out")]
    Unknown {
        /// The slot.
        path: String,
        /// The store's last answer.
        source: Option<Box<object_store::Error>>,
    },
    /// Others kept writing or opening while this opener tried.
    #[error("gave up on '{path}' after {rounds} rounds against other writers")]
    Contended {
        /// The slot at which it gave up.
        path: String,
        /// How often it tried.
        rounds: u32,
    },
}

impl Error {
    /// A failure of the store at `path`.
    pub(crate) fn store(verb: &'static str, path: &Path, source: object_store::Error) -> Self {
        Self::Store { verb, path: path.to_string(), source: Box::new(source) }
    }

    /// A refusal of `actions`.
    pub(crate) fn rejected(region: RegionId, actions: &[Action], source: Violation) -> Self {
        let names: Vec<&str> = actions.iter().map(Action::name).collect();
        Self::Rejected { region, action: names.join(", "), source }
    }

    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Store { .. } | Self::Unknown { .. } | Self::WalUnreachable { .. } | Self::WalAbandoned { .. } => ErrorClass::Unavailable,
            Self::Checkpoint { .. } | Self::Record { .. } | Self::Gap { .. } | Self::BrokenChain { .. } | Self::Body { .. } => {
                ErrorClass::Corrupt
            }
            Self::Replay { .. } | Self::SetHash { .. } | Self::NotFound { .. } => ErrorClass::Corrupt,
            Self::MissingRecord { .. } | Self::Contended { .. } => ErrorClass::Retry,
            Self::NoVersion { .. } | Self::Exists { .. } | Self::Dropped { .. } | Self::CannotAbandon { .. } => ErrorClass::Invalid,
            Self::Fenced { .. } => ErrorClass::Fenced,
            Self::Rejected { .. } => ErrorClass::Bug,
        }
    }
}
