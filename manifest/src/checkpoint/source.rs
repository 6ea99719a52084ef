//! Reading checkpoints.
//!
//! Invariants:
//! - A checkpoint that cannot be used is passed over, with a warning that names the object: the one before it, or the
//!   first record, gives the same state. Only when the store fails is that an error.
//! - A checkpoint is read once, even if the take-over that asks for it starts over.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::root::{Root, SegmentEntry};
use super::segment::{SegmentDecoder, SegmentError};
use crate::action::{CheckpointRef, SegmentRef};
use crate::error::Error;
use crate::id::{Nonce, RegionId, Slot};
use crate::limits;
use crate::log::Context;
use crate::slot::{Base, CheckpointSource, Listing};
use crate::state::{RegionState, Row};

/// A checkpoint that was read.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Which one.
    pub reference: CheckpointRef,
    /// The record that it stands for.
    pub commit_id: Nonce,
    /// Its segments.
    pub segments: Arc<[SegmentEntry]>,
    /// The state after that record.
    pub state: RegionState,
}

/// The checkpoints of a region.
#[derive(Debug)]
pub struct Source {
    context: Context,
    region: RegionId,
    at_most: Option<Slot>,
    loaded: Option<Loaded>,
    /// The checkpoint that was damaged and passed over, and what was wrong with it.
    damaged: Option<(String, String)>,
    /// The object that was not there when a checkpoint of the listing before was passed over.
    missing: Option<String>,
}

impl Source {
    /// Those of `region`; only those not above `at_most`, if that is given.
    #[must_use]
    pub fn new(context: &Context, region: RegionId, at_most: Option<Slot>) -> Self {
        Self { context: context.clone(), region, at_most, loaded: None, damaged: None, missing: None }
    }

    /// The one that was loaded last.
    #[must_use]
    pub fn loaded(&self) -> Option<&Loaded> {
        self.loaded.as_ref()
    }

    /// The state that replay starts with.
    #[must_use]
    pub fn state(&self) -> RegionState {
        self.loaded.as_ref().map_or_else(|| RegionState::empty(self.region), |loaded| loaded.state.clone())
    }

    /// What `error` means: where records are missing because a checkpoint in their place is damaged, reading again does
    /// not help.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        match (&self.damaged, &error) {
            (Some((path, reason)), Error::MissingRecord { .. }) => {
                let reason = format!("{reason}; no older checkpoint or record can take its place: restore it from a backup of the store");
                Error::Checkpoint { path: path.clone(), reason }
            }
            _ => error,
        }
    }

    async fn load(&self, version: Slot) -> Result<Loaded, Error> {
        let (root, reference) = read_root(&self.context, self.region, version).await?;
        let segments = root.segments.clone().into();
        let commit_id = root.commit_id;
        let state = read_state(&self.context, self.region, root).await?;
        Ok(Loaded { reference, commit_id, segments, state })
    }
}

#[async_trait]
impl CheckpointSource for Source {
    async fn base(&mut self, listing: &Listing) -> Result<Option<Base>, Error> {
        let versions = listing.checkpoints.iter().rev().filter(|version| self.at_most.is_none_or(|most| **version <= most));
        // Checkpoints share segments: one that several of a listing miss was missed once.
        let missed = self.missing.take();
        for version in versions {
            if let Some(loaded) = self.loaded.as_ref().filter(|loaded| loaded.reference.version == *version) {
                return Ok(Some(Base { slot: *version, commit_id: Some(loaded.commit_id) }));
            }
            match self.load(*version).await {
                Ok(loaded) => {
                    let commit_id = Some(loaded.commit_id);
                    self.loaded = Some(loaded);
                    return Ok(Some(Base { slot: *version, commit_id }));
                }
                Err(error @ (Error::Checkpoint { .. } | Error::MissingRecord { .. })) => {
                    match &error {
                        Error::Checkpoint { path, reason } => self.damaged = Some((path.clone(), reason.clone())),
                        // What retention frees is missed once: the next listing has the checkpoint that took its place.
                        Error::MissingRecord { path } if missed.as_ref() == Some(path) => {
                            self.damaged = Some((path.clone(), "it is not there".to_owned()));
                        }
                        Error::MissingRecord { path } => self.missing = Some(path.clone()),
                        _ => {}
                    }
                    metrics::counter!("tessera_manifest_checkpoints_passed_over_total").increment(1);
                    tracing::warn!(region = %self.region, %version, %error, "passed over a checkpoint; an older one takes its place");
                }
                Err(error) => return Err(error),
            }
        }
        self.loaded = None;
        Ok(None)
    }
}

/// The root of the checkpoint of `version`, and how a record names it.
///
/// # Errors
/// [`Error::MissingRecord`] if there is none, [`Error::Checkpoint`] for damage, the store's failure.
pub async fn read_root(context: &Context, region: RegionId, version: Slot) -> Result<(Root, CheckpointRef), Error> {
    let path = context.root.manifest(region).checkpoint_path(version);
    let bytes = read(&context.store, &path).await?;
    let root = Root::decode(region, version, &bytes).map_err(|error| damaged(&path, &error))?;
    let reference = root.reference(&bytes);
    Ok((root, reference))
}

/// The state of a checkpoint.
///
/// # Errors
/// Those of [`read_segments`], and [`Error::Checkpoint`] for references that are not those of the root.
pub async fn read_state(context: &Context, region: RegionId, root: Root) -> Result<RegionState, Error> {
    let named: Vec<SegmentRef> = root.segments.iter().map(|entry| entry.segment).collect();
    let segments = each_segment(context, region, &named, SegmentDecoder::decode_columns).await?;
    let path = context.root.manifest(region).checkpoint_path(root.image.version);
    RegionState::from_segments(root.image, segments).map_err(|error| damaged(&path, &error))
}

/// The rows of each of these segments, read in parallel.
///
/// # Errors
/// [`Error::MissingRecord`] if one is not there, [`Error::Checkpoint`] for damage, the store's failure.
pub async fn read_segments(context: &Context, region: RegionId, named: &[SegmentRef]) -> Result<Vec<Vec<Row>>, Error> {
    each_segment(context, region, named, SegmentDecoder::decode).await
}

async fn each_segment<T>(
    context: &Context,
    region: RegionId,
    named: &[SegmentRef],
    decode: impl Fn(&mut SegmentDecoder, &SegmentRef, &Bytes) -> Result<T, SegmentError>,
) -> Result<Vec<T>, Error> {
    let reads: Vec<_> = named
        .iter()
        .map(|segment| {
            let (store, path, segment) = (Arc::clone(&context.store), context.root.segment(region, segment.file), *segment);
            async move { read(&store, &path).await.map(|bytes| (segment, path, bytes)) }
        })
        .collect();
    let mut reads = futures::stream::iter(reads).buffered(limits::PARALLEL_READS_MAX);
    let mut decoder = SegmentDecoder::default();
    let mut segments = Vec::with_capacity(named.len());
    while let Some((segment, path, bytes)) = reads.try_next().await? {
        segments.push(decode(&mut decoder, &segment, &bytes).map_err(|error| damaged(&path, &error))?);
    }
    Ok(segments)
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> Result<Bytes, Error> {
    let get = async { store.get(path).await?.bytes().await };
    get.await.map_err(|source| match source {
        object_store::Error::NotFound { .. } => Error::MissingRecord { path: path.to_string() },
        source => Error::store("read", path, source),
    })
}

fn damaged(path: &Path, error: &dyn std::error::Error) -> Error {
    Error::Checkpoint { path: path.to_string(), reason: error.to_string() }
}
