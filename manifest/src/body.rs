//! The body of a manifest record: what happened, and the hash of the file set after it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::action::Action;
use crate::format::{self, Format};
use crate::set_hash::SetHash;

/// The body of a record, one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    format: u32,
    min_reader: u32,
    /// When the record was made, by its writer's clock, in milliseconds since 1970-01-01T00:00:00Z. It is shown, and
    /// from it a floor is proposed; no order follows from it.
    pub time_ms: u64,
    /// The hash of the visible references after the record.
    pub set_hash: SetHash,
    /// What happened, in order.
    pub actions: Vec<Action>,
}

/// The part of a body that every later format keeps.
#[derive(Deserialize)]
struct Versions {
    format: u32,
    min_reader: u32,
}

impl Body {
    /// The body of a record with these actions, made at `time_ms`, after which the file set hashes to `set_hash`. It is
    /// of the oldest format in which they can be written, so that older readers refuse only what they cannot know.
    #[must_use]
    pub fn new(time_ms: u64, set_hash: SetHash, actions: Vec<Action>) -> Self {
        let needed = actions.iter().map(Action::body_version).max().unwrap_or(1);
        let version = format::version(Format::ManifestBody, needed);
        Self { format: version.version, min_reader: version.min_reader, time_ms, set_hash, actions }
    }

    /// Its bytes, with a line end.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut bytes = serde_json::to_vec(self).expect("actions have text keys only and always serialize");
        bytes.push(b'\n');
        Bytes::from(bytes)
    }

    /// The body in `bytes`.
    ///
    /// # Errors
    /// What is wrong with it, for people: it is newer than this reader, or not a list of actions.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let versions: Versions = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        format::check(Format::ManifestBody, versions.format, versions.min_reader).map_err(|e| e.to_string())?;
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}
