//! Which rows of a row group are worth decoding, found by decoding a few columns first.
//!
//! Invariants:
//! - Rows that are left out lie outside of the bounds of the time, or fail a condition on fields at a time at which rows
//!   meet no others of their keys, or are of a series of which another file has a later row.
//! - It is only tried where many rows are selected, and no more in a read of a file once it chose too many of a row
//!   group: columns are decoded twice then, and an object store is asked once more.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::BooleanBuffer;
use futures::TryStreamExt;
use tessera_manifest::id::ColumnId;

use super::Error;
use super::evolve::conform_column;
use super::groups::{Meaning, Places, Reading, count, push_range};
use super::pages::Group;
use crate::merge::block::times_of;
use crate::merge::series::Stretches;

/// Rows selected of a row group from which on it may pay to choose among them: two pages, and few in tests, so that the
/// models meet it.
pub(super) const ROWS_MIN: usize = if cfg!(test) { 2 } else { 16 * 1024 };
/// It pays when at most one in so many rows is chosen.
const SHARE: usize = 2;

impl Reading {
    /// Of the selected rows of a row group those that can be wanted by their times and fields, or all where it does not pay.
    pub(super) async fn narrow(
        &self,
        group: &Group,
        selected: Vec<Range<u32>>,
        wanted: &BTreeMap<usize, Meaning>,
    ) -> Result<Vec<Range<u32>>, Error> {
        let (file, rows) = (&self.file, count(&selected));
        if rows < ROWS_MIN || !self.narrows.load(Ordering::Relaxed) {
            return Ok(selected);
        }
        let timed = file.time.is_some() || (file.fields.is_some() && !file.contested.is_empty());
        let time = timed.then(|| file.layout.schema().time_index().id);
        let tested = self.leaves(time.into_iter().chain(file.fields.iter().flat_map(|fields| fields.columns())))?;
        if tested.is_empty() || wanted.keys().all(|leaf| tested.contains_key(leaf)) {
            return Ok(selected);
        }
        let _counted = self.reserve_encoded(group, &tested, &selected)?;
        let mut batches = self.decode(group, &tested, &selected)?;
        let (mut places, mut chosen) = (Places::new(selected.clone()), Vec::new());
        while let Some(batch) = batches.try_next().await? {
            let Some(mask) = self.mask(&tested, &batch)? else { return Ok(selected) };
            add_chosen(&mask, &places.take(batch.num_rows() as u32), &mut chosen);
        }
        let pays = count(&chosen) * SHARE <= rows;
        self.narrows.store(pays, Ordering::Relaxed);
        Ok(if pays { chosen } else { selected })
    }

    /// Which rows of a batch can be wanted; `None` if that cannot be said.
    fn mask(&self, tested: &BTreeMap<usize, Meaning>, batch: &RecordBatch) -> Result<Option<BooleanBuffer>, Error> {
        let mut mask = BooleanBuffer::new_set(batch.num_rows());
        let within = |ranges: &[(i64, i64)]| -> Result<BooleanBuffer, Error> {
            let times = times_of(&self.time_column(tested, batch)?)?;
            let inside = |row: usize| ranges.iter().any(|(from, to)| *from <= times[row] && times[row] <= *to);
            Ok(BooleanBuffer::collect_bool(times.len(), inside))
        };
        if let Some(fields) = &self.file.fields {
            // What compares a column with a value of another type prunes nothing either.
            let Ok(of_fields) = self.evaluate(fields, tested, batch) else { return Ok(None) };
            mask = of_fields.values().clone();
            if !self.file.contested.is_empty() {
                mask = &mask | &within(&self.file.contested)?;
            }
        }
        if let Some(time) = self.file.time {
            mask = &mask & &within(&[time])?;
        }
        Ok(Some(mask))
    }

    /// Of selected rows, each the last of its series here, those of series of which no other file has a later one.
    pub(super) async fn newest(&self, group: &Group, series: &Stretches, selected: Vec<Range<u32>>) -> Result<Vec<Range<u32>>, Error> {
        let Some(newest) = self.file.newest.as_ref().filter(|_| self.file.last_rows) else { return Ok(selected) };
        let tested = self.leaves([self.file.layout.schema().time_index().id])?;
        let _counted = self.reserve_encoded(group, &tested, &selected)?;
        let mut batches = self.decode(group, &tested, &selected)?;
        let (mut places, mut chosen, mut at) = (Places::new(selected), Vec::new(), 0);
        while let Some(batch) = batches.try_next().await? {
            let times = times_of(&self.time_column(&tested, &batch)?)?;
            let rows = places.take(batch.num_rows() as u32).into_iter().flat_map(|(from, rows)| from..from + rows);
            for (row, time) in rows.zip(times.iter()) {
                while series.list[at].end <= row {
                    at += 1;
                }
                if newest.time(series.table.key(series.list[at].series)).is_none_or(|newest| newest <= *time) {
                    push_range(&mut chosen, row..row + 1);
                }
            }
        }
        Ok(chosen)
    }

    fn time_column(&self, tested: &BTreeMap<usize, Meaning>, batch: &RecordBatch) -> Result<ArrayRef, Error> {
        let column = self.file.layout.schema().time_index();
        let array = tested.values().zip(batch.columns()).find(|(meaning, _)| **meaning == Meaning::User(column.id));
        conform_column(column, array.map(|(_, array)| array), batch.num_rows())
    }

    /// The columns that the file has of these, by leaf.
    pub(super) fn leaves(&self, columns: impl IntoIterator<Item = ColumnId>) -> Result<BTreeMap<usize, Meaning>, Error> {
        let mut leaves = BTreeMap::new();
        for meaning in columns.into_iter().map(Meaning::User) {
            if let Some(leaf) = self.file.leaf(meaning)? {
                leaves.insert(leaf, meaning);
            }
        }
        Ok(leaves)
    }
}

/// Adds the rows of a mask, which lie at `places` (first row, rows) of a row group.
pub(super) fn add_chosen(mask: &BooleanBuffer, places: &[(u32, u32)], chosen: &mut Vec<Range<u32>>) {
    let mut at = 0;
    for &(from, rows) in places {
        for (start, end) in mask.slice(at, rows as usize).set_slices() {
            push_range(chosen, from + start as u32..from + end as u32);
        }
        at += rows as usize;
    }
}
