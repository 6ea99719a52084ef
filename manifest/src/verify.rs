//! Checks everything that a region's manifest has on the store, and goes on after each problem.
//!
//! ```text
//!   LIST ─▶ each record: checksum, chain, body, replay, set hash
//!      └──▶ each checkpoint: root, segments, and whether it is the state that replay has at its version
//!                                       └─▶ on request, each SST: is there, with its size or its content
//! ```
//!
//! Invariants:
//! - Changes nothing, and shares only decoders and the state machine with the code that opens a region.
//! - Replay begins at the first record, and begins anew at the next readable checkpoint wherever a record is damaged
//!   or missing. A gap is a problem only where retention cannot have made it.
//! - A region that is written to meanwhile shows no problem that it does not have: what retention has deleted since the
//!   LIST is judged by the newest state.

mod files;
mod walk;

use std::sync::Arc;

use object_store::path::Path;

use crate::error::Error;
use crate::id::{Epoch, RegionId, Slot};
use crate::limits;
use crate::log::Context;
use crate::slot::SlotStore;
use crate::state::RegionState;
use walk::Walk;

/// How closely SSTs are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Not at all.
    Skip,
    /// One request each: whether it is there, with its size.
    Size,
    /// Each is read whole, and its CRC-32 computed.
    Crc,
}

/// Told how far a check has come, in objects.
pub trait Progress: Sync {
    /// So many more objects will be looked at.
    fn expect(&self, objects: u64);
    /// So many more have been.
    fn done(&self, objects: u64);
}

/// Nobody is told.
impl Progress for () {
    fn expect(&self, _: u64) {}
    fn done(&self, _: u64) {}
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

/// What was looked at and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The region.
    pub region: RegionId,
    /// The version up to which records could be replayed; `None` if the newest state is not known.
    pub version: Option<Slot>,
    /// Records that were read.
    pub records: u64,
    /// Those of them that were applied.
    pub replayed: u64,
    /// Checkpoints that were read.
    pub checkpoints: u64,
    /// Those of them that were compared with the state that replay had.
    pub compared: u64,
    /// Segments that they name, each counted once.
    pub segments: u64,
    /// SSTs that were looked at.
    pub files: u64,
    /// Everything that is wrong, in the order in which it was found.
    pub problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(region: RegionId) -> Self {
        let (records, replayed, checkpoints, compared, segments, files) = (0, 0, 0, 0, 0, 0);
        Self { region, version: None, records, replayed, checkpoints, compared, segments, files, problems: Vec::new() }
    }

    /// Notes a problem.
    pub(super) fn problem(&mut self, object: &Path, what: impl Into<String>) {
        self.problems.push(Problem { object: object.to_string(), what: what.into() });
    }
}

/// Checks a region.
///
/// # Errors
/// [`Error::NotFound`] if there is no such region, and the store's failure to list. Whatever is wrong with an object is
/// in the report, an object that cannot be read included.
pub async fn verify(context: &Context, region: RegionId, files: Files, progress: &dyn Progress) -> Result<Report, Error> {
    let mut round = 1;
    let (mut report, state) = loop {
        let (report, state) = log(context, region, progress).await?;
        // Retention has taken every checkpoint of the LIST away: there are newer ones.
        let overtaken = state.is_none() && report.problems.is_empty();
        if !overtaken || round == limits::LOAD_ROUNDS_MAX {
            break (report, state);
        }
        round += 1;
    };
    if let Some(state) = state.filter(|_| files != Files::Skip) {
        files::check(context, &state, files, progress, &mut report).await;
    }
    Ok(report)
}

/// Checks records and checkpoints; the newest state, if it is known.
async fn log(context: &Context, region: RegionId, progress: &dyn Progress) -> Result<(Report, Option<RegionState>), Error> {
    let store = SlotStore::new(Arc::clone(&context.store), context.root.manifest(region));
    let listing = store.list(None).await?;
    if listing.slots.is_empty() && listing.checkpoints.is_empty() {
        return Err(Error::NotFound { path: store.path(Slot::new(Epoch(1), 0)).to_string() });
    }
    progress.expect((listing.slots.len() + listing.checkpoints.len()) as u64);
    let mut walk = Walk::new(context, region, &store, progress);
    walk.run(listing).await;
    Ok(walk.end().await)
}

/// What is wrong with the object that an error names, without naming it again.
fn what(error: &Error) -> String {
    match error {
        Error::Record { source, .. } => chain(source),
        Error::Checkpoint { reason, .. } => reason.clone(),
        Error::MissingRecord { .. } => "is missing".to_owned(),
        Error::Store { verb, source, .. } => format!("cannot {verb} it: {}", chain(source)),
        error => chain(error),
    }
}

/// The messages of an error and its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let line = inner.to_string();
        if !text.ends_with(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = inner.source();
    }
    text
}

/// The newest state, if it can be read.
async fn newest(context: &Context, region: RegionId) -> Option<RegionState> {
    crate::log::load(context, region).await.ok()
}

#[cfg(test)]
mod tests;
