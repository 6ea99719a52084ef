//! Replay: the state after each record, and what a later checkpoint needs to know of them.
//!
//! Invariants:
//! - Each record carries the hash of the file set after it, and replay checks it.
//! - What a record names in segments is read, and its checksums are checked, before the record is applied.

use std::collections::VecDeque;

use super::Context;
use crate::action::{Action, SegmentRef};
use crate::body::Body;
use crate::checkpoint::{Dirty, read_segments};
use crate::error::Error;
use crate::file::StagedFile;
use crate::id::{Nonce, RegionId, Slot};
use crate::slot::{DataSlot, Kind, Record};
use crate::state::{RegionState, Row, Segments};

/// The last record of a tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) slot: Slot,
    pub(super) commit_id: Nonce,
    pub(super) time_ms: u64,
}

/// The records since a checkpoint, as far as the next one must know them.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    pub(super) dirty: Dirty,
    pub(super) last: Option<Last>,
    /// Slots that retention may free one day.
    pub(super) data: VecDeque<DataSlot>,
    sizes: VecDeque<(Slot, u64)>,
    bytes: u64,
}

impl Tail {
    pub(super) fn take(&mut self, record: &Record, body: &Body) {
        let bytes = record.body.len() as u64;
        self.dirty.record(record.slot, &body.actions);
        self.last = Some(Last { slot: record.slot, commit_id: record.commit_id, time_ms: body.time_ms });
        self.data.extend(record.data_slot());
        self.sizes.push_back((record.slot, bytes));
        self.bytes += bytes;
    }

    /// A checkpoint holds everything up to `version`.
    pub(super) fn checkpointed(&mut self, version: Slot) {
        self.dirty.forget(version);
        while let Some((_, bytes)) = self.sizes.pop_front_if(|(slot, _)| *slot <= version) {
            self.bytes -= bytes;
        }
    }

    /// Records and bytes that an opener would replay.
    pub(super) fn lag(&self) -> (usize, u64) {
        (self.sizes.len(), self.bytes)
    }
}

/// A replay in progress.
#[derive(Debug)]
pub(super) struct Replay {
    context: Context,
    region: RegionId,
    pub(super) state: RegionState,
    pub(super) tail: Tail,
}

impl Replay {
    /// A replay that begins with `state`.
    pub(super) fn from(context: &Context, state: RegionState) -> Self {
        Self { context: context.clone(), region: state.region(), state, tail: Tail::default() }
    }

    pub(super) async fn records(&mut self, records: &[Record]) -> Result<(), Error> {
        for record in records {
            self.record(record).await?;
        }
        Ok(())
    }

    pub(super) async fn record(&mut self, record: &Record) -> Result<(), Error> {
        let path = || self.context.root.manifest(self.region).path(record.slot).to_string();
        let body = Body::decode(&record.body).map_err(|reason| Error::Body { path: path(), reason })?;
        let kind = kind_of(&body.actions);
        if kind != record.kind {
            let reason = format!("the header says {:?}, the actions say {kind:?}", record.kind);
            return Err(Error::Body { path: path(), reason });
        }
        let segments = segments_of(&self.context, self.region, &body.actions).await?;
        let applied = self.state.apply_record_with(record.slot, &body.actions, &segments);
        let next = applied.map_err(|source| Error::Replay { path: path(), source })?;
        // A seal that was put ahead of a busy writer did not know the records that still got in before it.
        let ahead = kind == Kind::Seal && record.prev.is_none();
        if !ahead && next.set_hash() != body.set_hash {
            return Err(Error::SetHash { path: path(), recorded: body.set_hash, computed: next.set_hash() });
        }
        self.state = next;
        self.tail.take(record, &body);
        Ok(())
    }
}

fn kind_of(actions: &[Action]) -> Kind {
    match actions.first() {
        Some(Action::Open(_)) => Kind::Open,
        Some(Action::Seal(_)) => Kind::Seal,
        _ => Kind::Data,
    }
}

/// What it means that a segment is missing, given the one that was found missing when the log was read before. Retention frees
/// a segment only after a checkpoint has taken the place of the record that names it: whoever reads again begins there,
/// and does not miss the same one.
pub(super) fn missing_segment(before: &mut Option<String>, error: Error) -> Error {
    match error {
        Error::MissingRecord { path } if before.as_ref() == Some(&path) => {
            Error::Checkpoint { path, reason: "it is not there, although the manifest names it".to_owned() }
        }
        Error::MissingRecord { path } => {
            *before = Some(path.clone());
            Error::MissingRecord { path }
        }
        error => error,
    }
}

/// The content of the segments that a record with these actions names: none, and no request, for most.
///
/// # Errors
/// Those of [`read_segments`].
pub(super) async fn segments_of(context: &Context, region: RegionId, actions: &[Action]) -> Result<Segments, Error> {
    let named: Vec<SegmentRef> = actions
        .iter()
        .filter_map(|action| match action {
            Action::RemapStaged(remap) => Some(remap.segments.iter().copied()),
            _ => None,
        })
        .flatten()
        .collect();
    if named.is_empty() {
        return Ok(Segments::new());
    }
    let read = read_segments(context, region, &named).await?;
    let mut segments = Segments::new();
    for (segment, rows) in named.into_iter().zip(read) {
        let staged = |row: Row| match row {
            Row::Remapped(file) => Ok(file),
            row => Err(Error::Checkpoint {
                path: context.root.segment(region, segment.file).to_string(),
                reason: format!("the reference to {} is not one of a remap", row.key()),
            }),
        };
        segments.insert(segment, rows.into_iter().map(staged).collect::<Result<Vec<StagedFile>, Error>>()?);
    }
    Ok(segments)
}
