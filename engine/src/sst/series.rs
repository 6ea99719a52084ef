//! Which rows of a row group are of which series.
//!
//! Tags are read once, by runs of their dictionaries' numbers, or row by row where pages have none; what stays is a row per
//! series. A scan that knows the series of a row group reads no tag column of it any more.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::{concat, take};
use arrow::error::ArrowError;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::Error;
use super::decode::{ColumnRuns, Fetched, RowGroup};
use super::evolve::conform_column;
use super::read::FileRead;
use crate::merge::key::KeyEncoder;
use crate::merge::series::{SeriesTable, Stretch, Stretches, plain, starts};

/// Rows of which tags are decoded at a time.
const TAG_ROWS: usize = 64 * 1024;

impl FileRead {
    /// The series of a row group, if they are known already.
    pub(super) fn known_series(&self, group: usize) -> Option<Arc<Stretches>> {
        self.access.caches.series.get(&((self.key, group as u32), self.layout.schema().version()))
    }

    /// Counts rows of a row group whose tags are tested without knowing its series; whether it is with these that they are
    /// `enough`, after which counting begins anew.
    pub(super) fn adds_up(&self, group: usize, rows: u64, enough: u64) -> bool {
        let tested = self.access.caches.tested.get_with((self.key, group as u32), Arc::default);
        let before = tested.fetch_add(rows, Ordering::Relaxed);
        let is_enough = before < enough && before + rows >= enough;
        if is_enough {
            tested.store(0, Ordering::Relaxed);
        }
        is_enough
    }

    /// Bytes of the tags of a row group, as they are stored.
    pub(super) fn tag_bytes(&self, group: usize) -> u64 {
        let metadata = self.footer.reader.metadata().row_group(group);
        let leaves = self.tag_columns().into_iter().filter_map(|column| self.footer.leaf(column.id));
        leaves.map(|leaf| metadata.column(leaf).byte_range().1).sum()
    }

    /// Reads the series of a row group and remembers them.
    pub(super) async fn read_series(&self, group: usize, encoder: &KeyEncoder) -> Result<Arc<Stretches>, Error> {
        let (rows, tags) = (self.footer.rows_of(group), self.tag_columns());
        let stored: Vec<(usize, usize)> =
            tags.iter().enumerate().filter_map(|(tag, column)| Some((tag, self.footer.leaf(column.id)?))).collect();
        let found = match self.tags_by_runs(group, &stored).await? {
            Some(found) => found,
            None => self.tags_by_rows(group, &stored).await?,
        };
        let Found { firsts, columns } = found;
        let mut by_tag: Vec<Option<&ArrayRef>> = vec![None; tags.len()];
        stored.iter().zip(&columns).for_each(|((tag, _), column)| by_tag[*tag] = Some(column));
        let columns = by_tag.iter().zip(&tags).map(|(found, column)| conform_column(column, *found, firsts.len()));
        let table = SeriesTable::new(encoder, columns.collect::<Result<_, _>>()?)?;
        let ends = firsts.iter().skip(1).copied().chain([rows as u32]);
        let list = Stretches::join(&table, (0..).zip(ends).map(|(series, end)| Stretch { series, end }));
        let series = Arc::new(Stretches { table: Arc::new(table), list });
        self.access.caches.series.insert(((self.key, group as u32), self.layout.schema().version()), Arc::clone(&series));
        Ok(series)
    }

    /// The tags (tag, leaf) of the series of a row group, from runs of their columns; `None` if some have no dictionary.
    async fn tags_by_runs(&self, index: usize, stored: &[(usize, usize)]) -> Result<Option<Found>, Error> {
        let (metadata, damaged) = (&self.footer.reader, |source| Error::decode(&self.path, source));
        let group = RowGroup { metadata: metadata.metadata(), schema: metadata.schema(), index };
        if stored.is_empty() || !stored.iter().all(|(_, leaf)| group.has_dictionary(*leaf)) {
            return Ok(None);
        }
        let mut ranges: Vec<Range<u64>> = stored.iter().flat_map(|(_, leaf)| group.ranges(*leaf, None)).collect();
        ranges.sort_unstable_by_key(|range| range.start);
        let fetched = Arc::new(Fetched::new(&ranges, self.reader().read(&ranges).await.map_err(damaged)?));
        let mut columns = Vec::with_capacity(stored.len());
        for (_, leaf) in stored {
            let Some(column) = group.runs(*leaf, &fetched).map_err(damaged)? else { return Ok(None) };
            columns.push(column);
        }
        let mut begins = vec![false; self.footer.rows_of(index) + 1];
        begins[0] = true;
        columns.iter().flat_map(|column| &column.list).for_each(|run| begins[run.end as usize] = true);
        let firsts: Vec<u32> = (0..).zip(&begins[..begins.len() - 1]).filter_map(|(row, begins)| begins.then_some(row)).collect();
        let columns = columns.iter().map(|column| column.at(&firsts));
        let columns = columns.collect::<Result<_, _>>().map_err(Error::arrow("pick tags"))?;
        Ok(Some(Found { firsts, columns }))
    }

    /// The same from each row.
    async fn tags_by_rows(&self, group: usize, stored: &[(usize, usize)]) -> Result<Found, Error> {
        let rows = self.footer.rows_of(group);
        if stored.is_empty() {
            return Ok(Found { firsts: if rows == 0 { Vec::new() } else { vec![0] }, columns: Vec::new() });
        }
        let (mut firsts, mut at): (Vec<u32>, u32) = (Vec::new(), 0);
        let mut picked: Vec<Vec<ArrayRef>> = vec![Vec::new(); stored.len()];
        let mask = ProjectionMask::leaves(self.footer.reader.parquet_schema(), stored.iter().map(|(_, leaf)| *leaf));
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(), self.footer.tags.clone());
        let builder = builder.with_batch_size(TAG_ROWS).with_projection(mask).with_row_groups(vec![group]);
        let mut batches = builder.build().map_err(|source| Error::decode(&self.path, source))?;
        // Columns of a batch are in order of leaf.
        let mut by_leaf: Vec<usize> = (0..stored.len()).collect();
        by_leaf.sort_by_key(|tag| stored[*tag].1);
        while let Some(batch) = batches.try_next().await.map_err(|source| Error::decode(&self.path, source))? {
            let starts = starts(batch.columns(), batch.num_rows())?;
            let places = UInt32Array::from(starts.clone());
            for (tag, column) in by_leaf.iter().zip(batch.columns()) {
                picked[*tag].push(take(column, &places, None).and_then(|few| plain(&few)).map_err(Error::arrow("pick tags"))?);
            }
            firsts.extend(starts.iter().map(|start| at + start));
            at += batch.num_rows() as u32;
        }
        if at as usize != rows {
            return Err(Error::Mismatch { path: self.path.clone(), detail: format!("{at} rows in a row group, expected {rows}") });
        }
        let joined = picked.iter().map(|parts| concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()));
        Ok(Found { firsts, columns: joined.collect::<Result<_, _>>().map_err(Error::arrow("join tags"))? })
    }
}

/// Where the tags of a row group change.
struct Found {
    /// The first rows of the stretches.
    firsts: Vec<u32>,
    /// Of the columns that the file has, a row for each stretch.
    columns: Vec<ArrayRef>,
}

impl ColumnRuns {
    /// The values of these rows, which ascend.
    fn at(&self, rows: &[u32]) -> Result<ArrayRef, ArrowError> {
        let mut runs = self.list.iter().peekable();
        let number = |row: &u32| {
            while runs.next_if(|run| run.end <= *row).is_some() {}
            runs.peek().and_then(|run| run.value)
        };
        take(&self.values, &rows.iter().map(number).collect::<UInt32Array>(), None)
    }
}

#[cfg(test)]
#[path = "series_tests.rs"]
mod tests;
