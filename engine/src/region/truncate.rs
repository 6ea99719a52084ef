//! Rows go: all of them, those of stretches of time, or what has expired.
//!
//! Invariants:
//! - A truncation takes every row that was acknowledged before it began and none that is written after it ended. The
//!   line between is drawn under a closed gate: what is before it is frozen, with a position and a sequence.
//! - Rows that are gone stay gone: the Truncate passes their log entries by position, and replay passes by sequence
//!   those that a failed append left behind that position.
//! - What goes by time goes for every version of its keys at once, so that no older version comes to light.
//!
//! Crash order: one record is the moment. Before it nothing is gone, at most a rewritten file is there that nobody
//! lists; after it everything is, and log and memtables follow.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::StreamExt;
use tessera_manifest::action::{Action, Edit, Flushed, Truncate};
use tessera_manifest::file::{FileRef, Scope};
use tessera_manifest::id::Sequence;
use tessera_manifest::rule::{CompareOp, Expr};
use tessera_manifest::schema::Schema;
use tessera_manifest::value::Value;

use super::Region;
use super::scan::file_residual;
use super::version::Version;
use crate::error::Error;
use crate::merge::BatchStream;
use crate::merge::layout::Layout;
use crate::merge::value;
use crate::sst::{self, NewFile, ReadOptions};

/// What a truncation by time did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Truncated {
    /// Files that went by metadata alone.
    pub files_removed: usize,
    /// Files that were written anew without some of their rows.
    pub files_rewritten: usize,
}

impl Region {
    /// Removes every row.
    ///
    /// # Errors
    /// The manifest's; if it is not known whether the rows are gone, they are seen until it is. [`Error::Staged`] and
    /// [`Error::Retired`] before anything is done.
    pub async fn truncate(&self) -> Result<(), Error> {
        let mut manifest = self.unstaged_manifest().await?;
        let (position, sequence) = {
            let closed = self.gate.write().await;
            self.check_gate(*closed)?;
            self.rotate(&closed);
            (self.inserted_position(), self.newest_sequence().await)
        };
        let state = manifest.state();
        let wal = self.shared.parts.wal.id();
        let behind = state.wals().iter().find(|named| named.id == wal).is_some_and(|named| named.flushed < position);
        let flushed = if behind { vec![Flushed { wal, position, done: false }] } else { Vec::new() };
        let truncate = Truncate {
            generation: self.meta().generation,
            flushed,
            sequence: sequence.unwrap_or(Sequence::ZERO).max(state.flushed_sequence()),
        };
        let state = self.commit(&mut manifest, vec![Action::Truncate(truncate)]).await?;
        self.version.update(|version| {
            version.state = state;
            version.frozen.retain(|frozen| frozen.position > position);
        });
        self.shared.parts.wal.release(self.id, position);
        metrics::counter!("tessera_truncates_total").increment(1);
        Ok(())
    }

    /// Removes every row whose time is in one of the ranges, both ends inclusive, in the unit of the time index.
    /// Files that lie within go by metadata alone; those that straddle an end are written anew without those rows.
    /// Flushes first; other flushes wait meanwhile.
    ///
    /// # Errors
    /// The store's and the manifest's; then no row is gone, or it is not known whether. [`Error::Staged`] and
    /// [`Error::Retired`] before any is.
    pub async fn truncate_ranges(&self, ranges: &[(i64, i64)]) -> Result<Truncated, Error> {
        self.check_unstaged()?;
        let _no_other_flush = self.flushing.lock().await;
        self.flush_all().await?;
        let _no_compaction = self.pause_compaction().await;
        // Nothing else is committed from here on: what is read stays what is there.
        let mut manifest = self.unstaged_manifest().await?;
        let version = self.pin();
        let ranges = joined(ranges);
        let (mut done, mut edit, mut begun) = (Truncated::default(), Edit::new(version.meta.generation), Vec::new());
        for file in version.state.files().in_time((i64::MIN, i64::MAX)) {
            let (from, to) = file.meta.time_range;
            if !ranges.iter().any(|range| range.0 <= to && from <= range.1) {
                continue;
            }
            edit.remove.push(file.key);
            if ranges.iter().any(|range| range.0 <= from && to <= range.1) {
                done.files_removed += 1;
                continue;
            }
            done.files_rewritten += 1;
            let new = self.new_file(&version, manifest.epoch(), file.meta.level);
            begun.push(new.key);
            match self.rewrite_without(new, &version, &file, &ranges).await {
                Ok(written) => edit.add.extend(written),
                Err(error) => {
                    drop(manifest);
                    self.discard(begun).await;
                    return Err(error);
                }
            }
        }
        if edit.remove.is_empty() {
            return Ok(done);
        }
        let state = self.commit_files(&mut manifest, Action::Edit(edit), &begun).await?;
        self.version.update(|version| version.state = state);
        drop(manifest);
        self.in_flight.end(begun);
        Ok(done)
    }

    /// Writes a file anew without the rows in the ranges; `None` if none is left.
    async fn rewrite_without(
        &self,
        new: NewFile,
        version: &Version,
        file: &FileRef,
        ranges: &[(i64, i64)],
    ) -> Result<Option<Arc<FileRef>>, Error> {
        let rows = |source| Error::rows(self.id, source);
        let schema = Arc::clone(&version.meta.schema);
        let layout = Arc::new(Layout::merging(Arc::clone(&schema), None).map_err(rows)?);
        let filter = Arc::new(outside(&schema, ranges));
        let scan = self.shared.access.scan(file, &ReadOptions { layout: Arc::clone(&layout), filter }).await.map_err(rows)?;
        let keep = Keep { layout, residual: file_residual(version, file), schema: Arc::clone(&schema), ranges: ranges.to_vec() };
        let kept: BatchStream = scan.into_stream().map(move |batch| keep.apply(&batch?)).boxed();
        let key = new.key;
        let written = self.shared.access.write(new, kept).await.map_err(rows)?;
        Ok(written.map(|meta| Arc::new(FileRef { key, scope: Scope::all(), meta })))
    }
}

/// Which rows of a file stay.
struct Keep {
    layout: Arc<Layout>,
    residual: Expr,
    schema: Arc<Schema>,
    ranges: Vec<(i64, i64)>,
}

impl Keep {
    fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch, sst::Error> {
        let shape = |detail: String| sst::Error::BatchShape { detail };
        let keys = self.layout.keys().ok_or_else(|| shape("no key columns".to_owned()))?;
        let times = value::times(batch.column(keys.time)).ok_or_else(|| shape("time index is not a timestamp".to_owned()))?;
        let outside = |t: &i64| !self.ranges.iter().any(|range| range.0 <= *t && *t <= range.1);
        let outside: BooleanArray = times.iter().map(|t| Some(outside(t))).collect();
        let batch = filter_record_batch(batch, &outside).map_err(sst::Error::arrow("leave rows out"))?;
        if self.residual == Expr::always() {
            return Ok(batch);
        }
        let visible = self.residual.filter(&batch, &self.schema).map_err(|error| shape(error.to_string()))?;
        filter_record_batch(&batch, &visible).map_err(sst::Error::arrow("leave rows out"))
    }
}

/// The predicate of the rows outside of the ranges.
fn outside(schema: &Schema, ranges: &[(i64, i64)]) -> Expr {
    let column = schema.time_index().id;
    let at = |op, t| Expr::Compare { column, op, value: Value::Timestamp(t) };
    let beside = |range: &(i64, i64)| Expr::Or(vec![at(CompareOp::Lt, range.0), at(CompareOp::Gt, range.1)]);
    Expr::And(ranges.iter().map(beside).collect())
}

/// The same ranges, ascending, those that touch or overlap as one, without empty ones.
fn joined(ranges: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut sorted: Vec<(i64, i64)> = ranges.iter().copied().filter(|(from, to)| from <= to).collect();
    sorted.sort_unstable();
    let mut joined: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.0 <= last.1.saturating_add(1) => last.1 = last.1.max(range.1),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_touch_are_one() {
        assert_eq!(joined(&[(5, 9), (0, 4), (20, 10), (30, 30), (7, 12)]), [(0, 12), (30, 30)]);
        assert_eq!(joined(&[(i64::MIN, i64::MAX), (3, 4)]), [(i64::MIN, i64::MAX)]);
    }
}
