//! Compaction: fewer files, each within one time window, without what no reader can see.
//!
//! ```text
//!   files of a version ──pick (pure)──▶ Pick ──run──▶ new files ──one Edit──▶ next version
//! ```
//!
//! Invariants:
//! - What to compact is computed from plain values, without I/O; a pick says which files go in, how rows are cut
//!   into files, and which older files may still hold a deleted key.
//! - No output holds rows of two time windows, but for files so sparse that they would fall into crumbs.
//! - A delete is dropped only where no file outside of the pick can hold an older row of its key. Memtables hold
//!   newer rows than any file: a row gets its sequence after every row that is in a file got its own.
//! - With `last_non_null`, rows merge across sequences, so only files that are neighbours in age are picked
//!   together.
//! - Inputs are read through scope ∧ rule: rows of a file that do not belong to the region are not carried on.
//!
//! [`docs/compaction.md`](../../../docs/compaction.md) has the reasons.

mod pick;
mod run;
mod split;
mod window;

#[cfg(test)]
mod tests;

pub use pick::{Candidate, Pick, Reason, Settings, plan, plan_up_to, space};
pub use window::Windows;

pub(crate) use run::{Input, Job, Output, run};
pub use split::Split;
pub(crate) use split::{Plan, write_split};

use tessera_manifest::id::RegionId;
use tessera_manifest::meta::RegionMeta;
use tessera_manifest::state::{Entry, Numbers};

use crate::options::{MergeMode, TableOptions};

/// How much to compact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Strategy {
    /// What is worth its writes: see [`plan`].
    #[default]
    Regular,
    /// Every window becomes one run of files that share no time, and deletes that hide nothing go.
    StrictWindow,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Edits committed.
    pub rounds: usize,
    /// Files that were replaced.
    pub files_in: usize,
    /// Files that were written.
    pub files_out: usize,
    /// Bytes of the files that were replaced.
    pub bytes_in: u64,
    /// Bytes of the files that were written.
    pub bytes_out: u64,
    /// Deletes that were dropped, since nothing was left for them to hide.
    pub deletes_dropped: u64,
}

impl Report {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rounds: self.rounds + other.rounds,
            files_in: self.files_in + other.files_in,
            files_out: self.files_out + other.files_out,
            bytes_in: self.bytes_in + other.bytes_in,
            bytes_out: self.bytes_out + other.bytes_out,
            deletes_dropped: self.deletes_dropped + other.deletes_dropped,
        }
    }
}

impl Settings {
    /// The settings of a table for files whose times count in `meta`'s unit.
    pub(crate) fn of(meta: &RegionMeta, options: &TableOptions) -> Self {
        let compaction = &options.compaction;
        let per_second = window::per_second(meta.schema.time_index().data_type);
        let window = compaction.time_window.map(|length| window::ticks(length, per_second));
        Self {
            window,
            ticks_per_second: per_second,
            runs_max: compaction.trigger_file_num.map_or(pick::RUNS_MAX, |files| files.saturating_sub(1)),
            settled_max: compaction.trigger_file_num.map_or(1, |files| files.saturating_sub(1)),
            disjoint_max: compaction.trigger_file_num.map_or(2 * pick::RUNS_MAX, |files| files.saturating_sub(1)),
            file_bytes_max: compaction.max_output_file_bytes.unwrap_or(pick::FILE_BYTES_MAX),
            merge_mode: options.merge_mode,
        }
    }

    /// Whether only files that are neighbours in age may be merged.
    fn neighbours_only(&self) -> bool {
        self.merge_mode == MergeMode::LastNonNull
    }
}

impl Candidate {
    /// What the picker needs to know of a reference in a region.
    pub(crate) fn of(region: RegionId, meta: &RegionMeta, file: Entry<'_>) -> Self {
        // Values of a column that is no partition column any more keep that from getting another type.
        let known = file.stats().iter().all(|stats| meta.partition_columns.contains(&stats.column));
        let key = file.key();
        let own = key.origin == region && file.scope().is_all() && *file.rule() == meta.rule && known;
        let Numbers { time_range, rows, deletes, bytes, sequences, level } = file.numbers();
        let sequences = (sequences.0.as_u64(), sequences.1.as_u64());
        Self { key, time: time_range, sequences, bytes, rows, deletes, level, foreign: !own }
    }
}
