//! Stored values: an envelope that notices damage, and in it a protobuf message that says who may read it.
//!
//! ```text
//! 'T' | kind (1 byte) | crc32 of kind and message (4 bytes, little endian) | protobuf message
//! ```
//!
//! Invariants:
//! - Every message has `ver` in field 1 (the version it was written in) and `min_reader_ver` in field 2 (the
//!   oldest version whose readers understand it). These two are read before anything else of the message.
//! - A reader refuses a `min_reader_ver` above its own version of that kind, naming both and the key.
//! - Versions of a kind are listed in [`changes::CHANGES`], which only grows.
//! - Fields that a reader does not know are dropped when it writes the value again; a field that must not be
//!   lost raises `min_reader_ver`.
//! - Domain types know nothing of their messages; [`Stored`] goes between them, and checks what it reads.

pub mod changes;
mod convert;
pub mod json;
pub mod messages;
pub mod coordination;
pub mod procedure;

use bytes::Bytes;
use prost::Message;
use tessera_manifest::error::ErrorClass;

pub use self::changes::Kind;
pub use self::convert::{Malformed, NextTableId, Stored, TableName};
use crate::kv::{Entry, Key};

const MAGIC: u8 = b'T';
const HEADER_BYTES: usize = 6;

/// The two fields that every message begins with.
#[derive(Clone, PartialEq, Message)]
struct Versions {
    #[prost(uint32, tag = "1")]
    ver: u32,
    #[prost(uint32, tag = "2")]
    min_reader_ver: u32,
}

/// Why a stored value cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The bytes are not as any version wrote them.
    #[error("the value of metadata key '{key}' is damaged: {detail}")]
    Damaged {
        /// Where it is stored.
        key: Key,
        /// What is wrong with it.
        detail: String,
    },
    /// There is another kind of value than the key promises.
    #[error("the value of metadata key '{key}' is of kind {found}, not {expected}")]
    WrongKind {
        /// Where it is stored.
        key: Key,
        /// The kind that belongs there.
        expected: Kind,
        /// The number of the kind that is there.
        found: u8,
    },
    /// The value was written by a newer program, for readers newer than this one.
    #[error(
        "the value of metadata key '{key}' needs a reader of version {min_reader_ver} of {kind}, and this program \
         is of version {reader_ver}: upgrade this program"
    )]
    TooNew {
        /// Where it is stored.
        key: Key,
        /// Its kind.
        kind: Kind,
        /// The oldest reader that understands it.
        min_reader_ver: u32,
        /// This program's version of the kind.
        reader_ver: u32,
    },
    /// The bytes are sound but their content breaks a rule of its type.
    #[error("the value of metadata key '{key}' is not sound")]
    Malformed {
        /// Where it is stored.
        key: Key,
        /// Which rule.
        source: Malformed,
    },
}

impl ValueError {
    /// What the caller should do next.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::TooNew { .. } => ErrorClass::Invalid,
            Self::Damaged { .. } | Self::WrongKind { .. } | Self::Malformed { .. } => ErrorClass::Corrupt,
        }
    }
}

fn checksum(kind: u8, message: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(message);
    hasher.finalize()
}

/// The stored form of `value`, in the current version of its kind.
#[must_use]
pub fn encode<T: Stored>(value: &T) -> Bytes {
    seal(T::KIND, &value.to_message().encode_to_vec())
}

/// Puts a message of any version into its envelope.
#[must_use]
pub fn seal(kind: Kind, message: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + message.len());
    bytes.extend_from_slice(&[MAGIC, kind.number()]);
    bytes.extend_from_slice(&checksum(kind.number(), message).to_le_bytes());
    bytes.extend_from_slice(message);
    bytes.into()
}

/// Reads the value that is stored under `key`.
///
/// # Errors
/// What is wrong with the bytes; `key` is only named in it.
pub fn decode<T: Stored>(key: &Key, bytes: &[u8]) -> Result<T, ValueError> {
    let damaged = |detail: String| ValueError::Damaged { key: key.clone(), detail };
    let Some(([magic, found, crc @ ..], message)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged(format!("{} bytes are too few", bytes.len())));
    };
    if *magic != MAGIC {
        return Err(damaged(format!("it begins with {magic:#04x}, not {MAGIC:#04x}")));
    }
    let (stored, computed) = (u32::from_le_bytes(*crc), checksum(*found, message));
    if stored != computed {
        return Err(damaged(format!("checksum {stored:08x} was stored, {computed:08x} is that of the bytes")));
    }
    if *found != T::KIND.number() {
        return Err(ValueError::WrongKind { key: key.clone(), expected: T::KIND, found: *found });
    }
    let versions = Versions::decode(message).map_err(|error| damaged(error.to_string()))?;
    check_versions(key, T::KIND, &versions)?;
    let message = T::Message::decode(message).map_err(|error| damaged(error.to_string()))?;
    T::from_message(message).map_err(|source| ValueError::Malformed { key: key.clone(), source })
}

/// Reads the value of an entry.
///
/// # Errors
/// As [`decode`].
pub fn decode_entry<T: Stored>(entry: &Entry) -> Result<T, ValueError> {
    decode(&entry.key, &entry.value)
}

fn check_versions(key: &Key, kind: Kind, versions: &Versions) -> Result<(), ValueError> {
    let Versions { ver, min_reader_ver } = *versions;
    if min_reader_ver == 0 || ver < min_reader_ver {
        return Err(ValueError::Damaged { key: key.clone(), detail: format!("version {ver} with oldest reader {min_reader_ver}") });
    }
    let reader_ver = kind.current().ver;
    if min_reader_ver > reader_ver {
        return Err(ValueError::TooNew { key: key.clone(), kind, min_reader_ver, reader_ver });
    }
    Ok(())
}
