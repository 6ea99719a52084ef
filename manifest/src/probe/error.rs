//! Why a store is refused, or could not be probed.

use std::fmt;

use serde::Serialize;

use crate::error::ErrorClass;

/// A promise that a store must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Capability {
    /// Of all creates of one name, exactly one succeeds, and its bytes stay.
    ExclusiveCreate,
    /// A read after a write finds what was written.
    ReadAfterWrite,
    /// A LIST after a write shows the object.
    ListAfterWrite,
    /// A read or LIST after a delete does not show the object.
    ReadAfterDelete,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ExclusiveCreate => "exclusive create",
            Self::ReadAfterWrite => "read after write",
            Self::ListAfterWrite => "LIST after write",
            Self::ReadAfterDelete => "read and LIST after delete",
        })
    }
}

impl Capability {
    /// What a user may do about its absence.
    fn advice(self) -> &'static str {
        match self {
            Self::ExclusiveCreate => {
                "two writers could each believe that they own a region, and rows would be lost; use a store and version that \
                 honours 'If-None-Match: *', and no proxy that drops the header"
            }
            Self::ReadAfterWrite | Self::ListAfterWrite | Self::ReadAfterDelete => {
                "it must be strongly consistent; use such a store, without a cache, mirror or replica in between"
            }
        }
    }
}

/// Why a store is refused, or could not be probed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The store was seen to break a promise.
    #[error("object store {store} is refused: it broke {capability} in {broken} of {tests} tests ({seen}): {}", capability.advice())]
    Refused {
        /// The store.
        store: String,
        /// The promise.
        capability: Capability,
        /// Tests that showed it broken.
        broken: u32,
        /// Tests of it.
        tests: u32,
        /// What was seen, in words, with names.
        seen: String,
    },
    /// Too few answers were clear.
    #[error(
        "object store {store} cannot be judged: {unclear} of {races} races of exclusive creates had no clear answer: try again when it is less busy"
    )]
    Unclear {
        /// The store.
        store: String,
        /// Races without a result.
        unclear: u32,
        /// Races.
        races: u32,
        /// The last answer that was neither success nor "exists".
        source: Option<Box<object_store::Error>>,
    },
    /// The store does not do what it is asked.
    #[error("cannot probe object store {store}: cannot {verb} '{path}': see to its address, keys, permissions and health")]
    Failed {
        /// The store.
        store: String,
        /// What was tried: create, read, list, delete.
        verb: &'static str,
        /// The object or folder.
        path: String,
        /// The store's own words.
        source: Box<object_store::Error>,
    },
}

impl ProbeError {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Refused { .. } => ErrorClass::Invalid,
            Self::Unclear { .. } => ErrorClass::Retry,
            Self::Failed { .. } => ErrorClass::Unavailable,
        }
    }
}
