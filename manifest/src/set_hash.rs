//! An order-independent hash of a set of file references.
//!
//! The hash of a set is the sum, modulo 2^128, of the XXH3-128 of each member's bytes, so adding and removing
//! a member costs the same whatever the size of the set. It guards against replay that goes wrong, not
//! against an adversary.

use std::fmt;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::file::FileRef;
use crate::id::{FileKey, Nonce};
use crate::rule::RuleVersion;

/// The hash of a set. Shown as 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetHash(u128);

impl SetHash {
    /// The hash of the empty set.
    pub const EMPTY: Self = Self(0);

    /// The hash after `member` came in.
    #[must_use]
    pub fn with(self, member: MemberHash) -> Self {
        Self(self.0.wrapping_add(member.0))
    }

    /// The hash after `member` went out.
    #[must_use]
    pub fn without(self, member: MemberHash) -> Self {
        Self(self.0.wrapping_sub(member.0))
    }
}

impl fmt::Display for SetHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Nonce(self.0).fmt(f)
    }
}

impl TryFrom<String> for SetHash {
    type Error = crate::id::ParseIdError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Nonce::try_from(text).map(|nonce| Self(nonce.0))
    }
}

impl From<SetHash> for String {
    fn from(hash: SetHash) -> Self {
        hash.to_string()
    }
}

/// The hash of one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberHash(u128);

impl MemberHash {
    /// The hash of a reference: which file, which content, which part of it.
    #[must_use]
    pub fn of(file: &FileRef) -> Self {
        Self::of_parts(file.key, file.meta.bytes, file.meta.crc32, file.scope.version())
    }

    /// The same, of its parts.
    ///
    /// Bytes hashed, little-endian: origin region (8), birth epoch (4), ulid (16), object size (8), object
    /// CRC-32 (4), rule version of the scope (16).
    #[must_use]
    pub(crate) fn of_parts(key: FileKey, size: u64, crc32: u32, scope: RuleVersion) -> Self {
        let mut bytes = [0_u8; 56];
        bytes[..8].copy_from_slice(&key.origin.as_u64().to_le_bytes());
        bytes[8..12].copy_from_slice(&key.file.epoch.0.to_le_bytes());
        bytes[12..28].copy_from_slice(&key.file.ulid().0.to_le_bytes());
        bytes[28..36].copy_from_slice(&size.to_le_bytes());
        bytes[36..40].copy_from_slice(&crc32.to_le_bytes());
        bytes[40..].copy_from_slice(&scope.0.0.to_le_bytes());
        Self(xxh3_128(&bytes))
    }
}
