//! What can go wrong with locks and elections.

use tessera_manifest::error::ErrorClass;

use crate::kv::KvError;
use crate::values::ValueError;

/// Why a permit was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// The store refused or failed.
    #[error("the metadata store failed")]
    Kv {
        /// How.
        #[from]
        source: KvError,
    },
    /// A stored value cannot be read.
    #[error("stored metadata cannot be read")]
    Value {
        /// Which, and why.
        #[from]
        source: ValueError,
    },
    /// The lease ran out before the permit was given.
    #[error("the place in the queue '{queue}' was lost, as the store did not answer in time: try again")]
    Lost {
        /// The prefix of the queue's keys.
        queue: String,
    },
    /// Not everybody means the same semaphore.
    #[error("'{queue}' has {asked} permits for this process and {found} for '{holder}': configure one number")]
    PermitsDiffer {
        /// The prefix of the queue's keys.
        queue: String,
        /// What this process said.
        asked: u32,
        /// What the other said.
        found: u32,
        /// The other.
        holder: String,
    },
}

impl LockError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Kv { source } => source.class(),
            Self::Value { source } => source.class(),
            Self::Lost { .. } => ErrorClass::Retry,
            Self::PermitsDiffer { .. } => ErrorClass::Invalid,
        }
    }
}
