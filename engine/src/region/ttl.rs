//! Files whose rows have all expired.
//!
//! Invariants:
//! - Whoever calls names the time before which rows are expired; nothing here looks at a clock. Rows go by a logged
//!   Edit and by nothing else: until then every scan sees them, afterwards none does.
//! - A file goes by metadata alone, and only if no other file or memtable that stays can show an older version of a
//!   row in it, or a row that it completes: what is deleted or overwritten does not come back.

use std::sync::Arc;

use tessera_manifest::action::{Action, Edit};
use tessera_manifest::file::FileRef;
use tessera_manifest::id::FileKey;

use super::Region;
use super::version::Version;
use crate::error::Error;
use crate::options::MergeMode;

impl Region {
    /// Removes files whose rows all have a time before `before`, in the unit of the time index. Those that overlap in
    /// time with an older file that stays are left for a later call. Answers how many went.
    ///
    /// # Errors
    /// The manifest's.
    pub async fn expire(&self, before: i64) -> Result<usize, Error> {
        if plan(&self.pin(), before).is_empty() {
            return Ok(0);
        }
        let mut manifest = self.writable_manifest().await?;
        let version = self.pin();
        // While a repartition is under way, what is visible is frozen.
        if version.state.staging().is_some() {
            return Ok(0);
        }
        let expired = plan(&version, before);
        if expired.is_empty() {
            return Ok(0);
        }
        let files = expired.len();
        let edit = Edit { remove: expired, ..Edit::new(version.meta.generation) };
        let state = self.commit(&mut manifest, vec![Action::Edit(edit)]).await?;
        self.version.update(|version| version.state = state);
        metrics::counter!("tessera_expired_files_total").increment(files as u64);
        tracing::debug!(region = %self.id, files, before, "expired files are gone");
        Ok(files)
    }
}

fn plan(version: &Version, before: i64) -> Vec<FileKey> {
    let Some(last) = before.checked_sub(1) else { return Vec::new() };
    let files: Vec<Arc<FileRef>> = version.state.files().in_time((i64::MIN, last)).collect();
    let memtables: Vec<(i64, i64)> = version.memtables().filter_map(|memtable| memtable.time_range()).collect();
    plan_expiry(&files, &memtables, last, version.options.merge_mode)
}

/// The files that may go of those that have rows up to `last`. Pure.
fn plan_expiry(files: &[Arc<FileRef>], memtables: &[(i64, i64)], last: i64, mode: MergeMode) -> Vec<FileKey> {
    let (mut going, mut staying): (Vec<&Arc<FileRef>>, Vec<&Arc<FileRef>>) = files.iter().partition(|file| file.meta.time_range.1 <= last);
    let overlap = |a: (i64, i64), b: (i64, i64)| a.0 <= b.1 && b.0 <= a.1;
    if mode == MergeMode::LastNonNull {
        // Rows in memory may take values from a file.
        let (kept, rest) = going.into_iter().partition(|file| memtables.iter().any(|range| overlap(*range, file.meta.time_range)));
        going = rest;
        staying.extend::<Vec<_>>(kept);
    }
    let needs = |stays: &FileRef, goes: &FileRef| match mode {
        MergeMode::Append => false,
        MergeMode::LastRow => stays.meta.sequences.0 < goes.meta.sequences.1,
        MergeMode::LastNonNull => true,
    };
    while let Some(stays) = staying.pop() {
        let kept = |goes: &&Arc<FileRef>| overlap(stays.meta.time_range, goes.meta.time_range) && needs(stays, goes);
        let (kept, rest): (Vec<_>, Vec<_>) = going.into_iter().partition(kept);
        going = rest;
        staying.extend(kept);
    }
    going.into_iter().map(|file| file.key).collect()
}

#[cfg(test)]
mod tests;
