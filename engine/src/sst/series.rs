//! Which rows of a row group are of which series.
//!
//! Tags are read once, as dictionaries, and compared by their numbers; what stays is a row per series. A scan that
//! knows the series of a row group reads no tag column of it any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arrow::array::ArrayRef;
use arrow::compute::concat;
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::Error;
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

    /// Reads the series of a row group and remembers them.
    pub(super) async fn read_series(&self, group: usize, encoder: &KeyEncoder) -> Result<Arc<Stretches>, Error> {
        let rows = self.footer.rows_of(group);
        let tags = self.tag_columns();
        let stored: Vec<(usize, usize)> =
            tags.iter().enumerate().filter_map(|(tag, column)| Some((tag, self.footer.leaf(column.id)?))).collect();
        let (mut firsts, mut at): (Vec<u32>, u32) = (Vec::new(), 0);
        let mut picked: Vec<Vec<ArrayRef>> = vec![Vec::new(); tags.len()];
        let mask = ProjectionMask::leaves(self.footer.reader.parquet_schema(), stored.iter().map(|(_, leaf)| *leaf));
        let builder = ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(), self.footer.tags.clone());
        let builder = builder.with_batch_size(TAG_ROWS).with_projection(mask).with_row_groups(vec![group]);
        let mut batches = builder.build().map_err(|source| Error::decode(&self.path, source))?;
        // Columns of a batch are in order of leaf.
        let mut by_leaf = stored.clone();
        by_leaf.sort_by_key(|(_, leaf)| *leaf);
        while let Some(batch) = batches.try_next().await.map_err(|source| Error::decode(&self.path, source))? {
            let starts = starts(batch.columns(), batch.num_rows())?;
            let places = arrow::array::UInt32Array::from(starts.clone());
            for ((tag, _), column) in by_leaf.iter().zip(batch.columns()) {
                let few = arrow::compute::take(column, &places, None).and_then(|few| plain(&few)).map_err(Error::arrow("pick tags"))?;
                picked[*tag].push(conform_column(tags[*tag], Some(&few), few.len())?);
            }
            firsts.extend(starts.iter().map(|start| at + start));
            at += batch.num_rows() as u32;
        }
        if stored.is_empty() && rows > 0 {
            (firsts, at) = (vec![0], rows as u32);
        }
        if at as usize != rows {
            return Err(Error::Mismatch { path: self.path.clone(), detail: format!("{at} rows in a row group, expected {rows}") });
        }
        let columns = picked.iter().zip(&tags).map(|(parts, column)| match &parts[..] {
            [] => conform_column(column, None, firsts.len()),
            [one] => Ok(Arc::clone(one)),
            many => concat(&many.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(Error::arrow("join tags")),
        });
        let table = SeriesTable::new(encoder, columns.collect::<Result<_, _>>()?)?;
        let ends = firsts.iter().skip(1).copied().chain([rows as u32]);
        let list = Stretches::join(&table, (0..).zip(ends).map(|(series, end)| Stretch { series, end }));
        let series = Arc::new(Stretches { table: Arc::new(table), list });
        self.access.caches.series.insert(((self.key, group as u32), self.layout.schema().version()), Arc::clone(&series));
        Ok(series)
    }
}
