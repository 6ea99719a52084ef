//! A state taken apart and put together again: what a checkpoint holds.
//!
//! Invariants:
//! - `from_image(image(), rows())` is the state itself; whatever is not so is refused, not repaired.
//! - The image is small; the rows are as many as there are references, in order of (key, kind).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};

use super::block::Block;
use super::books::Books;
use super::stage::{Remap, Staging};
use super::{RegionState, Totals};
use crate::action::{CheckpointRef, Pin, SegmentRef, Stage};
use crate::file::{Doomed, Listed, Removed, StagedFile};
use crate::id::{FileKey, Nonce, RegionId, Sequence, Slot};
use crate::meta::RegionMeta;
use crate::set_hash::SetHash;
use crate::wal::{AbandonedWal, WalId, WalPosition, WalRef};

/// One reference of a state, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// Readers see it.
    Visible(Listed),
    /// It ended.
    Removed(Removed),
    /// Rows written since the fence of a repartition.
    Staged(StagedFile),
    /// What a repartition will refer to.
    Remapped(StagedFile),
    /// The file's end is decided.
    Doomed(FileKey, Doomed),
}

impl Row {
    /// Which file.
    #[must_use]
    pub fn key(&self) -> FileKey {
        match self {
            Self::Visible(listed) => listed.file.key,
            Self::Removed(removed) => removed.file.key,
            Self::Staged(staged) | Self::Remapped(staged) => staged.key(),
            Self::Doomed(key, _) => *key,
        }
    }

    /// Its place among the rows of one file.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Visible(_) => 0,
            Self::Removed(_) => 1,
            Self::Staged(_) => 2,
            Self::Remapped(_) => 3,
            Self::Doomed(..) => 4,
        }
    }
}

/// Everything of a state but its references.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// The region.
    pub region: RegionId,
    /// The version.
    pub version: Slot,
    writer: Option<Nonce>,
    retired: bool,
    dropped: bool,
    meta: Option<Arc<RegionMeta>>,
    wals: Vec<WalRef>,
    current_wal: Option<WalId>,
    flushed_sequence: Sequence,
    staging: Option<StagingImage>,
    repartitioned: Option<Slot>,
    floor: Option<Slot>,
    pins: Vec<Pin>,
    checkpoints: Vec<CheckpointRef>,
    remaps: Vec<(Slot, Vec<SegmentRef>)>,
    rows: u64,
    bytes: u64,
    set_hash: SetHash,
    /// Since root format 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    abandoned: Vec<AbandonedWal>,
}

impl Image {
    /// The oldest version of the root's format in which it can be written.
    pub(crate) fn root_version(&self) -> u32 {
        if self.abandoned.is_empty() { 1 } else { 2 }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StagingImage {
    stage: Stage,
    since: Slot,
    flushed: Vec<(WalId, WalPosition)>,
    sequence: Option<Sequence>,
    drained: bool,
    remap: Option<RemapImage>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RemapImage {
    segments: Vec<SegmentRef>,
    set_hash: SetHash,
}

/// Why rows and image do not make a state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Something is there twice, or out of order.
    #[error("the reference to {file} is not in order")]
    Order {
        /// The file.
        file: FileKey,
    },
    /// A staged reference of a region that is not staged.
    #[error("the reference to {file} is staged, but the region is not, or has no remap")]
    NotStaged {
        /// The file.
        file: FileKey,
    },
    /// The references are not those that were written.
    #[error("the visible references are {found}, the checkpoint recorded {recorded}")]
    Sums {
        /// In the root.
        recorded: String,
        /// From the rows.
        found: String,
    },
}

impl RegionState {
    /// Everything but the references. `None` before the first record, and of a sealed epoch, which a checkpoint
    /// never stands for.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        if self.sealed {
            return None;
        }
        let staging = self.staging.as_ref().map(|staging| StagingImage {
            stage: staging.stage.clone(),
            since: staging.since,
            flushed: staging.flushed.iter().map(|(wal, position)| (*wal, *position)).collect(),
            sequence: staging.sequence,
            drained: staging.drained,
            remap: staging.remap.as_ref().map(|remap| RemapImage { segments: remap.segments.to_vec(), set_hash: remap.set_hash }),
        });
        Some(Image {
            region: self.region,
            version: self.version?,
            writer: self.writer,
            retired: self.retired,
            dropped: self.dropped,
            meta: self.meta.clone(),
            wals: self.wals.to_vec(),
            current_wal: self.current_wal,
            flushed_sequence: self.flushed_sequence,
            staging,
            repartitioned: self.repartitioned,
            floor: self.floor,
            pins: self.pins.values().map(|pin| Pin::clone(pin)).collect(),
            checkpoints: self.checkpoints.to_vec(),
            remaps: self.remaps.to_vec(),
            rows: self.books.totals.rows,
            bytes: self.books.totals.bytes,
            set_hash: self.books.hash,
            abandoned: self.abandoned.to_vec(),
        })
    }

    /// How many references there are, of all kinds.
    #[must_use]
    pub fn row_count(&self) -> usize {
        let staged = self.staging.as_ref().map_or(0, |staging| staging.added.len() + staging.remap.as_ref().map_or(0, |r| r.files.len()));
        self.books.visible.len() + self.books.removed.len() + self.books.doomed.len() + staged
    }

    /// References to files from `from` (included) up to `to` (not included), in order: about `max` of them, never
    /// parting those to one file; and where to go on, if there are more.
    #[must_use]
    pub fn rows_from(&self, from: Option<FileKey>, to: Option<FileKey>, max: usize) -> (Vec<Row>, Option<FileKey>) {
        let range = (from.map_or(Bound::Unbounded, Bound::Included), to.map_or(Bound::Unbounded, Bound::Excluded));
        let mut rows: Vec<Row> = self.books.visible.range(from, to).take(max + 1).map(|(_, listed)| Row::Visible(listed)).collect();
        let visible = rows.len();
        rows.extend(self.books.removed.range(range).take(max + 1).map(|(_, removed)| Row::Removed(removed.clone())));
        rows.extend(self.books.doomed.range(range).take(max + 1).map(|(key, doomed)| Row::Doomed(*key, *doomed)));
        if let Some(staging) = &self.staging {
            rows.extend(staging.added.range(range).take(max + 1).map(|(_, staged)| Row::Staged(staged.clone())));
            let remapped = staging.remap.iter().flat_map(|remap| remap.range(from, to));
            rows.extend(remapped.take(max + 1).map(|staged| Row::Remapped(staged.clone())));
        }
        if rows.len() > visible {
            rows.sort_by_key(|row| (row.key(), row.kind()));
        }
        let next = rows.get(max).map(Row::key);
        if let Some(next) = next {
            rows.truncate(rows.partition_point(|row| row.key() < next));
        }
        (rows, next)
    }

    /// The state of which these are the image and all references, in order.
    ///
    /// # Errors
    /// References that are not in order, or not those of which the image recorded the sums.
    pub fn from_image(image: Image, rows: impl IntoIterator<Item = Row>) -> Result<Self, ImageError> {
        let lists = Lists::sort(rows, &image)?;
        let books = Books::from_lists(lists.visible, lists.removed, lists.doomed);
        Self::with_books(image, books, lists.staged, lists.remapped)
    }

    /// The same, of segments that hold visible references in blocks, all in order.
    pub(crate) fn from_segments(image: Image, segments: Vec<Segment>) -> Result<Self, ImageError> {
        let mut last: Option<FileKey> = None;
        let (mut blocks, mut others) = (Vec::with_capacity(segments.len()), Vec::new());
        for Segment { block, rows } in segments {
            if block.len() > 0 {
                if last.is_some_and(|last| last >= block.key(0)) {
                    return Err(ImageError::Order { file: block.key(0) });
                }
                last = Some(block.key(block.len() - 1));
                blocks.push(block);
            }
            others.extend(rows);
        }
        let lists = Lists::sort(others, &image)?;
        let books = Books::from_lists(lists.visible, lists.removed, lists.doomed).with_blocks(blocks);
        Self::with_books(image, books, lists.staged, lists.remapped)
    }

    fn with_books(image: Image, books: Books, staged: Vec<StagedFile>, remapped: Vec<StagedFile>) -> Result<Self, ImageError> {
        let ended = books.removed.keys().chain(books.doomed.keys());
        if let Some(file) = ended.copied().find(|key| books.visible.contains_key(key)) {
            return Err(ImageError::Order { file });
        }
        let recorded = (Totals { rows: image.rows, bytes: image.bytes }, image.set_hash);
        if (books.totals, books.hash) != recorded {
            let show = |(totals, hash): (Totals, SetHash)| format!("{} rows in {} bytes with hash {hash}", totals.rows, totals.bytes);
            return Err(ImageError::Sums { recorded: show(recorded), found: show((books.totals, books.hash)) });
        }
        let staging = image.staging.map(|staging| {
            let remap =
                staging.remap.map(|remap| Remap { segments: remap.segments.into(), files: remapped.into(), set_hash: remap.set_hash });
            let flushed: BTreeMap<WalId, WalPosition> = staging.flushed.into_iter().collect();
            let added: OrdMap<FileKey, StagedFile> = staged.into_iter().map(|staged| (staged.key(), staged)).collect();
            let StagingImage { stage, since, sequence, drained, .. } = staging;
            Arc::new(Staging { stage, since, flushed, sequence, drained, added, remap })
        });
        Ok(Self {
            region: image.region,
            version: Some(image.version),
            writer: image.writer,
            sealed: false,
            clean: false,
            retired: image.retired,
            dropped: image.dropped,
            meta: image.meta,
            wals: Arc::new(image.wals),
            current_wal: image.current_wal,
            flushed_sequence: image.flushed_sequence,
            books,
            staging,
            repartitioned: image.repartitioned,
            floor: image.floor,
            pins: image.pins.into_iter().map(|pin| (pin.name.clone(), Arc::new(pin))).collect(),
            checkpoints: Arc::new(image.checkpoints),
            remaps: Arc::new(image.remaps),
            abandoned: Arc::new(image.abandoned),
        })
    }
}

/// The content of a segment of a checkpoint.
#[derive(Debug)]
pub(crate) struct Segment {
    /// The visible references.
    pub(crate) block: Block,
    /// All others, in order.
    pub(crate) rows: Vec<Row>,
}

/// Rows by kind.
#[derive(Default)]
struct Lists {
    visible: Vec<Listed>,
    removed: Vec<(FileKey, Removed)>,
    doomed: Vec<(FileKey, Doomed)>,
    staged: Vec<StagedFile>,
    remapped: Vec<StagedFile>,
}

impl Lists {
    fn sort(rows: impl IntoIterator<Item = Row>, image: &Image) -> Result<Self, ImageError> {
        let mut lists = Self::default();
        let mut last = None;
        let staged = image.staging.is_some();
        let remapped = image.staging.as_ref().is_some_and(|staging| staging.remap.is_some());
        for row in rows {
            let (key, place) = (row.key(), (row.key(), row.kind()));
            if last.is_some_and(|last| last >= place) {
                return Err(ImageError::Order { file: key });
            }
            last = Some(place);
            match row {
                Row::Visible(listed) => lists.visible.push(listed),
                Row::Removed(removed) => lists.removed.push((key, removed)),
                Row::Doomed(_, doomed) => lists.doomed.push((key, doomed)),
                Row::Staged(file) if staged => lists.staged.push(file),
                Row::Remapped(file) if remapped => lists.remapped.push(file),
                Row::Staged(_) | Row::Remapped(_) => return Err(ImageError::NotStaged { file: key }),
            }
        }
        Ok(lists)
    }
}
