//! The crate's error type.

use tessera_manifest::error::ErrorClass;
use tessera_manifest::id::RegionId;

/// Why a region could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The region is not open on this node.
    #[error("region {region} is not open here")]
    RegionNotFound {
        /// The region.
        region: RegionId,
    },
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        ErrorClass::Bug
    }
}
