//! Writing checkpoints.
//!
//! Crash order: segments, then the root; only a root that is on the store is ever named in a record. A crash in
//! between leaves segments that nobody names, which a later epoch sweeps.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{PutMode, PutOptions};

use super::dirty::Dirty;
use super::plan::{Piece, plan};
use super::root::{Root, SegmentEntry};
use super::segment::encode_segment;
use super::source::read_root;
use crate::action::{CheckpointRef, SegmentRef};
use crate::error::Error;
use crate::id::{Epoch, FileKey, Nonce, RegionId};
use crate::limits;
use crate::log::Context;
use crate::state::{RegionState, Row};

/// Everything that a checkpoint is built from: a snapshot, so that commits may go on.
#[derive(Debug)]
pub struct Job {
    /// Where to.
    pub context: Context,
    /// The state; not of a sealed epoch.
    pub state: RegionState,
    /// The record that made it.
    pub commit_id: Nonce,
    /// When that record was made.
    pub time_ms: u64,
    /// The epoch of whoever builds it, in which new segments are born.
    pub epoch: Epoch,
    /// The segments of the checkpoint before it.
    pub before: Arc<[SegmentEntry]>,
    /// What changed since then.
    pub dirty: Dirty,
}

/// A checkpoint that is on the store.
#[derive(Debug, Clone)]
pub struct Built {
    /// How a record names it.
    pub reference: CheckpointRef,
    /// Its segments.
    pub segments: Arc<[SegmentEntry]>,
    /// Segments that were written for it.
    pub segments_written: usize,
    /// Bytes that were written for it.
    pub bytes_written: u64,
}

impl Job {
    fn region(&self) -> RegionId {
        self.state.region()
    }

    /// Writes the segments that changed and the root.
    ///
    /// # Errors
    /// The store's failure; [`Error::Checkpoint`] if another checkpoint stands under its name. What was written by
    /// then is named nowhere.
    pub async fn run(self) -> Result<Built, Error> {
        let (mut segments, mut written, mut bytes_written) = (Vec::new(), 0, 0);
        for piece in plan(&self.before, &self.dirty, limits::SEGMENT_ROWS_SMALL) {
            match piece {
                Piece::Keep(entry) => segments.push(entry),
                Piece::Write { mut from, to } => loop {
                    let (rows, next) = self.state.rows_from(from, to, limits::SEGMENT_ROWS_MAX);
                    let Some(first) = rows.first().map(Row::key) else { break };
                    let entry = self.write_segment(first, &rows).await?;
                    written += 1;
                    bytes_written += entry.segment.bytes;
                    segments.push(entry);
                    if next.is_none() {
                        break;
                    }
                    from = next;
                },
            }
        }
        let image = self.state.image().ok_or_else(|| Error::Checkpoint {
            path: self.context.root.manifest(self.region()).folder.to_string(),
            reason: "a sealed epoch has no checkpoint".into(),
        })?;
        let root = Root { commit_id: self.commit_id, time_ms: self.time_ms, image, segments };
        let bytes = root.encode();
        let reference = root.reference(&bytes);
        match self.put(&self.root_path(&root), bytes).await {
            Ok(len) => bytes_written += len,
            Err(Error::Store { source, .. }) if matches!(*source, object_store::Error::AlreadyExists { .. }) => {
                return self.adopt(&root).await;
            }
            Err(error) => return Err(error),
        }
        Ok(Built { reference, segments: root.segments.into(), segments_written: written, bytes_written })
    }

    fn root_path(&self, root: &Root) -> Path {
        self.context.root.manifest(self.region()).checkpoint_path(root.image.version)
    }

    async fn write_segment(&self, first: FileKey, rows: &[Row]) -> Result<SegmentEntry, Error> {
        let bytes = encode_segment(rows);
        let file = self.context.env.file_id(self.epoch);
        let segment = SegmentRef { file, crc32: crc32fast::hash(&bytes), bytes: bytes.len() as u64, rows: rows.len() as u64 };
        self.put(&self.context.root.segment(self.region(), file), bytes).await?;
        Ok(SegmentEntry { first, segment })
    }

    async fn put(&self, path: &Path, bytes: Bytes) -> Result<u64, Error> {
        let (len, options) = (bytes.len() as u64, PutOptions { mode: PutMode::Create, ..PutOptions::default() });
        self.context.store.put_opts(path, bytes.into(), options).await.map_err(|source| Error::store("write", path, source))?;
        Ok(len)
    }

    /// The checkpoint of the version is there already, from an attempt whose answer was lost: it is the one.
    async fn adopt(&self, root: &Root) -> Result<Built, Error> {
        let (found, reference) = read_root(&self.context, self.region(), root.image.version).await?;
        if (&found.image, found.commit_id) != (&root.image, root.commit_id) {
            let reason = "it stands for another state than the one that was to be written".into();
            return Err(Error::Checkpoint { path: self.root_path(root).to_string(), reason });
        }
        Ok(Built { reference, segments: found.segments.into(), segments_written: 0, bytes_written: 0 })
    }
}
