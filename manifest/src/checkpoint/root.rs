//! The root of a checkpoint: one line of JSON header, then the image of the state and the list of segments as JSON.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::action::{CheckpointRef, SegmentRef};
use crate::format::{self, Format};
use crate::id::{FileKey, Nonce, RegionId, Slot};
use crate::slot::{DecodeError, NO_CRC, unwrap, wrap};
use crate::state::Image;

/// A segment in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// The key of its first row; the segment holds every reference from there up to the next segment's first key.
    pub first: FileKey,
    /// The object.
    pub segment: SegmentRef,
}

/// A checkpoint without the content of its segments.
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    /// The name of the record whose version it is.
    pub commit_id: Nonce,
    /// When that record was made, by its writer's clock.
    pub time_ms: u64,
    /// Everything but the references.
    pub image: Image,
    /// The segments, ascending by first key.
    pub segments: Vec<SegmentEntry>,
}

/// Why the bytes of a root are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootError {
    /// Damaged, or of a newer format.
    #[error(transparent)]
    Envelope(#[from] DecodeError),
    /// The body is not what it should be.
    #[error("the body cannot be read: {reason}")]
    Body {
        /// What the parser says.
        reason: String,
    },
    /// It stands under another name than its own.
    #[error("it is the checkpoint of version {version} of region {region}")]
    Elsewhere {
        /// The region that it is of.
        region: RegionId,
        /// The version that it is of.
        version: Slot,
    },
}

#[derive(Serialize, Deserialize)]
struct Header {
    format: u32,
    min_reader: u32,
    kind: Kind,
    len: u64,
    crc32: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Checkpoint,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    commit_id: Nonce,
    time_ms: u64,
    image: Image,
    segments: Vec<SegmentEntry>,
}

impl Root {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let Self { commit_id, time_ms, image, segments } = self.clone();
        let version = format::version(Format::CheckpointRoot, image.root_version());
        let mut body = serde_json::to_vec(&Body { commit_id, time_ms, image, segments }).expect("an image has text keys only");
        body.push(b'\n');
        let (format, min_reader, len) = (version.version, version.min_reader, body.len() as u64);
        wrap(&Header { format, min_reader, kind: Kind::Checkpoint, len, crc32: NO_CRC.to_owned() }, &body)
    }

    /// The root in `bytes`, which stood under the name of `version` of `region`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(region: RegionId, version: Slot, bytes: &Bytes) -> Result<Self, RootError> {
        let (_, body): (Header, Bytes) = unwrap(Format::CheckpointRoot, bytes)?;
        let body: Body = serde_json::from_slice(&body).map_err(|e| RootError::Body { reason: e.to_string() })?;
        let Body { commit_id, time_ms, image, segments } = body;
        if (image.region, image.version) != (region, version) {
            return Err(RootError::Elsewhere { region: image.region, version: image.version });
        }
        if !segments.windows(2).all(|pair| pair[0].first < pair[1].first) {
            return Err(RootError::Body { reason: "the segments are not in order".into() });
        }
        Ok(Self { commit_id, time_ms, image, segments })
    }

    /// How a record names this checkpoint.
    #[must_use]
    pub fn reference(&self, bytes: &Bytes) -> CheckpointRef {
        let (version, time_ms) = (self.image.version, self.time_ms);
        CheckpointRef { version, crc32: crc32fast::hash(bytes), bytes: bytes.len() as u64, time_ms }
    }
}
