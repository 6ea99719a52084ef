//! The capability probe: a store proves that it keeps the promises on which everything rests, or is refused.
//!
//! ```text
//!   races:    read (nothing) ─▶ N creates at once ─▶ read ─▶ one more create ─▶ read        × races
//!   listing:  create ─▶ LIST ─▶ LIST after the one before        × steps,  many creates ─▶ LIST, LIST from the middle
//!   deletes:  delete ─▶ read ─▶ LIST                             × steps
//!   at last:  delete all ─▶ LIST
//! ```
//!
//! Invariants:
//! - A store is refused only for what it was seen to do: an answer that says nothing (a timeout, a conflict without
//!   an object) is not held against it, and is counted.
//! - Everything is written below `{root}/probe` under a name that was never used before, so that probes do not
//!   disturb each other, and deleted at the end, whatever the result. What a killed probe leaves harms nothing.
//! - The number of requests is bounded by [`Settings::requests_max`]. No request is a conditional update.

mod error;
mod judge;
mod objects;
mod races;
mod listing;

use std::fmt;

use serde::Serialize;

use crate::env::Stopwatch;
use crate::limits;
use crate::log::Context;
use objects::Objects;

pub use error::{Capability, ProbeError};

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Races; at least one, at most [`limits::PROBE_RACES_MAX`] are run.
    pub races: u32,
    /// Writers in each race; at least two, at most [`limits::PROBE_WRITERS_MAX`] take part.
    pub writers: u32,
    /// Objects that are created, and deleted, one by one with a LIST after each.
    pub steps: u32,
    /// Objects that are listed at once, the `steps` included; at most [`limits::PROBE_LISTED_MAX`] are written.
    pub listed: u32,
}

impl Settings {
    /// For each start of a server: about a hundred requests. Finds a store that ignores conditions, and most
    /// that do not keep them under concurrency.
    pub const CHEAP: Self = Self { races: 4, writers: 8, steps: 3, listed: 8 };

    /// For a store that is used for the first time, and for tests: some thousands of requests, more than one page of LIST.
    pub const THOROUGH: Self = Self { races: 50, writers: 16, steps: 20, listed: 1200 };

    /// The same within the limits.
    fn bounded(self) -> Self {
        let steps = self.steps.min(limits::PROBE_LISTED_MAX);
        Self {
            races: self.races.clamp(1, limits::PROBE_RACES_MAX),
            writers: self.writers.clamp(2, limits::PROBE_WRITERS_MAX),
            steps,
            listed: self.listed.clamp(steps, limits::PROBE_LISTED_MAX),
        }
    }

    /// The most requests that a probe makes; a LIST counts as one whatever its pages, each deleted object as one.
    #[must_use]
    pub fn requests_max(self) -> u64 {
        let Self { races, writers, steps, listed } = self.bounded();
        let [races, writers, steps, listed] = [races, writers, steps, listed].map(u64::from);
        let objects = races * races::TRIES_MAX + listed;
        let raced = races * races::TRIES_MAX * (writers + 4);
        raced + listed + 3 * steps + 2 + 3 * steps + objects + 1
    }
}

/// Answers to the creates of all races.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Answers {
    /// Created.
    pub created: u32,
    /// There is such an object already.
    pub exists: u32,
    /// Anything else.
    pub unclear: u32,
}

/// What was tested, and how often, of a store that is fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The store.
    pub store: String,
    /// Where the probe wrote.
    pub folder: String,
    /// Races in which exactly one writer could be seen to win.
    pub races: u32,
    /// Races that showed nothing, because no answer was clear.
    pub races_unclear: u32,
    /// Writers in each race.
    pub writers: u32,
    /// Their answers.
    pub answers: Answers,
    /// Reads of what had just been written.
    pub reads: u32,
    /// LISTs that had to show what had just been written.
    pub lists_after_write: u32,
    /// LISTs that had to hide what had just been deleted.
    pub lists_after_delete: u32,
    /// Objects that were listed at once.
    pub listed: u32,
    /// Whether every LIST was in the order of names. Nothing here needs it.
    pub list_ordered: bool,
    /// Whether a LIST after a name leaves out the names up to it. Where not, LISTs cost more than they should.
    pub offset_exact: bool,
    /// Requests that were made; a LIST counts as one whatever its pages.
    pub requests: u64,
    /// Objects that could not be deleted again.
    pub left_behind: u32,
    /// Time it took.
    pub elapsed_ms: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, races, writers, reads, lists_after_write, lists_after_delete, listed, requests, elapsed_ms, .. } = self;
        let odd = if self.offset_exact { "" } else { " (a LIST after a name shows those before it too)" };
        write!(
            f,
            "{store}: exclusive create in {races} races of {writers}, read after write {reads} times, LIST after write {lists_after_write} \
             and after delete {lists_after_delete} times, {listed} objects listed at once{odd}; {requests} requests in {elapsed_ms} ms"
        )
    }
}

/// Probes the store of `context`, below its root.
///
/// If the future is dropped before it is ready, objects of the probe stay; they harm nothing.
///
/// # Errors
/// [`ProbeError::Refused`] for a store that must not be used, with the broken promise and the numbers seen;
/// [`ProbeError::Unclear`] if no race showed anything; [`ProbeError::Failed`] if the store does not answer.
pub async fn run(context: &Context, settings: Settings) -> Result<Report, ProbeError> {
    let settings = settings.bounded();
    let watch = Stopwatch::start();
    let objects = Objects::new(context);
    let tested = test(&objects, settings).await;
    let cleaned = listing::clean(&objects).await;
    let (races, listing) = tested?;
    let left_behind = cleaned?;
    let report = Report {
        store: objects.store_name(),
        folder: objects.folder().to_string(),
        races: races.exclusive,
        races_unclear: races.unclear,
        writers: settings.writers,
        answers: races.answers,
        reads: races.reads + listing.reads,
        lists_after_write: listing.after_write,
        lists_after_delete: listing.after_delete + 1,
        listed: settings.listed,
        list_ordered: listing.ordered,
        offset_exact: listing.offset_exact,
        requests: objects.requests(),
        left_behind,
        elapsed_ms: u64::try_from(watch.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    tracing::debug!(%report, "probed the object store");
    Ok(report)
}

async fn test(objects: &Objects, settings: Settings) -> Result<(races::Summary, listing::Summary), ProbeError> {
    let races = races::run(objects, settings).await?;
    Ok((races, listing::run(objects, settings).await?))
}

#[cfg(test)]
mod tests;
